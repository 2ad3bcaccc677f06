//! Signing in with a principal's key, and out. Failures are summed up in the ledger like those of the admin API, and an
//! address that goes on failing has to wait.

use super::door::{COOKIE_NAME, Fields, Guest, Posted, Visitor, cookie, own_path};
use super::page::{Trouble, see_other};
use crate::io::clock;
use crate::policy::token::{self, TokenKind};
use crate::serve::admin::Admin;
use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderValue;
use http::header::SET_COOKIE;
use std::sync::Arc;

/// `POST /sign-in`
pub(super) async fn sign_in(
    State(admin): State<Arc<Admin>>,
    guest: Guest,
    request: Request,
) -> Result<Response, Trouble> {
    let client = guest.peer.address.ip().to_canonical();
    let now = admin.parts.clock.now();
    if !admin.visits.may_try(client, now.tick) {
        // Nobody looks at the key, and the attempt is on record all the same.
        admin.stranger(client);
        return Err(Trouble::Attempts);
    }
    let before = cookie(request.headers());
    let fields = Fields::read(request, &admin).await?;
    let to = own_path(fields.text("to"));
    // One look-up by digest: nothing is compared whose time could tell.
    let found = token::parse(TokenKind::Principal, fields.text("key").trim()).and_then(|key| {
        let principal = admin.parts.principals.load().find(&key)?;
        Some((key, principal))
    });
    let Some((key, principal)) = found else {
        admin.stranger(client);
        admin.visits.failed(client, now.tick);
        return Err(Trouble::SignIn {
            to,
            wrong: Some("This is not the key of a principal of the server file."),
        });
    };
    if let Some(before) = before {
        admin.visits.end(&before);
    }
    let secret = admin
        .visits
        .begin(key, &principal.name, &clock::random(), now.tick);
    let visitor = Visitor::new(&guest.peer, principal, secret);
    admin.record_call(&visitor.caller, "POST /sign-in").await;
    Ok(with_cookie(see_other(&to), &visitor.secret, ""))
}

/// `POST /sign-out`
pub(super) async fn sign_out(State(admin): State<Arc<Admin>>, posted: Posted) -> Response {
    admin.visits.end(&posted.visitor.secret);
    admin
        .record_call(&posted.visitor.caller, "POST /sign-out")
        .await;
    with_cookie(see_other("/"), "", "; Max-Age=0")
}

fn with_cookie(mut response: Response, value: &str, more: &str) -> Response {
    let line = format!("{COOKIE_NAME}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{more}");
    if let Ok(line) = HeaderValue::try_from(line) {
        response.headers_mut().insert(SET_COOKIE, line);
    }
    response
}
