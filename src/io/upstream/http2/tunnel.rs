//! A stream that carries another protocol's bytes (RFC 8441).

use super::pipe::poll_room;
use super::{Sending, Stream};
use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes both ways, with the windows of the stream as back-pressure.
pub(in super::super) struct Tunnel {
    stream: Arc<Stream>,
    incoming: RecvStream,
    /// Received, and not read to its end.
    ahead: Bytes,
}

/// Bytes taken at once from whoever writes.
const WRITE_BYTES_MAX: usize = 64 * 1024;

impl Tunnel {
    pub(in super::super) fn new(stream: Arc<Stream>, incoming: RecvStream) -> Self {
        Self {
            stream,
            incoming,
            ahead: Bytes::new(),
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.ahead.is_empty() {
            match ready!(self.incoming.poll_data(cx)) {
                Some(Ok(bytes)) => self.ahead = bytes,
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..taken]);
        self.ahead.advance(taken);
        let _ = self.incoming.flow_control().release_capacity(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut sending = self.stream.sending();
        let Sending::Open { stream, .. } = &mut *sending else {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        };
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if stream.poll_reset(cx).map_err(broken)?.is_ready() {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        stream.reserve_capacity(buf.len().min(WRITE_BYTES_MAX));
        ready!(poll_room(stream, cx)).map_err(broken)?;
        let taken = stream.capacity().min(buf.len());
        let bytes = Bytes::copy_from_slice(&buf[..taken]);
        stream.send_data(bytes, false).map_err(broken)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task sends what it has.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Sending::Open { stream, .. } = &mut *self.stream.sending() {
            // Said twice, or to nobody: there is nothing left to end.
            let _ = stream.send_data(Bytes::new(), true);
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error
            .into_io()
            .unwrap_or_else(|| ErrorKind::BrokenPipe.into());
    }
    io::Error::new(ErrorKind::ConnectionReset, error)
}
