//! The policy enforcement point.

pub mod body;
pub mod fields;
pub mod forward;
