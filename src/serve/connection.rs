//! One connection from its first byte to its last: TLS where the listener has it, then HTTP/2 or HTTP/1.1, by ALPN or, in
//! plain text, by the preface. hyper reads and writes it, the watch bounds it, a panic in one call answers 500 and takes
//! nothing else down.
//!
//! An agent that shuts its sending side once its request is whole gets its answer over HTTP/1.1; but a departed process looks
//! the same and its call must be cancelled, so it is not waited for long while there is nothing to send. It refuses to know what a call means; that is the handler's.

mod call;
mod early;
mod frames;
mod outflow;
mod preface;
mod socket;
mod streams;

pub use call::{Answering, Reply};
pub use streams::{AnyThread, Next, OwnThread, Plane};

use self::call::{Busy, Part};
use self::early::Early;
use self::frames::Frames;
use self::preface::Version;
use self::socket::{Lent, Socket, Stream, linger};
use super::caps::Admission;
use super::rooms::Rooms;
use super::watch::{Order, Watch, Watched};
use crate::gate::{Channel, Familiar, Line, Peer};
use crate::io::tls;
use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// Longest request head (and trailer section). hyper answers 431, or 414 where the request line alone passes 64 KiB.
const HEAD_BYTES_MAX: usize = 96 * 1024;
/// Buffer of one HTTP/1 connection in each direction, where back-pressure begins.
const BUFFER_BYTES_MAX: usize = 128 * 1024;

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

/// What a listener speaks.
#[derive(Debug)]
pub struct Protocols {
    http1: http1::Builder,
    tls: Option<Arc<tls::server::Server>>,
}

impl Protocols {
    /// Both versions of HTTP; over TLS, or in plain text. No timer: the watch bounds heads and idling without one.
    pub fn new(tls: Option<Arc<tls::server::Server>>) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .header_read_timeout(None)
            // See `early`: an agent that sends no more may still read.
            .half_close(true)
            .keep_alive(true)
            .pipeline_flush(false)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(BUFFER_BYTES_MAX);
        Self { http1, tls }
    }
}

/// Serves calls until the peer leaves, a deadline passes or the watch says to stop.
pub async fn serve<P, H, F, B>(link: Link, protocols: &Protocols, rooms: &Arc<Rooms<F>>, handle: H)
where
    P: Plane<F, B>,
    H: Fn(Request<Incoming>, Peer) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let watch = link.watched.share();
    let address = link.peer;
    let mut socket = Socket::new(link.stream, link.watched, link.admission);
    let handle = &handle;
    let familiar = Familiar::default();
    let serving = |channel| {
        let familiar = familiar.clone();
        Serving {
            watch: &watch,
            rooms,
            handle: move |request, line| {
                let peer = Peer {
                    address,
                    channel,
                    line,
                    familiar: familiar.clone(),
                };
                handle(request, peer)
            },
        }
    };
    let Some(tls) = &protocols.tls else {
        let serving = serving(Channel::Plain);
        return match bounded(&watch, preface::sniff(&mut socket)).await {
            Ok(Ok(Version::One)) => serving.http1(&protocols.http1, socket).await,
            // Boxed: it is several times as large, and most plain connections are HTTP/1.
            Ok(Ok(Version::Two)) => Box::pin(serving.http2::<P, _>(socket)).await,
            Ok(Err(error)) => tracing::debug!(peer = %address, %error, "a connection ended early"),
            Err(order) => end(End::Ordered(order), socket, false, Vec::new()).await,
        };
    };
    watch.handshake();
    // Boxed, and gone with the handshake.
    let stream = match Box::pin(bounded(&watch, tls.accept(socket))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return tracing::debug!(peer = %address, %error, "a TLS handshake failed");
        }
        Err(_) => return tracing::debug!(peer = %address, "a TLS handshake took too long"),
    };
    let (_, session) = stream.get_ref();
    let version = match session.alpn_protocol() {
        Some(name) if name == tls::HTTP2 => Version::Two,
        Some(_) | None => Version::One,
    };
    let serving = serving(Channel::Tls {
        certificate: tls::server::thumbprint(session),
    });
    watch.greet();
    match version {
        Version::One => Box::pin(serving.http1(&protocols.http1, stream)).await,
        Version::Two => Box::pin(serving.http2::<P, _>(stream)).await,
    }
}

/// What is the same for all calls of one connection.
struct Serving<'c, F, H> {
    watch: &'c Arc<Watch>,
    rooms: &'c Arc<Rooms<F>>,
    handle: H,
}

