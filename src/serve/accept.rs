//! Accepting: from a listening socket to connections under the caps and the sweep. The same for every listener.

use super::caps::Door;
use super::connection::Link;
use super::socket;
use super::watch::Registry;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How far the gate is on its way out. The same for all listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It serves.
    Serve,
    /// It takes nothing new and finishes what it has.
    Finish,
    /// What is not finished is cut.
    Cut,
}

/// How long accepting pauses after an error that is not one connection's, such as no file descriptor being left.
const PAUSE: Duration = Duration::from_millis(50);

/// One listening socket and what its connections are counted in.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    door: Arc<Door>,
    registry: Arc<Registry>,
}

impl Acceptor {
    /// Takes over a listening socket; must be called on the runtime that will poll it.
    ///
    /// # Errors
    /// When the runtime can't register the socket.
    pub fn new(
        listener: std::net::TcpListener,
        door: Arc<Door>,
        registry: Arc<Registry>,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            door,
            registry,
        })
    }

    /// The next connection that the caps admit. Safe to drop while it waits.
    pub async fn next(&self) -> Link {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(link) = self.admit(stream, peer) {
                        return link;
                    }
                }
                Err(error) if of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "can't accept connections; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Connections that the kernel had completed before the listener closes: closing would reset them.
    pub async fn rest(self) -> Vec<Link> {
        let mut links = Vec::new();
        while let Some(Ok((stream, peer))) = ready(self.listener.accept()).await {
            links.extend(self.admit(stream, peer));
        }
        links
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Link> {
        let admission = self.door.admit(peer.ip())?;
        if let Err(error) = socket::prepare(&stream) {
            tracing::debug!(%peer, %error, "a connection was gone before it was served");
            return None;
        }
        Some(Link {
            stream,
            peer,
            watched: self.registry.watch(),
            admission,
        })
    }
}

/// The future's value if it has one now.
async fn ready<F: Future>(future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = std::future::ready(()) => None,
    }
}

fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
