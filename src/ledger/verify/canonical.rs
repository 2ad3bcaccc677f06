//! What a line must be to be a record: one canonical JSON object, which every reader reads the same way.
//!
//! Keys sorted, none twice, no white space, each character escaped in the one way RFC 8785 has for it, whole numbers of at
//! most 2^53 - 1, UTF-8; with a `seq`, a `prev` of 64 lower-case hex digits and a `kind`. Two readers that disagree about a
//! line (which of two equal keys counts, say) would disagree about what happened, so such a line is not a record.
//!
//! [`record`] has a fast way, which builds no values and takes what the gate writes, and a slow one by `serde_json` for
//! what the fast one is not sure of. What the fast way takes, the slow one takes and reads the same: a law's test.

use crate::ledger::line::unhex;
use crate::ledger::tree::Hash;
use serde_json::Value;

/// What the chain needs of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Essence {
    /// Its number.
    pub seq: u64,
    /// Digest of the line before.
    pub prev: Hash,
    /// Whether it is of the kind `gate`: what the verifier itself has to know stands in those.
    pub gate: bool,
}

/// Reads a line, without its newline. `None`: it is not a record.
pub fn record(line: &[u8]) -> Option<Essence> {
    quick(line).or_else(|| slow(line))
}

/// The fast way. `None`: not sure.
pub fn quick(line: &[u8]) -> Option<Essence> {
    // Bytes of several are taken for granted below.
    std::str::from_utf8(line).ok()?;
    let mut scan = Scan {
        line,
        at: 0,
        seq: None,
        prev: None,
        kind: None,
    };
    scan.object(0)?;
    if scan.at != line.len() {
        return None;
    }
    Some(Essence {
        seq: scan.seq?,
        prev: unhex(scan.prev?)?,
        gate: scan.kind? == b"gate",
    })
}

/// The slow way: all of it is read, written again, and compared.
pub fn slow(line: &[u8]) -> Option<Essence> {
    let record = value(line)?;
    Some(Essence {
        seq: record.get("seq")?.as_u64()?,
        prev: unhex(record.get("prev")?.as_str()?.as_bytes())?,
        gate: record.get("kind")?.as_str()? == "gate",
    })
}

/// A canonical JSON object. `None`: it is none.
pub fn value(line: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(line).ok()?;
    let value: Value = serde_json::from_str(text).ok()?;
    let canonical = serde_json::to_string(&value).ok()?;
    let same = value.is_object() && is_whole(&value) && canonical == text;
    same.then_some(value)
}

fn is_whole(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_u64().is_some_and(|number| number <= NUMBER_MAX),
        Value::Array(items) => items.iter().all(is_whole),
        Value::Object(members) => members.values().all(is_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// A place in a line. Every step is `None` where it is not sure.
struct Scan<'l> {
    line: &'l [u8],
    at: usize,
    seq: Option<u64>,
    prev: Option<&'l [u8]>,
    kind: Option<&'l [u8]>,
}

impl<'l> Scan<'l> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            return self.take(b'}');
        }
        let mut last: &[u8] = &[];
        loop {
            let key = self.string()?;
            // Other keys sort otherwise in different encodings, and escaped ones hide what they are.
            let plain = key
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
            if !plain || last >= key {
                return None;
            }
            last = key;
            self.take(b':')?;
            match key {
                b"seq" if depth == 0 => self.seq = Some(self.number()?),
                b"prev" if depth == 0 => self.prev = Some(self.string()?),
                b"kind" if depth == 0 => self.kind = Some(self.string()?),
                _ => self.value(depth)?,
            }
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.take(b'}'),
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'0'..=b'9' => self.number().map(|_| ()),
            b'{' if depth < DEPTH_MAX => self.object(depth + 1),
            b'[' if depth < DEPTH_MAX => self.array(depth + 1),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            _ => None,
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.take(b'[')?;
        if self.peek()? == b']' {
            return self.take(b']');
        }
        loop {
            self.value(depth)?;
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.take(b']'),
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.line.get(self.at..)?.starts_with(word).then(|| {
            self.at += word.len();
        })
    }

    fn number(&mut self) -> Option<u64> {
        let rest = &self.line[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || digits > 16 || (rest[0] == b'0' && digits > 1) {
            return None;
        }
        let number = rest[..digits]
            .iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        self.at += digits;
        // A fraction or an exponent fails at the caller, who finds no comma there.
        (number <= NUMBER_MAX).then_some(number)
    }

    /// What stands between the quotes, escapes as they are.
    fn string(&mut self) -> Option<&'l [u8]> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            self.at += plain(&self.line[self.at..]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(&self.line[start..self.at - 1]);
                }
                b'\\' => self.at += escape(&self.line[self.at..])?,
                _ => return None,
            }
        }
    }
}

