//! The one run of an approved call: a task of its own, so that how it ends is learnt whether or not the agent stays.
//!
//! The order is the argument. The request is judged anew; its money is spent; the step to `executing` is durable; the
//! decision is in the ledger; only then is a connection opened and the kept request written to it, once. The outcome is
//! durable before the agent gets the last byte of the answer: who has the whole of it is never told another time.
//!
//! The answer streams to the agent at the agent's pace. If the agent leaves, the rest is read within the tool's timeout and
//! up to [`KEPT_BYTES_MAX`], for its retry.
//!
//! It is long because the order of all this is one argument, and is read in one piece.

use super::Arrival;
use super::answer::{HeldBody, Piece, Taken};
use super::redeem::{Kept, Stale};
use crate::gate::fields::{self, Trust};
use crate::gate::forward::{Outbound, SendFault, Unsettled, UpstreamBody, send_held};
use crate::gate::record::{Content, Entry, Wanted};
use crate::gate::refusal::Refusal;
use crate::gate::{Channel, Inner, Line, Sequel};
use crate::io::metrics::GrantKind;
use crate::io::sweep::{self, Guard};
use crate::io::upstream::Owner;
use crate::ledger::record::Fault;
use crate::policy::approval::{Asked, Field, KEPT_BYTES_MAX};
use crate::policy::decision::GrantUse;
use crate::policy::time::Tick;
use crate::store::live::approvals::{LiveApproval, Outcome, Run, VoteError};
use crate::store::live::{LiveSession, State};
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Method, Response};
use http_body::Body as _;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

/// The tasks that learn how approved calls end.
pub(in crate::gate) struct Errands {
    /// Where they run; `None`: where they begin.
    runtime: Option<Handle>,
    under_way: watch::Sender<usize>,
}

impl Errands {
    pub fn new(runtime: Option<Handle>) -> Self {
        Self {
            runtime,
            under_way: watch::Sender::new(0),
        }
    }

    /// Runs one to its end, whoever waits for it.
    pub fn spawn(&self, errand: impl Future<Output = ()> + Send + 'static) {
        struct UnderWay(watch::Sender<usize>);
        impl Drop for UnderWay {
            fn drop(&mut self) {
                self.0.send_modify(|under_way| *under_way -= 1);
            }
        }
        self.under_way.send_modify(|under_way| *under_way += 1);
        let under_way = UnderWay(self.under_way.clone());
        // A block that takes a future has room for it twice.
        let errand = Box::pin(errand);
        let errand = async move {
            let _under_way = under_way;
            errand.await;
        };
        match &self.runtime {
            Some(runtime) => drop(runtime.spawn(errand)),
            None => drop(tokio::spawn(errand)),
        }
    }

    /// Resolves when none is under way.
    pub async fn over(&self) {
        let mut under_way = self.under_way.subscribe();
        let _ = under_way.wait_for(|under_way| *under_way == 0).await;
    }
}

/// What the agent that waits is told.
enum Said {
    Answer(Box<(Parts, HeldBody, Begun)>),
    /// Another was faster.
    Late,
    /// Nothing was sent, or nobody can say what came of it.
    Refused(Refusal, Option<Begun>),
}

/// What is known of a run for the record of the request that began it.
#[derive(Clone, Copy)]
pub(in crate::gate) struct Begun {
    pub at: Tick,
    /// When it left, and when its answer began.
    pub sent: Option<Tick>,
    pub answered: Option<Tick>,
    pub cost_micros: Option<u64>,
    pub grant: GrantUse,
}

