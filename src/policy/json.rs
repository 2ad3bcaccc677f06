//! JSON as a judge must read it (RFC 8259, and stricter): one reading, so that no backend can find another one in it.
//!
//! Refused is what readers disagree on: a byte order mark, anything but UTF-8, a name that stands twice in one object,
//! half a surrogate pair, text behind the value, nesting deeper than [`DEPTH_MAX`]. Numbers stay as they are written until
//! somebody asks for their value, and then they are exact. Names that differ only by case stand beside each other, but
//! [`Value::at`] does not choose between them: some readers ignore case.
//!
//! What was judged is forwarded byte for byte. What the gate changes itself, an answer's list, it writes anew ([`Value::write`])
//! without loss: members keep their order, numbers their digits.
//!
//! It is one file because the steps of the reading are one another's.

mod write;

use super::decimal::Decimal;
use std::borrow::Cow;

/// A value; borrows from the text what needs no unescaping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// As it is written.
    Number(&'a str),
    /// Unescaped.
    Text(Cow<'a, str>),
    /// `[...]`.
    List(Vec<Value<'a>>),
    /// `{...}`, in its order; no name twice.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Why a text is not JSON, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {at}")]
pub struct JsonError {
    /// Byte offset.
    pub at: usize,
    /// What is wrong there.
    pub fault: JsonFault,
}

/// What is wrong with a text that is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Nothing but white space.
    #[error("there is no value")]
    Empty,
    /// RFC 8259 section 8.1 lets readers ignore it or not.
    #[error("a byte order mark")]
    Bom,
    /// Another encoding, or broken.
    #[error("the text is not UTF-8")]
    Encoding,
    /// It ends within a value.
    #[error("the text ends too early")]
    End,
    /// Not what can stand there.
    #[error("an unexpected character")]
    Character,
    /// `01`, `1.`, `.5`, `+1`, `NaN`.
    #[error("a number that JSON does not have")]
    Number,
    /// `\x`, `\u12`, half a surrogate pair.
    #[error("an escape that stands for no character")]
    Escape,
    /// A control character in a text.
    #[error("a control character that is not escaped")]
    Control,
    /// One name twice in one object.
    #[error("a name that the object has already")]
    NameTwice,
    /// Past [`DEPTH_MAX`].
    #[error("more than {DEPTH_MAX} lists and objects in one another")]
    Depth,
    /// Past [`VALUES_MAX`].
    #[error("more than {VALUES_MAX} values")]
    Values,
    /// Something behind the value.
    #[error("text behind the value")]
    Trailing,
}

/// Why a place in a value can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// Another name of the object differs from the one asked for by case only, or by what stands behind a NUL.
    Case,
    /// The pointer goes into something that is neither object nor list, or counts a list other than by `0`, `1`, `2`.
    Kind,
}

/// Lists and objects in one another.
pub const DEPTH_MAX: usize = 64;
/// Values in one text, all counted: bounds what a body of small values costs in memory.
pub const VALUES_MAX: usize = 65_536;

impl<'a> Value<'a> {
    /// Reads one value, and white space around it.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let fail = |at, fault| Err(JsonError { at, fault });
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return fail(0, JsonFault::Bom);
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return fail(error.valid_up_to(), JsonFault::Encoding),
        };
        let mut reader = Reader {
            text,
            bytes,
            values: 0,
            open: Vec::with_capacity(OPEN_AT_FIRST),
        };
        let start = reader.space(0);
        if start == bytes.len() {
            return fail(start, JsonFault::Empty);
        }
        let end = reader.value(start, Cow::Borrowed(""), 0)?;
        let end = reader.space(end);
        if end < bytes.len() {
            return fail(end, JsonFault::Trailing);
        }
        Ok(reader.open.swap_remove(0).1)
    }

    /// What a JSON pointer (RFC 6901) names, its tokens unescaped; `None`: there is nothing.
    ///
    /// # Errors
    /// [`Unclear`]: readers may take it differently.
    pub fn at<'p>(
        &self,
        tokens: impl IntoIterator<Item = &'p str>,
    ) -> Result<Option<&Self>, Unclear> {
        let mut value = self;
        for token in tokens {
            let next = match value {
                Value::Object(members) => member(members, token)?,
                Value::List(list) => list.get(index(token).ok_or(Unclear::Kind)?),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
                    return Err(Unclear::Kind);
                }
            };
            match next {
                Some(next) => value = next,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    /// A number's exact value; `None` of anything else, and of one that is out of bounds ([`Decimal::read`]).
    pub fn number(&self) -> Option<Decimal> {
        match self {
            Value::Number(text) => Decimal::read(text),
            _ => None,
        }
    }
}

fn member<'v, 'a>(
    members: &'v [(Cow<'a, str>, Value<'a>)],
    token: &str,
) -> Result<Option<&'v Value<'a>>, Unclear> {
    let mut found = None;
    let simple = is_simple(token);
    for (name, value) in members {
        if name == token {
            found = Some(value);
        } else if simple && name.len() != token.len() && is_simple(name) {
            // Of another length, nobody takes it for the other.
        } else if same_but_for_case(ended(name), ended(token)) {
            return Err(Unclear::Case);
        }
    }
    Ok(found)
}

/// Whether a name is all of ASCII, without a NUL: as long as any reader has it.
fn is_simple(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii() && byte != 0)
}

