//! Step 3: what does the request want? One canonical target, one reading of the head.
//!
//! Everything after this reads the canonical target; nothing rereads the raw one. What two readers could understand
//! differently is refused, never repaired.

use crate::gate::body::RequestBody;
use crate::gate::fields;
use crate::gate::forward::Outfit;
use crate::gate::forward::upgrade::{Handshake, HandshakeFault, is_extended};
use crate::gate::judge::Filled;
use crate::gate::record::{Caller, Entry};
use crate::gate::refusal::Refusal;
use crate::io::telemetry::Parent;
use crate::policy::model::{Policy, Route, ToolIndex, Upgrade};
use crate::policy::route::{Matched, NoRoute};
use crate::policy::target::Target;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body::Body;
use std::borrow::Cow;
use std::fmt::Write;

/// The one reading of the target.
///
/// # Errors
/// The head is malformed, or the target could be read in two ways.
pub(super) fn target(head: &Parts) -> Result<Target, Refusal> {
    Target::parse(&raw_target(head), host(head)?).map_err(Refusal::target_ambiguous)
}

/// The one authority, `Host` or `:authority`, once the head is one that the gate serves at all.
///
/// # Errors
/// Method or `Host` can't be served: `request_malformed`.
fn host(head: &Parts) -> Result<&str, Refusal> {
    // CONNECT asks for a tunnel that nothing would check; TRACE would echo the credential.
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::malformed(
            StatusCode::NOT_IMPLEMENTED,
            format!("the method {} is not served", head.method),
        ));
    }
    let mut values = head.headers.get_all(HOST).iter();
    let host = values.next().map(|value| value.to_str());
    match (host, values.next(), authority(head)) {
        // Where `:authority` says it too, the target is in absolute-form, and its reading compares the two.
        (Some(Ok(host)), None, _) => Ok(host),
        (None, _, Some(authority)) => Ok(authority),
        (Some(_), _, _) | (None, _, None) => Err(Refusal::malformed(
            StatusCode::BAD_REQUEST,
            "the request must name its host once and readably: in `Host`, or on HTTP/2 in `:authority`",
        )),
    }
}

/// `:authority`, which stands in for `Host` on HTTP/2 alone (RFC 9113, section 8.3.1): the authority of an absolute-form
/// on HTTP/1.1 needs a `Host` beside it.
fn authority(head: &Parts) -> Option<&str> {
    let authority = head
        .uri
        .authority()
        .filter(|_| head.version == Version::HTTP_2);
    authority.map(http::uri::Authority::as_str)
}

/// The request-target as hyper read it: origin-form, absolute-form or `*`.
pub(super) fn raw_target(head: &Parts) -> Cow<'_, str> {
    match (head.uri.scheme(), head.uri.authority()) {
        (None, None) => head
            .uri
            .path_and_query()
            .map_or(Cow::Borrowed(""), |target| Cow::Borrowed(target.as_str())),
        _ => Cow::Owned(head.uri.to_string()),
    }
}

/// What one request turned out to be.
#[derive(Clone)]
pub(super) struct Described<'a> {
    pub route: &'a Route,
    /// The tool's precomputed parts.
    pub outfit: &'a Outfit,
    /// What the table found: the first route of its match, or the one whose conditions hold.
    pub matched: Matched<'a>,
    /// Behind the mount, as it is forwarded.
    pub path: &'a str,
    /// What it acts on, where choosing the route needed the body, which tells that too.
    pub filled: Option<Filled>,
}

/// What a canonical target is for.
pub(super) enum Place<'a> {
    /// A call of a route, or of several whose conditions tell them apart.
    Route(Described<'a>),
    /// A tool whose calls are named by what is sent there.
    Endpoint(ToolIndex),
    /// Nothing that the policy knows.
    Nowhere,
}

/// The one match of a canonical target; on record from here on. Why nothing matched stays with the record: the agent
/// sees one answer.
pub(super) fn matched<'a>(
    caller: &'a Caller,
    head: &Parts,
    target: &'a Target,
    entry: &mut Entry,
) -> Place<'a> {
    let policy = &caller.ruleset.policy;
    match policy.table.find(head.method.as_str(), target) {
        Ok(matched) => {
            (entry.tool, entry.route) = (Some(matched.tool), Some(matched.route));
            Place::Route(Described::first(caller, matched, matched.path))
        }
        Err(NoRoute::Called(tool)) => {
            entry.tool = Some(tool);
            Place::Endpoint(tool)
        }
        Err(NoRoute::Route(tool)) => {
            entry.tool = Some(tool);
            Place::Nowhere
        }
        Err(NoRoute::Tool) => Place::Nowhere,
    }
}

