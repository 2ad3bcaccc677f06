//! A wish for a grant that a person must agree to: the same approval, whose one run is that the grant is given.

use super::refused;
use super::request::Parted;
use crate::gate::refusal::Refusal;
use crate::gate::{Gate, Inner};
use crate::io::clock;
use crate::io::metrics::GrantKind;
use crate::ledger::record::Cause;
use crate::policy::approval::{Asked, AskedGrant, Chain, Facts, RequestDigest, Stage, Word};
use crate::policy::decision::{Denial, Reason};
use crate::policy::endorse;
use crate::policy::id::RequestId;
use crate::policy::model::{GrantMode, Policy};
use crate::policy::subject::Grant;
use crate::policy::time::Now;
use crate::store::live::approvals::{Held, HoldError, LiveApproval, Outcome};
use crate::store::live::{Ask, Fit, GiveError, LiveSession};
use std::net::IpAddr;
use std::sync::Arc;

/// What came of a wish.
#[derive(Debug)]
pub enum Wish {
    /// Nobody had to be asked, or people agreed and it was given.
    Given(Grant),
    /// People are asked, or answered.
    Asked(Arc<LiveApproval>),
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum WishError {
    /// The session's ceiling, or what it holds already.
    #[error(transparent)]
    Give(#[from] GiveError),
    /// Nobody could be asked.
    #[error(transparent)]
    Hold(#[from] HoldError),
}

/// Who wishes, and by which call.
#[derive(Clone, Debug)]
pub struct Wisher<'a> {
    /// The agent, or a principal for it.
    pub cause: Cause<'a>,
    /// Where the call came from.
    pub client: IpAddr,
    /// The call.
    pub request: RequestId,
}

impl Gate {
    /// Gives a session a grant, or asks people whether it may have it, as its ceiling says. The same wish joins.
    ///
    /// # Errors
    /// [`WishError`].
    pub async fn wish(
        &self,
        session: &Arc<LiveSession>,
        ask: Ask,
        wisher: Wisher<'_>,
    ) -> Result<Wish, WishError> {
        let (gate, now) = (&self.0, self.0.clock.now());
        let ruleset = gate.rulesets.load().get(&session.facts.project).cloned();
        let ruleset = ruleset.ok_or(GiveError::Ended)?;
        let policy = &ruleset.policy;
        let digest = digest(session, &ask);
        if let Some(approval) = gate.sessions.standing(session, digest, now) {
            self.fulfil(&approval).await;
            match given(session, &approval, now) {
                Some(grant) => {
                    gate.sessions.delivered(&approval);
                    return Ok(Wish::Given(grant));
                }
                // What was given is used up: this is another wish.
                None if approval.stage() == Stage::Executed => gate.sessions.delivered(&approval),
                None => return Ok(Wish::Asked(approval)),
            }
        }
        let fit = session.would_give(policy, &ask, now)?;
        let GrantMode::OnApproval(chain) = fit.mode else {
            let id = clock::grant_id(now);
            let given = gate
                .sessions
                .give(policy, session, ask, id, wisher.cause, now);
            let given = given.await?;
            gate.metrics
                .grant_made(&policy.project, GrantKind::OnRequest);
            return Ok(Wish::Given(given));
        };
        let chain = policy.chain(chain);
        let facts = facts(policy, chain, session, &ask, &fit, digest, &wisher, now);
        let held = gate.sessions.hold(session, chain, facts, wisher.cause, now);
        match held.await? {
            Held::Made(approval) | Held::Joined(approval) => Ok(Wish::Asked(approval)),
        }
    }

    /// Gives the grant that people agreed to, if that is what this approval is about and it was not given yet. To be called
    /// whenever one is found approved: whoever is first gives it. It is done when this returns, and goes on if this is dropped.
    pub async fn fulfil(&self, approval: &Arc<LiveApproval>) {
        let Asked::Grant(_) = &approval.facts.asked else {
            return;
        };
        if approval.stage() != Stage::Approved {
            return;
        }
        let (gate, own) = (Arc::clone(&self.0), Arc::clone(approval));
        let (done, over) = tokio::sync::oneshot::channel::<()>();
        self.0.errands.spawn(async move {
            gate.give_approved(&own).await;
            drop(done);
        });
        let _ = over.await;
    }
}

impl Inner {
    async fn give_approved(&self, approval: &Arc<LiveApproval>) {
        let (facts, now) = (&approval.facts, self.clock.now());
        let (Asked::Grant(asked), Some(session)) =
            (&facts.asked, self.sessions.by_id(facts.session))
        else {
            return;
        };
        let Ok(caller) = self.caller(session) else {
            return;
        };
        let (policy, session) = (&caller.ruleset.policy, &caller.session);
        let ask = || Ask {
            scope: facts.scope.clone(),
            resource: facts.resource.clone(),
            uses: Some(asked.uses),
            ttl: Some(asked.ttl),
            why: asked.why.to_string(),
        };
        // The ceiling, and those who agreed, are looked at again.
        let valid = session
            .would_give(policy, &ask(), now)
            .map_err(|why| why.to_string());
        let votes = approval.votes();
        let agreed = endorse(
            policy,
            &session.facts,
            facts,
            &votes,
            &self.approvers.load(),
        );
        if let Err(why) = valid.and(agreed.map_err(|why| why.to_string())) {
            return self.take_back(approval, &why).await;
        }
        let run = match self.sessions.begin(approval, now).await {
            Ok(run) => run,
            Err(error) => {
                tracing::debug!(approval = %facts.id, %error, "a grant is given by somebody else, or not now");
                return;
            }
        };
        let approver = votes.iter().rfind(|vote| vote.word == Word::Approve);
        let cause = approver.map_or(Cause::Gate, |vote| Cause::Principal(&vote.principal));
        let id = clock::grant_id(now);
        let given = self.sessions.give(policy, session, ask(), id, cause, now);
        let (ended, void) = match given.await {
            Ok(grant) => {
                self.metrics
                    .grant_made(&policy.project, GrantKind::OnApproval);
                let outcome = Outcome {
                    grant: Some(grant.id),
                    ..Outcome::default()
                };
                (self.sessions.finish(run, outcome, now).await, None)
            }
            Err(why) => {
                // A fault passes; what the ceiling says does not.
                let passes = matches!(why, GiveError::Store(_) | GiveError::Ledger(_));
                tracing::warn!(approval = %facts.id, %why, "a grant that people agreed to could not be given");
                let void = (!passes).then(|| why.to_string());
                (self.sessions.unsent(run, now).await, void)
            }
        };
        if let Err(error) = ended {
            tracing::error!(approval = %facts.id, %error, "what came of an approved grant is in memory only");
        }
        if let Some(why) = void {
            self.take_back(approval, &why).await;
        }
    }

    async fn take_back(&self, approval: &Arc<LiveApproval>, why: &str) {
        let now = self.clock.now();
        if let Err(error) = self
            .sessions
            .withdraw(approval, why, Cause::Gate, now)
            .await
        {
            tracing::warn!(approval = %approval.facts.id, %error, "an approval that is void could not be taken back");
        }
    }
}

/// The grant that was given, for as long as it lives.
fn given(session: &LiveSession, approval: &LiveApproval, now: Now) -> Option<Grant> {
    let id = approval.outcome()?.grant?;
    session.with_grants(|grants| {
        let live = |grant: &&Grant| grant.id == id && grant.live_at(now.tick);
        grants.iter().find(live).cloned()
    })
}

/// What makes two wishes of one session the same, as they were uttered.
fn digest(session: &LiveSession, ask: &Ask) -> RequestDigest {
    let mut text = Parted::new();
    text.part(b"toolgate wish 1");
    text.part(session.facts.id.to_string().as_bytes());
    text.part(ask.scope.as_str().as_bytes());
    // What is left out is something else than anything that can be said.
    match &ask.resource {
        None => text.number(0),
        Some(resource) => {
            text.number(1);
            text.part(resource.as_str().as_bytes());
        }
    }
    match ask.uses {
        None => text.number(0),
        Some(uses) => {
            text.number(1);
            text.part(&uses.to_be_bytes());
        }
    }
    match ask.ttl {
        None => text.number(0),
        Some(ttl) => {
            text.number(1);
            text.part(&ttl.as_nanos().to_be_bytes());
        }
    }
    text.part(ask.why.as_bytes());
    text.finish()
}

#[allow(clippy::too_many_arguments, reason = "facts are many")]
fn facts(
    policy: &Policy,
    chain: &Chain,
    session: &LiveSession,
    ask: &Ask,
    fit: &Fit,
    digest: RequestDigest,
    wisher: &Wisher<'_>,
    now: Now,
) -> Facts {
    let own = &session.facts;
    Facts {
        id: clock::approval_id(now),
        project: policy.project.clone(),
        policy: policy.hash,
        chain: chain.name.clone(),
        agent: own.agent.clone(),
        session: own.id,
        run: own.run.clone(),
        minted_by: own.minted_by.clone(),
        intent: session.intent(),
        client: wisher.client,
        request: wisher.request,
        scope: ask.scope.clone(),
        resource: ask.resource.clone(),
        asked: Asked::Grant(AskedGrant {
            uses: fit.uses,
            ttl: fit.ttl,
            why: ask.why.as_str().into(),
        }),
        digest,
        created_at: now.wall,
        expires_at: now.wall.plus(chain.expires).min(own.expires_at),
        ends: now.tick.plus(chain.expires).min(own.ends),
        denied_for: chain.denied_for,
        quorum: chain.quorum,
    }
}

/// Why nobody was asked, to the agent.
pub(in crate::gate) fn not_asked(
    why: HoldError,
    ask: (
        crate::policy::name::ScopeName,
        Option<crate::policy::resource::Resource>,
    ),
) -> Refusal {
    refused(
        why,
        Denial {
            reason: Reason::GrantMissing,
            scope: Some(ask.0),
            resource: ask.1,
        },
    )
}
