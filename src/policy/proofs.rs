//! What can be proven of a policy when it is loaded: rules that contradict each other, and rules that can't matter.
//!
//! Templates that overlap and rules that can never be reached are refused while the route table is built
//! ([`super::route::TableError`]). Here is what needs routes and agents together. It refuses to guess: a finding is
//! certain, and what can't be decided is no finding.

use super::approval::{Approvers, Chain, ChainIndex};
use super::condition::Test;
use super::model::{Agent, Ceiling, GrantMode, Policy, Resources, Route, RouteIndex};
use super::name::{AgentName, GroupName, PrincipalName, ScopeName};
use super::resource::{Part, ResourcePattern, ResourceTemplate};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

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
    /// An error: the condition holds for no call.
    ConditionNever {
        /// Whose.
        route: RouteIndex,
        /// Position in its `where`.
        condition: usize,
    },
    /// An error: wherever the conditions of the later route hold, those of the earlier one of the same match do, and that is
    /// the one which is taken.
    ArmUnreached {
        /// Taken.
        first: RouteIndex,
        /// Never reached.
        second: RouteIndex,
    },
    /// A warning: a condition on SQL lists no functions, so that whatever the database has of its own may be called.
    FunctionsUnlisted {
        /// Whose.
        route: RouteIndex,
        /// Position in its `where`.
        condition: usize,
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
    /// A warning: no route and no scope is decided by the chain.
    ChainUnneeded {
        /// Which.
        chain: ChainIndex,
    },
    /// A warning: no chain tells the target.
    NotifyUnneeded {
        /// Position in [`Policy::notify`].
        position: usize,
    },
    /// A warning: approvals of the chain end before it says, for the session or the grant that they hang on does.
    ChainOutlives {
        /// Which.
        chain: ChainIndex,
        /// Whose session or grant.
        agent: AgentName,
        /// The scope that needs the chain.
        scope: ScopeName,
        /// What ends first.
        life: Life,
    },
    /// A warning: of the principals that may decide, too few can agree.
    ChainUnmet {
        /// Which.
        chain: ChainIndex,
        /// How many of those may decide who do not mint the session themselves.
        able: usize,
    },
    /// A warning: no principal that may decide here is in the group.
    GroupEmpty {
        /// Of which chain.
        chain: ChainIndex,
        /// Position in its approvers.
        position: usize,
    },
}

/// What an approval hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// A session, and how long one can live.
    Session(Duration),
    /// A stored grant, and how long one can live.
    Grant(Duration),
}

