//! Listeners: where agents, principals and scrapers connect.

pub mod accept;
pub mod admin;
pub mod caps;
pub mod connection;
mod console;
pub mod control;
pub mod heads;
pub mod listen;
pub mod ops;
pub mod pretty;
pub mod reload;
pub mod rooms;
pub mod socket;
pub mod visible;
pub mod watch;
