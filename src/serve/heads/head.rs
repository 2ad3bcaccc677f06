//! One head, or one section of trailers: line by line as it comes, each byte looked at once its line is there.
//!
//! It gathers no more than where the body ends and whether another protocol is asked for.

use super::Next;
use crate::gate::Flaw;
use crate::policy::content::{is_token, is_token_byte};
use http::Uri;
use memchr::memchr;

/// Longest head.
pub const HEAD_BYTES_MAX: usize = 96 * 1024;
/// Longest request line: twice the longest target that is served.
pub const REQUEST_LINE_BYTES_MAX: usize = 16 * 1024;
/// Longest field.
const FIELD_BYTES_MAX: usize = 64 * 1024;
/// Most fields, as hyper has it.
pub const FIELDS_MAX: u8 = 100;
/// Longest section of trailers, as hyper has it.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// A head, as far as it came.
#[derive(Debug, Default)]
pub(super) struct Head {
    section: Section,
    line: Line,
    facts: Facts,
}

/// Lines up to an empty one, as far as they came.
#[derive(Debug)]
pub(super) struct Section {
    /// Where the line begins that is not whole yet.
    line: usize,
    /// How far its end was looked for.
    searched: usize,
    fields: u8,
    bytes_max: usize,
}

/// Which line is the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// The request line; one empty line before it is passed over, as section 2.2 has it.
    #[default]
    First,
    Request,
    Field,
}

/// What the lines say of the message.
#[derive(Debug, Default)]
struct Facts {
    is_http11: bool,
    length: Option<u64>,
    chunked: bool,
    /// Another protocol may follow.
    upgrade: bool,
}

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Sized(u64),
    Chunked,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            line: 0,
            searched: 0,
            fields: 0,
            bytes_max: HEAD_BYTES_MAX,
        }
    }
}

impl Head {
    /// Reads on. `bytes` begin with the head each time; it is whole where its length comes back.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<(usize, Framing, Next)>, Flaw> {
        loop {
            let line_bytes_max = match self.line {
                Line::First | Line::Request => REQUEST_LINE_BYTES_MAX,
                Line::Field => FIELD_BYTES_MAX,
            };
            let Some(line) = self.section.line(bytes, line_bytes_max) else {
                return self.wait(bytes).map(|()| None);
            };
            let line = match (line, self.line) {
                (Err(Flaw::LongHead), Line::First | Line::Request) => return Err(Flaw::LongTarget),
                (line, _) => line?,
            };
            match self.line {
                Line::First if line.is_empty() => self.line = Line::Request,
                Line::Request if line.is_empty() => return Err(Flaw::Blank),
                Line::First | Line::Request => {
                    self.facts = request_line(line)?;
                    self.line = Line::Field;
                }
                Line::Field if line.is_empty() => {
                    let (framing, next) = self.facts.framing()?;
                    return Ok(Some((self.section.line, framing, next)));
                }
                Line::Field => {
                    self.section.count()?;
                    self.facts.field(line)?;
                }
            }
        }
    }

    /// The line is not whole yet: whether it can become one.
    fn wait(&self, bytes: &[u8]) -> Result<(), Flaw> {
        let line = &bytes[self.section.line..];
        match (self.line, line.first()) {
            (Line::First | Line::Request, Some(b'\r')) if line.len() > 1 => Err(Flaw::Control),
            (Line::First | Line::Request, Some(&byte)) if byte != b'\r' && !is_token_byte(byte) => {
                Err(Flaw::RequestLine)
            }
            (Line::First | Line::Request, _) if line.len() > REQUEST_LINE_BYTES_MAX => {
                Err(Flaw::LongTarget)
            }
            (Line::Field, _) if line.len() > FIELD_BYTES_MAX => Err(Flaw::LongHead),
            _ if bytes.len() > HEAD_BYTES_MAX => Err(Flaw::LongHead),
            _ => Ok(()),
        }
    }
}

impl Section {
    /// Of trailers.
    pub(super) fn trailers() -> Self {
        Self {
            bytes_max: TRAILER_BYTES_MAX,
            ..Self::default()
        }
    }

    /// Reads trailers on, to their end.
    pub(super) fn trailers_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Flaw> {
        let mut facts = Facts::default();
        loop {
            match self.line(bytes, TRAILER_BYTES_MAX) {
                None if bytes.len() > TRAILER_BYTES_MAX => return Err(Flaw::LongHead),
                None => return Ok(None),
                Some(line) => {
                    let line = line?;
                    if line.is_empty() {
                        return Ok(Some(self.line));
                    }
                    self.count()?;
                    facts.field(line)?;
                }
            }
            // The message's end was said in its head.
            if facts.length.is_some() || facts.chunked {
                return Err(Flaw::Both);
            }
        }
    }

