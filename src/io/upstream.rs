//! Backends: exchanges over connections that are kept per thread.
//!
//! It stands under step 8 of the journey. A [`Place`] is where a backend listens and as whom it is met; a [`Lease`] is the
//! means for one exchange with it: a connection of HTTP/1.1 for itself, or one stream of an HTTP/2 connection that other
//! calls share. A lease that is dropped ends its exchange at once and nobody else's: the connection of its own is closed,
//! the stream reset. Only [`Lease::give_back`], called when the answer was read to its end, returns a connection for the
//! next call.
//!
//! It refuses to build or judge requests and answers (`gate` does), and to send anything twice by itself: it says what
//! is known of an exchange that failed ([`Unanswered`]), and the gate decides. It is long because a place's ways to a
//! connection and a lease's ends are read against each other.

mod dial;
mod http1;
mod http2;
mod place;
mod pool;
mod sockets;
mod strict;
mod tunnel;
mod wire;

pub use dial::DialFault;
pub use place::{Place, PlaceError};
pub use sockets::bound as bound_sockets;
pub use tunnel::Tunnel;

use crate::io::tls::client::{Offer, fault_in};
use crate::ledger::record::TlsFault;
use crate::policy::id::SessionId;
use bytes::Bytes;
use dial::Opened;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use place::Versions;
use pool::Approach;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::AbortHandle;

/// What a request's body may fail with.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Told of each 1xx that comes before the answer.
pub type Interim = Box<dyn Fn(StatusCode, &HeaderMap) + Send + Sync>;

/// A request's body on its way to a backend.
#[derive(Default)]
pub enum Outgoing {
    /// None.
    #[default]
    Empty,
    /// Read from the agent as the backend takes it.
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>),
}

/// An answer's body as it comes.
pub enum Answer {
    /// Over HTTP/1.1.
    Http1(Incoming),
    /// Over HTTP/2.
    Http2(AnswerStream),
}

/// An answer's body on its stream.
pub struct AnswerStream(http2::Body);

/// Whose calls a kept connection may carry: one session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(pub SessionId);

/// The means for one exchange.
pub struct Lease {
    /// Until it is given back.
    carrier: Option<Carrier>,
    owner: Owner,
    origin: Origin,
    interim: Option<Interim>,
}

enum Carrier {
    Http1(http1::Connection),
    Http2(http2::Seat),
}

/// Where a lease's connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Opened for this exchange, or the last that is tried for it.
    Fresh,
    /// Kept from an earlier one, or shared: its backend may be about to close it.
    Kept,
}

/// Ends an exchange from outside the task that carries it.
#[derive(Clone)]
pub struct Cut(Kind);

#[derive(Clone)]
enum Kind {
    Task(AbortHandle),
    Stream(Arc<http2::Stream>),
}

/// An exchange that brought no answer.
pub enum Unanswered {
    /// Not a byte of the request was written, or the backend says that it did nothing with it. Its body is whole: here it
    /// is again.
    Unsent(Outgoing),
    /// It was written, wholly or in part, and the connection ended without a byte of answer.
    Silent(ExchangeFault),
    /// The answer's head was begun and is not one, or was refused.
    Broken(ExchangeFault),
}

/// What came of asking for another protocol.
pub enum Upgrade {
    /// It is spoken from here on.
    Switched(Response<()>, Tunnel),
    /// An answer like any other.
    Answered(Response<Answer>),
}

/// What went wrong on a connection that was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeFault {
    /// Closed before the answer was whole.
    #[error("the backend closed the connection before it answered")]
    Closed,
    /// Not HTTP, or a head over the bounds.
    #[error("the backend's answer is not well-formed HTTP")]
    Malformed,
    /// Reset, or another failure of the socket.
    #[error("the connection to the backend broke")]
    Broke,
    /// RST_STREAM.
    #[error("the backend reset the call's stream")]
    Reset,
    /// REFUSED_STREAM or GOAWAY, when the request's body could not be had again.
    #[error("the backend turned the call away, and it can't be sent again")]
    Refused,
    /// TLS: over version 1.3 a backend that refuses a certificate says so only now.
    #[error("{0}")]
    Tls(TlsFault),
}

impl Lease {
    /// Means that are at hand: a connection to `place` that was kept for `owner` and is fit for use, or a stream of a shared
    /// one.
    pub fn kept(place: &Place, owner: Owner) -> Option<Self> {
        let pool = pool::here();
        let carrier = match place.versions {
            Versions::Http1 => pool.take(place.number(), owner).map(Carrier::Http1),
            Versions::Http2 => pool.join(place.number()).map(Carrier::Http2),
            Versions::Either => match pool.join(place.number()) {
                Some(seat) => Some(Carrier::Http2(seat)),
                None => pool.take(place.number(), owner).map(Carrier::Http1),
            },
        };
        carrier.map(|carrier| Self::new(carrier, owner, Origin::Kept))
    }

