//! Tables and statements of the embedded store.
//!
//! Ids are text as records show them, times are microseconds since 1970, attributes and narrowing are JSON: an operator
//! with `sqlite3` reads the file without a key. Tokens are there as their SHA-256 only.

mod approvals;
mod notices;
mod pins;
mod schema;

pub(super) use notices::notices;

use super::embedded::Refusal;
use super::{Applied, Change, CostRow, GivenRow, GrantRow, SessionRow, Snapshot};
use crate::policy::approval::Stage;
use crate::policy::certificate::Thumbprint;
use crate::policy::id::SessionId;
use crate::policy::name::{NameError, ScopeName};
use crate::policy::resource::ResourcePattern;
use crate::policy::subject::{Narrowed, Narrowing};
use crate::policy::time::Timestamp;
use crate::policy::token::TokenDigest;
use rusqlite::{Connection, Row, Transaction, params};
use schema::{APPLICATION_ID, MIGRATIONS};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;

/// Brings the file to the present schema; a file without one gets it.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Refusal> {
    let known = i64::try_from(MIGRATIONS.len()).expect("a handful");
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(Refusal::Newer { found, known });
    }
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let owner: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if (tables > 0 || found > 0) && owner != APPLICATION_ID {
        return Err(Refusal::Foreign);
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (step, statements) in MIGRATIONS.iter().enumerate().skip(done) {
        // One transaction a step: a kill in between leaves the version before, whole.
        let transaction = connection.transaction()?;
        transaction.execute_batch(statements)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(
            None,
            "user_version",
            i64::try_from(step + 1).expect("a handful"),
        )?;
        transaction.commit()?;
    }
    Ok(())
}

/// Makes one change within a transaction.
pub(super) fn apply(
    transaction: &Transaction<'_>,
    change: &Change,
) -> Result<Applied, rusqlite::Error> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| -> Result<usize, rusqlite::Error> {
        transaction.prepare(sql)?.execute(values)
    };
    let changed = match change {
        Change::Mint(row) => mint(transaction, row)?,
        Change::End { session } => run(
            "DELETE FROM sessions WHERE id = ?1",
            &[&session.to_string()],
        )?,
        Change::Quarantine {
            session,
            at,
            reason,
            notice,
        } => {
            let session = session.to_string();
            let fresh = run(
                "UPDATE sessions SET quarantine_reason = ?3, quarantined_at = ?2 WHERE id = ?1 AND quarantined_at IS NULL",
                &[&session, &at.micros(), reason],
            )?;
            // Told in the step that put it there: one that is repeated tells nobody again.
            if let Some(notice) = notice.as_deref().filter(|_| fresh > 0) {
                notices::insert(transaction, notice)?;
            }
            let mut there = transaction.prepare("SELECT 1 FROM sessions WHERE id = ?1")?;
            usize::from(there.exists([session])?)
        }
        Change::Release { session } => run(
            "UPDATE sessions SET quarantined_at = NULL, quarantine_reason = NULL WHERE id = ?1",
            &[&session.to_string()],
        )?,
        Change::Give(row) => give(transaction, row)?,
        Change::Spend { grant } => run(
            "UPDATE grants SET uses_left = uses_left - 1 WHERE id = ?1 AND uses_left > 0",
            &[&grant.to_string()],
        )?,
        Change::Revoke { grant } => run("DELETE FROM grants WHERE id = ?1", &[&grant.to_string()])?,
        Change::Intent { session, intent } => run(
            "UPDATE sessions SET intent = ?2 WHERE id = ?1",
            &[&session.to_string(), intent],
        )?,
        Change::Cost(row) => cost(transaction, row)?,
        Change::ClearCost { session } => {
            run(
                "DELETE FROM costs WHERE holder = ?1",
                &[&session.to_string()],
            )?;
            1
        }
        Change::Hold(row) => approvals::hold(transaction, row)?,
        Change::Vote { approval, vote } => approvals::vote(transaction, *approval, vote)?,
        Change::Unvote { approval, vote } => approvals::unvote(transaction, *approval, vote)?,
        Change::Move(step) => approvals::step(transaction, step)?,
        Change::Deliver { approval } => approvals::deliver(transaction, *approval)?,
        Change::Forget { approval } => {
            // One that came to nothing while it was asked for has nobody to be told.
            let asked = format!("{approval}.{}", Stage::Pending.as_str());
            run("DELETE FROM notices WHERE id = ?1", &[&asked])?;
            run(
                "DELETE FROM approvals WHERE id = ?1",
                &[&approval.to_string()],
            )?
        }
        Change::FanOut {
            notices,
            deliveries,
        } => notices::fan_out(transaction, notices, deliveries)?,
        Change::Reschedule { key, progress } => notices::progress(transaction, key, progress)?,
        Change::Arrive(keys) => notices::remove(transaction, keys)?,
        Change::Pin { rows, notice } => {
            if let Some(notice) = notice {
                notices::insert(transaction, notice)?;
            }
            pins::put(transaction, rows)?
        }
        Change::Unpin(keys) => pins::remove(transaction, keys)?,
    };
    Ok(if changed > 0 {
        Applied::Done
    } else {
        Applied::Refused
    })
}

