//! One call on a connection: from its head to the last byte of its answer, for the watch; and the answer where it panicked.

use super::outflow::Outflow;
use crate::gate::Line;
use crate::io::room;
use crate::serve::rooms::Lodged;
use crate::serve::watch::Watch;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::Response;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A call in progress, as the watch knows it. Over when this is dropped.
pub struct Busy {
    /// The connection's.
    watch: Arc<Watch>,
    /// HTTP/2: what is on its way to the peer.
    outflow: Option<Outflow>,
}

impl Busy {
    /// The only call of an HTTP/1 connection.
    pub(super) fn alone(watch: &Arc<Watch>) -> Self {
        watch.begin();
        Self {
            watch: Arc::clone(watch),
            outflow: None,
        }
    }

    /// One of an HTTP/2 connection, begun by [`Watch::begin_stream`], which `stream` watches.
    pub(super) fn among(watch: &Arc<Watch>, stream: Arc<Watch>) -> Self {
        Self {
            watch: Arc::clone(watch),
            outflow: Some(Outflow::new(stream)),
        }
    }

    /// Whether its connection closes behind it, over HTTP/1. HTTP/2 has another word for that.
    fn is_last(&self) -> bool {
        self.outflow.is_none() && self.watch.announces()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        match self.outflow {
            None => self.watch.rest(),
            Some(_) => self.watch.end_stream(),
        }
    }
}

/// What of an answer goes over the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it; over HTTP/1, hyper leaves the body of an answer to HEAD out by itself.
    Whole,
    /// The head alone: HEAD over HTTP/2, where hyper would send the body, which no peer may get.
    Head,
}

impl Part {
    /// Of an answer over HTTP/2 to a call by `method`.
    pub(super) fn of(method: &Method) -> Self {
        if *method == Method::HEAD {
            Part::Head
        } else {
            Part::Whole
        }
    }
}

/// A call until its answer's head.
pub struct Answering<F: Future> {
    pub(super) answer: Lodged<F>,
    pub(super) part: Part,
    /// Until it goes over to the answer.
    pub(super) busy: Option<Busy>,
    /// Where what comes before the answer is said, over HTTP/1.1.
    pub(super) line: Option<Arc<Line>>,
    /// The answer, while what came before it is not out yet.
    pub(super) held: Option<Box<Option<F::Output>>>,
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    type Output = Result<Response<Reply<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match self.held.take() {
            Some(held) => *held,
            None => {
                let line = self.line.as_ref();
                line.inspect(|line| line.attend(context));
                let answer = ready!(Pin::new(&mut self.answer).poll(context));
                self.line.as_ref().inspect(|line| line.close());
                answer
            }
        };
        if self.line.as_ref().is_some_and(|line| line.is_unsent()) {
            // hyper flushes before it asks again, and that sends it.
            self.held = Some(Box::new(answer));
            return Poll::Pending;
        }
        let mut response = answer.map_or_else(broken, |response| response.map(Content::Answer));
        if self.part == Part::Head {
            response = without_body(response);
        }
        let busy = self.busy.take();
        // A connection that another protocol takes over closes when that does.
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.line.as_ref().inspect(|line| line.switch());
        } else if busy.as_ref().is_some_and(Busy::is_last) {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response.map(|content| Reply {
            content,
            rest: Bytes::new(),
            end: None,
            busy,
        })))
    }
}

/// The head of an answer, which says how long the body would have been (RFC 9110, section 9.3.2).
fn without_body<B: Body<Data = Bytes> + Unpin>(
    response: Response<Content<B>>,
) -> Response<Content<B>> {
    let (mut head, content) = response.into_parts();
    if !content.is_over()
        && let Some(length) = content.size_hint().exact()
    {
        head.headers
            .entry(header::CONTENT_LENGTH)
            .or_insert_with(|| length.into());
    }
    Response::from_parts(head, Content::Text(None))
}

/// What is said where a call panicked. On HTTP/1 the connection ends with it: how far the call had read is not known.
fn broken<B>() -> Response<Content<B>> {
    let mut response = Response::new(Content::Text(Some(Bytes::from_static(BROKEN.as_bytes()))));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

const BROKEN: &str = r#"{"type":"about:blank","title":"internal error","status":500,"detail":"the gate failed at this call; whether it ran is not known; tell the operators of the gate"}"#;

enum Content<B> {
    Answer(B),
    Text(Option<Bytes>),
}

/// A body that tells the watch when it is over, and on HTTP/2 whether it is taken.
pub struct Reply<B> {
    content: Content<B>,
    /// HTTP/2: what is left of the last piece of content.
    rest: Bytes,
    /// HTTP/2: the content is over, with these trailers.
    end: Option<Option<HeaderMap>>,
    busy: Option<Busy>,
}

impl<B> Reply<B> {
    fn outflow(&self) -> Option<&Outflow> {
        self.busy.as_ref()?.outflow.as_ref()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Reply<B> {
    fn poll_content(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.content {
            Content::Answer(body) => Pin::new(body).poll_frame(context),
            Content::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Content<B> {
    fn is_over(&self) -> bool {
        match self {
            Content::Answer(body) => body.is_end_stream(),
            Content::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Answer(body) => body.size_hint(),
            Content::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Reply<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(outflow) = self.outflow().cloned() else {
            // In a crowd hyper is given no more to keep for a peer that takes nothing.
            if room::is_crowded() && self.busy.as_ref().is_some_and(|busy| busy.watch.withhold()) {
                return Poll::Pending;
            }
            return self.poll_content(context);
        };
        if self.rest.is_empty() && self.end.is_none() {
            match ready!(self.poll_content(context)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(frame))) => self.end = Some(frame.into_trailers().ok()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.end = Some(None),
            }
        }
        if let Some(trailers) = &mut self.end {
            // Before all but its tail was taken the call can't be over: nobody could reset it then.
            if !outflow.may_end(context) {
                return Poll::Pending;
            }
            return Poll::Ready(
                trailers
                    .take()
                    .map(|trailers| Ok(Frame::trailers(trailers))),
            );
        }
        match outflow.piece(&mut self.rest, context) {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && self
                .end
                .as_ref()
                .map_or_else(|| self.content.is_over(), Option::is_none)
            && self.outflow().is_none_or(Outflow::is_small)
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}