/// Runs what people agreed to. `None`: another was faster.
pub(super) async fn run(
    gate: &Arc<Inner>,
    approval: &Arc<LiveApproval>,
    arrival: Arrival<'_>,
    entry: &mut Entry,
) -> Result<Option<Response<Sequel>>, Refusal> {
    let (says, hears) = oneshot::channel();
    let errand = Errand {
        gate: Arc::clone(gate),
        approval: Arc::clone(approval),
        session: Arc::clone(&arrival.caller.session),
        wanted: entry.wanted(),
        channel: arrival.peer.channel,
        line: arrival.peer.line.clone(),
    };
    gate.errands.spawn(errand.run(says));
    match hears.await {
        Ok(Said::Answer(answer)) => {
            let (head, body, begun) = *answer;
            entry.ran(begun);
            Ok(Some(Response::from_parts(
                head,
                Sequel::Body(Content::Held(Box::new(body))),
            )))
        }
        Ok(Said::Late) => Ok(None),
        Ok(Said::Refused(refusal, begun)) => {
            if let Some(begun) = begun {
                entry.ran(begun);
            }
            Err(refusal)
        }
        // It panicked; if it had begun, the approval says that nobody knows.
        Err(_) => Err(Refusal::internal()),
    }
}

/// One run, and all it needs.
struct Errand {
    gate: Arc<Inner>,
    approval: Arc<LiveApproval>,
    session: Arc<LiveSession>,
    wanted: Wanted,
    channel: Channel,
    line: Option<Arc<Line>>,
}

/// A run that has an answer.
struct Answered {
    run: Run,
    response: Response<UpstreamBody>,
    begun: Begun,
    timeout: Duration,
}

/// Why a run has none.
pub(super) enum NotRun {
    Late,
    Refused(Refusal),
    Failed(Refusal, Begun),
}

impl From<Refusal> for NotRun {
    fn from(refusal: Refusal) -> Self {
        NotRun::Refused(refusal)
    }
}

impl Errand {
    async fn run(self, says: oneshot::Sender<Said>) {
        // Where nobody hears it the agent has left: what there is to know is with the approval.
        let _ = match self.call().await {
            Ok(answered) => return self.learn(answered, says).await,
            Err(NotRun::Late) => says.send(Said::Late),
            Err(NotRun::Refused(refusal)) => says.send(Said::Refused(refusal, None)),
            Err(NotRun::Failed(refusal, begun)) => says.send(Said::Refused(refusal, Some(begun))),
        };
    }

    /// Everything up to the answer's head.
    async fn call(&self) -> Result<Answered, NotRun> {
        let (gate, approval) = (&self.gate, &self.approval);
        let Asked::Call(call) = &approval.facts.asked else {
            return Err(Refusal::internal().into());
        };
        let now = gate.clock.now();
        // Under the policy in force now, which may not be that of the call that waits.
        let caller = &gate.caller(Arc::clone(&self.session))?;
        let kept = &match Inner::kept(caller, call) {
            Ok(kept) => kept,
            Err(stale) => return Err(self.stale(stale).await),
        };
        let (Kept::Request(target) | Kept::Message(target, _)) = kept else {
            // Nothing is sent for a function.
            return Err(Refusal::internal().into());
        };
        // The session, the ceiling, the route and those who agreed are looked at again.
        let redeemed = match gate.redeem(caller, approval, call, kept, now) {
            Ok(redeemed) => redeemed,
            Err(stale) => return Err(self.stale(stale).await),
        };
        let (route, grant) = (redeemed.evidence.route(), redeemed.evidence.grant());
        // Money for what runs, and for nothing else.
        let paid = gate.pay(caller, route, now).await?;
        // Durable, with the use of a stored grant, and given to one.
        let run = match gate.sessions.begin(approval, now).await {
            Ok(run) => run,
            Err(error) => {
                paid.back(caller, route);
                return Err(not_begun(error));
            }
        };
        // In the ledger before a byte leaves.
        let record = self.wanted.allow(
            gate,
            caller,
            &redeemed.evidence,
            (redeemed.tool, redeemed.route),
        );
        if record.await.is_err() {
            return Err(self.unsent(run, Refusal::ledger_unavailable()).await);
        }
        if grant == GrantUse::OnUse {
            let project = &caller.ruleset.policy.project;
            gate.metrics.grant_made(project, GrantKind::OnUse);
        }
        let mut begun = Begun {
            at: now.tick,
            sent: Some(gate.clock.tick()),
            answered: None,
            cost_micros: paid.micros,
            grant,
        };
        let outfit = caller.ruleset.outfit(redeemed.tool);
        let headers = fields::again(&call.fields);
        let method = Method::from_bytes(call.method.as_bytes()).map_err(|_| Refusal::internal())?;
        let outbound = Outbound {
            outfit,
            method: &method,
            headers: &headers,
            path: redeemed.path,
            query: target.query(),
            authority: &call.authority,
            peer: approval.facts.client,
            channel: self.channel,
            trust: Trust::Agent,
            session: self.session.clone(),
            owner: Owner(self.session.facts.id),
            clock: &gate.clock,
            trace: self.wanted.context,
            line: None,
        };
        let timeout = outfit.timeout();
        let body = Bytes::from_owner(Arc::clone(&call.body));
        // The session is looked at once more before the first byte.
        let sent = send_held(redeemed.evidence, outbound, body).await;
        begun.answered = Some(gate.clock.tick());
        match sent {
            Ok(response) => {
                let charged = gate.charge_reported(caller, route, response.headers());
                begun.cost_micros = begun.cost_micros.or(charged);
                Ok(Answered {
                    run,
                    response,
                    begun,
                    timeout,
                })
            }
            Err(Unsettled::Unsent(fault)) => {
                paid.back(caller, route);
                begun.cost_micros = None;
                let refusal = self.unsent(run, self.not_sent(fault)).await;
                match refusal {
                    NotRun::Refused(refusal) => Err(NotRun::Failed(refusal, begun)),
                    other => Err(other),
                }
            }
            Err(Unsettled::Unknown(fault)) => {
                // Says of itself that nobody knows.
                drop(run);
                let refusal = Refusal::outcome_unknown(approval).after(fault.record());
                Err(NotRun::Failed(refusal, begun))
            }
        }
    }

