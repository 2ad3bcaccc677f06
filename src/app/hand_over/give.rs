//! The running gate's side: it offers its sockets, and lets go when it is told to.

use super::{FromNew, FromOld, Process, VERSION, hear, met, place, rights, say, unexpected};
use crate::app::sockets::Sockets;
use std::fs::Permissions;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most time that a successor may ask for.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// How long accepting pauses after an error.
const PAUSE: Duration = Duration::from_secs(1);

/// Where a successor finds this gate. Made and removed while the ledger's lock is held, so it is never another gate's.
#[derive(Debug)]
pub(in crate::app) struct Endpoint {
    listener: UnixListener,
    path: PathBuf,
}

impl Endpoint {
    /// In the ledger's directory. What is there is left over from a process that was killed.
    pub(in crate::app) fn bind(ledger: &Path) -> io::Result<Self> {
        let path = place(ledger);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }

    /// Resolves when a new process is ready to take over `sockets`. Whoever asks and does not go through with it changes
    /// nothing. Safe to drop while it waits: who is asking then hears that the talk has ended.
    pub(in crate::app) async fn successor(&self, sockets: &Sockets) -> io::Result<Successor> {
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        loop {
            let met = match listener.accept().await {
                Ok((stream, _)) => met(stream),
                Err(error) => {
                    tracing::error!(%error, "can't listen for a successor; trying again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let sockets = sockets.try_clone()?;
            let talk = tokio::task::spawn_blocking(move || {
                let (stream, process) = met?;
                offer(stream, process, &sockets)
            });
            match talk.await {
                Ok(Ok(successor)) => return Ok(successor),
                Ok(Err(error)) => tracing::warn!(%error, "a take-over came to nothing"),
                Err(error) => tracing::error!(%error, "a take-over panicked"),
            }
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Left behind it would only be in the way of nobody: the next gate removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn offer(stream: UnixStream, process: Process, sockets: &Sockets) -> io::Result<Successor> {
    let wait_ms = match hear(&stream)? {
        FromNew::Ask { version, wait_ms } if version == VERSION => wait_ms,
        other => {
            let why = format!("the running gate hands over by version {VERSION}");
            say(&stream, &FromOld::Refuse { why })?;
            return Err(unexpected(&other));
        }
    };
    let Sockets {
        agents,
        admin,
        metrics,
    } = sockets;
    let message = FromOld::Offer {
        agents: agents.len(),
        admin: 1,
        metrics: 1,
    };
    say(&stream, &message)?;
    let all = agents.iter().chain([admin, metrics]);
    let all: Vec<_> = all.map(|socket| socket.as_fd()).collect();
    rights::send(&stream, &all)?;
    match hear(&stream)? {
        FromNew::Go => Ok(Successor {
            stream,
            process,
            wait: Duration::from_millis(wait_ms).min(WAIT_MAX),
        }),
        other => Err(unexpected(&other)),
    }
}

/// A process that waits for this one to let go.
#[derive(Debug)]
pub struct Successor {
    stream: UnixStream,
    /// Its id.
    pub process: Process,
    /// How long calls in flight may keep it waiting.
    pub wait: Duration,
}

impl Successor {
    /// Tells it that ledger and store are free, and waits until it serves.
    ///
    /// # Errors
    /// It ended before it served.
    pub async fn serves(self) -> io::Result<()> {
        let waiting = tokio::task::spawn_blocking(move || {
            // However long: while it lives it may be opening a large store, and only one can.
            self.stream.set_read_timeout(None)?;
            say(&self.stream, &FromOld::Yours)?;
            let said = hear(&self.stream);
            // Not a word more, should it be about to say one.
            let _ = self.stream.shutdown(Shutdown::Both);
            match said? {
                FromNew::Serving => Ok(()),
                other => Err(unexpected(&other)),
            }
        });
        waiting.await.unwrap_or_else(|error| Err(error.into()))
    }
}