    /// Means for one exchange with `place` within `timeout` (looking up its name and TLS included): those at hand, those
    /// that another call is about to open and will share, or new ones.
    ///
    /// # Errors
    /// [`DialFault`]: nothing was sent.
    pub async fn open(place: &Place, owner: Owner, timeout: Duration) -> Result<Self, DialFault> {
        if place.versions == Versions::Http1 {
            return match Self::kept(place, owner) {
                Some(lease) => Ok(lease),
                None => Self::fresh(place, owner, timeout).await,
            };
        }
        match tokio::time::timeout(timeout, Self::shared(place, owner, timeout)).await {
            Ok(opened) => opened,
            Err(_) => Err(DialFault::Timeout),
        }
    }

    async fn shared(place: &Place, owner: Owner, timeout: Duration) -> Result<Self, DialFault> {
        loop {
            match pool::here().approach(place.number()) {
                Approach::Join(seat) => {
                    return Ok(Self::new(Carrier::Http2(seat), owner, Origin::Kept));
                }
                Approach::Dial(turn) => {
                    let opened = Self::fresh(place, owner, timeout).await;
                    // What is the caller's own fault is not told to those who wait.
                    if let (Some(turn), Err(fault)) = (turn, &opened)
                        && *fault != DialFault::Crowded
                    {
                        turn.fail(*fault);
                    }
                    return opened;
                }
                Approach::Wait(dial) => dial.wait().await?,
                Approach::Full(room) => room.await,
            }
        }
    }

    /// A new connection to `place`, within `timeout` (looking up its name and TLS included).
    ///
    /// # Errors
    /// [`DialFault`]: nothing was sent.
    pub async fn fresh(place: &Place, owner: Owner, timeout: Duration) -> Result<Self, DialFault> {
        let carrier = match dial::open(place, owner, Offer::Configured, timeout).await? {
            Opened::Http1(connection) => {
                if place.versions == Versions::Either {
                    pool::here().learn_unshared(place.number());
                }
                Carrier::Http1(connection)
            }
            Opened::Http2(connection) => {
                Carrier::Http2(pool::here().share(connection).ok_or(DialFault::Full)?)
            }
        };
        Ok(Self::new(carrier, owner, Origin::Fresh))
    }

    /// Means for what is sent a second time: not those that just failed. Where connections are shared those that others
    /// open or have opened will do, or the end of one would have all of its calls open another each.
    ///
    /// # Errors
    /// [`DialFault`]: nothing was sent.
    pub async fn again(place: &Place, owner: Owner, timeout: Duration) -> Result<Self, DialFault> {
        let mut lease = match place.versions {
            Versions::Http1 => Self::fresh(place, owner, timeout).await?,
            Versions::Http2 | Versions::Either => {
                match tokio::time::timeout(timeout, Self::shared(place, owner, timeout)).await {
                    Ok(opened) => opened?,
                    Err(_) => return Err(DialFault::Timeout),
                }
            }
        };
        // There is no third time.
        lease.origin = Origin::Fresh;
        Ok(lease)
    }

    /// Means for [`Lease::upgrade`], within `timeout`: a stream where the backend takes extended CONNECT, otherwise a new
    /// connection of HTTP/1.1 where that may be spoken to it.
    ///
    /// # Errors
    /// [`DialFault`]: nothing was sent.
    pub async fn for_upgrade(
        place: &Place,
        owner: Owner,
        timeout: Duration,
    ) -> Result<Self, DialFault> {
        if place.versions != Versions::Http1 {
            let lease = Self::open(place, owner, timeout).await?;
            if lease.can_upgrade() && (lease.origin == Origin::Fresh || lease.is_http2()) {
                return Ok(lease);
            }
            if place.versions == Versions::Http2 {
                return Err(DialFault::NoUpgrade);
            }
            lease.give_back();
        }
        match dial::open(place, owner, Offer::Http1, timeout).await? {
            Opened::Http1(connection) => {
                Ok(Self::new(Carrier::Http1(connection), owner, Origin::Fresh))
            }
            // HTTP/1.1 alone was offered.
            Opened::Http2(_) => Err(DialFault::NotHttp2),
        }
    }

    fn new(carrier: Carrier, owner: Owner, origin: Origin) -> Self {
        Self {
            carrier: Some(carrier),
            owner,
            origin,
            interim: None,
        }
    }

    /// Where its connection comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The version whose form its request has: HTTP/2 or HTTP/1.1.
    pub fn version(&self) -> Version {
        if self.is_http2() {
            Version::HTTP_2
        } else {
            Version::HTTP_11
        }
    }

    fn is_http2(&self) -> bool {
        matches!(self.carrier, Some(Carrier::Http2(_)))
    }

    /// Whether another protocol can be asked for: always over HTTP/1.1, and over HTTP/2 where the backend takes extended
    /// CONNECT (RFC 8441).
    pub fn can_upgrade(&self) -> bool {
        match &self.carrier {
            Some(Carrier::Http1(_)) => true,
            Some(Carrier::Http2(seat)) => seat.takes_extended_connect(),
            None => false,
        }
    }

    /// Has each 1xx that comes before the answer told to `interim`; without it they are passed over.
    pub fn relay(&mut self, interim: Interim) {
        self.interim = Some(interim);
    }

