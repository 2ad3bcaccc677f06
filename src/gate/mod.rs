//! The policy enforcement point: the journey of one request, in order.
//!
//! [`Gate::handle`] gives a request its id, its entry in the ledger and, whatever happens, an answer.
//! [`Gate::enforce`] is the one screen: order is the security argument, so order is line order, the reason stands
//! beside the line, and `?` is the exit.

pub mod ruleset;

mod authenticate;
mod client;
mod describe;
mod intent;
mod own;

pub mod fields;

mod limit;

pub mod body;

mod record;

pub mod forward;

mod costs;
mod refusal;
pub mod respond;
mod strangers;

pub use intent::INTENT_BYTES_MAX;
pub use record::ReplyBody;
pub use ruleset::Ruleset;

use crate::config::Cidr;
use crate::io::clock::Clock;
use crate::io::metrics::Metrics;
use crate::ledger::record::{BodyDigest, Cause};
use crate::ledger::{Ledger, Level};
use crate::policy::decision::{Decision, GrantUse, Permit, Reason};
use crate::policy::limit::{CallDigest, Exceedance, Exceeded};
use crate::policy::model::{IntentRule, LimitIndex, Policy};
use crate::policy::name::ProjectName;
use crate::policy::subject::Subject;
use crate::policy::target::Target;
use crate::policy::time::Now;
use crate::policy::{self, AccessRequest};
use crate::store::CostRow;
use crate::store::live::{LiveSession, Sessions, State};
use arc_swap::ArcSwap;
use body::{Prefix, RequestBody};
use forward::{Outbound, SendFault};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use limit::{Counters, Reported};
use record::{Caller, Content, Entry};
use refusal::Refusal;
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// The gate. One for all threads and listeners.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

/// What the gate is made of.
pub struct GateParts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who is live, and what they hold.
    pub sessions: Sessions,
    /// Where calls are written down.
    pub ledger: Ledger,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// What the server file says of the journey.
    pub settings: Settings,
}

/// What the server file says of the journey.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// How long an agent's body may stand still.
    pub body_idle: Duration,
    /// Costs of agents and projects that outlived the last run; used when the first policies are installed.
    pub costs: Vec<CostRow>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            body_idle: Duration::from_secs(30),
            costs: Vec::new(),
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// As accepted.
    pub address: SocketAddr,
}

pub(crate) struct Inner {
    clock: Arc<dyn Clock>,
    sessions: Sessions,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    settings: Settings,
    rulesets: ArcSwap<HashMap<ProjectName, Arc<Ruleset>>>,
    strangers: strangers::Strangers,
    costs: costs::Costs,
}

impl Gate {
    /// A gate without a policy: it knows nobody until [`Gate::install`].
    pub fn new(parts: GateParts) -> Self {
        parts.metrics.attach(parts.sessions.clone(), parts.ledger.clone());
        Self(Arc::new(Inner {
            clock: parts.clock,
            sessions: parts.sessions,
            ledger: parts.ledger,
            metrics: parts.metrics,
            settings: parts.settings,
            rulesets: ArcSwap::default(),
            strangers: strangers::Strangers::default(),
            costs: costs::Costs::default(),
        }))
    }

    /// Puts these policies, and no others, in force. Requests in flight finish under those that admitted them; counters
    /// that sessions share are carried over by limit id.
    pub fn install(&self, policies: Vec<Policy>) {
        let gate = &self.0;
        let before = gate.rulesets.load();
        let now = gate.clock.now();
        let mut rulesets = HashMap::with_capacity(policies.len());
        for policy in policies {
            let project = policy.project.clone();
            let predecessor = before.get(&project).map(|ruleset| &**ruleset);
            let ruleset = Ruleset::new(policy, predecessor, &gate.metrics);
            if predecessor.is_none() {
                costs::restore(&ruleset, &gate.settings.costs, now);
            }
            rulesets.insert(project, Arc::new(ruleset));
        }
        let hashes: Vec<_> = rulesets.values().map(|ruleset| (ruleset.policy.project.clone(), ruleset.policy.hash)).collect();
        gate.rulesets.store(Arc::new(rulesets));
        gate.metrics.policies(&hashes);
    }

