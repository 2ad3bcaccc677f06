//! What a backend sends over HTTP/1.1, judged byte for byte before hyper reads it: which bytes are an answer, whose, and
//! where it ends (RFC 9112).
//!
//! hyper takes what other readers would not, or would take otherwise: lone line feeds, folded fields, a length said twice,
//! extensions of chunks with anything in them. It also has no word for bytes that belong to no request. Here each is
//! the end of the connection: what is wrong in one read is refused with all of that read, so that nothing of it reaches an
//! agent, and a connection that said one thing too many is never used again.
//!
//! It refuses to change or to hold back a byte, and to know what an answer means.

use crate::policy::content::is_token;
use memchr::{memchr, memchr3};
use std::io;
use std::mem;

/// Longest head, trailers, and line before a chunk; and most heads before the answer's.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
const TRAILER_BYTES_MAX: usize = 16 * 1024;
const CHUNK_LINE_BYTES_MAX: usize = 1024;
const INTERIM_MAX: u32 = 64;

/// What was asked of the backend, as far as the form of the answer depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Asked {
    /// Nothing: whatever comes is not ours.
    #[default]
    Nothing,
    /// An answer with a body, if it has one.
    Answer,
    /// An answer's head (HEAD).
    Head,
    /// Another protocol, which it may switch to.
    Switch,
}

/// What no HTTP/1.1 server may send, or what readers take differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Nonsense {
    #[error("the backend sent bytes that nobody asked for")]
    Unasked,
    #[error("the backend's answer does not begin with a status line of HTTP/1.1 or HTTP/1.0")]
    Status,
    #[error("the backend's answer has a line that does not end with CR LF, or a stray CR")]
    Line,
    #[error("the backend's answer has a malformed or folded field")]
    Field,
    #[error("the backend's answer has more than one Content-Length, or one that is no number")]
    Length,
    #[error("the backend's answer has a Transfer-Encoding other than `chunked`")]
    Coding,
    #[error("the backend's answer has both Content-Length and Transfer-Encoding")]
    Both,
    #[error("the backend's answer has a malformed chunk")]
    Chunk,
    #[error("the backend's answer has a head, trailers or a chunk's line beyond the bounds")]
    Long,
    #[error("the backend switches to a protocol that nobody asked for")]
    Switched,
    #[error("the backend sent more 1xx answers than are taken")]
    Interim,
}

impl From<Nonsense> for io::Error {
    fn from(nonsense: Nonsense) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, nonsense)
    }
}

/// Follows one connection.
#[derive(Debug, Default)]
pub(super) struct Reader {
    stage: Stage,
    asked: Asked,
    head: Head,
    /// 1xx answers to what is asked.
    interim: u32,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// Bytes of this head, these trailers or this chunk's line so far.
    taken: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Between two answers.
    #[default]
    Rest,
    StatusLine,
    Fields,
    /// So many bytes of a body are to come.
    Body(u64),
    ChunkLine,
    Chunk(u64),
    /// What ends a chunk: CR LF, of which so many bytes are to come.
    ChunkEnd(u8),
    Trailers,
    /// All that comes, until the end of the connection.
    Rush,
}

