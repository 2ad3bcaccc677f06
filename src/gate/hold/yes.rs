//! A function that people must agree to: the same approval as for a request, but what it comes to is one word.
//!
//! Nothing is sent. The yes is given to one caller, once, and before it is given the approval is durably `executing` and
//! the decision in the ledger; that it is over is durable, too, before the answer leaves. Whether the function then acts,
//! and how often, its own process knows alone.

use super::redeem::Stale;
use super::request::{Parted, Request};
use super::run::{Begun, NotRun, not_begun};
use super::{Applied, Come, Gate, Preferred, Shown, Wait};
use crate::gate::Inner;
use crate::gate::record::{Caller, Entry, Wanted};
use crate::gate::refusal::Refusal;
use crate::io::metrics::GrantKind;
use crate::ledger::record::Fault;
use crate::policy::approval::{Asked, RequestDigest};
use crate::policy::decision::{GrantUse, Hold};
use crate::policy::function::METHOD;
use crate::policy::id::SessionId;
use crate::store::live::approvals::{LiveApproval, Outcome, Run};
use crate::store::live::{LiveSession, State};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What a function asks, as it is held.
#[derive(Clone, Copy)]
pub(in crate::gate) struct Question<'a> {
    /// What stands for its name.
    pub path: &'a str,
    /// All of it that is judged.
    pub text: &'a str,
    pub digest: RequestDigest,
}

impl<'a> Question<'a> {
    pub(in crate::gate) fn new(session: SessionId, path: &'a str, text: &'a str) -> Self {
        let mut parts = Parted::new();
        parts.part(b"toolgate function 1");
        parts.part(session.to_string().as_bytes());
        parts.part(path.as_bytes());
        parts.part(text.as_bytes());
        Self {
            path,
            text,
            digest: parts.finish(),
        }
    }
}

/// How long a function waits for people.
#[derive(Clone, Copy)]
pub(in crate::gate) enum Patience {
    /// As long as the agent prefers and the chain allows.
    Preferred(Preferred),
    /// Not at all: others wait behind it.
    None,
}

impl Patience {
    fn applied(self, wait: &Wait) -> Applied {
        match self {
            Patience::Preferred(preferred) => wait.applied(preferred),
            Patience::None => Applied::Neither,
        }
    }
}

/// What a function that stands under an approval comes to.
pub(in crate::gate) enum Word {
    Yes,
    /// Nobody has said anything yet; whether what the agent prefers was what ended the wait.
    Pending(Applied),
}

impl Gate {
    /// Asks people.
    pub(in crate::gate) async fn hold_function(
        &self,
        hold: Hold<'_>,
        caller: &Arc<Caller>,
        question: Question<'_>,
        entry: &Entry,
    ) -> Result<Arc<LiveApproval>, Refusal> {
        let gate = &*self.0;
        let now = gate.clock.now();
        let standing = gate
            .sessions
            .standing(&caller.session, question.digest, now);
        // Denied a moment ago, say.
        if let Some(approval) = standing {
            return Ok(approval);
        }
        let shown = Shown {
            method: METHOD,
            authority: "",
            target: question.path,
            request: Request {
                digest: question.digest,
                fields: Vec::new(),
                body: Arc::from(question.text.as_bytes()),
            },
        };
        self.ask_people(&hold, caller, shown, entry, now).await
    }

    /// What comes of a function that stands under an approval.
    pub(in crate::gate) async fn word(
        &self,
        approval: &Arc<LiveApproval>,
        caller: &Arc<Caller>,
        patience: Patience,
        entry: &mut Entry,
    ) -> Result<Word, Refusal> {
        let gate = &self.0;
        entry.hold(approval.facts.id).await?;
        let chain = gate.chain(caller, approval);
        let most = chain.map_or_else(Default::default, |chain| chain.hold);
        let span = match patience {
            Patience::Preferred(preferred) => preferred.at_most(most),
            Patience::None => Duration::ZERO,
        };
        let mut wait = Wait::begin(gate, &caller.session, approval, span);
        let mut tried = false;
        loop {
            match gate.come(caller, approval, &mut wait, tried).await? {
                Come::Approved => {
                    tried = true;
                    if let Some(begun) = given(gate, approval, caller, entry.wanted()).await? {
                        entry.ran(begun);
                        return Ok(Word::Yes);
                    }
                }
                Come::Executed => return Err(Refusal::yes_given(approval)),
                Come::Nothing => {
                    entry.pending();
                    return Ok(Word::Pending(patience.applied(&wait)));
                }
            }
        }
    }
}

