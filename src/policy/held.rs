//! What agents may hold, laid out for decisions: a ceiling is found with one look-up and no text but the agent's name.
//!
//! Made with the policy from its agents and routes; it decides nothing.

use super::model::{Agent, Ceiling, Route};
use super::name::{AgentName, ScopeName};
use super::route::hash::Table;
use std::collections::HashMap;

/// Ceilings by agent and scope.
#[derive(Clone, Debug)]
pub(super) struct Held {
    agents: Table<AgentName, u32>,
    scopes: Table<ScopeName, u32>,
    /// By agent, then scope: one more than the position in `ceilings`, or 0 for none.
    numbers: Box<[u32]>,
    /// Each once: most agents and scopes of a policy share a few.
    ceilings: Box<[Ceiling]>,
}

/// Position of a scope among all that a policy names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ScopeNumber(u32);

impl Held {
    /// Writes into each route the number of the scope it needs.
    pub(super) fn new(agents: &HashMap<AgentName, Agent>, routes: &mut [Route]) -> Self {
        let mut scopes = Table::default();
        let mut number = |scope: &ScopeName| {
            let next = number_of(scopes.len());
            *scopes.entry(scope.clone()).or_insert(next)
        };
        for route in routes {
            route.scope_number = ScopeNumber(number(&route.scope));
        }
        for scope in agents.values().flat_map(|agent| agent.scopes.keys()) {
            number(scope);
        }
        let mut held = Self {
            agents: Table::default(),
            numbers: vec![0; agents.len() * scopes.len()].into(),
            ceilings: Box::default(),
            scopes,
        };
        let (mut all, mut known) = (Vec::new(), HashMap::new());
        for (position, (name, agent)) in agents.iter().enumerate() {
            held.agents.insert(name.clone(), number_of(position));
            for (scope, ceiling) in &agent.scopes {
                let at = position * held.scopes.len() + held.scopes[scope] as usize;
                held.numbers[at] = *known.entry(ceiling).or_insert_with(|| {
                    all.push(ceiling.clone());
                    number_of(all.len())
                });
            }
        }
        held.ceilings = all.into();
        held
    }

    /// The number of a scope; `None`: no agent holds it and no route needs it.
    pub(super) fn scope(&self, name: &str) -> Option<ScopeNumber> {
        self.scopes.get(name).copied().map(ScopeNumber)
    }

    /// What sessions of an agent may ever be granted of a scope.
    pub(super) fn ceiling(&self, agent: &AgentName, scope: ScopeNumber) -> Option<&Ceiling> {
        let agent = *self.agents.get(agent)? as usize;
        let number = *self
            .numbers
            .get(agent * self.scopes.len() + scope.0 as usize)?;
        self.ceilings.get((number as usize).checked_sub(1)?)
    }
}

fn number_of(position: usize) -> u32 {
    u32::try_from(position).expect("a bounded file has fewer than 2^32 entries")
}
