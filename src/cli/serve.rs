//! `toolgate serve`: the gate, until a signal ends it or another process takes over.
//!
//! SIGHUP reads the configuration again; SIGTERM and SIGINT let calls in flight finish; a second one does not wait.
//! A gate that has let go of its files for a successor which then ends takes them up again and serves on.

use super::{Failure, Globals, runtime};
use crate::app::hand_over::{Release, Successor, TakeOver};
use crate::app::service::{self, Notifier};
use crate::app::{
    App, Beginning, Drain, Given, Options, Released, Running, Sockets, StartError, Succession,
    Trigger, logs,
};
use crate::config::{self, Loaded, Secrets};
use crate::io::clock::{Clock as _, SystemClock};
use crate::ledger::LedgerError;
use clap::Args;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// `serve`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  TOOLGATE_ISSUER_KEY=tgk_... TOOLGATE_APPROVER_KEY=tgk_... CRM_API_KEY=... toolgate serve --config config/toolgate.yaml --log-format json\n\n\
Signals: SIGHUP reloads the configuration, SIGTERM and SIGINT drain, a second one ends it at once.\n\
Hand-over: --take-over gets the listening sockets from the gate that runs on the same ledger. No connection is refused: who \
connects while ledger and store change hands waits, as long as calls in flight take to finish, at most --take-over-wait. If \
the new process fails before it serves, the running one serves on.\n\
Sockets that systemd opened (LISTEN_FDS; names agents, admin, metrics) are used, and NOTIFY_SOCKET is told.\n\
TOOLGATE_LOG filters log lines (info unless set)."
)]
pub struct Arguments {
    /// Seconds that calls in flight have to finish after the first SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
    /// Seconds after SIGTERM during which it serves on, not ready, so that load balancers notice
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    drain_delay: u64,
    /// Take the place of the gate that runs on the same files, if one does
    #[arg(long)]
    take_over: bool,
    /// Seconds that its calls in flight may hold the hand-over up; then they are cut. One that is just stopping is waited
    /// for as long
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 10,
        requires = "take_over"
    )]
    take_over_wait: u64,
}

/// Before it stops accepting, the gate says for so long with every answer that the connection closes: clients that use
/// theirs more often than this never find one closed under them.
const NOTICE: Duration = Duration::from_millis(500);
/// How long files are tried again that a process which has just ended held.
const FUNERAL: Duration = Duration::from_secs(5);
/// From one attempt to the next.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs the gate.
///
/// # Errors
/// [`Failure::Configuration`] for files that are not valid, [`Failure::Unavailable`] for an address, store or ledger
/// that can't be had, [`Failure::No`] if a second signal cut off calls in flight.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    // First of all: it changes the environment.
    let given = service::sockets().map_err(not_started)?;
    logs::start(globals.log_format.into(), "info");
    let runtime = runtime()?;
    // Before anything listens: a signal that comes early is not lost.
    let signals = runtime.block_on(async { Signals::new() })?;
    let mut loaded = config::load(&globals.config, Secrets::Required)
        .map_err(|errors| Failure::Configuration(errors.coloured()))?;
    loaded.warn_of_expired(SystemClock.now().wall);
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.summary);
    }
    let mut service = Service {
        arguments,
        signals,
        manager: Notifier::from_environment(),
    };
    let ended = runtime.block_on(async {
        let running = service.begin(loaded, given).await?;
        service.stay(running).await
    });
    // What a second signal does not wait for.
    runtime.shutdown_background();
    ended
}

/// A gate from its start to its end.
struct Service<'a> {
    arguments: &'a Arguments,
    signals: Signals,
    manager: Notifier,
}

