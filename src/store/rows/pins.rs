//! Pins: what servers said of their tools when that was accepted.

use super::{all, name, text, time};
use crate::policy::name::{PrincipalName, ProjectName, ToolName};
use crate::policy::pin::PinDigest;
use crate::policy::time::Timestamp;
use crate::store::embedded::Refusal;
use crate::store::pin::{Latest, PinKey, PinRow};
use rusqlite::{Connection, Row, Transaction, params};

/// Rows as they stand from now on, whole.
pub(super) fn put(
    transaction: &Transaction<'_>,
    rows: &[PinRow],
) -> Result<usize, rusqlite::Error> {
    let mut statement = transaction.prepare(
        "INSERT INTO pins (project, tool, name, accepted, definition, first_seen, accepted_at, accepted_by, \
         latest, latest_definition, latest_at, turns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
         ON CONFLICT (project, tool, name) DO UPDATE SET accepted = excluded.accepted, \
         definition = excluded.definition, first_seen = excluded.first_seen, accepted_at = excluded.accepted_at, \
         accepted_by = excluded.accepted_by, latest = excluded.latest, \
         latest_definition = excluded.latest_definition, latest_at = excluded.latest_at, turns = excluded.turns",
    )?;
    for row in rows {
        let latest = row.latest.as_ref();
        statement.execute(params![
            row.project.as_str(),
            row.tool.as_str(),
            &*row.name,
            row.accepted.0.as_slice(),
            &*row.definition,
            row.first_seen.micros(),
            row.accepted_at.micros(),
            row.accepted_by.as_ref().map(PrincipalName::as_str),
            latest.map(|latest| latest.digest.0.to_vec()),
            latest.and_then(|latest| latest.definition.as_deref()),
            latest.map(|latest| latest.at.micros()),
            row.turns,
        ])?;
    }
    Ok(1)
}

/// Gone, whether or not they were there.
pub(super) fn remove(
    transaction: &Transaction<'_>,
    keys: &[PinKey],
) -> Result<usize, rusqlite::Error> {
    let mut statement =
        transaction.prepare("DELETE FROM pins WHERE project = ?1 AND tool = ?2 AND name = ?3")?;
    for key in keys {
        statement.execute(params![key.project.as_str(), key.tool.as_str(), &*key.name])?;
    }
    Ok(1)
}

pub(super) fn load(connection: &Connection) -> Result<Vec<PinRow>, Refusal> {
    all(connection, "pins", "ORDER BY project, tool, name", pin)
}

fn pin(row: &Row<'_>) -> Result<PinRow, String> {
    let by: Option<String> = row.get("accepted_by").map_err(text)?;
    let latest: Option<[u8; 32]> = row.get("latest").map_err(text)?;
    let written: Option<String> = row.get("latest_definition").map_err(text)?;
    let at: Option<i64> = row.get("latest_at").map_err(text)?;
    let called: String = row.get("name").map_err(text)?;
    let definition: String = row.get("definition").map_err(text)?;
    Ok(PinRow {
        project: name(row, "project", ProjectName::parse)?,
        tool: name(row, "tool", ToolName::parse)?,
        name: called.into(),
        accepted: PinDigest(row.get("accepted").map_err(text)?),
        definition: definition.into(),
        first_seen: time(row, "first_seen")?,
        accepted_at: time(row, "accepted_at")?,
        accepted_by: by
            .as_deref()
            .map(PrincipalName::parse)
            .transpose()
            .map_err(text)?,
        latest: latest.map(|digest| Latest {
            digest: PinDigest(digest),
            definition: written.map(Into::into),
            at: Timestamp::from_micros(at.unwrap_or_default()),
        }),
        turns: row.get("turns").map_err(text)?,
    })
}
