//! What is proven of a whole policy, said where it stands in the file.

use super::project::Places;
use crate::config::error::Reports;
use crate::policy::model::{Policy, RouteIndex};
use crate::policy::name::{AgentName, ScopeName};
use crate::policy::proofs::{self, Finding};

/// Errors always; warnings only where nothing else is wrong, for what is missing may be what was refused.
pub fn report(policy: &Policy, places: &Places, reports: &mut Reports) {
    for finding in proofs::errors(policy) {
        say(&finding, policy, places, reports);
    }
    if !reports.failed() {
        for finding in proofs::warnings(policy) {
            say(&finding, policy, places, reports);
        }
    }
}

fn say(finding: &Finding, policy: &Policy, places: &Places, reports: &mut Reports) {
    let route = |index: RouteIndex| (policy.route(index), &places.routes[index.0 as usize]);
    let scope =
        |agent: &AgentName, scope: &ScopeName| &places.scopes[&(agent.clone(), scope.clone())];
    match finding {
        Finding::ResourceMissing {
            route: index,
            agent,
        } => {
            let (lowered, place) = route(*index);
            let line = reports.line_of(scope(agent, &lowered.scope).name);
            reports.error(
                place.scope,
                format!(
                    "{}: agent `{agent}` holds `{}` on some resources only (line {line}), and this route names none",
                    place.subject, lowered.scope
                ),
                "write the route's `resource`, or give it a scope of its own",
            );
        }
        Finding::ScopeUnheld { route: index } => {
            let (lowered, place) = route(*index);
            reports.warn(
                place.scope,
                format!(
                    "{}: no agent may hold `{}`, so it never passes",
                    place.subject, lowered.scope
                ),
                "write the scope into the ceiling of an agent, or remove the route",
            );
        }
        Finding::ScopeUnneeded { agent, scope: name } => reports.warn(
            scope(agent, name).name,
            format!("agent `{agent}`: no route needs the scope `{name}`"),
            unneeded_help(name, policy),
        ),
        Finding::PatternUnproducible {
            agent,
            scope: name,
            position,
        } => {
            let scope = scope(agent, name);
            let place = scope
                .patterns
                .get(*position)
                .map_or(scope.name, |(_, place)| *place);
            let produced = policy.routes.iter().filter(|route| route.scope == *name);
            let example = produced.filter_map(|route| route.resource.as_ref()).next();
            let example = example.map_or_else(String::new, |it| format!(": they are `{it}`"));
            reports.warn(
                place,
                format!("agent `{agent}`: no route that needs `{name}` can produce a resource that this matches"),
                format!("compare it with the `resource` of those routes{example}"),
            );
        }
        Finding::DestroysAny {
            agent,
            scope: name,
            route: index,
        } => reports.warn(
            scope(agent, name).name,
            format!(
                "agent `{agent}`: `{name}` opens {}, which can't be undone, on any resource",
                route(*index).1.subject
            ),
            "bound it with `resources: [...]`, or write `resources: any` to say that it is meant",
        ),
    }
}

fn unneeded_help(name: &ScopeName, policy: &Policy) -> String {
    let needed = policy.routes.iter().map(|route| route.scope.as_str());
    match crate::config::error::did_you_mean(name.as_str(), needed) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "remove it, or write the route that needs it".into(),
    }
}
