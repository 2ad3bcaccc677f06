//! One connection from its first byte to its last: hyper reads and writes HTTP/1.1, the watch bounds it, a panic in one
//! call answers 500 and takes nothing else down.
//!
//! Half-closed connections are not served: an agent that shuts its sending side has left, because a departed process
//! looks the same and its call must be cancelled. It refuses to know what a call means; that is the handler's.

use super::caps::Admission;
use super::rooms::{Lodged, Rooms};
use super::watch::{Order, Watch, Watched};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// Longest request head (and trailer section). hyper answers 431, or 414 where the request line alone passes 64 KiB.
const HEAD_BYTES_MAX: usize = 96 * 1024;
/// Buffer of one connection in each direction, where back-pressure begins.
const BUFFER_BYTES_MAX: usize = 128 * 1024;
/// What is read and thrown away after the last answer, so that the kernel does not reset it away from the peer.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER_MAX: Duration = Duration::from_secs(2);

/// An accepted connection, not yet served.
#[derive(Debug)]
pub struct Link {
    /// The socket.
    pub stream: TcpStream,
    /// Its other end.
    pub peer: SocketAddr,
    /// Its place in the sweep.
    pub watched: Watched,
    /// Its place under the caps.
    pub admission: Admission,
}

/// How hyper is set up. No timer: the watch bounds heads and idling without one.
pub fn protocol() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None)
        .half_close(false)
        .keep_alive(true)
        .pipeline_flush(false)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    http
}

/// Serves calls until the peer leaves, a deadline passes or the watch says to stop.
pub async fn serve<H, F, B>(link: Link, http: &http1::Builder, rooms: &Arc<Rooms<F>>, handle: H)
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Link {
        stream,
        peer,
        watched,
        admission: _admission,
    } = link;
    let socket = TokioIo::new(Socket {
        stream,
        watch: watched.share(),
        ended: false,
    });
    let watch = watched.share();
    let service = service_fn(|request| {
        watch.begin();
        Answering {
            answer: rooms.lodge(handle(request)),
            watch: Arc::clone(&watch),
        }
    });
    let mut connection = http.serve_connection(socket, service);
    let mut finishing = false;
    let mut quiet = false;
    let end = poll_fn(|context| {
        watched.attend(context);
        match watched.order() {
            Order::Go => {}
            Order::Finish if finishing => {}
            Order::Finish => {
                finishing = true;
                quiet = !watched.in_call();
                Pin::new(&mut connection).graceful_shutdown();
            }
            Order::Late => return Poll::Ready(End::Late),
            Order::Cut => return Poll::Ready(End::Cut),
        }
        Pin::new(&mut connection).poll(context).map(End::Closed)
    })
    .await;
    let socket = connection.into_parts().io.into_inner();
    match end {
        End::Closed(result) => {
            if let Err(error) = result {
                tracing::debug!(%peer, %error, "a connection ended early");
            }
            // Closed between calls because the gate stops: nothing said could be lost.
            if !socket.ended && !quiet {
                Box::pin(linger(socket.stream)).await;
            }
        }
        End::Late => {
            // One attempt: who is too slow to send is not waited for to read.
            let _ = socket.stream.try_write(late().as_bytes());
            Box::pin(linger(socket.stream)).await;
        }
        End::Cut => {
            // Without this the kernel would go on for minutes to deliver what the peer does not take.
            let _ = socket.stream.set_zero_linger();
        }
    }
}

/// How the driving of a connection ended.
enum End {
    Closed(hyper::Result<()>),
    Late,
    Cut,
}

/// A head that did not come in time, as the gate's own problem document.
fn late() -> String {
    let document = r#"{"type":"/.toolgate/problems/request_malformed","title":"Malformed request","status":408,"detail":"the request's head did not arrive in time; send it again","reason":"request_malformed","next":{"action":"fix_request"}}"#;
    format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n{document}",
        document.len()
    )
}

/// Closing a socket with unread input resets it, and a reset can overtake the answer (RFC 9112, 9.6): says that nothing
/// more is sent, then reads what the peer still sends, within bounds.
/// Its buffer is boxed by the callers: an idle connection must not carry it.
async fn linger(mut stream: TcpStream) {
    let discard = async {
        let mut left = LINGER_BYTES_MAX;
        let mut buffer = [0; 4096];
        stream.shutdown().await?;
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<_, io::Error>(())
    };
    // Either way the socket is closed now.
    let _ = tokio::time::timeout(LINGER_MAX, discard).await;
}

/// A call until its answer's head; tells the watch when the answer is over.
struct Answering<F> {
    answer: Lodged<F>,
    watch: Arc<Watch>,
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Response<B>>,
{
    type Output = Result<Response<Reply<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        let mut response = answer.map_or_else(broken, |response| response.map(Content::Answer));
        if self.watch.announces() {
            response.headers_mut().insert(
                http::header::CONNECTION,
                http::HeaderValue::from_static("close"),
            );
        }
        let watch = Arc::clone(&self.watch);
        Poll::Ready(Ok(response.map(|content| Reply { content, watch })))
    }
}

/// The reason of a panic is in the log (the panic hook writes it), not in the answer.
fn broken<B>() -> Response<Content<B>> {
    let mut response = Response::new(Content::Text(Some(Bytes::from_static(BROKEN.as_bytes()))));
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    let headers = response.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(
        http::header::CONNECTION,
        http::HeaderValue::from_static("close"),
    );
    response
}

const BROKEN: &str = r#"{"type":"about:blank","title":"internal error","status":500,"detail":"the gate failed at this call; whether it ran is not known; tell the operators of the gate"}"#;

enum Content<B> {
    Answer(B),
    Text(Option<Bytes>),
}

/// A body that tells the watch when it is over.
struct Reply<B> {
    content: Content<B>,
    watch: Arc<Watch>,
}

impl<B> Drop for Reply<B> {
    fn drop(&mut self) {
        self.watch.rest();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Reply<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.content {
            Content::Answer(body) => Pin::new(body).poll_frame(context),
            Content::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Answer(body) => body.is_end_stream(),
            Content::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Answer(body) => body.size_hint(),
            Content::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}

/// The socket, noting its movements.
struct Socket {
    stream: TcpStream,
    watch: Arc<Watch>,
    /// The peer has said that it sends no more.
    ended: bool,
}

impl Socket {
    fn note(&self, poll: &Poll<io::Result<usize>>) {
        match poll {
            Poll::Ready(Ok(_)) => self.watch.sent(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watch.blocked(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() == before {
            self.ended = true;
        } else {
            self.watch.received();
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
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(&poll);
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
