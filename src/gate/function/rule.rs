//! What is done to one question: the session's limits before it is written out, the route that judges it, limits, intent,
//! resource, and the pure decision.
//!
//! The same as is done to any call, in the same order. It refuses to give a word: that is its caller's, once all of this is
//! on record.

use super::{Asking, HeldQuestion};
use crate::gate::permit::Ruling;
use crate::gate::record::{Caller, Entry};
use crate::gate::refusal::Refusal;
use crate::gate::{Inner, intent, judge, shadow};
use crate::ledger::record::BodyDigest;
use crate::ledger::without_tokens;
use crate::policy::AccessRequest;
use crate::policy::approval::{Asked as AskedOf, RequestDigest, Stage};
use crate::policy::choice::sql_told;
use crate::policy::decision::{Hold, Permit};
use crate::policy::function::{self, Asked, Question};
use crate::policy::id::ApprovalId;
use crate::policy::limit::Only;
use crate::policy::model::{Policy, Route};
use crate::policy::resource::Resource;
use crate::policy::route::Matched;
use crate::store::live::approvals::LiveApproval;
use std::sync::Arc;

/// A question that the session's limits have room for, written out.
pub(super) struct Counted {
    pub text: String,
    pub digest: BodyDigest,
    /// What it is held by.
    pub held: RequestDigest,
    /// What people were asked about it.
    pub standing: Option<Arc<LiveApproval>>,
    /// What denies it, unless its route is in shadow.
    pub noted: Option<shadow::Noted>,
}

/// Who asks again although a person said no is counted as for any other call.
pub(super) fn is_again(approval: &LiveApproval) -> bool {
    approval.stage() != Stage::Denied
}

/// One question on its way to a decision.
pub(super) struct Wants<'a> {
    pub caller: &'a Arc<Caller>,
    pub asked: Asked<'a>,
    /// What stands for its name, and for all that it says.
    pub place: (&'a str, BodyDigest),
    /// What people were asked about it.
    pub standing: Option<&'a Arc<LiveApproval>>,
    /// The same, unless a person said no.
    pub again: Option<&'a Arc<LiveApproval>>,
    pub matched: Matched<'a>,
}

impl Wants<'_> {
    /// Whether people were asked about it by this name.
    fn stands_under(&self, approval: &str) -> bool {
        let own = self.standing.as_ref();
        own.is_some_and(|own| own.facts.id.to_string() == approval)
    }
}

