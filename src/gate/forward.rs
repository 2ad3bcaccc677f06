//! Step 8 of the journey: the permitted call goes to its backend, the answer comes back.
//!
//! [`send`] takes the [`Evidence`] that `policy` gave for the call and consumes it: nothing is forwarded without. What
//! was matched is what is sent: the path is the canonical one behind the mount.
//!
//! It refuses to decide, to record and to retry on its own judgement. One thing alone is sent twice: a GET or HEAD
//! without a body, on no stored grant, whose kept connection was closed before a byte of answer (RFC 9110 section 9.2.2).

mod answer;
mod held;
mod location;
mod outfit;
pub mod upgrade;

pub use answer::{StreamFault, UpstreamBody};
pub(in crate::gate) use held::{Unsettled, send_held};
pub use outfit::{Outfit, OutfitError};

use super::Line;
use super::body::{BodyFault, RequestBody};
use super::fields::{self, Framing, Length, Stamp, Trust};
use crate::gate::Channel;
use crate::io::clock::Clock;
use crate::io::room;
use crate::io::sweep::{self, Guard, Lapse, Liveness};
use crate::io::telemetry::Context;
use crate::io::upstream::{
    Answer, DialFault, ExchangeFault, Lease, Origin, Outgoing, Owner, Unanswered,
};
use crate::ledger::record::Fault;
use crate::policy::decision::{Evidence, GrantUse};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use upgrade::{Handshake, Tunnel};

/// A permitted call, as it was checked.
pub struct Outbound<'a> {
    /// The tool's precomputed parts.
    pub outfit: &'a Outfit,
    /// As received.
    pub method: &'a Method,
    /// As received, and let pass by [`fields::check_request`].
    pub headers: &'a HeaderMap,
    /// The canonical path behind the mount: begins with `/`, or is empty.
    pub path: &'a str,
    /// The query without `?`, byte for byte.
    pub query: Option<&'a str>,
    /// Host and port as the agent sent them.
    pub authority: &'a str,
    /// The address the connection came from.
    pub peer: IpAddr,
    /// What it came by.
    pub channel: Channel,
    /// Whether it is in `trusted_proxies`.
    pub trust: Trust,
    /// Whose end cuts the call.
    pub session: Arc<dyn Liveness>,
    /// The session again: connections are kept for one and no other.
    pub owner: Owner,
    /// By which its end and the timeouts are told.
    pub clock: &'a Arc<dyn Clock>,
    /// What the backend is told of the trace; `None`: what the agent says of it.
    pub trace: Option<Context>,
    /// Where 1xx answers are said.
    pub line: Option<&'a Arc<Line>>,
}

/// What comes back behind an answer's head.
pub enum Passage {
    /// A body.
    Body(UpstreamBody),
    /// The backend has switched; so must the agent's connection.
    Tunnel(Box<Tunnel>),
}

/// A forwarded call that brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendFault {
    /// 502: refused, reset, or nonsense.
    #[error("{0}")]
    Failed(UpstreamFault),
    /// 504: too slow.
    #[error("{0}")]
    Timeout(Slow),
    /// The session was revoked, expired or quarantined meanwhile.
    #[error("the session ended while the backend was waited for")]
    SessionEnded,
    /// The agent's body failed: 408 where it stopped coming, 400 where it broke.
    #[error("{0}")]
    AgentFailed(BodyFault),
}

/// How a backend failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFault {
    /// No connection.
    #[error("{0}")]
    Dial(DialFault),
    /// A connection, and no answer.
    #[error("{0}")]
    Exchange(ExchangeFault),
    /// A switch that was not asked for, or none where the agent would take the answer for one.
    #[error("the backend did not switch protocols as it was asked, or did without being asked")]
    Upgrade,
    /// The target can't be written as a request-target with the tool's base path.
    #[error("the target can't be sent to the backend")]
    Target,
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Slow {
    /// Past the tool's `connect_timeout`.
    #[error("connecting to the backend took too long")]
    Connect,
    /// Past the tool's `timeout`, counted from the last byte of the request that the backend took.
    #[error("the backend did not answer in time")]
    Answer,
}

