//! The demo's tool backend: a small CRM in memory. It stands for somebody else's API and knows nothing of the gate.
//!
//! It refuses every call that does not bring its own credential, so that going around the gate is visibly a 401.

use super::certificates::Certificates;
use super::mcp;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Interval, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Events of one stream of `GET /events`; then it ends, so that a line pasted into a terminal does.
const EVENTS: u32 = 3;
/// For one TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// From one event to the next.
const EVENT_PAUSE: Duration = Duration::from_millis(300);

/// The customers, numbered from 1.
const CUSTOMERS: [&str; 9] = [
    "Amina Diallo",
    "Bo Lindqvist",
    "Chidi Okafor",
    "Daniela Reyes",
    "Emre Yildiz",
    "Fatima Noor",
    "Grace Tan",
    "Hugo Marchetti",
    "Ines Carvalho",
];

/// Serves the CRM on `listener` until the runtime ends; over TLS where it has certificates.
///
/// # Errors
/// If the listener breaks.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    credential: String,
) -> io::Result<()> {
    let router = router(credential);
    match tls {
        Some(tls) => axum::serve(Encrypted { listener, tls }, router).await,
        None => axum::serve(listener, router).await,
    }
}

/// Speaks TLS as the backend of these certificates, with HTTP/1.1.
///
/// # Errors
/// If they are not what they were made as.
pub fn tls(certificates: &Certificates) -> Result<TlsAcceptor, Box<dyn std::error::Error>> {
    let chain = CertificateDer::pem_file_iter(certificates.path("backend.pem"))?;
    let key = PrivateKeyDer::from_pem_file(certificates.path("backend.key"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.collect::<Result<_, _>>()?, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A listener that speaks TLS.
struct Encrypted {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    /// One handshake after the other: this is a sample.
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            let handshake = timeout(HANDSHAKE_MAX, self.tls.accept(stream));
            if let Ok(Ok(stream)) = handshake.await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn router(credential: String) -> Router {
    let crm = Arc::new(Crm {
        authorization: format!("Bearer {credential}"),
        records: Mutex::new(Records::default()),
    });
    Router::new()
        .route("/users", get(list))
        .route("/users/{id}", get(read).delete(delete))
        .route("/users/{id}/refunds", post(refund))
        .route("/export", get(export))
        .route("/query", post(query))
        .route("/search", get(search))
        .route("/tickets", post(ticket))
        .route("/mcp", post(mcp::serve))
        .route("/events", get(events))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&crm),
            authenticate,
        ))
        .with_state(crm)
}

/// What is kept, and for whom.
pub struct Crm {
    /// The `Authorization` it asks for.
    authorization: String,
    records: Mutex<Records>,
}

struct Records {
    customers: BTreeMap<u32, &'static str>,
    refunds: u32,
    tickets: u32,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            customers: (1..).zip(CUSTOMERS).collect(),
            refunds: 0,
            tickets: 0,
        }
    }
}

impl Crm {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A customer's name.
    pub fn name_of(&self, id: u32) -> Option<&'static str> {
        self.records().customers.get(&id).copied()
    }

    /// Whether there was one to forget.
    pub fn forget(&self, id: u32) -> bool {
        self.records().customers.remove(&id).is_some()
    }

    /// Empties it.
    pub fn forget_all(&self) {
        self.records().customers.clear();
    }
}

async fn authenticate(
    State(crm): State<Arc<Crm>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    if headers
        .get(AUTHORIZATION)
        .is_some_and(|value| value == crm.authorization.as_str())
    {
        return next.run(request).await;
    }
    let words = Json(json!({"error": "the CRM wants its own credential"}));
    (
        StatusCode::UNAUTHORIZED,
        [(WWW_AUTHENTICATE, "Bearer realm=\"crm\"")],
        words,
    )
        .into_response()
}