    /// The ruleset in force for a project.
    pub fn ruleset(&self, project: &ProjectName) -> Option<Arc<Ruleset>> {
        self.0.rulesets.load().get(project).cloned()
    }

    /// Writes down who failed to authenticate since the last time. Once a second, and when the gate stops.
    pub async fn flush_strangers(&self) {
        let now = self.0.clock.now();
        self.0.strangers.flush(&self.0.ledger, now.wall).await;
    }

    /// Saves the costs charged since the last time. Once a second, and when the gate stops.
    pub async fn flush_costs(&self) {
        let now = self.0.clock.now();
        if let Err(fault) = self.0.costs.flush(&self.0.sessions, now).await {
            tracing::error!(%fault, "costs could not be saved; they are kept in memory and tried again");
        }
    }

    /// One request, whatever comes of it. Must run within a tokio runtime.
    pub async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<ReplyBody> {
        let gate = &self.0;
        let (head, body) = request.into_parts();
        let client = client::address(peer.address, &head.headers, &gate.settings.trusted_proxies);
        let mut entry = Entry::open(Arc::clone(gate), &head, client);
        let idle = gate.settings.body_idle;
        let mut body = Some(RequestBody::new(body, &head.headers, Arc::clone(&entry.meter), idle, &gate.clock));

        // One request's panic must not take the enforcement point down, nor go unrecorded.
        let outcome = caught(self.enforce(&head, peer, &mut body, &mut entry)).await;
        let mut response = match outcome.unwrap_or_else(|Panicked| Err(Refusal::internal())) {
            Ok(response) => response,
            Err(refusal) => {
                // Written down before it is said.
                let refusal = entry.deny(refusal).await;
                gate.count_stranger(&refusal, &entry);
                respond::refused(refusal, &entry).map(Content::Own)
            }
        };
        let status = response.status().as_u16();
        entry.answer(status, response.headers_mut());
        response.map(|content| ReplyBody::new(content, entry))
    }

