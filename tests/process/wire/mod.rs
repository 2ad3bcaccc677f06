//! Every protocol on both sides of the gate: the same call is made directly to a backend and through the real binary, and
//! both ends must tell the same story.
//!
//! The reference backend and the reference client stand in the test's own process, know nothing of the gate, and are
//! first held against each other.

mod call;
mod clients;
mod content;
mod direct;
mod door;
mod ended;
mod exchange;
mod grpc;
mod matrix;
pub mod pki;
mod reference;
mod refusals;
mod rotation;
mod scene;
mod side;