/// What a head has said so far of where its body ends.
#[derive(Debug, Default)]
struct Head {
    status: u16,
    old: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Reader {
    /// A request is about to be written.
    pub(super) fn ask(&mut self, asked: Asked) {
        self.asked = asked;
        self.interim = 0;
    }

    /// Judges what was read next.
    ///
    /// # Errors
    /// [`Nonsense`]: the connection is to be closed.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Nonsense> {
        while !bytes.is_empty() {
            match self.stage {
                Stage::Rest => {
                    if self.asked == Asked::Nothing {
                        return Err(Nonsense::Unasked);
                    }
                    self.stage = Stage::StatusLine;
                }
                Stage::StatusLine | Stage::Fields | Stage::ChunkLine | Stage::Trailers => {
                    bytes = self.line(bytes)?;
                }
                Stage::Body(left) => match skip(&mut bytes, left) {
                    0 => self.over(),
                    left => self.stage = Stage::Body(left),
                },
                Stage::Chunk(left) => {
                    self.stage = match skip(&mut bytes, left) {
                        0 => Stage::ChunkEnd(2),
                        left => Stage::Chunk(left),
                    }
                }
                Stage::ChunkEnd(left) => {
                    let expected = if left == 2 { b'\r' } else { b'\n' };
                    if bytes[0] != expected {
                        return Err(Nonsense::Chunk);
                    }
                    bytes = &bytes[1..];
                    self.stage = match left {
                        2 => Stage::ChunkEnd(1),
                        _ => Stage::ChunkLine,
                    };
                }
                Stage::Rush => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes a line, or the beginning of one, and returns what is behind it.
    fn line<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Nonsense> {
        let (line, rest) = match memchr(b'\n', bytes) {
            Some(end) => bytes.split_at(end + 1),
            None => (bytes, &[][..]),
        };
        self.taken += line.len();
        if self.taken > self.bytes_max() {
            return Err(Nonsense::Long);
        }
        if !line.ends_with(b"\n") {
            self.partial.extend_from_slice(line);
            // What is no HTTP at all may never have a line's end.
            if self.stage == Stage::StatusLine && !begins_as_http(&self.partial) {
                return Err(Nonsense::Status);
            }
            return Ok(rest);
        }
        if self.partial.is_empty() {
            self.judge(line)?;
        } else {
            let mut whole = mem::take(&mut self.partial);
            whole.extend_from_slice(line);
            self.judge(&whole)?;
        }
        Ok(rest)
    }

    fn bytes_max(&self) -> usize {
        match self.stage {
            Stage::ChunkLine => CHUNK_LINE_BYTES_MAX,
            Stage::Trailers => TRAILER_BYTES_MAX,
            _ => HEAD_BYTES_MAX,
        }
    }

    /// A whole line.
    fn judge(&mut self, line: &[u8]) -> Result<(), Nonsense> {
        let line = line.strip_suffix(b"\r\n").ok_or(Nonsense::Line)?;
        if memchr3(b'\r', b'\n', 0, line).is_some() {
            return Err(Nonsense::Line);
        }
        match self.stage {
            Stage::StatusLine => {
                self.head = Head::of(line)?;
                self.stage = Stage::Fields;
            }
            Stage::Fields if line.is_empty() => self.settle()?,
            Stage::Fields => self.head.take(line)?,
            Stage::ChunkLine => {
                self.taken = 0;
                self.stage = match chunk(line)? {
                    0 => Stage::Trailers,
                    bytes => Stage::Chunk(bytes),
                };
            }
            Stage::Trailers if line.is_empty() => self.over(),
            Stage::Trailers => {
                field(line)?;
            }
            // These have no lines.
            Stage::Rest | Stage::Body(_) | Stage::Chunk(_) | Stage::ChunkEnd(_) | Stage::Rush => {}
        }
        Ok(())
    }

    /// A head is whole: where does its body end (RFC 9112, section 6.3)?
    fn settle(&mut self) -> Result<(), Nonsense> {
        let head = mem::take(&mut self.head);
        self.taken = 0;
        if head.chunked && head.length.is_some() {
            return Err(Nonsense::Both);
        }
        // What reads HTTP/1.0 knows no chunks.
        if head.chunked && head.old {
            return Err(Nonsense::Coding);
        }
        match head.status {
            101 if self.asked == Asked::Switch => {
                self.asked = Asked::Nothing;
                self.stage = Stage::Rush;
            }
            101 => return Err(Nonsense::Switched),
            100..200 => {
                self.interim += 1;
                if self.interim > INTERIM_MAX || head.chunked || head.length.is_some() {
                    return Err(Nonsense::Interim);
                }
                self.stage = Stage::StatusLine;
            }
            204 | 304 => self.over(),
            _ if self.asked == Asked::Head => self.over(),
            _ if head.chunked => self.stage = Stage::ChunkLine,
            _ => match head.length {
                Some(0) => self.over(),
                Some(bytes) => self.stage = Stage::Body(bytes),
                None => self.stage = Stage::Rush,
            },
        }
        Ok(())
    }

    /// The answer is whole. What comes from here on is another's, and nobody asked yet.
    fn over(&mut self) {
        self.stage = Stage::Rest;
        self.asked = Asked::Nothing;
        self.taken = 0;
    }
}

impl Head {
    /// `HTTP/1.1 200 OK`; many servers leave the blank out that should stand before a reason that is not there.
    fn of(line: &[u8]) -> Result<Self, Nonsense> {
        let (old, rest) = match (
            line.strip_prefix(b"HTTP/1.1 "),
            line.strip_prefix(b"HTTP/1.0 "),
        ) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(Nonsense::Status),
        };
        let (code, reason) = rest.split_at_checked(3).ok_or(Nonsense::Status)?;
        let [first @ b'1'..=b'9', second, third] = *code else {
            return Err(Nonsense::Status);
        };
        if !second.is_ascii_digit() || !third.is_ascii_digit() {
            return Err(Nonsense::Status);
        }
        if !(reason.is_empty() || reason[0] == b' ') || !is_text(reason) {
            return Err(Nonsense::Status);
        }
        let digit = |byte: u8| u16::from(byte - b'0');
        Ok(Self {
            status: digit(first) * 100 + digit(second) * 10 + digit(third),
            old,
            ..Self::default()
        })
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Nonsense> {
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            // Not even the same one twice, nor in a list: RFC 9112, section 6.3 lets a reader take the first.
            if self.length.is_some() {
                return Err(Nonsense::Length);
            }
            self.length = Some(number(value).ok_or(Nonsense::Length)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Nonsense::Coding);
            }
            self.chunked = true;
        }
        Ok(())
    }
}

fn begins_as_http(bytes: &[u8]) -> bool {
    const VERSION: &[u8] = b"HTTP/1.";
    let seen = bytes.len().min(VERSION.len());
    bytes[..seen] == VERSION[..seen]
}

/// Passes over bytes of a body; how many are still to come.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *bytes = &bytes[here..];
    left - here as u64
}

/// Name and value without the blanks around it.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Nonsense> {
    let colon = memchr(b':', line).ok_or(Nonsense::Field)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    // A folded line begins with a blank, which is none of these either.
    if !is_token(name) || !is_text(value) {
        return Err(Nonsense::Field);
    }
    Ok((name, value.trim_ascii()))
}

/// The size that a chunk's line gives; extensions behind it are passed over, as every reader does.
fn chunk(line: &[u8]) -> Result<u64, Nonsense> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (size, extensions) = line.split_at(digits.count());
    if size.is_empty() || size.len() > 16 || !is_text(extensions) {
        return Err(Nonsense::Chunk);
    }
    if !extensions.is_empty() && extensions.trim_ascii_start().first() != Some(&b';') {
        return Err(Nonsense::Chunk);
    }
    let size = std::str::from_utf8(size).ok();
    size.and_then(|size| u64::from_str_radix(size, 16).ok())
        .ok_or(Nonsense::Chunk)
}

/// Digits alone: no sign, no list, nothing that overflows.
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// No control characters but the tabulator (RFC 9110, section 5.5).
fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

#[cfg(test)]
mod tests;
