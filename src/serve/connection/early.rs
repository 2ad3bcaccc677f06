//! An HTTP/1.1 connection's stream, with what hyper can't do: say something before an answer (1xx), and answer an agent
//! that shut its sending side once its request was whole, without waiting for ever for one that is gone.
//!
//! hyper flushes its stream only when it has nothing left to write, and it does so in every round. That is the moment: it
//! stands between two messages, or has yet to begin the answer, which [`super::Answering`] holds back until all is out.
//! Once a request is whole, hyper reads nothing until its answer is over; the end of input is looked for here meanwhile.

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
    /// Read while hyper does not read: the next call's first byte.
    ahead: Option<u8>,
}

impl<S: Stream> Early<S> {
    pub fn new(stream: S, line: Arc<Line>) -> Self {
        Self {
            stream,
            line,
            begun: Bytes::new(),
            ahead: None,
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

    /// Whether the agent sends no more while its call is answered. Whoever is gone altogether fails the call.
    fn look_for_the_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let socket = self.stream.socket();
        let due = self.line.is_whole() && socket.watched.in_call() && !socket.ended;
        if !due || self.ahead.is_some() {
            return Ok(());
        }
        if self.ends(context)? {
            self.stream.socket().watched.halve();
        }
        Ok(())
    }

    /// The answer is written to its end: whether the agent was still there for it.
    fn tell_written(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let ended = self.stream.socket().ended || (self.ahead.is_none() && self.ends(context)?);
        self.line.written(!ended);
        if self.ahead.is_some() {
            // It was taken from under hyper, which is to look again.
            context.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Whether the agent sends no more. A first byte of its next call is kept.
    fn ends(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut byte = [0];
        let mut room = ReadBuf::new(&mut byte);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut room)?;
        if read.is_ready() {
            self.ahead = room.filled().first().copied();
        }
        Ok(read.is_ready() && self.ahead.is_none())
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
        if let Some(byte) = self.ahead.take() {
            buffer.put_slice(&[byte]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
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
        self.look_for_the_end(context)?;
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.line.is_awaited() {
            self.tell_written(context)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
