//! The answer's body on its way to the agent, and the request's on its way to the backend.

use super::super::body::{Meter, RequestBody};
use super::super::fields::TrailerRules;
use super::Reuse;
use crate::io::sweep::{Guard, Lapse};
use crate::io::upstream::{Answer, BoxError, Lease};
use crate::ledger::record::Fault;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The backend's answer, streamed as it comes: one chunk at a time, and not before the agent's connection asks for it.
///
/// It may be silent for as long as it likes (events are), but not beyond its session. Dropped before its end, it closes
/// the connection to the backend or resets the call's stream on it, which is how a backend learns that the agent left.
pub struct UpstreamBody {
    incoming: Answer,
    /// The connection and the watch, until the end.
    running: Option<Running>,
    meter: Arc<Meter>,
    /// Whether what comes is what goes on.
    counts: bool,
}

struct Running {
    lease: Lease,
    guard: Guard,
    reuse: Reuse,
}

/// An answer that did not come to its end. What was sent of it is sent; the agent's connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// The session was revoked, expired or quarantined meanwhile.
    #[error("the session ended during the answer")]
    SessionEnded,
    /// The connection broke, or the framing is malformed.
    #[error("the backend's answer broke off")]
    UpstreamBroke,
    /// The agent was still sending its body, and failed.
    #[error("the request's body failed during the answer")]
    AgentFailed,
    /// What the answer says could not be made durable before it went on.
    #[error("what the answer says could not be made durable")]
    Unsettled,
}

impl StreamFault {
    /// As the outcome records it.
    pub fn record(self) -> Fault {
        match self {
            StreamFault::SessionEnded => Fault::SessionEnded,
            StreamFault::UpstreamBroke => Fault::UpstreamBroke,
            StreamFault::AgentFailed => Fault::AgentFailed,
            StreamFault::Unsettled => Fault::Internal,
        }
    }
}

impl UpstreamBody {
    pub(super) fn new(
        incoming: Answer,
        lease: Lease,
        reuse: Reuse,
        guard: Guard,
        meter: Arc<Meter>,
    ) -> Self {
        let mut body = Self {
            incoming,
            running: Some(Running {
                lease,
                guard,
                reuse,
            }),
            meter,
            counts: true,
        };
        body.finish_if_over();
        body
    }

    /// Something else goes on than what comes: who writes that counts it.
    pub(in crate::gate) fn uncounted(&mut self) {
        self.counts = false;
    }

    /// What comes goes on after all.
    pub(in crate::gate) fn counted(&mut self) {
        self.counts = true;
    }

    fn finish_if_over(&mut self) {
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }

    /// The answer was read to its end.
    fn finish(&mut self) {
        if let Some(Running {
            lease,
            guard,
            reuse,
        }) = self.running.take()
        {
            // The watch first: it could cut the next call on this connection.
            drop(guard);
            match reuse {
                Reuse::Yes => lease.give_back(),
                Reuse::No => drop(lease),
            }
        }
    }

    fn fail(&mut self, fault: StreamFault) -> Poll<Option<Result<Frame<Bytes>, StreamFault>>> {
        // Closes the connection to the backend, or resets the stream.
        self.running = None;
        Poll::Ready(Some(Err(fault)))
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = StreamFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamFault>>> {
        let this = self.get_mut();
        let Some(running) = &this.running else {
            return Poll::Ready(None);
        };
        // Before anything that is ready: a backend that never pauses must not outlive the session.
        match running.guard.poll(cx) {
            Poll::Ready(Lapse::Ended | Lapse::Deadline) => {
                return this.fail(StreamFault::SessionEnded);
            }
            Poll::Pending => {}
        }
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(chunk) = frame.data_ref() {
                    if this.counts {
                        this.meter.count_out(chunk.len());
                    }
                    this.finish_if_over();
                } else {
                    // Trailers are the end.
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => match this.meter.body_fault() {
                Some(_) => this.fail(StreamFault::AgentFailed),
                None => this.fail(StreamFault::UpstreamBroke),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.running.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The agent's body as the upstream connection carries it.
pub(super) struct Carried {
    pub(super) body: RequestBody,
    /// HTTP/1.1 sends those trailers alone that were announced, HTTP/2 all there are: so they are judged here.
    pub(super) trailers: TrailerRules,
}

impl Body for Carried {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        polled
            .map_ok(|mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    this.trailers.clean(trailers);
                }
                frame
            })
            .map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
