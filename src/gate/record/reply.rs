//! The body of every answer. It carries the call's [`Entry`], so that the end of the body is the end of the record.

use super::Entry;
use crate::gate::forward::UpstreamBody;
use crate::gate::hold::HeldBody;
use crate::gate::mcp::Rewritten;
use crate::ledger::record::Fault;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::error::Error;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What the agents' listener sends as a body.
pub struct ReplyBody(Option<Reply>);

struct Reply {
    content: Content,
    entry: Box<Entry>,
    /// Where the length was announced: hyper does not ask for the end once that much was sent.
    announced: Option<u64>,
}

/// Where an answer's bytes come from.
pub(in crate::gate) enum Content {
    /// The gate itself.
    Own(Bytes),
    /// The backend, streamed.
    Upstream(UpstreamBody),
    /// The backend, of a call that people agreed to.
    Held(Box<HeldBody>),
    /// The backend, message by message.
    Rewritten(Box<Rewritten>),
}

impl ReplyBody {
    pub(in crate::gate) fn new(mut content: Content, entry: Box<Entry>) -> Self {
        match &mut content {
            Content::Held(body) => body.set_out(),
            Content::Rewritten(body) => body.set_out(),
            Content::Own(_) | Content::Upstream(_) => {}
        }
        Self(Some(Reply {
            announced: match &content {
                Content::Own(_) | Content::Held(_) | Content::Rewritten(_) => None,
                Content::Upstream(body) => body.size_hint().exact(),
            },
            content,
            entry,
        }))
    }

    /// None: what follows the head is no body, and its end is recorded elsewhere.
    pub(in crate::gate) fn none() -> Self {
        Self(None)
    }
}

impl Reply {
    /// Whether nothing is left to send.
    fn complete(&self) -> bool {
        match &self.content {
            // HEAD, or an agent that did not care to read: the gate's own answer was whole.
            Content::Own(_) => true,
            Content::Held(body) => body.is_over(),
            Content::Rewritten(body) => body.is_over(),
            Content::Upstream(body) => {
                body.is_end_stream()
                    || self
                        .announced
                        .is_some_and(|bytes| self.entry.meter.bytes_out() >= bytes)
            }
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(this) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = match &mut this.content {
            Content::Own(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Content::Own(bytes) => {
                this.entry.meter.count_out(bytes.len());
                return Poll::Ready(Some(Ok(Frame::data(mem::take(bytes)))));
            }
            Content::Upstream(body) => Pin::new(body).poll_frame(cx),
            Content::Held(body) => {
                let polled = body.poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    this.entry.meter.count_out(bytes);
                }
                polled
            }
            Content::Rewritten(body) => {
                let polled = body.poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    this.entry.meter.count_out(bytes);
                }
                polled
            }
        };
        match ready!(polled) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(fault)) => {
                this.entry.settle(Some(fault.record()));
                Poll::Ready(Some(Err(fault.into())))
            }
            None => {
                this.entry.settle(None);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.0.as_ref().map(|reply| &reply.content) {
            None => true,
            Some(Content::Own(bytes)) => bytes.is_empty(),
            Some(Content::Upstream(body)) => body.is_end_stream(),
            Some(Content::Held(body)) => body.is_end_stream(),
            Some(Content::Rewritten(body)) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_ref().map(|reply| &reply.content) {
            None => SizeHint::with_exact(0),
            Some(Content::Own(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Some(Content::Upstream(body)) => body.size_hint(),
            Some(Content::Held(body)) => body.size_hint(),
            Some(Content::Rewritten(_)) => SizeHint::new(),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let ended = (!self.complete()).then_some(Fault::AgentLeft);
        self.entry.settle(ended);
    }
}
