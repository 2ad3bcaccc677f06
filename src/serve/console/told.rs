//! Who is told of approvals and quarantines, and what did not reach them: a part of the policy's page.

use super::text::Time;
use crate::io::notify::{Address, DeadLetter};
use crate::policy::model::{Notify, Policy};
use crate::policy::time::Timestamp;
use crate::serve::admin::Admin;
use serde_json::Value;

/// A project's targets, and its dead letters.
#[derive(Debug)]
pub(super) struct Told {
    pub targets: Vec<TargetLine>,
    /// Newest first.
    pub letters: Vec<LetterLine>,
    /// How many are not shown.
    pub more: usize,
}

#[derive(Debug)]
pub(super) struct TargetLine {
    pub name: String,
    pub events: String,
    pub waiting: usize,
    pub dead: usize,
}

#[derive(Debug)]
pub(super) struct LetterLine {
    pub since: Time,
    pub target: String,
    pub event: String,
    /// What it told of, in this console.
    pub page: Option<String>,
    pub message: String,
    pub why: String,
    pub attempts: String,
}

/// Most dead letters that are shown of one project.
const SHOWN_MAX: usize = 50;

impl Told {
    pub(super) fn of(admin: &Admin, policy: &Policy, now: Timestamp) -> Self {
        let notifier = &admin.parts.notifier;
        let mut dead = notifier.dead(std::slice::from_ref(&policy.project));
        dead.sort_by_key(|letter| std::cmp::Reverse(letter.since));
        let target = |notify: &Notify| {
            let address = Address {
                project: policy.project.clone(),
                target: notify.name.clone(),
            };
            TargetLine {
                name: notify.name.to_string(),
                events: events(policy, notify),
                waiting: notifier.waiting(&address),
                dead: dead.iter().filter(|one| one.address == address).count(),
            }
        };
        Self {
            targets: policy.notify.iter().map(target).collect(),
            more: dead.len().saturating_sub(SHOWN_MAX),
            letters: dead
                .iter()
                .take(SHOWN_MAX)
                .map(|one| line(one, now))
                .collect(),
        }
    }
}

fn events(policy: &Policy, notify: &Notify) -> String {
    let chains = policy.chains.iter();
    let chains = chains.filter(|chain| chain.notify.contains(&notify.name));
    let names: Vec<&str> = chains.map(|chain| chain.name.as_str()).collect();
    match names.as_slice() {
        [] => "quarantines, changed tools".to_owned(),
        [one] => format!("approvals of chain {one}, quarantines, changed tools"),
        many => format!(
            "approvals of chains {}, quarantines, changed tools",
            many.join(", ")
        ),
    }
}

fn line(letter: &DeadLetter, now: Timestamp) -> LetterLine {
    let said: Value = serde_json::from_str(&letter.payload).unwrap_or_default();
    let id = |name: &str| said["data"][name].as_str();
    let page = match (id("approval"), id("session")) {
        (Some(approval), _) => Some(format!("/approvals/{approval}")),
        (None, session) => session.map(|session| format!("/sessions/{session}")),
    };
    LetterLine {
        since: Time::new(letter.since, now),
        target: letter.address.target.to_string(),
        event: said["type"].as_str().unwrap_or("unknown").to_owned(),
        page,
        message: letter.message.to_string(),
        why: letter.why.to_string(),
        attempts: match letter.attempts {
            1 => "1 attempt".to_owned(),
            many => format!("{many} attempts"),
        },
    }
}
