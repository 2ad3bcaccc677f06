//! The ledger, from outside: a gate that is killed again and again, a disk that fails, hangs or is full.
//!
//! What these tests ask is always the same: is everything on record that a backend saw or a caller was told, and does the
//! record verify?

mod auditor;
mod callers;
mod scene;

mod disk;
mod full;
mod kills;
mod steps;
