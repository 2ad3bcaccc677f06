//! Header fields that may not be sent: what a backend could read otherwise than the gate does, judged by the tool it is for.
//!
//! It refuses to repair: a field that may not be sent is an error that names the field, never a field silently mended. What
//! is carried over, and in which form, is the gate's.

mod names;

use super::content::fold;
use super::decision::Reason;
use super::model::{SessionHeader, Tool};
use super::token::TOKEN_BYTES;
use http::header::{AUTHORIZATION, CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue};
use names::{FOLDED_BYTES_MAX, PROTECTED_FOLDED, is_of_family};

pub(crate) use names::Class;

/// What of a tool the fields of its requests are judged by.
#[derive(Debug)]
pub struct Rules {
    /// The field that the gate sets in the agent's stead.
    pub(crate) credential: Option<HeaderName>,
    pub(crate) credential_folded: Box<[u8]>,
    pub(crate) session_header: SessionHeader,
    pub(crate) allow_method_override: Box<[Box<str>]>,
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

impl FieldFault {
    /// What the agent is told.
    pub const fn reason(&self) -> Reason {
        match self {
            FieldFault::Expectation => Reason::RequestMalformed,
            FieldFault::Override(_)
            | FieldFault::Alias(_)
            | FieldFault::Nominated(_)
            | FieldFault::TokenInField(_)
            | FieldFault::TokenInTarget
            | FieldFault::TwoCredentials
            | FieldFault::Repeated(_) => Reason::FieldForbidden,
        }
    }
}

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

    /// The rules of `tool` with the credential that its backend is sent. One with a name that is no header's is not loaded.
    pub fn of(tool: &Tool) -> Self {
        let upstream = tool.upstream.as_ref();
        let credential = upstream.and_then(|upstream| upstream.credential.as_ref());
        let named = credential.and_then(|it| HeaderName::from_bytes(it.header.as_bytes()).ok());
        Self::new(tool, named)
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
    pub(crate) fn is_alias(&self, name: &str) -> bool {
        is_alias(name, &self.credential_folded)
    }
}

pub(crate) fn is_alias(name: &str, credential_folded: &[u8]) -> bool {
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

/// The elements of a comma-separated list, trimmed, without the empty ones.
pub(crate) fn options(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
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
