//! Accepting: from a listening socket to connections under the caps and the sweep. The same for every listener.

use super::caps::Door;
use super::connection::Link;
use super::socket;
use super::watch::Registry;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How far the gate is on its way out. The same for all listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It serves.
    Serve,
    /// It serves, and says with every answer that the connection closes.
    Announce,
    /// It takes nothing new and finishes what it has.
    Finish,
    /// What is not finished is cut.
    Cut,
}

/// How long accepting pauses after an error that is not one connection's, such as no file descriptor being left.
const PAUSE: Duration = Duration::from_millis(50);

/// The listening sockets of one thread, mostly one, and what their connections are counted in.
#[derive(Debug)]
pub struct Acceptor {
    listeners: Vec<TcpListener>,
    /// Which is asked first: each in its turn, so that a busy one does not starve the others.
    turn: usize,
    door: Arc<Door>,
    registry: Arc<Registry>,
}

impl Acceptor {
    /// Takes over listening sockets; must be called on the runtime that will poll them.
    ///
    /// # Errors
    /// When the runtime can't register a socket.
    pub fn new(
        listeners: Vec<std::net::TcpListener>,
        door: Arc<Door>,
        registry: Arc<Registry>,
    ) -> io::Result<Self> {
        Ok(Self {
            listeners: listeners
                .into_iter()
                .map(TcpListener::from_std)
                .collect::<io::Result<_>>()?,
            turn: 0,
            door,
            registry,
        })
    }

    /// The next connection that the caps admit. Safe to drop while it waits.
    pub async fn next(&mut self) -> Link {
        loop {
            match poll_fn(|context| self.poll_accept(context)).await {
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
    pub async fn rest(mut self) -> Vec<Link> {
        let mut links = Vec::new();
        while let Some(Ok((stream, peer))) =
            ready(poll_fn(|context| self.poll_accept(context))).await
        {
            links.extend(self.admit(stream, peer));
        }
        links
    }

    fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let count = self.listeners.len();
        for number in (self.turn..).take(count).map(|number| number % count) {
            if let Poll::Ready(accepted) = self.listeners[number].poll_accept(context) {
                self.turn = number + 1;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
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
