//! The gate's own answers. One `match` turns a reason into status, problem type, title and the first thing to do;
//! what is rendered here is an RFC 9457 document that a language model can act on.
//!
//! Last stand of the journey for a call that is not forwarded. It refuses to name any route, scope or session but the
//! caller's own, and never repeats a value it could not read.

mod problem;

pub use problem::{Action, Challenge, Kind, Problem, problem, problem_type};

use crate::gate::record::Entry;
use crate::gate::refusal::{PENDING_RETRY, Parts, Refusal};
use crate::ledger::without_tokens;
use crate::policy::approval::{Asked, Stage};
use crate::policy::decision::Reason;
use crate::policy::time::{Timestamp, seconds_up};
use crate::store::live::approvals::LiveApproval;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
    SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;

/// What to do next, as the document shows it.
#[derive(Debug, Serialize)]
pub(super) struct Next {
    pub action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub href: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// The document, members in the order a reader wants them.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Cow<'a, str>>,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<[&'a str; 1]>,
    next: Next,
}

/// What is said of a refusal, of a request that has a number or of none.
fn document<'a>(parts: &'a mut Parts, entry: Option<&'a Entry>) -> Document<'a> {
    let described = problem(parts.reason);
    let next = parts.next.take().unwrap_or(Next {
        action: described.action,
        method: None,
        href: None,
        body: None,
        seconds: parts.retry_after.map(whole_seconds),
    });
    let parts = &*parts;
    // What an agent asks for by name can be anything.
    let scope = parts.scope.as_ref().map(|it| without_tokens(it.as_str()));
    let resource = parts.resource.as_ref();
    Document {
        r#type: parts
            .kind
            .map_or_else(|| problem_type(parts.reason), str::to_owned),
        title: described.title,
        status: parts.status.unwrap_or(described.status).as_u16(),
        detail: &parts.detail,
        instance: entry.map(|entry| format!("/.toolgate/requests/{}", entry.id())),
        reason: parts.reason.as_str(),
        route: entry.and_then(Entry::route_id),
        scope,
        resource: resource.map(|it| without_tokens(it.as_str())),
        violated_policies: parts.limit.as_ref().map(|limit| [limit.as_str()]),
        next,
    }
}

/// The document alone, for an answer that carries it.
pub(super) fn told(refusal: Refusal, entry: &Entry) -> serde_json::Value {
    let mut parts = refusal.into_parts();
    serde_json::to_value(document(&mut parts, Some(entry))).unwrap_or_default()
}

/// The answer to something that is not even a request.
pub(super) fn anonymous(refusal: Refusal) -> Response<Bytes> {
    let mut parts = refusal.into_parts();
    let status = parts.status.unwrap_or(problem(parts.reason).status);
    let document = document(&mut parts, None);
    json(status, "application/problem+json", &document)
}

/// The answer that says a refusal.
pub(super) fn refused(refusal: Refusal, entry: &Entry) -> Response<Bytes> {
    let mut parts = refusal.into_parts();
    let described = problem(parts.reason);
    let status = parts.status.unwrap_or(described.status);
    let (seconds, allow, reason) = (
        parts.retry_after.map(whole_seconds),
        parts.allow,
        parts.reason,
    );
    let metadata = parts.metadata.take();
    let document = document(&mut parts, Some(entry));
    let mut response = json(status, "application/problem+json", &document);
    let headers = response.headers_mut();
    let scope = document.scope.as_deref();
    if let Some(challenge) = described.challenge.field(scope, metadata.as_deref()) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Some(seconds) = seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(methods) = allow {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    // What could not be read can't be trusted to end where it says.
    if reason == Reason::RequestMalformed {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // What could be asked for instead (RFC 9110 section 15.5.22, RFC 6455 section 4.2.2).
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade, close"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}

/// What is said of a call that waits for a person. Members in the order a reader wants them.
#[derive(Serialize)]
struct Pending<'a> {
    status: &'static str,
    approval: String,
    detail: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a str>,
    /// When it ends by itself.
    expires_at: String,
    next: Next,
}

/// What is said of it, for an answer that carries it.
pub(super) fn pending_document(
    approval: &LiveApproval,
    entry: Option<&Entry>,
) -> serde_json::Value {
    let href = format!("/.toolgate/approvals/{}", approval.facts.id);
    serde_json::to_value(waiting(approval, entry, &href)).unwrap_or_default()
}

fn waiting<'a>(approval: &'a LiveApproval, entry: Option<&'a Entry>, href: &str) -> Pending<'a> {
    let facts = &approval.facts;
    let detail = match (approval.stage(), &facts.asked) {
        (Stage::Executing, _) => {
            "a person agreed and this call is being made; repeat exactly the same call to get its answer: it is made once, however often you repeat it"
        }
        (_, Asked::Call(_)) => {
            "a person has to agree to this call first and is being asked; it was not made yet; repeat exactly the same call after Retry-After to get its answer: it is made once, however often you repeat it"
        }
        (_, Asked::Grant(_)) => {
            "a person has to agree to this grant first and is being asked; repeat exactly the same request after Retry-After to get it"
        }
    };
    Pending {
        status: "PENDING_APPROVAL",
        approval: facts.id.to_string(),
        detail,
        reason: Reason::PendingApproval.as_str(),
        instance: entry.map(|entry| format!("/.toolgate/requests/{}", entry.id())),
        route: entry.and_then(Entry::route_id),
        scope: facts.scope.as_str(),
        resource: facts.resource.as_ref().map(|resource| resource.as_str()),
        expires_at: timestamp(facts.expires_at),
        next: Next {
            action: problem(Reason::PendingApproval).action,
            method: Some("GET"),
            href: Some(href.to_owned().into()),
            body: None,
            seconds: Some(PENDING_RETRY.as_secs()),
        },
    }
}

/// 202: a person is asked, or the run that people agreed to is not over.
pub(super) fn pending(approval: &LiveApproval, entry: Option<&Entry>) -> Response<Bytes> {
    let href = format!("/.toolgate/approvals/{}", approval.facts.id);
    let document = waiting(approval, entry, &href);
    let mut response = json(StatusCode::ACCEPTED, "application/json", &document);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(PENDING_RETRY.as_secs()));
    if let Ok(location) = HeaderValue::from_str(&href) {
        headers.insert(LOCATION, location);
    }
    response
}

/// A JSON answer of the gate. Never kept by a cache: it is about one session at one moment.
pub(super) fn json(
    status: StatusCode,
    media_type: &'static str,
    value: &impl Serialize,
) -> Response<Bytes> {
    // Our own types have string keys and no failing serialiser; an empty body would still carry the status.
    let text = serde_json::to_vec(value).unwrap_or_default();
    own(status, media_type, text.into())
}

/// An answer of the gate with a body of any type.
pub(super) fn own(status: StatusCode, media_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    response
}

/// RFC 3339, UTC, whole seconds: what a model compares with the time it knows.
pub(super) fn timestamp(time: Timestamp) -> String {
    let seconds = time.micros().div_euclid(1_000_000);
    // Years beyond jiff's reach are shown as the number they are.
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// Seconds for `Retry-After`: never early, never zero.
pub(super) fn whole_seconds(span: Duration) -> u64 {
    seconds_up(span).max(1)
}

const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_never_promised_early_and_never_at_once() {
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(7)), 7);
    }
}
