//! The laws: what holds for every input, checked by properties.
#![allow(clippy::unwrap_used, reason = "every function here serves a test")]

mod builder;

#[path = "../readers/hostile.rs"]
mod hostile;
#[path = "../readers/mod.rs"]
mod models;
#[path = "../readers/ordinary.rs"]
mod ordinary;

mod approval;
mod conditions;
mod decide;
mod ledger;
mod limit;
mod readers;
mod resource;
mod resources;
mod route;
mod store;
mod target;
mod token;
mod trace;
