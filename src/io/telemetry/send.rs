//! One attempt to hand a message to the collector, and what its answer means (OTLP specification 1, "OTLP/HTTP").

use super::TelemetryError;
use super::proto::ExportResponse;
use crate::config::Otlp;
use crate::io::post::{self, Answer, PostFault};
use crate::io::tls::client::Connector;
use crate::policy::model::Http2;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use prost::Message as _;
use secrecy::ExposeSecret as _;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// Where spans go.
pub(super) struct Collector {
    authority: Box<str>,
    place: Uri,
    fields: HeaderMap,
    tls: Option<Arc<Connector>>,
    timeout: Duration,
    /// The last attempt failed: the log hears of it once.
    failing: AtomicBool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The collector has it, but for so many spans that it does not want.
    Accepted { rejected: usize },
    /// It may be sent again, after so long where the collector says so.
    Later { after: Option<Duration> },
    /// It will never be taken.
    Refused,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Failure {
    #[error("it could not be reached")]
    Unreachable,
    #[error("{0}")]
    Tls(crate::ledger::record::TlsFault),
    #[error("it broke off, or what it says is not HTTP")]
    Broken,
    #[error("it did not answer in time")]
    Late,
    #[error("it answered {0}")]
    Status(u16),
}

impl Collector {
    pub fn new(otlp: &Otlp) -> Result<Self, TelemetryError> {
        let mut fields = HeaderMap::new();
        for (name, value) in &otlp.headers {
            let unusable = || TelemetryError::Header(name.clone());
            let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
            let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| unusable())?;
            value.set_sensitive(true);
            fields.insert(field, value);
        }
        let host = HeaderValue::from_str(&otlp.host).map_err(|_| TelemetryError::Endpoint)?;
        fields.insert(HOST, host);
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
        fields.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("toolgate/", env!("CARGO_PKG_VERSION"))),
        );
        let tls = otlp.tls.as_ref();
        Ok(Self {
            authority: otlp.authority.clone(),
            place: format!("{}/v1/traces", otlp.base_path)
                .parse()
                .map_err(|_| TelemetryError::Endpoint)?,
            fields,
            tls: tls.map(|tls| Connector::new(tls, Http2::Off)).transpose()?,
            timeout: otlp.timeout,
            failing: AtomicBool::new(false),
        })
    }

    /// Sends a message, if that can be done now.
    pub async fn send(&self, message: Bytes) -> Fate {
        let attempt = timeout(self.timeout, self.post(message));
        let answered = attempt.await.unwrap_or(Err(Failure::Late));
        match answered {
            Ok(answer) if answer.status.is_success() => {
                self.works();
                Fate::Accepted {
                    rejected: rejected(answer).await,
                }
            }
            Ok(answer) => {
                self.fails(Failure::Status(answer.status.as_u16()));
                judge(answer.status, &answer.fields)
            }
            Err(failure) => {
                self.fails(failure);
                Fate::Later { after: None }
            }
        }
    }

    async fn post(&self, message: Bytes) -> Result<Answer, Failure> {
        let mut request = Request::new(Full::from(message));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.place.clone();
        *request.headers_mut() = self.fields.clone();
        let posted = post::post(&self.authority, self.tls.as_deref(), request).await;
        posted.map_err(|fault| match fault {
            PostFault::Unreachable => Failure::Unreachable,
            PostFault::Tls(fault) => Failure::Tls(fault),
            PostFault::Broken => Failure::Broken,
        })
    }

    fn fails(&self, why: Failure) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(collector = &*self.authority, %why, "the collector takes no spans; calls go on, and what does not fit is dropped");
        }
    }

    fn works(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(
                collector = &*self.authority,
                "the collector takes spans again"
            );
        }
    }
}

fn judge(status: StatusCode, fields: &HeaderMap) -> Fate {
    let again = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    if !again {
        return Fate::Refused;
    }
    let asked = fields.get(RETRY_AFTER).and_then(|it| it.to_str().ok());
    let seconds = asked.and_then(|text| text.parse().ok());
    Fate::Later {
        after: seconds.map(|seconds| Duration::from_secs(seconds).min(AFTER_MAX)),
    }
}

/// How many spans the collector says that it did not want.
async fn rejected(answer: Answer) -> usize {
    let said = answer.read().await;
    let said = said.and_then(|body| ExportResponse::decode(body).ok());
    let partial = said.and_then(|said| said.partial_success);
    let Some(partial) = partial.filter(|partial| partial.rejected_spans > 0) else {
        return 0;
    };
    let why: String = partial.error_message.escape_debug().take(200).collect();
    tracing::debug!(spans = partial.rejected_spans, %why, "the collector rejected spans");
    usize::try_from(partial.rejected_spans).unwrap_or(usize::MAX)
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

const PROTOBUF: &str = "application/x-protobuf";
/// Longest that a `Retry-After` puts an attempt off.
const AFTER_MAX: Duration = Duration::from_secs(60);
