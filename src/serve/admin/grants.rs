//! Stored grants: given by issuers within the ceiling, and taken away.

use super::Admin;
use super::caller::{Caller, Id};
use super::input;
use super::order::{self, GiveInput};
use super::problem::{ProblemDocument, Refused, json};
use super::sessions::not_changed;
use super::view::GrantView;
use crate::config::Role;
use crate::io::clock;
use crate::io::metrics::GrantKind;
use crate::ledger::record::Cause;
use crate::policy::decision::Reason;
use crate::policy::id::GrantId;
use crate::store::live::GiveError;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;

/// Give a session a grant within its ceiling. Needs the role issuer.
#[utoipa::path(post, path = "/v1/sessions/{id}/grants", params(("id" = String, Path)), request_body = GiveInput,
    responses((status = 201, body = GrantView), (status = "4XX", body = ProblemDocument<'static>, content_type = "application/problem+json")))]
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
    let ruleset = admin.parts.gate.ruleset(project).ok_or_else(|| {
        Refused::conflict(
            "the session's project is not in the policy any more; nothing can be granted in it",
        )
    })?;
    let now = admin.parts.clock.now();
    let cause = Cause::Principal(&caller.principal.name);
    let given = admin
        .parts
        .sessions
        .give(
            &ruleset.policy,
            &session,
            ask,
            clock::grant_id(now),
            cause,
            now,
        )
        .await
        .map_err(not_given)?;
    admin
        .parts
        .metrics
        .grant_made(project, GrantKind::OnRequest);
    admin
        .record_call(
            &caller,
            &format!("POST /v1/sessions/{id}/grants: {}", given.id),
        )
        .await;
    Ok(json(StatusCode::CREATED, &GrantView::new(&given, &id, now)))
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
