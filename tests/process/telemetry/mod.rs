//! OpenTelemetry, from outside: traces that go through the gate, and what a collector is told of it, by a receiver built on
//! the official messages and by a real collector.

pub mod collector;

mod patience;
mod scene;
mod secrets;
mod trace;