fn mint(transaction: &Transaction<'_>, row: &SessionRow) -> Result<usize, rusqlite::Error> {
    let narrowing = row.narrowing.as_ref().map(narrowing_text);
    let (since, why) = row.quarantined.clone().unzip();
    transaction
        .prepare(
            "INSERT INTO sessions (id, token, project, agent, attributes, narrowing, parent, run, intent, minted_by, \
             minted_at, expires_at, quarantined_at, quarantine_reason, certificate) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15 \
             WHERE ?7 IS NULL OR EXISTS (SELECT 1 FROM sessions WHERE id = ?7)",
        )?
        .execute(params![
            row.id.to_string(),
            row.token.as_bytes().as_slice(),
            row.project.as_str(),
            row.agent.as_str(),
            json(&row.attributes),
            narrowing,
            row.parent.map(|parent| parent.to_string()),
            row.run,
            row.intent,
            row.minted_by.as_str(),
            row.minted_at.micros(),
            row.expires_at.micros(),
            since.map(Timestamp::micros),
            why,
            row.bound_to.map(|certificate| certificate.to_string()),
        ])
}

fn give(transaction: &Transaction<'_>, row: &GrantRow) -> Result<usize, rusqlite::Error> {
    let session = row.session.to_string();
    let given = transaction
        .prepare(
            "INSERT INTO grants (id, session, scope, resource, uses, uses_left, expires_at, why) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM sessions WHERE id = ?2)",
        )?
        .execute(params![
            row.id.to_string(),
            session,
            row.scope.as_str(),
            row.resource,
            row.uses,
            row.uses_left,
            row.expires_at.micros(),
            row.why,
        ])?;
    if given > 0 {
        transaction
            .prepare(
                "INSERT INTO given (session, scope, count) VALUES (?1, ?2, 1) \
                 ON CONFLICT (session, scope) DO UPDATE SET count = count + 1",
            )?
            .execute(params![session, row.scope.as_str()])?;
    }
    Ok(given)
}

fn cost(transaction: &Transaction<'_>, row: &CostRow) -> Result<usize, rusqlite::Error> {
    let key = params![row.project.as_str(), row.limit.as_str(), row.holder];
    transaction
        .prepare("DELETE FROM costs WHERE project = ?1 AND limit_id = ?2 AND holder = ?3 AND bucket < ?4")?
        .execute(params![key[0], key[1], key[2], row.bucket.micros() - KEEP_COST_MICROS])?;
    // A session's counters end with it: one that comes late has no holder any more.
    let of_session = row.holder.parse::<SessionId>().is_ok();
    transaction
        .prepare(
            "INSERT INTO costs (project, limit_id, holder, bucket, micros) SELECT ?1, ?2, ?3, ?4, ?5 \
             WHERE NOT ?6 OR EXISTS (SELECT 1 FROM sessions WHERE id = ?3) \
             ON CONFLICT (project, limit_id, holder, bucket) DO UPDATE SET micros = excluded.micros",
        )?
        .execute(params![
            key[0],
            key[1],
            key[2],
            row.bucket.micros(),
            i64::try_from(row.micros).unwrap_or(i64::MAX),
            of_session
        ])
}

/// Reads everything; costs too old for any window are dropped.
pub(super) fn load(connection: &Connection, now: Timestamp) -> Result<Snapshot, Refusal> {
    connection.execute(
        "DELETE FROM costs WHERE bucket < ?1",
        [now.micros().saturating_sub(KEEP_COST_MICROS)],
    )?;
    Ok(Snapshot {
        // A row's number is above those present when it was made, so parents come before their children.
        sessions: all(connection, "sessions", "ORDER BY rowid", session)?,
        grants: all(connection, "grants", "ORDER BY rowid", grant)?,
        costs: all(connection, "costs", "", |row| {
            Ok(CostRow {
                project: name(row, "project", crate::policy::name::ProjectName::parse)?,
                limit: name(row, "limit_id", crate::policy::name::LimitId::parse)?,
                holder: row.get("holder").map_err(text)?,
                bucket: time(row, "bucket")?,
                micros: u64::try_from(row.get::<_, i64>("micros").map_err(text)?).map_err(text)?,
            })
        })?,
        given: all(connection, "given", "", |row| {
            Ok(GivenRow {
                session: id(row, "session")?,
                scope: name(row, "scope", ScopeName::parse)?,
                count: row.get("count").map_err(text)?,
            })
        })?,
        approvals: approvals::load(connection)?,
        deliveries: notices::deliveries(connection)?,
        pins: pins::load(connection)?,
    })
}

