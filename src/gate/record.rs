//! Steps 7 and 9: what is written down about a call, before a byte leaves and after its last.
//!
//! An [`Entry`] opens with the request and gathers what becomes known of it. It commits one decision and settles exactly
//! once: at the end of the answer's body, on a fault of the stream, or when it is dropped because the agent left. Metrics
//! observe the same facts at the same moment. It refuses to decide anything. It is long because all that becomes known of a
//! call, by whatever way it came, is gathered in this one place.

use crate::gate::body::Meter;
use crate::gate::forward::upgrade::Ended;
use crate::gate::hold::Begun;
use crate::gate::limit::{RATELIMIT, RATELIMIT_POLICY};
use crate::gate::mcp::Asked;
use crate::gate::refusal::Refusal;
use crate::gate::ruleset::{RouteLimits, Ruleset};
use crate::gate::{Channel, Inner, Sequel, describe, intent, respond};
use crate::io::clock;
use crate::io::metrics::{Decided, GrantKind};
use crate::io::sweep;
use crate::ledger::record::{
    BodyDigest, DecisionRecord, Fault, FrameCounts, OutcomeRecord, Verdict,
};
use crate::ledger::{Level, Slot, Unavailable};
use crate::policy::decision::{Evidence, GrantUse, Reason};
use crate::policy::function::METHOD;
use crate::policy::id::{ApprovalId, RequestId};
use crate::policy::limit::{Cells, Exceedance};
use crate::policy::model::{RouteIndex, ToolIndex};
use crate::policy::name::{LimitId, ScopeName};
use crate::policy::resource::Resource;
use crate::policy::shadow::WouldBe;
use crate::policy::target::Target;
use crate::policy::time::{Now, Tick};
use crate::store::live::LiveSession;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderName, HeaderValue, Method, Response};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

mod reply;
mod traced;
mod wanted;

pub(super) use reply::Content;
pub use reply::ReplyBody;
use traced::Traced;
pub(super) use wanted::Wanted;

/// One call, from its head to its last byte.
pub(super) struct Entry {
    gate: Arc<Inner>,
    id: RequestId,
    pub opened: Now,
    pub client: IpAddr,
    pub meter: Arc<Meter>,
    method: Method,
    pub trace: Option<Box<str>>,
    /// Where spans are made: what theirs will need.
    traced: Option<Box<Traced>>,
    pub caller: Option<Arc<Caller>>,
    /// As recorded: canonical, or the raw one made printable.
    pub target: Box<str>,
    pub intent: Option<Arc<str>>,
    pub tool: Option<ToolIndex>,
    pub route: Option<RouteIndex>,
    pub resource: Option<Resource>,
    /// Asked for, where no route says which.
    scope: Option<ScopeName>,
    pub body: Option<BodyDigest>,
    limit: Option<LimitId>,
    decided: Option<(Decided, Tick)>,
    reason: Option<Reason>,
    slot: Option<Slot>,
    grant: Option<GrantUse>,
    /// What would have been decided: it passes because its route is in shadow.
    shadow: Option<WouldBe>,
    /// What it waits for, or runs by the word of.
    approval: Option<ApprovalId>,
    /// Since when it waits for people, and for how long it did.
    held: Option<Tick>,
    hold_micros: Option<u64>,
    sent: Option<Tick>,
    upstream_micros: Option<u64>,
    cost_micros: Option<u64>,
    /// A limit that the reported cost exceeded: the session goes into quarantine once the call is over.
    trip: Option<Exceedance>,
    status: Option<u16>,
    fault: Option<Fault>,
    frames: Option<FrameCounts>,
    /// Of a message of MCP: what is asked and how it is answered.
    pub asked: Option<Box<Asked>>,
    /// It belongs to the tool's protocol itself.
    protocol: bool,
    settled: bool,
}

/// A session that is known, the ruleset it lives in, and its own counters under it.
pub(super) struct Caller {
    pub session: Arc<LiveSession>,
    pub ruleset: Arc<Ruleset>,
    pub cells: Arc<Cells>,
}