/// Gives the one yes. `None`: another was faster. On a task of its own: an agent that leaves can't stop it half way.
async fn given(
    gate: &Arc<Inner>,
    approval: &Arc<LiveApproval>,
    caller: &Arc<Caller>,
    wanted: Wanted,
) -> Result<Option<Begun>, Refusal> {
    let (says, hears) = oneshot::channel();
    let giving = Giving {
        gate: Arc::clone(gate),
        approval: Arc::clone(approval),
        session: Arc::clone(&caller.session),
        wanted,
    };
    gate.errands.spawn(async move {
        // Where nobody hears it the agent has left: it was given all the same.
        let _ = says.send(giving.give().await);
    });
    match hears.await {
        Ok(given) => given,
        // It panicked; if it had begun, the approval says that nobody knows.
        Err(_) => Err(Refusal::internal()),
    }
}

struct Giving {
    gate: Arc<Inner>,
    approval: Arc<LiveApproval>,
    session: Arc<LiveSession>,
    wanted: Wanted,
}

impl Giving {
    async fn give(self) -> Result<Option<Begun>, Refusal> {
        let (gate, approval) = (&self.gate, &self.approval);
        let Asked::Call(call) = &approval.facts.asked else {
            return Err(Refusal::internal());
        };
        let now = gate.clock.now();
        // Under the policy in force now: the session, the ceiling, the route and those who agreed are looked at again.
        let caller = &gate.caller(Arc::clone(&self.session))?;
        let kept = &match Inner::kept(caller, call) {
            Ok(kept) => kept,
            Err(stale) => return Err(self.stale(stale).await),
        };
        let redeemed = match gate.redeem(caller, approval, call, kept, now) {
            Ok(redeemed) => redeemed,
            Err(stale) => return Err(self.stale(stale).await),
        };
        let (route, grant) = (redeemed.evidence.route(), redeemed.evidence.grant());
        let paid = gate.pay(caller, route, now).await?;
        // Durable, with the use of a stored grant, and given to one.
        let run = match gate.sessions.begin(approval, now).await {
            Ok(run) => run,
            Err(error) => {
                paid.back(caller, route);
                return match not_begun(error) {
                    NotRun::Late => Ok(None),
                    NotRun::Refused(refusal) | NotRun::Failed(refusal, _) => Err(refusal),
                };
            }
        };
        // In the ledger before it is said.
        let place = (redeemed.tool, redeemed.route);
        let record = self
            .wanted
            .allow(gate, caller, &redeemed.evidence, place)
            .await;
        let refused = match (record, self.session.state(gate.clock.tick())) {
            (Err(_), _) => Some(Refusal::ledger_unavailable()),
            (Ok(()), State::Live) => None,
            (Ok(()), ended) => Some(Refusal::of_state(ended).after(Fault::SessionEnded)),
        };
        if let Some(refusal) = refused {
            paid.back(caller, route);
            return Err(self.unsaid(run, refusal).await);
        }
        if grant == GrantUse::OnUse {
            let project = &caller.ruleset.policy.project;
            gate.metrics.grant_made(project, GrantKind::OnUse);
        }
        self.over(run).await;
        Ok(Some(Begun {
            at: now.tick,
            sent: None,
            answered: None,
            cost_micros: paid.micros,
            grant,
        }))
    }

    async fn stale(&self, stale: Stale) -> Refusal {
        self.gate.refuse_stale(&self.approval, stale).await
    }

    /// Nobody was told: it is approved still, or ends with its session.
    async fn unsaid(&self, run: Run, refusal: Refusal) -> Refusal {
        let now = self.gate.clock.now();
        if let Err(error) = self.gate.sessions.unsent(run, now).await {
            tracing::error!(approval = %self.approval.facts.id, %error, "a yes that was not given can't be given again");
            return Refusal::outcome_unknown(&self.approval);
        }
        refusal
    }

    /// It is executed, and the same question is a new one.
    async fn over(&self, run: Run) {
        let sessions = &self.gate.sessions;
        let outcome = Outcome {
            status: None,
            fields: Vec::new(),
            body: None,
            grant: None,
        };
        if let Err(error) = sessions.finish(run, outcome, self.gate.clock.now()).await {
            tracing::error!(approval = %self.approval.facts.id, %error, "that a yes was given is in memory only");
        }
        sessions.delivered(&self.approval);
    }
}
