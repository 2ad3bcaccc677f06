//! TLS, on either side of the gate.

pub mod client;
