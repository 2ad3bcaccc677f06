//! One connection as HTTP drives it, with what the gate must know about it besides.

use crate::io::tls::client::fault_in;
use crate::ledger::record::TlsFault;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What bytes go through. A choice and not a box, so that plain sockets cost what they did without the other.
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection's socket, watched.
///
/// A backend may answer before it has read the whole request (413, say) and close: then writing fails while the answer
/// lies in the kernel's buffer. hyper would give up at the failed write. So the wire swallows what can no longer be
/// written, lets the answer be read, and remembers in its [`Tally`] that the connection must not be used again.
pub(super) struct Wire {
    socket: Socket,
    tally: Arc<Tally>,
}

/// What is known of a connection from outside the task that drives it.
#[derive(Default)]
pub(super) struct Tally {
    received: AtomicU64,
    write_broken: AtomicBool,
    tls_fault: OnceLock<TlsFault>,
}

impl Tally {
    /// Bytes read so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// What of TLS ended it. Kept here, because not every reader of a socket keeps what an error was made of.
    pub(super) fn tls_fault(&self) -> Option<TlsFault> {
        self.tls_fault.get().copied()
    }

    /// Whether written bytes were lost.
    pub(super) fn is_write_broken(&self) -> bool {
        self.write_broken.load(Ordering::Relaxed)
    }
}

impl Wire {
    pub(super) fn new(socket: Socket) -> (Self, Arc<Tally>) {
        let tally = Arc::new(Tally::default());
        let wire = Self {
            socket,
            tally: tally.clone(),
        };
        (wire, tally)
    }

    fn swallow(&self, written: io::Result<usize>, offered: usize) -> io::Result<usize> {
        match written {
            Err(error) if is_gone(&error) => {
                self.tally.write_broken.store(true, Ordering::Relaxed);
                Ok(offered)
            }
            written => written,
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    )
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => {
                let read = ready!(Pin::new(stream).poll_read(cx, buf));
                Poll::Ready(read.inspect_err(|error| {
                    if let Some(fault) = fault_in(error) {
                        let _ = self.tally.tls_fault.set(fault);
                    }
                }))
            }
        })?;
        let read = buf.filled().len() - before;
        self.tally
            .received
            .fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.tally.is_write_broken() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        });
        Poll::Ready(self.swallow(written, buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = bufs.iter().map(|buf| buf.len()).sum();
        if self.tally.is_write_broken() {
            return Poll::Ready(Ok(offered));
        }
        let written = ready!(match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        });
        Poll::Ready(self.swallow(written, offered))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let broken = self.tally.is_write_broken();
        match &mut self.socket {
            // A socket has nothing to flush.
            Socket::Plain(_) => Poll::Ready(Ok(())),
            Socket::Tls(_) if broken => Poll::Ready(Ok(())),
            Socket::Tls(stream) => {
                let flushed = ready!(Pin::new(stream).poll_flush(cx));
                Poll::Ready(self.swallow(flushed.map(|()| 0), 0).map(|_| ()))
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
