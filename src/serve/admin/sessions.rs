//! Sessions: minted and revoked by issuers, put in quarantine and released by operators, seen by all but approvers.

use super::Admin;
use super::approvals;
use super::caller::{Caller, Id};
use super::input;
use super::order::{self, MintInput};
use super::problem::{ProblemDocument, Refused, json};
use super::view::{List, MintedView, SessionView, time};
use crate::config::Role;
use crate::io::clock;
use crate::ledger::record::Cause;
use crate::policy::id::SessionId;
use crate::policy::name::ProjectName;
use crate::policy::token::{Token, TokenKind};
use crate::store::live::{ChangeError, LiveSession, MintError};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Why an operator steps in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonInput {
    /// Stays in the ledger.
    reason: String,
}

/// Make a session for one run of an agent. Needs the role issuer.
#[utoipa::path(post, path = "/v1/sessions", request_body = MintInput, responses(
    (status = 201, description = "Minted; the token is shown this once.", body = MintedView<'static>),
    (status = "4XX", description = "Refused.", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn mint(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Issuer])?;
    let input: MintInput = input::read(request).await?;
    let project = ProjectName::parse(&input.project)
        .ok()
        .filter(|project| caller.sees(project));
    let ruleset = project.and_then(|project| admin.parts.gate.ruleset(&project));
    let ruleset = ruleset.ok_or_else(|| {
        Refused::not_found(format!(
            "`project`: {:?} is not one of your projects",
            input.project
        ))
    })?;
    let order = order::of_mint(input, &caller)?;
    let now = admin.parts.clock.now();
    let token = Token::mint(TokenKind::Session, &clock::random());
    let session = admin
        .parts
        .sessions
        .mint(
            &ruleset.policy,
            order,
            clock::session_id(now),
            token.digest(),
            now,
        )
        .await
        .map_err(not_minted)?;
    let id = session.facts.id.to_string();
    let path = format!("/v1/sessions/{id}");
    admin
        .record_call(&caller, &format!("POST /v1/sessions: {id}"))
        .await;
    let view = MintedView {
        id,
        token: token.reveal(),
        expires_at: time(session.facts.expires_at),
    };
    let mut response = json(StatusCode::CREATED, &view);
    if let Ok(location) = HeaderValue::try_from(path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// List the sessions of your projects. Needs the role issuer, operator or auditor.
#[utoipa::path(get, path = "/v1/sessions", params(
    ("limit" = Option<usize>, Query, description = "Most items, 1 to 1000; 100 unless given."),
    ("after" = Option<String>, Query, description = "`next` of the page before."),
), responses((status = 200, body = List<SessionView>)))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    caller.needs(SEEING)?;
    let page = input::page(request.uri())?;
    let after = match page.after.as_deref().map(str::parse::<SessionId>) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => {
            return Err(Refused::invalid("`after` is the `next` of the page before"));
        }
    };
    let now = admin.parts.clock.now();
    // One more than asked for tells whether there is a next page.
    let mut sessions = admin
        .parts
        .sessions
        .list(&caller.principal.projects, after, page.limit + 1);
    let more = sessions.len() > page.limit;
    sessions.truncate(page.limit);
    let next = sessions.last().filter(|_| more);
    let view = List {
        next: next.map(|session| session.facts.id.to_string()),
        items: sessions
            .iter()
            .map(|session| SessionView::brief(session, now))
            .collect(),
    };
    Ok(json(StatusCode::OK, &view))
}

