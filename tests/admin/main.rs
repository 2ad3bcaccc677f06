//! The admin API on a real gate: every endpoint, every refusal.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod access;
mod approvals;
mod checkpoint;
mod console;
mod events;
mod explain;
mod functions;
mod grants;
mod ledger;
mod ops;
mod pages;
mod policy;
mod records;
mod scene;
mod sessions;
