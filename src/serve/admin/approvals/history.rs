//! What a session did before: its calls as the ledger has them, for the person who is to decide on the next one.
//!
//! Read from the end of the ledger, within a bound, off the data plane: nothing is kept in memory for it. Targets are
//! as recorded, with query values masked. It says when there may be more than it shows.

use super::super::Admin;
use super::super::caller::{Caller, Id};
use super::super::ledger;
use super::super::problem::{ProblemDocument, Refused, json};
use super::find;
use crate::ledger::query::{Filter, Order, Outcomes};
use crate::policy::id::SessionId;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Calls of a session, newest last.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct HistoryView {
    pub items: Vec<PastCallView>,
    /// Whether these are all: only the newest calls, in the ledger's newest 8 MiB, are looked at.
    pub complete: bool,
}

/// A call as the ledger has it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct PastCallView {
    pub time: String,
    /// `req_...`
    pub request: String,
    pub method: String,
    /// Canonical; query values are `*` unless the tool's policy records them.
    pub target: String,
    pub route: Option<String>,
    pub resource: Option<String>,
    /// `allow`, `deny` or `hold`.
    pub decision: String,
    /// Why, where it was not allowed.
    pub reason: Option<String>,
    /// What the agent was answered; null: not known yet, or never.
    pub status: Option<u64>,
    /// How it ended other than well.
    pub fault: Option<String>,
}

/// How much of the ledger is read for one answer.
const READ_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most calls shown.
const CALLS_MAX: usize = 100;

/// Show what the session of an approval did, newest last: its calls as the ledger has them. Needs the role approver.
#[utoipa::path(get, path = "/v1/approvals/{id}/history", params(("id" = String, Path)),
    responses((status = 200, body = HistoryView), (status = 404, body = ProblemDocument<'static>, content_type = "application/problem+json")))]
pub(in crate::serve::admin) async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, Refused> {
    let approval = find(&admin, &caller, &id)?;
    let view = history(&admin, approval.facts.session).await?;
    Ok(json(StatusCode::OK, &view))
}

/// What this session did, as far as the ledger's end tells. The caller must be one who may see it.
///
/// # Errors
/// [`Refused`]: the ledger's files can't be read.
pub(in crate::serve) async fn history(
    admin: &Admin,
    session: SessionId,
) -> Result<HistoryView, Refused> {
    let filter = Filter {
        session: Some(session.to_string()),
        kinds: Some(vec!["decision".to_owned(), "outcome".to_owned()]),
        outcomes: Outcomes::WithDecisions,
        ..Filter::default()
    };
    // One more than is shown: it tells whether these are all.
    let mut page = ledger::read(
        admin,
        filter,
        Order::Newest,
        None,
        CALLS_MAX + 1,
        READ_BYTES_MAX,
    )
    .await?;
    page.records.reverse();
    Ok(calls(&page.records, page.next.is_none()))
}

fn calls(records: &[Value], complete: bool) -> HistoryView {
    let ends: HashMap<&str, &Value> = records
        .iter()
        .filter(|record| record["kind"] == "outcome")
        .filter_map(|record| Some((record["request"].as_str()?, record)))
        .collect();
    let decisions: Vec<&Value> = records
        .iter()
        .filter(|record| record["kind"] == "decision")
        .collect();
    let first = decisions.len().saturating_sub(CALLS_MAX);
    HistoryView {
        items: decisions[first..]
            .iter()
            .map(|decision| call(decision, &ends))
            .collect(),
        complete: complete && first == 0,
    }
}

fn call(decision: &Value, ends: &HashMap<&str, &Value>) -> PastCallView {
    let text = |name: &str| decision[name].as_str().map(str::to_owned);
    let end = decision["request"].as_str().and_then(|id| ends.get(id));
    PastCallView {
        time: text("time").unwrap_or_default(),
        request: text("request").unwrap_or_default(),
        method: text("method").unwrap_or_default(),
        target: text("target").unwrap_or_default(),
        route: text("route"),
        resource: text("resource"),
        decision: text("decision").unwrap_or_default(),
        reason: text("reason"),
        status: end.and_then(|end| end["status"].as_u64()),
        fault: end.and_then(|end| end["fault"].as_str().map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_is_shown_with_its_end_and_one_without_as_not_known() {
        let records = [
            json!({"kind": "session", "change": "minted"}),
            json!({"kind": "decision", "request": "req_1", "method": "GET", "target": "/a?q=*", "decision": "allow"}),
            json!({"kind": "decision", "request": "req_2", "method": "PUT", "target": "/b", "decision": "deny", "reason": "grant_missing"}),
            json!({"kind": "outcome", "request": "req_1", "status": 200}),
        ];
        let view = calls(&records, true);
        let items = serde_json::to_value(&view.items).unwrap();
        assert_eq!(items[0]["status"], 200);
        assert_eq!(items[0]["target"], "/a?q=*");
        assert_eq!(
            (&items[1]["status"], &items[1]["reason"]),
            (&Value::Null, &json!("grant_missing"))
        );
        assert!(view.complete);
        let many = vec![records[1].clone(); CALLS_MAX + 1];
        assert!(!calls(&many, true).complete);
    }
}
