//! The console: what approvers, operators and auditors look at in a browser, on the admin listener. Pages rendered here; a script
//! that only spares reloading; no build step.
//!
//! It stands beside the admin API and does nothing of its own: whoever is signed in is a [`Caller`] of that API, a word is
//! taken by the function that takes it there, and what a role may not see there is not shown here. It refuses to answer
//! unencrypted beyond this machine, under a name that is not the gate's, to a form of anybody else's page, and to show a
//! character that hides.
//!
//! [`Caller`]: super::admin::caller::Caller

mod approval;
mod asked;
mod body;
mod door;
mod events;
mod inbox;
mod json;
mod ledger;
mod page;
mod policy;
mod sessions;
mod sign;
mod text;
mod told;
mod visits;

pub(in crate::serve) use visits::Visits;

use self::door::{Guest, own_path};
use self::page::{asset, guarded, see_other};
use super::admin::Admin;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};
use http::{StatusCode, Uri};
use std::sync::Arc;

/// Longest form: a note of 1 KiB, percent-encoded, several times.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// The console's paths; none of them is one of the API's.
pub(in crate::serve) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/", get(inbox::show))
        .route("/sign-in", post(sign::sign_in))
        .route("/sign-out", post(sign::sign_out))
        .route("/approvals", get(inbox::all))
        .route("/approvals/{id}", get(approval::show))
        .route("/approvals/{id}/decision", get(back).post(approval::decide))
        .route("/approvals/{id}/resolve", get(back).post(approval::resolve))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", get(sessions::show))
        .route(
            "/sessions/{id}/quarantine",
            get(back).post(sessions::quarantine),
        )
        .route("/sessions/{id}/release", get(back).post(sessions::release))
        .route("/policy", get(policy::show))
        .route("/ledger", get(ledger::show))
        .route("/ledger/sessions/{id}", get(ledger::story::show))
        .route("/events", get(events::listen))
        .route("/console/style.css", get(style))
        .route("/console/script.js", get(script))
        .route("/console/icon.svg", get(icon))
        .route("/favicon.ico", get(icon))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(map_response(guarded))
}

/// Where a form was sent to, asked for by hand: the page that the form is on.
async fn back(uri: Uri) -> Response {
    let path = uri.path();
    see_other(&own_path(
        path.rsplit_once('/').map_or(path, |(page, _)| page),
    ))
}

async fn style(_guest: Guest) -> Response {
    let kind = "text/css; charset=utf-8";
    asset(StatusCode::OK, kind, include_str!("style.css"))
}

async fn script(_guest: Guest) -> Response {
    let kind = "text/javascript; charset=utf-8";
    asset(StatusCode::OK, kind, include_str!("script.js"))
}

async fn icon(_guest: Guest) -> Response {
    asset(StatusCode::OK, "image/svg+xml", include_str!("icon.svg"))
}
