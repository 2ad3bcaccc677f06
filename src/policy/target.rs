//! The canonical request target: the one reading of host, path and query that is matched, recorded and forwarded.
//!
//! First thing done to a call's target. Two spellings of one target become one here, or the target is refused; nothing
//! later reads the raw text again. It refuses to repair: where two readers could disagree (dot segments, encoded
//! slashes, double encoding that hides either), there is no target.

pub(super) mod alike;
mod host;

pub(super) use host::is_name_or_ipv4;

use host::host_bytes;
use std::borrow::Cow;

/// A request target after the one normalisation. Only [`Target::parse`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Authority (lower case), canonical path, `?` and the query byte for byte; one allocation.
    text: Box<str>,
    host_bytes: usize,
    authority_bytes: usize,
    /// Where the path ends in `text`.
    path_end: usize,
    /// Whether the path has percent-encoded bytes.
    is_encoded: bool,
    /// Whether readers who are not exact may take the path for another.
    is_loose: bool,
}

/// Why a target is refused. Ambiguity is never repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguity {
    /// `.` or `..` in any encoding, or what some readers take for one (`...`, `..%20`, full-width dots).
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// `//`, or a segment of nothing but spaces, parameters or what is not seen.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `%2F`, `%5C`, `%00` or an encoded control character, also behind a second encoding (`%252F`), or a character that
    /// some readers take for a slash.
    #[error("the path has an encoded slash, backslash or control character")]
    EncodedDelimiter,
    /// `\`.
    #[error("the target has a backslash")]
    Backslash,
    /// `;`.
    #[error("the path has a `;` parameter")]
    PathParameter,
    /// `%` without two hex digits, or `%u002e` once decoded.
    #[error("the target has an invalid percent-encoding")]
    Percent,
    /// Decodes to bytes that are not UTF-8.
    #[error("the path is not UTF-8")]
    Utf8,
    /// `#`.
    #[error("the target has a fragment")]
    Fragment,
    /// A raw control character or space; in the path also `"`, `<`, `>`, `` ` ``, `{`, `}` and what is beyond ASCII.
    #[error("the target has a character that must be percent-encoded")]
    Character,
    /// Percent-encoded more than [`LAYERS_MAX`] times over.
    #[error("the path is percent-encoded over and over")]
    Layers,
    /// Longer than [`TARGET_BYTES_MAX`].
    #[error("the target is too long")]
    TooLong,
    /// Neither origin-form nor absolute-form.
    #[error("the target must begin with `/`")]
    Form,
    /// Absolute-form that disagrees with `Host`, or a `Host` that is none.
    #[error("the authority is missing, repeated, malformed or disagrees with `Host`")]
    Authority,
}

/// Longest target accepted, in bytes.
pub const TARGET_BYTES_MAX: usize = 8192;
/// Most layers of percent-encoding looked behind; each costs a pass over the path.
pub const LAYERS_MAX: usize = 8;

impl Target {
    /// From the raw request-target and the one `Host` (or `:authority`) value.
    ///
    /// # Errors
    /// [`Ambiguity`]: two readers could disagree on what is meant.
    pub fn parse(raw: &str, host: &str) -> Result<Self, Ambiguity> {
        if raw.len() > TARGET_BYTES_MAX {
            return Err(Ambiguity::TooLong);
        }
        let host_bytes = host_bytes(host)?;
        let origin = origin_form(raw, host)?;
        let (path, query, odd) = split(origin);
        let is_canonical = odd & ODD == 0;
        check_query(query)?;
        let path = match path {
            "" => Cow::Borrowed("/"),
            path if is_canonical => Cow::Borrowed(path),
            path => canonical_path(path)?,
        };
        // What was decoded is looked at as it is now: two spellings of one target are one.
        let odd = if is_canonical { odd } else { split(&path).2 };
        let mut text = String::with_capacity(host.len() + path.len() + query.len());
        text.push_str(host);
        text.make_ascii_lowercase();
        text.push_str(&path);
        let path_end = text.len();
        text.push_str(query);
        Ok(Self {
            text: text.into_boxed_str(),
            host_bytes,
            authority_bytes: host.len(),
            path_end,
            is_encoded: !is_canonical && path.contains('%'),
            is_loose: odd != 0,
        })
    }

