//! Toolgate: the gate between AI agents and the tools they use.
//!
//! The law: a module imports only from those to its left.
//! `policy < config < ledger < store < io < gate < serve < app < cli < main`

pub mod app;
pub mod cli;
pub mod config;
pub mod gate;
pub mod io;
pub mod ledger;
pub mod policy;
pub mod serve;
pub mod store;
