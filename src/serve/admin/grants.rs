//! Stored grants: given by issuers within the ceiling, and taken away.

use super::Admin;
use super::caller::{Caller, Id};
use super::input;
use super::order::{self, GiveInput};
use super::problem::{ProblemDocument, Refused, json};
use super::sessions::not_changed;
use super::view::{GrantView, PendingView, time};
use crate::config::Role;
use crate::gate::{Wish, WishError, Wisher};
use crate::io::clock;
use crate::ledger::record::Cause;
use crate::policy::approval::Stage;
use crate::policy::decision::Reason;
use crate::policy::id::GrantId;
use crate::store::live::GiveError;
use crate::store::live::approvals::{HoldError, LiveApproval};
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use std::sync::Arc;

/// Give a session a grant within its ceiling, or ask people for it where the ceiling says so (202; the same wish joins).
/// Needs the role issuer.
#[utoipa::path(post, path = "/v1/sessions/{id}/grants", params(("id" = String, Path)), request_body = GiveInput, responses(
    (status = 201, description = "Given.", body = GrantView),
    (status = 202, description = "A person is asked; `Location` is the approval.", body = PendingView),
    (status = "4XX", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn give(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Id(id): Id,
    request: Request,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Issuer])?;
    let session = caller.session(&admin, &id)?;
    let input: GiveInput = input::read(request).await?;
    let ask = order::of_give(input)?;
    let project = &session.facts.project;
    if admin.parts.gate.ruleset(project).is_none() {
        return Err(Refused::conflict(
            "the session's project is not in the policy any more; nothing can be granted in it",
        ));
    }
    let now = admin.parts.clock.now();
    let wisher = Wisher {
        cause: Cause::Principal(&caller.principal.name),
        client: caller.client,
        request: clock::request_id(now),
    };
    let wish = admin.parts.gate.wish(&session, ask, wisher).await;
    let (call, response) = match wish.map_err(not_granted)? {
        Wish::Given(given) => (
            format!("POST /v1/sessions/{id}/grants: {}", given.id),
            json(StatusCode::CREATED, &GrantView::new(&given, &id, now)),
        ),
        Wish::Asked(approval) => (
            format!("POST /v1/sessions/{id}/grants: {}", approval.facts.id),
            asked(&approval)?,
        ),
    };
    admin.record_call(&caller, &call).await;
    Ok(response)
}

/// A grant that people are asked for, and how that stands.
fn asked(approval: &LiveApproval) -> Result<Response, Refused> {
    let ended = |reason, words: &str| {
        let note = approval.ending().and_then(|ending| ending.note);
        let why = note.map_or_else(String::new, |note| format!(": {note}"));
        let id = approval.facts.id;
        Err(Refused::new(reason, format!("{words}{why} ({id})")))
    };
    match approval.stage() {
        Stage::Pending | Stage::Approved | Stage::Executing | Stage::Executed => {
            let id = approval.facts.id.to_string();
            let location = HeaderValue::try_from(format!("/v1/approvals/{id}"));
            let view = PendingView {
                status: "PENDING_APPROVAL",
                approval: id,
                chain: approval.facts.chain.to_string(),
                expires_at: time(approval.facts.expires_at),
            };
            let mut response = json(StatusCode::ACCEPTED, &view);
            if let Ok(location) = location {
                response.headers_mut().insert(LOCATION, location);
            }
            Ok(response)
        }
        Stage::Denied => ended(Reason::ApprovalDenied, "a person said no"),
        Stage::Expired => ended(Reason::ApprovalExpired, "nobody said enough in time"),
        Stage::Withdrawn => ended(Reason::ApprovalVoid, "it was taken back"),
        Stage::Unknown => ended(Reason::OutcomeUnknown, "nobody knows whether it was given"),
    }
}

/// Take a grant away. Needs the role issuer.
#[utoipa::path(delete, path = "/v1/grants/{id}", params(("id" = String, Path)),
    responses((status = 200, body = GrantView), (status = 404, body = ProblemDocument<'static>, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Issuer])?;
    let unknown = || Refused::not_found("no grant of your projects' sessions has this id");
    let grant: GrantId = id.parse().map_err(|_| unknown())?;
    let session = admin
        .parts
        .sessions
        .holder(grant)
        .filter(|session| caller.sees(&session.facts.project))
        .ok_or_else(unknown)?;
    let now = admin.parts.clock.now();
    let holder = session.facts.id.to_string();
    let view = session.with_grants(|grants| {
        let held = grants.iter().find(|held| held.id == grant);
        held.map(|held| GrantView::new(held, &holder, now))
    });
    let mut view = view.ok_or_else(unknown)?;
    let cause = Cause::Principal(&caller.principal.name);
    let done = admin
        .parts
        .sessions
        .revoke_grant(&session, grant, cause, now)
        .await;
    if !done.map_err(not_changed)? {
        return Err(unknown());
    }
    admin
        .record_call(&caller, &format!("DELETE /v1/grants/{id}"))
        .await;
    view.state = "revoked";
    Ok(json(StatusCode::OK, &view))
}

fn not_granted(why: WishError) -> Refused {
    match why {
        WishError::Give(why) => not_given(why),
        WishError::Hold(why) => not_held(&why),
    }
}

/// Why nobody was asked.
fn not_held(why: &HoldError) -> Refused {
    let reason = match why {
        HoldError::Store(_) => return Refused::store_unavailable(),
        HoldError::Ledger(_) => return Refused::ledger_unavailable(),
        HoldError::TooManyPending { .. } => Reason::TooManyPending,
        HoldError::Full => Reason::Overloaded,
        HoldError::GrantMissing | HoldError::Ended | HoldError::Quarantined => Reason::Conflict,
    };
    Refused::new(reason, why.to_string())
}

fn not_given(why: GiveError) -> Refused {
    let reason = match why {
        GiveError::Store(_) => return Refused::store_unavailable(),
        GiveError::Ledger(_) => return Refused::ledger_unavailable(),
        GiveError::ScopeOutside { .. } => Reason::ScopeOutsideCeiling,
        GiveError::ResourceOutside { .. } => Reason::ResourceOutsideCeiling,
        GiveError::OnUse { .. }
        | GiveError::Uses { .. }
        | GiveError::Ttl { .. }
        | GiveError::Why => Reason::InvalidInput,
        GiveError::Exhausted { .. }
        | GiveError::Conflict { .. }
        | GiveError::Ended
        | GiveError::Quarantined => Reason::Conflict,
    };
    Refused::new(reason, why.to_string())
}
