//! Header fields: which an agent may send, which reach the backend, which come back.
//!
//! Two places in the journey: [`check_request`] refuses, before anything is decided, what a backend could read otherwise
//! than the gate does; [`forward`] and [`clean_response`] carry over what belongs to the exchange and drop what
//! belongs to one connection (RFC 9110 section 7.6.1).
//!
//! It refuses to repair: a field that may not be sent is an error that names the field, never a field silently mended.

use crate::policy::model::{SessionHeader, Tool};
use crate::policy::token::TOKEN_BYTES;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};

/// What of a tool the fields of its requests are judged by.
#[derive(Debug)]
pub struct Rules {
    /// The field that the gate sets in the agent's stead.
    credential: Option<HeaderName>,
    credential_folded: Box<[u8]>,
    session_header: SessionHeader,
    allow_method_override: Box<[Box<str>]>,
}

/// A field that may not be sent: 400 `field_forbidden`; [`FieldFault::Expectation`] is 417 `request_malformed`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldFault {
    /// `X-HTTP-Method-Override` and kin, on a tool that does not allow it by name.
    #[error("the field {0} would have the backend act on another method or path than the gate checked; leave it out")]
    Override(HeaderName),
    /// Spelt differently from a protected field, and read as that field by some backends.
    #[error("the field {0} can be read as one that the gate sets or checks; leave it out")]
    Alias(HeaderName),
    /// `Connection` names a field that the gate sets or checks.
    #[error("Connection may not name the field {0}; leave it out of Connection")]
    Nominated(HeaderName),
    /// A session token where none belongs.
    #[error("the field {0} holds a session token; send the token in Authorization or Toolgate-Session only")]
    TokenInField(HeaderName),
    /// A session token in the path or query.
    #[error("the target holds a session token; send the token in Authorization or Toolgate-Session only")]
    TokenInTarget,
    /// `Toolgate-Session` beside an `Authorization` that this tool does not take.
    #[error("send the session token in Authorization or in Toolgate-Session, not both")]
    TwoCredentials,
    /// A credential sent twice.
    #[error("the field {0} may be sent only once")]
    Repeated(HeaderName),
    /// `Expect` of anything but `100-continue`.
    #[error("only the expectation 100-continue can be met")]
    Expectation,
}

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
    /// Whether what came with the request of its origin is kept.
    pub trust: Trust,
    /// The backend's credential, marked sensitive.
    pub credential: Option<&'a HeaderValue>,
    /// Whether a body follows, framed by hyper.
    pub framing: Framing,
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

/// The token by which the gate names itself in `Via`.
const VIA_TOOLGATE: HeaderValue = HeaderValue::from_static("1.1 toolgate");

impl Rules {
    /// The rules of `tool`. The credential's name must be a header name; the configuration checks it.
    pub fn new(tool: &Tool, credential: Option<HeaderName>) -> Self {
        let folded = credential.as_ref().map(|name| fold(name.as_str()).collect());
        Self {
            credential_folded: folded.unwrap_or_default(),
            credential,
            session_header: tool.session_header,
            allow_method_override: tool.allow_method_override.clone(),
        }
    }

    fn allows_override(&self, name: &str) -> bool {
        self.allow_method_override.iter().any(|allowed| &**allowed == name)
    }

    /// Whether the gate sets or checks this end-to-end field, so that no agent may have it removed on the way.
    fn protects(&self, name: &HeaderName) -> bool {
        self.credential.as_ref() == Some(name)
            || match Class::of(name.as_str()) {
                Class::Checked | Class::Framing | Class::Authorization | Class::Gate | Class::Origin
                | Class::Override | Class::Via => true,
                Class::Plain | Class::Hop | Class::Te | Class::Trailer => false,
                Class::Unknown => self.is_alias(name.as_str()),
            }
    }

    /// Whether a backend that ignores case and punctuation in names (CGI, WSGI and kin) could read `name`, which is no
    /// protected name itself, as one.
    fn is_alias(&self, name: &str) -> bool {
        let mut room = [0; FOLDED_BYTES_MAX];
        let mut length = 0;
        for byte in fold(name) {
            let Some(place) = room.get_mut(length) else {
                // Longer than every protected name, so only the families of names remain.
                return is_of_family(&room);
            };
            *place = byte;
            length += 1;
        }
        let folded = &room[..length];
        is_of_family(folded)
            || PROTECTED_FOLDED.binary_search(&folded).is_ok()
            || (!folded.is_empty() && *folded == *self.credential_folded)
    }
}

/// What a request's field is to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Well known, carried over.
    Plain,
    /// Well known, carried over, and read by the gate.
    Checked,
    /// Between the agent and the gate only.
    Hop,
    /// The gate frames, addresses and paces the request itself.
    Framing,
    /// `TE`: only `trailers` is passed on.
    Te,
    /// `Trailer`: what may not be a field may not be a trailer.
    Trailer,
    Via,
    Authorization,
    /// `Toolgate-*`.
    Gate,
    /// Says where a request comes from.
    Origin,
    /// Has some backends act on another method or path.
    Override,
    /// Carried over unless it is an alias of a protected name.
    Unknown,
}

