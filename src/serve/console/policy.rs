//! The policies in force, as operators read them: which call needs which scope on what, who must agree, who may hold it.

use super::door::Visitor;
use super::page::{Frame, Trouble, page};
use super::text::{Text, Time, length};
use super::told::Told;
use crate::config::Role;
use crate::policy::approval::Chain;
use crate::policy::model::{GrantMode, Policy, Resources, Route};
use crate::policy::time::Timestamp;
use crate::serve::admin::Admin;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "console/policy.html")]
struct PolicyPage {
    frame: Frame,
    projects: Vec<Project>,
}

#[derive(Debug)]
struct Project {
    name: String,
    hash: String,
    routes: Vec<RouteLine>,
    chains: Vec<ChainLine>,
    pins: Pins,
    told: Told,
}

/// Tools of pinned servers.
#[derive(Debug)]
struct Pins {
    /// Whether a server is pinned, or was.
    any: bool,
    accepted: u64,
    /// Of which the server says something else than was accepted; not more than are shown.
    changed: Vec<PinLine>,
    more: u64,
}

#[derive(Debug)]
struct PinLine {
    tool: String,
    name: Text,
    since: Option<Time>,
    accepted: Time,
    by: String,
}

/// Most changed tools that are shown of one project.
const CHANGED_MAX: usize = 50;

#[derive(Debug)]
struct RouteLine {
    id: String,
    matches: String,
    scope: String,
    resource: String,
    chain: Option<String>,
    irreversible: bool,
    shadow: bool,
    holders: Vec<Holder>,
}

/// An agent that may be granted a scope, and how.
#[derive(Debug)]
struct Holder {
    agent: String,
    how: String,
}

#[derive(Debug)]
struct ChainLine {
    name: String,
    groups: String,
    members: String,
    quorum: String,
    times: String,
}

/// `GET /policy`
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    visitor: Visitor,
) -> Result<Response, Trouble> {
    visitor.needs(&[Role::Operator])?;
    let mut names: Vec<_> = visitor.caller.principal.projects.iter().collect();
    names.sort();
    let rulesets = names
        .into_iter()
        .filter_map(|project| admin.parts.gate.ruleset(project));
    let now = admin.parts.clock.now();
    let shown = PolicyPage {
        frame: Frame::new(&admin, &visitor, "/policy", now),
        projects: rulesets
            .map(|ruleset| project(&admin, &ruleset.policy, now.wall))
            .collect(),
    };
    Ok(page(StatusCode::OK, &shown))
}

fn project(admin: &Admin, policy: &Policy, now: Timestamp) -> Project {
    Project {
        name: policy.project.to_string(),
        hash: policy.hash.to_string(),
        routes: policy
            .routes
            .iter()
            .map(|route| route_line(policy, route))
            .collect(),
        chains: policy
            .chains
            .iter()
            .map(|chain| chain_line(admin, policy, chain))
            .collect(),
        pins: pins(admin, policy, now),
        told: Told::of(admin, policy, now),
    }
}

fn pins(admin: &Admin, policy: &Policy, now: Timestamp) -> Pins {
    let sessions = &admin.parts.sessions;
    let own = std::slice::from_ref(&policy.project);
    let changed = sessions.list_pins(own, None, CHANGED_MAX, |row| row.latest.is_some());
    let counts = sessions.pin_counts();
    let counts: Vec<_> = counts
        .iter()
        .filter(|count| count.project == policy.project)
        .collect();
    let all: u64 = counts.iter().map(|count| count.changed).sum();
    Pins {
        any: !counts.is_empty(),
        accepted: counts.iter().map(|count| count.accepted).sum(),
        more: all.saturating_sub(changed.len() as u64),
        changed: changed
            .iter()
            .map(|row| PinLine {
                tool: row.tool.to_string(),
                name: Text::line(&row.name),
                since: row.latest.as_ref().map(|it| Time::new(it.at, now)),
                accepted: Time::new(row.accepted_at, now),
                by: match &row.accepted_by {
                    Some(by) => format!("by {by}"),
                    None => "at first sight".to_owned(),
                },
            })
            .collect(),
    }
}

fn route_line(policy: &Policy, route: &Route) -> RouteLine {
    RouteLine {
        id: route.id.to_string(),
        matches: policy.written(route.index).to_owned(),
        scope: route.scope.to_string(),
        resource: match &route.resource {
            Some(resource) => resource.to_string(),
            None => "no resource".to_owned(),
        },
        chain: route
            .approval
            .map(|chain| policy.chain(chain).name.to_string()),
        irreversible: route.irreversible,
        shadow: route.shadow,
        holders: holders(policy, route),
    }
}

fn holders(policy: &Policy, route: &Route) -> Vec<Holder> {
    let mut holders: Vec<Holder> = policy
        .agents
        .values()
        .filter_map(|agent| {
            let ceiling = agent.scopes.get(&route.scope)?;
            let how = match ceiling.grant {
                GrantMode::OnUse => "on use".to_owned(),
                GrantMode::OnRequest => "on request".to_owned(),
                GrantMode::OnApproval(chain) => {
                    format!("on approval by chain {}", policy.chain(chain).name)
                }
            };
            let on = match &ceiling.resources {
                Resources::Any | Resources::AnyMeant => "any resource".to_owned(),
                Resources::Patterns(patterns) => {
                    let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
                    patterns.join(", ")
                }
            };
            Some(Holder {
                agent: agent.name.to_string(),
                how: format!("{how}, {on}"),
            })
        })
        .collect();
    holders.sort_by(|a, b| a.agent.cmp(&b.agent));
    holders
}

fn chain_line(admin: &Admin, policy: &Policy, chain: &Chain) -> ChainLine {
    let approvers = admin.parts.gate.approvers();
    let mut members: Vec<&str> = approvers
        .of(&policy.project, chain)
        .map(|name| name.as_str())
        .collect();
    members.sort_unstable();
    let groups: Vec<&str> = chain.approvers.iter().map(|group| group.as_str()).collect();
    ChainLine {
        name: chain.name.to_string(),
        groups: groups.join(" or "),
        members: match members.is_empty() {
            true => "nobody now".to_owned(),
            false => format!("now: {}", members.join(", ")),
        },
        quorum: chain.quorum.to_string(),
        times: format!(
            "holds a connection {}; expires after {}; denied again for {}",
            length(chain.hold),
            length(chain.expires),
            length(chain.denied_for)
        ),
    }
}
