//! One project file: agents, tools, routes and limits to a [`Policy`].

use super::agents::{ScopePlaces, agents};
use super::approvals::{ChainPlace, chains};
use super::faults;
use super::limits::{Known, limits};
use super::notify::targets;
use super::proofs;
use super::routes::{RoutePlace, Usual, route};
use super::shadow::{self, ShadowPlaces};
use super::tests::{Promise, promise, tests};
use super::tools::tool;
use crate::config::error::{Place, Reports};
use crate::config::raw;
use crate::config::read::At;
use crate::config::secrets::Vault;
use crate::policy::model::{Mount, Parts, Policy, PolicyHash, ToolIndex};
use crate::policy::name::{AgentName, ProjectName, ToolName};

/// What became of one project file.
pub struct Draft {
    /// Its name and where it is written.
    pub name: Option<At<ProjectName>>,
    /// Only if nothing was reported. Its places are for what is proven of it together with the server file.
    pub policy: Option<(Policy, Places)>,
    /// What it must make of calls.
    pub promises: Vec<Promise>,
}

/// Where the parts of a project stand, by their positions.
pub struct Places {
    /// Of the project's name.
    pub name: Place,
    pub agents: Vec<(AgentName, Place)>,
    pub scopes: ScopePlaces,
    pub tools: Vec<Place>,
    pub shadow: ShadowPlaces,
    pub routes: Vec<RoutePlace>,
    pub limits: Vec<Place>,
    pub chains: Vec<ChainPlace>,
    /// Targets of `notify`.
    pub notify: Vec<Place>,
}

pub fn project(
    raw: raw::Project,
    hash: PolicyHash,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Draft {
    let tests_raw = raw.tests.as_ref().map_or(&[][..], |at| &at.value.0);
    let targets = targets(raw.notify.as_ref(), vault, reports);
    let chains = chains(raw.approvals.as_ref(), &targets, reports);
    let agents_raw = raw.agents.as_ref().map_or(&[][..], |at| &at.value.0);
    let (agents, scopes) = agents(agents_raw, &chains, reports);
    let usual = Usual::of(&raw);
    let mut shadow = ShadowPlaces::of(raw.mode.as_ref());
    let tools_raw = raw.tools.as_ref().map_or(&[][..], |at| &at.value.0);
    let (mut tools, mut tool_places) = (Vec::new(), Vec::new());
    let (mut routes, mut route_places) = (Vec::new(), Vec::new());
    for (name, raw) in tools_raw {
        let Some(raw) = raw else {
            continue;
        };
        reports.enter(format!("tool `{}`", name.value));
        let lowered = tool(name, raw, vault, reports);
        reports.leave();
        let usual = usual.within(&raw.value);
        let index = ToolIndex(u32::try_from(tools.len()).unwrap_or(u32::MAX));
        for raw in raw.value.routes.iter().flat_map(|at| &at.value.0) {
            let raw = (&raw.value, usual);
            if let Some((part, place)) = route(index, &lowered, raw, &chains, reports) {
                routes.push(part);
                route_places.push(place);
            }
        }
        tools.push(lowered);
        shadow.tool(&raw.value);
        let found_at = raw.value.mount.as_ref().map(|at| at.place);
        let found_at = found_at.or(raw.value.host.as_ref().map(|at| at.place));
        tool_places.push(found_at.unwrap_or(name.place));
    }
    refuse_unreached(&tools, &routes, &route_places, reports);
    let limits_raw = raw.limits.as_ref().map_or(&[][..], |at| &at.value.0);
    let (limits, limit_places) = limits(limits_raw, &known(tools_raw), reports);
    let named = raw.project.as_ref();
    let places = Places {
        name: named.map(|at| at.place).unwrap_or_default(),
        agents: agents_raw
            .iter()
            .map(|(name, _)| (name.value.clone(), name.place))
            .collect(),
        scopes,
        tools: tool_places,
        shadow,
        routes: route_places,
        limits: limit_places,
        chains: chains.places,
        notify: targets.names.iter().map(|name| name.place).collect(),
    };
    let name = raw.project;
    let parts = Parts {
        // Without a name the rest is judged all the same; the missing name is among what was reported.
        project: name.as_ref().map_or_else(unnamed, |at| at.value.clone()),
        hash,
        agents,
        tools,
        routes,
        limits,
        chains: chains.all,
        notify: targets.all,
    };
    let policy = assemble(parts, &places, reports);
    tests(tests_raw, reports);
    let read = |test: &At<raw::Test>| promise(policy.as_ref()?, test, reports);
    let promises = tests_raw.iter().filter_map(read).collect();
    Draft {
        name,
        policy: policy
            .filter(|_| !reports.failed())
            .map(|policy| (policy, places)),
        promises,
    }
}

/// The policy, if nothing was reported of the file.
fn assemble(parts: Parts, places: &Places, reports: &mut Reports) -> Option<Policy> {
    match Policy::assemble(parts) {
        Ok(policy) => {
            proofs::report(&policy, places, reports);
            if !reports.failed() {
                shadow::report(&policy, places, reports);
            }
            (!reports.failed()).then_some(policy)
        }
        Err(faults) => {
            faults
                .iter()
                .for_each(|fault| faults::report(fault, places, reports));
            None
        }
    }
}

fn unnamed() -> ProjectName {
    ProjectName::parse("unnamed").expect("this is a name")
}

/// What limits may name: whatever is written, even where something else about it was refused.
fn known(tools: &[(At<ToolName>, Option<At<raw::Tool>>)]) -> Known<'_> {
    let mut known = Known::default();
    for (name, tool) in tools {
        known.tools.push(&name.value);
        let routes = tool.iter().flat_map(|tool| &tool.value.routes);
        for route in routes.flat_map(|at| &at.value.0) {
            let scope = route.value.scope.as_ref().map(|at| &at.value);
            if let Some(id) = &route.value.id {
                known.routes.insert(&id.value, (&name.value, scope));
            }
            if let Some(scope) = scope {
                known.scopes.entry(scope).or_default().push(&name.value);
            }
            known.costs |= route.value.cost.is_some();
        }
    }
    known
}

/// A route under another tool's longer mount could never be reached: the longest mount wins.
fn refuse_unreached(
    tools: &[crate::policy::model::Tool],
    routes: &[crate::policy::model::RoutePart],
    places: &[RoutePlace],
    reports: &mut Reports,
) {
    let mount = |index: usize| match &tools[index].mount {
        Mount::Path(mount) => Some(mount.trim_end_matches('/')),
        Mount::Host(_) | Mount::None => None,
    };
    // For each tool the mounts within its own, relative to it.
    let inner: Vec<Vec<(&str, &ToolName)>> = (0..tools.len())
        .map(|outer| {
            let relative = |other: usize| {
                let rest = mount(other)?.strip_prefix(mount(outer)?)?;
                rest.starts_with('/').then_some((rest, &tools[other].name))
            };
            (0..tools.len()).filter_map(relative).collect()
        })
        .collect();
    for (route, place) in routes.iter().zip(places) {
        for (part, at) in route.matches.iter().zip(&place.matches) {
            let text = part.template.as_str();
            let longer = inner[route.tool.0 as usize].iter().find(|(inner, _)| {
                text.strip_prefix(inner)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            if let Some((_, other)) = longer {
                reports.error(
                    at.place,
                    format!("{}: the longer mount of tool `{other}` takes this path, so it could never be reached", place.subject),
                    format!("move the route to tool `{other}`, or mount that elsewhere"),
                );
            }
        }
    }
}