fn all<T>(
    connection: &Connection,
    table: &'static str,
    order: &str,
    mut read: impl FnMut(&Row<'_>) -> Result<T, String>,
) -> Result<Vec<T>, Refusal> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {table} {order}"))?;
    let mut rows = statement.query([])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(read(row).map_err(|why| Refusal::Row { table, why })?);
    }
    Ok(out)
}

fn session(row: &Row<'_>) -> Result<SessionRow, String> {
    let token: [u8; 32] = row.get("token").map_err(text)?;
    let attributes: String = row.get("attributes").map_err(text)?;
    let narrowing: Option<String> = row.get("narrowing").map_err(text)?;
    let since: Option<i64> = row.get("quarantined_at").map_err(text)?;
    let why: Option<String> = row.get("quarantine_reason").map_err(text)?;
    let parent: Option<String> = row.get("parent").map_err(text)?;
    let certificate: Option<String> = row.get("certificate").map_err(text)?;
    Ok(SessionRow {
        id: id(row, "id")?,
        token: TokenDigest::from_bytes(token),
        project: name(row, "project", crate::policy::name::ProjectName::parse)?,
        agent: name(row, "agent", crate::policy::name::AgentName::parse)?,
        attributes: serde_json::from_str(&attributes).map_err(text)?,
        narrowing: narrowing.as_deref().map(narrowing_of).transpose()?,
        parent: parent
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(text)?,
        run: row.get("run").map_err(text)?,
        // One that can't be read must not become "bound to none".
        bound_to: certificate
            .map(|text| Thumbprint::parse(&text).ok_or("certificate: not a thumbprint"))
            .transpose()?,
        intent: row.get("intent").map_err(text)?,
        minted_by: name(row, "minted_by", crate::policy::name::PrincipalName::parse)?,
        minted_at: time(row, "minted_at")?,
        expires_at: time(row, "expires_at")?,
        quarantined: since.map(|at| (Timestamp::from_micros(at), why.unwrap_or_default())),
    })
}

fn grant(row: &Row<'_>) -> Result<GrantRow, String> {
    Ok(GrantRow {
        id: id(row, "id")?,
        session: id(row, "session")?,
        scope: name(row, "scope", ScopeName::parse)?,
        resource: row.get("resource").map_err(text)?,
        uses: row.get("uses").map_err(text)?,
        uses_left: row.get("uses_left").map_err(text)?,
        expires_at: time(row, "expires_at")?,
        why: row.get("why").map_err(text)?,
    })
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn id<T: std::str::FromStr<Err: Display>>(row: &Row<'_>, column: &str) -> Result<T, String> {
    let value: String = row.get(column).map_err(text)?;
    value.parse().map_err(|error| format!("{column}: {error}"))
}

fn name<T>(
    row: &Row<'_>,
    column: &str,
    parse: impl Fn(&str) -> Result<T, NameError>,
) -> Result<T, String> {
    let value: String = row.get(column).map_err(text)?;
    parse(&value).map_err(|error| format!("{column}: {error}"))
}

fn time(row: &Row<'_>, column: &str) -> Result<Timestamp, String> {
    row.get(column).map(Timestamp::from_micros).map_err(text)
}

/// A narrowing as stored.
type StoredNarrowing = BTreeMap<String, StoredNarrowed>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredNarrowed {
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uses: Option<u32>,
}

fn narrowing_text(narrowing: &Narrowing) -> String {
    let stored: StoredNarrowing = narrowing
        .scopes
        .iter()
        .map(|(scope, left)| {
            let patterns = |all: &[ResourcePattern]| all.iter().map(ToString::to_string).collect();
            let left = StoredNarrowed {
                resources: left.resources.as_deref().map(patterns),
                uses: left.uses,
            };
            (scope.to_string(), left)
        })
        .collect();
    json(&stored)
}

fn narrowing_of(stored: &str) -> Result<Narrowing, String> {
    let stored: StoredNarrowing = serde_json::from_str(stored).map_err(text)?;
    let pattern = |one: String| ResourcePattern::parse_literal(&one).map_err(text);
    let scopes = stored.into_iter().map(|(scope, left)| {
        let resources = left.resources.map(|all| {
            all.into_iter()
                .map(pattern)
                .collect::<Result<Box<[_]>, _>>()
        });
        let narrowed = Narrowed {
            resources: resources.transpose()?,
            uses: left.uses,
        };
        Ok((ScopeName::parse(&scope).map_err(text)?, narrowed))
    });
    Ok(Narrowing {
        scopes: scopes.collect::<Result<_, String>>()?,
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("maps with text keys are JSON")
}

/// Longest window a limit may have, and a day of slack.
const KEEP_COST_MICROS: i64 = 32 * 24 * 3600 * 1_000_000;
