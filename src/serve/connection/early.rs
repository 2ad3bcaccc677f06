//! An HTTP/1.1 connection's stream, with what hyper can't do: say something before an answer (1xx), and answer an agent
//! that shut its sending side once its request was whole.
//!
//! hyper flushes its stream only when it has nothing left to write, and it does so in every round. That is the moment: it
//! stands between two messages, or has yet to begin the answer, which [`super::Answering`] holds back until all is out.

use super::socket::{Socket, Stream};
use crate::gate::Line;
use bytes::{Buf as _, Bytes};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream and the line beside it.
pub(super) struct Early<S> {
    pub stream: S,
    line: Arc<Line>,
    /// Begun and not yet written to its end: nothing of hyper's may come between.
    begun: Bytes,
    /// The end of input came in the middle of a call, and hyper was not told.
    halved: bool,
}

impl<S: Stream> Early<S> {
    pub fn new(stream: S, line: Arc<Line>) -> Self {
        Self {
            stream,
            line,
            begun: Bytes::new(),
            halved: false,
        }
    }

    fn poll_begun(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.begun.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.begun))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_begun(context))?;
            self.begun = self.line.heads();
            if self.begun.is_empty() && self.line.sent() {
                // The answer that waited for this may begin.
                context.waker().wake_by_ref();
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: Stream> Stream for Early<S> {
    fn socket(&mut self) -> &mut Socket {
        self.stream.socket()
    }
}

impl<S: Stream> AsyncRead for Early<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let watch = &this.stream.socket().watched;
        if buffer.filled().len() == before && this.line.is_whole() && watch.in_call() {
            // To hyper the end of input is the end of the call. It hears of it when the answer is over.
            watch.halve();
            this.halved = true;
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Early<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.line.is_unsent() {
            ready!(self.poll_line(context))?;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.halved && !self.stream.socket().watched.in_call() {
            // All is out. hyper thinks that nothing can be read yet, and reads again only when it is woken.
            self.halved = false;
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
