//! Metrics in Prometheus' words. Labels come only from the configuration and from closed sets, never from a request:
//! what a scrape costs is bounded by the policy, whatever agents send.
//!
//! The journey observes a call once, from the same facts that its ledger records show. Handles hang on the policy's
//! routes and tools, so that a served call looks nothing up.
//!
//! It is long because names, helps and labels of the families, which are a contract, are declared in one list.

use crate::ledger::Ledger;
use crate::policy::approval::Stage;
use crate::policy::decision::Reason;
use crate::policy::model::{Policy, PolicyHash};
use crate::policy::name::{ChainName, LimitId, ProjectName};
use crate::store::live::Sessions;
use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

mod anchors;
mod ledger;
mod process;
mod telemetry;
mod webhooks;

pub use anchors::{AnchorKind, AnchorMetrics, AnchorResult};
pub use telemetry::{SpanMetrics, SpanResult};
pub use webhooks::{WebhookMetrics, WebhookResult};

/// Everything `/metrics` shows.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: Histogram,
    decision_seconds: Histogram,
    upstream_seconds: HistogramVec,
    sessions: IntGaugeVec,
    pins: IntGaugeVec,
    grants: IntCounterVec,
    held: IntGaugeVec,
    approvals: IntCounterVec,
    approval_wait: Histogram,
    limit_exceeded: IntCounterVec,
    quarantines: IntCounterVec,
    shadow: IntCounterVec,
    shadow_routes: IntGaugeVec,
    cost: CounterVec,
    ledger: ledger::LedgerMetrics,
    reloads: IntCounterVec,
    policy: IntGaugeVec,
    /// What is told to targets of `notify`.
    pub webhooks: WebhookMetrics,
    /// What those who keep checkpoints have got.
    pub anchors: AnchorMetrics,
    /// Spans of calls.
    pub spans: SpanMetrics,
    process: process::ProcessMetrics,
    connections: IntGauge,
    buffered: IntGauge,
    /// How many connections agents hold.
    held_connections: OnceLock<Box<dyn Fn() -> u32 + Send + Sync>>,
    sources: OnceLock<Sources>,
    // One scrape at a time: totals of other parts are added as differences.
    scrape: Mutex<()>,
}

/// What is read at scrape time instead of being counted along the way.
struct Sources {
    sessions: Sessions,
    ledger: Ledger,
}

/// Handles of one policy, in the order of its routes and tools.
pub struct PolicyMetrics {
    /// By route: calls that were forwarded.
    pub allowed: Box<[IntCounter]>,
    /// By tool.
    pub tools: Box<[ToolMetrics]>,
}

/// Handles of one tool.
pub struct ToolMetrics {
    upstream: [Histogram; 5],
    cost: Counter,
}

/// What became of a call, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// Forwarded.
    Allow,
    /// Refused.
    Deny,
    /// A person is asked.
    Hold,
    /// Answered by the gate's own endpoints under `/.toolgate/`.
    Own,
}

/// How a stored or momentary grant came about, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantKind {
    /// Minted at the moment of the call.
    OnUse,
    /// Asked for and stored.
    OnRequest,
    /// The same, and a person agreed.
    OnApproval,
}

/// A request that waits for a person.
#[derive(Debug)]
pub struct Holding(IntGauge);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What became of a reload, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The new policy is in force.
    Applied,
    /// The old one stays.
    Rejected,
}

