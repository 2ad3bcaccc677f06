//! The composition root: build, start, reload, drain. The only place that knows all parts.
//!
//! Order matters. Start: the ledger first, since nothing may happen unrecorded; then the store, the live table, the gate;
//! listeners last, when all that they need is there. Drain: the other way round. A hand-over is a drain of one process
//! and a start of another on the same listening sockets (see [`hand_over`]).
//!
//! It is long because both orders can only be judged where all of them is in sight.

mod chores;
mod control;
pub mod hand_over;
mod limits;
pub mod logs;
mod parts;
mod reload;
pub mod service;
mod sockets;
mod tls;

use self::control::Control;
use self::hand_over::{Endpoint, Process, Successor};
use self::parts::Parts;
use self::reload::Reloader;
use crate::config::{Loaded, Server};
use crate::gate::{Gate, Unsendable, unread};
use crate::io::anchor::Anchors;
use crate::io::metrics::Decided;
use crate::io::notify::{TargetError, Targets};
use crate::io::telemetry::{Telemetry, TelemetryError};
use crate::io::tls::server::TlsFault;
use crate::ledger::LedgerError;
use crate::policy::decision::Reason;
use crate::serve::accept::Stage;
use crate::serve::admin::{self, Admin};
use crate::serve::connection::Unread;
use crate::serve::control::serve;
use crate::serve::listen::{Bound, DataPlane};
use crate::serve::ops::Ops;
use crate::store::StoreFault;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub use self::sockets::{Addresses, Given, Sockets};
pub use crate::serve::reload::{Misplaced, Rejection, ReloadOutcome, Trigger};

/// The gate as a whole.
#[derive(Debug)]
pub struct App;

/// How a gate is started, beside its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What changed files do.
    pub watch: Watch,
    /// Whether another process may take over.
    pub succession: Succession,
}

/// Whether another process may take over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Succession {
    /// Nobody waits for one: see [`Running::successor`].
    #[default]
    None,
    /// It is offered the sockets.
    Offer,
}

/// Where a gate gets its sockets, and what its first record says about that.
#[derive(Debug)]
pub enum Beginning {
    /// Those that a service manager opened, if any; the others are bound.
    Fresh(Given),
    /// From the gate that ran before, as another process.
    TakenOver {
        /// The sockets.
        sockets: Sockets,
        /// That process.
        from: Process,
    },
    /// From this very process, which had handed over to one that ended before it served.
    Resumed {
        /// The sockets.
        sockets: Sockets,
        /// That process.
        after: Process,
    },
}

/// How a gate stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long it serves on as one that is not ready, and says with every answer that the connection closes.
    pub notice: Duration,
    /// How long calls in flight then have to finish.
    pub bound: Duration,
}

impl From<Duration> for Drain {
    /// Without notice.
    fn from(bound: Duration) -> Self {
        Self {
            notice: Duration::ZERO,
            bound,
        }
    }
}

/// What is left of a gate that has let go of its ledger and its store, and not of its sockets.
#[derive(Debug)]
pub struct Released {
    /// They listen, and nobody accepts.
    pub sockets: Sockets,
    /// What was in force.
    pub loaded: Loaded,
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
            succession: Succession::None,
        }
    }
}