impl SendFault {
    /// As the outcome records it.
    pub fn record(self) -> Fault {
        match self {
            SendFault::Failed(UpstreamFault::Dial(DialFault::Tls(fault)))
            | SendFault::Failed(UpstreamFault::Exchange(ExchangeFault::Tls(fault))) => {
                Fault::UpstreamTls(fault)
            }
            SendFault::Failed(_) => Fault::UpstreamFailed,
            SendFault::Timeout(_) => Fault::UpstreamTimeout,
            SendFault::SessionEnded => Fault::SessionEnded,
            SendFault::AgentFailed(_) => Fault::AgentFailed,
        }
    }
}

/// Sends the call that `evidence` was given for; with a `handshake`, asks the backend to become a tunnel. Dropping the
/// future cancels it at the backend.
///
/// # Errors
/// [`SendFault`]: the backend's answer did not begin.
pub async fn send(
    evidence: Evidence<'_>,
    call: Outbound<'_>,
    body: RequestBody,
    handshake: Option<Handshake>,
) -> Result<Response<Passage>, SendFault> {
    match handshake {
        Some(handshake) => upgrade::exchange(call, handshake, Arc::clone(body.meter())).await,
        None => exchange(call, body, evidence.grant())
            .await
            .map(|answer| answer.map(Passage::Body)),
    }
}

/// Whether a call may be written a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// Once, where a kept connection was closed without a byte of answer.
    Once,
    Never,
}

impl Again {
    fn of(method: &Method, framing: Framing, grant: Option<GrantUse>) -> Self {
        let safe = matches!(*method, Method::GET | Method::HEAD);
        match (grant, framing) {
            (Some(GrantUse::OnUse), Framing::None) if safe => Again::Once,
            // What passes in shadow might have gone on a stored grant.
            (Some(GrantUse::OnUse | GrantUse::Stored(_)) | None, _) => Again::Never,
        }
    }
}

/// What of a body that says how long it is has come in a crowd before its backend is spoken to.
const GATHERED_BYTES: u64 = 16 * 1024;

async fn exchange(
    call: Outbound<'_>,
    mut body: RequestBody,
    grant: Option<GrantUse>,
) -> Result<Response<UpstreamBody>, SendFault> {
    let meter = body.meter().clone();
    let guard = sweep::here(call.clock).guard(Some(call.session.clone()), call.outfit.timeout);
    let framing = framing(&call, &body);
    let again = Again::of(call.method, framing, grant);
    if framing == Framing::Sized && room::is_crowded() {
        // Who is slow in a crowd holds no connection to a backend before there is something to send.
        let gathering = pin!(body.gather(GATHERED_BYTES));
        match guard.watch(gathering).await {
            Ok(gathered) => gathered.map_err(SendFault::AgentFailed)?,
            Err(Lapse::Ended | Lapse::Deadline) => return Err(SendFault::SessionEnded),
        }
    }
    let outgoing = if framing == Framing::None || framing == Framing::Empty {
        Outgoing::Empty
    } else {
        body.pace(guard.remote());
        let trailers = call.outfit.rules.trailers();
        Outgoing::Stream(Box::pin(answer::Carried { body, trailers }))
    };
    let (response, lease) = match call.exchange(framing, outgoing, again, &guard).await {
        Ok(answered) => answered,
        Err(fault) => {
            if let Fault::UpstreamTls(check) = fault.record() {
                call.outfit.tell(check, call.clock.tick());
            }
            // An agent that failed makes the exchange fail; what is at its root is what is told.
            return Err(meter.body_fault().map_or(fault, SendFault::AgentFailed));
        }
    };
    let (head, mut incoming, reuse) = receive(response, &call)?;
    if has_no_content(call.method, head.status) && !incoming.is_end_stream() {
        await_end(&mut incoming, &guard).await?;
    }
    guard.settle();
    Ok(Response::from_parts(
        head,
        UpstreamBody::new(incoming, lease, reuse, guard, meter),
    ))
}