impl Entry {
    pub(super) fn open(
        gate: Arc<Inner>,
        head: &http::request::Parts,
        client: IpAddr,
        channel: Channel,
    ) -> Box<Self> {
        let telemetry = gate.settings.telemetry.as_ref();
        let traced = telemetry.map(|telemetry| Traced::open(telemetry, head, channel));
        let mut entry = Self::fresh(gate, client, head.method.clone());
        entry.trace = match &traced {
            Some(traced) => Some(traced.context.trace.to_string().into()),
            None => describe::trace_id(&head.headers),
        };
        entry.traced = traced;
        entry
    }

    /// Of a call of which nothing is known yet but where it comes from.
    fn fresh(gate: Arc<Inner>, client: IpAddr, method: Method) -> Box<Self> {
        let opened = gate.clock.now();
        Box::new(Self {
            gate,
            id: clock::request_id(opened),
            opened,
            client,
            meter: Arc::default(),
            method,
            trace: None,
            traced: None,
            caller: None,
            target: Box::default(),
            intent: None,
            tool: None,
            route: None,
            resource: None,
            scope: None,
            body: None,
            limit: None,
            decided: None,
            reason: None,
            slot: None,
            grant: None,
            shadow: None,
            approval: None,
            held: None,
            hold_micros: None,
            sent: None,
            upstream_micros: None,
            cost_micros: None,
            trip: None,
            status: None,
            fault: None,
            frames: None,
            asked: None,
            protocol: false,
            settled: false,
        })
    }

    /// Of what came from `client` and could not be read.
    pub(super) fn unread(gate: Arc<Inner>, client: IpAddr) -> Box<Self> {
        Self::fresh(gate, client, Method::GET)
    }

