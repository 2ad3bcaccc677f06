//! Backends: one HTTP/1.1 exchange at a time over connections that are kept per thread.
//!
//! It stands under step 8 of the journey. A [`Place`] is where a backend listens; a [`Lease`] is one connection to it,
//! taken for one exchange. A lease that is dropped closes its connection at once: only [`Lease::give_back`], called
//! when the answer was read to its end, returns it for the next call.
//!
//! It refuses to build or judge requests and answers (`gate` does), and to send anything twice by itself: it says what
//! is known of an exchange that failed ([`Unanswered`]), and the gate decides.

mod dial;
mod pool;
mod tunnel;
mod wire;

pub use dial::{DialFault, Place, PlaceError};
pub use tunnel::Tunnel;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::AbortHandle;
use wire::Tally;

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

/// An open connection and the task that drives it.
struct Connection {
    place: u32,
    sender: SendRequest<Outgoing>,
    task: AbortHandle,
    tally: Arc<Tally>,
}

/// A connection taken for one exchange.
pub struct Lease {
    connection: Option<Connection>,
    origin: Origin,
    interim: Option<Interim>,
}

/// Where a lease's connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Opened for this exchange.
    Fresh,
    /// Kept from an earlier one: its backend may be about to close it.
    Kept,
}

/// An exchange that brought no answer.
pub enum Unanswered {
    /// Not a byte of the request was written. Here it is again.
    Unsent(Box<Request<Outgoing>>),
    /// It was written, wholly or in part, and the connection ended without a byte of answer.
    Silent(ExchangeFault),
    /// The answer's head was begun and is not one.
    Broken(ExchangeFault),
}

/// What came of asking for another protocol.
pub enum Upgrade {
    /// It is spoken from here on.
    Switched(Response<()>, Tunnel),
    /// An answer like any other.
    Answered(Response<Incoming>),
}

/// What went wrong on a connection that was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeFault {
    /// Closed before the head of an answer was whole.
    #[error("the backend closed the connection before it answered")]
    Closed,
    /// Not HTTP/1, or a head over the bounds.
    #[error("the backend's answer is not well-formed HTTP/1.1")]
    Malformed,
    /// Reset, or another failure of the socket.
    #[error("the connection to the backend broke")]
    Broke,
}

/// Longest head of an answer and largest chunk read or written at once, in bytes. What a stream costs in memory.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

impl Lease {
    /// A kept connection to `place`, if there is one that is fit for use.
    pub fn kept(place: &Place) -> Option<Self> {
        pool::here().take(place.number()).map(|connection| Self {
            connection: Some(connection),
            origin: Origin::Kept,
            interim: None,
        })
    }

    /// A new connection to `place`, within `timeout` (looking up its name included).
    ///
    /// # Errors
    /// [`DialFault`]: nothing was sent.
    pub async fn fresh(place: &Place, timeout: Duration) -> Result<Self, DialFault> {
        let stream = dial::connect(place, timeout).await?;
        let (wire, tally) = wire::Wire::new(stream);
        let (sender, driver) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake::<_, Outgoing>(wire)
            .await
            .map_err(|_| DialFault::Unreachable)?;
        let task = tokio::spawn(async move {
            // Whoever waits for an answer or a body is told by hyper; this is for the one who reads the log.
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "a connection to a backend ended");
            }
        });
        let connection = Connection {
            place: place.number(),
            sender,
            task: task.abort_handle(),
            tally,
        };
        Ok(Self {
            connection: Some(connection),
            origin: Origin::Fresh,
            interim: None,
        })
    }

    /// A connection for [`Lease::upgrade`], within `timeout`.
    ///
    /// # Errors
    /// [`DialFault`]: nothing was sent.
    pub async fn for_upgrade(place: &Place, timeout: Duration) -> Result<Self, DialFault> {
        Self::fresh(place, timeout).await
    }

    /// Has each 1xx that comes before the answer told to `interim`; without it they are passed over.
    pub fn relay(&mut self, interim: Interim) {
        self.interim = Some(interim);
    }

    /// Where its connection comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The task whose abortion closes the connection.
    pub fn task(&self) -> AbortHandle {
        self.connection().task.clone()
    }

    /// Sends `request` and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn exchange(
        &mut self,
        mut request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, Unanswered> {
        if let Some(interim) = self.interim.take() {
            hyper::ext::on_informational(&mut request, move |response| {
                interim(response.status(), response.headers());
            });
        }
        let connection = self
            .connection
            .as_mut()
            .expect("a lease has its connection");
        let before = connection.tally.received();
        match connection.sender.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(mut error) => Err(match error.take_message() {
                Some(request) => Unanswered::Unsent(Box::new(request)),
                None => {
                    let fault = ExchangeFault::of(&error.into_error());
                    if self.connection().tally.received() == before {
                        Unanswered::Silent(fault)
                    } else {
                        Unanswered::Broken(fault)
                    }
                }
            }),
        }
    }

    /// Asks for `protocol`, `websocket` say, with a request that has no body. The lease is to be kept for as long as the
    /// tunnel.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn upgrade(
        &mut self,
        mut request: Request<Outgoing>,
        protocol: &'static str,
    ) -> Result<Upgrade, Unanswered> {
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(protocol));
        let mut response = self.exchange(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Upgrade::Answered(response));
        }
        match hyper::upgrade::on(&mut response).await {
            Ok(upgraded) => Ok(Upgrade::Switched(
                response.map(|_| ()),
                Tunnel::new(upgraded),
            )),
            Err(_) => Err(Unanswered::Broken(ExchangeFault::Broke)),
        }
    }

    /// Returns the connection for the next call. To be called only when the answer was read to its end; the connection
    /// is closed all the same if the request was not written to its end, or if either side said that it closes.
    pub fn give_back(mut self) {
        if let Some(connection) = self.connection.take()
            && let Some(unfit) = pool::here().put(connection)
        {
            unfit.task.abort();
        }
    }

    fn connection(&self) -> &Connection {
        self.connection
            .as_ref()
            .expect("a lease has its connection")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.task.abort();
        }
    }
}

impl Connection {
    /// Open, idle on both sides, and with nothing unasked for in its buffer: hyper asks for the next request only then.
    fn is_fit(&self) -> bool {
        self.sender.is_ready() && !self.tally.is_write_broken()
    }
}

impl ExchangeFault {
    fn of(error: &hyper::Error) -> Self {
        if error.is_incomplete_message() {
            ExchangeFault::Closed
        } else if error.is_parse() {
            ExchangeFault::Malformed
        } else {
            ExchangeFault::Broke
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
mod tests;
