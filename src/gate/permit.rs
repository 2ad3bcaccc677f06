//! Steps 4 to 8: limits are taken, the policy is asked, a stored grant's use is taken, the session is looked at once more,
//! and the call is made ready to leave.
//!
//! Taking is atomic in memory and then durable, and never given back: a call that fails afterwards has used its grant,
//! because nobody can say whether the backend acted.

use super::intent;
use crate::gate::body::RequestBody;
use crate::gate::describe::Described;
use crate::gate::forward::{Outbound, Outfit, SendFault};
use crate::gate::hold::Arrival;
use crate::gate::record::{Caller, Entry};
use crate::gate::refusal::Refusal;
use crate::gate::{Inner, Peer, client, judge, mcp};
use crate::io::sweep::Liveness;
use crate::io::telemetry::Context;
use crate::io::upstream::Owner;
use crate::ledger::record::Fault;
use crate::policy::decision::{Decision, Denial, GrantUse, Hold, Permit, Reason};
use crate::policy::subject::Subject;
use crate::policy::target::Target;
use crate::policy::time::{Now, Tick};
use crate::policy::{self, AccessRequest};
use crate::store::live::approvals::LiveApproval;
use crate::store::live::{LiveSession, State};
use http::Version;
use http::request::Parts;
use std::sync::Arc;

/// What the policy says of a call that it does not refuse.
pub(super) enum Ruling<'c> {
    Allow(Permit<'c>),
    /// If a person agrees.
    Hold(Hold<'c>),
}

impl Inner {
    /// What is asked before the policy is: limits of scope, tool and route, and whether the agent said what it is doing.
    /// Runaway sessions are quarantined here, whatever would be decided. The body is read ahead only where repeats of it
    /// are counted.
    pub(super) async fn admit(
        &self,
        call: &Described<'_>,
        arrival: Arrival<'_>,
        standing: Option<&Arc<LiveApproval>>,
        intent: Result<Option<Arc<str>>, Refusal>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let caller = arrival.caller;
        let asked = (arrival.head, arrival.target);
        self.take_of_route(caller, call, asked, body, standing, entry)
            .await?;
        intent::demand(call.route, intent?.as_deref())
    }

    /// What the policy says of a call within its limits. A permit's stored use is taken when this returns.
    pub(super) async fn rule<'c>(
        &self,
        call: &mut Described<'c>,
        arrival: Arrival<'c>,
        intent: Result<Option<Arc<str>>, Refusal>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Ruling<'c>, Refusal> {
        let caller = arrival.caller;
        self.admit(call, arrival, None, intent, body, entry).await?;
        // What it acts on. Where nothing else needed the body, it is read here, before a byte leaves.
        let asked = (arrival.head, arrival.target);
        let resource = judge::acted_on(caller, asked, call, body, entry).await?;
        let access = AccessRequest {
            route: call.route,
            resource,
        };
        let ruling = self.decide(caller, access, entry.opened)?;
        // Before anything is spent, and before people are asked about what nobody accepted.
        mcp::as_accepted(caller, &call.matched)?;
        let permit = match ruling {
            Ruling::Allow(permit) => permit,
            hold @ Ruling::Hold(_) => return Ok(hold),
        };
        // Money, and what other sessions share, only for calls that would be forwarded: nobody's refusals starve others.
        self.take_shared(caller, call.route, entry).await?;
        // A stored grant's use is taken atomically and durably, and never given back.
        self.spend(caller, &permit).await?;
        Ok(Ruling::Allow(permit))
    }

    /// Asks the policy. Grants are read where they are kept and may be gone right after: spending settles that.
    pub(super) fn decide<'c>(
        &self,
        caller: &'c Caller,
        access: AccessRequest<'c>,
        now: Now,
    ) -> Result<Ruling<'c>, Refusal> {
        let decision = caller.session.with_grants(|grants| {
            let subject = Subject {
                session: &caller.session.facts,
                grants,
            };
            policy::decide(&caller.ruleset.policy, subject, access, now)
        });
        match decision {
            Decision::Allow(permit) => Ok(Ruling::Allow(permit)),
            Decision::Hold(hold) => Ok(Ruling::Hold(hold)),
            Decision::Deny(denial) => Err(Refusal::denied(denial)),
        }
    }

    /// Takes the use that the permit goes on.
    pub(super) async fn spend(&self, caller: &Caller, permit: &Permit<'_>) -> Result<(), Refusal> {
        let GrantUse::Stored(grant) = permit.grant() else {
            return Ok(());
        };
        match self
            .sessions
            .spend(&caller.session, grant, self.clock.now())
            .await
        {
            Ok(true) => Ok(()),
            // Another call was faster: for this one the grant does not exist.
            Ok(false) => Err(Refusal::denied(Denial {
                reason: Reason::GrantMissing,
                scope: Some(permit.route().scope.clone()),
                resource: permit.resource().cloned(),
            })),
            Err(fault) => {
                tracing::error!(%fault, %grant, "the use of a grant could not be made durable; the call is refused");
                Err(Refusal::store_unavailable())
            }
        }
    }

    /// Refuses where the session was revoked, expired or put in quarantine while the call was being written down.
    pub(super) fn still_live(&self, caller: &Caller) -> Result<(), Refusal> {
        match caller.session.state(self.clock.tick()) {
            State::Live => Ok(()),
            ended => Err(Refusal::of_state(ended).after(Fault::SessionEnded)),
        }
    }

    /// The permitted call as it was checked.
    pub(super) fn outbound<'a>(
        &'a self,
        caller: &'a Caller,
        (outfit, path): (&'a Outfit, &'a str),
        (head, target): (&'a Parts, &'a Target),
        peer: &'a Peer,
        trace: Option<Context>,
    ) -> Outbound<'a> {
        Outbound {
            outfit,
            method: &head.method,
            headers: &head.headers,
            path,
            query: target.query(),
            authority: target.authority(),
            peer: peer.address.ip(),
            channel: peer.channel,
            trust: client::trust(peer.address, &self.settings.trusted_proxies),
            session: caller.session.clone(),
            owner: Owner(caller.session.facts.id),
            clock: &self.clock,
            trace,
            // An agent of HTTP/1.0 does not know of such answers.
            line: peer
                .line
                .as_ref()
                .filter(|_| head.version == Version::HTTP_11),
        }
    }

    /// What is said where no answer came.
    pub(super) fn unanswered(&self, caller: &Caller, fault: SendFault) -> Refusal {
        Refusal::unanswered(fault, caller.session.state(self.clock.tick()))
    }
}

impl Liveness for LiveSession {
    fn live(&self, now: Tick) -> bool {
        self.state(now) == State::Live
    }
}
