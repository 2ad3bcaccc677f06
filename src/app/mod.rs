//! The composition root: build, start, reload, drain. The only place that knows all parts.
//!
//! Order matters. Start: the ledger first, since nothing may happen unrecorded; then the store, the live table, the gate;
//! listeners last, when all that they need is there. Drain: the other way round.

mod chores;
mod limits;
pub mod logs;
mod reload;

use crate::config::{Caps, Loaded, Timeouts};
use crate::gate::{Gate, GateParts, Settings};
use crate::io::clock::{Clock, SystemClock};
use crate::io::metrics::Metrics;
use crate::io::sweep;
use crate::ledger::record::Event;
use crate::ledger::{Ledger, LedgerError, Level};
use crate::serve::accept::Stage;
use crate::serve::admin::{self, Admin, Principals};
use crate::serve::listen::DataPlane;
use crate::serve::ops::Ops;
pub use crate::serve::reload::{ReloadOutcome, Rejection, Trigger};
use crate::serve::{control, socket};
use crate::store::StoreFault;
use crate::store::embedded::Embedded;
use crate::store::live::Sessions;
use arc_swap::ArcSwap;
use reload::Reloader;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

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
    /// Threads can't be had.
    #[error("can't start the control threads: {0}")]
    Threads(io::Error),
}

/// Where a running gate listens, with the ports that were bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The data plane.
    pub agents: SocketAddr,
    /// The admin API.
    pub admin: SocketAddr,
    /// `/metrics`, `/livez`, `/readyz`.
    pub metrics: SocketAddr,
}

/// A gate that serves. Dropped without [`Running::drain`], it cuts what is in flight.
#[derive(Debug)]
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
    control: Option<Runtime>,
}

/// What everything stands on.
#[derive(Debug)]
struct Parts {
    clock: Arc<dyn Clock>,
    ledger: Ledger,
    sessions: Sessions,
    metrics: Arc<Metrics>,
    gate: Arc<Gate>,
    principals: Arc<ArcSwap<Principals>>,
}

/// Threads of the control runtime: admin API, metrics, chores.
const CONTROL_THREADS: usize = 2;
/// What the metrics listener, which has no settings, holds at once and waits for.
const OPS_CAPS: Caps = Caps {
    connections: 256,
    per_address: 256,
};
const OPS_TIMEOUTS: Timeouts = Timeouts {
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
            ..
        } = loaded;
        let control = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let control = Guarded(Some(control));
        let parts = Arc::new(control.block_on(Parts::build(&server, projects))??);
        todo!()
    }
}
