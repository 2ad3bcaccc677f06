//! `GET /.toolgate/approvals/ID`: what came of it? With `Prefer: wait=N` the answer waits for that. `DELETE`: I take it back.
//!
//! It shows the caller's own approvals and no others, and nothing of who decided but their note.

use crate::gate::hold::{Applied, Preferred, Wait, Waited, stage_in_words};
use crate::gate::record::Caller;
use crate::gate::refusal::{PENDING_RETRY, Refusal};
use crate::gate::{Gate, Inner, respond};
use crate::ledger::record::Cause;
use crate::policy::approval::{Asked, Stage};
use crate::policy::decision::Reason;
use crate::policy::id::ApprovalId;
use crate::store::live::approvals::{LiveApproval, VoteError};
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// An approval as the session it is for sees it.
#[derive(Serialize)]
pub(super) struct ApprovalView {
    approval: String,
    status: &'static str,
    detail: &'static str,
    /// What is asked: `DELETE /crm/users/7`, or `grant`.
    asked: String,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    expires_at: String,
    /// An approver's, or the gate's.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeView>,
}

#[derive(Serialize)]
struct OutcomeView {
    /// The tool's.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The one that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
}

impl ApprovalView {
    pub(super) fn of(approval: &LiveApproval) -> Self {
        let (facts, stage) = (&approval.facts, approval.stage());
        let outcome = approval.outcome().filter(|_| stage == Stage::Executed);
        let note = approval.ending().and_then(|ending| ending.note);
        Self {
            approval: facts.id.to_string(),
            status: stage.as_str(),
            detail: stage_in_words(stage),
            asked: match &facts.asked {
                Asked::Call(call) => format!("{} {}", call.method, call.target),
                Asked::Grant(_) => "grant".to_owned(),
            },
            scope: facts.scope.to_string(),
            resource: facts.resource.as_ref().map(ToString::to_string),
            expires_at: respond::timestamp(facts.expires_at),
            note: note.map(String::from),
            outcome: outcome.map(|outcome| OutcomeView {
                status: outcome.status,
                grant: outcome.grant.map(|grant| grant.to_string()),
            }),
        }
    }
}

/// Those of a session that are not over.
pub(super) fn standing(caller: &Caller) -> Vec<ApprovalView> {
    if !caller.session.holds_approvals() {
        return Vec::new();
    }
    let approvals = caller.session.approvals();
    let standing = approvals
        .iter()
        .filter(|approval| !approval.stage().is_over());
    standing
        .map(|approval| ApprovalView::of(approval))
        .collect()
}

/// Shows one, now or when there is news of it.
pub(super) async fn show(
    gate: &Gate,
    caller: &Caller,
    headers: &HeaderMap,
    id: &str,
) -> Result<Response<Bytes>, Refusal> {
    let approval = own(&gate.0, caller, id)?;
    let applied = settled(gate, caller, headers, &approval).await?;
    let view = ApprovalView::of(&approval);
    let mut response = respond::json(StatusCode::OK, "application/json", &view);
    let shown = response.headers_mut();
    if matches!(approval.stage(), Stage::Pending | Stage::Executing) {
        shown.insert(RETRY_AFTER, HeaderValue::from(PENDING_RETRY.as_secs()));
    }
    Preferred::read(headers).applied(applied, shown);
    Ok(response)
}

/// Waits as long as the agent prefers to, or until there is news.
pub(super) async fn settled(
    gate: &Gate,
    caller: &Caller,
    headers: &HeaderMap,
    approval: &Arc<LiveApproval>,
) -> Result<Applied, Refusal> {
    // Should nobody have given what was agreed to, it is given now.
    gate.fulfil(approval).await;
    let preferred = Preferred::read(headers);
    let span = preferred.asked(LONG_POLL_MAX);
    let mut wait = Wait::begin(&gate.0, &caller.session, approval, span);
    loop {
        let stage = wait.stage();
        gate.fulfil(approval).await;
        if !matches!(stage, Stage::Pending | Stage::Executing) {
            break;
        }
        match wait.next().await {
            Waited::News => {}
            Waited::Enough => break,
            Waited::Ended => {
                let state = caller.session.state(gate.0.clock.tick());
                return Err(Refusal::of_state(state));
            }
        }
    }
    Ok(wait.applied(preferred))
}

/// Takes one back that has not begun to run.
pub(super) async fn withdraw(
    gate: &Inner,
    caller: &Caller,
    id: &str,
) -> Result<Response<Bytes>, Refusal> {
    let approval = own(gate, caller, id)?;
    take_back(gate, &approval).await?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Takes back the caller's own: it is not made.
///
/// # Errors
/// [`Reason::Conflict`]: too late.
pub(in crate::gate) async fn take_back(
    gate: &Inner,
    approval: &Arc<LiveApproval>,
) -> Result<(), Refusal> {
    let now = gate.clock.now();
    let done = gate
        .sessions
        .withdraw(approval, TAKEN_BACK, Cause::Agent, now)
        .await;
    match done {
        Ok(()) => Ok(()),
        Err(VoteError::Store(fault)) => {
            tracing::error!(%fault, "that an approval was taken back could not be made durable");
            Err(Refusal::store_unavailable())
        }
        Err(VoteError::Ledger(_)) => Err(Refusal::ledger_unavailable()),
        Err(why) => Err(Refusal::new(
            Reason::Conflict,
            format!("this approval can't be taken back: {why}"),
        )),
    }
}

/// Whether that is how it ended.
pub(in crate::gate) fn is_taken_back(approval: &LiveApproval) -> bool {
    let note = approval.ending().and_then(|ending| ending.note);
    approval.stage() == Stage::Withdrawn && note.as_deref() == Some(TAKEN_BACK)
}

/// An approval of the caller's own; all others do not exist.
pub(super) fn own(gate: &Inner, caller: &Caller, id: &str) -> Result<Arc<LiveApproval>, Refusal> {
    let id: Option<ApprovalId> = id.parse().ok();
    id.and_then(|id| gate.sessions.approval(id))
        .filter(|approval| approval.facts.session == caller.session.facts.id)
        .ok_or_else(none)
}

/// There is no such approval.
pub(super) fn none() -> Refusal {
    Refusal::not_found(
        "this session has no approval of this id; GET /.toolgate/session lists those that wait",
    )
}

const TAKEN_BACK: &str = "taken back by the agent";
/// How long an answer waits for news at most.
const LONG_POLL_MAX: Duration = Duration::from_secs(60);
