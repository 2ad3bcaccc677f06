//! One attempt to deliver one message: a connection of its own, one POST, one answer, all of it within [`ATTEMPT_MAX`].
//!
//! The answer's status decides and nothing else of it: 2xx is delivered, 410 is the wish never to be called again, and
//! everything else is a failure. It refuses to follow redirects, since what they name is no target of the operator's.

use super::target::Target;
use crate::io::post::{self, Answer, PostFault};
use crate::ledger::record::TlsFault;
use crate::policy::time::Timestamp;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use std::time::Duration;
use tokio::time::timeout;

/// What is to be delivered: `id` and payload are the same in every attempt, so that a receiver knows one it has.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) struct Message<'a> {
    pub id: &'a str,
    pub payload: &'a str,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Attempt {
    /// The receiver has it.
    Delivered,
    /// It wants none of this any more.
    Gone,
    /// It does not have it, as far as can be told.
    Failed {
        why: Failure,
        /// Before when it does not want to be asked again.
        after: Option<Duration>,
    },
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::io) enum Failure {
    #[error("it could not be reached")]
    Unreachable,
    #[error("{0}")]
    Tls(TlsFault),
    #[error("it broke off, or what it says is not HTTP")]
    Broken,
    #[error("it took longer than {} s", ATTEMPT_MAX.as_secs())]
    Late,
    #[error("it answered {0}, and redirects are not followed")]
    Redirect(u16),
    #[error("it answered {0}")]
    Status(u16),
}

/// For one attempt, from looking the name up to the answer.
pub(super) const ATTEMPT_MAX: Duration = Duration::from_secs(15);
/// Longest that a receiver's `Retry-After` puts an attempt off.
const AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Delivers `message`, if it can be done now.
pub(in crate::io) async fn attempt(
    target: &Target,
    message: Message<'_>,
    now: Timestamp,
) -> Attempt {
    let why = match timeout(ATTEMPT_MAX, post(target, message, now)).await {
        Ok(Ok(answer)) => {
            let attempt = judge(answer.status, &answer.fields);
            // There is nothing in it for the gate: how this ends changes nothing.
            answer.read().await;
            return attempt;
        }
        Ok(Err(why)) => why,
        Err(_) => Failure::Late,
    };
    Attempt::Failed { why, after: None }
}

async fn post(target: &Target, message: Message<'_>, now: Timestamp) -> Result<Answer, Failure> {
    let request = request(target, message, now)?;
    let posted = post::post(&target.authority, target.tls.as_deref(), request).await;
    posted.map_err(|fault| match fault {
        PostFault::Unreachable => Failure::Unreachable,
        PostFault::Tls(fault) => Failure::Tls(fault),
        PostFault::Broken => Failure::Broken,
    })
}

/// Signed with this moment, not with that of the event: receivers refuse what is older than some minutes.
fn request(
    target: &Target,
    message: Message<'_>,
    now: Timestamp,
) -> Result<Request<Full<Bytes>>, Failure> {
    let seconds = now.micros().div_euclid(1_000_000);
    Request::builder()
        .method(Method::POST)
        .uri(target.place.clone())
        .header(HOST, &target.host)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("toolgate/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .header("webhook-id", message.id)
        .header("webhook-timestamp", HeaderValue::from(seconds))
        .header(
            "webhook-signature",
            target.sign(message.id, seconds, message.payload),
        )
        .body(Full::from(message.payload.to_owned()))
        .map_err(|_| Failure::Broken)
}

fn judge(status: StatusCode, fields: &HeaderMap) -> Attempt {
    let why = match status {
        _ if status.is_success() => return Attempt::Delivered,
        StatusCode::GONE => return Attempt::Gone,
        _ if status.is_redirection() => Failure::Redirect(status.as_u16()),
        _ => Failure::Status(status.as_u16()),
    };
    let asked = fields
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let seconds = asked.and_then(|text| text.parse().ok());
    let after = seconds.map(|seconds| Duration::from_secs(seconds).min(AFTER_MAX));
    Attempt::Failed { why, after }
}
