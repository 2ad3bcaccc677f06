//! What is still to be told: notices until they are fanned out, deliveries until they have arrived.

use super::super::approval::{DeliveryRow, Notice, NoticeRow};
use super::{id, name, text, time};
use crate::policy::approval::Stage;
use crate::policy::id::ApprovalId;
use crate::policy::name::{NotifyName, ProjectName};
use rusqlite::{Row, Transaction, params};
use std::sync::Arc;

/// A notice, once: the same change has the same name.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    row: &NoticeRow,
) -> Result<usize, rusqlite::Error> {
    let (approval, what, reason) = match &row.what {
        Notice::Requested(approval) => (Some(approval.to_string()), "requested", None),
        Notice::Decided(approval, stage) => (Some(approval.to_string()), stage.as_str(), None),
        Notice::Quarantined(reason) => (None, "quarantined", Some(reason)),
    };
    transaction
        .prepare(
            "INSERT OR IGNORE INTO notices (id, at, project, session, approval, what, reason) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            row.id,
            row.at.micros(),
            row.project.as_str(),
            row.session.to_string(),
            approval,
            what,
            reason,
        ])
}

pub(super) fn fan_out(
    transaction: &Transaction<'_>,
    notice: &str,
    deliveries: &[DeliveryRow],
) -> Result<usize, rusqlite::Error> {
    let gone = transaction
        .prepare("DELETE FROM notices WHERE id = ?1")?
        .execute([notice])?;
    if gone > 0 {
        let mut statement = transaction.prepare(
            "INSERT INTO deliveries (id, project, target, kind, payload, attempts, next_at, created_at, dead) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        for row in deliveries {
            statement.execute(params![
                row.id,
                row.project.as_str(),
                row.target.as_str(),
                row.kind,
                &row.payload[..],
                row.attempts,
                row.next_at.micros(),
                row.created_at.micros(),
                row.dead,
            ])?;
        }
    }
    Ok(gone)
}

pub(super) fn notice(row: &Row<'_>) -> Result<NoticeRow, String> {
    let what: String = row.get("what").map_err(text)?;
    let approval = || id::<ApprovalId>(row, "approval");
    let what = match what.as_str() {
        "requested" => Notice::Requested(approval()?),
        "quarantined" => Notice::Quarantined(row.get::<_, String>("reason").map_err(text)?.into()),
        other => Notice::Decided(
            approval()?,
            Stage::parse(other).ok_or_else(|| format!("what: {other}"))?,
        ),
    };
    Ok(NoticeRow {
        id: row.get::<_, String>("id").map_err(text)?.into(),
        at: time(row, "at")?,
        project: name(row, "project", ProjectName::parse)?,
        session: id(row, "session")?,
        what,
    })
}

pub(super) fn delivery(row: &Row<'_>) -> Result<DeliveryRow, String> {
    Ok(DeliveryRow {
        id: row.get::<_, String>("id").map_err(text)?.into(),
        project: name(row, "project", ProjectName::parse)?,
        target: name(row, "target", NotifyName::parse)?,
        kind: row.get::<_, String>("kind").map_err(text)?.into(),
        payload: Arc::from(row.get::<_, Vec<u8>>("payload").map_err(text)?),
        attempts: row.get("attempts").map_err(text)?,
        next_at: time(row, "next_at")?,
        created_at: time(row, "created_at")?,
        dead: row.get("dead").map_err(text)?,
    })
}
