//! An answer's body as it comes out of a stream.

use super::super::ExchangeFault;
use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};
use std::task::{Context, Poll, ready};

/// An answer's body. What is not read stays within the stream's window, and so at the backend.
pub(in super::super) struct Body {
    stream: RecvStream,
    /// What `Content-Length` says is still to come.
    left: Option<u64>,
    /// Data is over; trailers may follow.
    trailing: bool,
    over: bool,
}

impl Body {
    /// The head says how long it is: h2 holds the backend to it, and the agent's side is to be told.
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH);
        Self {
            over: stream.is_end_stream(),
            stream,
            left: length.and_then(|value| value.to_str().ok()?.parse().ok()),
            trailing: false,
        }
    }

    pub(in super::super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeFault>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if !self.trailing {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // Handed on: the backend may send as much again.
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                    self.left = self
                        .left
                        .map(|left| left.saturating_sub(bytes.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(error)) => return self.broke(&error),
                None => self.trailing = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => {
                self.over = true;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Err(error) => self.broke(&error),
        }
    }

    fn broke(&mut self, error: &h2::Error) -> Poll<Option<Result<Frame<Bytes>, ExchangeFault>>> {
        self.over = true;
        // RFC 9113 section 8.1: a whole answer to a request that need not be sent on ends so.
        let whole = error.is_remote()
            && error.reason() == Some(Reason::NO_ERROR)
            && self.left.is_none_or(|left| left == 0);
        if whole {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Err(ExchangeFault::of_http2(error))))
    }

    pub(in super::super) fn is_end_stream(&self) -> bool {
        self.over || self.stream.is_end_stream()
    }

    pub(in super::super) fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
