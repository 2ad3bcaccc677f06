//! Step 6: a call that a person must agree to.
//!
//! It is read whole, bound by a digest, and kept: what people see is what runs, once they agree. The agent's connection
//! waits for a while; a retry of the same request joins it, whenever it comes, and gets what came of it. What is said
//! while nobody has answered is 202.
//!
//! Behind the word of people the call is judged anew ([`redeem`]) and made by a task of its own ([`run`]), so that how it
//! ended is learnt whether or not the agent stays. It refuses to run anything that was not shown, and anything twice.

mod answer;
mod count;
mod grant;
mod redeem;
mod request;
mod run;
mod wait;
mod yes;

pub(super) use answer::{HeldBody, last_word};
pub(super) use grant::not_asked;
pub use grant::{Wish, WishError, Wisher};
pub(super) use run::{Begun, Errands};
pub(super) use wait::{Applied, Preferred, Wait, Waited, stage_in_words};
pub(super) use yes::{Patience, Question, Word};

use super::body::RequestBody;
use super::describe::Described;
use super::mcp;
use super::record::{Caller, Content, Entry};
use super::refusal::Refusal;
use super::respond;
use super::{Gate, Inner, Peer, Sequel};
use crate::io::clock;
use crate::policy::approval::{Asked, Facts, HeldCall, Stage};
use crate::policy::decision::{Denial, Hold, Reason};
use crate::policy::target::Target;
use crate::policy::time::Now;
use crate::store::live::approvals::{Held, HoldError, LiveApproval};
use http::Response;
use http::request::Parts;
use request::Request;
use std::sync::Arc;
use std::time::Duration;

/// A request as it came, and from whom.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub caller: &'a Arc<Caller>,
    pub head: &'a Parts,
    pub target: &'a Target,
    pub peer: &'a Peer,
}

impl<'a> Arrival<'a> {
    pub(super) fn new(
        caller: &'a Arc<Caller>,
        head: &'a Parts,
        target: &'a Target,
        peer: &'a Peer,
    ) -> Self {
        Self {
            caller,
            head,
            target,
            peer,
        }
    }
}

impl Gate {
    /// Asks people, and waits for them.
    pub(super) async fn hold(
        &self,
        hold: Hold<'_>,
        call: &Described<'_>,
        arrival: Arrival<'_>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let (gate, caller) = (&*self.0, arrival.caller);
        // Whole, and before anything waits: only then is an agent that leaves noticed.
        let request = Request::read(caller, call.route, arrival, body, entry).await?;
        // Nothing is left of it to be read, and nothing of it is what will run.
        drop(body.take());
        let now = gate.clock.now();
        let standing = gate.sessions.standing(&caller.session, request.digest, now);
        let approval = match standing {
            // Denied a moment ago, say.
            Some(approval) => approval,
            None => {
                let shown = Shown {
                    method: arrival.head.method.as_str(),
                    authority: arrival.target.authority(),
                    target: arrival.target.as_str(),
                    request,
                };
                self.ask_people(&hold, caller, shown, entry, now).await?
            }
        };
        self.stand(approval, arrival, entry).await
    }

    /// Asks people about a call that nothing stands for yet.
    async fn ask_people(
        &self,
        hold: &Hold<'_>,
        caller: &Arc<Caller>,
        shown: Shown<'_>,
        entry: &Entry,
        now: Now,
    ) -> Result<Arc<LiveApproval>, Refusal> {
        let gate = &*self.0;
        // Held calls count for what others share as those do that are forwarded. Money is spent when it runs.
        gate.take_shared_to_hold(caller, hold.route(), entry)
            .await?;
        let facts = facts(hold, caller, shown, entry, now);
        let held = gate
            .sessions
            .hold(&caller.session, hold.chain(), facts, CAUSE, now)
            .await;
        match held.map_err(|why| not_held(why, hold))? {
            Held::Made(approval) | Held::Joined(approval) => Ok(approval),
        }
    }

