//! The ledger's newest checkpoint, for who keeps one outside the gate's reach. It tells how many records there are and
//! nothing that is in them, so it belongs to no project.

use super::Admin;
use super::approvals::view::hex;
use super::caller::Caller;
use super::problem::{Refused, json};
use crate::config::Role;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::rfc3339;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// A checkpoint, and what it says.
#[derive(Debug, Serialize, ToSchema)]
struct CheckpointView<'a> {
    /// The signed note (C2SP tlog-checkpoint): what counts, and what to keep.
    note: &'a str,
    /// Which log: its instance.
    origin: String,
    /// Records it covers.
    size: u64,
    /// Root of the Merkle tree over them (RFC 6962), in hex.
    root: String,
    /// When it was made, as the gate's clock had it.
    time: Option<String>,
    /// The verifier key of who signs now. Believe one that came another way.
    key: String,
}

/// Show the newest checkpoint: the signed note as it is, or with `Accept: application/json` what it says, too. Needs the
/// role auditor.
#[utoipa::path(get, path = "/v1/ledger/checkpoint", responses(
    (status = 200, content((String = "text/plain"), (CheckpointView<'static> = "application/json"))),
    (status = 404, description = "There is none yet."),
))]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Auditor])?;
    let none = || {
        Refused::not_found("the ledger has no checkpoint yet; its first is made within a second")
    };
    let note = admin.parts.ledger.checkpoint().ok_or_else(none)?;
    let mut response = if wants_json(&headers) {
        let checkpoint = Checkpoint::read(note.as_bytes()).ok_or_else(none)?;
        let view = CheckpointView {
            note: &note,
            origin: checkpoint.origin.to_string(),
            size: checkpoint.size,
            root: hex(&checkpoint.root),
            time: checkpoint.time.map(rfc3339),
            key: admin.parts.ledger.verifier().to_string(),
        };
        json(StatusCode::OK, &view)
    } else {
        let mut response = Response::new(Body::from(note.to_string()));
        let headers = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(CONTENT_TYPE, text);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Whether JSON is among what is accepted, and plain text is not: who takes either gets the note.
fn wants_json(headers: &HeaderMap) -> bool {
    let named = |wanted: &str| {
        let fields = headers.get_all(ACCEPT).iter();
        let values = fields.filter_map(|value| value.to_str().ok());
        let mut ranges = values.flat_map(|value| value.split(','));
        ranges.any(|range| {
            let media_type = range.split(';').next().unwrap_or_default().trim();
            media_type.eq_ignore_ascii_case(wanted)
        })
    };
    named("application/json") && !named("text/plain")
}