    async fn stale(&self, stale: Stale) -> NotRun {
        NotRun::Refused(self.gate.refuse_stale(&self.approval, stale).await)
    }

    /// It is approved still, and runs on a retry.
    async fn unsent(&self, run: Run, refusal: Refusal) -> NotRun {
        let now = self.gate.clock.now();
        if let Err(error) = self.gate.sessions.unsent(run, now).await {
            tracing::error!(approval = %self.approval.facts.id, %error, "an approved call that was not sent can't be made again");
            return NotRun::Refused(Refusal::outcome_unknown(&self.approval));
        }
        NotRun::Refused(refusal)
    }

    fn not_sent(&self, fault: SendFault) -> Refusal {
        let state = self.session.state(self.gate.clock.tick());
        match (fault, state) {
            (SendFault::SessionEnded, State::Quarantined | State::Ended) => {
                Refusal::of_state(state).after(Fault::SessionEnded)
            }
            _ => Refusal::not_sent(fault, &self.approval),
        }
    }

    /// Carries the answer to the agent and learns how it ends.
    async fn learn(self, answered: Answered, says: oneshot::Sender<Said>) {
        let Answered {
            run,
            response,
            begun,
            timeout,
        } = answered;
        let (head, mut body) = response.into_parts();
        let mut outcome = Learning::new(&self.gate, run, &head);
        let mut over = body.is_end_stream();
        if over {
            outcome.finish().await;
        }
        let (pieces, received) = mpsc::channel(1);
        let taken = Taken::new(&self.gate, &self.approval, self.line.clone());
        let held = HeldBody::streamed(
            &self.gate,
            &self.session,
            received,
            (!over).then(|| body.size_hint().exact()),
            taken,
        );
        let told = says
            .send(Said::Answer(Box::new((head, held, begun))))
            .is_ok();
        let mut pieces = told.then_some(pieces);
        let guard = sweep::here(&self.gate.clock).guard(None, timeout);
        if pieces.is_none() {
            guard.arm();
        }
        while !over {
            let piece = match next(&mut body, &mut pieces, &guard).await {
                Next::Left => {
                    guard.arm();
                    continue;
                }
                // Who waits no longer does not wait for ever.
                Next::TooSlow => break,
                Next::Frame(Some(Ok(frame))) => {
                    outcome.keep(&frame);
                    over = body.is_end_stream();
                    Piece::Frame(frame, over)
                }
                Next::Frame(Some(Err(fault))) => {
                    outcome.forget();
                    over = true;
                    Piece::Broke(fault)
                }
                Next::Frame(None) => {
                    over = true;
                    Piece::End
                }
            };
            if over || outcome.is_too_long() {
                // Before the agent has the last of it.
                outcome.finish().await;
            }
            let left = match &pieces {
                Some(to_agent) => to_agent.send(piece).await.is_err(),
                None if outcome.is_too_long() => break,
                None => false,
            };
            if left {
                pieces = None;
                guard.arm();
            }
        }
        if !over {
            outcome.forget();
        }
        outcome.finish().await;
    }
}

