//! What webhooks have yet to say: notices, put there by the very commit of what they tell of, and deliveries, one for each
//! target that a notice goes to.
//!
//! A notice becomes deliveries in one transaction, so a crash neither loses nor doubles any. Who sends them, and when, is not
//! known here.

use super::embedded::Refusal;
use super::rows::{all, id, name, text, time};
use crate::policy::id::MessageId;
use crate::policy::name::{ChainName, NotifyName, ProjectName};
use crate::policy::time::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};
use std::sync::Arc;

/// Something that targets are to be told of, as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeRow {
    /// Its place in the order of notices that are there.
    pub number: i64,
    /// Where it happened.
    pub project: ProjectName,
    /// Whose targets are told; `None`: all of the project.
    pub chain: Option<ChainName>,
    /// The event's name.
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// A JSON object that says what happened.
    pub data: String,
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

/// A notice for all targets of a chain, or of the project.
pub(super) fn notice(
    transaction: &Transaction<'_>,
    project: &str,
    chain: Option<&str>,
    kind: &str,
    at: Timestamp,
    data: &serde_json::Value,
) -> Result<usize, rusqlite::Error> {
    transaction
        .prepare(
            "INSERT INTO notices (project, chain, kind, at, data) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![project, chain, kind, at.micros(), data.to_string()])
}

/// Notices become deliveries.
pub(super) fn fan_out(
    transaction: &Transaction<'_>,
    notices: &[i64],
    deliveries: &[DeliveryRow],
) -> Result<usize, rusqlite::Error> {
    for number in notices {
        transaction
            .prepare("DELETE FROM notices WHERE number = ?1")?
            .execute([number])?;
    }
    for delivery in deliveries {
        let DeliveryKey {
            message,
            project,
            target,
        } = &delivery.key;
        let Progress {
            attempts,
            due,
            dead,
        } = &delivery.progress;
        let (since, why) = dead.clone().unzip();
        transaction
            .prepare(
                "INSERT INTO deliveries (message, project, target, payload, attempts, due, dead_since, why) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                message.to_string(),
                project.as_str(),
                target.as_str(),
                &*delivery.payload,
                attempts,
                due.micros(),
                since.map(Timestamp::micros),
                why
            ])?;
    }
    Ok(1)
}

/// An attempt has failed.
pub(super) fn progress(
    transaction: &Transaction<'_>,
    key: &DeliveryKey,
    progress: &Progress,
) -> Result<usize, rusqlite::Error> {
    let (since, why) = progress.dead.clone().unzip();
    transaction
        .prepare(
            "UPDATE deliveries SET attempts = ?4, due = ?5, dead_since = ?6, why = ?7 \
             WHERE message = ?1 AND project = ?2 AND target = ?3",
        )?
        .execute(params![
            key.message.to_string(),
            key.project.as_str(),
            key.target.as_str(),
            progress.attempts,
            progress.due.micros(),
            since.map(Timestamp::micros),
            why
        ])
}

/// Deliveries that are delivered, or not kept any longer.
pub(super) fn remove(
    transaction: &Transaction<'_>,
    keys: &[DeliveryKey],
) -> Result<usize, rusqlite::Error> {
    for key in keys {
        transaction
            .prepare("DELETE FROM deliveries WHERE message = ?1 AND project = ?2 AND target = ?3")?
            .execute(params![
                key.message.to_string(),
                key.project.as_str(),
                key.target.as_str()
            ])?;
    }
    Ok(1)
}

/// The oldest notices.
pub(super) fn notices(connection: &Connection, most: usize) -> Result<Vec<NoticeRow>, Refusal> {
    let order = format!("ORDER BY number LIMIT {most}");
    all(connection, "notices", &order, |row| {
        let chain: Option<String> = row.get("chain").map_err(text)?;
        Ok(NoticeRow {
            number: row.get("number").map_err(text)?,
            project: name(row, "project", ProjectName::parse)?,
            chain: chain
                .as_deref()
                .map(ChainName::parse)
                .transpose()
                .map_err(text)?,
            kind: row.get("kind").map_err(text)?,
            at: time(row, "at")?,
            data: row.get("data").map_err(text)?,
        })
    })
}

/// All deliveries, oldest first: ids of messages sort by time.
pub(super) fn deliveries(connection: &Connection) -> Result<Vec<DeliveryRow>, Refusal> {
    all(connection, "deliveries", "ORDER BY message", delivery)
}

fn delivery(row: &Row<'_>) -> Result<DeliveryRow, String> {
    let since: Option<i64> = row.get("dead_since").map_err(text)?;
    let why: Option<Box<str>> = row.get("why").map_err(text)?;
    Ok(DeliveryRow {
        key: DeliveryKey {
            project: name(row, "project", ProjectName::parse)?,
            target: name(row, "target", NotifyName::parse)?,
            message: id(row, "message")?,
        },
        payload: row.get("payload").map_err(text)?,
        progress: Progress {
            attempts: row.get("attempts").map_err(text)?,
            due: time(row, "due")?,
            dead: since.map(|since| (Timestamp::from_micros(since), why.unwrap_or_default())),
        },
    })
}