/// What is to be done with a question that is not refused.
pub(super) enum Ruled<'a> {
    Allow(Permit<'a>),
    Hold(Hold<'a>),
    /// People were asked about it before.
    Again(Arc<LiveApproval>),
}

impl Inner {
    /// Limits, and the pure decision. A permit's stored use is taken when this returns.
    pub(super) async fn rule_function<'a>(
        &self,
        asking: &Asking<'_>,
        wants: &Wants<'a>,
        entry: &mut Entry,
    ) -> Result<Ruled<'a>, Refusal> {
        let (caller, question, now) = (wants.caller, wants.asked.question, entry.opened);
        let route = caller.ruleset.policy.route(wants.matched.route);
        let (path, digest) = &wants.place;
        let again = wants.again.is_some();
        self.take_of_function(caller, Some(route), (path, digest), again, now.tick)
            .await?;
        entry.intent = stated(question)?.or_else(|| asking.stated.clone());
        intent::demand(route, entry.intent.as_deref())?;
        let resource = wants
            .asked
            .resource(route, &wants.matched.captures)
            .map_err(|why| Refusal::unclear(&why, route))?;
        judge::refuse_token(resource.as_ref())?;
        entry.resource.clone_from(&resource);
        // What a caller says it comes back with opens nothing; but it must not be mistaken about it.
        if let Some(said) = question.approval
            && !wants.stands_under(said)
            && !self.is_of_grant(caller, said, route, resource.as_ref())
        {
            return Err(Refusal::other_approval());
        }
        if let Some(approval) = wants.again {
            return Ok(Ruled::Again(Arc::clone(approval)));
        }
        let access = AccessRequest { route, resource };
        let permit = match self.decide(caller, access, now)? {
            Ruling::Allow(permit) => permit,
            Ruling::Hold(hold) => return Ok(Ruled::Hold(hold)),
        };
        self.take_shared(caller, route, entry).await?;
        self.spend(caller, &permit).await?;
        Ok(Ruled::Allow(permit))
    }

    /// The session's limits, in the order of any other call: nothing is written out and hashed for who is over them. Who asks
    /// again for what people are asked already counts by rates alone.
    pub(super) async fn count_function(
        &self,
        caller: &Arc<Caller>,
        question: &Question<'_>,
        (path, first): (&str, Option<Matched<'_>>),
        entry: &mut Entry,
    ) -> Result<Counted, Refusal> {
        let now = entry.opened;
        // What denies a call for a route in shadow is noted, and passes.
        let note = |taken: Result<(), Refusal>| match (taken, &first) {
            (Ok(()), _) => Ok(None),
            (Err(refusal), None) => Err(refusal),
            (Err(refusal), Some(first)) => shadow::unjudged(refusal, caller, first).map(Some),
        };
        // Nothing is looked for where people were never asked about this function.
        let alike = |approval: &Arc<LiveApproval>| match &approval.facts.asked {
            AskedOf::Call(call) => *call.method == *function::METHOD && *call.target == *path,
            AskedOf::Grant(_) => false,
        };
        let asks_again =
            caller.session.holds_approvals() && caller.session.approvals().iter().any(alike);
        let only = asks_again.then_some(Only::Rates);
        let mut noted = note(self.take_of_session(caller, only, now.tick).await)?;
        let text = question.text();
        let digest = BodyDigest::of(text.as_bytes());
        entry.body = Some(digest);
        let held = HeldQuestion::new(caller.session.facts.id, path, &text).digest;
        let standing = match asks_again {
            true => self.sessions.standing(&caller.session, held, now),
            false => None,
        };
        let again = standing.as_deref().is_some_and(is_again);
        if asks_again && !again && noted.is_none() {
            let others = self.take_of_session(caller, Some(Only::Others), now.tick);
            noted = note(others.await)?;
        }
        Ok(Counted {
            text,
            digest,
            held,
            standing,
            noted,
        })
    }

    /// Whether this approval is one of a grant that such a question may go on.
    fn is_of_grant(
        &self,
        caller: &Caller,
        approval: &str,
        route: &Route,
        resource: Option<&Resource>,
    ) -> bool {
        let id: Option<ApprovalId> = approval.parse().ok();
        let approval = id.and_then(|id| self.sessions.approval(id));
        approval.is_some_and(|approval| {
            let facts = &approval.facts;
            matches!(facts.asked, AskedOf::Grant(_))
                && facts.session == caller.session.facts.id
                && facts.scope == route.scope
                && facts.resource.as_ref() == resource
        })
    }

    /// What asks nothing that could be decided counts as a call all the same.
    pub(super) async fn counted(
        &self,
        caller: &Caller,
        refusal: Refusal,
        entry: &Entry,
    ) -> Refusal {
        let taken = self.take_of_session(caller, None, entry.opened.tick).await;
        taken.err().unwrap_or(refusal)
    }
}

/// The route that judges it: that by which people were asked, or the first whose conditions hold; else the one that could
/// not tell, and why none does.
pub(super) fn arm<'t>(
    policy: &'t Policy,
    wants: &Wants<'t>,
    first: Matched<'t>,
    entry: &mut Entry,
) -> (Matched<'t>, Option<Refusal>) {
    let mut arms = policy.table.arms(first);
    let asked = wants.again.map(|approval| &approval.facts.asked);
    if let Some(AskedOf::Call(call)) = asked {
        let of = arms.find(|arm| policy.route(arm.route).id == call.route);
        // It is gone, or changed: what becomes of the approval then is said further down.
        return (of.unwrap_or(first), None);
    }
    match wants.asked.chosen(policy, first) {
        Ok(matched) => (matched, None),
        Err(unfit) => {
            let route = policy.route(unfit.route());
            (entry.tool, entry.route) = (Some(route.tool), Some(route.index));
            let told = sql_told(policy, first, &wants.asked, unfit);
            let refusal = Refusal::unfit(unfit, policy, told.as_deref());
            let of = arms.find(|arm| arm.route == route.index);
            (of.unwrap_or(first), Some(refusal))
        }
    }
}

/// What a question says the agent is doing.
fn stated(question: &Question<'_>) -> Result<Option<Arc<str>>, Refusal> {
    let Some(text) = question.intent else {
        return Ok(None);
    };
    intent::check(text).map_err(|why| Refusal::invalid_input(format!("`context.intent` {why}")))?;
    Ok(Some(without_tokens(text).into()))
}
