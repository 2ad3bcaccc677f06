//! Approvals, from outside: agents that retry, leave, swap and race; people who agree, disagree and come late; a gate that
//! is killed, replaced and reloaded meanwhile. Everything goes over HTTP, as agents and approvers go.
//!
//! What these tests ask is always the same: did the backend see exactly what a person agreed to, and once?

pub mod scene;
pub mod talk;

mod binding;
mod change;
mod crowd;
mod escape;
mod functions;
mod grants;
mod kills;
mod once;
mod outcome;
mod patience;
mod several;
mod traced;
mod void;