impl Service<'_> {
    /// In the place of a running gate if that is asked for and there is one.
    async fn begin(&mut self, loaded: Loaded, given: Given) -> Result<Running, Failure> {
        if !self.arguments.take_over {
            return App::begin(loaded, OPTIONS, Beginning::Fresh(given)).map_err(not_started);
        }
        // All that can be found wrong is found before a running gate is asked.
        App::check(&loaded).map_err(not_started)?;
        let wait = Duration::from_secs(self.arguments.take_over_wait);
        let mut pauses = wait.as_millis() / PAUSE.as_millis();
        loop {
            let other = TakeOver::ask(&loaded.server, wait).await;
            if let Some(other) = other.map_err(|error| Failure::Unavailable(error.to_string()))? {
                return self.take_over(loaded, other).await;
            }
            let beginning = Beginning::Fresh(given.try_clone().map_err(not_started)?);
            match App::begin(loaded.clone(), OPTIONS, beginning) {
                // It runs and does not answer: it is about to end, or another takes over from it just now.
                Err(StartError::Ledger(LedgerError::Locked { .. })) if pauses > 0 => pauses -= 1,
                begun => return begun.map_err(not_started),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.signals.stop() => return Err(stopped_early()),
            }
        }
    }

    async fn take_over(&mut self, loaded: Loaded, mut other: TakeOver) -> Result<Running, Failure> {
        let sockets = other.sockets(&loaded.server).map_err(not_started)?;
        tracing::info!(process = %other.process, "taking over");
        let release = tokio::select! {
            release = other.released() => {
                release.map_err(|error| Failure::Unavailable(error.to_string()))?
            }
            () = self.signals.stop() => {
                return Err(stopped_early());
            }
        };
        let from = other.process;
        let beginning = |sockets| Beginning::TakenOver { sockets, from };
        let running = match release {
            Release::InOrder => {
                App::begin(loaded, OPTIONS, beginning(sockets)).map_err(not_started)?
            }
            Release::ByDeath => after_a_death(loaded, sockets, beginning).await?,
        };
        other.serving();
        Ok(running)
    }

    /// Until it ends, by a signal or by a successor that serves.
    async fn stay(&mut self, mut running: Running) -> Result<(), Failure> {
        loop {
            self.manager.ready();
            match self.next(&running).await {
                Ending::Stop => return self.stop(running).await,
                Ending::HandOver(successor) => match self.hand_over(running, successor).await? {
                    Some(resumed) => running = resumed,
                    None => return Ok(()),
                },
            }
        }
    }

    async fn next(&mut self, running: &Running) -> Ending {
        let mut successor = std::pin::pin!(running.successor());
        loop {
            tokio::select! {
                successor = &mut successor => return Ending::HandOver(successor),
                asked = self.signals.next() => match asked {
                    Asked::Stop => return Ending::Stop,
                    Asked::Reload => {
                        self.manager.reloading();
                        // What came of it is in the log, the ledger and the metrics; the gate goes on with one policy or the other.
                        running.reload(Trigger::Signal).await;
                        self.manager.ready();
                    }
                },
            }
        }
    }

    async fn stop(&mut self, running: Running) -> Result<(), Failure> {
        let Arguments {
            drain, drain_delay, ..
        } = self.arguments;
        self.manager.stopping();
        tracing::info!("draining: no new connections; calls in flight have {drain} s");
        let how = Drain {
            notice: NOTICE.max(Duration::from_secs(*drain_delay)),
            bound: Duration::from_secs(*drain),
        };
        tokio::select! {
            _ = running.drain(how) => Ok(()),
            () = self.signals.stop() => Err(cut_off()),
        }
    }

    /// The gate again, where the successor ended before it served.
    async fn hand_over(
        &mut self,
        running: Running,
        successor: Successor,
    ) -> Result<Option<Running>, Failure> {
        let (process, wait) = (successor.process, successor.wait);
        tracing::info!(%process, wait_seconds = wait.as_secs(), "handing over");
        let how = Drain {
            notice: NOTICE,
            bound: wait,
        };
        let mut handing = std::pin::pin!(async {
            let released = running.release(&successor, how).await;
            (released, successor.serves().await)
        });
        let mut stop = false;
        let handed = loop {
            tokio::select! {
                handed = &mut handing => break handed,
                () = self.signals.stop() => {
                    if std::mem::replace(&mut stop, true) {
                        return Err(cut_off());
                    }
                }
            }
        };
        let (Some(Released { sockets, loaded }), Err(error)) = handed else {
            tracing::info!(%process, "handed over");
            return Ok(None);
        };
        tracing::error!(%process, %error, "the other process ended before it served");
        if stop {
            return Ok(None);
        }
        let beginning = |sockets| Beginning::Resumed {
            sockets,
            after: process,
        };
        after_a_death(loaded, sockets, beginning).await.map(Some)
    }
}

const OPTIONS: Options = Options {
    watch: crate::app::Watch::Files,
    succession: Succession::Offer,
};

enum Ending {
    Stop,
    HandOver(Successor),
}

fn stopped_early() -> Failure {
    Failure::No("ended by a signal before it took over".to_owned())
}

fn cut_off() -> Failure {
    Failure::No("ended by a second signal; calls in flight were cut off".to_owned())
}

/// Starts on files that a process may have held until just now: its sockets close before its locks do.
async fn after_a_death(
    loaded: Loaded,
    sockets: Sockets,
    beginning: impl Fn(Sockets) -> Beginning,
) -> Result<Running, Failure> {
    let mut pauses = FUNERAL.as_millis() / PAUSE.as_millis();
    loop {
        let copies = sockets.try_clone();
        let copies = copies.map_err(|error| Failure::Unavailable(error.to_string()))?;
        match App::begin(loaded.clone(), OPTIONS, beginning(copies)) {
            Err(StartError::Ledger(_) | StartError::Store(_)) if pauses > 0 => {
                pauses -= 1;
                tokio::time::sleep(PAUSE).await;
            }
            begun => return begun.map_err(not_started),
        }
    }
}

/// What kept the gate from starting.
pub(super) fn not_started(error: StartError) -> Failure {
    Failure::Unavailable(format!("the gate can't start: {error}"))
}

/// What was asked by signal.
pub(super) enum Asked {
    Reload,
    Stop,
}

/// What the process listens to.
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on; needs a runtime.
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::Ours(format!("signals can't be received: {error}")))
        };
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
        }
    }

    /// The next SIGINT or SIGTERM.
    pub(super) async fn stop(&mut self) {
        while let Asked::Reload = self.next().await {}
    }
}
