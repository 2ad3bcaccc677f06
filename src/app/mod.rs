//! The composition root: build, start, reload, drain. The only place that knows all parts.
//!
//! Order matters. Start: the ledger first, since nothing may happen unrecorded; then the store, the live table, the gate;
//! listeners last, when all that they need is there. Drain: the other way round.

mod chores;
mod control;
mod limits;
pub mod logs;
mod parts;
mod reload;
mod sockets;
mod tls;

use self::control::Control;
use self::parts::Parts;
use self::reload::Reloader;
use self::sockets::Sockets;
use crate::config::watch::{Watched, Watcher};
use crate::config::{Caps, Loaded, Server, Timeouts};
use crate::gate::{Gate, Unsendable};
use crate::io::metrics::Decided;
use crate::io::tls::server::TlsFault;
use crate::ledger::LedgerError;
use crate::ledger::record::Event;
use crate::policy::decision::Reason;
use crate::serve::accept::Stage;
use crate::serve::admin::{self, Admin};
use crate::serve::control::serve;
use crate::serve::listen::DataPlane;
use crate::serve::ops::Ops;
use crate::store::StoreFault;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub use self::sockets::Addresses;
pub use crate::serve::reload::{Misplaced, Rejection, ReloadOutcome, Trigger};

/// The gate as a whole.
#[derive(Debug)]
pub struct App;

/// How a gate is started, beside its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What changed files do.
    pub watch: Watch,
}

/// What changed files do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// They are read again.
    #[default]
    Files,
    /// Nothing, until a signal or a principal asks.
    Nothing,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            watch: Watch::Files,
        }
    }
}