/// What comes next of an answer.
enum Next {
    Frame(Option<Result<http_body::Frame<Bytes>, crate::gate::forward::StreamFault>>),
    Left,
    TooSlow,
}

async fn next(
    body: &mut UpstreamBody,
    pieces: &mut Option<mpsc::Sender<Piece>>,
    guard: &Guard,
) -> Next {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
    match pieces {
        Some(to_agent) => {
            let left = tokio::select! {
                biased;
                frame = frame => return Next::Frame(frame),
                () = to_agent.closed() => Next::Left,
            };
            *pieces = None;
            left
        }
        None => match guard.watch(frame).await {
            Ok(frame) => Next::Frame(frame),
            Err(_) => Next::TooSlow,
        },
    }
}

pub(super) fn not_begun(error: VoteError) -> NotRun {
    match error {
        VoteError::Store(fault) => {
            tracing::error!(%fault, "the beginning of an approved call could not be made durable; it was not made");
            NotRun::Refused(Refusal::store_unavailable())
        }
        VoteError::Ledger(_) => NotRun::Refused(Refusal::ledger_unavailable()),
        VoteError::Late(_)
        | VoteError::Changed
        | VoteError::OtherWord
        | VoteError::NotApprover
        | VoteError::Note
        | VoteError::Minter => NotRun::Late,
    }
}

/// An outcome as it becomes known.
struct Learning<'g> {
    gate: &'g Inner,
    /// Until it is said how it ended.
    run: Option<Run>,
    status: u16,
    fields: Vec<Field>,
    /// `None`: not to be kept.
    body: Option<Vec<u8>>,
    read: usize,
}

impl<'g> Learning<'g> {
    fn new(gate: &'g Inner, run: Run, head: &Parts) -> Self {
        Self {
            gate,
            run: Some(run),
            status: head.status.as_u16(),
            fields: kept_fields(&head.headers),
            body: Some(Vec::new()),
            read: 0,
        }
    }

    fn keep(&mut self, frame: &http_body::Frame<Bytes>) {
        let Some(chunk) = frame.data_ref() else {
            // An answer without its trailers is not the same answer.
            self.forget();
            return;
        };
        self.read = self.read.saturating_add(chunk.len());
        if self.is_too_long() {
            self.forget();
        } else if let Some(body) = &mut self.body {
            body.extend_from_slice(chunk);
        }
    }

    fn forget(&mut self) {
        self.body = None;
        self.fields = Vec::new();
    }

    fn is_too_long(&self) -> bool {
        self.read > KEPT_BYTES_MAX
    }

    /// Says how it ended. The first time counts.
    async fn finish(&mut self) {
        let Some(run) = self.run.take() else {
            return;
        };
        let id = run.approval().facts.id;
        let outcome = Outcome {
            status: Some(self.status),
            fields: std::mem::take(&mut self.fields),
            body: self.body.take().map(Arc::from),
            grant: None,
        };
        let now = self.gate.clock.now();
        if let Err(error) = self.gate.sessions.finish(run, outcome, now).await {
            tracing::error!(approval = %id, %error, "the outcome of an approved call is in memory only");
        }
    }
}

fn kept_fields(headers: &HeaderMap) -> Vec<Field> {
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| Field {
        name: name.as_str().into(),
        value: value.as_bytes().into(),
    };
    headers.iter().map(field).collect()
}
