//! What people agreed to is judged anew before it runs: under the policy that is in force then, for the session as it is
//! then, by the word of those who may decide then. It is the kept request that is judged, never a retry's.

use crate::gate::Inner;
use crate::gate::forward::Outfit;
use crate::gate::judge;
use crate::gate::record::Caller;
use crate::gate::refusal::Refusal;
use crate::ledger::record::Cause;
use crate::policy::approval::{Asked, Chain, Facts, HeldCall};
use crate::policy::decision::{Decision, Hold, Permit, Void};
use crate::policy::model::{RouteIndex, ToolIndex};
use crate::policy::subject::Subject;
use crate::policy::target::Target;
use crate::policy::time::Now;
use crate::policy::{self, AccessRequest};
use crate::store::live::State;
use crate::store::live::approvals::LiveApproval;
use std::sync::Arc;

/// Why what people agreed to does not run.
pub(super) enum Stale {
    /// It is worth nothing any more.
    Void(String),
    /// The session can't go on.
    Refused(Refusal),
}

impl From<Void> for Stale {
    fn from(void: Void) -> Self {
        Stale::Void(void.to_string())
    }
}

/// A kept call under one version of the policy.
pub(super) struct Judged<'c, Evidence> {
    /// What the policy gave for it: a [`Hold`], and for the word of people a [`Permit`].
    pub evidence: Evidence,
    pub outfit: &'c Outfit,
    pub path: &'c str,
    pub tool: ToolIndex,
    pub route: RouteIndex,
}

impl Inner {
    /// The chain of this approval under the policy in force for the caller.
    pub(super) fn chain<'c>(
        &self,
        caller: &'c Caller,
        approval: &LiveApproval,
    ) -> Option<&'c Chain> {
        caller.ruleset.policy.chain_named(&approval.facts.chain)
    }

    /// The kept target; it was canonical when it was kept.
    pub(super) fn kept_target(call: &HeldCall) -> Result<Target, Stale> {
        Target::parse(&call.target, &call.authority)
            .map_err(|why| Stale::Void(format!("its target can't be read any more: {why}")))
    }

    /// What the present policy says of the kept request.
    pub(super) fn judge<'c>(
        &self,
        caller: &'c Caller,
        (facts, call): (&Facts, &HeldCall),
        target: &'c Target,
        now: Now,
    ) -> Result<Judged<'c, Hold<'c>>, Stale> {
        let session = &caller.session;
        match session.state(now.tick) {
            State::Live => {}
            ended => return Err(Stale::Refused(Refusal::of_state(ended))),
        }
        let policy = &caller.ruleset.policy;
        let matched = policy
            .table
            .find(&call.method, target)
            .map_err(|_| Void::Changed("route"))?;
        let (matched, resource) = judge::kept(
            policy,
            matched,
            (&session.facts, facts),
            (call, target),
            now,
        )
        .map_err(|refusal| {
            let why = refusal.reason().as_str();
            Stale::Void(format!("it may not run any more: {why}"))
        })?;
        let route = policy.route(matched.route);
        let decision = session.with_grants(|grants| {
            let subject = Subject {
                session: &session.facts,
                grants,
            };
            policy::decide(policy, subject, AccessRequest { route, resource }, now)
        });
        let hold = match decision {
            Decision::Hold(hold) => hold,
            // It needs nobody's word now, and what was given for it is not to lie about.
            Decision::Allow(_) => return Err(Void::Changed("approval").into()),
            Decision::Deny(denial) => {
                let why = denial.reason.as_str();
                return Err(Stale::Void(format!("it may not run any more: {why}")));
            }
        };
        Ok(Judged {
            evidence: hold,
            outfit: caller.ruleset.outfit(matched.tool),
            path: matched.path,
            tool: matched.tool,
            route: matched.route,
        })
    }

    /// The kept call, permitted by the word of people.
    pub(super) fn redeem<'c>(
        &self,
        caller: &'c Caller,
        approval: &LiveApproval,
        call: &HeldCall,
        target: &'c Target,
        now: Now,
    ) -> Result<Judged<'c, Permit<'c>>, Stale> {
        let Judged {
            evidence: hold,
            outfit,
            path,
            tool,
            route,
        } = self.judge(caller, (&approval.facts, call), target, now)?;
        let approvers = self.approvers.load();
        Ok(Judged {
            evidence: policy::redeem(hold, &approval.facts, &approval.votes(), &approvers)?,
            outfit,
            path,
            tool,
            route,
        })
    }

    /// Refuses where people are asked for what could not run.
    pub(super) async fn still_asked(
        &self,
        caller: &Arc<Caller>,
        approval: &Arc<LiveApproval>,
    ) -> Result<(), Refusal> {
        let stale = match &approval.facts.asked {
            Asked::Grant(_) => return Ok(()),
            Asked::Call(call) => Self::kept_target(call).and_then(|target| {
                let judged =
                    self.judge(caller, (&approval.facts, call), &target, self.clock.now())?;
                policy::unchanged(&judged.evidence, &approval.facts)?;
                Ok(())
            }),
        };
        match stale {
            Ok(()) => Ok(()),
            Err(stale) => Err(self.refuse_stale(approval, stale).await),
        }
    }

    /// Takes back what is worth nothing any more, and says so.
    pub(super) async fn refuse_stale(&self, approval: &Arc<LiveApproval>, stale: Stale) -> Refusal {
        let why = match stale {
            Stale::Refused(refusal) => return refusal,
            Stale::Void(why) => why,
        };
        let now = self.clock.now();
        let done = self
            .sessions
            .withdraw(approval, &why, Cause::Gate, now)
            .await;
        if let Err(error) = done {
            // It is judged again whenever it is looked at, so it can't run meanwhile.
            tracing::warn!(approval = %approval.facts.id, %error, "an approval that is void could not be taken back");
        }
        Refusal::void(approval, &why)
    }
}