/// A name as readers have it to whom a NUL ends a text.
fn ended(name: &str) -> &str {
    name.split('\0').next().unwrap_or_default()
}

/// Whether readers that ignore case would take one for the other.
pub fn same_but_for_case(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        return one.eq_ignore_ascii_case(other);
    }
    // Upper and then lower: the Kelvin sign and the long s fold to the letters that they are read as.
    fn fold(text: &str) -> impl Iterator<Item = char> {
        let upper = text.chars().flat_map(char::to_uppercase);
        upper.flat_map(char::to_lowercase)
    }
    fold(one).eq(fold(other))
}

fn index(token: &str) -> Option<usize> {
    let digits = token.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = token == "0" || !token.starts_with('0');
    (digits && canonical).then(|| token.parse().ok()).flatten()
}

/// Each step is told where it begins, and says where it ends.
struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    values: usize,
    /// Each value that has not found its place yet, with its name in an object; a list or an object that is open stands before
    /// all that it has so far. So each gets one piece of memory, of its size, when it ends.
    open: Vec<Member<'a>>,
}

type Member<'a> = (Cow<'a, str>, Value<'a>);

/// Room for what most bodies have open at once.
const OPEN_AT_FIRST: usize = 16;

impl<'a> Reader<'a> {
    #[cold]
    fn fail<T>(&self, at: usize, fault: JsonFault) -> Result<T, JsonError> {
        let fault = match fault {
            JsonFault::Character if at >= self.bytes.len() => JsonFault::End,
            other => other,
        };
        Err(JsonError { at, fault })
    }

    fn peek(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    #[inline(always)]
    fn space(&self, mut at: usize) -> usize {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek(at) {
            at += 1;
        }
        at
    }

    // In line with lists and objects: a call for each value is much of what a small one costs.
    #[inline(always)]
    fn value(&mut self, at: usize, name: Cow<'a, str>, depth: usize) -> Result<usize, JsonError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return self.fail(at, JsonFault::Values);
        }
        match self.peek(at) {
            Some(b'{' | b'[') if depth == DEPTH_MAX => self.fail(at, JsonFault::Depth),
            Some(b'{') => {
                self.open.push((name, Value::Null));
                self.object(at, depth + 1)
            }
            Some(b'[') => {
                self.open.push((name, Value::Null));
                self.list(at, depth + 1)
            }
            Some(b'"') => {
                let (text, end) = self.string(at)?;
                self.open.push((name, Value::Text(text)));
                Ok(end)
            }
            Some(b'-' | b'0'..=b'9') => {
                let end = self.number(at)?;
                self.open.push((name, Value::Number(&self.text[at..end])));
                Ok(end)
            }
            Some(b't') => self.word(at, "true", (name, Value::Bool(true))),
            Some(b'f') => self.word(at, "false", (name, Value::Bool(false))),
            Some(b'n') => self.word(at, "null", (name, Value::Null)),
            _ => self.fail(at, JsonFault::Character),
        }
    }