/// Show one session with its grants, its approvals and where its limits stand. Needs the role issuer, operator or auditor.
#[utoipa::path(get, path = "/v1/sessions/{id}", params(("id" = String, Path)),
    responses((status = 200, body = SessionView), (status = 404, body = ProblemDocument<'static>, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, Refused> {
    caller.needs(SEEING)?;
    let session = caller.session(&admin, &id)?;
    Ok(shown(&admin, &session))
}

/// End a session: its token, its grants and its open streams. Needs the role issuer.
#[utoipa::path(delete, path = "/v1/sessions/{id}", params(("id" = String, Path)),
    responses((status = 200, body = SessionView), (status = 404, body = ProblemDocument<'static>, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Issuer])?;
    let session = caller.session(&admin, &id)?;
    let now = admin.parts.clock.now();
    let cause = Cause::Principal(&caller.principal.name);
    let done = admin.parts.sessions.revoke(&session, cause, now).await;
    changed(
        &admin,
        &caller,
        &session,
        done,
        &format!("DELETE /v1/sessions/{id}"),
    )
    .await
}

/// Put a session in quarantine: nothing of it passes until it is released. Needs the role operator.
#[utoipa::path(post, path = "/v1/sessions/{id}/quarantine", params(("id" = String, Path)), request_body = ReasonInput,
    responses((status = 200, body = SessionView), (status = 404, body = ProblemDocument<'static>, content_type = "application/problem+json")))]
pub(super) async fn quarantine(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Id(id): Id,
    request: Request,
) -> Result<Response, Refused> {
    step(&admin, &caller, &id, Step::Quarantine, request).await
}

/// Let a session out of quarantine; its counters are cleared. Needs the role operator.
#[utoipa::path(post, path = "/v1/sessions/{id}/release", params(("id" = String, Path)), request_body = ReasonInput,
    responses((status = 200, body = SessionView), (status = 404, body = ProblemDocument<'static>, content_type = "application/problem+json")))]
pub(super) async fn release(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Id(id): Id,
    request: Request,
) -> Result<Response, Refused> {
    step(&admin, &caller, &id, Step::Release, request).await
}

async fn step(
    admin: &Admin,
    caller: &Caller,
    id: &str,
    step: Step,
    request: Request,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Operator])?;
    caller.session(admin, id)?;
    let input: ReasonInput = input::read(request).await?;
    let session = step_in(admin, caller, id, step, input.reason).await?;
    Ok(shown(admin, &session))
}

/// How an operator steps in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Step {
    /// Nothing of the session passes from now on.
    Quarantine,
    /// It does again.
    Release,
}

impl Step {
    /// As it is called.
    pub(in crate::serve) const fn as_str(self) -> &'static str {
        match self {
            Step::Quarantine => "quarantine",
            Step::Release => "release",
        }
    }
}

/// Puts a session in quarantine, or lets it out. The API and the console come by here.
///
/// # Errors
/// [`Refused`]: not an operator's, not in the caller's projects, no reason, or not possible now.
pub(in crate::serve) async fn step_in(
    admin: &Admin,
    caller: &Caller,
    id: &str,
    step: Step,
    reason: String,
) -> Result<Arc<LiveSession>, Refused> {
    caller.needs(&[Role::Operator])?;
    let session = caller.session(admin, id)?;
    let reason = order::reason(reason)?;
    let now = admin.parts.clock.now();
    let cause = Cause::Principal(&caller.principal.name);
    let sessions = &admin.parts.sessions;
    let done = match step {
        Step::Quarantine => {
            let done = sessions.quarantine(&session, &reason, cause, now).await;
            if !matches!(done, Ok(false) | Err(ChangeError::Ended)) {
                admin
                    .parts
                    .metrics
                    .quarantined(&session.facts.project, None);
            }
            done.map(drop)
        }
        Step::Release => sessions.release(&session, &reason, cause, now).await,
    };
    done.map_err(not_changed)?;
    let call = format!("POST /v1/sessions/{id}/{}", step.as_str());
    admin.record_call(caller, &call).await;
    Ok(session)
}

/// The end of each of these: the call is recorded beside the change, and the session is shown as it is now.
async fn changed(
    admin: &Admin,
    caller: &Caller,
    session: &LiveSession,
    done: Result<(), ChangeError>,
    call: &str,
) -> Result<Response, Refused> {
    done.map_err(not_changed)?;
    admin.record_call(caller, call).await;
    Ok(shown(admin, session))
}

/// Roles that may look at sessions.
const SEEING: &[Role] = &[Role::Issuer, Role::Operator, Role::Auditor];

fn shown(admin: &Admin, session: &LiveSession) -> Response {
    let ruleset = admin.parts.gate.ruleset(&session.facts.project);
    let policy = ruleset.as_deref().map(|ruleset| &ruleset.policy);
    let approvals = approvals::of_session(admin, session);
    let view = SessionView::full(session, &approvals, policy, admin.parts.clock.now());
    json(StatusCode::OK, &view)
}

fn not_minted(why: MintError) -> Refused {
    match why {
        MintError::Store(_) => Refused::store_unavailable(),
        MintError::Ledger(_) => Refused::ledger_unavailable(),
        MintError::Full { .. } => Refused::conflict(why.to_string()),
        MintError::AgentUnknown { .. }
        | MintError::Ttl { .. }
        | MintError::Bond
        | MintError::Attributes
        | MintError::AttributeName { .. }
        | MintError::AttributeValue { .. }
        | MintError::NarrowingEmpty
        | MintError::ResourcesEmpty { .. }
        | MintError::UsesZero { .. }
        | MintError::ScopeOutside { .. }
        | MintError::ScopeOutsideParent { .. }
        | MintError::Run
        | MintError::Intent
        | MintError::Parent { .. }
        | MintError::Depth { .. } => Refused::invalid(why.to_string()),
    }
}

/// Why a change was not made, or not made for good.
pub(super) fn not_changed(why: ChangeError) -> Refused {
    match why {
        ChangeError::Ended | ChangeError::NotQuarantined | ChangeError::QuarantinedAgain => {
            Refused::conflict(why.to_string())
        }
        ChangeError::Store(_) => Refused::store_unavailable(),
        ChangeError::Ledger(_) => Refused::ledger_unavailable(),
    }
}
