//! One project's policy in force, with everything that was computed from it once so that no request computes it again:
//! the static `RateLimit-Policy` values, metric handles, tools ready to be sent to. Beside them live the counters that all
//! sessions share.

use crate::gate::forward::Outfit;
use crate::gate::limit;
use crate::io::metrics::{Metrics, PolicyMetrics};
use crate::policy::limit::{Bound, Cells, Limit, Per};
use crate::policy::model::{LimitIndex, Policy, Route, RouteIndex, ToolIndex};
use crate::policy::name::AgentName;
use crate::store::live::Sessions;
use crate::store::live::pins::ToolPins;
use http::HeaderValue;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A policy and what hangs on it. Swapped as one: a request sees one version from beginning to end.
pub struct Ruleset {
    /// The policy itself.
    pub policy: Policy,
    /// Counters of `per: agent` limits.
    agents: HashMap<AgentName, Arc<Cells>>,
    /// Counters of `per: project` limits.
    project: Arc<Cells>,
    /// By [`RouteIndex`].
    routes: Box<[RouteLimits]>,
    /// Of a call that matched no route.
    unrouted: RouteLimits,
    /// Limits that watch every request for repeats, routed or not.
    pub(super) unrouted_repeats: Box<[LimitIndex]>,
    pub(super) metrics: PolicyMetrics,
    /// By [`ToolIndex`]: the widest of its own and its routes' bounds.
    body_limits: Box<[u64]>,
    /// By [`ToolIndex`].
    outfits: Box<[Option<Outfit>]>,
    /// By [`ToolIndex`]: what its server is held to, where it is pinned.
    pins: Box<[Option<Arc<ToolPins>>]>,
}

/// What is known beforehand of the limits of one route.
#[derive(Debug, Default)]
pub(super) struct RouteLimits {
    /// Whether the body's digest is needed.
    pub repeats: bool,
    /// What `RateLimit` shows: the session's own rates and counts that cover this call.
    pub shown: Box<[LimitIndex]>,
    /// `RateLimit-Policy`: says what `shown` allows; absent where nothing is shown.
    pub policy_field: Option<HeaderValue>,
}

impl Ruleset {
    /// Prepares `policy`; shared counters are carried over from the ruleset it replaces.
    pub(super) fn new(
        policy: Policy,
        before: Option<&Ruleset>,
        metrics: &Metrics,
        sessions: &Sessions,
    ) -> Self {
        let carried = |cells: Option<&Arc<Cells>>, per: Per| match cells {
            // The very same file: the very same counters, so that calls in flight count on in them.
            Some(cells) if cells.layout() == policy.hash => Arc::clone(cells),
            Some(cells) => Arc::new(cells.carried_to(&policy)),
            None => Arc::new(Cells::new(&policy, per)),
        };
        let agents = policy.agents.keys().map(|agent| {
            let cells = before.and_then(|before| before.agents.get(agent));
            (agent.clone(), carried(cells, Per::Agent))
        });
        let watches_all = |limit: &Limit| {
            limit.per == Per::Session
                && limit.select.is_all()
                && matches!(limit.bound, Bound::Repeats { .. })
        };
        let indexes = policy
            .limits
            .iter()
            .zip(0..)
            .filter(|(limit, _)| watches_all(limit));
        let unrouted_repeats = indexes.map(|(_, index)| LimitIndex(index)).collect();
        Self {
            agents: agents.collect(),
            project: carried(before.map(|before| &before.project), Per::Project),
            routes: policy
                .routes
                .iter()
                .map(|route| RouteLimits::of(&policy, Some(route)))
                .collect(),
            unrouted: RouteLimits::of(&policy, None),
            unrouted_repeats,
            metrics: metrics.route_handles(&policy),
            body_limits: {
                let tools = policy.tools.iter();
                let mut widest: Box<[u64]> = tools.map(|tool| tool.body_limit).collect();
                for route in &policy.routes {
                    let of_tool = &mut widest[route.tool.0 as usize];
                    *of_tool = route.body_limit.max(*of_tool);
                }
                widest
            },
            outfits: policy
                .tools
                .iter()
                .map(|tool| {
                    let upstream = tool.upstream.as_ref()?;
                    Some(Outfit::new(tool, upstream).expect(CHECKED))
                })
                .collect(),
            pins: policy
                .tools
                .iter()
                .map(|tool| tool.pin.then(|| sessions.pins(&policy.project, &tool.name)))
                .collect(),
            policy,
        }
    }

    /// A tool that is mounted, ready to be sent to.
    pub(super) fn outfit(&self, index: ToolIndex) -> &Outfit {
        let outfit = self.outfits[index.0 as usize].as_ref();
        outfit.expect("a tool that is mounted has a backend")
    }

    /// What the server of a tool is held to; `None`: it is not pinned.
    pub(super) fn pins(&self, tool: ToolIndex) -> Option<&Arc<ToolPins>> {
        self.pins[tool.0 as usize].as_ref()
    }

    /// The most that is read of a body sent to a tool before it is known which of its routes is meant.
    pub(super) fn body_limit(&self, tool: ToolIndex) -> u64 {
        self.body_limits[tool.0 as usize]
    }

    /// The limits of a route, or of a call that has none.
    pub(super) fn limits(&self, route: Option<RouteIndex>) -> &RouteLimits {
        route.map_or(&self.unrouted, |index| &self.routes[index.0 as usize])
    }

    /// Counters of one agent's sessions together; an agent that the policy no longer has shares none.
    pub(super) fn agent_cells(&self, agent: &AgentName) -> Option<&Arc<Cells>> {
        self.agents.get(agent)
    }

    /// Counters of the whole project.
    pub(super) fn project_cells(&self) -> &Arc<Cells> {
        &self.project
    }
}

impl RouteLimits {
    fn of(policy: &Policy, route: Option<&Route>) -> Self {
        let bound = |index: &LimitIndex| &policy.limit(*index).bound;
        let counts =
            |index: &LimitIndex| matches!(bound(index), Bound::Rate { .. } | Bound::Count { .. });
        let own = route.map_or(&[][..], |route| &route.session_limits);
        let wide = policy.session_wide.iter();
        let shown: Box<[LimitIndex]> = wide.chain(own).copied().filter(counts).collect();
        Self {
            repeats: own
                .iter()
                .any(|index| matches!(bound(index), Bound::Repeats { .. })),
            policy_field: limit::policy_field(policy, &shown),
            shown,
        }
    }
}

const CHECKED: &str = "tools that can't be sent to were refused before";

impl fmt::Debug for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ruleset({} {})", self.policy.project, self.policy.hash)
    }
}
