//! `POST /.toolgate/grants`: give me this, for that reason. `DELETE /.toolgate/grants/ID`: I am done with it.
//!
//! The ceiling decides; the reason is recorded and decides nothing.

use super::input;
use crate::gate::body::RequestBody;
use crate::gate::hold::{Preferred, Wait, Waited, Wish, WishError, Wisher, not_asked};
use crate::gate::record::{Caller, Entry};
use crate::gate::refusal::Refusal;
use crate::gate::{Gate, Inner, respond};
use crate::ledger::Unavailable;
use crate::ledger::record::Cause;
use crate::ledger::without_tokens;
use crate::policy::approval::Stage;
use crate::policy::decision::{Denial, Reason};
use crate::policy::id::GrantId;
use crate::policy::name::ScopeName;
use crate::policy::resource::Resource;
use crate::policy::subject::Grant;
use crate::policy::time::duration;
use crate::store::live::{Ask, ChangeError, GiveError, WHY_BYTES_MAX};
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What an agent asks for. `ttl` is written as in the YAML, `5m`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    scope: String,
    resource: Option<String>,
    uses: Option<u32>,
    ttl: Option<String>,
    reason: String,
}

/// A stored grant as its holder sees it.
#[derive(Serialize)]
pub(super) struct GrantView {
    id: String,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    uses: u32,
    uses_left: u32,
    expires_at: String,
    reason: String,
}

impl GrantView {
    pub(super) fn of(grant: &Grant) -> Self {
        Self {
            id: grant.id.to_string(),
            scope: grant.scope.to_string(),
            resource: grant.resource.as_ref().map(ToString::to_string),
            uses: grant.uses,
            uses_left: grant.uses_left,
            expires_at: respond::timestamp(grant.expires_at),
            reason: grant.why.to_string(),
        }
    }
}

/// Gives the grant, if the ceiling allows it.
pub(super) async fn ask(
    gate: &Gate,
    caller: &Caller,
    entry: &Entry,
    headers: &HeaderMap,
    body: &mut Option<RequestBody>,
) -> Result<Response<Bytes>, Refusal> {
    let ask = parse(input::read(headers, body).await?)?;
    let wisher = || Wisher {
        cause: Cause::Agent,
        client: entry.client,
        request: entry.id(),
    };
    let refused = |why| match why {
        WishError::Give(why) => not_given(why, ask.scope.clone(), ask.resource.clone()),
        WishError::Hold(why) => not_asked(why, (ask.scope.clone(), ask.resource.clone())),
    };
    let wish = gate.wish(&caller.session, ask.clone(), wisher()).await;
    let approval = match wish.map_err(refused)? {
        Wish::Given(grant) => return Ok(given(&grant)),
        Wish::Asked(approval) => approval,
    };
    let preferred = Preferred::read(headers);
    let span = preferred.asked(WAIT_MAX);
    let mut wait = Wait::begin(&gate.0, &caller.session, &approval, span);
    loop {
        // Given by whoever is first to find it agreed to.
        gate.fulfil(&approval).await;
        match wait.stage() {
            Stage::Pending | Stage::Approved | Stage::Executing => match wait.next().await {
                Waited::News => {}
                Waited::Enough => {
                    let mut response = respond::pending(&approval, None);
                    preferred.applied(wait.applied(preferred), response.headers_mut());
                    return Ok(response);
                }
                Waited::Ended => {
                    let state = caller.session.state(gate.0.clock.tick());
                    return Err(Refusal::of_state(state));
                }
            },
            Stage::Denied => return Err(Refusal::approval_denied(&approval)),
            Stage::Expired => return Err(Refusal::approval_expired(&approval)),
            Stage::Withdrawn => return Err(Refusal::approval_void(&approval)),
            Stage::Unknown => return Err(Refusal::outcome_unknown(&approval)),
            Stage::Executed => {
                let wish = gate.wish(&caller.session, ask.clone(), wisher()).await;
                return match wish.map_err(refused)? {
                    Wish::Given(grant) => Ok(given(&grant)),
                    Wish::Asked(approval) => Ok(respond::pending(&approval, None)),
                };
            }
        }
    }
}

