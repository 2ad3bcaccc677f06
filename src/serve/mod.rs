//! Listeners: where agents, principals and scrapers connect.

pub mod accept;
pub mod caps;
pub mod connection;
pub mod control;
pub mod listen;
pub mod socket;
pub mod watch;
