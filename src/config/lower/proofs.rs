//! What is proven of a whole policy, said where it stands in the file.

use super::agents::ScopePlace;
use super::approvals::ChainPlace;
use super::project::Places;
use crate::config::error::{Place, Reports};
use crate::config::units::show_duration;
use crate::config::{Role, Server};
use crate::policy::approval::ChainIndex;
use crate::policy::model::Policy;
use crate::policy::name::{AgentName, ScopeName};
use crate::policy::proofs::{self, Finding, Life};

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
        Finding::ConditionNever { route, condition } => {
            let place = places.route(*route);
            let at = place.conditions.get(*condition).copied();
            reports.error(
                at.unwrap_or(place.id),
                format!("{}: this holds for no call", place.subject),
                "compare its tests with each other: all of them must hold at once",
            );
        }
        Finding::ArmUnreached { first, second } => {
            let (first, second) = (places.route(*first), places.route(*second));
            let line = reports.line_of(first.id);
            reports.error(
                second.id,
                format!(
                    "{}: wherever its conditions hold, those of {} (line {line}) do, and that one is taken first",
                    second.subject, first.subject
                ),
                "put the stricter route first, or change what it asks",
            );
        }
        Finding::FunctionsUnlisted { route, condition } => {
            let place = places.route(*route);
            let at = place.conditions.get(*condition).copied();
            reports.warn(
                at.unwrap_or(place.id),
                format!(
                    "{}: this SQL may call every function that is not known to reach out of the data, also those of your own, which may write",
                    place.subject
                ),
                "list those that it may call: `functions: [count, now]`; none: `functions: []`",
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
        Finding::ChainUnneeded { .. }
        | Finding::NotifyUnneeded { .. }
        | Finding::ChainOutlives { .. }
        | Finding::ChainUnmet { .. }
        | Finding::GroupEmpty { .. } => say_of_chains(finding, policy, places, reports),
    }
}

fn say_of_chains(finding: &Finding, policy: &Policy, places: &Places, reports: &mut Reports) {
    match finding {
        Finding::ChainUnneeded { chain } => reports.warn(
            places.chain(*chain).name,
            format!(
                "nothing is decided by the chain `{}`",
                policy.chain(*chain).name
            ),
            "name it in a route or scope with `approval`, or remove it",
        ),
        Finding::NotifyUnneeded { position } => reports.warn(
            places.notify[*position],
            format!("no chain tells `{}`", policy.notify[*position].name),
            "name it in a chain with `notify: [...]`, or remove it",
        ),
        Finding::ChainOutlives {
            chain,
            agent,
            scope,
            life,
        } => {
            let chain = policy.chain(*chain);
            let (what, span, key) = match life {
                Life::Session(span) => ("its session, which lives", span, "max_ttl"),
                Life::Grant(span) => ("their grant, which lives", span, "ttl"),
            };
            let (span, expires) = (show_duration(*span), show_duration(chain.expires));
            reports.warn(
                places.scope(agent, scope).name,
                format!(
                    "agent `{agent}`: approvals of `{scope}` end with {what} {span} at most, before the chain `{}` gives up on them ({expires})",
                    chain.name
                ),
                format!("write `{key}: {expires}` or more, or `expires: {span}` in the chain"),
            );
        }
        Finding::ChainUnmet { chain, able } => {
            let (place, chain) = (places.chain(*chain).name, policy.chain(*chain));
            let people = match able {
                0 => "nobody".to_owned(),
                able => format!("no more than {able}"),
            };
            reports.warn(
                place,
                format!(
                    "chain `{}`: {people} can agree, and it takes {}: nothing it decides can ever pass",
                    chain.name, chain.quorum
                ),
                "in the server file, give principals the role approver, this project and one of the chain's groups; who mints a session does not count for it",
            );
        }
        Finding::GroupEmpty { chain, position } => {
            let at = places.chain(*chain).approvers.get(*position);
            let group = &policy.chain(*chain).approvers[*position];
            reports.warn(
                at.copied().unwrap_or_default(),
                format!("no approver of this project is in the group `{group}`"),
                "compare it with the `groups` of the server file's principals",
            );
        }
        Finding::ResourceMissing { .. }
        | Finding::ConditionNever { .. }
        | Finding::ArmUnreached { .. }
        | Finding::FunctionsUnlisted { .. }
        | Finding::ScopeUnheld { .. }
        | Finding::ScopeUnneeded { .. }
        | Finding::PatternUnproducible { .. }
        | Finding::DestroysAny { .. } => {}
    }
}

/// What is proven of a policy together with the server file's principals.
pub fn report_unmet(policy: &Policy, places: &Places, server: &Server, reports: &mut Reports) {
    let minters = server
        .principals
        .iter()
        .filter(|one| one.roles.contains(&Role::Issuer) && one.projects.contains(&policy.project));
    let minters: Vec<_> = minters.map(|one| &one.name).collect();
    for finding in proofs::unmet(policy, &server.approvers(), &minters) {
        say(&finding, policy, places, reports);
    }
}

impl Places {
    fn chain(&self, index: ChainIndex) -> &ChainPlace {
        &self.chains[usize::from(index.0)]
    }

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
