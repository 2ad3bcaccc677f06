//! One project file: agents, tools, routes and limits to a [`Policy`], and the faults of the whole back to their places.

use super::agents::{ScopePlaces, agents};
use super::limits::{Known, limits};
use super::proofs;
use super::routes::{MatchPlace, RoutePlace, route};
use super::tools::tool;
use crate::config::error::{Place, Reports};
use crate::config::raw;
use crate::config::read::At;
use crate::config::secrets::Vault;
use crate::policy::model::{Mount, Parts, Policy, PolicyHash, RouteIndex, ToolIndex};
use crate::policy::name::{ProjectName, ToolName};
use crate::policy::route::TableError;

/// What became of one project file.
pub struct Draft {
    /// Its name and where it is written.
    pub name: Option<At<ProjectName>>,
    /// Only if nothing was reported.
    pub policy: Option<Policy>,
}

/// Where the parts of a project stand, by their positions.
pub(super) struct Places {
    pub scopes: ScopePlaces,
    pub tools: Vec<Place>,
    pub routes: Vec<RoutePlace>,
    pub limits: Vec<Place>,
}

pub fn project(
    raw: raw::Project,
    hash: PolicyHash,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Draft {
    let agents_raw = raw.agents.as_ref().map_or(&[][..], |at| &at.value.0);
    let (agents, scopes) = agents(agents_raw, reports);
    let tools_raw = raw.tools.as_ref().map_or(&[][..], |at| &at.value.0);
    let (mut tools, mut tool_places) = (Vec::new(), Vec::new());
    let (mut routes, mut route_places) = (Vec::new(), Vec::new());
    for (name, raw) in tools_raw {
        let Some(raw) = raw else {
            continue;
        };
        reports.enter(format!("tool `{}`", name.value));
        let lowered = tool(name, &raw.value, vault, reports);
        reports.leave();
        let index = ToolIndex(u32::try_from(tools.len()).unwrap_or(u32::MAX));
        for raw in raw.value.routes.iter().flat_map(|at| &at.value.0) {
            if let Some((part, place)) = route(index, &lowered, &raw.value, reports) {
                routes.push(part);
                route_places.push(place);
            }
        }
        tools.push(lowered);
        let found_at = raw.value.mount.as_ref().map(|at| at.place);
        let found_at = found_at.or(raw.value.host.as_ref().map(|at| at.place));
        tool_places.push(found_at.unwrap_or(name.place));
    }
    refuse_shadowed(&tools, &routes, &route_places, reports);
    let limits_raw = raw.limits.as_ref().map_or(&[][..], |at| &at.value.0);
    let (limits, limit_places) = limits(limits_raw, &known(tools_raw), reports);
    let places = Places {
        scopes,
        tools: tool_places,
        routes: route_places,
        limits: limit_places,
    };
    let name = raw.project;
    let Some(project) = name.as_ref().map(|at| at.value.clone()) else {
        return Draft { name, policy: None };
    };
    let parts = Parts {
        project,
        hash,
        agents,
        tools,
        routes,
        limits,
    };
    let policy = match Policy::assemble(parts) {
        Ok(policy) => {
            proofs::report(&policy, &places, reports);
            (!reports.failed()).then_some(policy)
        }
        Err(faults) => {
            for fault in &faults {
                report_fault(fault, &places, reports);
            }
            None
        }
    };
    Draft { name, policy }
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
fn refuse_shadowed(
    tools: &[crate::policy::model::Tool],
    routes: &[crate::policy::model::RoutePart],
    places: &[RoutePlace],
    reports: &mut Reports,
) {
    let mount = |index: usize| match &tools[index].mount {
        Mount::Path(mount) => Some(mount.trim_end_matches('/')),
        Mount::Host(_) => None,
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
            let shadow = inner[route.tool.0 as usize].iter().find(|(inner, _)| {
                text.strip_prefix(inner)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            if let Some((_, other)) = shadow {
                reports.error(
                    at.place,
                    format!("{}: the longer mount of tool `{other}` takes this path, so it could never be reached", place.subject),
                    format!("move the route to tool `{other}`, or mount that elsewhere"),
                );
            }
        }
    }
}

fn report_fault(fault: &TableError, places: &Places, reports: &mut Reports) {
    let route = |index: &RouteIndex| &places.routes[index.0 as usize];
    match fault {
        TableError::Duplicate {
            first,
            second,
            method,
        } => {
            let (first, second) = (route(first), route(second));
            let place = match_place(&second.matches, method);
            let line = reports.line_of(match_place(&first.matches, method));
            reports.error(
                place,
                format!(
                    "{}: {} on line {line} already matches this",
                    second.subject, first.subject
                ),
                "remove one; two routes with one match need `where`, which is not available yet",
            );
        }
        TableError::Overlap { first, second } => {
            let (first, second) = (route(first), route(second));
            let line = reports.line_of(match_place(&first.matches, ""));
            reports.error(
                match_place(&second.matches, ""),
                format!("{}: some paths match this and {} on line {line}, and neither is more specific", second.subject, first.subject),
                "make one lie within the other: `/a/{x}` within `/{y}/{x}`, and not beside `/{y}/b`",
            );
        }
        TableError::Method {
            route: index,
            method,
        } => {
            let at = route(index);
            let message = format!("{}: {fault}", at.subject);
            reports.error(match_place(&at.matches, method), message, "remove it");
        }
        // Reported, part by part of the match, when the route was read.
        TableError::Placeholder { .. } => {}
        TableError::ToolMissing { route: index } => {
            let at = route(index);
            reports.error(
                at.id,
                format!("{}: {fault}", at.subject),
                "name a tool that exists",
            );
        }
        TableError::IdTwice { first, second } => {
            let (first, second) = (route(first), route(second));
            let line = reports.line_of(first.id);
            let message = format!("{}: this id is already on line {line}", second.subject);
            reports.error(
                second.id,
                message,
                "give each route of the project an id of its own",
            );
        }
        TableError::LimitTwice { first, second } => {
            let line = reports.line_of(places.limits[first.0 as usize]);
            reports.error(
                places.limits[second.0 as usize],
                format!("a limit of this id is already on line {line}"),
                "give each limit of the project an id of its own",
            );
        }
        TableError::MountTwice { first, second } => {
            let line = reports.line_of(places.tools[first.0 as usize]);
            reports.error(
                places.tools[second.0 as usize],
                format!("the tool on line {line} is already found here"),
                "give each tool of the project a mount or host of its own",
            );
        }
        TableError::MountReserved { tool } | TableError::MountMalformed { tool } => {
            reports.error(
                places.tools[tool.0 as usize],
                fault.to_string(),
                "mount the tool elsewhere",
            );
        }
        // The reader of the tree has refused the second of two equal keys.
        TableError::AgentTwice { .. } => {
            reports.error(Place::default(), fault.to_string(), "keep one of the two");
        }
    }
}

/// Where the part of a match with this method stands; the first, where the method does not say.
fn match_place(matches: &[MatchPlace], method: &str) -> Place {
    let named = matches.iter().find(|part| &*part.method == method);
    named
        .or(matches.first())
        .map_or(Place::default(), |part| part.place)
}
