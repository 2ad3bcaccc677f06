//! Header fields: which an agent may send, which reach the backend, which come back.
//!
//! Two places in the journey: [`check_request`], which is the policy's, refuses, before anything is decided, what a backend
//! could read otherwise than the gate does; [`forward`] and [`clean_response`] carry over what belongs to the exchange and
//! drop what belongs to one connection (RFC 9110 section 7.6.1).
//!
//! It refuses to repair: a field that may not be sent is an error that names the field, never a field silently mended.

mod carry;
mod held;

pub use carry::{Framing, Stamp, Trust, for_http2, forward};
pub use held::{HeldField, Tells, again, held};

pub use crate::policy::fields::{FieldFault, Rules, TOOLGATE_SESSION, check_request, holds_token};

use crate::policy::content::fold;
use crate::policy::fields::{Class, is_alias, options};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};

/// The token by which the gate names itself in `Via`.
const VIA_TOOLGATE: HeaderValue = HeaderValue::from_static("1.1 toolgate");

impl Rules {
    /// What of an agent's trailers reaches the backend.
    pub fn trailers(&self) -> TrailerRules {
        TrailerRules {
            credential: self.credential.clone(),
        }
    }
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

/// The elements of every field of the name `list`, trimmed, without the empty ones.
pub fn listed<'h>(headers: &'h HeaderMap, list: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers.get_all(list).into_iter().flat_map(options)
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