    /// What is said of it. Nothing of it is on record but that it was refused.
    pub(super) fn refuse_unread(&mut self, refusal: Refusal) -> Response<Bytes> {
        self.reason = Some(refusal.reason());
        self.decided = Some((Decided::Deny, self.gate.clock.tick()));
        let mut response = respond::refused(refusal, self);
        self.status = Some(response.status().as_u16());
        // The connection says itself that it closes.
        response.headers_mut().remove(CONNECTION);
        if let Ok(id) = HeaderValue::from_str(&self.id.to_string()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        self.settle(None);
        response
    }

    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    /// Of another call that the same request is about: with an id and records of its own.
    pub(super) fn beside(&self) -> Box<Self> {
        let mut entry = Self::fresh(Arc::clone(&self.gate), self.client, self.method.clone());
        entry.trace.clone_from(&self.trace);
        entry.caller.clone_from(&self.caller);
        entry.target.clone_from(&self.target);
        entry.intent.clone_from(&self.intent);
        entry
    }

    /// It is a function that is asked about: on record by its name; by what is asked, once that is written out.
    pub(super) fn asks(&mut self, path: &str) {
        self.method = CALLED.clone();
        self.target = describe::recorded(path).into();
    }

    /// Its answer is part of another's, which is on its way.
    pub(super) fn over(&mut self) {
        self.status = Some(http::StatusCode::OK.as_u16());
        self.settle(None);
    }

    /// The caller is known: from here on everything about the call is on record. Gives the intent that is stated for it.
    pub(super) fn identify(
        &mut self,
        caller: &Arc<Caller>,
        head: &http::request::Parts,
        target: &Result<Target, Refusal>,
    ) -> Result<Option<Arc<str>>, Refusal> {
        self.caller = Some(Arc::clone(caller));
        self.target = match target {
            Ok(target) => describe::recorded(target.as_str()).into(),
            Err(_) => describe::recorded(&describe::raw_target(head)).into(),
        };
        if let (Some(traced), Ok(target)) = (&mut self.traced, target) {
            traced.asked_of(target.authority());
        }
        let stated =
            intent::of_call(&head.headers).map(|intent| intent.or_else(|| caller.session.intent()));
        self.intent = stated.as_ref().ok().cloned().flatten();
        stated
    }

    /// The matched route's id.
    pub(super) fn route_id(&self) -> Option<&str> {
        let caller = self.caller.as_ref()?;
        Some(caller.ruleset.policy.route(self.route?).id.as_str())
    }

    /// The call may be forwarded once this returns `Ok`, and not before. What passes in shadow goes on no grant.
    pub(super) async fn allow(
        &mut self,
        evidence: &Evidence<'_>,
        level: Level,
    ) -> Result<(), Refusal> {
        let grant = evidence.grant();
        self.shadow = evidence.would();
        self.protocol = matches!(evidence, Evidence::Protocol(_));
        self.commit(Verdict::Allow, grant, level)
            .await
            .map_err(|Unavailable| Refusal::ledger_unavailable())?;
        self.decided = Some((Decided::Allow, self.gate.clock.tick()));
        self.grant = grant;
        if grant == Some(GrantUse::OnUse)
            && let Some(caller) = &self.caller
        {
            self.gate
                .metrics
                .grant_made(&caller.ruleset.policy.project, GrantKind::OnUse);
        }
        Ok(())
    }

    /// Whether it passes because its route is in shadow.
    pub(super) fn shadowed(&self) -> bool {
        self.shadow.is_some()
    }

    /// The limit that was exceeded.
    pub(super) fn limited(&mut self, limit: Option<&LimitId>) {
        self.limit = limit.cloned();
    }

    /// Writes a refusal down before it is said. Where the ledger does not take it, that is what is said instead.
    pub(super) async fn deny(&mut self, refusal: Refusal) -> Refusal {
        self.reason = Some(refusal.reason());
        if self.slot.is_some() && self.fault == Some(Fault::LedgerLate) {
            // Its decision may yet be written. That nothing was sent is the outcome's to say.
            self.decided = Some((Decided::Deny, self.gate.clock.tick()));
            return refusal;
        }
        self.fault = refusal.fault();
        match self.decided {
            // It was allowed and recorded as such: what went wrong afterwards is the outcome's to say.
            Some((Decided::Allow | Decided::Own | Decided::Deny, _)) => return refusal,
            Some((Decided::Hold, _)) => self.waited(),
            None => {}
        }
        self.limit = refusal.limit().cloned();
        if self.route.is_none() {
            (self.scope, self.resource) = refusal.subject();
        }
        self.decided = Some((Decided::Deny, self.gate.clock.tick()));
        if self.caller.is_none() {
            let now = self.gate.clock.tick();
            self.gate.count_stranger(refusal.reason(), self.client, now);
            return refusal;
        }
        match self.commit(Verdict::Deny, None, Level::Written).await {
            Ok(()) => refusal,
            Err(Unavailable) => {
                let unrecorded = Refusal::ledger_unavailable();
                self.reason = Some(unrecorded.reason());
                unrecorded
            }
        }
    }

    /// On record: it stands under an approval.
    pub(super) async fn hold(&mut self, approval: ApprovalId) -> Result<(), Refusal> {
        self.approval = Some(approval);
        self.commit(Verdict::Hold, None, Level::Written)
            .await
            .map_err(|Unavailable| Refusal::ledger_unavailable())?;
        let now = self.gate.clock.tick();
        self.decided = Some((Decided::Hold, now));
        self.held = Some(now);
        Ok(())
    }

    /// It is told to come again.
    pub(super) fn pending(&mut self) {
        self.waited();
        self.reason = Some(Reason::PendingApproval);
    }

    /// What people agreed to ran by this call, which is on record.
    pub(super) fn ran(&mut self, begun: Begun) {
        self.hold_micros = self.held.map(|held| micros(begun.at, held));
        let at = self.decided.map_or(self.opened.tick, |(_, at)| at);
        self.decided = Some((Decided::Allow, at));
        self.cost_micros = begun.cost_micros;
        (self.sent, self.grant) = (begun.sent, Some(begun.grant));
        if let (Some(sent), Some(answered)) = (begun.sent, begun.answered) {
            self.upstream_micros = Some(micros(answered, sent));
        }
    }

    fn waited(&mut self) {
        let now = self.gate.clock.tick();
        self.hold_micros = self.held.map(|held| micros(now, held));
    }

    /// What a record of it says that is known before it is decided.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            request: self.id,
            time: self.opened.wall,
            trace: self.trace.clone(),
            context: self.context(),
            intent: self.intent.clone(),
            method: self.method.clone(),
            target: self.target.clone(),
            call: self
                .asked
                .as_ref()
                .and_then(|asked| asked.call())
                .map(Into::into),
            client: self.client,
            body: self.body,
        }
    }

    /// One of the gate's own answers: what it changed was recorded where it was changed.
    pub(super) fn own(
        &mut self,
        answer: Result<Response<Bytes>, Refusal>,
    ) -> Result<Response<Sequel>, Refusal> {
        let answer = answer?;
        self.decided = Some((Decided::Own, self.gate.clock.tick()));
        Ok(answer.map(|own| Sequel::Body(Content::Own(own))))
    }

    async fn commit(
        &mut self,
        decision: Verdict,
        grant: Option<GrantUse>,
        level: Level,
    ) -> Result<(), Unavailable> {
        let caller = self.caller.as_ref().ok_or(Unavailable)?;
        let (policy, facts) = (&caller.ruleset.policy, &caller.session.facts);
        let route = self.route.map(|index| caller.ruleset.policy.route(index));
        let tool = self.tool.map(|index| caller.ruleset.policy.tool(index));
        let record = DecisionRecord {
            request: self.id,
            time: self.opened.wall,
            trace: self.trace.as_deref(),
            project: &policy.project,
            policy: policy.hash,
            agent: &facts.agent,
            session: facts.id,
            run: facts.run.as_deref(),
            intent: self.intent.as_deref(),
            tool: tool.map(|tool| &tool.name),
            route: route.map(|route| &route.id),
            method: self.method.as_str(),
            target: &self.target,
            call: self.asked.as_ref().and_then(|asked| asked.call()),
            protocol: self.protocol,
            record_query: tool.map_or(&[], |tool| &tool.record_query),
            scope: route.map(|route| &route.scope).or(self.scope.as_ref()),
            resource: self.resource.as_ref(),
            decision,
            reason: self.reason,
            grant,
            shadow: self.shadow,
            approval: self.approval,
            limit: self.limit.as_ref(),
            client: self.client,
            body: self.body,
        };
        // The slot is kept before the wait: if the agent leaves during it, the drop settles what was queued.
        let slot = self.slot.insert(self.gate.ledger.reserve()?);
        let mut ack = slot.decide(&record, level);
        let patience = sweep::here(&self.gate.clock).guard(None, LEDGER_PATIENCE);
        patience.arm();
        match patience.watch(&mut ack).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Unavailable)) => {
                self.slot = None;
                Err(Unavailable)
            }
            // Kept here too: what was queued gets its outcome.
            Err(_) => {
                ack.late();
                self.fault = Some(Fault::LedgerLate);
                Err(Unavailable)
            }
        }
    }

    /// The call is on its way to the backend.
    pub(super) fn sent(&mut self) {
        self.sent = Some(self.gate.clock.tick());
    }

    /// The backend's head is there, or will not come.
    pub(super) fn answered(&mut self) {
        let now = self.gate.clock.tick();
        self.upstream_micros = self.sent.map(|sent| micros(now, sent));
    }

    /// What the call cost, and the limit that trips for it.
    pub(super) fn cost(&mut self, micros: u64, trip: Option<Exceedance>) {
        self.cost_micros = Some(micros);
        self.trip = trip;
    }

    /// The answer wanted to report a cost and did not.
    pub(super) fn cost_unreadable(&mut self) {
        self.fault = Some(Fault::CostUnreadable);
    }

    /// The answer's head is about to be sent: every answer carries the id, those to a known session what is left of its
    /// limits.
    pub(super) fn answer(&mut self, response: &mut Response<Sequel>) {
        self.status = Some(response.status().as_u16());
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&self.id.to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        let Some(caller) = &self.caller else {
            return;
        };
        let limits: &RouteLimits = caller.ruleset.limits(self.route);
        if let Some(policy_field) = &limits.policy_field {
            // Appended: both are lists, and a backend may have limits of its own to tell of.
            headers.append(RATELIMIT_POLICY, policy_field.clone());
            // As of the decision, which counted it: asking the clock again would say nothing newer.
            let now = self.decided.map_or(self.opened.tick, |(_, at)| at);
            if let Some(field) = caller.ratelimit(&limits.shown, now) {
                headers.append(RATELIMIT, field);
            }
        }
    }

    /// The tunnel that the call became is over.
    pub(super) fn closed(&mut self, ended: Ended) {
        self.frames = Some(ended.frames);
        self.settle(ended.fault);
    }

    /// The call is over. The first time counts.
    fn settle(&mut self, ended: Option<Fault>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let now = self.gate.clock.now();
        let took = Took {
            total: micros(now.tick, self.opened.tick),
            decision: self.decided.map(|(_, at)| micros(at, self.opened.tick)),
        };
        let fault = ended.or(self.fault);
        if let (Some(slot), Some(caller)) = (self.slot.take(), &self.caller) {
            slot.settle(&OutcomeRecord {
                request: self.id,
                time: now.wall,
                project: &caller.ruleset.policy.project,
                session: caller.session.facts.id,
                status: self.status,
                bytes_in: self.meter.bytes_in(),
                bytes_out: self.meter.bytes_out(),
                decision_micros: took.decision.unwrap_or(took.total),
                hold_micros: self.hold_micros,
                upstream_micros: self.upstream_micros,
                total_micros: took.total,
                cost_micros: self.cost_micros,
                fault,
                frames: self.frames,
            });
        }
        self.observe(&took);
        self.trace(&took, fault);
        if let (Some(trip), Some(caller)) = (self.trip.take(), self.caller.take()) {
            Inner::quarantine_after(&self.gate, caller, trip);
        }
    }

    fn observe(&self, took: &Took) {
        let metrics = &self.gate.metrics;
        metrics.request_took(took.total);
        let (Some((decided, _)), Some(micros)) = (self.decided, took.decision) else {
            return;
        };
        metrics.decision_took(micros);
        let Some(caller) = &self.caller else {
            metrics.not_forwarded("", "", "", decided, self.reason);
            return;
        };
        let (ruleset, handles) = (&caller.ruleset, &caller.ruleset.metrics);
        let tool = self.tool.map(|tool| tool.0 as usize);
        match (decided, self.reason, self.route, tool) {
            (Decided::Allow, None, Some(route), _) => handles.allowed[route.0 as usize].inc(),
            _ => metrics.not_forwarded(
                ruleset.policy.project.as_str(),
                self.tool
                    .map_or("", |tool| ruleset.policy.tool(tool).name.as_str()),
                self.route_id().unwrap_or_default(),
                decided,
                self.reason,
            ),
        }
        if let (Decided::Allow, Some(would)) = (decided, self.shadow) {
            let route = self.route_id().unwrap_or_default();
            metrics.let_pass(&ruleset.policy.project, route, would.reason());
        }
        if let Some(tool) = tool.map(|tool| &handles.tools[tool]) {
            if let (Some(status), Some(micros)) = (self.status, self.upstream_micros) {
                tool.answered(status, micros);
            }
            if let Some(cost) = self.cost_micros {
                tool.cost(cost);
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // No body was ever given to the connection: the agent went away while the call was under way.
        self.settle(Some(Fault::AgentLeft));
    }
}

struct Took {
    total: u64,
    decision: Option<u64>,
}

fn micros(later: Tick, earlier: Tick) -> u64 {
    u64::try_from(later.since(earlier).as_micros()).unwrap_or(u64::MAX)
}

/// A disk that takes longer to take a call's decision is none to wait for: agents give up, and hold connections until then.
/// What people agreed to waits as long as the disk does, for by then it has begun.
const LEDGER_PATIENCE: Duration = Duration::from_secs(5);
/// What stands in the place of a method where a function is asked about.
static CALLED: LazyLock<Method> =
    LazyLock::new(|| Method::from_bytes(METHOD.as_bytes()).expect("it is a token"));
/// Names the call in ledger, logs and to the operator.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("toolgate-request-id");
