//! One session's story, as the ledger has it: what it claimed to be doing, who made it, what it called, what was decided by
//! whom and why, how each call ended, and what it came to.
//!
//! Oldest first, as a timeline. A long one is told in parts, each of which says that it is one.

use super::line::{Linked, Row, Subject};
use super::record::{End, Ends, needed, text};
use crate::ledger::query::{Filter, Order, Outcomes, Page};
use crate::ledger::record::decimal;
use crate::policy::id::SessionId;
use crate::serve::admin::Admin;
use crate::serve::admin::approvals::find_in_projects;
use crate::serve::admin::ledger::look_up;
use crate::serve::admin::problem::Refused;
use crate::serve::console::door::Visitor;
use crate::serve::console::page::{
    Frame, SEES_INBOX, SEES_LEDGER, SEES_SESSIONS, Trouble, page, sees_approval,
};
use crate::serve::console::text::{Text, Time};
use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "console/story.html")]
struct StoryPage {
    frame: Frame,
    id: String,
    agent: String,
    project: String,
    /// Where it is seen as it is now, while it lives.
    live: Option<String>,
    claim: Option<Text>,
    minted: Option<Minted>,
    totals: Totals,
    moments: Vec<Moment>,
    /// What is not all of it: in the middle, or with more behind.
    part: bool,
    first: Option<String>,
    next: Option<String>,
}

/// How it began.
#[derive(Debug)]
struct Minted {
    at: Time,
    by: String,
    expires: Option<Time>,
    run: Option<Text>,
    parent: Option<Linked>,
    attributes: Option<String>,
}

/// A record on the line of time.
#[derive(Debug)]
struct Moment {
    row: Row,
    /// What it claimed, where that is not what it claimed before.
    claims: bool,
    /// The approval as it is now, where it still is and the visitor may see it.
    page: Option<String>,
}

/// What it came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    calls: usize,
    allowed: usize,
    refused: usize,
    /// For which people were asked.
    held: usize,
    /// Allowed, and nobody can say how they ended, or they are under way.
    unknown: usize,
    cost: String,
}

/// Where a part begins.
#[derive(Debug, serde::Deserialize)]
pub(in crate::serve::console) struct From {
    after: Option<u64>,
}

/// Records of one part; their outcomes come on top.
const PART_RECORDS: usize = 500;

/// `GET /ledger/sessions/{id}`
pub(in crate::serve::console) async fn show(
    State(admin): State<Arc<Admin>>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(from): Query<From>,
) -> Result<Response, Trouble> {
    visitor.needs(SEES_LEDGER)?;
    let unknown =
        || Refused::not_found("the ledger has nothing of a session of this id in your projects");
    let id: SessionId = id.parse().map_err(|_| unknown())?;
    let filter = Filter {
        session: Some(id.to_string()),
        outcomes: Outcomes::WithDecisions,
        ..Filter::default()
    };
    let found = look_up(
        &admin,
        &visitor.caller,
        filter,
        Order::Oldest,
        from.after,
        PART_RECORDS,
    )
    .await?;
    if found.records.is_empty() && found.next.is_none() && from.after.is_none() {
        return Err(unknown().into());
    }
    let story = StoryPage::new(&admin, &visitor, &id.to_string(), &found, from.after);
    Ok(page(StatusCode::OK, &story))
}

impl StoryPage {
    fn new(admin: &Admin, visitor: &Visitor, id: &str, found: &Page, after: Option<u64>) -> Self {
        let now = admin.parts.clock.now();
        let records = &found.records;
        let ends = Ends::new(records, &found.unresolved);
        let first = |name: &str| records.iter().find_map(|record| text(record, name));
        let path = format!("/ledger/sessions/{id}");
        let lives = visitor.has(SEES_SESSIONS) && visitor.caller.session(admin, id).is_ok();
        Self {
            frame: Frame::new(admin, visitor, "/ledger", now),
            agent: first("agent").unwrap_or("an agent").to_owned(),
            project: first("project").unwrap_or("?").to_owned(),
            live: lives.then(|| format!("/sessions/{id}")),
            claim: first("intent").map(Text::lines),
            minted: records.iter().find_map(Minted::of),
            totals: Totals::of(records, &ends),
            moments: moments(admin, visitor, records, &ends),
            part: after.is_some() || found.next.is_some(),
            first: after.is_some().then(|| path.clone()),
            next: found.next.map(|seq| format!("{path}?after={seq}")),
            id: id.to_owned(),
        }
    }
}