impl Metrics {
    /// A registry of its own, with every family registered.
    pub fn new() -> Self {
        let registry = Registry::new();
        let build = int_gauges(
            "toolgate_build_info",
            "Version of the running gate.",
            &["version"],
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        register(&registry, build);
        let metrics = Self {
            requests: registered(
                &registry,
                int_counters(
                    "toolgate_requests_total",
                    "Calls that reached the gate, by what was decided and why.",
                    &["project", "tool", "route", "decision", "reason"],
                ),
            ),
            request_seconds: registered(
                &registry,
                histogram(
                    "toolgate_request_duration_seconds",
                    "From the request's head to the last byte of its answer.",
                    REQUEST_BUCKETS,
                ),
            ),
            decision_seconds: registered(
                &registry,
                histogram(
                    "toolgate_decision_duration_seconds",
                    "From the request's head to the decision.",
                    DECISION_BUCKETS,
                ),
            ),
            upstream_seconds: registered(
                &registry,
                histograms(
                    "toolgate_upstream_duration_seconds",
                    "From forwarding a call to the head of the backend's answer.",
                    REQUEST_BUCKETS,
                    &["project", "tool", "status_class"],
                ),
            ),
            sessions: registered(
                &registry,
                int_gauges(
                    "toolgate_sessions",
                    "Sessions that have not ended.",
                    &["project", "agent", "state"],
                ),
            ),
            pins: registered(
                &registry,
                int_gauges(
                    "toolgate_pins",
                    "Tools of pinned servers, as accepted and changed.",
                    &["project", "tool", "state"],
                ),
            ),
            grants: registered(
                &registry,
                int_counters(
                    "toolgate_grants_total",
                    "Grants made, by how they came about.",
                    &["project", "kind"],
                ),
            ),
            held: registered(
                &registry,
                int_gauges(
                    "toolgate_held_requests",
                    "Requests whose connection waits for a person.",
                    &["project", "chain"],
                ),
            ),
            approvals: registered(
                &registry,
                int_counters(
                    "toolgate_approvals_total",
                    "Approvals, by where they came to stand: each is decided once, and runs once at most.",
                    &["project", "chain", "outcome"],
                ),
            ),
            approval_wait: registered(
                &registry,
                histogram(
                    "toolgate_approval_wait_seconds",
                    "From asking people to their answer, or to its not coming.",
                    APPROVAL_BUCKETS,
                ),
            ),
            limit_exceeded: registered(
                &registry,
                int_counters(
                    "toolgate_limit_exceeded_total",
                    "Calls that exceeded a limit.",
                    &["project", "limit"],
                ),
            ),
            quarantines: registered(
                &registry,
                int_counters(
                    "toolgate_quarantines_total",
                    "Sessions put in quarantine; the limit is empty where an operator did it.",
                    &["project", "limit"],
                ),
            ),
            shadow: registered(
                &registry,
                int_counters(
                    "toolgate_shadow_total",
                    "Calls that passed because their route is in shadow, by why they would not have.",
                    &["project", "route", "reason"],
                ),
            ),
            shadow_routes: registered(
                &registry,
                int_gauges(
                    "toolgate_shadow_routes",
                    "Routes in shadow: what the policy denies on them is recorded and let through.",
                    &["project"],
                ),
            ),
            cost: registered(
                &registry,
                counters(
                    "toolgate_cost_total",
                    "Cost of forwarded calls, in the unit the policy counts in.",
                    &["project", "tool"],
                ),
            ),
            ledger: ledger::LedgerMetrics::register(&registry),
            reloads: registered(
                &registry,
                int_counters(
                    "toolgate_policy_reloads_total",
                    "Reloads of the configuration, by what became of them.",
                    &["result"],
                ),
            ),
            policy: registered(
                &registry,
                int_gauges(
                    "toolgate_policy_info",
                    "The policy in force, by the SHA-256 of its file.",
                    &["project", "hash"],
                ),
            ),
            webhooks: WebhookMetrics::register(&registry),
            anchors: AnchorMetrics::register(&registry),
            spans: SpanMetrics::register(&registry),
            process: process::ProcessMetrics::register(&registry),
            connections: registered(
                &registry,
                int_gauge("toolgate_connections", "Connections that agents hold."),
            ),
            buffered: registered(
                &registry,
                int_gauge(
                    "toolgate_buffered_bytes",
                    "Bytes of request bodies that were read before they are judged.",
                ),
            ),
            held_connections: OnceLock::new(),
            sources: OnceLock::new(),
            scrape: Mutex::new(()),
            registry,
        };
        // Both series exist from the start, so that a first rejection is a rise and not an appearance.
        for result in [Reload::Applied, Reload::Rejected] {
            metrics.reloads.with_label_values(&[result.as_str()]);
        }
        metrics
    }

    /// Where gauges and ledger totals are read at scrape time. The first call counts.
    pub fn attach(&self, sessions: Sessions, ledger: Ledger) {
        self.sources.get_or_init(|| Sources { sessions, ledger });
    }

    /// Where the number of connections is read at scrape time. The first call counts.
    pub fn count_connections(&self, held: impl Fn() -> u32 + Send + Sync + 'static) {
        self.held_connections.get_or_init(|| Box::new(held));
    }

    /// The text exposition format.
    pub fn encode(&self) -> String {
        let _one = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sources) = self.sources.get() {
            self.refresh(sources);
        }
        self.process.refresh();
        if let Some(held) = self.held_connections.get() {
            self.connections.set(held().into());
        }
        let buffered = super::room::buffered();
        self.buffered
            .set(i64::try_from(buffered).unwrap_or(i64::MAX));
        let mut text = Vec::with_capacity(16 * 1024);
        // Writing to memory can't fail, and every family was checked when it was registered.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    fn refresh(&self, sources: &Sources) {
        self.sessions.reset();
        for count in sources.sessions.counts() {
            self.sessions
                .with_label_values(&[count.project.as_str(), count.agent.as_str(), count.state])
                .set(i64::try_from(count.sessions).unwrap_or(i64::MAX));
        }
        self.pins.reset();
        for count in sources.sessions.pin_counts() {
            let states = [("accepted", count.accepted), ("changed", count.changed)];
            for (state, tools) in states {
                self.pins
                    .with_label_values(&[count.project.as_str(), count.tool.as_str(), state])
                    .set(i64::try_from(tools).unwrap_or(i64::MAX));
            }
        }
        self.ledger.refresh(&sources.ledger.stats());
    }

