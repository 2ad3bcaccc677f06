//! What is still to be told: notices until they are fanned out, deliveries until they have arrived.

use super::{all, id, name, text, time};
use crate::policy::name::{ChainName, NotifyName, ProjectName};
use crate::policy::time::Timestamp;
use crate::store::embedded::Refusal;
use crate::store::outbox::{DeliveryKey, DeliveryRow, NoticeRow, Progress};
use rusqlite::{Connection, Row, Transaction, params};

/// A notice, once: the same change has the same name.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    row: &NoticeRow,
) -> Result<usize, rusqlite::Error> {
    transaction
        .prepare(
            "INSERT OR IGNORE INTO notices (id, at, project, chain, kind, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            row.id,
            row.at.micros(),
            row.project.as_str(),
            row.chain.as_ref().map(ChainName::as_str),
            row.kind,
            row.data,
        ])
}

/// Notices become deliveries.
pub(super) fn fan_out(
    transaction: &Transaction<'_>,
    notices: &[Box<str>],
    deliveries: &[DeliveryRow],
) -> Result<usize, rusqlite::Error> {
    for notice in notices {
        transaction
            .prepare("DELETE FROM notices WHERE id = ?1")?
            .execute([notice])?;
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
pub(in crate::store) fn notices(
    connection: &Connection,
    most: usize,
) -> Result<Vec<NoticeRow>, Refusal> {
    let order = format!("ORDER BY rowid LIMIT {most}");
    all(connection, "notices", &order, |row| {
        let chain: Option<String> = row.get("chain").map_err(text)?;
        Ok(NoticeRow {
            id: row.get("id").map_err(text)?,
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
