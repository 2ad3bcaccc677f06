//! One project's policy in force, with everything that was computed from it once so that no request computes it again:
//! limit indexes by holder, the static `RateLimit-Policy` value, metric handles. Beside them live the counters that all
//! sessions share.

use crate::gate::forward::Outfit;
use crate::gate::limit;
use crate::io::metrics::{Metrics, PolicyMetrics};
use crate::policy::limit::{Bound, Cells, Per};
use crate::policy::model::{LimitIndex, Policy, Route, RouteIndex, Tool, ToolIndex};
use crate::policy::name::AgentName;
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
    /// By [`ToolIndex`].
    outfits: Box<[Outfit]>,
}

/// The limits of one route, told apart by whose counters they use.
#[derive(Debug, Default)]
pub(super) struct RouteLimits {
    /// Rates and counts that calls of all sessions share.
    pub shared: Holders,
    /// Cost limits.
    pub cost: Holders,
    /// Whether the body's digest is needed.
    pub repeats: bool,
    /// What `RateLimit` shows: the session's own rates and counts that cover this call.
    pub shown: Box<[LimitIndex]>,
    /// `RateLimit-Policy`: says what `shown` allows; absent where nothing is shown.
    pub policy_field: Option<HeaderValue>,
}

/// Limit indexes by holder.
#[derive(Debug, Default)]
pub(super) struct Holders {
    pub session: Box<[LimitIndex]>,
    pub agent: Box<[LimitIndex]>,
    pub project: Box<[LimitIndex]>,
}

impl Ruleset {
    /// Prepares `policy`; shared counters are carried over from the ruleset it replaces.
    pub(super) fn new(policy: Policy, before: Option<&Ruleset>, metrics: &Metrics) -> Self {
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
        let everything = |bound: &Bound| matches!(bound, Bound::Repeats { .. });
        let unrouted_repeats = policy
            .limits
            .iter()
            .zip(0..)
            .filter(|(limit, _)| limit.per == Per::Session && everything(&limit.bound))
            .filter(|(limit, _)| {
                let select = &limit.select;
                select.scope.is_none() && select.tool.is_none() && select.route.is_none()
            })
            .map(|(_, index)| LimitIndex(index))
            .collect();
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
            outfits: policy
                .tools
                .iter()
                .map(|tool| Outfit::new(tool).expect(CHECKED))
                .collect(),
            policy,
        }
    }

    pub(super) fn route(&self, index: RouteIndex) -> &Route {
        &self.policy.routes[index.0 as usize]
    }

    pub(super) fn tool(&self, index: ToolIndex) -> &Tool {
        &self.policy.tools[index.0 as usize]
    }

    /// A tool, ready to be sent to.
    pub(super) fn outfit(&self, index: ToolIndex) -> &Outfit {
        &self.outfits[index.0 as usize]
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
        let bound = |index: &LimitIndex| &policy.limits[index.0 as usize].bound;
        let counts =
            |index: &LimitIndex| matches!(bound(index), Bound::Rate { .. } | Bound::Count { .. });
        let (own, shared, cost) = route.map_or((&[][..], &[][..], &[][..]), |route| {
            (
                &*route.session_limits,
                &*route.shared_limits,
                &*route.cost_limits,
            )
        });
        let shown: Box<[LimitIndex]> = policy
            .session_wide
            .iter()
            .chain(own)
            .copied()
            .filter(counts)
            .collect();
        Self {
            shared: Holders::of(policy, shared),
            cost: Holders::of(policy, cost),
            repeats: own
                .iter()
                .any(|index| matches!(bound(index), Bound::Repeats { .. })),
            policy_field: limit::policy_field(policy, &shown),
            shown,
        }
    }
}

impl Holders {
    fn of(policy: &Policy, indexes: &[LimitIndex]) -> Self {
        let of = |per: Per| {
            let held = |index: &LimitIndex| policy.limits[index.0 as usize].per == per;
            indexes.iter().copied().filter(held).collect()
        };
        Self {
            session: of(Per::Session),
            agent: of(Per::Agent),
            project: of(Per::Project),
        }
    }

    /// Nothing is held by anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.session.is_empty() && self.agent.is_empty() && self.project.is_empty()
    }
}

const CHECKED: &str = "the configuration refuses tools that can't be sent to";

impl fmt::Debug for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ruleset({} {})", self.policy.project, self.policy.hash)
    }
}
