//! An HTTP/1.1 connection's stream as hyper may see it: judged before it is read (see [`crate::serve::heads`]).
//!
//! What came is judged where it lies, in hyper's own buffer, and passes without a copy; only a head that is not whole yet
//! is held back here. Behind a head that is refused nothing comes any more: hyper finds the end of input, finishes the
//! calls before it and stops, and then the connection says why. A body that is malformed fails its call.
//! Once another protocol has taken over, this is a stream like any other.

use super::early::Early;
use super::socket::Stream;
use crate::gate::Flaw;
use crate::serve::heads::{Judged, Then, Torn, Wire};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream and who reads it first.
pub(super) struct Strict<S> {
    stream: Early<S>,
    wire: Wire,
    state: State,
    /// Came, and is not hyper's yet: what passed, and behind it a part of a head or what may be another protocol's. Empty,
    /// and without memory of its own, nearly always.
    held: Vec<u8>,
    /// Of it, this much passed.
    passed: usize,
}

/// What is read at once of a connection's first head.
const FIRST_BYTES: usize = 2048;

/// What is to be done once all that passed is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Http,
    /// Behind a request for another protocol.
    Perhaps,
    /// Another protocol has taken over.
    Other,
    /// The next head is not read. Hyper was told that there is no more, or not yet.
    Refused {
        flaw: Flaw,
        told: bool,
    },
    Torn(Torn),
}

impl<S: Stream> Strict<S> {
    pub fn new(stream: Early<S>) -> Self {
        Self {
            stream,
            wire: Wire::default(),
            state: State::Http,
            held: Vec::new(),
            passed: 0,
        }
    }

    /// Waits until there is something for hyper to read: where the first head does not come, a connection has none of
    /// hyper's buffers.
    ///
    /// # Errors
    /// The stream's.
    pub async fn first(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_first(context)).await
    }

    fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.passed == 0 && self.state == State::Http {
            let mut piece = [0; FIRST_BYTES];
            let mut buffer = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                // Hyper will find the same.
                break;
            }
            self.held.extend_from_slice(buffer.filled());
            self.judge_held();
        }
        Poll::Ready(Ok(()))
    }

    /// The stream, and why its last head was not read, if it was hyper's turn to read it.
    pub fn into_parts(self) -> (S, Option<Flaw>) {
        let refused = match self.state {
            State::Refused { flaw, told: true } => Some(flaw),
            _ => None,
        };
        (self.stream.stream, refused)
    }

    fn note(&mut self, then: Then) {
        self.state = match then {
            Then::Go => State::Http,
            Then::Wait => State::Perhaps,
            Then::Refuse(flaw) => State::Refused { flaw, told: false },
            Then::Break(torn) => State::Torn(torn),
        };
    }

    /// Judges what is held.
    fn judge_held(&mut self) {
        let Judged { passed, then } = self.wire.judge(&self.held);
        self.passed = passed;
        self.note(then);
    }

    /// Hands out what passed of what is held.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let given = self.passed.min(buffer.remaining());
        buffer.put_slice(&self.held[..given]);
        self.passed -= given;
        if given == self.held.len() {
            self.held = Vec::new();
        } else {
            self.held.drain(..given);
        }
    }

    /// Reads and judges once. True: hyper has something.
    fn poll_http(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let came = &buffer.filled()[before..];
        if came.is_empty() {
            // The end. A head that is not whole is none.
            return Poll::Ready(Ok(true));
        }
        if !self.held.is_empty() {
            self.held.extend_from_slice(came);
            buffer.set_filled(before);
            self.judge_held();
            return Poll::Ready(Ok(false));
        }
        let Judged { passed, then } = self.wire.judge(came);
        if passed < came.len() {
            self.held.extend_from_slice(&came[passed..]);
            buffer.set_filled(before + passed);
        }
        self.note(then);
        Poll::Ready(Ok(passed > 0))
    }
}

impl<S: Stream> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.passed > 0 {
                this.give(buffer);
                return Poll::Ready(Ok(()));
            }
            match &mut this.state {
                State::Http => {
                    if ready!(this.poll_http(context, buffer))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                // Whoever reads now: hyper, because HTTP goes on, or who took the connection over.
                State::Perhaps => {
                    if this.stream.socket().watched.is_upgraded() {
                        this.state = State::Other;
                        this.passed = this.held.len();
                        continue;
                    }
                    this.wire.resume();
                    this.judge_held();
                }
                State::Other => return Pin::new(&mut this.stream).poll_read(context, buffer),
                State::Refused { told, .. } => {
                    *told = true;
                    return Poll::Ready(Ok(()));
                }
                State::Torn(torn) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, *torn);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl<S: Stream> AsyncWrite for Strict<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.state {
            // The last word is not hyper's: it is still to be written.
            State::Refused { told: true, .. } => Poll::Ready(Ok(())),
            _ => Pin::new(&mut self.stream).poll_shutdown(context),
        }
    }
}