impl Class {
    fn of(name: &str) -> Self {
        match name {
            "accept" | "accept-encoding" | "accept-language" | "user-agent" | "cookie" | "cache-control"
            | "date" | "origin" | "pragma" | "range" | "referer" | "if-match" | "if-modified-since"
            | "if-none-match" | "if-range" | "if-unmodified-since" | "tracestate" | "x-request-id" => {
                Class::Plain
            }
            "content-type" | "content-encoding" | "idempotency-key" | "prefer" | "traceparent" => Class::Checked,
            "connection" | "keep-alive" | "proxy-connection" | "proxy-authenticate" | "proxy-authorization"
            | "transfer-encoding" | "upgrade" | "http2-settings" => Class::Hop,
            "content-length" | "host" | "expect" => Class::Framing,
            "te" => Class::Te,
            "trailer" => Class::Trailer,
            "via" => Class::Via,
            "authorization" => Class::Authorization,
            "forwarded" | "x-real-ip" | "x-client-ip" | "true-client-ip" | "cf-connecting-ip" => Class::Origin,
            "x-http-method-override" | "x-http-method" | "x-method-override" | "x-original-method"
            | "x-original-url" | "x-original-uri" | "x-rewrite-url" | "x-override-url" => Class::Override,
            _ if name.starts_with("toolgate-") => Class::Gate,
            _ if name.starts_with("x-forwarded-") || name == "x-forwarded" => Class::Origin,
            _ => Class::Unknown,
        }
    }
}

/// Protected names without case and punctuation, sorted.
const PROTECTED_FOLDED: [&[u8]; 29] = [
    b"authorization",
    b"cfconnectingip",
    b"connection",
    b"contentencoding",
    b"contentlength",
    b"contenttype",
    b"expect",
    b"forwarded",
    b"host",
    b"idempotencykey",
    b"keepalive",
    b"proxyauthorization",
    b"proxyconnection",
    b"te",
    b"trailer",
    b"transferencoding",
    b"trueclientip",
    b"upgrade",
    b"via",
    b"xclientip",
    b"xhttpmethod",
    b"xhttpmethodoverride",
    b"xmethodoverride",
    b"xoriginalmethod",
    b"xoriginaluri",
    b"xoriginalurl",
    b"xoverrideurl",
    b"xrealip",
    b"xrewriteurl",
];

/// No protected name is longer; a longer credential name is compared by its family only, see [`Rules::is_alias`].
const FOLDED_BYTES_MAX: usize = 64;

fn fold(name: &str) -> impl Iterator<Item = u8> {
    name.bytes()
        .filter(u8::is_ascii_alphanumeric)
        .map(|byte| byte.to_ascii_lowercase())
}

fn is_of_family(folded: &[u8]) -> bool {
    folded.starts_with(b"toolgate") || folded.starts_with(b"xforwarded")
}

/// Judges the fields of a matched request, and its target, for one thing alone: what may not be sent at all.
///
/// # Errors
/// [`FieldFault`], the first found.
pub fn check_request(headers: &HeaderMap, target: &str, rules: &Rules) -> Result<(), FieldFault> {
    if holds_token(target.as_bytes()) {
        return Err(FieldFault::TokenInTarget);
    }
    let named = headers.contains_key(TOOLGATE_SESSION);
    if named && rules.session_header == SessionHeader::Authorization && headers.contains_key(AUTHORIZATION) {
        return Err(FieldFault::TwoCredentials);
    }
    for (name, value) in headers {
        match Class::of(name.as_str()) {
            Class::Plain | Class::Checked | Class::Te | Class::Trailer | Class::Via | Class::Origin => {}
            Class::Hop => {
                if name == CONNECTION {
                    check_nominations(value, rules)?;
                }
            }
            Class::Framing => {
                if name == EXPECT && !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                    return Err(FieldFault::Expectation);
                }
            }
            Class::Authorization => {
                once(headers, name)?;
                if !named {
                    // The session's credential: the one place for a token.
                    continue;
                }
            }
            Class::Gate => {
                if name == TOOLGATE_SESSION {
                    once(headers, name)?;
                    continue;
                }
            }
            Class::Override => {
                if !rules.allows_override(name.as_str()) {
                    return Err(FieldFault::Override(name.clone()));
                }
            }
            Class::Unknown => {
                if rules.credential.as_ref() != Some(name) && rules.is_alias(name.as_str()) {
                    return Err(FieldFault::Alias(name.clone()));
                }
            }
        }
        if holds_token(value.as_bytes()) {
            return Err(FieldFault::TokenInField(name.clone()));
        }
    }
    Ok(())
}

/// The header that carries the session's token where `Authorization` is the agent's own.
pub const TOOLGATE_SESSION: HeaderName = HeaderName::from_static("toolgate-session");