    /// Handles for every route and tool of a policy; looked up once, when it is installed.
    pub fn route_handles(&self, policy: &Policy) -> PolicyMetrics {
        let project = policy.project.as_str();
        let allowed = policy.routes.iter().map(|route| {
            let tool = policy.tools[route.tool.0 as usize].name.as_str();
            self.requests.with_label_values(&[
                project,
                tool,
                route.id.as_str(),
                Decided::Allow.as_str(),
                "",
            ])
        });
        let tools = policy.tools.iter().map(|tool| {
            let name = tool.name.as_str();
            ToolMetrics {
                upstream: STATUS_CLASSES.map(|class| {
                    self.upstream_seconds
                        .with_label_values(&[project, name, class])
                }),
                cost: self.cost.with_label_values(&[project, name]),
            }
        });
        PolicyMetrics {
            allowed: allowed.collect(),
            tools: tools.collect(),
        }
    }

    /// Which policies are in force now, all of them, and how many of their routes are in shadow.
    pub fn policies(&self, hashes: &[(ProjectName, PolicyHash, usize)]) {
        self.policy.reset();
        self.shadow_routes.reset();
        for (project, hash, shadow) in hashes {
            self.policy
                .with_label_values(&[project.as_str(), &hash.to_string()])
                .set(1);
            self.shadow_routes
                .with_label_values(&[project.as_str()])
                .set(i64::try_from(*shadow).unwrap_or(i64::MAX));
        }
    }

    /// A call passed because its route is in shadow.
    pub fn let_pass(&self, project: &ProjectName, route: &str, reason: Reason) {
        self.shadow
            .with_label_values(&[project.as_str(), route, reason.as_str()])
            .inc();
    }

    /// A call that was not forwarded. `tool` and `route` are empty where nothing matched, `project` before the session
    /// is known.
    pub fn not_forwarded(
        &self,
        project: &str,
        tool: &str,
        route: &str,
        decided: Decided,
        reason: Option<Reason>,
    ) {
        self.requests
            .with_label_values(&[
                project,
                tool,
                route,
                decided.as_str(),
                reason.map_or("", Reason::as_str),
            ])
            .inc();
    }

    /// A call's whole time.
    pub fn request_took(&self, micros: u64) {
        self.request_seconds.observe(seconds(micros));
    }

    /// The time until its decision.
    pub fn decision_took(&self, micros: u64) {
        self.decision_seconds.observe(seconds(micros));
    }

