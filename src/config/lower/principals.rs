//! Principals: who may use the admin API, where, and as what.

use super::approvals::refuse_twice;
use super::server::Known;
use crate::config::error::{Place, Reports, did_you_mean};
use crate::config::raw;
use crate::config::read::{At, alternatives};
use crate::config::secrets::Vault;
use crate::config::{Principal, Role};
use crate::policy::model::Policy;
use crate::policy::name::{GroupName, ProjectName};
use crate::policy::token::{self, TokenDigest, TokenKind};
use secrecy::ExposeSecret;
use std::collections::HashMap;

pub fn principals(
    raw: &[At<raw::Principal>],
    known: &Known<'_>,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Vec<Principal> {
    let mut names = HashMap::new();
    let mut keys = HashMap::new();
    let mut lowered = Vec::with_capacity(raw.len());
    for At { value: raw, .. } in raw {
        let subject = raw.name.as_ref().map_or("?", |name| name.value.as_str());
        reports.enter(format!("principal `{subject}`"));
        if let Some(name) = &raw.name
            && let Some(first) = names.insert(name.value.clone(), name.place)
        {
            let line = reports.line_of(first);
            let message = format!("this name is already on line {line}");
            reports.error(name.place, message, "give each principal a name of its own");
        }
        let key = raw.key.as_ref().and_then(|at| key(at, vault, reports));
        if let (Some(key), Some(at)) = (key, &raw.key)
            && let Some(first) = keys.insert(key, at.place)
        {
            let line = reports.line_of(first);
            let message = format!("this key is that of the principal on line {line}");
            let help = "one key is one principal: `toolgate key new NAME` makes another";
            reports.error(at.place, message, help);
        }
        let allowed = raw.projects.as_ref().map_or(&[][..], |at| &at.value.0);
        refuse_unknown_projects(allowed, known.projects, reports);
        let groups = raw.groups.as_ref().map_or(&[][..], |at| &at.value.0);
        refuse_twice(groups, reports);
        let roles = raw.roles.as_ref().map_or(&[][..], |at| &at.value.0);
        let principal = raw.name.as_ref().map(|name| {
            Principal {
                groups: groups.iter().map(|group| group.value.clone()).collect(),
                name: name.value.clone(),
                // Unset only where secrets are optional, and then nothing is served: no text has this digest.
                key: key.unwrap_or(TokenDigest::from_bytes([0; 32])),
                roles: roles.iter().map(|role| self::role(role.value)).collect(),
                projects: allowed
                    .iter()
                    .map(|project| project.value.clone())
                    .collect(),
            }
        });
        if let Some(principal) = &principal {
            doubt_approver(principal, raw, known.policies, reports);
        }
        lowered.extend(principal);
        reports.leave();
    }
    lowered
}

/// Groups that give nobody a say, and approvers without one.
fn doubt_approver(
    principal: &Principal,
    raw: &raw::Principal,
    policies: Option<&[&Policy]>,
    reports: &mut Reports,
) {
    let approves = raw.roles.iter().flat_map(|at| &at.value.0);
    let approves = approves
        .filter(|role| role.value == raw::Role::Approver)
        .map(|role| role.place)
        .next();
    match (approves, &raw.groups) {
        (None, Some(groups)) => reports.warn(
            groups.place,
            "`groups` say what an approver decides, and this principal is none",
            "add the role `approver`, or remove `groups`",
        ),
        (Some(role), None) => reports.warn(
            role,
            "an approver without `groups` may look, and decide nothing",
            "write `groups: [...]` with groups that the projects' chains name, or remove the role",
        ),
        (Some(_), Some(groups)) => {
            if let Some(policies) = policies {
                doubt_groups(principal, groups.place, policies, reports);
            }
        }
        (None, None) => {}
    }
}

/// A group that no chain names is nothing to speak of, but none that any names?
fn doubt_groups(principal: &Principal, place: Place, policies: &[&Policy], reports: &mut Reports) {
    let own = policies
        .iter()
        .filter(|policy| principal.projects.contains(&policy.project));
    let chains: Vec<_> = own.flat_map(|policy| &policy.chains).collect();
    let named = |group: &GroupName| chains.iter().any(|chain| chain.approvers.contains(group));
    if principal.groups.iter().any(named) {
        return;
    }
    let groups = || chains.iter().flat_map(|chain| &chain.approvers);
    let meant = principal
        .groups
        .iter()
        .find_map(|group| did_you_mean(group.as_str(), groups().map(GroupName::as_str)));
    let mut known: Vec<String> = groups().map(|group| format!("`{group}`")).collect();
    known.sort();
    known.dedup();
    let help = match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => {
            "these projects have no `approvals`: write a chain, or remove the role".to_owned()
        }
        None => format!("the chains there name {}", alternatives(&known)),
    };
    let message =
        "no chain of this principal's projects names one of these groups: it may decide nothing";
    reports.warn(place, message, help);
}

/// `None`: reported, as an error or, where secrets are optional, as a warning.
fn key(raw: &At<raw::Key>, vault: &mut Vault<'_>, reports: &mut Reports) -> Option<TokenDigest> {
    let At { place, value: raw } = raw;
    if let Some(digest) = &raw.sha256 {
        return Some(TokenDigest::from_bytes(digest.value.0));
    }
    let (secret, from) = if let Some(name) = &raw.env {
        let secret = vault.variable(&name.value.0, name.place, reports);
        (
            secret,
            format!("the environment variable `{}`", name.value.0),
        )
    } else {
        let path = raw.file.as_ref()?;
        let secret = vault.file(&path.value.0, path.place, reports);
        (secret, format!("the file `{}`", path.value.0))
    };
    let digest = token::parse(TokenKind::Principal, secret?.expose_secret());
    if digest.is_none() {
        reports.error(
            *place,
            format!("what {from} holds is not a principal's key"),
            "a key begins with `tgk_` and has a checksum: `toolgate key new NAME` makes one",
        );
    }
    digest
}

fn refuse_unknown_projects(
    allowed: &[At<ProjectName>],
    projects: Option<&[ProjectName]>,
    reports: &mut Reports,
) {
    let Some(projects) = projects else {
        return;
    };
    for project in allowed.iter().filter(|at| !projects.contains(&at.value)) {
        let known = projects.iter().map(ProjectName::as_str);
        let help = match did_you_mean(project.value.as_str(), known.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => {
                let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
                format!("the project files name {}", alternatives(&known))
            }
        };
        let message = format!("there is no project `{}`", project.value);
        reports.error(project.place, message, help);
    }
}

const fn role(raw: raw::Role) -> Role {
    match raw {
        raw::Role::Issuer => Role::Issuer,
        raw::Role::Approver => Role::Approver,
        raw::Role::Operator => Role::Operator,
        raw::Role::Auditor => Role::Auditor,
    }
}
