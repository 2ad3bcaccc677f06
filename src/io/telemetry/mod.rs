//! OpenTelemetry: calls as spans, for a collector, beside the journey and never in it. Off unless the server file says
//! otherwise, and then nothing of this is there at all.
//!
//! The journey asks for a call's [`Context`] when it begins and [puts](Telemetry::put) the settled call into a bounded queue;
//! a task of its own makes messages of OTLP (Protocol Buffers over HTTP) out of it and [sends](send) them. Traces are for
//! looking at: what does not fit or can't be sent is counted and gone. What can be proven is in the ledger.
//!
//! It refuses to hold a call up, to send anywhere but where the server file says, and to show the fields it authenticates with.

mod call;
mod context;
mod proto;
mod queue;
mod send;

use crate::config::Telemetry as Settings;
use crate::io::clock::{self, Clock};
use crate::io::metrics::{Metrics, SpanResult};
use crate::io::tls::client::ConnectorError;
use arc_swap::ArcSwap;
use http::HeaderMap;
use prost::Message as _;
use proto::{ExportRequest, Resource, ResourceSpans, Scope, ScopeSpans};
use queue::Queue;
use send::{Collector, Fate};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

pub use call::{Arrival, Call, Exchange, Stretch};
pub use context::{Context, Parent, Share, SpanId, TraceId};

/// What makes spans of calls. Clones are the same.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

/// A collector that can't be sent to.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Its address as a URL and as `Host`.
    #[error("telemetry: the endpoint can't be written as a request's target")]
    Endpoint,
    /// What is sent along; not shown.
    #[error("telemetry: the header `{0}` has a name or a value that no request can carry")]
    Header(Box<str>),
    /// Its TLS.
    #[error("telemetry: {0}")]
    Tls(#[from] ConnectorError),
}

struct Inner {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    instance: Box<str>,
    told: ArcSwap<Told>,
    queue: Queue,
    stage: watch::Sender<Stage>,
}

/// Which spans there are, what is said with them, and where they go: the server file's part, ready to be put in force.
#[derive(Debug)]
pub struct Told {
    share: Share,
    resource: Resource,
    collector: Collector,
}

impl Told {
    fn new(settings: &Settings, instance: &str) -> Result<Self, TelemetryError> {
        let own = [
            ("service.name", "toolgate"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", instance),
        ];
        let written = settings.resource.iter();
        let written = written.map(|(key, value)| (&**key, &**value));
        // What is written counts before what is said without being asked.
        let own = own
            .into_iter()
            .filter(|(key, _)| !settings.resource.iter().any(|(known, _)| **known == **key));
        let attributes = own.chain(written);
        Ok(Self {
            share: Share::of_millionths(settings.sample_millionths),
            resource: Resource {
                attributes: attributes
                    .map(|(key, value)| call::attribute(key, value))
                    .collect(),
            },
            collector: Collector::new(&settings.otlp)?,
        })
    }
}

/// What the sending task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Runs,
    /// Sends what is there, once, and begins nothing more.
    Stops,
}