impl<'a> Described<'a> {
    /// A call as the first route of its match has it.
    pub(super) fn first(caller: &'a Caller, matched: Matched<'a>, path: &'a str) -> Self {
        Described {
            route: caller.ruleset.policy.route(matched.route),
            outfit: caller.ruleset.outfit(matched.tool),
            matched,
            path,
            filled: None,
        }
    }

    /// The same call, judged by this route of its match.
    pub(super) fn taken(self, matched: Matched<'a>, policy: &'a Policy) -> Self {
        Described {
            route: policy.route(matched.route),
            matched,
            filled: None,
            ..self
        }
    }

    /// The WebSocket that the call asks for, on a route that serves one. On any other the asking is ignored, as
    /// RFC 9110 section 7.8 lets a server do, and not passed on.
    ///
    /// # Errors
    /// It is not asked for as RFC 6455 has it.
    pub(super) fn handshake(
        &self,
        head: &Parts,
        body: Option<&RequestBody>,
    ) -> Result<Option<Handshake>, Refusal> {
        match self.route.upgrade {
            Some(Upgrade::WebSocket) => {
                Handshake::asked(head, body.is_none_or(Body::is_end_stream))
                    .map_err(Refusal::handshake)
            }
            None if is_extended(head) => Err(Refusal::handshake(HandshakeFault::Unserved)),
            None => Ok(None),
        }
    }

    /// Refuses what nobody could agree to beforehand.
    pub(super) fn can_be_held(&self, handshake: Option<&Handshake>) -> Result<(), Refusal> {
        match handshake {
            None => Ok(()),
            Some(_) => Err(Refusal::malformed(
                StatusCode::NOT_IMPLEMENTED,
                "a WebSocket can't wait for a person: nobody could see what will be said on it",
            )),
        }
    }
}

/// A target as records show it: printable ASCII, bounded, and never with a token in it.
pub(super) fn recorded(target: &str) -> Cow<'_, str> {
    if holds_token(target) {
        return Cow::Borrowed("(withheld: it holds a token)");
    }
    if target.len() <= RECORDED_BYTES_MAX && target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(target);
    }
    let mut escaped = String::with_capacity(target.len().min(RECORDED_BYTES_MAX) + 16);
    for byte in target.bytes().take(RECORDED_BYTES_MAX) {
        if byte.is_ascii_graphic() {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    Cow::Owned(escaped)
}

/// Whether a session token stands in a target, plainly or percent-encoded, or a principal's key that the ledger could not
/// find because it is percent-encoded: plain ones are cut out there.
pub(super) fn holds_token(target: &str) -> bool {
    if fields::holds_token(target.as_bytes()) {
        return true;
    }
    if !target.contains('%') {
        return false;
    }
    let text = unescaped(target);
    fields::holds_token(&text) || text.windows(4).any(|window| window == b"tgk_")
}

/// Percent-decoded once, for looking only: what can't be decoded stays.
fn unescaped(text: &str) -> Vec<u8> {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// The id of the trace that the agent says its call is part of.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<Box<str>> {
    let parent = Parent::read(headers)?;
    Some(parent.trace.to_string().into())
}

/// Of a target that could not be read, this much is recorded.
const RECORDED_BYTES_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_target_is_found_plainly_and_percent_encoded_and_never_recorded() {
        let token = "tgs_0123456789abcdefghijklmnop";
        assert!(holds_token(&format!("/a?token={token}")));
        assert!(holds_token("/a?t=%74gs_0123456789%61bcdefghijklmnop"));
        assert!(!holds_token("/files/my_tgs"));
        assert!(!recorded(&format!("/{token}")).contains("tgs_"));
        let key = "%74gk%5F0123456789abcdefghijklmnop";
        assert!(holds_token(&format!("/a?{key}=1")) && !recorded(key).contains("0123"));
    }

    #[test]
    fn an_unreadable_target_is_recorded_escaped() {
        assert_eq!(recorded("/a b\n\u{e9}"), "/a%20b%0A%C3%A9");
    }
}
