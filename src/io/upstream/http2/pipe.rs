//! A request's body on its way into a stream.

use super::super::Outgoing;
use super::{Sending, Stream};
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Sends a body as the backend takes it. Ready when there is nothing more to send, or nobody to send it to: what that
/// means is the answer's to say.
pub(super) struct Pipe {
    body: Outgoing,
    stream: Arc<Stream>,
    /// Read, and waiting for the backend's window. One chunk, so that the agent is read no faster than the backend reads.
    chunk: Option<Chunk>,
    /// Whether anything was taken of the body, so that it can't be sent again.
    touched: bool,
}

struct Chunk {
    bytes: Bytes,
    last: bool,
}

impl Pipe {
    pub(super) fn new(body: Outgoing, stream: Arc<Stream>) -> Self {
        Self {
            body,
            stream,
            chunk: None,
            touched: false,
        }
    }

    /// The body, if nothing was taken of it.
    pub(super) fn into_untouched(self) -> Option<Outgoing> {
        (!self.touched).then_some(self.body)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            {
                let mut sending = self.stream.sending();
                let Sending::Open { stream, .. } = &mut *sending else {
                    return Poll::Ready(Ok(()));
                };
                // An answer may come with "send no more".
                if stream.poll_reset(cx)?.is_ready() {
                    return Poll::Ready(Ok(()));
                }
                if self.chunk.is_some() {
                    ready!(poll_room(stream, cx))?;
                    if let Some(Chunk { bytes, last }) = self.chunk.take() {
                        stream.send_data(bytes, last)?;
                        if last {
                            return Poll::Ready(Ok(()));
                        }
                    }
                }
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            self.touched = true;
            let mut sending = self.stream.sending();
            let Sending::Open { stream, .. } = &mut *sending else {
                return Poll::Ready(Ok(()));
            };
            match frame {
                None => {
                    stream.send_data(Bytes::new(), true)?;
                    return Poll::Ready(Ok(()));
                }
                Some(Err(_)) => {
                    // The agent failed. The backend must not take what it has for the whole.
                    stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    // An end that comes by itself needs no room, and waiting for some would be waiting for ever.
                    Ok(bytes) if bytes.is_empty() => {
                        if self.body.is_end_stream() {
                            stream.send_data(bytes, true)?;
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Ok(bytes) => {
                        // Claims no more of the connection's window than it must: `send_data` raises it.
                        stream.reserve_capacity(1);
                        self.chunk = Some(Chunk {
                            last: self.body.is_end_stream(),
                            bytes,
                        });
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            stream.reserve_capacity(0);
                            stream.send_trailers(trailers)?;
                            return Poll::Ready(Ok(()));
                        }
                    }
                },
            }
        }
    }
}

impl Future for Pipe {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // What went wrong with the stream, its answer says as well.
        self.poll_send(cx).map(|_| ())
    }
}

/// Ready when at least a byte may be sent.
pub(super) fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), h2::Error>> {
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(granted) => {
                granted?;
            }
            None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
        }
    }
    Poll::Ready(Ok(()))
}