fn moments(admin: &Admin, visitor: &Visitor, records: &[Value], ends: &Ends<'_>) -> Vec<Moment> {
    let (mut claimed, mut said) = (None, None);
    let mut pages = BTreeMap::new();
    let mut moments = Vec::new();
    for record in records
        .iter()
        .filter(|record| needed(record, "kind") != "outcome")
    {
        let claim = text(record, "intent");
        let claims = claim.is_some() && claim != claimed;
        claimed = claim.or(claimed);
        let approval = text(record, "approval");
        let page = approval.and_then(|id| {
            let page = pages
                .entry(id)
                .or_insert_with(|| approval_page(admin, visitor, id));
            page.clone()
        });
        let mut row = Row::new(record, ends);
        // A word and what it led to carry one note.
        if row.note.is_some() && row.note == said {
            row.note = None;
        } else {
            said.clone_from(&row.note);
        }
        moments.push(Moment { row, claims, page });
    }
    moments
}

/// The page of an approval that still is, for who may see it.
fn approval_page(admin: &Admin, visitor: &Visitor, id: &str) -> Option<String> {
    if !visitor.has(SEES_INBOX) {
        return None;
    }
    let approval = find_in_projects(admin, &visitor.caller, id).ok()?;
    sees_approval(visitor, &approval).then(|| format!("/approvals/{id}"))
}

impl Minted {
    fn of(record: &Value) -> Option<Self> {
        if needed(record, "kind") != "session" || text(record, "change") != Some("minted") {
            return None;
        }
        Some(Self {
            at: Time::parse_dated(needed(record, "time")),
            by: text(record, "principal").unwrap_or("nobody").to_owned(),
            expires: text(record, "expires").map(Time::parse_dated),
            run: text(record, "run").map(Text::line),
            parent: text(record, "parent").map(|id| Linked {
                text: Text::line(id),
                href: format!("/ledger/sessions/{id}"),
            }),
            attributes: text(record, "attributes_sha256").map(str::to_owned),
        })
    }
}

impl Totals {
    fn of(records: &[Value], ends: &Ends<'_>) -> Self {
        let mut totals = Self::default();
        let mut held = BTreeSet::new();
        let mut cost: u64 = 0;
        for record in records {
            if needed(record, "kind") != "decision" {
                continue;
            }
            let decision = needed(record, "decision");
            if decision == "hold" {
                held.insert(needed(record, "request"));
            }
            let end = ends.of(record);
            if matches!(end, End::WentOn) {
                continue;
            }
            totals.calls += 1;
            match decision {
                "allow" => totals.allowed += 1,
                "deny" => totals.refused += 1,
                _ => {}
            }
            match end {
                End::Known(outcome) => cost = cost.saturating_add(outcome.cost_micros.unwrap_or(0)),
                _ if decision == "allow" => totals.unknown += 1,
                _ => {}
            }
        }
        totals.held = held.len();
        totals.cost = decimal(cost);
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_call_is_counted_once_however_often_it_was_decided_on() {
        let decision = |seq: u64, request: &str, decision: &str| json!({ "seq": seq, "kind": "decision", "request": request, "decision": decision });
        let outcome = |seq: u64, request: &str, cost: &str| json!({ "seq": seq, "kind": "outcome", "request": request, "status": 200, "cost": cost });
        let records = [
            json!({ "seq": 0, "kind": "session", "change": "minted" }),
            decision(1, "req_1", "hold"),
            json!({ "seq": 2, "kind": "approval", "change": "voted", "request": "req_1" }),
            decision(3, "req_1", "allow"),
            outcome(4, "req_1", "0.5"),
            decision(5, "req_2", "deny"),
            outcome(6, "req_2", "0.25"),
            decision(7, "req_3", "allow"),
        ];
        let totals = Totals::of(&records, &Ends::new(&records, &[]));
        let expected = Totals {
            calls: 3,
            allowed: 2,
            refused: 1,
            held: 1,
            unknown: 1,
            cost: "0.75".to_owned(),
        };
        assert_eq!(totals, expected);
    }
}