    /// A grant was made.
    pub fn grant_made(&self, project: &ProjectName, kind: GrantKind) {
        self.grants
            .with_label_values(&[project.as_str(), kind.as_str()])
            .inc();
    }

    /// A request waits for a person, for as long as what this gives is kept.
    pub fn holding(&self, project: &ProjectName, chain: &ChainName) -> Holding {
        let held = self
            .held
            .with_label_values(&[project.as_str(), chain.as_str()]);
        held.inc();
        Holding(held)
    }

    /// An approval came to `outcome`, so long after it was asked for.
    pub fn approval(
        &self,
        project: &ProjectName,
        chain: &ChainName,
        outcome: Stage,
        waited: Option<Duration>,
    ) {
        self.approvals
            .with_label_values(&[project.as_str(), chain.as_str(), outcome.as_str()])
            .inc();
        if let Some(waited) = waited {
            self.approval_wait.observe(waited.as_secs_f64());
        }
    }

    /// A call exceeded a limit.
    pub fn limit_exceeded(&self, project: &ProjectName, limit: &LimitId) {
        self.limit_exceeded
            .with_label_values(&[project.as_str(), limit.as_str()])
            .inc();
    }

    /// A session was put in quarantine, by a limit or (`None`) by an operator.
    pub fn quarantined(&self, project: &ProjectName, limit: Option<&LimitId>) {
        self.quarantines
            .with_label_values(&[project.as_str(), limit.map_or("", LimitId::as_str)])
            .inc();
    }

    /// A reload ended.
    pub fn reloaded(&self, result: Reload) {
        self.reloads.with_label_values(&[result.as_str()]).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl ToolMetrics {
    /// The backend answered with `status` after this long.
    pub fn answered(&self, status: u16, micros: u64) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.upstream[class].observe(seconds(micros));
    }

    /// What a call cost, in millionths.
    pub fn cost(&self, micros: u64) {
        self.cost.inc_by(seconds(micros));
    }
}

impl Decided {
    /// As labels and spans have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Decided::Allow => "allow",
            Decided::Deny => "deny",
            Decided::Hold => "hold",
            Decided::Own => "own",
        }
    }
}

impl GrantKind {
    const fn as_str(self) -> &'static str {
        match self {
            GrantKind::OnUse => "on_use",
            GrantKind::OnRequest => "on_request",
            GrantKind::OnApproval => "on_approval",
        }
    }
}

impl Reload {
    const fn as_str(self) -> &'static str {
        match self {
            Reload::Applied => "applied",
            Reload::Rejected => "rejected",
        }
    }
}

/// Millionths to units; exact far beyond any duration or cost that occurs.
#[allow(clippy::cast_precision_loss, reason = "metrics are read, not settled")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1_000_000.0
}

/// Brings a counter up to a total that another part keeps.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

// Names and labels are constants of this file: a mistake in one shows in the first test that makes a registry.
const CONSTANT: &str = "metric names and labels are valid and registered once";

fn register(registry: &Registry, family: impl Collector + 'static) {
    registry.register(Box::new(family)).expect(CONSTANT);
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> C {
    register(registry, family.clone());
    family
}

fn int_counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect(CONSTANT)
}

fn counters(name: &str, help: &str, labels: &[&str]) -> CounterVec {
    CounterVec::new(Opts::new(name, help), labels).expect(CONSTANT)
}

fn int_counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect(CONSTANT)
}

fn int_gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect(CONSTANT)
}

fn int_gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), labels).expect(CONSTANT)
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())).expect(CONSTANT)
}

fn histograms(name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
    HistogramVec::new(
        HistogramOpts::new(name, help).buckets(buckets.to_vec()),
        labels,
    )
    .expect(CONSTANT)
}

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// From a loopback backend's half millisecond to a long download's minute.
const REQUEST_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];
/// From somebody who was looking to somebody who slept over it.
const APPROVAL_BUCKETS: &[f64] = &[
    1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0, 86_400.0,
];
/// From a microsecond (nothing read) to a second (a slow body).
const DECISION_BUCKETS: &[f64] = &[
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 2.5e-2, 0.1, 1.0,
];

#[cfg(test)]
mod tests;
