//! Agents and their ceilings.

use super::approvals::{Chains, DEFAULT};
use super::or;
use crate::config::error::{Place, Reports};
use crate::config::raw;
use crate::config::read::At;
use crate::config::units::show_duration;
use crate::policy::model::{Agent, Ceiling, GrantMode, Resources};
use crate::policy::name::{AgentName, ScopeName};
use crate::policy::resource::ResourcePattern;
use std::collections::HashMap;
use std::time::Duration;

/// Where agents' scopes and their patterns stand, for proofs.
pub type ScopePlaces = HashMap<(AgentName, ScopeName), ScopePlace>;

/// Where one scope of one agent stands.
pub struct ScopePlace {
    pub name: Place,
    /// As written, in file order.
    pub patterns: Vec<(ResourcePattern, Place)>,
}

pub fn agents(
    raw: &[(At<AgentName>, Option<At<raw::Agent>>)],
    chains: &Chains,
    reports: &mut Reports,
) -> (Vec<Agent>, ScopePlaces) {
    let mut agents = Vec::with_capacity(raw.len());
    let mut places = ScopePlaces::new();
    for (name, raw) in raw {
        let Some(raw) = raw else {
            continue;
        };
        reports.enter(format!("agent `{}`", name.value));
        let mut agent = session(&name.value, raw.value.session.as_ref(), name.place, reports);
        let scopes = raw.value.scopes.as_ref().map_or(&[][..], |at| &at.value.0);
        for (scope, rule) in scopes {
            let Some(rule) = rule else {
                continue;
            };
            let patterns = patterns(rule.value.0.resources.as_ref(), reports);
            let grant = grant(scope, &rule.value.0, chains, reports);
            let ceiling = ceiling(&rule.value.0, grant, &patterns);
            agent.scopes.insert(scope.value.clone(), ceiling);
            let place = ScopePlace {
                name: scope.place,
                patterns,
            };
            places.insert((name.value.clone(), scope.value.clone()), place);
        }
        reports.leave();
        agents.push(agent);
    }
    (agents, places)
}

fn session(
    name: &AgentName,
    raw: Option<&At<raw::Session>>,
    fallback: Place,
    reports: &mut Reports,
) -> Agent {
    let raw = raw.map(|at| &at.value);
    let ttl_at = raw.and_then(|raw| raw.ttl.as_ref());
    let max_ttl_at = raw.and_then(|raw| raw.max_ttl.as_ref());
    let ttl = or(ttl_at, |span| span.0, TTL);
    let max_ttl = or(max_ttl_at, |span| span.0, MAX_TTL);
    if ttl > max_ttl {
        let (ttl, max_ttl) = (show_duration(ttl), show_duration(max_ttl));
        let place = ttl_at.map(|at| at.place).or(max_ttl_at.map(|at| at.place));
        reports.error(
            place.unwrap_or(fallback),
            format!("`ttl` ({ttl}) is longer than `max_ttl` ({max_ttl})"),
            "write both, `ttl` no longer than `max_ttl`; their defaults are 15m and 4h",
        );
    }
    Agent {
        name: name.clone(),
        ttl,
        max_ttl,
        max_live: raw
            .and_then(|raw| raw.max_live.as_ref())
            .map(|at| at.value.0),
        scopes: HashMap::new(),
    }
}

/// How a grant of the scope comes about, and by whose word.
fn grant(
    scope: &At<ScopeName>,
    raw: &raw::Scope,
    chains: &Chains,
    reports: &mut Reports,
) -> GrantMode {
    let mode = raw.grant.as_ref().map(|at| at.value);
    let asked = match (mode, &raw.approval) {
        (Some(raw::Grant::Approval), Some(named)) => chains.named(named, reports),
        (Some(raw::Grant::Approval), None) => {
            let chain = chains.default();
            if chain.is_none() {
                reports.error(
                    raw.grant.as_ref().map_or(scope.place, |at| at.place),
                    format!("a person decides grants of `{}`, and this project has no chain `{DEFAULT}`", scope.value),
                    format!("{}, or name another: `approval: CHAIN`", chains.cure(DEFAULT)),
                );
            }
            chain
        }
        (Some(raw::Grant::Use | raw::Grant::Request) | None, Some(named)) => {
            reports.error(
                named.place,
                format!("`approval` names who decides grants of `{}`, which nobody is asked for", scope.value),
                "write `grant: on_approval` beside it, or remove it; for single calls write `approval` in the route",
            );
            None
        }
        (Some(raw::Grant::Use | raw::Grant::Request) | None, None) => None,
    };
    match (mode, asked) {
        (Some(raw::Grant::Use) | None, _) => GrantMode::OnUse,
        (_, Some(chain)) => GrantMode::OnApproval(chain),
        // A chain that is missing was reported.
        (Some(raw::Grant::Request | raw::Grant::Approval), None) => GrantMode::OnRequest,
    }
}

fn ceiling(raw: &raw::Scope, grant: GrantMode, patterns: &[(ResourcePattern, Place)]) -> Ceiling {
    Ceiling {
        grant,
        uses: or(raw.uses.as_ref(), |count| count.0, USES),
        ttl: or(raw.ttl.as_ref(), |span| span.0, GRANT_TTL),
        grants: or(raw.grants.as_ref(), |count| count.0, GRANTS),
        resources: match raw.resources.as_ref().map(|at| &at.value) {
            None => Resources::Any,
            Some(raw::Resources::Any) => Resources::AnyMeant,
            Some(raw::Resources::Patterns(_)) => Resources::Patterns(
                patterns
                    .iter()
                    .map(|(pattern, _)| pattern.clone())
                    .collect(),
            ),
        },
    }
}

fn patterns(
    raw: Option<&At<raw::Resources>>,
    reports: &mut Reports,
) -> Vec<(ResourcePattern, Place)> {
    let Some(raw::Resources::Patterns(raw)) = raw.map(|at| &at.value) else {
        return Vec::new();
    };
    let mut patterns: Vec<(ResourcePattern, Place)> = Vec::with_capacity(raw.len());
    for At { place, value } in raw {
        match ResourcePattern::parse(&value.0) {
            Ok(pattern) if patterns.iter().any(|(have, _)| *have == pattern) => {
                reports.error(*place, "this pattern is listed twice", "remove one");
            }
            Ok(pattern) => patterns.push((pattern, *place)),
            Err(error) => reports.error(*place, error.to_string(), PATTERN),
        }
    }
    patterns
}

const PATTERN: &str = "a pattern is `user:7`, `user:*`, or `user:{session.customer_id}` with an attribute of the session";
const TTL: Duration = Duration::from_secs(15 * 60);
const MAX_TTL: Duration = Duration::from_secs(4 * 3600);
const USES: u32 = 1;
const GRANT_TTL: Duration = Duration::from_secs(5 * 60);
const GRANTS: u32 = 10;
