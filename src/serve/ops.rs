//! What operations reads: `/metrics`, `/livez`, `/readyz`. No secrets, no ids, no key asked for.

use crate::io::metrics::Metrics;
use crate::ledger::Ledger;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the metrics listener answers from.
#[derive(Debug)]
pub struct Ops {
    metrics: Arc<Metrics>,
    ledger: Ledger,
    draining: AtomicBool,
}

impl Ops {
    /// Of a gate that serves.
    pub fn new(metrics: Arc<Metrics>, ledger: Ledger) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            ledger,
            draining: AtomicBool::new(false),
        })
    }

    /// From now on the gate is not ready: who balances load sends nothing more.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// One answer. The body of the request, if any, is not looked at.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/livez" | "/readyz") {
            return text(
                StatusCode::NOT_FOUND,
                "only /metrics, /livez and /readyz are here\n".to_owned(),
            );
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/metrics" => {
                let mut response = text(StatusCode::OK, self.metrics.encode());
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static(EXPOSITION));
                response
            }
            "/readyz" => self.ready(),
            _ => text(StatusCode::OK, "live\n".to_owned()),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let mut against = Vec::new();
        if self.draining.load(Ordering::Acquire) {
            against.push("draining: the gate is about to stop");
        }
        if !self.ledger.healthy() {
            against.push(
                "ledger: records can't be written, or the disk hangs, so nothing is forwarded",
            );
        }
        if against.is_empty() {
            return text(StatusCode::OK, "ready\n".to_owned());
        }
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready\n{}\n", against.join("\n")),
        )
    }
}

/// Prometheus' text exposition format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