impl<F, H, B> Serving<'_, F, H>
where
    H: Fn(Request<Incoming>, Option<Arc<Line>>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn http1<S: Stream>(&self, http: &http1::Builder, stream: S) {
        let line = Arc::<Line>::default();
        let service = service_fn(|request: Request<Incoming>| {
            let busy = Some(Busy::alone(self.watch));
            line.open(hyper::body::Body::is_end_stream(request.body()));
            let answer = (self.handle)(request, Some(Arc::clone(&line)));
            Answering {
                part: Part::Whole,
                answer: self.rooms.lodge(answer),
                busy,
                line: Some(Arc::clone(&line)),
                held: None,
            }
        });
        let stream = Early::new(stream, Arc::clone(&line));
        let mut connection = http
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut finish = Finish::default();
        let ended = poll_fn(|context| {
            if let Some(order) = finish.due(self.watch, context, || {
                Pin::new(&mut connection).graceful_shutdown();
            }) {
                return Poll::Ready(End::Ordered(order));
            }
            Pin::new(&mut connection).poll(context).map(End::Closed)
        })
        .await;
        match connection.into_parts() {
            Some(parts) => {
                let stream = parts.io.into_inner().stream;
                end(ended, stream, finish.quiet, Vec::new()).await;
            }
            // Whoever took it over holds the socket now, and with it its place under the caps and in the sweep.
            None => self.watch.upgrade(),
        }
    }

    async fn http2<P: Plane<F, B>, S: Stream>(&self, stream: S) {
        let next = Next::on(self.watch);
        let http = streams::protocol(P::from(next.clone()), HEAD_BYTES_MAX);
        let service = service_fn(|request: Request<Incoming>| {
            let watched = self.watch.begin_stream();
            let busy = Some(Busy::among(self.watch, watched.share()));
            next.set(watched);
            Answering {
                part: Part::of(request.method()),
                answer: self.rooms.lodge((self.handle)(request, None)),
                busy,
                line: None,
                held: None,
            }
        });
        self.watch.multiplex();
        let (lent, home) = Lent::new(Frames::new(stream, self.watch));
        let mut connection = http.serve_connection(TokioIo::new(lent), service);
        let mut finish = Finish::default();
        let ended = poll_fn(|context| {
            if let Some(order) = finish.due(self.watch, context, || {
                Pin::new(&mut connection).graceful_shutdown();
            }) {
                return Poll::Ready(End::Ordered(order));
            }
            Pin::new(&mut connection).poll(context).map(End::Closed)
        })
        .await;
        drop(connection);
        let stream = home.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(frames) = stream {
            let last_words = frames.last_words();
            end(ended, frames.stream, false, last_words).await;
        }
    }
}

/// Follows the orders to one connection.
#[derive(Default)]
struct Finish {
    told: bool,
    /// It was told between two calls: nothing said could be lost.
    quiet: bool,
}

impl Finish {
    /// The order to stop at once, if that is the order; told to finish, `finish` is called, once.
    fn due(
        &mut self,
        watch: &Watch,
        context: &Context<'_>,
        finish: impl FnOnce(),
    ) -> Option<Order> {
        watch.attend(context);
        match watch.order() {
            Order::Go => None,
            Order::Finish => {
                if !self.told {
                    self.told = true;
                    self.quiet = watch.is_idle();
                    finish();
                }
                None
            }
            order @ (Order::Late | Order::Cut) => Some(order),
        }
    }
}

/// What comes before HTTP, for as long as the watch allows it.
async fn bounded<T>(watch: &Watch, future: impl Future<Output = T>) -> Result<T, Order> {
    let mut future = pin!(future);
    poll_fn(|context| {
        watch.attend(context);
        match watch.order() {
            Order::Go | Order::Finish => future.as_mut().poll(context).map(Ok),
            order @ (Order::Late | Order::Cut) => Poll::Ready(Err(order)),
        }
    })
    .await
}

/// How the driving of a connection ended.
enum End {
    Closed(hyper::Result<()>),
    Ordered(Order),
}

/// Closes what was driven so far; a connection that ended by itself says `last_words`.
async fn end(end: End, mut stream: impl Stream, quiet: bool, last_words: Vec<u8>) {
    let last_words = match end {
        End::Closed(result) => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended early");
            }
            if quiet || stream.socket().ended {
                return;
            }
            last_words
        }
        End::Ordered(Order::Late) => late().into_bytes(),
        // The socket knows its order.
        End::Ordered(Order::Cut | Order::Go | Order::Finish) => return,
    };
    Box::pin(linger(stream, last_words)).await;
}

/// A head that did not come in time, as the gate's own problem document.
fn late() -> String {
    let document = r#"{"type":"/.toolgate/problems/request_malformed","title":"Malformed request","status":408,"detail":"the request's head did not arrive in time; send it again","reason":"request_malformed","next":{"action":"fix_request"}}"#;
    format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n{document}",
        document.len()
    )
}