/// Why a gate could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A backend can't be spoken to.
    #[error("{0}")]
    Upstream(#[from] Unsendable),
    /// A target of `notify` can't be sent to.
    #[error("{0}")]
    Notify(#[from] TargetError),
    /// The collector of spans can't be sent to.
    #[error("{0}")]
    Telemetry(#[from] TelemetryError),
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
    /// A socket that another process opened can't be used.
    #[error("{0}")]
    Given(String),
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
    /// Copies of all sockets; `None` once they are to be closed.
    kept: Option<Sockets>,
    /// `None` where no successor is waited for.
    endpoint: Option<Endpoint>,
}

/// How long tunnels have to say goodbye before everything is cut.
const FAREWELL_MAX: Duration = Duration::from_millis(500);
/// How long webhooks in flight are waited for; what is cut is sent by the next process.
const WEBHOOKS_MAX: Duration = Duration::from_secs(1);
/// How long the collector has to take the last spans.
const SPANS_MAX: Duration = Duration::from_secs(2);
/// How long the control plane's last answers may take when the gate stops.
const CONTROL_DRAIN: Duration = Duration::from_secs(2);

impl App {
    /// Whether a gate can be built on these files, as far as that can be told without ledger, store and addresses.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn check(loaded: &Loaded) -> Result<(), StartError> {
        Gate::check(&loaded.projects)?;
        Targets::of(&loaded.projects)?;
        loaded
            .server
            .telemetry
            .as_ref()
            .map_or(Ok(()), Telemetry::check)?;
        Anchors::check(&loaded.server.ledger)?;
        tls::Tls::build(&loaded.server)?;
        Ok(())
    }

    /// Builds everything, starts everything, and returns when all listeners are bound. Blocks while files are opened.
    ///
    /// # Errors
    /// [`StartError`], with everything that was opened closed again.
    pub fn start(loaded: Loaded, options: Options) -> Result<Running, StartError> {
        Self::begin(loaded, options, Beginning::Fresh(Given::by_nobody()))
    }

    /// As [`App::start`], on sockets that are there already.
    ///
    /// # Errors
    /// [`StartError`], with everything that was opened closed again.
    pub fn begin(
        loaded: Loaded,
        options: Options,
        beginning: Beginning,
    ) -> Result<Running, StartError> {
        let Loaded {
            server,
            server_sha256,
            projects,
            lines,
            files,
            patterns,
            ..
        } = loaded;
        limits::prepare(&server);
        Gate::check(&projects)?;
        let hashes = reload::hashes(&projects);
        let control = Control::new().map_err(StartError::Threads)?;
        let parts = Arc::new(Parts::build(&server, projects, lines, control.handle())?);
        let detail = beginning.detail();
        let sockets = match beginning {
            Beginning::Fresh(given) => Sockets::obtain(&server, given)?,
            Beginning::TakenOver { sockets, .. } | Beginning::Resumed { sockets, .. } => sockets,
        };
        // The ledger is ours by now, so a successor's way to us may lie in its directory.
        let endpoint = (options.succession == Succession::Offer)
            .then(|| Endpoint::bind(&server.ledger.directory))
            .transpose()
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "no other process will be able to take over from this one");
                None
            });
        if !control.wait(parts.record_start(&server_sha256, &hashes, &detail)) {
            return Err(StartError::LedgerRefuses);
        }
        let path = files.first().cloned().unwrap_or_default();
        let (watcher, changes) =
            reload::watch_files(options.watch, files.clone(), &patterns).unzip();
        let reloader = Arc::new(Reloader::new(
            Arc::clone(&parts),
            reload::Start {
                path,
                server: server.clone(),
                server_sha256,
                hashes,
                files,
                patterns,
                watcher,
            },
        ));
        let admin = Admin::new(parts.for_admin(&server, &reloader));
        let mut running = Running::serve(parts, reloader, admin, sockets, &server, control)?;
        running.endpoint = endpoint;
        running.start_chores(changes);
        running.say_where();
        Ok(running)
    }
}

impl Beginning {
    fn detail(&self) -> String {
        match self {
            Self::Fresh(_) => String::new(),
            Self::TakenOver { from, .. } => format!("took over from process {from}"),
            Self::Resumed { after, .. } => format!("process {after} took over and did not serve"),
        }
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
        let kept = sockets.try_clone().map_err(StartError::Threads)?;
        let addresses = sockets.addresses().map_err(StartError::Threads)?;
        let console = server.admin.console(addresses.admin);
        parts.notifier.link_to(&console);
        let agents = Bound::on(sockets.agents, &server.agents, server.workers);
        let agents = agents.map_err(StartError::Threads)?;
        let (stage, agents_stage) = watch::channel(Stage::Serve);
        let (control_stage, _) = watch::channel(Stage::Serve);
        let ops = Ops::new(Arc::clone(&parts.metrics), parts.ledger.clone());
        control.listen(serve(
            sockets.metrics,
            limits::OPS_TIMEOUTS,
            limits::OPS_CAPS,
            None,
            Arc::new(|_, flaw| unread::plain(flaw)),
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
            {
                let admin = Arc::clone(&admin);
                Arc::new(move |client, flaw| admin.unread(client, flaw))
            },
            control_stage.subscribe(),
            admin::service(Arc::clone(&admin)),
        ));
        let (gate, metrics) = (parts.gate.clone(), Arc::clone(&parts.metrics));
        let refused =
            move || metrics.not_forwarded("", "", "", Decided::Deny, Some(Reason::Overloaded));
        let tls = parts.tls.agents.clone();
        let counting = gate.clone();
        let unread: Unread = Arc::new(move |client, flaw| counting.unread(client, flaw));
        let data_plane = agents.serve(&agents_stage, tls, unread, refused, move || {
            let gate = Rc::new(gate.clone());
            move |request, peer| {
                let gate = Rc::clone(&gate);
                async move { gate.handle(request, peer).await }
            }
        });
        let data_plane = data_plane.map_err(StartError::Threads)?;
        let door = Arc::clone(&data_plane.door);
        parts.metrics.count_connections(move || door.open());
        Ok(Self {
            addresses,
            parts,
            reloader,
            ops,
            admin,
            data_plane: Some(data_plane),
            stage,
            control_stage,
            control,
            kept: Some(kept),
            endpoint: None,
        })
    }