    /// What comes of a call that stands under an approval.
    pub(super) async fn stand(
        &self,
        approval: Arc<LiveApproval>,
        arrival: Arrival<'_>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let chain = self.0.chain(arrival.caller, &approval);
        let hold = chain.map_or_else(Default::default, |chain| chain.hold);
        let preferred = Preferred::read(&arrival.head.headers);
        let asked = entry.asked.as_ref();
        let span = match asked.is_some_and(|asked| asked.takes_task) {
            // It is asked for later, and need not be waited for.
            true => preferred.asked(hold),
            false => preferred.at_most(hold),
        };
        match self.come_to(&approval, arrival, span, entry).await? {
            Stood::Answer(answer) => mcp::for_attempt(entry, &approval, *answer),
            Stood::Waits(applied) => {
                entry.pending();
                let mut response = match &entry.asked {
                    Some(asked) if asked.takes_task => mcp::begun(asked, &approval),
                    Some(asked) => {
                        let pending = respond::pending(&approval, Some(entry));
                        mcp::told(asked, Reason::PendingApproval, pending)
                    }
                    None => respond::pending(&approval, Some(entry)),
                };
                preferred.applied(applied, response.headers_mut());
                Ok(response.map(|own| Sequel::Body(Content::Own(own))))
            }
        }
    }

    /// What an approval comes to within `span` for a call that stands under it: its run, or what was kept of that.
    pub(super) async fn come_to(
        &self,
        approval: &Arc<LiveApproval>,
        arrival: Arrival<'_>,
        span: Duration,
        entry: &mut Entry,
    ) -> Result<Stood, Refusal> {
        let (gate, caller) = (&self.0, arrival.caller);
        // From here on: an answer that another call is given meanwhile is kept for this one.
        let watched = approval.watch();
        entry.hold(approval.facts.id).await?;
        let mut wait = Wait::begin(gate, &caller.session, approval, span);
        drop(watched);
        // Once for each call: where another is faster, this one waits for what comes of that.
        let mut tried = false;
        loop {
            match gate.come(caller, approval, &mut wait, tried).await? {
                Come::Approved => {
                    tried = true;
                    if let Some(answer) = run::run(gate, approval, arrival, entry).await? {
                        return Ok(Stood::Answer(Box::new(answer)));
                    }
                }
                Come::Executed => {
                    let answer = answer::replay(gate, approval, arrival.peer)?;
                    return Ok(Stood::Answer(Box::new(answer)));
                }
                Come::Nothing => {
                    let preferred = Preferred::read(&arrival.head.headers);
                    return Ok(Stood::Waits(wait.applied(preferred)));
                }
            }
        }
    }
}

/// What stands at the end of a wait.
pub(super) enum Stood {
    Answer(Box<Response<Sequel>>),
    /// Nothing yet; whether that is said now because the agent prefers it.
    Waits(Applied),
}

/// What a call that waits has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Come {
    /// People agreed, and this call has not tried to be the one that runs.
    Approved,
    /// It ran.
    Executed,
    /// It was waited long enough.
    Nothing,
}

impl Inner {
    /// Waits until there is something to do, or it was waited long enough.
    ///
    /// # Errors
    /// It came to nothing, or the session can't go on.
    async fn come(
        &self,
        caller: &Arc<Caller>,
        approval: &Arc<LiveApproval>,
        wait: &mut Wait,
        tried: bool,
    ) -> Result<Come, Refusal> {
        loop {
            match wait.stage() {
                // Nobody is to be waited for whose word would be worth nothing.
                Stage::Pending => self.still_asked(caller, approval).await?,
                Stage::Approved if !tried => return Ok(Come::Approved),
                Stage::Approved | Stage::Executing => {}
                Stage::Executed => return Ok(Come::Executed),
                Stage::Denied => return Err(Refusal::approval_denied(approval)),
                Stage::Expired => return Err(Refusal::approval_expired(approval)),
                Stage::Withdrawn => return Err(self.withdrawn(caller, approval)),
                Stage::Unknown => return Err(Refusal::outcome_unknown(approval)),
            }
            match wait.next().await {
                Waited::News => {}
                Waited::Enough => return Ok(Come::Nothing),
                Waited::Ended => {
                    let state = caller.session.state(self.clock.tick());
                    return Err(Refusal::of_state(state));
                }
            }
        }
    }

