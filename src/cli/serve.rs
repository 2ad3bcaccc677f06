//! `toolgate serve`: the gate, until a signal ends it.
//!
//! SIGHUP reads the configuration again; SIGTERM and SIGINT let calls in flight finish; a second one does not wait.

use super::{Failure, Globals, runtime};
use crate::app::{App, Options, StartError, Trigger, logs};
use crate::config::{self, Secrets};
use crate::io::clock::{Clock as _, SystemClock};
use clap::Args;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// `serve`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  TOOLGATE_ISSUER_KEY=tgk_... CRM_API_KEY=... toolgate serve --config config/toolgate.yaml --log-format json\n\nSignals: SIGHUP reloads the configuration, SIGTERM and SIGINT drain, a second one ends it at once.\nTOOLGATE_LOG filters log lines (info unless set)."
)]
pub struct Arguments {
    /// Seconds that calls in flight have to finish after the first SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
}

/// Runs the gate.
///
/// # Errors
/// [`Failure::Configuration`] for files that are not valid, [`Failure::Unavailable`] for an address, store or ledger
/// that can't be had, [`Failure::No`] if a second signal cut off calls in flight.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    logs::start(globals.log_format.into(), "info");
    let runtime = runtime()?;
    // Before anything listens: a signal that comes early is not lost.
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let mut loaded = config::load(&globals.config, Secrets::Required)
        .map_err(|errors| Failure::Configuration(errors.coloured()))?;
    loaded.warn_of_expired(SystemClock.now().wall);
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.summary);
    }
    let running = App::start(loaded, Options::default()).map_err(not_started)?;
    let ended = runtime.block_on(async {
        while let Asked::Reload = signals.next().await {
            // What came of it is in the log, the ledger and the metrics; the gate goes on with one policy or the other.
            running.reload(Trigger::Signal).await;
        }
        tracing::info!("draining: no new connections; calls in flight have {} s", arguments.drain);
        tokio::select! {
            _ = running.drain(Duration::from_secs(arguments.drain)) => Ok(()),
            () = signals.stop() => Err(Failure::No("ended by a second signal; calls in flight were cut off".to_owned())),
        }
    });
    // What a second signal does not wait for.
    runtime.shutdown_background();
    ended
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