/// What makes a policy wrong.
pub fn errors(policy: &Policy) -> Vec<Finding> {
    let mut findings = arms(policy);
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

/// Conditions that make nothing of a route.
fn arms(policy: &Policy) -> Vec<Finding> {
    let routes = policy.routes.iter();
    let never = routes.filter_map(|route| {
        let condition = route.conditions.as_ref()?.contradiction()?;
        let route = route.index;
        Some(Finding::ConditionNever { route, condition })
    });
    let mut findings: Vec<Finding> = never.collect();
    for (first, second) in policy.table.successions() {
        let of = |index| policy.route(index).conditions.as_deref();
        let covered = match (of(first), of(second)) {
            (Some(earlier), Some(later)) => earlier.covers(later),
            _ => false,
        };
        let found = Finding::ArmUnreached { first, second };
        if covered && !findings.contains(&found) {
            findings.push(found);
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
    findings.extend(policy.routes.iter().filter_map(unlisted));
    findings.extend(unneeded(policy));
    findings.extend(outlived(policy, &needed));
    findings
}

fn unlisted(route: &Route) -> Option<Finding> {
    let open = |test: &Test| matches!(test, Test::Sql(rule) if rule.functions.is_none());
    let mut conditions = route.conditions.as_deref()?.0.iter();
    let condition = conditions.position(|condition| condition.tests.iter().any(open))?;
    let route = route.index;
    Some(Finding::FunctionsUnlisted { route, condition })
}

/// What is legal and probably not meant of a policy together with those who may decide, and those who may mint its
/// sessions: who minted a session has no say about it.
pub fn unmet(policy: &Policy, approvers: &Approvers, minters: &[&PrincipalName]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, chain) in chains(policy) {
        let able: Vec<&PrincipalName> = approvers.of(&policy.project, chain).collect();
        // The best that any session can hope for.
        let others = |minter: &&PrincipalName| able.iter().filter(|one| *one != minter).count();
        let able = minters.iter().map(others).max().unwrap_or(able.len());
        if able < chain.quorum as usize {
            findings.push(Finding::ChainUnmet { chain: index, able });
            continue;
        }
        let empty = |group: &GroupName| !approvers.has(&policy.project, group);
        let groups = chain.approvers.iter().enumerate();
        findings.extend(
            groups
                .filter(|(_, group)| empty(group))
                .map(|(position, _)| Finding::GroupEmpty {
                    chain: index,
                    position,
                }),
        );
    }
    findings
}

fn chains(policy: &Policy) -> impl Iterator<Item = (ChainIndex, &Chain)> {
    let chains = policy.chains.iter().enumerate();
    chains.map(|(at, chain)| {
        let at = u16::try_from(at).expect("a policy has at most 1000 chains");
        (ChainIndex(at), chain)
    })
}

fn unneeded(policy: &Policy) -> Vec<Finding> {
    let scopes = policy
        .agents
        .values()
        .flat_map(|agent| agent.scopes.values());
    let of_scopes = scopes.filter_map(|ceiling| match ceiling.grant {
        GrantMode::OnApproval(chain) => Some(chain),
        GrantMode::OnUse | GrantMode::OnRequest => None,
    });
    let of_routes = policy.routes.iter().filter_map(|route| route.approval);
    let needed: HashSet<ChainIndex> = of_scopes.chain(of_routes).collect();
    let chains = chains(policy).filter(|(index, _)| !needed.contains(index));
    let chains = chains.map(|(chain, _)| Finding::ChainUnneeded { chain });
    let told: HashSet<_> = policy
        .chains
        .iter()
        .flat_map(|chain| &chain.notify)
        .collect();
    let targets = policy.notify.iter().enumerate();
    let targets = targets.filter(|(_, target)| !told.contains(&target.name));
    chains
        .chain(targets.map(|(position, _)| Finding::NotifyUnneeded { position }))
        .collect()
}

/// Chains that wait longer than what their approvals hang on can live.
fn outlived(policy: &Policy, needed: &HashMap<&ScopeName, Vec<&Route>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in agents(policy) {
        let agent = &policy.agents[name];
        for (scope, ceiling) in scopes(agent) {
            // A wish for a grant hangs on the session alone; a call on its grant too.
            let wished = match ceiling.grant {
                GrantMode::OnApproval(chain) => Some((chain, None)),
                GrantMode::OnUse | GrantMode::OnRequest => None,
            };
            let grant = match ceiling.grant {
                GrantMode::OnUse => None,
                GrantMode::OnRequest | GrantMode::OnApproval(_) => Some(ceiling.ttl),
            };
            let called = needed.get(scope).into_iter().flatten();
            let called = called.filter_map(|route| Some((route.approval?, grant)));
            let mut seen = HashSet::new();
            for (chain, grant) in wished.into_iter().chain(called) {
                let expires = policy.chain(chain).expires;
                let life = match grant {
                    Some(ttl) if ttl < expires && ttl <= agent.max_ttl => Life::Grant(ttl),
                    _ if agent.max_ttl < expires => Life::Session(agent.max_ttl),
                    _ => continue,
                };
                if seen.insert(chain) {
                    findings.push(Finding::ChainOutlives {
                        chain,
                        agent: name.clone(),
                        scope: scope.clone(),
                        life,
                    });
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
            Some(_) | None => Box::default(),
        };
        let end = match parts.last() {
            Some(Part::Literal(text)) if !open => text.clone(),
            Some(_) | None => Box::default(),
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
