//! The policy decision point. Pure: no async, no I/O, no clock, no randomness.
//!
//! It answers one question, in [`decide`]: may this session do this now? Everything it reads is an argument. It refuses
//! to know how a request arrived, where its answer goes, or what time it is.

pub mod attributes;
pub mod ceiling;
pub mod certificate;
pub mod decision;
mod held;
pub mod id;
pub mod limit;
pub mod model;
pub mod name;
pub mod proofs;
pub mod resource;
pub mod route;
pub mod subject;
pub mod target;
pub mod template;
pub mod time;
pub mod token;

pub use ceiling::{Effective, ceiling};

use decision::{Decision, Denial, GrantUse, Permit, Reason};
use id::GrantId;
use model::{GrantMode, Policy, Route};
use resource::Resource;
use subject::{Grant, Subject};
use time::Now;

/// What a call asks for, after matching.
#[derive(Debug)]
pub struct AccessRequest<'p> {
    /// The matched route.
    pub route: &'p Route,
    /// What it acts on, where the route says.
    pub resource: Option<Resource>,
}

/// May this session do this now? Default deny: the scope lies in the ceiling, the resource in the ceiling (of the session
/// and of every parent), and there is a grant. There is no deny rule, and so none that could fail to be evaluated.
pub fn decide<'p>(
    policy: &'p Policy,
    subject: Subject<'_>,
    access: AccessRequest<'p>,
    now: Now,
) -> Decision<'p> {
    let AccessRequest { route, resource } = access;
    let deny = |reason, resource| {
        Decision::Deny(Denial {
            reason,
            scope: Some(route.scope.clone()),
            resource,
        })
    };
    // A session of another project has no ceiling here, whatever its agent is called.
    if subject.session.project != policy.project {
        return deny(Reason::ScopeOutsideCeiling, resource);
    }
    let Some(ceiling) = ceiling::ceiling_of_route(policy, subject.session, route) else {
        return deny(Reason::ScopeOutsideCeiling, resource);
    };
    // A template that could not be filled leaves no resource to judge, and a bound on nothing would hold for everything.
    if route.resource.is_some() != resource.is_some() || !ceiling.allows(resource.as_ref()) {
        return deny(Reason::ResourceOutsideCeiling, resource);
    }
    let grant = match ceiling.grant() {
        GrantMode::OnUse => GrantUse::OnUse,
        GrantMode::OnRequest => match stored(subject.grants, route, resource.as_ref(), now) {
            Some(grant) => GrantUse::Stored(grant),
            None => return deny(Reason::GrantMissing, resource),
        },
    };
    Decision::Allow(Permit {
        route,
        resource,
        grant,
    })
}

/// The live grant that a call goes on: one for just its resource before one for the whole ceiling, so that the wider is
/// not spent where the narrower does.
fn stored(
    grants: &[Grant],
    route: &Route,
    resource: Option<&Resource>,
    now: Now,
) -> Option<GrantId> {
    let live = |grant: &&Grant| grant.scope == route.scope && grant.live_at(now.tick);
    let exact = |grant: &&Grant| grant.resource.is_some() && grant.resource.as_ref() == resource;
    let whole = |grant: &&Grant| grant.resource.is_none();
    let found = grants.iter().filter(live).find(exact);
    found
        .or_else(|| grants.iter().filter(live).find(whole))
        .map(|grant| grant.id)
}
