//! One HTTP/2 connection, and the streams on it.
//!
//! A [`Connection`] is shared by the calls of one thread; a [`Seat`] is one call's place on it. What one call does to its
//! stream, no other feels: a seat that is dropped resets its own stream, and windows are sized so that streams that nobody
//! reads can't keep the others from being read.
//!
//! No timer is armed here: the pool looks at every connection once a second ([`Connection::check`]) and pings those that
//! have been silent while somebody waits for them.

mod answer;
mod pipe;
mod tunnel;

pub(super) use answer::Body;
pub(super) use tunnel::Tunnel;

use super::dial::DialFault;
use super::sockets::Ticket;
use super::wire::{Socket, Tally, Wire};
use super::{Answer, AnswerStream, ExchangeFault, Interim, Outgoing, Unanswered};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::Body as _;
use pipe::Pipe;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// An open connection.
pub(super) struct Connection {
    place: u32,
    sender: SendRequest<Bytes>,
    task: AbortHandle,
    tally: Arc<Tally>,
    /// Calls that have a place on it.
    seats: AtomicUsize,
    health: Mutex<Health>,
}

/// What was seen of a connection when it was last looked at.
struct Health {
    pings: Option<PingPong>,
    received: u64,
    /// Looks in a row without a byte from the backend while a call was in progress.
    silent: u32,
    /// Looks since a ping that is not answered.
    pinged: Option<u32>,
    /// The last that came was the answer to a ping.
    quiet: bool,
    /// Looks in a row without a call.
    idle: u32,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// Nobody uses it, or nobody is there: it goes.
    Close,
}

/// One call's place on a connection. Dropping it resets the call's stream and no other.
pub(super) struct Seat {
    connection: Arc<Connection>,
    stream: Arc<Stream>,
    /// Roused when it becomes free.
    room: Arc<Notify>,
}

/// The sending half of one call's stream, which may be reset from outside the task that carries the call.
#[derive(Default)]
pub(super) struct Stream(Mutex<Sending>);

#[derive(Default)]
enum Sending {
    /// The request has not been sent.
    #[default]
    Unopened,
    Open {
        stream: SendStream<Bytes>,
        /// Carries the rest of the request's body.
        pipe: Option<AbortHandle>,
    },
    Cut,
}

/// Most calls at once on one connection, whatever the backend would take.
const SEATS_MAX: usize = 100;
/// Bytes of one answer that may lie here unread. What a stream costs in memory.
const STREAM_WINDOW: u32 = 256 * 1024;
/// All streams' windows together: streams that nobody reads never take the connection's window from the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * SEATS_MAX as u32;
/// Bytes of one request's body that may lie here unsent, one chunk of the agent's apart.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Longest head of an answer.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Streams this side reset whose late frames are still recognised; and those the backend made this side reset by nonsense.
const RESET_STREAMS_MAX: usize = 100;
/// Looks without a byte after which a backend that is waited for is pinged.
const SILENT_MAX: u32 = 10;
/// The same where it has said nothing since the last ping: gRPC's servers close connections that are pinged more often than
/// each 5 minutes while they have nothing to say.
const QUIET_MAX: u32 = 310;
/// Looks after which a ping without an answer is the end.
const PINGED_MAX: u32 = 10;
/// A ping's answer (RFC 9113 section 6.7), which is no sign of anything to say.
const PONG_BYTES: u64 = 17;
/// Looks without a call after which a connection goes.
const IDLE_MAX: u32 = 30;

