//! The laws: what holds for every input, checked by properties.

mod builder;

mod decide;
mod limit;
mod resource;
mod route;
mod target;
mod token;
