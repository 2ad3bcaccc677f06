//! The ledger: the append-only, hash-chained record of intent and outcome.
//!
//! A call's decision is recorded before a byte leaves, its outcome after the last byte. What can't be recorded is not
//! forwarded. Records are canonical JSON (RFC 8785), one a line, each with the SHA-256 of the line before it.

pub mod record;

/// How far a record must have got before its writer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// In the kernel's hands: survives the gate being killed.
    Written,
    /// `fdatasync` has returned: survives power loss, as far as the disk honours a flush.
    Sync,
}

/// The ledger can't take a record: full queue, or a write that failed. Nothing may be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger can't take a record now")]
pub struct Unavailable;