impl Connection {
    /// The connection's preface, and the wait for the backend's: what comes may be something other than HTTP/2.
    pub(super) async fn open(
        place: u32,
        socket: Socket,
        ticket: Ticket,
    ) -> Result<Arc<Self>, DialFault> {
        let (wire, tally) = Wire::http2(socket, ticket);
        let (sender, mut connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
            .max_header_list_size(HEAD_BYTES_MAX)
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .max_local_error_reset_streams(Some(RESET_STREAMS_MAX))
            .enable_push(false)
            // None before the backend has said how many it takes.
            .initial_max_send_streams(0)
            .handshake::<_, Bytes>(wire)
            .await
            .map_err(|error| unfit(&error, &tally))?;
        let pings = connection.ping_pong();
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(DialFault::NotHttp2)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(unfit(&error, &tally))),
            Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        let task = tokio::spawn(async move {
            // Whoever waits on a stream is told by h2; this is for the one who reads the log.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a backend ended");
            }
        });
        Ok(Arc::new(Self {
            place,
            sender,
            task: task.abort_handle(),
            tally,
            seats: AtomicUsize::new(0),
            health: Mutex::new(Health {
                pings,
                received: 0,
                silent: 0,
                pinged: None,
                quiet: false,
                idle: 0,
            }),
        }))
    }

    /// Whether new calls may go on it: the backend has neither left nor said that it will.
    pub(super) fn is_fit(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.task.is_finished()
            && !self.tally.is_write_broken()
            && matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    /// A place on it, if there is one. Whoever waits for it is told through `room`.
    pub(super) fn seat(self: &Arc<Self>, room: &Arc<Notify>) -> Option<Seat> {
        let most = self.sender.current_max_send_streams().min(SEATS_MAX);
        let taken = self.seats.load(Ordering::Relaxed);
        if taken >= most || !self.is_fit() {
            return None;
        }
        // One thread's pool hands out seats.
        self.seats.store(taken + 1, Ordering::Relaxed);
        Some(Seat {
            connection: Arc::clone(self),
            stream: Arc::default(),
            room: Arc::clone(room),
        })
    }

    pub(super) fn place(&self) -> u32 {
        self.place
    }

    pub(super) fn close(&self) {
        self.task.abort();
    }

    /// The look that is taken once a second.
    pub(super) fn check(&self) -> Verdict {
        let busy = self.seats.load(Ordering::Relaxed) > 0;
        if !busy && !self.is_fit() {
            return Verdict::Close;
        }
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.look(self.tally.received(), busy)
    }

    fn takes_extended_connect(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Health {
    fn look(&mut self, received: u64, busy: bool) -> Verdict {
        let fresh = received - self.received;
        self.received = received;
        self.idle = if busy { 0 } else { self.idle + 1 };
        if fresh > 0 {
            self.quiet = self.pinged.take().is_some() && fresh == PONG_BYTES;
        }
        if fresh > 0 || !busy {
            self.silent = 0;
        } else {
            self.silent += 1;
        }
        let silent_max = if self.quiet { QUIET_MAX } else { SILENT_MAX };
        match &mut self.pinged {
            Some(looks) => *looks += 1,
            None if self.silent >= silent_max => {
                self.ping();
                self.pinged = Some(0);
            }
            None => {}
        }
        if self.idle >= IDLE_MAX || self.pinged.is_some_and(|looks| looks >= PINGED_MAX) {
            Verdict::Close
        } else {
            Verdict::Keep
        }
    }

    fn ping(&mut self) {
        if let Some(pings) = &mut self.pings {
            // The last one's answer, whose bytes are all that counts.
            let _ = pings.poll_pong(&mut Context::from_waker(Waker::noop()));
            // One that is still unanswered will do.
            let _ = pings.send_ping(Ping::opaque());
        }
    }
}

impl Seat {
    /// What resets this call's stream.
    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub(super) fn takes_extended_connect(&self) -> bool {
        self.connection.takes_extended_connect()
    }

    /// Sends `request` and waits for the head of its answer. The rest of its body follows by itself.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Outgoing>,
        interim: Option<Interim>,
    ) -> Result<Response<Answer>, Unanswered> {
        let (head, body) = request.into_parts();
        let over = body.is_end_stream();
        let Ok(mut response) = self.begin(Request::from_parts(head, ()), over) else {
            return Err(Unanswered::Unsent(body));
        };
        let mut pipe = Pipe::new(body, Arc::clone(&self.stream));
        let mut sending = !over;
        let head = poll_fn(|cx| {
            if sending && Pin::new(&mut pipe).poll(cx).is_ready() {
                sending = false;
            }
            relay(&mut response, interim.as_ref(), cx);
            Pin::new(&mut response).poll(cx)
        })
        .await;
        match head {
            Ok(response) => {
                if sending {
                    // An answer may begin before its request ends, and neither waits for the other.
                    self.stream.carry(pipe);
                }
                Ok(answered(response))
            }
            Err(error) => Err(unanswered(&error, &self.connection.tally, pipe)),
        }
    }

    /// Asks for a tunnel (RFC 8441). An answer that grants one has no body.
    pub(super) async fn open_tunnel(
        &mut self,
        request: Request<()>,
        interim: Option<Interim>,
    ) -> Result<Response<RecvStream>, Unanswered> {
        let Ok(mut response) = self.begin(request, false) else {
            return Err(Unanswered::Unsent(Outgoing::Empty));
        };
        poll_fn(|cx| {
            relay(&mut response, interim.as_ref(), cx);
            Pin::new(&mut response).poll(cx)
        })
        .await
        .map_err(|error| {
            let pipe = Pipe::new(Outgoing::Empty, Arc::default());
            unanswered(&error, &self.connection.tally, pipe)
        })
    }

    fn begin(&self, request: Request<()>, over: bool) -> Result<ResponseFuture, h2::Error> {
        let mut sending = self.stream.sending();
        if matches!(*sending, Sending::Cut) {
            return Err(Reason::CANCEL.into());
        }
        let (response, stream) = self.connection.sender.clone().send_request(request, over)?;
        *sending = Sending::Open { stream, pipe: None };
        Ok(response)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stream.reset();
        self.connection.seats.fetch_sub(1, Ordering::Relaxed);
        self.room.notify_waiters();
    }
}

impl Stream {
    /// Ends both directions at once, where they have not ended by themselves.
    pub(super) fn reset(&self) {
        let sending = std::mem::replace(&mut *self.sending(), Sending::Cut);
        if let Sending::Open { mut stream, pipe } = sending {
            // Of a stream that is over nothing is sent.
            stream.send_reset(Reason::CANCEL);
            if let Some(pipe) = pipe {
                pipe.abort();
            }
        }
    }

    /// Has the rest of a body sent by a task of its own, for as long as the stream lives.
    fn carry(&self, pipe: Pipe) {
        let task = tokio::spawn(pipe);
        if let Sending::Open { pipe, .. } = &mut *self.sending() {
            *pipe = Some(task.abort_handle());
        } else {
            task.abort();
        }
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        // A panic elsewhere can't leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer whose body is still to come.
pub(super) fn answered(response: Response<RecvStream>) -> Response<Answer> {
    let (head, stream) = response.into_parts();
    let body = Body::new(stream, &head.headers);
    Response::from_parts(head, Answer::Http2(AnswerStream(body)))
}

/// Hands on what the backend says before its answer.
fn relay(response: &mut ResponseFuture, interim: Option<&Interim>, cx: &mut Context<'_>) {
    let Some(interim) = interim else {
        return;
    };
    while let Poll::Ready(Some(Ok(answer))) = response.poll_informational(cx) {
        interim(answer.status(), answer.headers());
    }
}

/// What is known of a request whose answer did not begin.
fn unanswered(error: &h2::Error, tally: &Tally, pipe: Pipe) -> Unanswered {
    // RFC 9113 section 8.7: both say that nothing was done with it. h2 gives the error of a GOAWAY only to the streams
    // behind its last-stream-id.
    let refused =
        error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
    if refused {
        return match pipe.into_untouched() {
            Some(body) => Unanswered::Unsent(body),
            None => Unanswered::Broken(ExchangeFault::Refused),
        };
    }
    let fault = match tally.tls_fault() {
        Some(fault) => ExchangeFault::Tls(fault),
        None => ExchangeFault::of_http2(error),
    };
    match fault {
        ExchangeFault::Closed | ExchangeFault::Tls(_) => Unanswered::Silent(fault),
        ExchangeFault::Malformed
        | ExchangeFault::Broke
        | ExchangeFault::Reset
        | ExchangeFault::Refused => Unanswered::Broken(fault),
    }
}

/// What it means that the connection ended before it began.
fn unfit(error: &h2::Error, tally: &Tally) -> DialFault {
    if let Some(fault) = tally.tls_fault() {
        return DialFault::Tls(fault);
    }
    if error.is_io() {
        DialFault::Unreachable
    } else {
        DialFault::NotHttp2
    }
}

impl ExchangeFault {
    pub(super) fn of_http2(error: &h2::Error) -> Self {
        if error.is_io() {
            ExchangeFault::Closed
        } else if error.is_remote() {
            ExchangeFault::Reset
        } else if error.is_library() {
            ExchangeFault::Malformed
        } else {
            ExchangeFault::Broke
        }
    }
}

#[cfg(test)]
mod tests;