impl Telemetry {
    /// Spans as `settings` have them, of the gate that the ledger calls `instance`.
    ///
    /// # Errors
    /// [`TelemetryError`].
    pub fn new(
        settings: &Settings,
        instance: &str,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TelemetryError> {
        Ok(Self(Arc::new(Inner {
            clock,
            metrics,
            instance: instance.into(),
            told: ArcSwap::from_pointee(Told::new(settings, instance)?),
            queue: Queue::default(),
            stage: watch::Sender::new(Stage::Idle),
        })))
    }

    /// Makes ready what other settings say.
    ///
    /// # Errors
    /// [`TelemetryError`].
    pub fn prepare(&self, settings: &Settings) -> Result<Told, TelemetryError> {
        Told::new(settings, &self.0.instance)
    }

    /// Puts it in force: calls that begin from now on, and whatever is sent from now on.
    pub fn install(&self, told: Told) {
        self.0.told.store(Arc::new(told));
    }

    /// Whether the collector can be sent to, as far as can be told without doing it.
    ///
    /// # Errors
    /// [`TelemetryError`].
    pub fn check(settings: &Settings) -> Result<(), TelemetryError> {
        Collector::new(&settings.otlp).map(drop)
    }

    /// Where a call with these fields stands in its trace.
    pub fn context(&self, headers: &HeaderMap) -> Context {
        Context::new(headers, self.0.told.load().share, &clock::random())
    }

    /// The call is over. Never waits.
    pub fn put(&self, call: Box<Call>) {
        let spans = call.spans();
        if !self.0.queue.put(call) {
            self.0.count(SpanResult::Dropped, spans);
        }
    }

    /// Sends until it is told to [rest](Self::rest). To be run once.
    pub async fn run(self) {
        let inner = &*self.0;
        inner.stage.send_replace(Stage::Runs);
        let mut stage = inner.stage.subscribe();
        loop {
            tokio::select! {
                () = sleep(GATHERED_MAX) => {}
                () = inner.queue.full.notified() => {}
                _ = stage.wait_for(|stage| *stage == Stage::Stops) => {}
            }
            let stops = *stage.borrow() == Stage::Stops;
            loop {
                let calls = inner.queue.take();
                if calls.is_empty() {
                    break;
                }
                inner.deliver(&calls, &mut stage).await;
            }
            if stops {
                break;
            }
        }
        inner.stage.send_replace(Stage::Idle);
    }

    /// Sends what is there, within `bound`; what is then left is counted as dropped.
    pub async fn rest(&self, bound: Duration) {
        let mut stage = self.0.stage.subscribe();
        let running = |stage: &mut Stage| {
            let runs = *stage != Stage::Idle;
            if runs {
                *stage = Stage::Stops;
            }
            runs
        };
        if self.0.stage.send_if_modified(running) {
            let over = stage.wait_for(|stage| *stage == Stage::Idle);
            let _ = tokio::time::timeout(bound, over).await;
        }
        let lost = self.0.queue.empty();
        if lost > 0 {
            self.0.count(SpanResult::Dropped, lost);
            tracing::warn!(
                spans = lost,
                "spans could not be sent before the gate stopped"
            );
        }
    }
}

impl Inner {
    /// Sends a batch, again and again if need be, until the collector has it or it is given up.
    async fn deliver(&self, calls: &[Box<Call>], stage: &mut watch::Receiver<Stage>) {
        let spans: usize = calls.iter().map(|call| call.spans()).sum();
        let message = self.message(calls, spans);
        let begun = self.clock.tick();
        let mut attempts = 0;
        loop {
            attempts += 1;
            // That of now: what keeps a batch from being taken may just have been mended.
            let told = self.told.load_full();
            let pause = match told.collector.send(message.clone()).await {
                Fate::Accepted { rejected } => {
                    let rejected = rejected.min(spans);
                    self.count(SpanResult::Sent, spans - rejected);
                    self.count(SpanResult::Rejected, rejected);
                    return;
                }
                Fate::Refused => break,
                Fate::Later { after } => after.unwrap_or_else(|| pause(attempts)),
            };
            let waited = self.clock.tick().since(begun);
            if waited + pause > PATIENCE || *stage.borrow() == Stage::Stops {
                break;
            }
            tokio::select! {
                () = sleep(pause) => {}
                // Once more, now or never.
                _ = stage.wait_for(|stage| *stage == Stage::Stops) => {}
            }
        }
        self.count(SpanResult::Failed, spans);
    }

    fn message(&self, calls: &[Box<Call>], spans: usize) -> bytes::Bytes {
        let mut written = Vec::with_capacity(spans);
        for call in calls {
            call.write(&mut written);
        }
        let message = ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.told.load().resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(Scope {
                        name: "toolgate".to_owned(),
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                    }),
                    spans: written,
                }],
            }],
        };
        message.encode_to_vec().into()
    }

    fn count(&self, result: SpanResult, spans: usize) {
        self.metrics.spans.count(result, spans);
    }
}

/// Before the attempt after this one: longer each time, and not at the same moment as everybody else.
fn pause(attempts: u32) -> Duration {
    let most = PAUSE_MIN
        .saturating_mul(1 << attempts.saturating_sub(1).min(10))
        .min(PAUSE_MAX);
    let [chance] = clock::random::<1>();
    most / 2 + most.mul_f64(f64::from(chance) / 510.0)
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Telemetry")
    }
}

/// How long a span waits for others.
const GATHERED_MAX: Duration = Duration::from_secs(1);
/// The first pause after a failure, and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a batch is tried for; meanwhile the queue fills.
const PATIENCE: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests;
