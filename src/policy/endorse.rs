//! Grants that a person decides: whether what people agreed to may be given now.
//!
//! As [`super::redeem`] is for calls. It refuses to give: it says only that the present policy would let the gate.

use super::approval::{Approvers, Asked, AskedGrant, Chain, Facts, Vote};
use super::ceiling::ceiling;
use super::decision::Void;
use super::model::{GrantMode, Policy};
use super::subject::Session;

/// What people agreed a session should have, if under the policy in force now it lies within the session's ceiling, the
/// same chain decides it, and enough of those who agreed may still decide. That the session lives is not looked at.
///
/// # Errors
/// [`Void`]: the approval is worth nothing any more.
pub fn endorse<'f>(
    policy: &Policy,
    session: &Session,
    facts: &'f Facts,
    votes: &[Vote],
    approvers: &Approvers,
) -> Result<&'f AskedGrant, Void> {
    let Asked::Grant(asked) = &facts.asked else {
        return Err(Void::Changed("request"));
    };
    let chain = decides(policy, session, facts, asked)?;
    if !approvers.agree(votes, facts, chain) {
        return Err(Void::Quorum);
    }
    Ok(asked)
}

/// The chain that decides such a wish now.
fn decides<'p>(
    policy: &'p Policy,
    session: &Session,
    facts: &Facts,
    asked: &AskedGrant,
) -> Result<&'p Chain, Void> {
    let here = session.id == facts.session
        && session.project == facts.project
        && policy.project == facts.project;
    if !here {
        return Err(Void::Changed("session"));
    }
    let Some(ceiling) = ceiling(policy, session, facts.scope.as_str()) else {
        return Err(Void::Changed("scope"));
    };
    let chain = match ceiling.grant() {
        GrantMode::OnApproval(chain) => policy.chain(chain),
        // Whoever wants it now need not wait for people: what these agreed to is not how it comes about.
        GrantMode::OnUse | GrantMode::OnRequest => return Err(Void::Changed("chain")),
    };
    let within = [
        ("chain", chain.name == facts.chain),
        // Without one it covers the whole ceiling, whatever that is now.
        (
            "resource",
            facts.resource.is_none() || ceiling.allows(facts.resource.as_ref()),
        ),
        ("number of uses", asked.uses <= ceiling.uses()),
        ("life", asked.ttl <= ceiling.ttl()),
    ];
    match within.iter().find(|(_, within)| !within) {
        Some((what, _)) => Err(Void::Changed(what)),
        None => Ok(chain),
    }
}
