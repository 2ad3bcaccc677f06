//! Where the rules of a project stand, for people: `file:line` of what decided.
//!
//! Kept beside a policy, never in it: no decision reads it. Positions are those of the policy it was loaded with, which
//! its hash names.

use super::error::{Place, Reports};
use super::lower::Places;
use crate::policy::approval::ChainIndex;
use crate::policy::model::{LimitIndex, Policy, PolicyHash, RouteIndex, ToolIndex};
use crate::policy::name::{AgentName, ProjectName, ScopeName};
use crate::policy::resource::ResourcePattern;
use std::collections::HashMap;
use std::path::PathBuf;

/// The lines of one project file, from 1.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Whose file it is.
    pub project: ProjectName,
    /// Which version of it.
    pub hash: PolicyHash,
    /// As it was named.
    pub file: PathBuf,
    name: u32,
    agents: HashMap<AgentName, u32>,
    scopes: HashMap<(AgentName, ScopeName), OfScope>,
    tools: Vec<u32>,
    routes: Vec<OfRoute>,
    limits: Vec<u32>,
    chains: Vec<u32>,
    /// How many tests it has.
    pub tests: usize,
}

#[derive(Clone, Debug)]
struct OfScope {
    name: u32,
    patterns: Vec<(ResourcePattern, u32)>,
}

#[derive(Clone, Debug)]
struct OfRoute {
    id: u32,
    scope: u32,
    resource: Option<u32>,
    approval: Option<u32>,
    conditions: Vec<u32>,
}

impl Lines {
    pub(super) fn new(policy: &Policy, places: &Places, tests: usize, reports: &Reports) -> Self {
        let line = |place: Place| u32::try_from(reports.line_of(place)).unwrap_or(u32::MAX);
        let all = |places: &[Place]| places.iter().copied().map(line).collect();
        let scopes = places.scopes.iter().map(|(key, place)| {
            let patterns = place.patterns.iter();
            let of = OfScope {
                name: line(place.name),
                patterns: patterns.map(|(it, at)| (it.clone(), line(*at))).collect(),
            };
            (key.clone(), of)
        });
        let routes = places.routes.iter().map(|place| OfRoute {
            id: line(place.id),
            scope: line(place.scope),
            resource: place.resource.map(line),
            approval: place.approval.map(line),
            conditions: place.conditions.iter().copied().map(line).collect(),
        });
        let agents = places.agents.iter();
        Self {
            project: policy.project.clone(),
            hash: policy.hash,
            file: reports.path().to_owned(),
            name: line(places.name),
            agents: agents.map(|(name, at)| (name.clone(), line(*at))).collect(),
            scopes: scopes.collect(),
            tools: all(&places.tools),
            routes: routes.collect(),
            limits: all(&places.limits),
            chains: places.chains.iter().map(|at| line(at.name)).collect(),
            tests,
        }
    }

    /// Whether these are the lines of just this version.
    pub fn are_of(&self, policy: &Policy) -> bool {
        self.project == policy.project && self.hash == policy.hash
    }

    /// `file:line`.
    pub fn shown(&self, line: u32) -> String {
        format!("{}:{line}", self.file.display())
    }

    /// Of the project's name.
    pub fn name(&self) -> u32 {
        self.name
    }

    /// Of an agent.
    pub fn agent(&self, agent: &AgentName) -> Option<u32> {
        self.agents.get(agent).copied()
    }

    /// Of a scope in an agent's ceiling.
    pub fn scope(&self, agent: &AgentName, scope: &ScopeName) -> Option<u32> {
        self.of_scope(agent, scope).map(|of| of.name)
    }

    /// Of one of its patterns.
    pub fn pattern(
        &self,
        agent: &AgentName,
        scope: &ScopeName,
        pattern: &ResourcePattern,
    ) -> Option<u32> {
        let mut patterns = self.of_scope(agent, scope)?.patterns.iter();
        let found = patterns.find(|(have, _)| have == pattern);
        found.map(|(_, line)| *line)
    }

    fn of_scope(&self, agent: &AgentName, scope: &ScopeName) -> Option<&OfScope> {
        self.scopes.get(&(agent.clone(), scope.clone()))
    }

    /// Of a tool's mount or host.
    pub fn tool(&self, tool: ToolIndex) -> Option<u32> {
        self.tools.get(tool.0 as usize).copied()
    }

    /// Of a route's id.
    pub fn route(&self, route: RouteIndex) -> Option<u32> {
        self.of_route(route).map(|of| of.id)
    }

    /// Of the scope it needs.
    pub fn scope_of_route(&self, route: RouteIndex) -> Option<u32> {
        self.of_route(route).map(|of| of.scope)
    }

    /// Of what it acts on.
    pub fn resource_of_route(&self, route: RouteIndex) -> Option<u32> {
        self.of_route(route)?.resource
    }

    /// Of its `approval`; `None` also: the file says nothing, and its method or `irreversible` decides.
    pub fn approval_of_route(&self, route: RouteIndex) -> Option<u32> {
        self.of_route(route)?.approval
    }

    /// Of one of its conditions.
    pub fn condition(&self, route: RouteIndex, condition: usize) -> Option<u32> {
        self.of_route(route)?.conditions.get(condition).copied()
    }

    fn of_route(&self, route: RouteIndex) -> Option<&OfRoute> {
        self.routes.get(route.0 as usize)
    }

    /// Of a limit.
    pub fn limit(&self, limit: LimitIndex) -> Option<u32> {
        self.limits.get(limit.0 as usize).copied()
    }

    /// Of a chain.
    pub fn chain(&self, chain: ChainIndex) -> Option<u32> {
        self.chains.get(usize::from(chain.0)).copied()
    }
}