    /// The approval that a call asks for again: it is not counted as a new one. Looked for only where the session has any.
    ///
    /// # Errors
    /// The request's body failed.
    pub(super) async fn standing(
        &self,
        caller: &Arc<Caller>,
        head: &Parts,
        target: &Result<Target, Refusal>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Option<Arc<LiveApproval>>, Refusal> {
        let Ok(target) = target else {
            return Ok(None);
        };
        let asked = self.asked_before(caller, head, target, body, entry).await?;
        // Who asks again although a person said no is counted as for any other call.
        Ok(asked.filter(|approval| approval.stage() != Stage::Denied))
    }

    /// The approval that was asked for by the same request, a denied one too.
    ///
    /// # Errors
    /// The request's body failed.
    pub(super) async fn asked_before(
        &self,
        caller: &Arc<Caller>,
        head: &Parts,
        target: &Target,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Option<Arc<LiveApproval>>, Refusal> {
        // The body is read for nothing that was not asked for before.
        let alike = |approval: &Arc<LiveApproval>| match &approval.facts.asked {
            Asked::Call(call) => {
                *call.method == *head.method.as_str()
                    && *call.target == *target.as_str()
                    && *call.authority == *target.authority()
            }
            Asked::Grant(_) => false,
        };
        if !caller.session.approvals().iter().any(alike) {
            return Ok(None);
        }
        let Some(request) = Request::again(caller, head, target, body, entry).await? else {
            return Ok(None);
        };
        let now = self.clock.now();
        Ok(self.sessions.standing(&caller.session, request.digest, now))
    }

    /// Refuses where an approval ended that nobody decided: by the agent itself, by the gate, or with its session.
    fn withdrawn(&self, caller: &Caller, approval: &LiveApproval) -> Refusal {
        use crate::store::live::State;
        match caller.session.state(self.clock.tick()) {
            State::Live => Refusal::approval_void(approval),
            ended => Refusal::of_state(ended),
        }
    }
}

/// What people are shown of a call.
struct Shown<'a> {
    method: &'a str,
    authority: &'a str,
    target: &'a str,
    request: Request,
}

/// What people are asked.
fn facts(hold: &Hold<'_>, caller: &Caller, shown: Shown<'_>, entry: &Entry, now: Now) -> Facts {
    let request = shown.request;
    let (policy, session) = (&caller.ruleset.policy, &caller.session.facts);
    let (route, chain) = (hold.route(), hold.chain());
    let tool = policy.tool(route.tool);
    // Those of the grant bound it too: the store knows them best.
    let (expires_at, ends) = (
        now.wall.plus(chain.expires).min(session.expires_at),
        now.tick.plus(chain.expires).min(session.ends),
    );
    Facts {
        id: clock::approval_id(now),
        project: policy.project.clone(),
        policy: policy.hash,
        chain: chain.name.clone(),
        agent: session.agent.clone(),
        session: session.id,
        run: session.run.clone(),
        minted_by: session.minted_by.clone(),
        intent: entry.intent.clone(),
        client: entry.client,
        request: entry.id(),
        scope: route.scope.clone(),
        resource: hold.resource().cloned(),
        digest: request.digest,
        created_at: now.wall,
        expires_at,
        ends,
        denied_for: chain.denied_for,
        quorum: chain.quorum,
        asked: Asked::Call(Box::new(HeldCall {
            tool: tool.name.clone(),
            route: route.id.clone(),
            upstream: tool.backend(),
            method: shown.method.into(),
            authority: shown.authority.into(),
            target: shown.target.into(),
            fields: request.fields,
            body: request.body,
            grant: hold.grant(),
        })),
    }
}

fn not_held(why: HoldError, hold: &Hold<'_>) -> Refusal {
    refused(
        why,
        Denial {
            reason: Reason::GrantMissing,
            scope: Some(hold.route().scope.clone()),
            resource: hold.resource().cloned(),
        },
    )
}

/// Why nobody is asked.
fn refused(why: HoldError, without_grant: Denial) -> Refusal {
    match why {
        HoldError::TooManyPending { .. } => Refusal::too_many_pending(&why),
        HoldError::Full => Refusal::overloaded(why.to_string()),
        HoldError::GrantMissing => Refusal::denied(without_grant),
        HoldError::Ended => Refusal::credential_invalid(),
        HoldError::Quarantined => Refusal::quarantined(None),
        HoldError::Store(fault) => {
            tracing::error!(%fault, "an approval could not be made durable; nobody is asked");
            Refusal::store_unavailable()
        }
        HoldError::Ledger(_) => Refusal::ledger_unavailable(),
    }
}

const CAUSE: crate::ledger::record::Cause<'static> = crate::ledger::record::Cause::Agent;
