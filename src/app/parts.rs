//! What everything stands on, in the order in which it is built.

use super::StartError;
use super::hand_over::Process;
use super::reload::Reloader;
use super::tls::Tls;
use crate::config::{Lines, Server};
use crate::gate::{Gate, GateParts, Settings};
use crate::io::anchor::Anchors;
use crate::io::clock::{Clock, SystemClock};
use crate::io::metrics::Metrics;
use crate::io::notify::{Notifier, NotifierParts, Targets};
use crate::io::telemetry::Telemetry;
use crate::ledger::record::Event;
use crate::ledger::{Ledger, Level};
use crate::policy::model::{Policy, PolicyHash};
use crate::policy::name::ProjectName;
use crate::serve::admin::{self, Principals};
use crate::serve::reload::Reload;
use crate::store::embedded::Embedded;
use crate::store::live::Sessions;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;

/// How long the keepers of checkpoints have to take the last one.
const ANCHORS_MAX: Duration = Duration::from_secs(1);

/// What everything stands on.
pub(super) struct Parts {
    pub clock: Arc<dyn Clock>,
    pub ledger: Ledger,
    pub sessions: Sessions,
    pub metrics: Arc<Metrics>,
    pub gate: Gate,
    pub notifier: Notifier,
    pub telemetry: Option<Telemetry>,
    pub anchors: Arc<Anchors>,
    pub principals: Arc<ArcSwap<Principals>>,
    /// Where the rules in force stand.
    pub lines: Arc<ArcSwap<Vec<Lines>>>,
    store: Arc<Embedded>,
    pub tls: Tls,
}

impl Parts {
    pub(super) fn build(
        server: &Server,
        projects: Vec<Policy>,
        lines: Vec<Lines>,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self, StartError> {
        let tls = Tls::build(server)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let now = clock.now();
        let wall = Arc::clone(&clock);
        let ledger = Ledger::open(&server.ledger, move || wall.now().wall)?;
        let (store, mut snapshot) = Embedded::open(&server.store, now.wall)?;
        let deliveries = std::mem::take(&mut snapshot.deliveries);
        let costs = snapshot.costs.clone();
        let store = Arc::new(store);
        let sessions = Sessions::new(
            Arc::<Embedded>::clone(&store),
            snapshot,
            ledger.clone(),
            now,
        );
        let metrics = Arc::new(Metrics::new());
        let telemetry = server.telemetry.as_ref();
        let telemetry = telemetry.map(|settings| {
            let (clock, metrics) = (Arc::clone(&clock), Arc::clone(&metrics));
            Telemetry::new(settings, ledger.instance(), clock, metrics)
        });
        let telemetry = telemetry.transpose()?;
        let gate = Gate::new(GateParts {
            clock: Arc::clone(&clock),
            sessions: sessions.clone(),
            ledger: ledger.clone(),
            metrics: Arc::clone(&metrics),
            settings: Settings {
                trusted_proxies: server.agents.trusted_proxies.clone(),
                body_idle: server.agents.timeouts.body_idle,
                body_rate: server.agents.body_rate,
                idle: server.agents.timeouts.idle,
                failed_tries: server.agents.failed_tries,
                costs,
                runtime: Some(runtime),
                telemetry: telemetry.clone(),
            },
        });
        let notifier = Notifier::new(NotifierParts {
            clock: Arc::clone(&clock),
            store: Arc::clone(&store),
            deliveries,
            metrics: Arc::clone(&metrics),
        });
        notifier.install(Targets::of(&projects)?);
        let newest = ledger.clone();
        let anchors = Anchors::new(
            &server.ledger,
            Box::new(move || newest.checkpoint()),
            Arc::clone(&clock),
            Arc::clone(&metrics),
        )?;
        gate.appoint(server.approvers());
        gate.install(projects);
        Ok(Self {
            clock,
            ledger,
            sessions,
            metrics,
            gate,
            notifier,
            telemetry,
            anchors: Arc::new(anchors),
            principals: Arc::new(ArcSwap::from_pointee(Principals::new(&server.principals))),
            lines: Arc::new(ArcSwap::from_pointee(lines)),
            store,
            tls,
        })
    }

    /// The first records. False: the ledger takes none.
    pub(super) async fn record_start(
        &self,
        server: &[u8; 32],
        hashes: &[(ProjectName, PolicyHash)],
        detail: &str,
    ) -> bool {
        let started = Event::Gate {
            change: "started",
            version: env!("CARGO_PKG_VERSION"),
            detail,
        };
        let policies = Event::Policy {
            change: "loaded",
            server,
            hashes,
            trigger: "start",
            detail: "",
        };
        self.record(&started).await && self.record(&policies).await
    }

    /// The last record; then store and ledger are closed, and their files free for another process.
    pub(super) async fn close(&self, finished: bool, successor: Option<Process>) {
        let is_end = successor.is_none();
        let mut detail = Vec::new();
        if !finished {
            detail.push("calls in flight were cut".to_owned());
        }
        detail.extend(successor.map(|process| format!("handed over to process {process}")));
        let stopped = Event::Gate {
            change: "stopped",
            version: env!("CARGO_PKG_VERSION"),
            detail: &detail.join("; "),
        };
        if !self.record(&stopped).await {
            tracing::error!("the ledger did not take the record of this stop");
        }
        let (store, ledger) = (Arc::clone(&self.store), self.ledger.clone());
        // Flushes and waits for the writers' threads. The ledger last: whoever waits for its lock finds the store free.
        let closing = tokio::task::spawn_blocking(move || {
            store.close();
            ledger.close()
        });
        if !matches!(closing.await, Ok(Ok(()))) {
            tracing::error!(
                "the ledger could not be closed in order; what it did not take is lost"
            );
        }
        if is_end {
            // Who takes over hands over what covers this, and must not wait for it.
            self.anchors.last(ANCHORS_MAX).await;
        }
    }

    pub(super) async fn record(&self, event: &Event<'_>) -> bool {
        let now = self.clock.now();
        self.ledger
            .append(event, now.wall, Level::Written)
            .await
            .is_ok()
    }

    pub(super) fn for_admin(&self, server: &Server, reloader: &Arc<Reloader>) -> admin::Parts {
        let reloader = Arc::clone(reloader);
        admin::Parts {
            gate: self.gate.clone(),
            sessions: self.sessions.clone(),
            ledger: self.ledger.clone(),
            metrics: Arc::clone(&self.metrics),
            notifier: self.notifier.clone(),
            clock: Arc::clone(&self.clock),
            principals: Arc::clone(&self.principals),
            lines: Arc::clone(&self.lines),
            hosts: server.admin.hosts.clone(),
            reload: Reload::new(move |trigger| {
                let reloader = Arc::clone(&reloader);
                Box::pin(async move { reloader.reload(trigger).await })
            }),
        }
    }
}