    /// Host without port, lower case.
    pub fn host(&self) -> &str {
        &self.text[..self.host_bytes]
    }

    /// Host and port as the agent sent them, lower case.
    pub fn authority(&self) -> &str {
        &self.text[..self.authority_bytes]
    }

    /// The canonical path; begins with `/`.
    pub fn path(&self) -> &str {
        &self.text[self.authority_bytes..self.path_end]
    }

    /// The path with its encoded delimiters (`%3A`) as they stand where they are not encoded. `None`: there are none.
    pub(super) fn with_plain_delimiters(&self) -> Option<String> {
        self.is_encoded
            .then(|| with_plain_delimiters(self.path()))
            .flatten()
    }

    /// Whether readers who are not exact may take the path for another; see [`alike::loosely`].
    pub(super) const fn is_loose(&self) -> bool {
        self.is_loose
    }

    /// The query without `?`, byte for byte.
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path_end + 1..)
    }

    /// Path and query, as recorded and digested.
    pub fn as_str(&self) -> &str {
        &self.text[self.authority_bytes..]
    }
}

/// The origin-form of a target: as it stands, or an absolute-form without its authority, which must be `host`
/// (RFC 9112, 3.2.2 would have it override `Host`; two readers would then follow different ones).
fn origin_form<'r>(raw: &'r str, host: &str) -> Result<&'r str, Ambiguity> {
    if raw.starts_with('/') {
        return Ok(raw);
    }
    let behind = |scheme: &str| {
        let head = raw.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme)
            .then(|| &raw[scheme.len()..])
    };
    let rest = behind("http://")
        .or_else(|| behind("https://"))
        .ok_or(Ambiguity::Form)?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(end);
    if !authority.eq_ignore_ascii_case(host) {
        return Err(Ambiguity::Authority);
    }
    if origin.starts_with('#') {
        return Err(Ambiguity::Fragment);
    }
    Ok(origin)
}

/// Path, and query with its `?`; and what was seen in one look at each byte of the path, which in nearly all is nothing:
/// without [`ODD`] it is canonical as it stands, without [`LOOSE`] there is nothing that readers take less exactly. A bit
/// only says that somebody must look again.
fn split(origin: &str) -> (&str, &str, u8) {
    let end = origin.find('?').unwrap_or(origin.len());
    let (path, query) = origin.split_at(end);
    if !origin.starts_with('/') {
        return (path, query, ODD | LOOSE);
    }
    // Behind a slash, a dot may begin a dot segment, and another slash ends an empty one.
    let (mut odd, mut before) = (0, 0);
    for &byte in path.as_bytes() {
        let kind = KIND[byte as usize];
        odd |= kind & (ODD | LOOSE | (before & SLASH) << 1);
        before = kind;
    }
    // The root is all slash, and no name with a slash behind it.
    odd |= if path.len() > 1 { before & SLASH } else { 0 };
    match odd & EDGE {
        0 => (path, query, odd),
        _ => (path, query, odd | ODD),
    }
}

/// Not in a canonical path as it stands.
const ODD: u8 = 1;
const SLASH: u8 = 2;
/// Must not follow a slash without another look.
const EDGE: u8 = SLASH << 1;
/// What some readers change, trim or cut off.
const LOOSE: u8 = 8;

const KIND: [u8; 256] = {
    let mut kind = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kind[byte] = if PLAIN[byte] { 0 } else { ODD };
        if (byte as u8).is_ascii_uppercase() {
            kind[byte] |= LOOSE;
        }
        byte += 1;
    }
    kind[b'.' as usize] |= EDGE | LOOSE;
    kind[b'+' as usize] |= LOOSE;
    kind[b':' as usize] |= LOOSE;
    kind[b'/' as usize] |= SLASH | EDGE;
    kind
};

