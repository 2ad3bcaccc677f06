//! Texts as pages show them: what an agent wrote, in pieces, so that templates set what hides or turns around apart
//! ([`crate::serve::visible`]) and escape all of it. Times, spans and sizes for people.

use crate::ledger::timestamp;
use crate::policy::time::{Now, Tick, Timestamp};
use crate::serve::admin::approvals::view::hex;
use crate::serve::visible::{Lines, Segment, segments};
use std::time::Duration;

/// A text of somebody else's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub pieces: Vec<Piece>,
}

/// A piece of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// As it is, or what stands for a character that must not be shown as it is.
    pub text: String,
    /// What that character would do.
    pub about: Option<&'static str>,
}

/// Most marks of one text: each costs a page far more than the character it stands for.
pub(super) const MARKS_MAX: usize = 20_000;

impl Text {
    /// In one line: line feeds are marked too.
    pub(super) fn line(text: &str) -> Self {
        Self::new(text, Lines::One)
    }

    /// Of as many lines as it has.
    pub(super) fn lines(text: &str) -> Self {
        Self::new(text, Lines::Many)
    }

    /// Of bytes that should be text and perhaps are not.
    pub(super) fn bytes(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::line(text),
            Err(_) => Self::line(&format!("(not text; as hex) {}", hex(bytes))),
        }
    }

    fn new(text: &str, lines: Lines) -> Self {
        let piece = |segment: Segment<'_>| match segment {
            Segment::Plain(plain) => Piece {
                text: plain.to_owned(),
                about: None,
            },
            Segment::Marked(mark) => Piece {
                text: format!("U+{:04X}", u32::from(mark.character)),
                about: Some(mark.kind.about()),
            },
        };
        Self {
            pieces: segments(text, lines).map(piece).collect(),
        }
    }
}

/// Whether a text has more marks than a page can bear.
pub(super) fn has_too_many_marks(text: &str) -> bool {
    segments(text, Lines::Many)
        .filter(|segment| matches!(segment, Segment::Marked(_)))
        .nth(MARKS_MAX)
        .is_some()
}

/// A moment.
#[derive(Clone, Debug)]
pub(super) struct Time {
    /// RFC 3339.
    pub full: String,
    /// For reading: the day only if it is not today.
    pub short: String,
}

impl Time {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        let moment = |at: Timestamp| {
            jiff::Timestamp::from_microsecond(at.micros())
                .unwrap_or_default()
                .to_zoned(jiff::tz::TimeZone::UTC)
        };
        let (at, now) = (moment(at), moment(now));
        let format = match at.date() == now.date() {
            true => "%H:%M:%S",
            false => "%Y-%m-%d %H:%M:%S",
        };
        Self {
            full: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            short: at.strftime(format).to_string(),
        }
    }

    /// With its day, whichever that is.
    pub(super) fn dated(at: Timestamp) -> Self {
        // No clock of today shows that day.
        Self::new(at, Timestamp::from_micros(0))
    }

    /// Of a text of the ledger's, with its day.
    pub(super) fn parse_dated(text: &str) -> Self {
        Self::parse(text, Timestamp::from_micros(0))
    }

    /// Of a text of the ledger's.
    pub(super) fn parse(text: &str, now: Timestamp) -> Self {
        match timestamp(text) {
            Some(at) => Self::new(at, now),
            None => Self {
                full: text.to_owned(),
                short: text.to_owned(),
            },
        }
    }
}

/// When something ends by itself.
#[derive(Clone, Debug)]
pub(super) struct Deadline {
    /// Milliseconds since 1970, for the script.
    pub ends_ms: i64,
    pub left: String,
    pub soon: bool,
}

impl Deadline {
    pub(super) fn new(ends: Tick, now: Now) -> Self {
        let left = ends.since(now.tick);
        Self {
            ends_ms: now.wall.plus(left).micros() / 1000,
            left: time_left(left),
            soon: left < Duration::from_secs(60),
        }
    }
}

/// `4 min 12 s left`; the script counts on in the same words.
fn time_left(span: Duration) -> String {
    match span.as_secs() {
        0 => "time is up".to_owned(),
        _ => format!("{} left", running(span)),
    }
}

/// `1 h 5 min`: its largest unit and the next smaller one, as a clock that runs shows it.
fn running(span: Duration) -> String {
    let seconds = span.as_secs();
    let (d, h, m, s) = (
        seconds / 86400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    match (d, h, m) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => format!("{m} min {s} s"),
        (0, _, _) => format!("{h} h {m} min"),
        _ => format!("{d} d {h} h"),
    }
}

/// The same of a span that stands still: `10 min`.
pub(super) fn length(span: Duration) -> String {
    let text = running(span);
    match text.split_once(" 0 ") {
        Some((whole, _)) => whole.to_owned(),
        None => text,
    }
}

/// How long something took: `0.4 ms`, `12 ms`, `1.52 s`, `2 min 3 s`.
pub(super) fn took(micros: u64) -> String {
    let (ms, s) = (micros / 1000, micros / 1_000_000);
    match micros {
        0..10_000 => format!("{ms}.{} ms", micros % 1000 / 100),
        10_000..1_000_000 => format!("{ms} ms"),
        1_000_000..60_000_000 => format!("{s}.{:02} s", micros % 1_000_000 / 10_000),
        _ => running(Duration::from_secs(s)),
    }
}

/// `1,048,576`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1,048,576 bytes`.
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        _ => grouped(bytes as u64) + " bytes",
    }
}

/// The end of an id is random; its beginning is the same for all of one time.
pub(super) fn short(id: &str) -> String {
    match id.char_indices().rev().nth(7) {
        Some((at, _)) if at > 0 => format!("…{}", &id[at..]),
        _ => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_or_turns_around_is_a_piece_of_its_own() {
        let pieces = Text::line("a\u{202e}b\n").pieces;
        let shown: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.text.as_str(), piece.about.is_some()))
            .collect();
        assert_eq!(
            shown,
            [
                ("a", false),
                ("U+202E", true),
                ("b", false),
                ("U+000A", true)
            ]
        );
        assert_eq!(Text::bytes(b"\xff").pieces[0].text, "(not text; as hex) ff");
    }

    #[test]
    fn spans_and_sizes_read_well() {
        for (seconds, said) in [
            (0, "time is up"),
            (59, "59 s left"),
            (252, "4 min 12 s left"),
            (3900, "1 h 5 min left"),
            (90_000, "1 d 1 h left"),
        ] {
            assert_eq!(time_left(Duration::from_secs(seconds)), said);
        }
        for (seconds, said) in [
            (50, "50 s"),
            (600, "10 min"),
            (3660, "1 h 1 min"),
            (86400, "1 d"),
        ] {
            assert_eq!(length(Duration::from_secs(seconds)), said);
        }
        let spans = [400, 9_999, 12_345, 1_520_000, 123_000_000].map(took);
        assert_eq!(spans, ["0.4 ms", "9.9 ms", "12 ms", "1.52 s", "2 min 3 s"]);
        assert_eq!(
            [1, 999, 1_048_576].map(size),
            ["1 byte", "999 bytes", "1,048,576 bytes"]
        );
    }
}