/// Whether a connection whose answer was read to its end may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reuse {
    Yes,
    No,
}

impl Outbound<'_> {
    async fn exchange(
        &self,
        framing: Framing,
        mut body: Outgoing,
        again: Again,
        guard: &Guard,
    ) -> Result<(Response<Answer>, Lease), SendFault> {
        let outfit = self.outfit;
        let mut lease = match Lease::kept(&outfit.place, self.owner) {
            Some(lease) => lease,
            None => {
                let opening = Lease::open(&outfit.place, self.owner, outfit.connect_timeout);
                self.dial(Box::pin(opening), guard).await?
            }
        };
        loop {
            // Not before: its form is that of the version which the connection turned out to speak.
            let request = self.request(framing, body, lease.version())?;
            self.listen(&mut lease);
            guard.arm();
            guard.cut(lease.cut());
            let answered = {
                let exchange = pin!(lease.exchange(request));
                guard.watch(exchange).await
            };
            match answered {
                Ok(Ok(response)) => return Ok((response, lease)),
                Ok(Err(unanswered)) => {
                    body = once_more(unanswered, lease.origin(), again)?;
                    // This one ends the loop, whatever becomes of it.
                    let opening = Lease::again(&outfit.place, self.owner, outfit.connect_timeout);
                    lease = self.dial(Box::pin(opening), guard).await?;
                }
                Err(Lapse::Deadline) => return Err(SendFault::Timeout(Slow::Answer)),
                Err(Lapse::Ended) => return Err(SendFault::SessionEnded),
            }
        }
    }

    /// Has 1xx answers said to the agent.
    fn listen(&self, lease: &mut Lease) {
        if let Some(line) = self.line {
            let line = Arc::clone(line);
            lease.relay(Box::new(move |status, fields| line.say(status, fields)));
        }
    }

    /// Rare beside calls on kept connections, and large: its future is the caller's to box.
    async fn dial(
        &self,
        opening: impl Future<Output = Result<Lease, DialFault>> + Unpin,
        guard: &Guard,
    ) -> Result<Lease, SendFault> {
        // The connect timeout alone bounds this step.
        guard.disarm();
        match guard.watch(opening).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(DialFault::Timeout)) => Err(SendFault::Timeout(Slow::Connect)),
            Ok(Err(fault)) => Err(SendFault::Failed(UpstreamFault::Dial(fault))),
            Err(Lapse::Deadline) => Err(SendFault::Timeout(Slow::Connect)),
            Err(Lapse::Ended) => Err(SendFault::SessionEnded),
        }
    }

    fn request(
        &self,
        framing: Framing,
        body: Outgoing,
        version: Version,
    ) -> Result<Request<Outgoing>, SendFault> {
        let outfit = self.outfit;
        let target = SendFault::Failed(UpstreamFault::Target);
        let peer = peer_value(self.peer);
        let authority = match self.headers.get(HOST) {
            Some(host) => host.clone(),
            None => HeaderValue::from_str(self.authority).map_err(|_| target)?,
        };
        let credential = outfit.credential();
        let mut headers = fields::forward(
            self.headers,
            &outfit.rules,
            Stamp {
                host: outfit.host.as_ref().unwrap_or(&authority),
                peer: &peer,
                authority: &authority,
                channel: self.channel,
                trust: self.trust,
                credential: credential.as_ref(),
                framing,
                trace: self.trace.as_ref(),
            },
        );
        if outfit.plain {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let uri = self.path_and_query().ok_or(target)?;
        let uri = if version == Version::HTTP_2 {
            fields::for_http2(&mut headers, body.size_hint().exact());
            outfit.absolute(uri, &authority).ok_or(target)?
        } else {
            uri
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Base path, canonical path behind the mount, query: one buffer, parsed in place.
    fn path_and_query(&self) -> Option<Uri> {
        let base = &*self.outfit.base_path;
        let query = self.query.map_or(0, |query| query.len() + 1);
        let mut text = String::with_capacity(base.len() + self.path.len().max(1) + query);
        text.push_str(base);
        text.push_str(self.path);
        if text.is_empty() {
            text.push('/');
        }
        if let Some(query) = self.query {
            text.push('?');
            text.push_str(query);
        }
        Uri::from_maybe_shared(Bytes::from(text)).ok()
    }
}

/// The body to write a second time after a kept connection brought no answer, where that is allowed.
fn once_more(unanswered: Unanswered, origin: Origin, again: Again) -> Result<Outgoing, SendFault> {
    let failed = |fault| Err(SendFault::Failed(UpstreamFault::Exchange(fault)));
    match (unanswered, origin, again) {
        // Whatever the method: the backend did nothing with it, so this is no second time.
        (Unanswered::Unsent(body), Origin::Kept, _) => Ok(body),
        (Unanswered::Silent(_), Origin::Kept, Again::Once) => Ok(Outgoing::Empty),
        (Unanswered::Unsent(_), Origin::Fresh, _) => failed(ExchangeFault::Closed),
        (Unanswered::Silent(fault), Origin::Fresh, _)
        | (Unanswered::Silent(fault), Origin::Kept, Again::Never)
        | (Unanswered::Broken(fault), Origin::Kept | Origin::Fresh, _) => failed(fault),
    }
}

/// The address as a field's value.
fn peer_value(peer: IpAddr) -> HeaderValue {
    // A v4 client of a dual-stack listener is told as what it is.
    let text = peer.to_canonical().to_string();
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("an IP address is a field value")
}

fn framing(call: &Outbound<'_>, body: &RequestBody) -> Framing {
    let bytes = match body.is_end_stream() {
        true => Some(0),
        false => body.size_hint().exact().map(|bytes| bytes.max(1)),
    };
    framing_of(call.method, call.headers, bytes)
}

/// Of a body of so many bytes; `None`: as many as come.
fn framing_of(method: &Method, headers: &HeaderMap, bytes: Option<u64>) -> Framing {
    let expected = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    match bytes {
        Some(0) if expected || headers.contains_key(CONTENT_LENGTH) => Framing::Empty,
        Some(0) => Framing::None,
        Some(_) => Framing::Sized,
        None => Framing::Chunked,
    }
}

/// The answer's head, judged and cleaned.
fn receive(
    response: Response<Answer>,
    call: &Outbound<'_>,
) -> Result<(http::response::Parts, Answer, Reuse), SendFault> {
    let (mut head, incoming) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(SendFault::Failed(UpstreamFault::Upgrade));
    }
    let length = if *call.method == Method::HEAD && has_one_length(&head.headers) {
        Length::Unsent
    } else {
        Length::OfBody
    };
    fields::clean_response(&mut head.headers, length);
    call.outfit.places.map(&mut head.headers, call.authority);
    let reuse = if matches!(head.version, Version::HTTP_11 | Version::HTTP_2) {
        Reuse::Yes
    } else {
        Reuse::No
    };
    // The agent's connection has a version of its own.
    head.version = Version::HTTP_11;
    Ok((head, incoming, reuse))
}

/// Whether an answer is over with its head, whatever the head says (RFC 9110, section 6.4.1).
fn has_no_content(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Reads the end of an answer without content. Over HTTP/2 it may come behind the head, and the agent's connection does
/// not ask for it: the call would look as if the agent had left, and the backend as if it had been given up.
async fn await_end(answer: &mut Answer, guard: &Guard) -> Result<(), SendFault> {
    let end = async {
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *answer).poll_frame(cx)).await {
            frame?;
        }
        Ok(())
    };
    match guard.watch(pin!(end)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(fault)) => Err(SendFault::Failed(UpstreamFault::Exchange(fault))),
        Err(Lapse::Deadline) => Err(SendFault::Timeout(Slow::Answer)),
        Err(Lapse::Ended) => Err(SendFault::SessionEnded),
    }
}

fn has_one_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (Some(length), None) => {
            !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
