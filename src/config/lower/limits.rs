//! Limits, and whether what they name exists.

use crate::config::error::{Place, Reports, did_you_mean};
use crate::config::raw;
use crate::config::read::{At, alternatives};
use crate::policy::limit::{Bound, Exceeded, Limit, Per, Select};
use crate::policy::name::{RouteId, ScopeName, ToolName};
use std::collections::HashMap;
use std::fmt::Display;

/// What a limit may name.
#[derive(Debug, Default)]
pub struct Known<'r> {
    pub tools: Vec<&'r ToolName>,
    /// With tool and scope.
    pub routes: HashMap<&'r RouteId, (&'r ToolName, Option<&'r ScopeName>)>,
    pub scopes: HashMap<&'r ScopeName, Vec<&'r ToolName>>,
    /// Routes have costs.
    pub costs: bool,
}

/// The limits that could be read, and where each stands.
pub fn limits(
    raw: &[At<raw::Limit>],
    known: &Known<'_>,
    reports: &mut Reports,
) -> (Vec<Limit>, Vec<Place>) {
    let mut limits = Vec::with_capacity(raw.len());
    let mut places = Vec::with_capacity(raw.len());
    for At { value: raw, .. } in raw {
        reports.enter(format!(
            "limit `{}`",
            raw.id.as_ref().map_or("?", |id| id.value.as_str())
        ));
        let bound = bound(raw, reports);
        refuse_unknown(raw, known, reports);
        if let (Some(id), Some(per), Some(bound)) = (&raw.id, &raw.per, bound) {
            limits.push(Limit {
                id: id.value.clone(),
                per: self::per(per.value),
                select: Select {
                    scope: raw.scope.as_ref().map(|at| at.value.clone()),
                    tool: raw.tool.as_ref().map(|at| at.value.clone()),
                    route: raw.route.as_ref().map(|at| at.value.clone()),
                },
                bound,
                exceeded: match raw.exceeded.as_ref().map(|at| at.value) {
                    Some(raw::Exceeded::Quarantine) => Exceeded::Quarantine,
                    Some(raw::Exceeded::Throttle) | None => Exceeded::Throttle,
                },
            });
            places.push(id.place);
        }
        reports.leave();
    }
    (limits, places)
}

const fn per(raw: raw::Per) -> Per {
    match raw {
        raw::Per::Session => Per::Session,
        raw::Per::Agent => Per::Agent,
        raw::Per::Project => Per::Project,
    }
}

fn bound(raw: &raw::Limit, reports: &mut Reports) -> Option<Bound> {
    if let (Some(burst), None) = (&raw.burst, &raw.rate) {
        let help = "remove it: `count` and `repeats` count every call, `rate` alone smooths";
        reports.error(burst.place, "`burst` belongs to `rate`", help);
    }
    if let (Some(repeats), Some(per)) = (&raw.repeats, &raw.per)
        && per.value != raw::Per::Session
    {
        let message = "`repeats` counts the calls of one session";
        reports.error(repeats.place, message, "write `per: session`");
    }
    if let Some(At { value: rate, .. }) = &raw.rate {
        let burst = raw.burst.as_ref().map_or(rate.count, |burst| burst.value.0);
        return Some(Bound::Rate {
            count: rate.count,
            window: rate.window,
            burst,
        });
    }
    if let Some(At { value, .. }) = &raw.count {
        let (count, window) = (value.count, value.window);
        return Some(Bound::Count { count, window });
    }
    if let Some(At { value, .. }) = &raw.repeats {
        let (count, window) = (value.count, value.window);
        return Some(Bound::Repeats { count, window });
    }
    let At { value: cost, .. } = raw.cost.as_ref()?;
    Some(Bound::Cost {
        micros: cost.micros,
        window: cost.window,
    })
}

fn refuse_unknown(raw: &raw::Limit, known: &Known<'_>, reports: &mut Reports) {
    let (scope, tool, route) = (raw.scope.as_ref(), raw.tool.as_ref(), raw.route.as_ref());
    let mut all = true;
    if let Some(at) = tool.filter(|at| !known.tools.contains(&&at.value)) {
        unknown(
            at,
            "there is no tool",
            known.tools.iter().map(|name| name.as_str()),
            reports,
        );
        all = false;
    }
    if let Some(at) = route.filter(|at| !known.routes.contains_key(&at.value)) {
        unknown(
            at,
            "there is no route",
            known.routes.keys().map(|id| id.as_str()),
            reports,
        );
        all = false;
    }
    if let Some(at) = scope.filter(|at| !known.scopes.contains_key(&at.value)) {
        unknown(
            at,
            "no route needs the scope",
            known.scopes.keys().map(|name| name.as_str()),
            reports,
        );
        all = false;
    }
    if !all {
        return;
    }
    let route_fits = route.is_none_or(|route| {
        let (of_tool, needs) = known.routes[&route.value];
        tool.is_none_or(|tool| tool.value == *of_tool)
            && scope.is_none_or(|scope| needs.is_none_or(|needs| *needs == scope.value))
    });
    let scope_fits = match (scope, tool) {
        (Some(scope), Some(tool)) => known.scopes[&scope.value].contains(&&tool.value),
        (Some(_) | None, _) => true,
    };
    if !(route_fits && scope_fits) {
        let place = route.map(|at| at.place).or(scope.map(|at| at.place));
        reports.error(
            place.unwrap_or_default(),
            "no call fits all that this limit names",
            "a limit covers calls that fit its scope, its tool and its route at once: remove what contradicts",
        );
    }
    if let Some(cost) = raw.cost.as_ref().filter(|_| !known.costs) {
        reports.warn(
            cost.place,
            "no route has a cost, so this limit is never reached",
            "write `cost: { fixed: 0.01 }` or `cost: { header: x-cost }` on the routes that cost something",
        );
    }
}

fn unknown<'k, T: Display>(
    at: &At<T>,
    message: &str,
    known: impl Iterator<Item = &'k str>,
    reports: &mut Reports,
) {
    let mut names: Vec<&str> = if reports.crowded() {
        Vec::new()
    } else {
        known.collect()
    };
    names.sort_unstable();
    let help = match did_you_mean(&at.value.to_string(), names.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if names.is_empty() => "name one that exists".into(),
        None => {
            names.truncate(NAMES_SHOWN_MAX);
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("name one that exists, such as {}", alternatives(&names))
        }
    };
    reports.error(at.place, format!("{message} `{}`", at.value), help);
}

/// Most names that a help line lists.
const NAMES_SHOWN_MAX: usize = 5;
