//! The fields of a forwarded request: what the agent sent, less what is not the backend's, plus what the gate says.

use super::{Class, Nominated, Rules, TOOLGATE_SESSION, VIA_TOOLGATE, options};
use crate::gate::Channel;
use crate::io::telemetry::Context;
use crate::policy::model::SessionHeader;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, VIA,
};

/// Whether the peer may say for whom it forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is an agent: what it says of its origin is dropped.
    Agent,
    /// It is in `trusted_proxies`: what it says is kept and added to.
    Proxy,
}

/// What is set on every forwarded request.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// The `Host` sent.
    pub host: &'a HeaderValue,
    /// The address the request came from, as `X-Forwarded-For` has it.
    pub peer: &'a HeaderValue,
    /// The authority the agent asked for.
    pub authority: &'a HeaderValue,
    /// What the request came by.
    pub channel: Channel,
    /// Whether what came with the request of its origin is kept.
    pub trust: Trust,
    /// The backend's credential, marked sensitive.
    pub credential: Option<&'a HeaderValue>,
    /// Whether a body follows, framed by hyper.
    pub framing: Framing,
    /// What is said of the trace in the agent's stead.
    pub trace: Option<&'a Context>,
}

/// How the request's body is framed towards the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// There is none, and the method or the agent says so: `Content-Length: 0`.
    Empty,
    /// hyper writes `Content-Length` from the body's exact size.
    Sized,
    /// Chunked.
    Chunked,
}

/// The fields of the forwarded request, from those that [`check_request`] let pass.
pub fn forward(headers: &HeaderMap, rules: &Rules, stamp: Stamp<'_>) -> HeaderMap {
    let nominated = Nominated::by(headers);
    let own_authorization = rules.session_header == SessionHeader::ToolgateSession
        && headers.contains_key(TOOLGATE_SESSION);
    let mut out = HeaderMap::with_capacity(headers.len() + STAMPED_FIELDS);
    out.append(HOST, stamp.host.clone());
    for (name, value) in headers {
        let carried = match Class::of(name.as_str()) {
            Class::Plain | Class::Checked | Class::Via | Class::Override | Class::Unknown => true,
            Class::Authorization => own_authorization,
            Class::Origin => stamp.trust == Trust::Proxy && !is_stamped(name.as_str()),
            Class::Hop | Class::Framing | Class::Te | Class::Trailer | Class::Gate => false,
        };
        if carried && rules.credential.as_ref() != Some(name) && !nominated.holds(name) {
            out.append(name, value.clone());
        }
    }
    join_cookies(&mut out);
    if let Some(trace) = stamp.trace {
        trace.stamp(&mut out);
    }
    if let (Some(name), Some(value)) = (&rules.credential, stamp.credential) {
        out.insert(name, value.clone());
    }
    stamp_origin(headers, &mut out, stamp);
    out.append(VIA, VIA_TOOLGATE);
    frame(headers, rules, &mut out, stamp.framing);
    out
}

/// HTTP/2 may send cookies one by one; any other reader knows them as one field (RFC 9113, section 8.2.3).
fn join_cookies(out: &mut HeaderMap) {
    let mut crumbs = out.get_all(COOKIE).iter();
    if let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) {
        let mut joined = first.as_bytes().to_vec();
        for crumb in std::iter::once(second).chain(crumbs) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(crumb.as_bytes());
        }
        // Values of fields with a separator of fields: again one.
        if let Ok(value) = HeaderValue::from_bytes(&joined) {
            out.insert(COOKIE, value);
        }
    }
}

/// Room for what the gate adds: Host, credential, Via, three of origin, framing.
const STAMPED_FIELDS: usize = 8;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

fn is_stamped(name: &str) -> bool {
    matches!(
        name,
        "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host"
    )
}

fn stamp_origin(headers: &HeaderMap, out: &mut HeaderMap, stamp: Stamp<'_>) {
    let said = |name: &HeaderName| match stamp.trust {
        Trust::Agent => None,
        Trust::Proxy => headers.get(name).cloned(),
    };
    let chain = match stamp.trust {
        Trust::Agent => None,
        Trust::Proxy => chain(headers, stamp.peer),
    };
    out.insert(FORWARDED_FOR, chain.unwrap_or_else(|| stamp.peer.clone()));
    out.insert(
        FORWARDED_PROTO,
        said(&FORWARDED_PROTO).unwrap_or(match stamp.channel {
            Channel::Plain => HeaderValue::from_static("http"),
            Channel::Tls { .. } => HeaderValue::from_static("https"),
        }),
    );
    out.insert(
        FORWARDED_HOST,
        said(&FORWARDED_HOST).unwrap_or_else(|| stamp.authority.clone()),
    );
}

/// What a trusted proxy said of the addresses before it, as one list with the proxy's own behind it.
fn chain(headers: &HeaderMap, peer: &HeaderValue) -> Option<HeaderValue> {
    let mut list = Vec::new();
    for said in headers.get_all(FORWARDED_FOR) {
        list.extend_from_slice(said.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(peer.as_bytes());
    HeaderValue::from_bytes(&list).ok()
}

fn frame(headers: &HeaderMap, rules: &Rules, out: &mut HeaderMap, framing: Framing) {
    match framing {
        Framing::None => {}
        Framing::Empty => {
            out.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        // hyper writes the length: it is the one that counts the body.
        Framing::Sized => {}
        Framing::Chunked => {
            out.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            // hyper sends those trailers alone that are announced here.
            for announced in headers.get_all(TRAILER) {
                announce(announced, rules, out);
            }
        }
    }
    if headers
        .get_all(TE)
        .iter()
        .any(|value| options(value).any(|o| o.eq_ignore_ascii_case(b"trailers")))
    {
        out.insert(TE, HeaderValue::from_static("trailers"));
        out.insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Brings the fields of a forwarded request into the form of HTTP/2 (RFC 9113 section 8.2): what belongs to a connection
/// goes, `Host` is said by `:authority`, and `length`, where the body has one, by `Content-Length` all the same.
pub fn for_http2(headers: &mut HeaderMap, length: Option<u64>) {
    headers.remove(HOST);
    headers.remove(CONNECTION);
    let chunked = headers.remove(TRANSFER_ENCODING).is_some();
    // A body of none is said where `forward` says it.
    if let Some(length @ 1..) = length
        && !chunked
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

fn announce(announced: &HeaderValue, rules: &Rules, out: &mut HeaderMap) {
    for option in options(announced) {
        if let Ok(name) = HeaderName::from_bytes(option)
            && Class::of(name.as_str()) == Class::Unknown
            && rules.credential.as_ref() != Some(&name)
            && !rules.is_alias(name.as_str())
        {
            out.append(TRAILER, HeaderValue::from_name(name));
        }
    }
}