    /// What ends the exchange from outside: closes the connection of its own, or resets the stream.
    pub fn cut(&self) -> Cut {
        Cut(match self.carrier.as_ref().expect(HELD) {
            Carrier::Http1(connection) => Kind::Task(connection.task().clone()),
            Carrier::Http2(seat) => Kind::Stream(Arc::clone(seat.stream())),
        })
    }

    /// Sends `request`, which has the form of [`Lease::version`], and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn exchange(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Answer>, Unanswered> {
        let interim = self.interim.take();
        match self.carrier.as_mut().expect(HELD) {
            Carrier::Http1(connection) => connection.exchange(request, interim).await,
            Carrier::Http2(seat) => seat.exchange(request, interim).await,
        }
    }

    /// Asks for `protocol`, `websocket` say, with a request that has no body: by `Upgrade` over HTTP/1.1, by extended
    /// CONNECT over HTTP/2, either of which this adds. The lease is to be kept for as long as the tunnel.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn upgrade(
        &mut self,
        mut request: Request<Outgoing>,
        protocol: &'static str,
    ) -> Result<Upgrade, Unanswered> {
        let interim = self.interim.take();
        match self.carrier.as_mut().expect(HELD) {
            Carrier::Http1(connection) => {
                let headers = request.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(UPGRADE, HeaderValue::from_static(protocol));
                let mut response = connection.exchange(request, interim).await?;
                if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    return Ok(Upgrade::Answered(response));
                }
                let upgraded = hyper::upgrade::on(&mut response).await;
                let upgraded = upgraded.map_err(|_| Unanswered::Broken(ExchangeFault::Broke))?;
                Ok(Upgrade::Switched(
                    response.map(|_| ()),
                    Tunnel::http1(upgraded),
                ))
            }
            Carrier::Http2(seat) => {
                *request.method_mut() = Method::CONNECT;
                let protocol = h2::ext::Protocol::from_static(protocol);
                request.extensions_mut().insert(protocol);
                let response = seat.open_tunnel(request.map(|_| ()), interim).await?;
                let stream = Arc::clone(seat.stream());
                Ok(if response.status().is_success() {
                    let (head, incoming) = response.into_parts();
                    let tunnel = Tunnel::http2(http2::Tunnel::new(stream, incoming));
                    Upgrade::Switched(Response::from_parts(head, ()), tunnel)
                } else {
                    Upgrade::Answered(http2::answered(response))
                })
            }
        }
    }

    /// Returns a connection for its owner's next call. To be called only when the answer was read to its end; the connection
    /// is closed all the same if the request was not written to its end, or if either side said that it closes.
    pub fn give_back(mut self) {
        if let Some(Carrier::Http1(connection)) = self.carrier.take()
            && let Some(unfit) = pool::here().put(connection, self.owner)
        {
            unfit.close();
        }
    }
}

const HELD: &str = "a lease holds its carrier until it is given back";

impl Drop for Lease {
    fn drop(&mut self) {
        match &self.carrier {
            Some(Carrier::Http1(connection)) => connection.close(),
            // Resets its stream by itself.
            Some(Carrier::Http2(_)) | None => {}
        }
    }
}

impl Cut {
    /// Ends it.
    pub fn cut(self) {
        match self.0 {
            Kind::Task(task) => task.abort(),
            Kind::Stream(stream) => stream.reset(),
        }
    }
}

impl From<AbortHandle> for Cut {
    fn from(task: AbortHandle) -> Self {
        Self(Kind::Task(task))
    }
}

impl ExchangeFault {
    fn of(error: &hyper::Error) -> Self {
        if let Some(fault) = fault_in(error) {
            ExchangeFault::Tls(fault)
        } else if error.is_incomplete_message() {
            ExchangeFault::Closed
        } else if error.is_parse() || is_nonsense(error) {
            ExchangeFault::Malformed
        } else {
            ExchangeFault::Broke
        }
    }
}

/// Whether the strict reader refused what came.
fn is_nonsense(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    cause
        .and_then(io::Error::get_ref)
        .is_some_and(|cause| cause.is::<strict::Nonsense>())
}

impl Body for Answer {
    type Data = Bytes;
    type Error = ExchangeFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeFault>>> {
        match self.get_mut() {
            Answer::Http1(incoming) => Pin::new(incoming)
                .poll_frame(cx)
                .map_err(|error| ExchangeFault::of(&error)),
            Answer::Http2(stream) => stream.0.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Http1(incoming) => incoming.is_end_stream(),
            Answer::Http2(stream) => stream.0.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Http1(incoming) => incoming.size_hint(),
            Answer::Http2(stream) => stream.0.size_hint(),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Outgoing::Empty => Poll::Ready(None),
            Outgoing::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Empty => true,
            Outgoing::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Empty => SizeHint::with_exact(0),
            Outgoing::Stream(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The request has the backend's credential in it.
            Unanswered::Unsent(_) => f.write_str("Unsent"),
            Unanswered::Silent(fault) => write!(f, "Silent({fault:?})"),
            Unanswered::Broken(fault) => write!(f, "Broken({fault:?})"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
