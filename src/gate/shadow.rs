//! Routes in shadow: what the policy denies there is noted, recorded and let through.
//!
//! The journey is the same, and stops where it would have stopped: what a denied call would not have counted towards it
//! does not count towards here, what it would not have spent it does not spend, and nobody is asked. So what is recorded
//! as denied in shadow is what would be denied if the mode were changed. Money alone is another matter: what passes costs
//! what it costs, and a budget that quarantines knows of it.
//!
//! It refuses to let pass what is not the policy's own word on a matched route (`policy::shadow` has the list), and what
//! people were asked before: their word counts, or is waited for.

use super::Inner;
use super::body::RequestBody;
use super::describe::Described;
use super::hold::Arrival;
use super::limit::fixed_cost;
use super::record::{Caller, Entry};
use super::refusal::Refusal;
use crate::policy::approval::Stage;
use crate::policy::decision::{Hold, Reason};
use crate::policy::limit::Exceeded;
use crate::policy::model::{LimitIndex, Route};
use crate::policy::route::{Matched, NoRoute};
use crate::policy::shadow::{Shadowed, WouldBe};
use crate::policy::target::Target;
use crate::policy::{all_shadowed, shadowed};
use crate::store::live::approvals::LiveApproval;
use http::request::Parts;
use std::sync::Arc;

/// What was decided of a call that is let through: why it would not have been.
pub(super) struct Noted(pub Refusal);

impl Inner {
    /// A refusal from before the target was matched, put off until it is: the call may be for a route in shadow.
    ///
    /// # Errors
    /// It is not, or the refusal holds in shadow too.
    pub(super) fn put_off(
        &self,
        refusal: Refusal,
        caller: &Caller,
        head: &Parts,
        target: &Result<Target, Refusal>,
    ) -> Result<Noted, Refusal> {
        let policy = &caller.ruleset.policy;
        let Ok(target) = target else {
            return Err(refusal);
        };
        let in_shadow = match policy.table.find(head.method.as_str(), target) {
            Ok(first) => all_shadowed(policy, &first),
            // What is called there stands in a body that is unread.
            Err(NoRoute::Called(tool)) => {
                let mut routes = policy.routes.iter().filter(|route| route.tool == tool);
                routes.all(|route| route.shadow)
            }
            Err(NoRoute::Route(_) | NoRoute::Tool) => false,
        };
        noted(refusal, in_shadow)
    }

    /// What lets a call pass that is denied on a route in shadow.
    ///
    /// # Errors
    /// It stays denied: its route is enforced, the denial holds in shadow too, or people were asked about this very call.
    pub(super) async fn despite<'c>(
        &self,
        refusal: Refusal,
        call: &Described<'c>,
        Arrival {
            caller,
            head,
            target,
            ..
        }: Arrival<'c>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Shadowed<'c>, Refusal> {
        let Some(evidence) = shadowed(call.route, refusal.reason()) else {
            return Err(refusal);
        };
        // Asked before the mode was changed, or denied a moment ago. Their word is not the policy's.
        if caller.session.holds_approvals()
            && let Some(approval) = self.asked_before(caller, head, target, body, entry).await?
        {
            return Err(of_people(refusal, &approval));
        }
        self.pass(&refusal, caller, call.route, entry);
        Ok(evidence)
    }

    /// The same of a function; `asked`: what people were asked about this very question.
    pub(super) fn despite_of_function<'c>(
        &self,
        refusal: Refusal,
        route: &'c Route,
        caller: &Caller,
        asked: Option<&Arc<LiveApproval>>,
        entry: &mut Entry,
    ) -> Result<Shadowed<'c>, Refusal> {
        let Some(evidence) = shadowed(route, refusal.reason()) else {
            return Err(refusal);
        };
        if let Some(approval) = asked {
            return Err(of_people(refusal, approval));
        }
        self.pass(&refusal, caller, route, entry);
        Ok(evidence)
    }

    /// On record, and paid for, as what passes in spite of this.
    fn pass(&self, refusal: &Refusal, caller: &Caller, route: &Route, entry: &mut Entry) {
        entry.limited(refusal.limit());
        if let Some(micros) = fixed_cost(route) {
            self.charge_despite(caller, route, micros, entry);
        }
    }

    /// What stands for a call that people would be asked about, and that counts for what others share as held calls do.
    pub(super) async fn unheld(&self, hold: Hold<'_>, caller: &Caller, entry: &Entry) -> Refusal {
        let taken = self.take_shared_to_hold(caller, hold.route(), entry).await;
        taken.err().unwrap_or_else(Refusal::would_hold)
    }

    /// Charges what a call costs that would not have been made: budgets that quarantine, which are about the money. Those
    /// that throttle know of what would have been spent, for what they would deny is what is asked of them.
    pub(super) fn charge_despite(
        &self,
        caller: &Caller,
        route: &Route,
        micros: u64,
        entry: &mut Entry,
    ) {
        let policy = &caller.ruleset.policy;
        let brake = |index: &&LimitIndex| policy.limit(**index).exceeded == Exceeded::Quarantine;
        let brakes: Vec<LimitIndex> = route.cost_limits.iter().filter(brake).copied().collect();
        let trip = caller.charge(&brakes, self.clock.tick(), micros);
        self.note_cost(caller, route, micros);
        entry.cost(micros, trip);
    }
}

/// A denial from before it is known which route of a match judges the call.
///
/// # Errors
/// It holds: not all of them are in shadow, or it is none that passes there.
pub(super) fn unjudged(
    refusal: Refusal,
    caller: &Caller,
    first: &Matched<'_>,
) -> Result<Noted, Refusal> {
    let all = all_shadowed(&caller.ruleset.policy, first);
    noted(refusal, all)
}

fn noted(refusal: Refusal, in_shadow: bool) -> Result<Noted, Refusal> {
    match WouldBe::of(refusal.reason()) {
        Some(_) if in_shadow => Ok(Noted(refusal)),
        _ => Err(refusal),
    }
}

fn of_people(refusal: Refusal, approval: &LiveApproval) -> Refusal {
    match approval.stage() {
        Stage::Denied => Refusal::approval_denied(approval),
        // Asked by another call this very moment, under the policy before: it is found when this one is repeated.
        _ if refusal.reason() == Reason::PendingApproval => {
            Refusal::overloaded("this very call is being decided; wait and repeat it")
        }
        _ => refusal,
    }
}
