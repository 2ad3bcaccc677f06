//! What targets of `notify` are to be told: notices, put into the store by the very commit of what they tell of, and
//! deliveries, one for each target that a notice goes to.
//!
//! A notice says all that is told, in one piece: what it tells of may be gone before it is sent. It says nothing that an agent
//! sends (target, fields, body), save its own claim of what it is doing. Who sends it, to whom and when is not known here.

use super::approval::Ending;
use super::pin::PinRow;
use crate::ledger::rfc3339;
use crate::policy::approval::{Asked, Facts, Stage};
use crate::policy::id::MessageId;
use crate::policy::name::{ChainName, NotifyName, ProjectName};
use crate::policy::pin::PinDigest;
use crate::policy::subject::Session;
use crate::policy::time::Timestamp;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Something that targets are to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeRow {
    /// Names it while it is one; the same change has the same name.
    pub id: Box<str>,
    /// When it happened.
    pub at: Timestamp,
    /// Where.
    pub project: ProjectName,
    /// Whose targets are told; `None`: all of the project.
    pub chain: Option<ChainName>,
    /// The event's name.
    pub kind: Box<str>,
    /// A JSON object that says what happened.
    pub data: Box<str>,
}

impl NoticeRow {
    /// That people are asked.
    pub fn requested(facts: &Facts) -> Self {
        let data = told(facts, Stage::Pending);
        Self::of(
            facts,
            "approval.requested",
            Stage::Pending,
            facts.created_at,
            data,
        )
    }

    /// That it is decided; `None`: this stage is no decision.
    pub fn decided(
        facts: &Facts,
        stage: Stage,
        ending: Option<&Ending>,
        at: Timestamp,
    ) -> Option<Self> {
        match stage {
            Stage::Approved | Stage::Denied | Stage::Expired | Stage::Withdrawn => {}
            Stage::Pending | Stage::Executing | Stage::Executed | Stage::Unknown => return None,
        }
        let mut data = told(facts, stage);
        if let Some(by) = ending.and_then(|ending| ending.by.as_ref()) {
            data.insert("decided_by".to_owned(), by.as_str().into());
        }
        Some(Self::of(facts, "approval.decided", stage, at, data))
    }

    /// That a session is in quarantine.
    pub fn quarantined(session: &Session, at: Timestamp, reason: &str) -> Self {
        let data = json!({
            "project": session.project.as_str(),
            "agent": session.agent.as_str(),
            "session": session.id.to_string(),
            "run": session.run,
            "reason": reason,
        });
        Self {
            id: format!("{}.quarantined.{}", session.id, at.micros()).into(),
            at,
            project: session.project.clone(),
            chain: None,
            kind: "session.quarantined".into(),
            data: data.to_string().into(),
        }
    }

    /// That a server says something else of tools that are pinned.
    pub fn tool_changed(rows: &[&PinRow], at: Timestamp) -> Option<Self> {
        let first = rows.first()?;
        let names: Vec<&str> = rows
            .iter()
            .take(TOLD_NAMES_MAX)
            .map(|row| &*row.name)
            .collect();
        let data = json!({
            "project": first.project.as_str(),
            "tool": first.tool.as_str(),
            "names": names,
            "changed": rows.len(),
        });
        let key = PinDigest::of(&format!("{}\n{data}", at.micros()));
        Some(Self {
            id: format!("pins.{key}").into(),
            at,
            project: first.project.clone(),
            chain: None,
            kind: "tool.changed".into(),
            data: data.to_string().into(),
        })
    }

    fn of(
        facts: &Facts,
        kind: &str,
        stage: Stage,
        at: Timestamp,
        data: Map<String, Value>,
    ) -> Self {
        Self {
            id: format!("{}.{}", facts.id, stage.as_str()).into(),
            at,
            project: facts.project.clone(),
            chain: Some(facts.chain.clone()),
            kind: kind.into(),
            data: Value::Object(data).to_string().into(),
        }
    }
}

/// What is told of an approval.
fn told(facts: &Facts, stage: Stage) -> Map<String, Value> {
    let mut data = Map::new();
    let mut say = |name: &str, value: Value| data.insert(name.to_owned(), value);
    say("project", facts.project.as_str().into());
    say("agent", facts.agent.as_str().into());
    say("session", facts.session.to_string().into());
    say("run", facts.run.as_deref().into());
    say("approval", facts.id.to_string().into());
    say("chain", facts.chain.as_str().into());
    say("stage", stage.as_str().into());
    say("scope", facts.scope.as_str().into());
    let resource = facts.resource.as_ref().map(|one| one.as_str());
    say("resource", resource.into());
    match &facts.asked {
        Asked::Call(call) => {
            say("asked", "call".into());
            say("tool", call.tool.as_str().into());
            say("route", call.route.as_str().into());
            say("method", (&*call.method).into());
        }
        Asked::Grant(wish) => {
            say("asked", "grant".into());
            say("uses", wish.uses.into());
            say("ttl_seconds", wish.ttl.as_secs().into());
            say("reason", (&*wish.why).into());
        }
    }
    say("intent", facts.intent.as_deref().into());
    say("quorum", facts.quorum.into());
    say("created_at", rfc3339(facts.created_at).into());
    say("expires_at", rfc3339(facts.expires_at).into());
    data
}

/// A delivery: one message for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Names it.
    pub key: DeliveryKey,
    /// The message, as it is sent.
    pub payload: Arc<str>,
    /// How far it has come.
    pub progress: Progress,
}

/// Names a delivery: a message, and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// The ruleset.
    pub project: ProjectName,
    /// The target's name in it.
    pub target: NotifyName,
    /// The message; the same for all targets and in all attempts.
    pub message: MessageId,
}

/// How far a delivery has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Attempts that failed.
    pub attempts: u32,
    /// When it is to be tried, if it is not dead.
    pub due: Timestamp,
    /// Since when it is not tried any more, and why.
    pub dead: Option<(Timestamp, Box<str>)>,
}

/// Tools that one notice names; how many there are it says in any case.
const TOLD_NAMES_MAX: usize = 32;