/// Checked, not changed: conditions decode it, backends get it byte for byte.
fn check_query(query: &str) -> Result<(), Ambiguity> {
    let bytes = query.as_bytes();
    // `?` leads it, and says nothing itself.
    let odd = |&byte: &u8| KIND[byte as usize] & ODD != 0 && byte != b'?';
    if !bytes.iter().fold(false, |any, byte| any | odd(byte)) {
        return Ok(());
    }
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'%' if hex_pair(bytes, at).is_none() => return Err(Ambiguity::Percent),
            b'\\' => return Err(Ambiguity::Backslash),
            b'#' => return Err(Ambiguity::Fragment),
            0..=b' ' | 0x7f => return Err(Ambiguity::Character),
            _ => {}
        }
    }
    // U+0080 to U+009F are control characters too; other text beyond ASCII goes on as it is.
    if !query.is_ascii() && query.chars().any(char::is_control) {
        return Err(Ambiguity::Character);
    }
    Ok(())
}

/// The canonical spelling of a path that begins with `/`: unreserved characters decoded, hex in upper case. Borrows
/// where the path already is canonical. Applying it twice changes nothing.
///
/// # Errors
/// [`Ambiguity`]: it is refused.
pub(super) fn canonical_path(path: &str) -> Result<Cow<'_, str>, Ambiguity> {
    if !path.starts_with('/') {
        return Err(Ambiguity::Form);
    }
    let canonical = match path.bytes().all(is_plain) {
        true => Cow::Borrowed(path),
        false => decode_unreserved(path)?,
    };
    check_segments(&canonical)?;
    if let Cow::Owned(decoded) = &canonical
        && decoded.contains('%')
    {
        check_decoded(decoded)?;
    }
    Ok(canonical)
}

/// Bytes that a canonical path has as they are. `[`, `]`, `^` and `|` are beyond RFC 3986, but browsers and common
/// clients send them raw and no reader takes them for anything else.
const fn is_plain(byte: u8) -> bool {
    KIND[byte as usize] & ODD == 0
}

const PLAIN: [bool; 256] = {
    let others = b"/!$&'()*+,=:@[]^|";
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = is_unreserved(byte as u8);
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        plain[others[at] as usize] = true;
        at += 1;
    }
    plain
};

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// A canonical path with its encoded delimiters (`%3A`) as they stand where they are not encoded: what a backend sees
/// that decodes before it routes. `None`: there are none.
pub(super) fn with_plain_delimiters(path: &str) -> Option<String> {
    let first = path.find('%')?;
    let bytes = path.as_bytes();
    let mut text = String::with_capacity(path.len());
    text.push_str(&path[..first]);
    let mut at = first;
    while let Some(&byte) = bytes.get(at) {
        match hex_pair(bytes, at) {
            Some(value) if byte == b'%' && is_plain(value) => {
                text.push(char::from(value));
                at += 3;
            }
            _ => {
                text.push(char::from(byte));
                at += 1;
            }
        }
    }
    (text.len() < path.len()).then_some(text)
}

/// The byte that `%XX` at `at` stands for.
fn hex_pair(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| {
        let byte = *bytes.get(at + offset)?;
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit(1)? << 4 | digit(2)?)
}