async fn list(State(crm): State<Arc<Crm>>) -> Json<Value> {
    let users: Vec<Value> = crm.records().customers.iter().map(user).collect();
    Json(json!({ "users": users }))
}

async fn read(State(crm): State<Arc<Crm>>, Path(id): Path<u32>) -> Response {
    match crm.records().customers.get_key_value(&id) {
        Some(customer) => Json(user(customer)).into_response(),
        None => no_such_user(),
    }
}

async fn delete(State(crm): State<Arc<Crm>>, Path(id): Path<u32>) -> Response {
    match crm.forget(id) {
        true => StatusCode::NO_CONTENT.into_response(),
        false => no_such_user(),
    }
}

async fn refund(State(crm): State<Arc<Crm>>, Path(id): Path<u32>, body: Bytes) -> Response {
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(amount) = sent["amount"].as_f64().filter(|amount| *amount > 0.0) else {
        return bad_request("a refund has an amount");
    };
    let mut records = crm.records();
    if !records.customers.contains_key(&id) {
        return no_such_user();
    }
    records.refunds += 1;
    let made = json!({"refund": records.refunds, "user": id, "amount": amount});
    (StatusCode::CREATED, Json(made)).into_response()
}

async fn export(State(crm): State<Arc<Crm>>) -> Response {
    let records = crm.records();
    let lines = records.customers.iter();
    let lines = lines.map(|(id, name)| format!("{id},{name}\n"));
    let table: String = std::iter::once("id,name\n".to_owned())
        .chain(lines)
        .collect();
    ([(CONTENT_TYPE, "text/csv")], table).into_response()
}

/// A SQL tool as there are many: it does what it is told.
async fn query(State(crm): State<Arc<Crm>>, body: Bytes) -> Response {
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(statement) = sent["statement"].as_str() else {
        return bad_request("a query has a statement");
    };
    if statement.to_ascii_lowercase().contains("drop table users") {
        crm.forget_all();
        return Json(json!({"dropped": "users"})).into_response();
    }
    let rows = json!([{"id": 7, "subject": "the parcel is late"}]);
    Json(json!({ "rows": rows })).into_response()
}

async fn search(
    State(crm): State<Arc<Crm>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let Some(wanted) = query.get("q").map(|q| q.to_lowercase()) else {
        return bad_request("a search has a q");
    };
    let records = crm.records();
    let found = records
        .customers
        .iter()
        .filter(|(_, name)| name.to_lowercase().contains(&wanted));
    Json(json!({"results": found.map(user).collect::<Vec<_>>()})).into_response()
}

async fn ticket(State(crm): State<Arc<Crm>>, body: Bytes) -> Response {
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(subject) = sent["subject"]
        .as_str()
        .filter(|subject| !subject.is_empty())
    else {
        return bad_request("a ticket has a subject");
    };
    let mut records = crm.records();
    records.tickets += 1;
    let made = json!({"ticket": records.tickets, "subject": subject});
    (StatusCode::CREATED, Json(made)).into_response()
}

async fn events() -> Response {
    let fields = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    let feed = Feed {
        pace: interval(EVENT_PAUSE),
        sent: 0,
    };
    (fields, Body::new(feed)).into_response()
}

fn user((id, name): (&u32, &&'static str)) -> Value {
    json!({"id": id, "name": name})
}

fn no_such_user() -> Response {
    (
        StatusCode::NOT_FOUND,
        Json(json!({"error": "no such user"})),
    )
        .into_response()
}

fn bad_request(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": why}))).into_response()
}

/// Server-Sent Events, one every [`EVENT_PAUSE`].
struct Feed {
    pace: Interval,
    sent: u32,
}

impl http_body::Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sent == EVENTS {
            return Poll::Ready(None);
        }
        ready!(self.pace.poll_tick(cx));
        self.sent += 1;
        let event = format!(
            "event: ticket\nid: {0}\ndata: {{\"ticket\": {0}}}\n\n",
            self.sent
        );
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
