//! What people agreed to is judged anew before it runs: under the policy that is in force then, for the session as it is
//! then, by the word of those who may decide then. It is the kept request that is judged, never a retry's.

use crate::gate::Inner;
use crate::gate::judge;
use crate::gate::mcp;
use crate::gate::record::Caller;
use crate::gate::refusal::Refusal;
use crate::ledger::record::Cause;
use crate::policy::approval::{Asked, Chain, Facts, HeldCall};
use crate::policy::decision::{Decision, Hold, Permit, Reason, Void};
use crate::policy::function::{self, Question};
use crate::policy::json::Value;
use crate::policy::model::{Policy, RouteIndex, ToolIndex};
use crate::policy::resource::Resource;
use crate::policy::route::{Matched, NoRoute};
use crate::policy::subject::{Session, Subject};
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

/// What a kept call is for.
pub(super) enum Kept {
    /// A request, which is for this.
    Request(Target),
    /// A message, which is for this, and names what it calls so.
    Message(Target, String),
    /// A function, which its body names.
    Function,
}

/// A kept call under one version of the policy.
pub(super) struct Judged<'c, Evidence> {
    /// What the policy gave for it: a [`Hold`], and for the word of people a [`Permit`].
    pub evidence: Evidence,
    /// Behind the mount; of a function empty.
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

    /// What a kept call is for. Its target was canonical when it was kept; a request always names a host.
    pub(super) fn kept(caller: &Caller, call: &HeldCall) -> Result<Kept, Stale> {
        if *call.method == *function::METHOD && call.authority.is_empty() {
            return Ok(Kept::Function);
        }
        let target = Target::parse(&call.target, &call.authority);
        let target = target
            .map_err(|why| Stale::Void(format!("its target can't be read any more: {why}")))?;
        let policy = &caller.ruleset.policy;
        match policy.table.find(&call.method, &target) {
            Err(NoRoute::Called(_)) => match mcp::path_of(&call.body) {
                Some(path) => Ok(Kept::Message(target, path)),
                None => Err(Void::Changed("route").into()),
            },
            _ => Ok(Kept::Request(target)),
        }
    }

    /// What the present policy says of the kept request.
    pub(super) fn judge<'c>(
        &self,
        caller: &'c Caller,
        (facts, call): (&Facts, &HeldCall),
        kept: &'c Kept,
        now: Now,
    ) -> Result<Judged<'c, Hold<'c>>, Stale> {
        let session = &caller.session;
        match session.state(now.tick) {
            State::Live => {}
            ended => return Err(Stale::Refused(Refusal::of_state(ended))),
        }
        let policy = &caller.ruleset.policy;
        let Wants {
            route: index,
            tool,
            path,
            resource,
        } = match kept {
            Kept::Request(target) => {
                let matched = policy.table.find(&call.method, target).ok();
                wants(
                    policy,
                    &session.facts,
                    (facts, call),
                    (target, matched),
                    now,
                )?
            }
            Kept::Message(target, path) => {
                let place = policy.table.find(&call.method, target);
                let matched = match place {
                    Err(NoRoute::Called(tool)) => policy.table.find_call(tool, path),
                    Ok(_) | Err(_) => None,
                };
                let wants = wants(
                    policy,
                    &session.facts,
                    (facts, call),
                    (target, matched),
                    now,
                )?;
                // It may have changed while people thought.
                if let Some(matched) = &matched {
                    mcp::as_accepted(caller, matched)
                        .map_err(|refusal| may_not(refusal.reason()))?;
                }
                // What is called is no part of the path.
                Wants { path: "", ..wants }
            }
            Kept::Function => asks(policy, &session.facts, (facts, call), now)?,
        };
        let route = policy.route(index);
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
            Decision::Deny(denial) => return Err(may_not(denial.reason)),
        };
        Ok(Judged {
            evidence: hold,
            path,
            tool,
            route: index,
        })
    }

    /// The kept call, permitted by the word of people.
    pub(super) fn redeem<'c>(
        &self,
        caller: &'c Caller,
        approval: &LiveApproval,
        call: &HeldCall,
        kept: &'c Kept,
        now: Now,
    ) -> Result<Judged<'c, Permit<'c>>, Stale> {
        let Judged {
            evidence: hold,
            path,
            tool,
            route,
        } = self.judge(caller, (&approval.facts, call), kept, now)?;
        let approvers = self.approvers.load();
        Ok(Judged {
            evidence: policy::redeem(hold, &approval.facts, &approval.votes(), &approvers)?,
            path,
            tool,
            route,
        })
    }

    /// Refuses where people are asked for what could not run.
    pub(in crate::gate) async fn still_asked(
        &self,
        caller: &Arc<Caller>,
        approval: &Arc<LiveApproval>,
    ) -> Result<(), Refusal> {
        let stale = match &approval.facts.asked {
            Asked::Grant(_) => return Ok(()),
            Asked::Call(call) => Self::kept(caller, call).and_then(|kept| {
                let judged =
                    self.judge(caller, (&approval.facts, call), &kept, self.clock.now())?;
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

/// What the present policy makes of a kept call.
struct Wants<'p> {
    route: RouteIndex,
    tool: ToolIndex,
    path: &'p str,
    resource: Option<Resource>,
}

fn wants<'p>(
    policy: &'p Policy,
    session: &Session,
    (facts, call): (&Facts, &HeldCall),
    (target, matched): (&'p Target, Option<Matched<'p>>),
    now: Now,
) -> Result<Wants<'p>, Stale> {
    let matched = matched.ok_or(Void::Changed("route"))?;
    let judged = judge::kept(policy, matched, (session, facts), (call, target), now);
    let (matched, resource) = judged.map_err(|refusal| may_not(refusal.reason()))?;
    Ok(Wants {
        route: matched.route,
        tool: matched.tool,
        path: matched.path,
        resource,
    })
}

fn asks(
    policy: &Policy,
    session: &Session,
    (facts, call): (&Facts, &HeldCall),
    now: Now,
) -> Result<Wants<'static>, Stale> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Stale::Void(format!("what was asked can't be read any more: {why}"))
    };
    let value = Value::read(&call.body).map_err(|why| unreadable(&why))?;
    let question = Question::kept(&value).map_err(|why| unreadable(&why))?;
    let asked = function::Asked {
        question: &question,
        session,
        client: Some(facts.client),
        now: now.wall,
    };
    let path = function::path(question.name());
    let first = path
        .as_deref()
        .and_then(|path| policy.table.find_function(path))
        .ok_or(Void::Changed("route"))?;
    let matched = asked
        .chosen(policy, first)
        .map_err(|unfit| may_not(Refusal::unfit(unfit, policy, None).reason()))?;
    let resource = asked
        .resource(policy.route(matched.route), &matched.captures)
        .map_err(|_| Void::Changed("resource"))?;
    Ok(Wants {
        route: matched.route,
        tool: matched.tool,
        path: "",
        resource,
    })
}

fn may_not(reason: Reason) -> Stale {
    Stale::Void(format!("it may not run any more: {}", reason.as_str()))
}
