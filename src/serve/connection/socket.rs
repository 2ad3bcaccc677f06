//! The socket of one connection, noting its movements, and holding its place under the caps and in the sweep for as long as
//! anybody holds the socket: an upgraded connection outlives the one that served it.

use super::preface::Ahead;
use crate::serve::caps::Admission;
use crate::serve::watch::{Order, Watch, Watched, Way};
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What is read and thrown away after the last answer, so that the kernel does not reset it away from the peer.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER_MAX: Duration = Duration::from_secs(2);

/// What hyper reads and writes: a socket, or TLS over one.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The socket below.
    fn socket(&mut self) -> &mut Socket;
}

/// The socket, noting its movements.
pub(super) struct Socket {
    stream: TcpStream,
    /// Its place in the sweep.
    pub watched: Watched,
    /// Its place under the caps.
    pub admission: Admission,
    /// What was read to tell HTTP/2 from HTTP/1.
    pub ahead: Ahead,
    /// The peer has said that it sends no more.
    pub ended: bool,
}

impl Socket {
    pub fn new(stream: TcpStream, watched: Watched, admission: Admission) -> Self {
        Self {
            stream,
            watched,
            admission,
            ahead: Ahead::default(),
            ended: false,
        }
    }

    /// What was ordered of an upgraded connection, which nobody else looks after.
    fn obey(&self, way: Way, context: &Context<'_>) -> io::Result<()> {
        let watch: &Watch = &self.watched;
        if watch.is_upgraded() && watch.attend_upgraded(way, context) == Order::Cut {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    fn note(&self, poll: &Poll<io::Result<usize>>) {
        match poll {
            Poll::Ready(Ok(_)) => self.watched.sent(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watched.blocked(),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.watched.order() == Order::Cut {
            // Without this the kernel would go on for minutes to deliver what the peer does not take.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl Stream for Socket {
    fn socket(&mut self) -> &mut Socket {
        self
    }
}

impl Stream for TlsStream<Socket> {
    fn socket(&mut self) -> &mut Socket {
        self.get_mut().0
    }
}

/// Closing a socket with unread input resets it, and a reset can overtake the answer (RFC 9112, 9.6): says that nothing
/// more is sent, then reads what the peer still sends, within bounds.
/// Its buffer is boxed by the callers: an idle connection must not carry it.
pub(super) async fn linger(mut stream: impl Stream, last_words: Bytes) {
    let discard = async {
        let mut left = LINGER_BYTES_MAX;
        let mut buffer = [0; 4096];
        if !last_words.is_empty() {
            stream.write_all(&last_words).await?;
        }
        stream.shutdown().await?;
        // Below TLS, if any: what still comes is not looked at.
        let socket = &mut stream.socket().stream;
        while left > 0 {
            match socket.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<_, io::Error>(())
    };
    // Either way the socket is closed now.
    let _ = tokio::time::timeout(LINGER_MAX, discard).await;
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.obey(Way::In, context)?;
        if self.ahead.give(buffer) {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() == before {
            self.ended = true;
        } else {
            self.watched.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.obey(Way::Out, context)?;
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(&poll);
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.obey(Way::Out, context)?;
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(&poll);
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream that comes back when it is dropped: hyper gives none back from HTTP/2.
pub(super) struct Lent<S> {
    /// Taken only when dropped.
    stream: Option<S>,
    home: Home<S>,
}

/// Where it comes back to.
pub(super) type Home<S> = Arc<Mutex<Option<S>>>;

impl<S: Stream> Lent<S> {
    pub fn new(stream: S) -> (Self, Home<S>) {
        let home = Home::default();
        let lent = Self {
            stream: Some(stream),
            home: Arc::clone(&home),
        };
        (lent, home)
    }

    fn pinned(&mut self) -> Pin<&mut S> {
        let stream = self.stream.as_mut();
        Pin::new(stream.expect("a stream is given back only by dropping what it was lent to"))
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        *home = self.stream.take();
    }
}

impl<S: Stream> AsyncRead for Lent<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.pinned().poll_read(context, buffer)
    }
}

impl<S: Stream> AsyncWrite for Lent<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_shutdown(context)
    }
}
