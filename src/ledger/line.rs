//! A line as it grows: keys in order, canonical JSON, and the two gaps that the writer fills.
//!
//! Keys come in order by hand (a debug assertion holds them to it), strings are written by `serde_json`, whose escapes
//! are those of RFC 8785, numbers are integers of at most 2^53 - 1. What looks like a token is cut out of every free
//! text, wherever it came from: a last line of defence.

use super::clean::without_tokens;
use super::record::Cause;
use crate::policy::subject::Narrowing;
use crate::policy::time::Timestamp;
use aws_lc_rs::digest;
use std::cell::Cell;
use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;

/// A line but for `seq` and `prev`; ends with a newline.
#[derive(Debug)]
pub(super) struct Template {
    text: Vec<u8>,
    /// Where the 64 digits of `prev` stand.
    prev_at: usize,
    /// Where `seq` is to be inserted.
    seq_at: usize,
    /// When it happened, for the age of segments.
    pub time: Timestamp,
}

impl Template {
    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Appends the finished line, newline included.
    pub fn finish(&self, seq: u64, prev: &[u8; 32], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.text[..self.seq_at]);
        out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
        out.extend_from_slice(&self.text[self.seq_at..]);
        // `prev` sorts before `seq`, so its place did not move.
        let place = start + self.prev_at;
        hex_into(prev, &mut out[place..place + 64]);
    }
}

/// A line as it grows.
pub(super) struct Line {
    text: Vec<u8>,
    prev_at: usize,
    seq_at: usize,
    at: Timestamp,
    last: &'static str,
}

impl Line {
    pub fn new(at: Timestamp, bytes: usize) -> Self {
        let mut text = Vec::with_capacity(bytes);
        text.push(b'{');
        Line {
            text,
            prev_at: 0,
            seq_at: 0,
            at,
            last: "",
        }
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }

    pub fn string(&mut self, value: &str) {
        serde_json::to_writer(&mut self.text, value).expect("a string is JSON and memory takes it");
    }

    pub fn key(&mut self, key: &'static str) {
        debug_assert!(self.last < key, "{key} stands before {}", self.last);
        if !self.last.is_empty() {
            self.text.push(b',');
        }
        self.last = key;
        self.text.push(b'"');
        self.raw(key.as_bytes());
        self.raw(b"\":");
    }

    pub fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        self.string(value);
    }

    /// Text that came from outside.
    pub fn free(&mut self, key: &'static str, value: &str) {
        self.text(key, &without_tokens(value));
    }

    /// Something whose text needs no escape.
    pub fn shown(&mut self, key: &'static str, value: impl Display) {
        self.key(key);
        write!(self.text, "\"{value}\"").expect("memory takes it");
    }

    pub fn client(&mut self, client: IpAddr) {
        self.shown("client", client.to_canonical());
    }

    pub fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        // RFC 8785 numbers are doubles: what is beyond 2^53 - 1 could not be read back exactly.
        let value = value.min((1 << 53) - 1);
        self.raw(itoa::Buffer::new().format(value).as_bytes());
    }

    pub fn hex(&mut self, key: &'static str, bytes: &[u8; 32]) {
        let mut digits = [0; 64];
        hex_into(bytes, &mut digits);
        self.key(key);
        self.text.push(b'"');
        self.raw(&digits);
        self.text.push(b'"');
    }

    pub fn limit(&mut self, cause: &Cause<'_>) {
        if let Cause::Limit(limit) = cause {
            self.text("limit", limit.as_str());
        }
    }

    pub fn who(&mut self, cause: &Cause<'_>) {
        if let Cause::Principal(name) = cause {
            self.text("principal", name.as_str());
        }
    }

    /// `"scopes":{"users.read":{"resources":["user:7"],"uses":2}}`.
    pub fn narrowing(&mut self, narrowing: &Narrowing) {
        self.key("scopes");
        self.raw(b"{");
        for (position, (scope, left)) in narrowing.scopes.iter().enumerate() {
            self.raw(if position == 0 { b"" } else { b"," });
            self.string(scope.as_str());
            self.raw(b":{");
            if let Some(resources) = &left.resources {
                self.raw(b"\"resources\":[");
                for (position, pattern) in resources.iter().enumerate() {
                    self.raw(if position == 0 { b"" } else { b"," });
                    self.string(&without_tokens(&pattern.to_string()));
                }
                self.raw(b"]");
            }
            if let Some(uses) = left.uses {
                self.raw(if left.resources.is_some() { b"," } else { b"" });
                self.raw(format!("\"uses\":{uses}").as_bytes());
            }
            self.raw(b"}");
        }
        self.raw(b"}");
    }

    pub fn prev(&mut self) {
        self.key("prev");
        self.text.push(b'"');
        self.prev_at = self.text.len();
        self.raw(&[b'0'; 64]);
        self.text.push(b'"');
    }

    pub fn seq(&mut self) {
        self.key("seq");
        self.seq_at = self.text.len();
    }

    pub fn time(&mut self) {
        self.key("time");
        self.text.push(b'"');
        rfc3339_into(self.at, &mut self.text);
        self.text.push(b'"');
    }

    pub fn end(mut self) -> Template {
        debug_assert!(self.prev_at > 0 && self.seq_at > self.prev_at);
        self.raw(b"}\n");
        Template {
            text: self.text,
            prev_at: self.prev_at,
            seq_at: self.seq_at,
            time: self.at,
        }
    }
}

