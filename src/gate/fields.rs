//! Header fields: which an agent may send, which reach the backend, which come back.
//!
//! Two places in the journey: [`check_request`] refuses, before anything is decided, what a backend could read otherwise
//! than the gate does; [`forward`] and [`clean_response`] carry over what belongs to the exchange and drop what
//! belongs to one connection (RFC 9110 section 7.6.1).
//!
//! It refuses to repair: a field that may not be sent is an error that names the field, never a field silently mended.

mod carry;
mod held;
mod names;

pub use carry::{Framing, Stamp, Trust, for_http2, forward};
pub use held::{HeldField, Tells, again, held};

use crate::policy::content::fold;
use crate::policy::model::{SessionHeader, Tool};
use crate::policy::token::TOKEN_BYTES;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use names::{Class, FOLDED_BYTES_MAX, PROTECTED_FOLDED, is_of_family};

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
    #[error(
        "the field {0} would have the backend act on another method or path than the gate checked; leave it out"
    )]
    Override(HeaderName),
    /// Spelt differently from a protected field, and read as that field by some backends.
    #[error("the field {0} can be read as one that the gate sets or checks; leave it out")]
    Alias(HeaderName),
    /// `Connection` names a field that the gate sets or checks.
    #[error("Connection may not name the field {0}; leave it out of Connection")]
    Nominated(HeaderName),
    /// A session token where none belongs.
    #[error(
        "the field {0} holds a session token; send the token in Authorization or Toolgate-Session only"
    )]
    TokenInField(HeaderName),
    /// A session token in the path or query.
    #[error(
        "the target holds a session token; send the token in Authorization or Toolgate-Session only"
    )]
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

/// The token by which the gate names itself in `Via`.
const VIA_TOOLGATE: HeaderValue = HeaderValue::from_static("1.1 toolgate");

impl Rules {
    /// The rules of `tool`. The credential's name must be a header name; the configuration checks it.
    pub fn new(tool: &Tool, credential: Option<HeaderName>) -> Self {
        let folded = credential
            .as_ref()
            .map(|name| fold(name.as_str()).collect());
        Self {
            credential_folded: folded.unwrap_or_default(),
            credential,
            session_header: tool.session_header,
            allow_method_override: tool.allow_method_override.clone(),
        }
    }

    fn allows_override(&self, name: &str) -> bool {
        self.allow_method_override
            .iter()
            .any(|allowed| &**allowed == name)
    }

    /// Whether the gate sets or checks this end-to-end field, so that no agent may have it removed on the way.
    fn protects(&self, name: &HeaderName) -> bool {
        self.credential.as_ref() == Some(name)
            || match Class::of(name.as_str()) {
                Class::Checked
                | Class::Framing
                | Class::Authorization
                | Class::Gate
                | Class::Origin
                | Class::Override
                | Class::Via => true,
                Class::Plain | Class::Hop | Class::Te | Class::Trailer => false,
                Class::Unknown => self.is_alias(name.as_str()),
            }
    }

    /// Whether a backend that ignores case and punctuation in names (CGI, WSGI and kin) could read `name`, which is no
    /// protected name itself, as one.
    fn is_alias(&self, name: &str) -> bool {
        is_alias(name, &self.credential_folded)
    }

    /// What of an agent's trailers reaches the backend.
    pub fn trailers(&self) -> TrailerRules {
        TrailerRules {
            credential: self.credential.clone(),
        }
    }
}

fn is_alias(name: &str, credential_folded: &[u8]) -> bool {
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
        || (!folded.is_empty() && *folded == *credential_folded)
}

/// What of an agent's trailers reaches the backend: what may not be a field may not be a trailer.
#[derive(Debug)]
pub struct TrailerRules {
    credential: Option<HeaderName>,
}

impl TrailerRules {
    /// Removes the others.
    pub fn clean(&self, trailers: &mut HeaderMap) {
        let credential: Vec<u8> = self
            .credential
            .iter()
            .flat_map(|name| fold(name.as_str()))
            .collect();
        let forbidden = |name: &&HeaderName| {
            Class::of(name.as_str()) != Class::Unknown
                || self.credential.as_ref() == Some(name)
                || is_alias(name.as_str(), &credential)
        };
        let forbidden: Vec<HeaderName> = trailers.keys().filter(forbidden).cloned().collect();
        for name in forbidden {
            trailers.remove(name);
        }
    }
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
    if named
        && rules.session_header == SessionHeader::Authorization
        && headers.contains_key(AUTHORIZATION)
    {
        return Err(FieldFault::TwoCredentials);
    }
    for (name, value) in headers {
        match Class::of(name.as_str()) {
            Class::Plain
            | Class::Checked
            | Class::Te
            | Class::Trailer
            | Class::Via
            | Class::Origin => {}
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
    if options(value).nth(NOMINATED_MAX).is_some() {
        return Err(FieldFault::Nominated(CONNECTION));
    }
    for option in options(value) {
        if let Ok(name) = HeaderName::from_bytes(option)
            && rules.protects(&name)
        {
            return Err(FieldFault::Nominated(name));
        }
    }
    Ok(())
}

/// Most options of one `Connection`: each is compared with each field.
const NOMINATED_MAX: usize = 32;

/// The elements of every field of the name `list`, trimmed, without the empty ones.
pub fn listed<'h>(headers: &'h HeaderMap, list: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers.get_all(list).into_iter().flat_map(options)
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
                || text[at + PREFIX.len()..]
                    .iter()
                    .take(TOKEN_BYTES - PREFIX.len())
                    .take_while(|byte| is_token_byte(byte))
                    .count()
                    == TOKEN_BYTES - PREFIX.len())
    })
}

/// Names that `Connection` says are between two neighbours only.
struct Nominated<'a>(Vec<&'a [u8]>);

/// Whether `Connection` takes a field away before the request is forwarded.
pub(super) fn is_nominated(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.contains_key(CONNECTION) && Nominated::by(headers).holds(name)
}

impl<'a> Nominated<'a> {
    fn by(headers: &'a HeaderMap) -> Self {
        let mut names = Vec::new();
        for value in headers.get_all(CONNECTION) {
            names.extend(options(value).filter(|option| !is_bare_option(option)));
        }
        Self(names)
    }

    fn holds(&self, name: &HeaderName) -> bool {
        self.0
            .iter()
            .any(|nominated| nominated.eq_ignore_ascii_case(name.as_str().as_bytes()))
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
    for name in &RESPONSE_HOP {
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
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("toolgate-"))
        .cloned()
        .collect();
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

const RESPONSE_HOP: [HeaderName; 3] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
];

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

#[cfg(test)]
mod tests;