fn given(given: &Grant) -> Response<Bytes> {
    let mut response = respond::json(
        StatusCode::CREATED,
        "application/json",
        &GrantView::of(given),
    );
    if let Ok(location) = HeaderValue::from_str(&format!("/.toolgate/grants/{}", given.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Takes one of the caller's own grants away.
pub(super) async fn give_up(
    gate: &Inner,
    caller: &Caller,
    id: &str,
) -> Result<Response<Bytes>, Refusal> {
    let unknown = || {
        Refusal::not_found(
            "this session holds no live grant of this id; GET /.toolgate/session lists those it holds",
        )
    };
    let id: GrantId = id.parse().map_err(|_| unknown())?;
    let now = gate.clock.now();
    let live = |grant: &Grant| grant.id == id && grant.live_at(now.tick);
    // What was used up or has expired is nothing that could be given back.
    if !caller.session.with_grants(|grants| grants.iter().any(live)) {
        return Err(unknown());
    }
    let revoked = gate
        .sessions
        .revoke_grant(&caller.session, id, Cause::Agent, now)
        .await
        .map_err(not_changed)?;
    if !revoked {
        return Err(unknown());
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn parse(input: Input) -> Result<Ask, Refusal> {
    let wrong =
        |key: &str, why: &dyn std::fmt::Display| Refusal::invalid_input(format!("`{key}`: {why}"));
    let scope = ScopeName::parse(&input.scope).map_err(|why| wrong("scope", &why))?;
    let resource = input.resource.as_deref().map(Resource::parse).transpose();
    let resource = resource.map_err(|why| wrong("resource", &why))?;
    if input.uses == Some(0) {
        return Err(wrong("uses", &"a grant has at least one use"));
    }
    let ttl = match input.ttl.as_deref() {
        Some(text) => Some(duration(text).filter(|ttl| !ttl.is_zero()).ok_or_else(|| {
            wrong(
                "ttl",
                &"write a whole number above zero and one of ms, s, m, h, d, such as \"5m\"",
            )
        })?),
        None => None,
    };
    let why = input.reason.trim();
    if why.is_empty() || why.len() > WHY_BYTES_MAX {
        return Err(wrong(
            "reason",
            &format_args!("say in 1 to {WHY_BYTES_MAX} bytes what the grant is for"),
        ));
    }
    Ok(Ask {
        scope,
        resource,
        uses: input.uses,
        ttl,
        why: without_tokens(why).into_owned(),
    })
}

/// How long an agent that prefers to wait for people is let wait at most.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Why a grant was not given, in the reasons' words.
pub(super) fn not_given(why: GiveError, scope: ScopeName, resource: Option<Resource>) -> Refusal {
    let detail = why.to_string();
    let refusal = match why {
        GiveError::ScopeOutside { .. } => Refusal::denied(Denial {
            reason: Reason::ScopeOutsideCeiling,
            scope: Some(scope.clone()),
            resource: resource.clone(),
        }),
        GiveError::ResourceOutside { .. } => Refusal::denied(Denial {
            reason: Reason::ResourceOutsideCeiling,
            scope: Some(scope.clone()),
            resource: resource.clone(),
        }),
        GiveError::Exhausted { .. } => Refusal::new(Reason::ScopeOutsideCeiling, detail),
        GiveError::Conflict { .. } => Refusal::new(Reason::Conflict, detail),
        GiveError::OnUse { .. }
        | GiveError::Uses { .. }
        | GiveError::Ttl { .. }
        | GiveError::Why => Refusal::invalid_input(detail),
        GiveError::Ended => Refusal::credential_invalid(),
        GiveError::Quarantined => Refusal::quarantined(None),
        GiveError::Store(fault) => {
            tracing::error!(%fault, "a grant could not be made durable; it was not given");
            Refusal::store_unavailable()
        }
        GiveError::Ledger(Unavailable) => Refusal::ledger_unavailable(),
    };
    refusal.about(Some(scope), resource)
}

/// Why a change was not made, or not made for good.
pub(super) fn not_changed(why: ChangeError) -> Refusal {
    match why {
        ChangeError::Ended => Refusal::credential_invalid(),
        ChangeError::NotQuarantined | ChangeError::QuarantinedAgain => {
            Refusal::new(Reason::Conflict, why.to_string())
        }
        ChangeError::Store(fault) => {
            tracing::error!(%fault, "a session's change could not be made durable");
            Refusal::store_unavailable()
        }
        ChangeError::Ledger(Unavailable) => Refusal::ledger_unavailable(),
    }
}
