//! A backend that says which fields it was sent, over whichever HTTP it is spoken to, and a gate before it.

use super::collector::Collector;
use crate::approvals::talk::{Order, Talk};
use crate::client::Answer;
use crate::gate::{Gate, Minted, Setup};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use tokio::net::TcpListener;

pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub const PARENT: &str = "00f067aa0ba902b7";

/// Of a sampled call in [`TRACE`].
pub fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

pub struct Scene {
    pub setup: Setup,
    pub backend: SocketAddr,
}

/// Two tools of one backend: one spoken to over HTTP/1.1, one over HTTP/2.
pub async fn scene() -> Scene {
    let backend = echo().await;
    let setup = Setup::new(
        "demo",
        &format!(
            "version: 1
project: demo
agents: {{ bot: {{ scopes: {{ read: on_use, remove: {{ grant: on_use, resources: ['item:1'] }} }} }} }}
tools:
  one:
    mount: /one
    record_query: [page]
    upstream: {{ url: 'http://{backend}', credential: {{ header: x-api-key, value: '{CREDENTIAL}' }} }}
    routes:
      - {{ id: one.read, match: ['GET /items/{{item}}', 'POST /items/{{item}}'], scope: read }}
      - {{ id: one.remove, match: 'DELETE /items/{{item}}', scope: remove, resource: 'item:{{item}}', approval: never }}
  two:
    mount: /two
    upstream: {{ url: 'http://{backend}/{PLACE}', http2: prior_knowledge }}
    routes: [{{ id: two.read, match: 'GET /items/{{item}}', scope: read }}]
"
        ),
    );
    Scene { setup, backend }
}

/// What the gate sends to the backend alone.
pub const CREDENTIAL: &str = "canary-of-the-backend";
pub const PLACE: &str = "canary-of-the-place";

impl Scene {
    /// A gate that tells `collector`, and a session.
    pub async fn told(&self, collector: &Collector) -> (Gate, Minted) {
        collector.of(&self.setup);
        self.start().await
    }

    pub async fn start(&self) -> (Gate, Minted) {
        let gate = self.setup.start().await;
        let session = gate.mint("demo", "bot").await;
        (gate, session)
    }

    /// The `trace` of the decision on a request, as the ledger has it.
    pub fn recorded(&self, request: &str) -> Option<String> {
        let lines = crate::ledger::lines(&self.setup.ledger());
        let mut records = lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let decision = records.find(|it| it["kind"] == "decision" && it["request"] == request);
        decision.unwrap()["trace"].as_str().map(str::to_owned)
    }
}

/// A call over HTTP/1.1 or HTTP/2, and its answer.
pub async fn call(gate: &Gate, session: &Minted, two: bool, order: &Order) -> Answer {
    let talk = match two {
        true => Talk::open_http2(gate.agents).await,
        false => Talk::open(gate.agents).await,
    };
    talk.unwrap().send(&session.token, order).await.unwrap()
}

/// The values of a field that the backend was sent.
pub fn sent(answer: &Answer, field: &str) -> Vec<String> {
    let values = answer.json()[field].clone();
    serde_json::from_value(values).unwrap_or_default()
}

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream.set_nodelay(true));
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                drop(
                    builder
                        .serve_connection(TokioIo::new(stream), service_fn(fields))
                        .await,
                );
            });
        }
    });
    address
}

async fn fields(request: Request<Incoming>) -> std::io::Result<Response<Full<Bytes>>> {
    let mut fields = Map::new();
    for (name, value) in request.headers() {
        let values = fields.entry(name.as_str()).or_insert(json!([]));
        let value = String::from_utf8_lossy(value.as_bytes());
        values.as_array_mut().unwrap().push(json!(value));
    }
    let mut response = Response::new(Full::from(Value::from(fields).to_string()));
    if request.uri().path().ends_with("/missing") {
        *response.status_mut() = http::StatusCode::NOT_FOUND;
    }
    Ok(response)
}
