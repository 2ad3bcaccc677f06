//! The description of the admin API (OpenAPI 3.1), made from the very types it reads and shows.

use super::caller::check_host;
use super::problem::{Refused, json};
use super::{
    Admin, access, approvals, checkpoint, events, explain, grants, ledger, pins, policy, sessions,
};
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Toolgate admin API",
        description = "Sessions, grants, quarantine and policy of the gate between AI agents and their tools. Refusals are application/problem+json (RFC 9457); a principal sees only its own projects."
    ),
    paths(
        sessions::mint, sessions::list, sessions::show, sessions::revoke, sessions::quarantine, sessions::release,
        grants::give, grants::revoke, policy::show, policy::reload, explain::explain,
        approvals::list, approvals::show, approvals::history::show, approvals::decision,
        approvals::resolve, events::listen, checkpoint::show, ledger::list,
        pins::list, pins::accept, pins::forget,
        access::evaluation, access::evaluations, access::configuration,
    ),
    modifiers(&Key),
    security(("key" = [])),
)]
struct Document;

struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("key", scheme);
    }
}

/// The document. It holds nothing that is not in this file's repository, so it asks for no key.
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    request: Request,
) -> Result<Response, Refused> {
    let (parts, _) = request.into_parts();
    check_host(&parts, &admin.parts.hosts)?;
    Ok(json(StatusCode::OK, &Document::openapi()))
}
