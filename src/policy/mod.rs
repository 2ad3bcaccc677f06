//! The policy decision point. Pure: no async, no I/O, no clock, no randomness.
//!
//! It answers one question, in [`decide`]: may this session do this now? Everything it reads is an argument. It refuses
//! to know how a request arrived, where its answer goes, or what time it is.

pub mod approval;
pub mod attributes;
pub mod call;
pub mod ceiling;
pub mod certificate;
pub mod choice;
pub mod condition;
pub mod content;
pub mod decimal;
pub mod decision;
mod endorse;
pub mod fields;
pub mod function;
mod held;
pub mod id;
pub mod json;
pub mod limit;
pub mod mcp;
pub mod model;
pub mod name;
pub mod pin;
pub mod proofs;
pub mod resource;
pub mod route;
pub mod shadow;
pub mod sql;
pub mod subject;
pub mod target;
pub mod template;
pub mod time;
pub mod token;
pub mod trace;

pub use ceiling::{Effective, ceiling};
pub use endorse::endorse;
pub use shadow::{all_shadowed, shadowed};

use approval::{Approvers, Asked, Facts, HeldCall, Vote};
use decision::{Decision, Denial, GrantUse, Hold, Permit, Reason, Void};
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
        GrantMode::OnRequest | GrantMode::OnApproval(_) => {
            match stored(subject.grants, route, resource.as_ref(), now) {
                Some(grant) => GrantUse::Stored(grant),
                None => return deny(Reason::GrantMissing, resource),
            }
        }
    };
    if let Some(chain) = route.approval {
        return Decision::Hold(Hold {
            session: subject.session.id,
            route,
            tool: policy.tool(route.tool),
            resource,
            grant,
            chain: policy.chain(chain),
        });
    }
    Decision::Allow(Permit {
        route,
        resource,
        grant,
        approval: None,
    })
}

/// Makes a permit of a held call and of the word of people on it. What they were shown must be what would run: under the
/// policy that is in force now, route, scope, resource, backend and chain are those of the approval, and enough of those
/// who agreed may still decide: as many as they were told it takes, and as it takes now. That session and ceiling allow
/// the call is what `hold` is evidence of.
///
/// # Errors
/// [`Void`]: the approval is worth nothing any more.
pub fn redeem<'p>(
    hold: Hold<'p>,
    facts: &Facts,
    votes: &[Vote],
    approvers: &Approvers,
) -> Result<Permit<'p>, Void> {
    let call = unchanged(&hold, facts)?;
    if !approvers.agree(votes, facts, hold.chain) {
        return Err(Void::Quorum);
    }
    Ok(Permit {
        route: hold.route,
        resource: hold.resource,
        // The one whose use was reserved for it.
        grant: call.grant,
        approval: Some(facts.id),
    })
}

/// Whether what people are asked is what would run: the first half of [`redeem`], which can be told before they answer.
///
/// # Errors
/// [`Void`]: the approval is worth nothing any more.
pub fn unchanged<'f>(hold: &Hold<'_>, facts: &'f Facts) -> Result<&'f HeldCall, Void> {
    let Asked::Call(call) = &facts.asked else {
        return Err(Void::Changed("request"));
    };
    let same = [
        ("session", hold.session == facts.session),
        ("route", hold.route.id == call.route),
        ("tool", hold.tool.name == call.tool),
        ("scope", hold.route.scope == facts.scope),
        ("resource", hold.resource == facts.resource),
        ("backend", hold.tool.backend() == call.upstream),
        ("chain", hold.chain.name == facts.chain),
        // A scope that has come to need a stored grant meanwhile: none was reserved for this call.
        (
            "grant",
            call.grant != GrantUse::OnUse || hold.grant == GrantUse::OnUse,
        ),
    ];
    match same.iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(Void::Changed(what)),
        None => Ok(call),
    }
}

/// The live grant that a call goes on: one for just its resource before one for the whole ceiling, so that the wider is
/// not spent where the narrower does.
fn stored(
    grants: &[Grant],
    route: &Route,
    resource: Option<&Resource>,
    now: Now,
) -> Option<GrantId> {
    let exact = |grant: &&Grant| grant.resource.is_some() && grant.resource.as_ref() == resource;
    let whole = |grant: &&Grant| grant.resource.is_none();
    let of_scope = || grants.iter().filter(|grant| grant.scope == route.scope);
    let free = || of_scope().filter(|grant| grant.free_at(now.tick));
    let live = || of_scope().filter(|grant| grant.live_at(now.tick));
    let found = free().find(exact).or_else(|| free().find(whole));
    // What is reserved is for the calls that wait for a person: whose reservation it is turns out when one is held.
    let found = found.or_else(|| {
        route.approval?;
        live().find(exact).or_else(|| live().find(whole))
    });
    found.map(|grant| grant.id)
}
