//! A receiver of OTLP that reads what it gets with the official messages, and answers as it is told.

use crate::gate::Setup;
use crate::ledger::hex;
use crate::wait::{run_with_input, until};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Ends with its owner: what connects then is turned away.
pub struct Collector {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    batches: Mutex<Vec<Batch>>,
    sayings: Mutex<VecDeque<Saying>>,
    attempts: Mutex<u64>,
}

/// A message that was taken.
pub struct Batch {
    pub fields: HeaderMap,
    pub path: String,
    pub bytes: Bytes,
    pub resource: Resource,
    pub spans: Vec<Span>,
}

/// What it says to a message, instead of taking it.
#[derive(Clone, Copy)]
pub enum Saying {
    Status(u16),
    After(u16, u32),
    /// Nothing, for as long as the other side waits.
    Silence,
    /// Taken, but for so many.
    But(i64),
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let serves = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serves);
                let service = service_fn(move |request| take(Arc::clone(&shared), request));
                tokio::spawn(async move {
                    let serving =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    drop(serving.await);
                });
            }
        });
        Self {
            address,
            shared,
            task,
        }
    }

    /// What it says to the next messages, one each; then it takes all.
    pub fn says(&self, sayings: &[Saying]) {
        self.shared.sayings.lock().unwrap().extend(sayings);
    }

    /// How many messages came, taken or not.
    pub fn attempts(&self) -> u64 {
        *self.shared.attempts.lock().unwrap()
    }

    /// Has the gate of `setup` send its spans here.
    pub fn of(&self, setup: &Setup) {
        self.with(setup, "", "");
    }

    /// As [`Collector::of`], with more keys of `otlp` and of `telemetry`.
    pub fn with(&self, setup: &Setup, otlp: &str, telemetry: &str) {
        send_to(setup, &format!("http://{}", self.address), otlp, telemetry);
    }

    /// Everything that was taken.
    pub fn batches<T>(&self, look: impl FnOnce(&[Batch]) -> T) -> T {
        look(&self.shared.batches.lock().unwrap())
    }

    /// All spans that were taken.
    pub fn all(&self) -> Vec<Span> {
        self.batches(|batches| batches.iter().flat_map(|it| it.spans.clone()).collect())
    }

    /// Waits until so many spans were taken.
    pub async fn spans(&self, count: usize) -> Vec<Span> {
        until(&format!("the collector has {count} spans"), || async {
            Some(self.all()).filter(|spans| spans.len() >= count)
        })
        .await
    }
}

/// Has the gate of `setup` send its spans to `endpoint`.
pub fn send_to(setup: &Setup, endpoint: &str, otlp: &str, telemetry: &str) {
    setup.edit_server(|mut text| {
        write!(
            text,
            "telemetry:\n  otlp:\n    endpoint: {endpoint}\n{otlp}{telemetry}"
        )
        .unwrap();
        text
    });
}

async fn take(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> std::io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map_err(std::io::Error::other)?;
    let mut bytes = bytes.to_bytes();
    if head.headers.contains_key("content-encoding") {
        bytes = unzipped(&bytes).await;
    }
    *shared.attempts.lock().unwrap() += 1;
    let said = shared.sayings.lock().unwrap().pop_front();
    let mut answer = ExportTraceServiceResponse::default();
    match said {
        Some(Saying::Status(status)) => return Ok(told(status, None, Bytes::new())),
        Some(Saying::After(status, seconds)) => {
            return Ok(told(status, Some(seconds), Bytes::new()));
        }
        Some(Saying::Silence) => std::future::pending().await,
        Some(Saying::But(spans)) => {
            answer.partial_success = Some(ExportTracePartialSuccess {
                rejected_spans: spans,
                error_message: "too old".to_owned(),
            });
        }
        None => {}
    }
    let message = ExportTraceServiceRequest::decode(bytes.clone()).expect("OTLP");
    let mut batch = Batch {
        fields: head.headers,
        path: head.uri.path().to_owned(),
        bytes,
        resource: Resource::default(),
        spans: Vec::new(),
    };
    for resource in message.resource_spans {
        batch.resource = resource.resource.unwrap();
        for scope in resource.scope_spans {
            batch.spans.extend(scope.spans);
        }
    }
    shared.batches.lock().unwrap().push(batch);
    Ok(told(200, None, answer.encode_to_vec().into()))
}

/// The gate packs nothing; a collector that sends on what it got does.
async fn unzipped(bytes: &Bytes) -> Bytes {
    let mut gzip = Command::new("gzip");
    gzip.arg("-dc");
    let unzipped = run_with_input(gzip, bytes.to_vec()).await;
    assert!(unzipped.status.success());
    unzipped.stdout.into()
}

fn told(status: u16, after: Option<u32>, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status.try_into().unwrap();
    let headers = answer.headers_mut();
    if let Some(seconds) = after {
        headers.insert("retry-after", seconds.into());
    }
    headers.insert(
        "content-type",
        http::HeaderValue::from_static("application/x-protobuf"),
    );
    answer
}

/// An attribute as text, numbers too.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|it| it.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

/// Checks attributes, all of which must be there; `-` is for those that must not.
#[track_caller]
pub fn holds(span: &Span, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        let found = attribute(span, key);
        let wanted = (*value != "-").then_some(*value);
        assert_eq!(found.as_deref(), wanted, "{key} of {span:#?}");
    }
}

/// The one span of this kind in a trace.
#[track_caller]
pub fn one<'s>(spans: &'s [Span], trace: &str, kind: i32) -> &'s Span {
    let found: Vec<&Span> = spans
        .iter()
        .filter(|span| hex(&span.trace_id) == trace && span.kind == kind)
        .collect();
    assert_eq!(
        found.len(),
        1,
        "spans of kind {kind} in {trace}: {spans:#?}"
    );
    found[0]
}

pub const INTERNAL: i32 = 1;
pub const SERVER: i32 = 2;
pub const CLIENT: i32 = 3;
/// A status's code.
pub const ERROR: i32 = 2;

/// Whether it is marked as an error.
pub fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|it| it.code == ERROR)
}