/// SHA-256, in one call, which is faster than in parts.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// SHA-256 of all parts, one behind the other.
pub(super) fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Lower-case hex digits.
pub(super) fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest that 64 lower-case hex digits name.
pub(super) fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 64] = text.try_into().ok()?;
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

fn hex_into(bytes: &[u8; 32], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// The `time` of a line.
pub(super) fn time_of(line: &[u8]) -> Option<Timestamp> {
    #[derive(serde::Deserialize)]
    struct Dated<'a> {
        time: &'a str,
    }
    let dated: Dated<'_> = serde_json::from_slice(line).ok()?;
    timestamp(dated.time)
}

/// Of a text in RFC 3339, to the microsecond; `None`: it is none.
pub fn timestamp(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_micros(time.as_microsecond()))
}

/// RFC 3339, UTC, six digits behind the second.
pub fn rfc3339(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_microsecond(time.micros()).unwrap_or(jiff::Timestamp::MAX);
    format!("{time:.6}")
}

/// Whether [`rfc3339`] gives the last time that it has a word for.
fn is_beyond(time: Timestamp) -> bool {
    jiff::Timestamp::from_microsecond(time.micros()).is_err()
}

/// [`rfc3339`] of times that come close together: what is in front of the fraction is kept for the next one of its second.
fn rfc3339_into(time: Timestamp, out: &mut Vec<u8>) {
    /// Of `2026-11-24T00:00:00.`, as all years of four digits are written.
    const WHOLE: usize = 20;
    thread_local! {
        static LAST: Cell<(i64, [u8; WHOLE])> = const { Cell::new((i64::MIN, [0; WHOLE])) };
    }
    let micros = time.micros();
    let (second, mut fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (known, mut whole) = LAST.get();
    if known != second {
        let text = rfc3339(time);
        match text.as_bytes() {
            [head @ .., _, _, _, _, _, _, b'Z'] if head.len() == WHOLE && !is_beyond(time) => {
                whole.copy_from_slice(head);
            }
            other => return out.extend_from_slice(other),
        }
        LAST.set((second, whole));
    }
    out.extend_from_slice(&whole);
    let mut digits = *b"000000Z";
    for digit in digits[..6].iter_mut().rev() {
        *digit += (fraction % 10) as u8;
        fraction /= 10;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_ever_whichever_came_before_it() {
        let seconds = [
            0,
            1,
            0,
            -1,
            951_782_400,
            1_795_478_399,
            253_402_300_799,
            -62_135_596_800,
            -62_167_219_201,
        ];
        for second in seconds {
            for micro in [0, 1, 999_999, 120_000, 7] {
                let time = Timestamp::from_micros(second * 1_000_000 + micro);
                let mut written = b"at ".to_vec();
                rfc3339_into(time, &mut written);
                assert_eq!(
                    String::from_utf8(written).unwrap(),
                    format!("at {}", rfc3339(time))
                );
            }
        }
    }
}