fn once(headers: &HeaderMap, name: &HeaderName) -> Result<(), FieldFault> {
    if headers.get_all(name).iter().nth(1).is_some() {
        return Err(FieldFault::Repeated(name.clone()));
    }
    Ok(())
}

fn check_nominations(value: &HeaderValue, rules: &Rules) -> Result<(), FieldFault> {
    for option in options(value) {
        if let Ok(name) = HeaderName::from_bytes(option)
            && rules.protects(&name)
        {
            return Err(FieldFault::Nominated(name));
        }
    }
    Ok(())
}

/// The elements of a comma-separated list, trimmed, without the empty ones.
fn options(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}

/// Whether a session token stands in `text`: `tgs_` at the beginning of a word, or with a whole token's length of its
/// characters behind it.
pub fn holds_token(text: &[u8]) -> bool {
    const PREFIX: &[u8] = b"tgs_";
    // `_` is rare and found a machine word at a time; nearly every field ends here.
    if !text.contains(&b'_') {
        return false;
    }
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.windows(PREFIX.len()).enumerate().any(|(at, window)| {
        window == PREFIX
            && (at == 0
                || !text[at - 1].is_ascii_alphanumeric()
                || text[at + PREFIX.len()..].iter().take_while(|byte| is_token_byte(byte)).count()
                    >= TOKEN_BYTES - PREFIX.len())
    })
}

/// The fields of the forwarded request, from those that [`check_request`] let pass.
pub fn forward(headers: &HeaderMap, rules: &Rules, stamp: Stamp<'_>) -> HeaderMap {
    let nominated = Nominated::by(headers);
    let own_authorization =
        rules.session_header == SessionHeader::ToolgateSession && headers.contains_key(TOOLGATE_SESSION);
    let mut out = HeaderMap::with_capacity(headers.len() + STAMPED_FIELDS);
    out.append(http::header::HOST, stamp.host.clone());
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
    if let (Some(name), Some(value)) = (&rules.credential, stamp.credential) {
        out.insert(name, value.clone());
    }
    stamp_origin(headers, &mut out, stamp);
    out.append(VIA, VIA_TOOLGATE);
    frame(headers, rules, &mut out, stamp.framing);
    out
}

/// Room for what the gate adds: Host, credential, Via, three of origin, framing.
const STAMPED_FIELDS: usize = 8;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

fn is_stamped(name: &str) -> bool {
    matches!(name, "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host")
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
        said(&FORWARDED_PROTO).unwrap_or(HeaderValue::from_static("http")),
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
    if headers.get_all(TE).iter().any(|value| options(value).any(|o| o.eq_ignore_ascii_case(b"trailers"))) {
        out.insert(TE, HeaderValue::from_static("trailers"));
        out.insert(CONNECTION, HeaderValue::from_static("te"));
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

/// Names that `Connection` says are between two neighbours only.
struct Nominated<'a>(Vec<&'a [u8]>);

impl<'a> Nominated<'a> {
    fn by(headers: &'a HeaderMap) -> Self {
        let mut names = Vec::new();
        for value in headers.get_all(CONNECTION) {
            names.extend(options(value).filter(|option| !is_bare_option(option)));
        }
        Self(names)
    }

    fn holds(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|nominated| nominated.eq_ignore_ascii_case(name.as_str().as_bytes()))
    }
}

/// Options that most messages have and that name no field which is ever carried over.
fn is_bare_option(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
}

/// Removes from an answer what belongs to the backend's connection or only the gate may say, and adds `Via`.
/// The body's framing is hyper's to write anew; a `Content-Length` that describes a body which is not sent (HEAD) stays.
pub fn clean_response(headers: &mut HeaderMap, length: Length) {
    if headers.contains_key(CONNECTION) {
        let names: Vec<HeaderName> = Nominated::by(headers)
            .0
            .into_iter()
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .collect();
        for name in names {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in RESPONSE_HOP {
        headers.remove(name);
    }
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    match length {
        Length::Unsent => {}
        Length::OfBody => {
            headers.remove(CONTENT_LENGTH);
        }
    }
    let forged: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("toolgate-")).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
    headers.append(VIA, VIA_TOOLGATE);
}

/// What a `Content-Length` in an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// The body that follows.
    OfBody,
    /// A body that HEAD leaves out.
    Unsent,
}

const RESPONSE_HOP: [&str; 3] = ["keep-alive", "proxy-connection", "proxy-authenticate"];

/// Removes from an agent's trailers those that hold a session token; which names may pass was announced by
/// [`forward`].
pub fn clean_trailers(trailers: &mut HeaderMap) {
    let leaking: Vec<HeaderName> = trailers
        .iter()
        .filter(|(_, value)| holds_token(value.as_bytes()))
        .map(|(name, _)| name.clone())
        .collect();
    for name in leaking {
        trailers.remove(name);
    }
}
