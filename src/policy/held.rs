//! What agents may hold, laid out for decisions: a ceiling is found with one look-up and no text but the agent's name.
//!
//! Made with the policy from its agents and routes; it decides nothing.

use super::model::{Agent, Ceiling, Route, RouteIndex};
use super::name::{AgentName, ScopeName};
use super::route::hash::Table;
use std::collections::HashMap;

/// Ceilings by agent and scope.
#[derive(Clone, Debug)]
pub(super) struct Held {
    agents: Table<AgentName, u32>,
    scopes: Table<ScopeName, u32>,
    /// By agent, then scope.
    ceilings: Box<[Option<Ceiling>]>,
    /// The scope each route needs, by [`RouteIndex`].
    of_routes: Box<[ScopeNumber]>,
}

/// Position of a scope among all that a policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScopeNumber(u32);

impl Held {
    pub(super) fn new(agents: &HashMap<AgentName, Agent>, routes: &[Route]) -> Self {
        let mut scopes = Table::default();
        let named = agents.values().flat_map(|agent| agent.scopes.keys());
        for scope in named.chain(routes.iter().map(|route| &route.scope)) {
            let next = number_of(scopes.len());
            scopes.entry(scope.clone()).or_insert(next);
        }
        let mut held = Self {
            agents: Table::default(),
            ceilings: vec![None; agents.len() * scopes.len()].into(),
            of_routes: routes
                .iter()
                .map(|route| ScopeNumber(scopes[&route.scope]))
                .collect(),
            scopes,
        };
        for (position, (name, agent)) in agents.iter().enumerate() {
            held.agents.insert(name.clone(), number_of(position));
            for (scope, ceiling) in &agent.scopes {
                let at = position * held.scopes.len() + held.scopes[scope] as usize;
                held.ceilings[at] = Some(ceiling.clone());
            }
        }
        held
    }

    /// The number of a scope; `None`: no agent holds it and no route needs it.
    pub(super) fn scope(&self, name: &str) -> Option<ScopeNumber> {
        self.scopes.get(name).copied().map(ScopeNumber)
    }

    /// The scope that a route needs.
    pub(super) fn scope_of(&self, route: RouteIndex) -> ScopeNumber {
        self.of_routes[route.0 as usize]
    }

    /// What sessions of an agent may ever be granted of a scope.
    pub(super) fn ceiling(&self, agent: &AgentName, scope: ScopeNumber) -> Option<&Ceiling> {
        let agent = *self.agents.get(agent)? as usize;
        let ceiling = self
            .ceilings
            .get(agent * self.scopes.len() + scope.0 as usize)?;
        ceiling.as_ref()
    }
}

fn number_of(position: usize) -> u32 {
    u32::try_from(position).expect("a bounded file has fewer than 2^32 entries")
}
