//! The laws: what holds for every input, checked by properties.

mod ledger;
mod store;
