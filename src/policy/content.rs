//! A body as a judge reads it: of which media type it says it is, and what it then says. One reading, for the gate and for
//! whoever asks what the gate would do.
//!
//! Nothing is repaired: a body of another type, coding or charset, or one that readers take differently, is refused.

use super::condition::{Content, Found};
use super::json::{JsonError, Value};
use std::borrow::Cow;

/// The value of a header field, of those that have its name: one that stands there once.
pub fn one<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Found<'v> {
    match (values.next(), values.next()) {
        (None, _) => Found::Absent,
        (Some(_), Some(_)) => Found::Many,
        (Some(value), None) => match std::str::from_utf8(value) {
            Ok(text) => Found::One(Cow::Borrowed(text)),
            Err(_) => Found::Unreadable,
        },
    }
}

/// The name of a header field as readers have it that ignore case and punctuation (CGI, WSGI and kin).
pub fn fold(name: &str) -> impl Iterator<Item = u8> {
    name.bytes()
        .filter(u8::is_ascii_alphanumeric)
        .map(|byte| byte.to_ascii_lowercase())
}

/// Whether such a reader takes a field for another one.
pub fn is_taken_for(other: &str, name: &str) -> bool {
    other != name && fold(other).eq(fold(name))
}

/// A name of a field, or anything else of that form (RFC 9110, section 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

/// Whether it may stand in one: a look-up, for heads are read byte by byte.
pub const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let others = b"!#$%&'*+-.^_`|~";
    let mut token = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        token[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        token[others[at] as usize] = true;
        at += 1;
    }
    token
};

/// Why a body can't be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is compressed, or encoded in another way.
    #[error("it has a Content-Encoding")]
    Coding,
    /// None, more than one, or one that can't be read.
    #[error("its media type is neither JSON nor a URL-encoded form, or is not said once")]
    Media,
    /// Another charset than UTF-8.
    #[error("its charset is not UTF-8")]
    Charset,
    /// No JSON, or JSON that readers take differently.
    #[error("it is not JSON that can be judged: {0}")]
    Json(#[from] JsonError),
    /// A form is ASCII, and everything else in it is percent-encoded.
    #[error("it is not a URL-encoded form of at most {FORM_FIELDS_MAX} fields")]
    Form,
}

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`, or a type that ends in `+json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// What no form has unencoded. Some backends take any body for JSON, whatever its type says; a text without these is
/// none that has a name in it.
const NOT_OF_A_FORM: fn(char) -> bool =
    |char| !matches!(char, ' '..='~') || matches!(char, '"' | '{' | '}' | '<' | '>' | '\\');

/// Each is looked at for every condition.
const FORM_FIELDS_MAX: usize = 4096;

impl Media {
    /// What the fields of a call say: each value of its `Content-Encoding` and of its `Content-Type`.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read<'v>(
        mut codings: impl Iterator<Item = &'v [u8]>,
        types: impl Iterator<Item = &'v [u8]>,
    ) -> Result<Self, Unreadable> {
        if codings.any(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"identity")) {
            return Err(Unreadable::Coding);
        }
        let Found::One(text) = one(types) else {
            return Err(Unreadable::Media);
        };
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        for parameter in parts.filter(|part| !part.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or(Unreadable::Media)?;
            let bare = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'));
            let value = bare.unwrap_or(value);
            if !is_token(name.as_bytes()) || !is_token(value.as_bytes()) {
                return Err(Unreadable::Media);
            }
            // RFC 8259 has no charset, and a form has one by its own account: both are UTF-8 or nothing.
            if name.eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
                return Err(Unreadable::Charset);
            }
        }
        match &*essence {
            "application/x-www-form-urlencoded" => Ok(Media::Form),
            "application/json" => Ok(Media::Json),
            other => {
                // RFC 6839 section 3.1. Of other kinds, and of what begins like a form, readers look at the beginning.
                let name = other
                    .strip_prefix("application/")
                    .and_then(|name| name.strip_suffix("+json"));
                let json = name.is_some_and(|name| {
                    is_token(name.as_bytes()) && !name.starts_with("x-www-form-urlencoded")
                });
                json.then_some(Media::Json).ok_or(Unreadable::Media)
            }
        }
    }

    /// What a whole body says.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn content(self, bytes: &[u8]) -> Result<Content<'_>, Unreadable> {
        match self {
            Media::Json => Ok(Content::Json(Value::read(bytes)?)),
            Media::Form => {
                let text = std::str::from_utf8(bytes).ok();
                let few = |text: &&str| {
                    let ends = text.bytes().filter(|byte| matches!(byte, b'&' | b';'));
                    ends.count() < FORM_FIELDS_MAX
                };
                let text = text
                    .filter(|text| !text.contains(NOT_OF_A_FORM))
                    .filter(few);
                text.map(Content::Form).ok_or(Unreadable::Form)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_nothing_in_it_that_json_needs() {
        for form in [
            "",
            "id=7",
            "ids[]=7&why=it's (really) so, 50% of it",
            "a=%7B%22id%22%3A8%7D",
        ] {
            assert!(Media::Form.content(form.as_bytes()).is_ok(), "{form}");
        }
        for form in [
            r#"{"x":"&id=7&","id":8}"#,
            r#"["&id=7&"]"#,
            "{id: 8, x: &id=7&}",
            "<a>&id=7&</a>",
            "id=7\nid=8",
            "id=\u{e9}",
            "id=7\0",
        ] {
            assert_eq!(
                Media::Form.content(form.as_bytes()).unwrap_err(),
                Unreadable::Form,
                "{form}"
            );
        }
    }
}
