//! The laws: what holds for every input, checked by properties.

mod builder;

mod decide;
mod ledger;
mod limit;
mod resource;
mod route;
mod store;
mod target;
mod token;
