//! The process ring: the real binary against real sockets, real clients, real disks and real signals.
//!
//! Every test starts its own gate on ports the system chooses, with its own folder, and ends it by its process id. Waits
//! are bounded, and end when what is waited for has happened; nothing sleeps for a guessed time.
#![allow(clippy::unwrap_used, reason = "every function here serves a test")]

mod backend;
mod canary;
mod certificates;
mod client;
mod gate;
mod ledger;
mod program;
mod visit;
mod wait;

mod agents;
mod anchors;
mod approvals;
mod clients;
mod conditions;
mod conformance;
mod console;
mod crash;
mod evidence;
mod export;
mod heads;
mod hostile;
mod instructions;
mod isolation;
mod life;
mod load;
mod mcp;
mod metadata;
mod operations;
mod reload;
mod replay;
mod shadow;
mod streams;
mod tamper;
mod targets;
mod telemetry;
mod tls;
mod webhooks;
mod websocket;
mod wire;
