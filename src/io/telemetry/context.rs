//! W3C Trace Context: which trace a call belongs to, and what its backend is told of that.
//!
//! What agents send is read strictly (<https://www.w3.org/TR/trace-context/>): a `traceparent` that is not one is as good as none,
//! and a new trace begins. It grants nothing: ids and flags of an agent's choosing only ever name spans. It refuses to read
//! `tracestate` and `baggage`, which are other people's.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

/// Names a trace: 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

/// Names a span within its trace.
pub type SpanId = [u8; 8];

/// What an agent says its call is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The whole.
    pub trace: TraceId,
    /// The agent's own span.
    pub span: SpanId,
    /// Whether the agent's side is kept.
    pub sampled: bool,
}

impl Parent {
    /// From a valid `traceparent`, of version 00 or of a later one that begins like it.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        let text = value.as_bytes();
        let (head, rest) = text.split_at_checked(TEXT_BYTES)?;
        let [a, b, b'-', head @ ..] = head else {
            return None;
        };
        let (trace, head) = head.split_at_checked(32)?;
        let [b'-', head @ ..] = head else {
            return None;
        };
        let (span, flags) = head.split_at_checked(16)?;
        let [b'-', flags @ ..] = flags else {
            return None;
        };
        let [version] = bytes::<1>(&[*a, *b])?;
        let whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let trace = bytes::<16>(trace)?;
        let span = bytes::<8>(span)?;
        let [flags] = bytes::<1>(flags)?;
        let named = trace != [0; 16] && span != [0; 8];
        (whole && named).then_some(Self {
            trace: TraceId(trace),
            span,
            sampled: flags & SAMPLED != 0,
        })
    }
}

/// A call's place in its trace, and its backend's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The agent's, or one that begins here.
    pub trace: TraceId,
    /// The agent's span; `None`: the trace begins here.
    pub parent: Option<SpanId>,
    /// The gate's span of the call.
    pub call: SpanId,
    /// The gate's span of what it sends to the backend, whose spans are its children.
    pub backend: SpanId,
    /// The gate's span of waiting for people.
    pub hold: SpanId,
    /// Whether spans are made: as the agent's side has it, or by chance.
    pub sampled: bool,
}

impl Context {
    /// The context of a call with these fields, new ids taken from `chance`.
    pub fn new(headers: &HeaderMap, share: Share, chance: &[u8; CHANCE_BYTES]) -> Self {
        let (trace, spans) = chance.split_at(16);
        let span = |at: usize| bytes_at::<8>(spans, at * 8);
        let (call, backend, hold) = (span(0), span(1), span(2));
        match Parent::read(headers) {
            Some(parent) => Self {
                trace: parent.trace,
                parent: Some(parent.span),
                call,
                backend,
                hold,
                sampled: parent.sampled,
            },
            None => {
                let trace = TraceId(bytes_at(trace, 0));
                Self {
                    trace,
                    parent: None,
                    call,
                    backend,
                    hold,
                    sampled: share.holds(trace),
                }
            }
        }
    }

    /// Puts what the backend is told into the fields that are forwarded. A `tracestate` goes with the `traceparent` of its
    /// trace or not at all.
    pub fn stamp(&self, fields: &mut HeaderMap) {
        if fields.contains_key(TRACESTATE)
            && Parent::read(fields).is_none_or(|said| said.trace != self.trace)
        {
            fields.remove(TRACESTATE);
        }
        let mut text = Vec::with_capacity(TEXT_BYTES);
        text.extend_from_slice(b"00-");
        hex(&self.trace.0, &mut text);
        text.push(b'-');
        hex(&self.backend, &mut text);
        text.extend_from_slice(if self.sampled { b"-01" } else { b"-00" });
        if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(text)) {
            fields.insert(TRACEPARENT, value);
        }
    }
}

/// The part of traces that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Ids below it are not: of 2^56.
    from: u64,
}

impl Share {
    /// So many millionths of all; a million and more is every trace.
    pub fn of_millionths(millionths: u32) -> Self {
        let dropped = u128::from(1_000_000_u32.saturating_sub(millionths));
        Self {
            from: u64::try_from((dropped << 56) / 1_000_000).unwrap_or(1 << 56),
        }
    }

