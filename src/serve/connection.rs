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
mod strict;

pub use call::{Answering, Reply};
pub use streams::{AnyThread, Next, OwnThread, Plane};

use self::call::{Busy, Part};
use self::early::Early;
use self::frames::Frames;
use self::preface::Version;
use self::socket::{Lent, Socket, Stream, linger};
use self::strict::Strict;
use super::caps::Admission;
use super::heads::HEAD_BYTES_MAX;
use super::rooms::Rooms;
use super::watch::{Order, Watch, Watched};
use crate::gate::{Channel, Familiar, Flaw, Line, Peer};
use crate::io::tls;
use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::net::TcpStream;

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
pub struct Protocols {
    http1: http1::Builder,
    tls: Option<Arc<tls::server::Server>>,
    unread: Unread,
}

/// Notes that a head that could not be read came from this address, and gives the whole answer.
pub type Unread = Arc<dyn Fn(IpAddr, Flaw) -> Bytes + Send + Sync>;

impl Protocols {
    /// Both versions of HTTP; over TLS, or in plain text. No timer: the watch bounds heads and idling without one.
    /// What is no HTTP/1.1 is answered by `unread`.
    pub fn new(tls: Option<Arc<tls::server::Server>>, unread: Unread) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .header_read_timeout(None)
            // See `early`: an agent that sends no more may still read.
            .half_close(true)
            .keep_alive(true)
            .pipeline_flush(false)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(BUFFER_BYTES_MAX);
        Self { http1, tls, unread }
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
    let unread = |flaw| (protocols.unread)(address.ip(), flaw);
    let familiar = Familiar::default();
    let serving = |channel| {
        let familiar = familiar.clone();
        Serving {
            watch: &watch,
            rooms,
            unread,
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
            Err(order) => end(End::Ordered(order), socket, false, unread).await,
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
struct Serving<'c, F, H, U> {
    watch: &'c Arc<Watch>,
    rooms: &'c Arc<Rooms<F>>,
    handle: H,
    unread: U,
}

impl<F, H, B, U> Serving<'_, F, H, U>
where
    U: Fn(Flaw) -> Bytes,
    H: Fn(Request<Incoming>, Option<Arc<Line>>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn http1<S: Stream>(&self, http: &http1::Builder, stream: S) {
        let line = Arc::<Line>::default();
        let asked = Mutex::new(None);
        let service = service_fn(|request: Request<Incoming>| {
            if let Some(upgrade) = request.extensions().get::<OnUpgrade>() {
                *asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrade.clone());
            }
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
        let mut stream = Strict::new(Early::new(stream, Arc::clone(&line)));
        match bounded(self.watch, stream.first()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return tracing::debug!(%error, "a connection ended early"),
            Err(order) => {
                let (stream, _) = stream.into_parts();
                return end(End::Ordered(order), stream, false, &self.unread).await;
            }
        }
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
        let strict = match connection.into_parts() {
            Some(parts) => parts.io.into_inner(),
            // Whoever took it over holds the socket now, and with it its place under the caps and in the sweep.
            None if line.is_switched() => return self.watch.upgrade(),
            None => match unwanted::<S>(asked).await {
                Some(strict) => strict,
                None => return,
            },
        };
        let (stream, refused) = strict.into_parts();
        let ended = match (ended, refused) {
            (End::Closed(_), Some(flaw)) => End::Refused(flaw),
            (ended, _) => ended,
        };
        end(ended, stream, finish.quiet, &self.unread).await;
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
            let ended = match (ended, frames.last_words()) {
                (End::Closed(_), Some(goaway)) => End::Spent(goaway),
                (ended, _) => ended,
            };
            end(ended, frames.stream, false, &self.unread).await;
        }
    }
}

/// The stream of a connection on which another protocol was asked for and nobody switched: hyper hands it over at its end
/// all the same, to whoever asked.
async fn unwanted<S: Stream>(asked: Mutex<Option<OnUpgrade>>) -> Option<Strict<S>> {
    let asked = asked.into_inner().unwrap_or_else(PoisonError::into_inner);
    let parts = asked?.await.ok()?.downcast::<TokioIo<Strict<S>>>().ok()?;
    Some(parts.io.into_inner())
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
    /// All calls before a head that is not read are answered.
    Refused(Flaw),
    /// The peer sent too many frames that ask nothing; what is said to it.
    Spent(Bytes),
    Ordered(Order),
}

/// Closes what was driven so far.
async fn end(end: End, mut stream: impl Stream, quiet: bool, unread: impl Fn(Flaw) -> Bytes) {
    let last_words = match end {
        End::Closed(result) => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended early");
            }
            if quiet || stream.socket().ended {
                return;
            }
            Bytes::new()
        }
        End::Refused(flaw) => {
            tracing::debug!(%flaw, "a head was not read");
            unread(flaw)
        }
        End::Spent(goaway) => {
            tracing::debug!("a connection was through with its budget of frames");
            goaway
        }
        End::Ordered(Order::Late) => unread(Flaw::Late),
        // The socket knows its order.
        End::Ordered(Order::Cut | Order::Go | Order::Finish) => return,
    };
    Box::pin(linger(stream, last_words)).await;
}
