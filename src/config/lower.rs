//! From the files as written to what the gate runs on: names resolved, defaults filled in, references checked.
//!
//! Lowering goes on after an error, so that one run reports all; what it returns counts only if nothing was reported.

mod agents;
mod approvals;
mod conditions;
mod faults;
mod ledger;
mod limits;
mod notify;
mod oauth;
mod principals;
mod project;
mod proofs;
mod resources;
mod routes;
mod server;
mod shadow;
mod telemetry;
mod tests;
mod tools;
mod upstream;

pub(super) use oauth::refuse_different;
pub(super) use project::{Draft, Places, project};
pub(super) use proofs::report_unmet;
pub(super) use server::{Known, server};
pub(super) use tests::Promise;

use super::read::At;

/// The value of an optional key, or its default.
fn or<T: Copy, U>(key: Option<&At<T>>, read: impl Fn(T) -> U, default: U) -> U {
    key.map_or(default, |at| read(at.value))
}
