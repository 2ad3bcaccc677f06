//! The new process's side: it asks for the sockets, and waits until ledger and store are free.

use super::{FromNew, FromOld, Process, VERSION, hear, met, place, rights, say, unexpected};
use crate::app::StartError;
use crate::app::sockets::{Given, ListenerName, Sockets};
use crate::config::Server;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Beyond the time that calls in flight were given: for the announcement, the control plane's last answers, the closing of files.
const BEYOND: Duration = Duration::from_secs(60);

/// Why nothing was taken over. The running gate, if there is one, serves on.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// It said so.
    #[error("process {process} does not hand over: {why}")]
    Refused {
        /// The running gate.
        process: Process,
        /// In its words.
        why: String,
    },
    /// The talk broke off.
    #[error("the running gate can't be taken over from: {0}")]
    Broken(#[from] io::Error),
}

/// A talk with a running gate.
#[derive(Debug)]
pub struct TakeOver {
    stream: UnixStream,
    /// The running gate.
    pub process: Process,
    wait: Duration,
    given: Given,
}

/// How ledger and store became free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The running gate closed them.
    InOrder,
    /// It ended; the system closes them, or is just about to.
    ByDeath,
}

impl TakeOver {
    /// Asks the gate that runs on these files for its sockets; `wait` bounds how long its calls in flight may hold the
    /// hand-over up. `None`: no gate runs on them. Blocks, shortly, while it is talked to.
    ///
    /// # Errors
    /// [`TakeOverError`]
    pub async fn ask(server: &Server, wait: Duration) -> Result<Option<Self>, TakeOverError> {
        let stream = match tokio::net::UnixStream::connect(place(&server.ledger.directory)).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let (stream, process) = met(stream)?;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let version = VERSION;
        say(&stream, &FromNew::Ask { version, wait_ms })?;
        let counts = match hear(&stream)? {
            FromOld::Offer {
                agents,
                admin,
                metrics,
            } => [agents, admin, metrics],
            FromOld::Refuse { why } => return Err(TakeOverError::Refused { process, why }),
            other @ FromOld::Yours => return Err(unexpected(&other).into()),
        };
        let mut sockets = rights::receive(&stream, counts.iter().sum())?.into_iter();
        let mut given = Given::by_a_gate();
        for (name, count) in ListenerName::ALL.into_iter().zip(counts) {
            for socket in sockets.by_ref().take(count) {
                given.add(Some(name), socket.into())?;
            }
        }
        Ok(Some(Self {
            stream,
            process,
            wait,
            given,
        }))
    }

    /// The sockets, with those that the running gate does not have bound anew. Nothing has changed for it so far.
    ///
    /// # Errors
    /// [`StartError`]: an address can't be had.
    pub fn sockets(&mut self, server: &Server) -> Result<Sockets, StartError> {
        let given = std::mem::replace(&mut self.given, Given::by_a_gate());
        Sockets::obtain(server, given)
    }

    /// Tells the running gate to let go, and resolves when ledger and store are free. To be dropped where this process
    /// gives up: the running gate then serves on.
    ///
    /// # Errors
    /// It takes longer than it may.
    pub async fn released(&self) -> Result<Release, TakeOverError> {
        let stream = self.stream.try_clone()?;
        let patience = self.wait + BEYOND;
        let waiting = tokio::task::spawn_blocking(move || {
            say(&stream, &FromNew::Go)?;
            stream.set_read_timeout(Some(patience))?;
            hear(&stream)
        });
        match waiting.await.unwrap_or_else(|error| Err(error.into())) {
            Ok(FromOld::Yours) => Ok(Release::InOrder),
            Ok(other) => Err(unexpected(&other).into()),
            // It has ended, whatever the reason. Its locks went with it, and its sockets are here.
            Err(error) if is_end(&error) => {
                tracing::warn!(
                    process = %self.process,
                    "the gate that was to hand over has ended; going on without it"
                );
                Ok(Release::ByDeath)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the other process that it may end.
    pub fn serving(self) {
        // Should it be gone, so much the better.
        let _ = say(&self.stream, &FromNew::Serving);
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