    /// The next line without its end. `None`: it is not whole yet.
    fn line<'b>(
        &mut self,
        bytes: &'b [u8],
        line_bytes_max: usize,
    ) -> Option<Result<&'b [u8], Flaw>> {
        let Some(found) = memchr(b'\n', &bytes[self.searched..]) else {
            self.searched = bytes.len();
            return None;
        };
        let end = self.searched + found;
        let line = &bytes[self.line..end];
        self.line = end + 1;
        self.searched = self.line;
        let Some(line) = line.strip_suffix(b"\r") else {
            return Some(Err(Flaw::LineEnd));
        };
        Some(
            if line.len() > line_bytes_max || self.line > self.bytes_max {
                Err(Flaw::LongHead)
            } else {
                Ok(line)
            },
        )
    }

    fn count(&mut self) -> Result<(), Flaw> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(Flaw::LongHead);
        }
        Ok(())
    }
}

impl Facts {
    /// One field's line.
    fn field(&mut self, line: &[u8]) -> Result<(), Flaw> {
        if matches!(line[0], b' ' | b'\t') {
            return Err(Flaw::Fold);
        }
        let end = line.iter().position(|&byte| !is_token_byte(byte));
        let (name, value) = match end {
            Some(end) if end > 0 && line[end] == b':' => (&line[..end], &line[end + 1..]),
            _ => return Err(Flaw::Name),
        };
        // Without a branch, so that it is done many bytes at a time.
        let bad = value.iter().fold(false, |bad, &byte| {
            bad | (byte < b' ') & (byte != b'\t') | (byte == 0x7f)
        });
        if bad {
            return Err(Flaw::Control);
        }
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = length(value.trim_ascii()).ok_or(Flaw::Length)?;
                if self.length.replace(length).is_some() {
                    return Err(Flaw::Length);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                coding(value.trim_ascii())?;
                if std::mem::replace(&mut self.chunked, true) {
                    return Err(Flaw::Coding);
                }
            }
            // HTTP/1.0 has none (RFC 9110, section 7.8).
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade |= self.is_http11,
            _ => {}
        }
        Ok(())
    }

    /// What all fields together say.
    fn framing(&self) -> Result<(Framing, Next), Flaw> {
        let framing = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Flaw::Both),
            (true, None) if !self.is_http11 => return Err(Flaw::OldCoding),
            (true, None) => Framing::Chunked,
            (false, length) => Framing::Sized(length.unwrap_or(0)),
        };
        let next = if self.upgrade {
            Next::Perhaps
        } else {
            Next::Head
        };
        Ok((framing, next))
    }
}

/// What the first line says.
fn request_line(line: &[u8]) -> Result<Facts, Flaw> {
    let end = line.iter().position(|&byte| !is_token_byte(byte));
    let (method, rest) = match end {
        Some(end) if end > 0 && line[end] == b' ' => (&line[..end], &line[end + 1..]),
        _ => return Err(Flaw::RequestLine),
    };
    let mut kinds = 0;
    let mut end = rest.len();
    for (at, &byte) in rest.iter().enumerate() {
        if byte == b' ' {
            end = at;
            break;
        }
        kinds |= TARGET[byte as usize];
    }
    let (target, version) = rest.split_at(end);
    let is_http11 = match version {
        b" HTTP/1.1" => true,
        b" HTTP/1.0" => false,
        [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Flaw::Version);
        }
        _ => return Err(Flaw::RequestLine),
    };
    if target.is_empty() {
        return Err(Flaw::RequestLine);
    }
    // hyper cuts fragments off, and says itself what else is no target.
    let is_plain = kinds == 0 && target[0] == b'/';
    if !is_plain && (kinds & BARRED != 0 || Uri::try_from(target).is_err()) {
        return Err(Flaw::Target);
    }
    Ok(Facts {
        is_http11,
        upgrade: method == b"CONNECT",
        ..Facts::default()
    })
}

/// In no target: control characters, and the fragment's `#`.
const BARRED: u8 = 1;
/// In some targets, at some places.
const ODD: u8 = 2;

const TARGET: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            0..=b' ' | 0x7f | b'#' => BARRED,
            b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | b'\\' | b'^' | b'|' | 0x80.. => ODD,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

/// Digits alone, and no more of them than 64 bits hold with a sign.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    let mut length = 0_u64;
    for byte in value {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        length = length * 10 + u64::from(digit);
    }
    (length <= i64::MAX as u64).then_some(length)
}

/// Whether `Transfer-Encoding` is `chunked`, and no more.
fn coding(value: &[u8]) -> Result<(), Flaw> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .rev();
    let last_is_chunked = codings
        .next()
        .is_some_and(|it| it.eq_ignore_ascii_case(b"chunked"));
    let unknown = |coding: &[u8]| is_token(coding) && !coding.eq_ignore_ascii_case(b"chunked");
    // A list that only lacks a reader is something else than one that two readers take differently.
    Err(if last_is_chunked && codings.all(unknown) {
        Flaw::UnknownCoding
    } else {
        Flaw::Coding
    })
}