    fn start_chores(&self, changes: Option<watch::Receiver<u64>>) {
        let parts = || Arc::clone(&self.parts);
        self.control.chore(chores::sweep(parts()));
        let gate = self.parts.gate.clone();
        self.control
            .chore(async move { gate.count_approvals().await });
        self.control
            .chore(chores::sum_up(parts(), Arc::clone(&self.admin)));
        self.control.chore(self.parts.notifier.clone().run());
        if let Some(telemetry) = &self.parts.telemetry {
            self.control.chore(telemetry.clone().run());
        }
        let anchors = Arc::clone(&self.parts.anchors);
        self.control.chore(async move { anchors.run().await });
        if let Some(changes) = changes {
            self.control
                .chore(chores::follow(changes, Arc::clone(&self.reloader)));
        }
    }

    /// One line a listener, and one that says whose signatures the ledger's checkpoints have.
    fn say_where(&self) {
        let Addresses {
            agents,
            admin,
            metrics,
        } = self.addresses;
        for (listener, address) in [("agents", agents), ("admin", admin), ("metrics", metrics)] {
            tracing::info!(listener, %address, "listening");
        }
        let vkey = self.parts.ledger.verifier();
        tracing::info!(%vkey, "the ledger's checkpoints are signed by this key");
    }

    /// Reads the configuration again and puts it in force if it is valid as a whole.
    pub async fn reload(&self, trigger: Trigger) -> ReloadOutcome {
        self.reloader.reload(trigger).await
    }

    /// Resolves when another process is ready to take over; never where none is waited for. Safe to drop while it waits.
    pub async fn successor(&self) -> Successor {
        if let (Some(endpoint), Some(sockets)) = (&self.endpoint, &self.kept) {
            match endpoint.successor(sockets).await {
                Ok(successor) => return successor,
                Err(error) => {
                    tracing::error!(%error, "no other process can take over any more");
                }
            }
        }
        std::future::pending().await
    }

    /// Stops: not ready, no new connections, calls in flight finish for at most the bound, then store and ledger are
    /// closed. True if nothing had to be cut.
    pub async fn drain(mut self, how: impl Into<Drain>) -> bool {
        self.ops.draining();
        self.end(how.into(), None).await
    }

    /// Stops as [`Running::drain`] does, for `successor`, and keeps the sockets: who connects meanwhile waits in them. It
    /// stays ready to whoever balances load, since nobody is to go elsewhere.
    pub async fn release(
        mut self,
        successor: &Successor,
        how: impl Into<Drain>,
    ) -> Option<Released> {
        let sockets = self.kept.take()?;
        self.end(how.into(), Some(successor.process)).await;
        Some(Released {
            sockets,
            loaded: self.reloader.in_force().await,
        })
    }

    async fn end(&mut self, how: Drain, successor: Option<Process>) -> bool {
        // From here on nobody can take over; for one who does already, this was the last use.
        self.endpoint = None;
        if !how.notice.is_zero() {
            self.stage.send_replace(Stage::Announce);
            self.control_stage.send_replace(Stage::Announce);
            tokio::time::sleep(how.notice).await;
        }
        // What the listeners have they close themselves.
        self.kept = None;
        self.stage.send_replace(Stage::Finish);
        // Who waits for a person comes again, to whoever serves then; what people agreed to and has begun is finished.
        self.parts.gate.stop_holding();
        let finished = self.join_data_plane(how.bound).await;
        if !finished {
            tracing::warn!(
                bound_seconds = how.bound.as_secs(),
                "calls in flight were cut"
            );
        }
        let spans = async {
            if let Some(telemetry) = &self.parts.telemetry {
                telemetry.rest(SPANS_MAX).await;
            }
        };
        tokio::join!(self.parts.notifier.rest(WEBHOOKS_MAX), spans);
        // The control plane goes last: an operator may still have to stop a session whose call is in flight.
        self.admin.end_streams();
        self.control_stage.send_replace(Stage::Finish);
        self.control.rest(CONTROL_DRAIN).await;
        self.control_stage.send_replace(Stage::Cut);
        chores::flush(&self.parts, &self.admin).await;
        self.parts.close(finished, successor).await;
        finished
    }

    async fn join_data_plane(&mut self, bound: Duration) -> bool {
        let Some(data_plane) = self.data_plane.take() else {
            return true;
        };
        let mut joining = tokio::task::spawn_blocking(move || data_plane.join());
        let gate = &self.parts.gate;
        let mut joined = false;
        let all = async {
            let _ = (&mut joining).await;
            joined = true;
            // Approved calls, whose agents may have left.
            gate.errands_over().await;
        };
        let finished = tokio::time::timeout(bound, all).await.is_ok();
        if !joined {
            // Tunnels never finish by themselves: both their ends are told.
            self.parts.gate.close_tunnels();
            let farewell = tokio::time::timeout(FAREWELL_MAX, &mut joining).await;
            if farewell.is_err() {
                self.stage.send_replace(Stage::Cut);
                // Bounded by the threads themselves.
                let _ = joining.await;
            }
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
        // While the ledger is still ours.
        self.endpoint = None;
        self.parts.gate.close_tunnels();
        self.stage.send_replace(Stage::Cut);
        self.control_stage.send_replace(Stage::Cut);
    }
}
