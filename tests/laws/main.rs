//! The laws: what holds for every input, checked by properties.
#![allow(clippy::unwrap_used, reason = "every function here serves a test")]

mod builder;

mod approval;
mod conditions;
mod decide;
mod ledger;
mod limit;
mod resource;
mod resources;
mod route;
mod store;
mod target;
mod token;
mod trace;