/// How many bytes stand for themselves in a string before the first that does not.
fn plain(rest: &[u8]) -> usize {
    let (words, tail) = rest.as_chunks::<8>();
    for (position, word) in words.iter().enumerate() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return position * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let is_special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    let plain = tail.iter().position(is_special).unwrap_or(tail.len());
    words.len() * 8 + plain
}

/// Eight bytes at once: the lowest bit set is the highest of the first control, quote or backslash among them.
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    // A borrow makes bytes above the first found one look found as well, never one below.
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | is(b'"') | is(b'\\')) & (ONES << 7)
}

/// How long the canonical escape is that this begins with.
fn escape(rest: &[u8]) -> Option<usize> {
    match rest {
        [_, b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(2),
        // These have the short forms above.
        [
            _,
            b'u',
            b'0',
            b'0',
            b'0',
            b'8' | b'9' | b'a' | b'c' | b'd',
            ..,
        ] => None,
        [
            _,
            b'u',
            b'0',
            b'0',
            b'0' | b'1',
            b'0'..=b'9' | b'a'..=b'f',
            ..,
        ] => Some(6),
        _ => None,
    }
}

/// What a double holds exactly.
const NUMBER_MAX: u64 = (1 << 53) - 1;
/// Deeper than any record is.
const DEPTH_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PREV: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn only_the_canonical_form_of_a_record_is_one() {
        let good = format!(r#"{{"kind":"gate","prev":"{PREV}","seq":7,"why":"\u001f\n ü"}}"#);
        let essence = quick(good.as_bytes()).unwrap();
        assert_eq!((essence.seq, essence.gate), (7, true));
        assert_eq!(slow(good.as_bytes()), Some(essence));
        for bad in [
            good.replace("7", "7.0"),
            good.replace("7", "-0"),
            good.replace("7", "07"),
            good.replace("7", "\"7\""),
            good.replace("7", "9007199254740992"),
            good.replace("7", "7,\"seq\":7"),
            good.replace(",", ", "),
            good.replace("\\n", "\\u000a"),
            good.replace("\\n", "\\/"),
            good.replace("1f", "1F"),
            good.replace("\\n", "\n"),
            good.replace("ddee", "DDEE"),
            good.replace("kind", "kin"),
            good.replace("{\"kind\":\"gate\",", "{")
                .replace(",\"seq\"", ",\"kind\":\"gate\",\"seq\""),
            good.clone() + " ",
            format!("[{good}]"),
        ] {
            assert_eq!(record(bad.as_bytes()), None, "{bad}");
        }
        let mut bytes = good.into_bytes();
        *bytes.last_mut().unwrap() = 0xff;
        assert_eq!(record(&bytes), None);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..=NUMBER_MAX).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\\x00-\\x20\"\\\\/a]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z_]{1,6}", inner, 0..4)
                    .prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn eight_bytes_at_once_are_what_one_at_a_time_would_be(
            text in proptest::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(b"\x1f\x20!\"#[\\]\x7f\x80\xff".to_vec())],
                0..40,
            ),
        ) {
            let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
            let expected = text.iter().position(special).unwrap_or(text.len());
            prop_assert_eq!(plain(&text), expected);
        }

        #[test]
        fn the_fast_way_takes_every_canonical_record_and_reads_it_as_the_slow_one(
            mut members in proptest::collection::btree_map("[a-z_]{1,8}", any_value(), 0..6),
            seq in 0..=NUMBER_MAX,
        ) {
            members.insert("seq".into(), seq.into());
            members.insert("prev".into(), PREV.into());
            members.insert("kind".into(), "decision".into());
            let line = Value::from_iter(members).to_string();
            let essence = quick(line.as_bytes());
            prop_assert_eq!(essence.map(|it| (it.seq, it.gate)), Some((seq, false)));
            prop_assert_eq!(slow(line.as_bytes()), essence);
        }

        #[test]
        fn what_the_fast_way_takes_of_a_damaged_record_the_slow_one_takes_too(
            members in proptest::collection::btree_map("[a-z_]{1,3}", any_value(), 0..4),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
            spread in prop::sample::select(b"\"\\{}[],:0123456789.eE-+ ntfu/".to_vec()),
        ) {
            let mut members = members;
            members.insert("seq".into(), 10.into());
            members.insert("prev".into(), PREV.into());
            members.insert("kind".into(), "gate".into());
            let mut line = Value::from_iter(members).to_string().into_bytes();
            for (at, byte, how) in changes {
                let at = at.index(line.len());
                match how {
                    0 => line[at] = spread,
                    1 => line[at] ^= 1 << (byte % 8),
                    _ => line.insert(at, spread),
                }
            }
            if let Some(essence) = quick(&line) {
                prop_assert_eq!(slow(&line), Some(essence), "{}", String::from_utf8_lossy(&line));
            }
        }
    }
}