/// Why a gate could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A backend can't be spoken to.
    #[error("{0}")]
    Upstream(#[from] Unsendable),
    /// The ledger can't be opened; nothing is served unrecorded.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The ledger took no first record.
    #[error("the ledger can't be written; see the log for why")]
    LedgerRefuses,
    /// The store can't be opened or read.
    #[error("{0}")]
    Store(#[from] StoreFault),
    /// An address can't be had.
    #[error("can't listen on {address} ({listener}): {error}; is another program there?")]
    Listen {
        /// `agents`, `admin` or `metrics`.
        listener: &'static str,
        /// As configured.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// A listener's certificate, key or authorities can't be used.
    #[error("the {listener} listener can't speak TLS: {fault}")]
    Tls {
        /// `agents` or `admin`.
        listener: &'static str,
        /// Why.
        fault: TlsFault,
    },
    /// Threads can't be had.
    #[error("can't start the control threads: {0}")]
    Threads(io::Error),
}

/// A gate that serves. Dropped without [`Running::drain`], it cuts what is in flight.
pub struct Running {
    /// Where it listens.
    pub addresses: Addresses,
    parts: Arc<Parts>,
    reloader: Arc<Reloader>,
    ops: Arc<Ops>,
    admin: Arc<Admin>,
    data_plane: Option<DataPlane>,
    /// Of the agents' listener.
    stage: watch::Sender<Stage>,
    /// Of the control plane's listeners, which outlive the agents' one.
    control_stage: watch::Sender<Stage>,
    control: Control,
}

/// What the metrics listener, which has no settings, holds at once and waits for.
const OPS_CAPS: Caps = Caps {
    connections: 256,
    per_address: 256,
};
const OPS_TIMEOUTS: Timeouts = Timeouts {
    tls: Duration::from_secs(10),
    head: Duration::from_secs(10),
    body_idle: Duration::from_secs(30),
    idle: Duration::from_secs(75),
};
/// How long the control plane's last answers may take when the gate stops.
const CONTROL_DRAIN: Duration = Duration::from_secs(2);

impl App {
    /// Builds everything, starts everything, and returns when all listeners are bound. Blocks while files are opened.
    ///
    /// # Errors
    /// [`StartError`], with everything that was opened closed again.
    pub fn start(loaded: Loaded, options: Options) -> Result<Running, StartError> {
        let Loaded {
            server,
            projects,
            files,
            patterns,
            ..
        } = loaded;
        limits::check_descriptors(server.agents.caps.connections);
        Gate::check(&projects)?;
        let hashes = reload::hashes(&projects);
        let control = Control::new().map_err(StartError::Threads)?;
        let parts = Arc::new(Parts::build(&server, projects)?);
        let sockets = Sockets::bind(&server)?;
        if !control.wait(parts.record_start(&hashes)) {
            return Err(StartError::LedgerRefuses);
        }
        let path = files.first().cloned().unwrap_or_default();
        let (watcher, changes) = watch_files(options.watch, files, &patterns).unzip();
        let reloader = Arc::new(Reloader::new(
            Arc::clone(&parts),
            reload::Start {
                path,
                server: server.clone(),
                hashes,
                patterns,
                watcher,
            },
        ));
        let admin = Admin::new(parts.for_admin(&server, &reloader));
        let running = Running::serve(parts, reloader, admin, sockets, &server, control)?;
        running.start_chores(changes);
        running.say_where();
        Ok(running)
    }
}

impl Running {
    fn serve(
        parts: Arc<Parts>,
        reloader: Arc<Reloader>,
        admin: Arc<Admin>,
        sockets: Sockets,
        server: &Server,
        control: Control,
    ) -> Result<Self, StartError> {
        let addresses = sockets.addresses;
        let (stage, agents_stage) = watch::channel(Stage::Serve);
        let (control_stage, _) = watch::channel(Stage::Serve);
        let ops = Ops::new(Arc::clone(&parts.metrics), parts.ledger.clone());
        control.listen(serve(
            sockets.metrics,
            OPS_TIMEOUTS,
            OPS_CAPS,
            None,
            control_stage.subscribe(),
            {
                let ops = Arc::clone(&ops);
                move |request, _| std::future::ready(ops.answer(&request))
            },
        ));
        control.listen(serve(
            sockets.admin,
            server.admin.timeouts,
            server.admin.caps,
            parts.tls.admin.clone(),
            control_stage.subscribe(),
            admin::service(Arc::clone(&admin)),
        ));
        let (gate, metrics) = (parts.gate.clone(), Arc::clone(&parts.metrics));
        let refused =
            move || metrics.not_forwarded("", "", "", Decided::Deny, Some(Reason::Overloaded));
        let tls = parts.tls.agents.clone();
        let data_plane = sockets.agents.serve(&agents_stage, tls, refused, move || {
            let gate = Rc::new(gate.clone());
            move |request, peer| {
                let gate = Rc::clone(&gate);
                async move { gate.handle(request, peer).await }
            }
        });
        Ok(Self {
            addresses,
            parts,
            reloader,
            ops,
            admin,
            data_plane: Some(data_plane.map_err(StartError::Threads)?),
            stage,
            control_stage,
            control,
        })
    }

    fn start_chores(&self, changes: Option<watch::Receiver<u64>>) {
        let parts = || Arc::clone(&self.parts);
        self.control.chore(chores::sweep(parts()));
        self.control
            .chore(chores::sum_up(parts(), Arc::clone(&self.admin)));
        if let Some(changes) = changes {
            self.control
                .chore(chores::follow(changes, Arc::clone(&self.reloader)));
        }
    }

    /// One line a listener.
    fn say_where(&self) {
        let Addresses {
            agents,
            admin,
            metrics,
        } = self.addresses;
        for (listener, address) in [("agents", agents), ("admin", admin), ("metrics", metrics)] {
            tracing::info!(listener, %address, "listening");
        }
    }

    /// Reads the configuration again and puts it in force if it is valid as a whole.
    pub async fn reload(&self, trigger: Trigger) -> ReloadOutcome {
        self.reloader.reload(trigger).await
    }

    /// Stops: not ready, no new connections, calls in flight finish for at most `bound`, then the ledger is closed.
    /// True if nothing had to be cut.
    pub async fn drain(mut self, bound: Duration) -> bool {
        self.ops.draining();
        self.stage.send_replace(Stage::Finish);
        let finished = self.join_data_plane(bound).await;
        if !finished {
            tracing::warn!(bound_seconds = bound.as_secs(), "calls in flight were cut");
        }
        // The control plane goes last: an operator may still have to stop a session whose call is in flight.
        self.control_stage.send_replace(Stage::Finish);
        self.control.rest(CONTROL_DRAIN).await;
        self.control_stage.send_replace(Stage::Cut);
        chores::flush(&self.parts, &self.admin).await;
        let stopped = Event::Gate {
            change: "stopped",
            version: env!("CARGO_PKG_VERSION"),
            detail: if finished {
                ""
            } else {
                "calls in flight were cut"
            },
        };
        if !self.parts.record(&stopped).await {
            tracing::error!("the ledger did not take the record of this stop");
        }
        let ledger = self.parts.ledger.clone();
        // Flushes and waits for the writer's thread.
        let closed = tokio::task::spawn_blocking(move || ledger.close()).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::error!(
                "the ledger could not be closed in order; what it did not take is lost"
            );
        }
        finished
    }

    async fn join_data_plane(&mut self, bound: Duration) -> bool {
        let Some(data_plane) = self.data_plane.take() else {
            return true;
        };
        let mut joining = tokio::task::spawn_blocking(move || data_plane.join());
        let finished = tokio::time::timeout(bound, &mut joining).await.is_ok();
        if !finished {
            self.stage.send_replace(Stage::Cut);
            // Bounded by the threads themselves.
            let _ = joining.await;
        }
        finished
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({:?})", self.addresses)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stage.send_replace(Stage::Cut);
        self.control_stage.send_replace(Stage::Cut);
    }
}

/// `None` where they are not to be watched, or can't be: a signal still reloads.
fn watch_files(
    watch: Watch,
    files: Vec<PathBuf>,
    patterns: &[PathBuf],
) -> Option<(Watcher, watch::Receiver<u64>)> {
    if watch == Watch::Nothing {
        return None;
    }
    let watched = Watched {
        files,
        patterns: patterns.to_vec(),
    };
    Watcher::start(watched)
        .inspect_err(|error| tracing::error!(%error, "files can't be watched; SIGHUP reloads them"))
        .ok()
}