    /// Everything that is done to a request.
    async fn enforce(
        &self,
        head: &Parts,
        peer: Peer,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Response<Content>, Refusal> {
        let gate = &*self.0;
        let now = entry.opened;
        // A head that two readers could take differently is nobody's request. The target is read once, here; what was
        // read is judged further down, so that strangers learn nothing from it.
        let target = Target::parse(&describe::raw_target(head), describe::host(head)?);
        // The pages that explain refusals are the same for everybody.
        if let Some(page) = target.as_ref().ok().and_then(|target| own::public(&head.method, target)) {
            entry.served_by_gate();
            return page.map(|page| page.map(Content::Own));
        }

        // Nothing about routes is revealed to strangers. One snapshot of the policy decides from here to the end.
        let session = authenticate::authenticate(&head.headers, &gate.sessions, now.tick)?;
        let caller = gate.caller(session)?;
        let stated = entry.identify(&caller, head, &target);
        // Whatever else is wrong with its call, a session in quarantine hears only this.
        if caller.session.state(now.tick) == State::Quarantined {
            return Err(Refusal::quarantined(None));
        }
        // Before the target is judged, so that refused calls count too.
        let (ruleset, counters) = (&*caller.ruleset, &caller.counters);
        let taken = counters.take(&ruleset.policy.session_wide, now.tick, None);
        gate.bounded(taken, &caller).await?;
        // Canonical from here on; nothing rereads the raw target.
        let target = target.map_err(Refusal::target_ambiguous)?;
        if own::is_own(target.path()) {
            let answer = own::serve(gate, head, &target, body, entry).await?;
            entry.served_by_gate();
            return Ok(answer.map(Content::Own));
        }

        // One match. What is matched here is what is forwarded.
        let matched = match ruleset.policy.table.find(&ruleset.policy, head.method.as_str(), &target) {
            Ok(matched) => matched,
            Err(_) => {
                // A loop on a path that does not exist is a loop.
                gate.take_repeats(&ruleset.unrouted_repeats, UNROUTED_BODY_BYTES_MAX, head, &target, body, entry).await?;
                return Err(Refusal::no_route());
            }
        };
        let (route, tool) = (ruleset.route(matched.route), matched.tool);
        let limits = ruleset.limits(Some(route.index));
        (entry.tool, entry.route) = (Some(tool), Some(route.index));
        // After matching, because the tool says which fields it allows.
        fields::check_request(&head.headers, target.as_str(), ruleset.outfit(tool).rules()).map_err(Refusal::field)?;
        // Scope, tool and route limits; runaway sessions are quarantined here, whether or not they would be allowed.
        if limits.repeats {
            gate.take_repeats(&route.session_limits, route.body_limit, head, &target, body, entry).await?;
        } else {
            gate.bounded(counters.take(&route.session_limits, now.tick, None), &caller).await?;
        }
        let stated = stated?;
        if route.intent == IntentRule::Required && stated.is_none() {
            return Err(Refusal::intent_missing());
        }

        // The pure decision: scope and resource within the ceiling, and a grant to go on.
        let resource = route.resource.as_ref().map(|template| template.fill(&matched.captures, &caller.session.facts));
        // A resource that can't be computed is not "no resource".
        let resource = resource.map(|filled| filled.ok_or_else(|| Refusal::resource_unfilled(route))).transpose()?;
        entry.resource = resource.clone();
        let permit = decide(&caller, AccessRequest { route, resource }, now)?;
        // What other sessions share, and money, only for calls that would be forwarded: nobody's refusals starve others.
        let cost = limit::fixed_cost(route);
        let taken = counters.take_shared(&limits.cost, &limits.shared, now.tick, cost.unwrap_or(0));
        gate.bounded(taken, &caller).await?;
        gate.mark_cost(&caller, cost, entry);
        // A stored grant's use is taken atomically and durably, and never given back.
        gate.spend(&caller, &permit).await?;
        // In the ledger before a byte leaves.
        entry.allow(permit.grant(), level(&permit, &head.method)).await?;
        // Storing and recording took time: a kill that fell into it counts.
        gate.still_live(&caller)?;

        let call = Outbound {
            outfit: ruleset.outfit(tool),
            method: &head.method,
            headers: &head.headers,
            path: matched.path,
            query: target.query(),
            authority: target.authority(),
            peer: peer.address.ip(),
            trust: client::trust(peer.address, &gate.settings.trusted_proxies),
            session: caller.session.clone(),
            clock: &gate.clock,
        };
        let body = body.take().expect("the body is handed on once, here");
        entry.sent(gate.clock.now().tick);
        let answer = forward::send(permit, call, body).await;
        // Whether it came or not, the backend has had its say: what it reports as cost is charged now, trips later.
        entry.answered(gate.clock.now().tick);
        let answer = answer.map_err(|fault| gate.unanswered(fault, &caller))?;
        gate.charge(&caller, limit::reported_cost(route, answer.headers()), entry);
        Ok(answer.map(Content::Upstream))
    }
}

/// Asks the policy. The grants are read where they are kept, and may change right after: spending settles that.
fn decide<'p>(caller: &'p Caller, access: AccessRequest<'p>, now: Now) -> Result<Permit<'p>, Refusal> {
    let decision = caller.session.with_grants(|grants| {
        let subject = Subject { session: &caller.session.facts, grants };
        policy::decide(&caller.ruleset.policy, subject, access, now)
    });
    match decision {
        Decision::Allow(permit) => Ok(permit),
        Decision::Deny(denial) => Err(Refusal::denied(denial)),
    }
}

/// How far the decision must have got before the call may leave.
fn level(permit: &Permit<'_>, method: &Method) -> Level {
    match permit.grant() {
        GrantUse::Stored(_) => Level::Sync,
        GrantUse::OnUse if permit.route().irreversible || *method == Method::DELETE => Level::Sync,
        GrantUse::OnUse => Level::Written,
    }
}

/// Of a call that matched no route and whose repeats are watched, this much body is read.
const UNROUTED_BODY_BYTES_MAX: u64 = 1024 * 1024;