    /// By the random part of the id, as others who see the trace would judge it too.
    fn holds(self, trace: TraceId) -> bool {
        let random = u64::from_be_bytes(bytes_at(&trace.0, 8)) & ((1 << 56) - 1);
        random >= self.from
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// For a trace's id and three spans'.
pub const CHANCE_BYTES: usize = 40;
/// Of a `traceparent` of version 00.
const TEXT_BYTES: usize = 55;
const SAMPLED: u8 = 1;
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Lower-case hex digits, exactly as many as `N` bytes have.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut read = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in read.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(read)
}

fn bytes_at<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&from[at..at + N]);
    taken
}

fn hex(bytes: &[u8], text: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const CHANCE: [u8; CHANCE_BYTES] = [7; CHANCE_BYTES];

    fn fields(traceparents: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in traceparents {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn read(text: &str) -> Option<Parent> {
        Parent::read(&fields(&[text]))
    }

    #[test]
    fn a_traceparent_is_read_as_the_recommendation_has_it_and_not_otherwise() {
        let parent = read(VALID).unwrap();
        assert_eq!(parent.trace.to_string(), TRACE);
        assert_eq!(parent.span, [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert!(parent.sampled);
        // Other flags are nothing to us; later versions may have more behind.
        assert!(!read(&VALID.replace("-01", "-02")).unwrap().sampled);
        assert!(read(&VALID.replace("-01", "-ff")).unwrap().sampled);
        assert!(read(&VALID.replacen("00-", "cc-", 1)).is_some());
        assert!(read(&format!("{}-more", VALID.replacen("00-", "cc-", 1))).is_some());
        for wrong in [
            String::new(),
            format!("{VALID}-x"),
            format!("{VALID}x"),
            format!("{}x", VALID.replacen("00-", "cc-", 1)),
            VALID.replacen("00-", "ff-", 1),
            VALID.replacen("00-", "0-", 1),
            VALID.replacen("00-", "0g-", 1),
            VALID.to_ascii_uppercase(),
            VALID.replace(TRACE, &"0".repeat(32)),
            VALID.replace("00f067aa0ba902b7", &"0".repeat(16)),
            VALID.replace('-', "_"),
            VALID[..54].to_owned(),
            format!("{VALID},{VALID}"),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
        assert_eq!(Parent::read(&fields(&[VALID, VALID])), None, "two of them");
        assert_eq!(Parent::read(&fields(&[])), None);
    }

    #[test]
    fn a_call_continues_its_agents_trace_and_the_backend_is_told_of_the_gates_own_span() {
        let mut headers = fields(&[VALID]);
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        let context = Context::new(&headers, Share::of_millionths(0), &CHANCE);
        assert_eq!(context.trace.to_string(), TRACE);
        assert_eq!(context.parent, read(VALID).map(|parent| parent.span));
        // Whatever the share is: what the agent's side keeps is kept whole.
        assert!(context.sampled);
        context.stamp(&mut headers);
        assert_eq!(
            headers[TRACEPARENT],
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0707070707070707-01"
        );
        assert_eq!(headers[TRACESTATE], "vendor=1");
    }

    #[test]
    fn without_a_valid_parent_a_trace_begins_and_takes_no_state_over() {
        let mut headers = fields(&["00-nonsense"]);
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        let context = Context::new(&headers, Share::of_millionths(0), &CHANCE);
        assert_eq!((context.parent, context.sampled), (None, false));
        context.stamp(&mut headers);
        let told = read(headers[TRACEPARENT].to_str().unwrap()).unwrap();
        assert_eq!((told.trace, told.sampled), (context.trace, false));
        assert!(!headers.contains_key(TRACESTATE));
    }

    #[test]
    fn a_share_keeps_that_part_of_all_traces() {
        let kept = |millionths: u32| {
            let share = Share::of_millionths(millionths);
            let ids = (0..10_000_u64).map(|n| {
                let mut id = [0x55; 16];
                id[9..].copy_from_slice(&(n * ((1 << 56) / 10_000)).to_be_bytes()[1..]);
                TraceId(id)
            });
            ids.filter(|id| share.holds(*id)).count()
        };
        assert_eq!(kept(1_000_000), 10_000);
        assert_eq!(kept(0), 0);
        for (millionths, expected) in [(500_000, 5000_usize), (10_000, 100), (999_900, 9999)] {
            assert!(kept(millionths).abs_diff(expected) <= 1, "{millionths}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader_and_what_it_reads_it_would_write(text in "[0-9a-fx-]{0,80}") {
            if let Some(parent) = read(&text) {
                prop_assert_eq!(&text[3..35], parent.trace.to_string());
            }
        }
    }
}
