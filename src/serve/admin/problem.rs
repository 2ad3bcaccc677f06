//! Refusals of the admin API, as the problem documents that the gate gives everywhere.

use crate::gate::respond::{Action, problem, problem_type};
use crate::io::clock::{self, Clock, SystemClock};
use crate::ledger::untold;
use crate::policy::decision::Reason;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use std::borrow::Cow;

/// What an admin call is refused with.
#[derive(Debug)]
pub(in crate::serve) struct Refused {
    reason: Reason,
    status: Option<StatusCode>,
    detail: Cow<'static, str>,
    errors: Vec<FileError>,
}

/// One error of a rejected configuration.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(in crate::serve) struct FileError {
    /// The file's path as the gate reads it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What is wrong and the cure.
    pub message: String,
}

/// A refusal (RFC 9457).
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::serve) struct ProblemDocument<'a> {
    /// `/.toolgate/problems/REASON`, served by the agents' listener.
    r#type: String,
    title: &'static str,
    status: u16,
    /// What was wrong with this call.
    detail: &'a str,
    /// Names this refusal in the gate's log.
    instance: String,
    /// From a closed set.
    reason: &'static str,
    next: Next,
    /// Of a rejected reload.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FileError],
}

/// What to do next.
#[derive(Serialize, utoipa::ToSchema)]
struct Next {
    #[schema(value_type = String)]
    action: Action,
}

impl Refused {
    pub(in crate::serve) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            status: None,
            detail: untold(detail.into()),
            errors: Vec::new(),
        }
    }

    /// With another status than the reason's usual one.
    pub(in crate::serve) fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// What the answer's status is.
    pub(in crate::serve) fn code(&self) -> StatusCode {
        self.status.unwrap_or(problem(self.reason).status)
    }

    /// Why.
    pub(in crate::serve) fn reason(&self) -> Reason {
        self.reason
    }

    /// What was wrong, for a person.
    pub(in crate::serve) fn detail(&self) -> &str {
        &self.detail
    }

    /// With the errors of a rejected configuration.
    pub(in crate::serve) fn errors(mut self, errors: Vec<FileError>) -> Self {
        self.errors = errors;
        self
    }

    pub(in crate::serve) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::InvalidInput, detail)
    }

    pub(in crate::serve) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::NotFound, detail)
    }

    pub(in crate::serve) fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::Conflict, detail)
    }

    pub(in crate::serve) fn ledger_unavailable() -> Self {
        Self::new(
            Reason::LedgerUnavailable,
            "the ledger can't take the record now; what takes power away is in force all the same, anything else is not; ask again",
        )
    }

    pub(in crate::serve) fn store_unavailable() -> Self {
        Self::new(
            Reason::StoreUnavailable,
            "the change can't be made durable now; what takes power away is in force all the same, anything else is not; ask again",
        )
    }

    fn title(&self) -> &'static str {
        // The common titles speak of session tokens, which are not what is asked for here.
        match self.reason {
            Reason::CredentialMissing => "No key",
            Reason::CredentialInvalid => "Key not valid",
            reason => problem(reason).title,
        }
    }

    fn challenge(&self) -> Option<HeaderValue> {
        match self.reason {
            Reason::CredentialMissing => Some("Bearer realm=\"toolgate-admin\""),
            Reason::CredentialInvalid => {
                Some("Bearer realm=\"toolgate-admin\", error=\"invalid_token\"")
            }
            _ => None,
        }
        .map(HeaderValue::from_static)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let described = problem(self.reason);
        let status = self.code();
        let request = clock::request_id(SystemClock.now());
        tracing::info!(%request, status = status.as_u16(), reason = self.reason.as_str(), detail = %self.detail, "admin call refused");
        let document = ProblemDocument {
            r#type: problem_type(self.reason),
            title: self.title(),
            status: status.as_u16(),
            detail: &self.detail,
            instance: format!("/.toolgate/requests/{request}"),
            reason: self.reason.as_str(),
            next: Next {
                action: described.action,
            },
            errors: &self.errors,
        };
        let mut response = answer(status, "application/problem+json", &document);
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge() {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// A JSON answer; no cache may keep it.
pub(in crate::serve) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    answer(status, "application/json", value)
}

fn answer(status: StatusCode, media_type: &'static str, value: &impl Serialize) -> Response {
    // Our own types have string keys and no failing serialiser; an empty body would still carry the status.
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