    fn word(&mut self, at: usize, word: &str, member: Member<'a>) -> Result<usize, JsonError> {
        if !self.bytes[at..].starts_with(word.as_bytes()) {
            return self.fail(at, JsonFault::Character);
        }
        self.open.push(member);
        Ok(at + word.len())
    }

    fn list(&mut self, start: usize, depth: usize) -> Result<usize, JsonError> {
        let first = self.open.len();
        let mut at = self.space(start + 1);
        if self.peek(at) != Some(b']') {
            loop {
                at = self.value(at, Cow::Borrowed(""), depth)?;
                at = self.space(at);
                match self.peek(at) {
                    Some(b',') => at = self.space(at + 1),
                    Some(b']') => break,
                    _ => return self.fail(at, JsonFault::Character),
                }
            }
        }
        let items = self.open.drain(first..).map(|(_, value)| value).collect();
        self.open[first - 1].1 = Value::List(items);
        Ok(at + 1)
    }

    fn object(&mut self, start: usize, depth: usize) -> Result<usize, JsonError> {
        let first = self.open.len();
        let mut at = self.space(start + 1);
        if self.peek(at) != Some(b'}') {
            loop {
                if self.peek(at) != Some(b'"') {
                    return self.fail(at, JsonFault::Character);
                }
                let (name, end) = self.string(at)?;
                at = self.space(end);
                if self.peek(at) != Some(b':') {
                    return self.fail(at, JsonFault::Character);
                }
                at = self.space(at + 1);
                at = self.value(at, name, depth)?;
                at = self.space(at);
                match self.peek(at) {
                    Some(b',') => at = self.space(at + 1),
                    Some(b'}') => break,
                    _ => return self.fail(at, JsonFault::Character),
                }
            }
        }
        let members = self.open.split_off(first);
        if has_twice(&members) {
            return self.fail(start, JsonFault::NameTwice);
        }
        self.open[first - 1].1 = Value::Object(members);
        Ok(at + 1)
    }

    fn number(&self, start: usize) -> Result<usize, JsonError> {
        let mut at = start + usize::from(self.bytes[start] == b'-');
        at = match self.peek(at) {
            Some(b'0') => at + 1,
            _ => self.digits(at)?,
        };
        if self.peek(at) == Some(b'.') {
            at = self.digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = self.peek(at) {
            at += 1;
            at += usize::from(matches!(self.peek(at), Some(b'+' | b'-')));
            at = self.digits(at)?;
        }
        match self.peek(at) {
            None | Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'}') => Ok(at),
            Some(_) => self.fail(at, JsonFault::Number),
        }
    }

    /// One or more.
    #[inline(always)]
    fn digits(&self, start: usize) -> Result<usize, JsonError> {
        let mut at = start;
        while let Some(b'0'..=b'9') = self.peek(at) {
            at += 1;
        }
        if at == start {
            return self.fail(at, JsonFault::Number);
        }
        Ok(at)
    }

    #[inline(always)]
    fn string(&self, start: usize) -> Result<(Cow<'a, str>, usize), JsonError> {
        let from = start + 1;
        let end = self.plain(from);
        if self.peek(end) == Some(b'"') {
            return Ok((Cow::Borrowed(&self.text[from..end]), end + 1));
        }
        let (own, end) = self.unescaped(from, end)?;
        Ok((Cow::Owned(own), end))
    }