fn decode_unreserved(path: &str) -> Result<Cow<'_, str>, Ambiguity> {
    let bytes = path.as_bytes();
    let mut text = String::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let decoded = hex_pair(bytes, at).ok_or(Ambiguity::Percent)?;
                if is_unreserved(decoded) {
                    text.push(char::from(decoded));
                } else {
                    text.push('%');
                    text.push(char::from(bytes[at + 1].to_ascii_uppercase()));
                    text.push(char::from(bytes[at + 2].to_ascii_uppercase()));
                }
                at += 2;
            }
            b'\\' => return Err(Ambiguity::Backslash),
            b';' => return Err(Ambiguity::PathParameter),
            b'#' => return Err(Ambiguity::Fragment),
            _ if is_plain(byte) => text.push(char::from(byte)),
            _ => return Err(Ambiguity::Character),
        }
        at += 1;
    }
    Ok(Cow::Owned(text))
}

/// No `.`, no `..`, nor what some readers make one of, and an empty segment only behind a trailing slash.
fn check_segments(path: &str) -> Result<(), Ambiguity> {
    let mut segments = path.as_bytes().split(|&byte| byte == b'/').skip(1);
    let mut next = segments.next();
    while let Some(segment) = next {
        next = segments.next();
        match segment {
            b"" if next.is_some() => return Err(Ambiguity::EmptySegment),
            [b'.', ..] if is_dots(segment) => return Err(Ambiguity::DotSegment),
            _ => {}
        }
    }
    Ok(())
}

/// Nothing but dots, or nothing but dots before what some readers cut or trim off: a parameter, a query, a fragment, a
/// stream of a file (`..::$DATA`), spaces. More than two dots are steps upwards to some, and none to others.
fn is_dots(segment: &[u8]) -> bool {
    let behind = segment.iter().find(|&&byte| byte != b'.');
    behind.is_none_or(|byte| b";?#:+ ".contains(byte))
}

/// What readers see who decode once, and who decode what they decoded again: at no depth may a delimiter, a control
/// character, a dot segment or broken UTF-8 come to light (`%252e%252e%252f`), nor a segment that is one to readers who
/// then cut it, or make other characters of those it has.
fn check_decoded(canonical: &str) -> Result<(), Ambiguity> {
    let mut bytes = canonical.as_bytes().to_vec();
    for _ in 0..LAYERS_MAX {
        let (decoded, hidden) = decode_once(&bytes);
        if hidden {
            return Err(Ambiguity::EncodedDelimiter);
        }
        let text = std::str::from_utf8(&decoded).map_err(|_| Ambiguity::Utf8)?;
        // U+0080 to U+009F are control characters too.
        if text.chars().any(char::is_control) {
            return Err(Ambiguity::EncodedDelimiter);
        }
        let seen = alike::seen(text)?;
        if alike::is_wide(&seen) {
            return Err(Ambiguity::Percent);
        }
        check_segments(&seen)?;
        alike::check_names(&seen)?;
        if seen.ends_with('/') && !text.ends_with('/') {
            return Err(Ambiguity::EmptySegment);
        }
        if decoded.len() == bytes.len() {
            return Ok(());
        }
        bytes = decoded;
    }
    Err(Ambiguity::Layers)
}

/// The bytes with every valid `%XX` decoded, and whether one of them stood for a slash, backslash or control character.
fn decode_once(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut hidden = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex_pair(bytes, at)) {
            (b'%', Some(value)) => {
                hidden |= matches!(value, b'/' | b'\\' | 0..=0x1f | 0x7f);
                decoded.push(value);
                at += 3;
            }
            (other, _) => {
                decoded.push(other);
                at += 1;
            }
        }
    }
    (decoded, hidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn the_one_look_takes_no_path_that_the_second_would_not(text in "/[a/.%;?#~é\\\\ -]{0,9}") {
            let (path, query, odd) = split(&text);
            prop_assert_eq!(format!("{path}{query}"), text.clone());
            prop_assert_eq!(path, text.split('?').next().unwrap());
            if odd & ODD == 0 {
                prop_assert_eq!(canonical_path(path), Ok(Cow::Borrowed(path)));
            }
            if odd == 0 {
                prop_assert_eq!(alike::loosely(path).text, path.strip_suffix('/').unwrap_or(path));
            }
        }
    }
}
