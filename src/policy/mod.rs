//! The policy decision point. Pure: no async, no I/O, no clock, no randomness.
//!
//! It answers one question, in [`decide`]: may this session do this now? Everything it reads is an argument. It refuses
//! to know how a request arrived, where its answer goes, or what time it is.

pub mod decision;
pub mod id;
pub mod limit;
pub mod model;
pub mod name;
pub mod resource;
pub mod route;
pub mod subject;
pub mod target;
pub mod time;
pub mod token;

use decision::Decision;
use model::{Policy, Route};
use resource::Resource;
use subject::Subject;
use time::Now;

/// What a call asks for, after matching.
#[derive(Debug)]
pub struct AccessRequest<'p> {
    /// The matched route.
    pub route: &'p Route,
    /// What it acts on, where the route says.
    pub resource: Option<Resource>,
}

/// May this session do this now? Default deny: scope in the ceiling, resource in the ceiling (and in that of every
/// parent), and a grant.
pub fn decide<'p>(
    _policy: &'p Policy,
    _subject: Subject<'_>,
    _access: AccessRequest<'p>,
    _now: Now,
) -> Decision<'p> {
    todo!()
}
