//! What is proven of a whole policy, said where it stands in the file.

use super::agents::ScopePlace;
use super::project::Places;
use crate::config::error::{Place, Reports};
use crate::policy::model::Policy;
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
    match finding {
        Finding::ResourceMissing { route, agent } => {
            let (place, scope) = (places.route(*route), &policy.route(*route).scope);
            let line = reports.line_of(places.scope(agent, scope).name);
            reports.error(
                place.scope,
                format!(
                    "{}: agent `{agent}` holds `{scope}` on some resources only (line {line}), and this route names none",
                    place.subject
                ),
                "write the route's `resource`, or give it a scope of its own",
            );
        }
        Finding::ScopeUnheld { route } => {
            let (place, scope) = (places.route(*route), &policy.route(*route).scope);
            reports.warn(
                place.scope,
                format!(
                    "{}: no agent may hold `{scope}`, so it never passes",
                    place.subject
                ),
                "write the scope into the ceiling of an agent, or remove the route",
            );
        }
        Finding::ScopeUnneeded { agent, scope } => reports.warn(
            places.scope(agent, scope).name,
            format!("agent `{agent}`: no route needs the scope `{scope}`"),
            unneeded_help(scope, policy),
        ),
        Finding::PatternUnproducible {
            agent,
            scope,
            position,
        } => {
            let place = places.scope(agent, scope).pattern(*position);
            reports.warn(
                place,
                format!("agent `{agent}`: no route that needs `{scope}` can produce a resource that this matches"),
                unproducible_help(scope, policy),
            );
        }
        Finding::DestroysAny {
            agent,
            scope,
            route,
        } => {
            let opened = &places.route(*route).subject;
            reports.warn(
                places.scope(agent, scope).name,
                format!("agent `{agent}`: `{scope}` opens {opened}, which can't be undone, on any resource"),
                "bound it with `resources: [...]`, or write `resources: any` to say that it is meant",
            );
        }
    }
}

impl Places {
    fn scope(&self, agent: &AgentName, scope: &ScopeName) -> &ScopePlace {
        &self.scopes[&(agent.clone(), scope.clone())]
    }
}

impl ScopePlace {
    fn pattern(&self, position: usize) -> Place {
        self.patterns
            .get(position)
            .map_or(self.name, |(_, place)| *place)
    }
}

fn unproducible_help(scope: &ScopeName, policy: &Policy) -> String {
    let routes = policy.routes.iter().filter(|route| route.scope == *scope);
    let help = "compare it with the `resource` of those routes";
    match routes.filter_map(|route| route.resource.as_ref()).next() {
        Some(example) => format!("{help}: the first is `{example}`"),
        None => help.into(),
    }
}

fn unneeded_help(name: &ScopeName, policy: &Policy) -> String {
    let needed = policy.routes.iter().map(|route| route.scope.as_str());
    match crate::config::error::did_you_mean(name.as_str(), needed) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "remove it, or write the route that needs it".into(),
    }
}
