//! One connection as HTTP drives it, with what the gate must know about it besides.

use super::sockets::Ticket;
use super::strict::{Asked, Nonsense, Reader};
use crate::io::room;
use crate::io::tls::client::fault_in;
use crate::ledger::record::TlsFault;
use socket2::SockRef;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
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
///
/// Over HTTP/1.1 what comes is judged first, and a request is not written behind bytes that came before it: a backend, or
/// who speaks through one, could have laid an answer there for the next call.
pub(super) struct Wire {
    socket: Socket,
    tally: Arc<Tally>,
    /// Over HTTP/1.1.
    reader: Option<Reader>,
    /// Its right to be.
    _ticket: Ticket,
}

/// What is read at once in a crowd: what lies here unread of an answer that nobody takes is a few times as much. Less than
/// hyper's smallest buffer, or it would take this for a reason to have larger ones.
const SIP_BYTES: usize = 4 * 1024;

/// What is known of a connection from outside the task that drives it.
#[derive(Default)]
pub(super) struct Tally {
    received: AtomicU64,
    write_broken: AtomicBool,
    tls_fault: OnceLock<TlsFault>,
    /// An [`Asked`]: the request of which nothing is written yet.
    asking: AtomicU8,
}

impl Tally {
    /// The next byte that is written begins a request.
    pub(super) fn ask(&self, asked: Asked) {
        self.asking.store(asked as u8, Ordering::Relaxed);
    }

    fn take_asked(&self) -> Option<Asked> {
        if self.asking.load(Ordering::Relaxed) == Asked::Nothing as u8 {
            return None;
        }
        let asked = self.asking.swap(Asked::Nothing as u8, Ordering::Relaxed);
        Some(if asked == Asked::Head as u8 {
            Asked::Head
        } else if asked == Asked::Switch as u8 {
            Asked::Switch
        } else {
            Asked::Answer
        })
    }

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
    /// For HTTP/1.1.
    pub(super) fn http1(socket: Socket, ticket: Ticket) -> (Self, Arc<Tally>) {
        Self::with(socket, ticket, Some(Reader::default()))
    }

    /// For HTTP/2, whose reader is strict by itself.
    pub(super) fn http2(socket: Socket, ticket: Ticket) -> (Self, Arc<Tally>) {
        Self::with(socket, ticket, None)
    }

    fn with(socket: Socket, ticket: Ticket, reader: Option<Reader>) -> (Self, Arc<Tally>) {
        let tally = Arc::new(Tally::default());
        let wire = Self {
            socket,
            tally: tally.clone(),
            reader,
            _ticket: ticket,
        };
        (wire, tally)
    }

    /// Before a request's first byte: nothing may have come that nobody asked for.
    fn begin(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        let Some(asked) = self.tally.take_asked() else {
            return Ok(());
        };
        let unread = match &mut self.socket {
            // The kernel is asked, not the runtime: that may not have heard of it yet.
            Socket::Plain(stream) => {
                let mut byte = [MaybeUninit::uninit()];
                SockRef::from(&*stream).peek(&mut byte).unwrap_or(0)
            }
            Socket::Tls(stream) => {
                let mut byte = [0];
                let mut unread = ReadBuf::new(&mut byte);
                // Whatever else came of it, whoever reads next will find.
                let _ = Pin::new(stream).poll_read(cx, &mut unread);
                unread.filled().len()
            }
        };
        if unread > 0 {
            return Err(Nonsense::Unasked.into());
        }
        reader.ask(asked);
        Ok(())
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => {
                let read = ready!(Pin::new(stream).poll_read(cx, buf));
                Poll::Ready(read.inspect_err(|error| {
                    if let Some(fault) = fault_in(error) {
                        let _ = self.tally.tls_fault.set(fault);
                    }
                }))
            }
        }
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
        if self.reader.is_some() && buf.remaining() > SIP_BYTES && room::is_crowded() {
            let mut sip = [0; SIP_BYTES];
            let mut read = ReadBuf::new(&mut sip);
            ready!(self.poll_socket(cx, &mut read))?;
            buf.put_slice(read.filled());
        } else {
            ready!(self.poll_socket(cx, buf))?;
        }
        let read = &buf.filled()[before..];
        self.tally
            .received
            .fetch_add(read.len() as u64, Ordering::Relaxed);
        if let Some(reader) = &mut self.reader {
            reader.read(read)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin(cx)?;
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
        self.begin(cx)?;
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
