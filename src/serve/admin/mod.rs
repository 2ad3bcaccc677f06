//! The admin API: sessions, grants, quarantine, policy. What orchestrators, operators and auditors call.
//!
//! Order of a call: `Host`, key, path, role, input, own projects, act, answer. It stands beside the journey, on the control
//! runtime, and refuses to be in the data path. Everything it changes goes through [`Sessions`], which makes it durable
//! and records it before this answers.

mod access;
pub(in crate::serve) mod approvals;
pub(in crate::serve) mod caller;
mod checkpoint;
pub(in crate::serve) mod events;
mod explain;
mod grants;
pub(in crate::serve) mod input;
pub(in crate::serve) mod ledger;
mod openapi;
mod order;
mod pins;
mod policy;
pub(in crate::serve) mod problem;
pub(in crate::serve) mod sessions;
pub(in crate::serve) mod view;

use self::caller::Caller;
use self::events::Feeds;
use self::ledger::READERS_MAX;
use self::problem::Refused;
use super::console::{self, Visits};
use super::reload::Reload;
use crate::config::{Lines, Principal};
use crate::gate::strangers::Strangers;
use crate::gate::{Flaw, Gate, Peer, unread};
use crate::io::clock::{self, Clock};
use crate::io::metrics::Metrics;
use crate::io::notify::Notifier;
use crate::ledger::record::Event;
use crate::ledger::{Ledger, Level};
use crate::policy::decision::Reason;
use crate::policy::token::TokenDigest;
use crate::store::live::Sessions;
use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What the API acts on.
pub struct Parts {
    /// Whose policies are in force.
    pub gate: Gate,
    /// The authority over who is live.
    pub sessions: Sessions,
    /// Who called is recorded here.
    pub ledger: Ledger,
    /// What targets of `notify` have not got.
    pub notifier: Notifier,
    /// Grants that issuers give are counted here.
    pub metrics: Arc<Metrics>,
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// Who may call; swapped by a reload.
    pub principals: Arc<ArcSwap<Principals>>,
    /// Where the rules in force stand in their files; swapped by a reload.
    pub lines: Arc<ArcSwap<Vec<Lines>>>,
    /// Accepted `Host` names.
    pub hosts: Vec<String>,
    /// Reads the configuration again.
    pub reload: Reload,
}

/// The admin API of one gate.
pub struct Admin {
    pub(in crate::serve) parts: Parts,
    failures: Strangers,
    feeds: Feeds,
    /// Who reads the ledger's files back.
    readers: Semaphore,
    /// Who is signed in at the console.
    pub(in crate::serve) visits: Visits,
}

/// Who may call, by the digest of the key: one look-up, and nothing to compare whose time could tell.
#[derive(Debug, Default)]
pub struct Principals(HashMap<TokenDigest, Arc<Principal>>);

impl Principals {
    /// Of a server file.
    pub fn new(principals: &[Principal]) -> Self {
        let entry = |principal: &Principal| (principal.key, Arc::new(principal.clone()));
        Self(principals.iter().map(entry).collect())
    }

    /// Who has this key.
    pub(in crate::serve) fn find(&self, key: &TokenDigest) -> Option<Arc<Principal>> {
        self.0.get(key).cloned()
    }
}

