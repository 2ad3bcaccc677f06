//! What can be proven of a policy when it is loaded: rules that contradict each other, and rules that can't matter.
//!
//! Templates that overlap and rules that can never be reached are refused while the route table is built
//! ([`super::route::TableError`]). Here is what needs routes and agents together. It refuses to guess: a finding is
//! certain, and what can't be decided is no finding.

use super::model::{Agent, Ceiling, Policy, Resources, Route, RouteIndex};
use super::name::{AgentName, ScopeName};
use super::resource::{Part, ResourcePattern, ResourceTemplate};
use std::collections::{HashMap, HashSet};

/// One thing proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An error: the agent holds the scope on some resources only, and the route names no resource to compare.
    ResourceMissing {
        /// The route without `resource`.
        route: RouteIndex,
        /// Who holds its scope with `resources`.
        agent: AgentName,
    },
    /// A warning: no agent may ever hold the route's scope, so it never passes.
    ScopeUnheld {
        /// Which.
        route: RouteIndex,
    },
    /// A warning: no route needs the scope.
    ScopeUnneeded {
        /// Whose.
        agent: AgentName,
        /// Which.
        scope: ScopeName,
    },
    /// A warning: no route of the scope can produce a resource that the pattern matches.
    PatternUnproducible {
        /// Whose.
        agent: AgentName,
        /// Of which scope.
        scope: ScopeName,
        /// Position in its `resources`.
        position: usize,
    },
    /// A warning: nothing is said of resources, and the scope opens a route that destroys one.
    DestroysAny {
        /// Whose.
        agent: AgentName,
        /// Which.
        scope: ScopeName,
        /// The route it opens.
        route: RouteIndex,
    },
}

/// What makes a policy wrong.
pub fn errors(policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    let needed = by_scope(policy);
    for agent in agents(policy) {
        for (scope, ceiling) in scopes(&policy.agents[agent]) {
            if !matches!(ceiling.resources, Resources::Patterns(_)) {
                continue;
            }
            let routes = needed.get(scope).into_iter().flatten();
            findings.extend(
                routes
                    .filter(|route| route.resource.is_none())
                    .map(|route| Finding::ResourceMissing {
                        route: route.index,
                        agent: agent.clone(),
                    }),
            );
        }
    }
    findings
}

/// What is legal and probably not meant.
pub fn warnings(policy: &Policy) -> Vec<Finding> {
    let needed = by_scope(policy);
    let held: HashSet<&ScopeName> = policy
        .agents
        .values()
        .flat_map(|agent| agent.scopes.keys())
        .collect();
    let unheld = policy
        .routes
        .iter()
        .filter(|route| !held.contains(&route.scope));
    let mut findings: Vec<Finding> = unheld
        .map(|route| Finding::ScopeUnheld { route: route.index })
        .collect();
    for agent in agents(policy) {
        for (scope, ceiling) in scopes(&policy.agents[agent]) {
            let Some(routes) = needed.get(scope) else {
                findings.push(Finding::ScopeUnneeded {
                    agent: agent.clone(),
                    scope: scope.clone(),
                });
                continue;
            };
            match &ceiling.resources {
                Resources::AnyMeant => {}
                Resources::Any => findings.extend(
                    routes
                        .iter()
                        .find(|route| route.irreversible && route.resource.is_some())
                        .map(|route| Finding::DestroysAny {
                            agent: agent.clone(),
                            scope: scope.clone(),
                            route: route.index,
                        }),
                ),
                Resources::Patterns(patterns) => {
                    let dead = |pattern: &ResourcePattern| {
                        let templates =
                            || routes.iter().filter_map(|route| route.resource.as_ref());
                        templates().next().is_some()
                            && !templates().any(|template| may_meet(template, pattern))
                    };
                    findings.extend(patterns.iter().enumerate().filter(|(_, p)| dead(p)).map(
                        |(position, _)| Finding::PatternUnproducible {
                            agent: agent.clone(),
                            scope: scope.clone(),
                            position,
                        },
                    ));
                }
            }
        }
    }
    findings
}

/// In order of name, so that reports don't depend on hashing.
fn agents(policy: &Policy) -> Vec<&AgentName> {
    let mut names: Vec<_> = policy.agents.keys().collect();
    names.sort();
    names
}

fn scopes(agent: &Agent) -> Vec<(&ScopeName, &Ceiling)> {
    let mut scopes: Vec<_> = agent.scopes.iter().collect();
    scopes.sort_by_key(|(scope, _)| *scope);
    scopes
}

fn by_scope(policy: &Policy) -> HashMap<&ScopeName, Vec<&Route>> {
    let mut routes: HashMap<&ScopeName, Vec<&Route>> = HashMap::new();
    for route in &policy.routes {
        routes.entry(&route.scope).or_default().push(route);
    }
    routes
}

/// False only if no filling of the template's placeholders can make a resource that the pattern matches: their fixed
/// beginnings or ends disagree, or both are fixed and differ.
fn may_meet(template: &ResourceTemplate, pattern: &ResourcePattern) -> bool {
    let ends = |parts: &[Part], open: bool| {
        let begin = match parts.first() {
            Some(Part::Literal(text)) => text.clone(),
            Some(Part::Path(_) | Part::Session(_)) | None => Box::default(),
        };
        let end = match parts.last() {
            Some(Part::Literal(text)) if !open => text.clone(),
            Some(Part::Literal(_) | Part::Path(_) | Part::Session(_)) | None => Box::default(),
        };
        let fixed = !open && matches!(parts, [Part::Literal(_)]);
        (begin, end, fixed)
    };
    let (begin_a, end_a, fixed_a) = ends(&template.parts, false);
    let (begin_b, end_b, fixed_b) = ends(&pattern.parts, pattern.any_id);
    let begins = begin_a.starts_with(&*begin_b) || begin_b.starts_with(&*begin_a);
    let closes = end_a.ends_with(&*end_b) || end_b.ends_with(&*end_a);
    match (fixed_a, fixed_b) {
        (true, true) => begin_a == begin_b,
        // What is fixed must be long enough to hold the other's fixed beginning and end.
        (true, false) => begin_a.starts_with(&*begin_b) && closes,
        (false, true) => begin_b.starts_with(&*begin_a) && closes,
        (false, false) => begins && closes,
    }
}