    /// A text that has more in it than itself, which is plain up to `end` at first; and where it ends.
    #[cold]
    fn unescaped(&self, mut from: usize, mut end: usize) -> Result<(String, usize), JsonError> {
        let mut own = String::new();
        loop {
            own.push_str(&self.text[from..end]);
            match self.peek(end) {
                None => return self.fail(end, JsonFault::End),
                Some(b'"') => return Ok((own, end + 1)),
                Some(b'\\') => {
                    let (char, behind) = self.escape(end)?;
                    own.push(char);
                    from = behind;
                }
                Some(_) => return self.fail(end, JsonFault::Control),
            }
            end = self.plain(from);
        }
    }

    /// The next quote, backslash or control character, or the end; looked for in eight bytes at a time.
    #[inline(always)]
    fn plain(&self, from: usize) -> usize {
        let mut rest = &self.bytes[from..];
        while let Some((eight, more)) = rest.split_first_chunk::<8>() {
            let stops = stops(u64::from_le_bytes(*eight));
            if stops != 0 {
                return self.bytes.len() - rest.len() + stops.trailing_zeros() as usize / 8;
            }
            rest = more;
        }
        let plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | 0..=0x1f);
        self.bytes.len() - rest.len() + rest.iter().take_while(plain).count()
    }

    fn escape(&self, at: usize) -> Result<(char, usize), JsonError> {
        let Some(&kind) = self.bytes.get(at + 1) else {
            return self.fail(self.bytes.len(), JsonFault::End);
        };
        let char = match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(at),
            _ => return self.fail(at, JsonFault::Escape),
        };
        Ok((char, at + 2))
    }

    /// `\uXXXX`, or two of them that make a pair.
    fn unicode(&self, at: usize) -> Result<(char, usize), JsonError> {
        let unit = |at: usize| {
            let digits = self.bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
            let hex = digits.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(digits).ok().filter(|_| hex)?;
            u16::from_str_radix(text, 16).ok()
        };
        let Some(high) = unit(at) else {
            return self.fail(at, JsonFault::Escape);
        };
        let (units, length) = match high {
            0xd800..=0xdbff => match unit(at + 6) {
                Some(low) => ([high, low], 2),
                None => return self.fail(at, JsonFault::Escape),
            },
            _ => ([high, 0], 1),
        };
        match char::decode_utf16(units.into_iter().take(length)).next() {
            Some(Ok(char)) => Ok((char, at + 6 * length)),
            _ => self.fail(at, JsonFault::Escape),
        }
    }
}

/// Where a text stops being plain: the lowest bit that is set is in the first such byte, counted from the low end.
fn stops(eight: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    // A byte below the bound borrows into its high bit; what it borrows from the bytes above it sets no lower bit.
    let below = |bytes: u64, bound: u8| bytes.wrapping_sub(ONES * u64::from(bound)) & !bytes;
    let is = |byte: u8| below(eight ^ (ONES * u64::from(byte)), 1);
    (below(eight, 0x20) | is(b'"') | is(b'\\')) & HIGHS
}

/// Whether a name stands twice.
fn has_twice(members: &[Member<'_>]) -> bool {
    if members.len() > FEW {
        let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        return names.windows(2).any(|pair| pair[0] == pair[1]);
    }
    // Names that share no mark with one before them are new, and most share none.
    let mut marks = 0_u64;
    members.iter().enumerate().any(|(at, (name, _))| {
        let mark = mark(name);
        let perhaps = marks & mark != 0;
        marks |= mark;
        perhaps && members[..at].iter().any(|(have, _)| have == name)
    })
}

/// One bit of 64, the same for the same name.
fn mark(name: &str) -> u64 {
    let (first, last) = match name.as_bytes() {
        [] => (0, 0),
        [first, .., last] => (*first, *last),
        [only] => (*only, *only),
    };
    let sum = usize::from(first) + 5 * usize::from(last) + 7 * name.len();
    1 << (sum % 64)
}

/// Up to here comparing is quicker than sorting.
const FEW: usize = 12;

#[cfg(test)]
mod tests;