impl Admin {
    /// Over what the composition root has built.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            failures: Strangers::new(failed),
            feeds: Feeds::new(&clock::random()),
            readers: Semaphore::new(READERS_MAX),
            visits: Visits::default(),
        })
    }

    /// Ends all streams of events: the gate stops.
    pub fn end_streams(&self) {
        self.feeds.close();
    }

    /// Somebody at this address had no good key.
    pub(in crate::serve) fn stranger(&self, client: IpAddr) {
        self.failures.note(client);
    }

    /// A head that could not be read came from this address: what is said of it.
    pub fn unread(&self, client: IpAddr, flaw: Flaw) -> Bytes {
        self.stranger(client);
        unread::plain(flaw)
    }

    /// Writes what failed authentication since the last flush; once a second.
    pub async fn flush(&self) {
        let now = self.parts.clock.now();
        self.failures.flush(&self.parts.ledger, now.wall).await;
    }

    /// Beside the records of what a call changed: who called, from where.
    pub(in crate::serve) async fn record_call(&self, caller: &Caller, call: &str) {
        let event = Event::Principal {
            change: "called",
            principal: Some(&caller.principal.name),
            client: Some(caller.client),
            count: 1,
            detail: call,
        };
        let now = self.parts.clock.now();
        // The change itself is recorded already; it stands whatever becomes of this.
        if self
            .parts
            .ledger
            .append(&event, now.wall, Level::Written)
            .await
            .is_err()
        {
            tracing::error!(principal = %caller.principal.name, call, "an admin call could not be recorded");
        }
    }
}

/// What is written down of callers without a good key.
fn failed(client: Option<IpAddr>, count: u64) -> Event<'static> {
    Event::Principal {
        change: "failed",
        principal: None,
        client,
        count,
        detail: "authentication at the admin API",
    }
}

/// What answers the admin listener's requests.
pub fn service(
    admin: Arc<Admin>,
) -> impl Fn(hyper::Request<Incoming>, Peer) -> Answer + Send + Sync + 'static {
    let service = TowerToHyperService::new(router(admin));
    move |mut request, peer| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = hyper::service::Service::call(&service, request);
        Box::pin(async move {
            // On a task of its own: a client that leaves can't stop a change half way, between durable and recorded.
            match tokio::spawn(answer).await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Refused::new(Reason::Overloaded, "the gate is stopping").into_response(),
            }
        })
    }
}

/// A call's answer.
pub type Answer = std::pin::Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/v1/sessions", post(sessions::mint).get(sessions::list))
        .route(
            "/v1/sessions/{id}",
            get(sessions::show).delete(sessions::revoke),
        )
        .route("/v1/sessions/{id}/grants", post(grants::give))
        .route("/v1/sessions/{id}/quarantine", post(sessions::quarantine))
        .route("/v1/sessions/{id}/release", post(sessions::release))
        .route("/v1/grants/{id}", delete(grants::revoke))
        .route("/v1/approvals", get(approvals::list))
        .route("/v1/approvals/{id}", get(approvals::show))
        .route("/v1/approvals/{id}/history", get(approvals::history::show))
        .route("/v1/approvals/{id}/decision", post(approvals::decision))
        .route("/v1/approvals/{id}/resolve", post(approvals::resolve))
        .route("/v1/events", get(events::listen))
        .route("/v1/ledger", get(ledger::list))
        .route("/v1/pins", get(pins::list))
        .route("/v1/pins/accept", post(pins::accept))
        .route("/v1/pins/forget", post(pins::forget))
        .route("/v1/policy", get(policy::show))
        .route("/v1/policy/explain", post(explain::explain))
        .route("/v1/policy/reload", post(policy::reload))
        .route("/v1/ledger/checkpoint", get(checkpoint::show))
        .route("/access/v1/evaluation", post(access::evaluation))
        .route("/access/v1/evaluations", post(access::evaluations))
        .route(
            "/.well-known/authzen-configuration",
            get(access::configuration),
        )
        .route("/openapi.json", get(openapi::show))
        .merge(console::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn(access::identified))
        .with_state(admin)
}

async fn no_such_path(_caller: Caller) -> Refused {
    Refused::not_found("nothing is served at this path; GET /openapi.json lists what is")
}

async fn no_such_method(_caller: Caller, request: Request) -> Refused {
    Refused::new(
        Reason::InvalidInput,
        format!(
            "{} is not served at this path; GET /openapi.json lists what is",
            request.method()
        ),
    )
    .status(http::StatusCode::METHOD_NOT_ALLOWED)
}
