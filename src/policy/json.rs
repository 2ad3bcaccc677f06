//! JSON as a judge must read it (RFC 8259, and stricter): one reading, so that no backend can find another one in it.
//!
//! Refused is what readers disagree on: a byte order mark, anything but UTF-8, a name that stands twice in one object,
//! half a surrogate pair, text behind the value, nesting deeper than [`DEPTH_MAX`]. Numbers stay as they are written until
//! somebody asks for their value, and then they are exact. Names that differ only by case stand beside each other, but
//! [`Value::at`] does not choose between them: some readers ignore case.
//!
//! What was judged is forwarded byte for byte. What the gate changes itself, an answer's list, it writes anew ([`Value::write`])
//! without loss: members keep their order, numbers their digits.

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
            at: 0,
            values: 0,
        };
        reader.space();
        if reader.at == bytes.len() {
            return fail(reader.at, JsonFault::Empty);
        }
        let value = reader.value(0)?;
        reader.space();
        if reader.at < bytes.len() {
            return fail(reader.at, JsonFault::Trailing);
        }
        Ok(value)
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

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn fail<T>(&self, fault: JsonFault) -> Result<T, JsonError> {
        let fault = match fault {
            JsonFault::Character if self.at >= self.bytes.len() => JsonFault::End,
            other => other,
        };
        Err(JsonError { at: self.at, fault })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes the byte if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return self.fail(JsonFault::Values);
        }
        match self.peek() {
            Some(b'{' | b'[') if depth == DEPTH_MAX => self.fail(JsonFault::Depth),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.list(depth + 1),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => self.fail(JsonFault::Character),
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        self.fail(JsonFault::Character)
    }

    fn list(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.at += 1;
        let mut list = Vec::new();
        self.space();
        if self.eat(b']') {
            return Ok(Value::List(list));
        }
        loop {
            self.space();
            list.push(self.value(depth)?);
            self.space();
            if self.eat(b']') {
                return Ok(Value::List(list));
            }
            if !self.eat(b',') {
                return self.fail(JsonFault::Character);
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        self.at += 1;
        let mut members = Vec::new();
        self.space();
        if self.eat(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.fail(JsonFault::Character);
            }
            let name = self.string()?;
            self.space();
            if !self.eat(b':') {
                return self.fail(JsonFault::Character);
            }
            self.space();
            let value = self.value(depth)?;
            members.push((name, value));
            self.space();
            if self.eat(b'}') {
                break;
            }
            if !self.eat(b',') {
                return self.fail(JsonFault::Character);
            }
        }
        if has_twice(&members) {
            self.at = start;
            return self.fail(JsonFault::NameTwice);
        }
        Ok(Value::Object(members))
    }

    fn number(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        match self.peek() {
            None | Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'}') => {
                Ok(Value::Number(&self.text[start..self.at]))
            }
            Some(_) => self.fail(JsonFault::Number),
        }
    }

    /// One or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            return self.fail(JsonFault::Number);
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let mut own = String::new();
        let mut from = self.at;
        loop {
            match self.peek() {
                None => return self.fail(JsonFault::End),
                Some(b'"') => {
                    let rest = &self.text[from..self.at];
                    self.at += 1;
                    if own.is_empty() && from > 0 && self.bytes[from - 1] == b'"' {
                        return Ok(Cow::Borrowed(rest));
                    }
                    own.push_str(rest);
                    return Ok(Cow::Owned(own));
                }
                Some(b'\\') => {
                    own.push_str(&self.text[from..self.at]);
                    let char = self.escape()?;
                    own.push(char);
                    from = self.at;
                }
                Some(0..=0x1f) => return self.fail(JsonFault::Control),
                Some(_) => {
                    let plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | 0..=0x1f);
                    self.at += self.bytes[self.at..].iter().take_while(plain).count();
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let Some(&kind) = self.bytes.get(self.at + 1) else {
            self.at = self.bytes.len();
            return self.fail(JsonFault::End);
        };
        let char = match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return self.fail(JsonFault::Escape),
        };
        self.at += 2;
        Ok(char)
    }

    /// `\uXXXX`, or two of them that make a pair.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let unit = |at: usize| {
            let digits = self.bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
            let hex = digits.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(digits).ok().filter(|_| hex)?;
            u16::from_str_radix(text, 16).ok()
        };
        let Some(high) = unit(self.at) else {
            return self.fail(JsonFault::Escape);
        };
        let (units, length) = match high {
            0xd800..=0xdbff => match unit(self.at + 6) {
                Some(low) => ([high, low], 2),
                None => return self.fail(JsonFault::Escape),
            },
            _ => ([high, 0], 1),
        };
        match char::decode_utf16(units.into_iter().take(length)).next() {
            Some(Ok(char)) => {
                self.at += 6 * length;
                Ok(char)
            }
            _ => self.fail(JsonFault::Escape),
        }
    }
}

/// Whether a name stands twice.
fn has_twice(members: &[(Cow<'_, str>, Value<'_>)]) -> bool {
    if members.len() <= FEW {
        return members.iter().enumerate().any(|(at, (name, _))| {
            let before = &members[..at];
            before.iter().any(|(have, _)| have == name)
        });
    }
    let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// Up to here comparing each with each is quicker than sorting.
const FEW: usize = 12;

#[cfg(test)]
mod tests;
