//! JSON laid out for reading, token by token: order, numbers and repeated keys stay as they were sent, which a parser's
//! value would not keep. Only the layout changes, and `\u` escapes of what can be shown as it is.

use serde::de::IgnoredAny;
use std::collections::HashSet;

/// JSON, laid out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Laid {
    pub text: String,
    /// Keys that an object has more than once: readers differ on which of the values counts.
    pub twice: Vec<String>,
}

/// Most that the layout may take: indentation can be far longer than what it indents.
const LAID_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most repeated keys that are named.
const TWICE_MAX: usize = 8;

/// `None`: not JSON, nested beyond what parsers take, or too long once it is laid out.
pub(super) fn lay_out(text: &str) -> Option<Laid> {
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let mut layout = Layout::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            ' ' | '\t' | '\n' | '\r' => 1,
            '"' => {
                let end = string_end(rest);
                layout.string(&rest[..end]);
                end
            }
            '{' | '[' => {
                layout.open(first, rest[1..].trim_start().starts_with(['}', ']']));
                1
            }
            '}' | ']' => {
                layout.close(first);
                1
            }
            ',' => {
                layout.comma();
                1
            }
            ':' => {
                layout.out.push_str(": ");
                layout.key_next = false;
                1
            }
            _ => {
                let end = rest.find([',', '}', ']', ' ', '\t', '\n', '\r']);
                let end = end.unwrap_or(rest.len());
                layout.out.push_str(&rest[..end]);
                end
            }
        };
        rest = &rest[length..];
        if layout.out.len() > LAID_BYTES_MAX {
            return None;
        }
    }
    Some(Laid {
        text: layout.out,
        twice: layout.twice,
    })
}

#[derive(Default)]
struct Layout {
    out: String,
    /// Of each open object its keys so far; `None`: an array.
    open: Vec<Option<HashSet<String>>>,
    /// Whether the next string of an object is a key.
    key_next: bool,
    /// Whether what is open has nothing in it.
    empty: bool,
    twice: Vec<String>,
}

impl Layout {
    fn open(&mut self, bracket: char, empty: bool) {
        self.out.push(bracket);
        self.open.push((bracket == '{').then(HashSet::new));
        self.key_next = bracket == '{';
        self.empty = empty;
        if !empty {
            self.line();
        }
    }

    fn close(&mut self, bracket: char) {
        self.open.pop();
        if !self.empty {
            self.line();
        }
        self.empty = false;
        self.out.push(bracket);
    }

    fn comma(&mut self) {
        self.out.push(',');
        self.key_next = matches!(self.open.last(), Some(Some(_)));
        self.line();
    }

    fn line(&mut self) {
        self.out.push('\n');
        for _ in 0..self.open.len() {
            self.out.push_str("  ");
        }
    }

    fn string(&mut self, token: &str) {
        if self.key_next
            && let Some(Some(keys)) = self.open.last_mut()
        {
            // Compared as they are meant, not as they are written.
            let key = serde_json::from_str(token).unwrap_or_else(|_| token.to_owned());
            if keys.contains(&key) {
                if self.twice.len() < TWICE_MAX && !self.twice.contains(&key) {
                    self.twice.push(key);
                }
            } else {
                keys.insert(key);
            }
        }
        unescape(token, &mut self.out);
    }
}

/// Where the string that `text` begins with ends, behind its closing quotation mark.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `\u` escapes become what they stand for, save quotation marks, backslashes, controls and halves of pairs.
fn unescape(token: &str, out: &mut String) {
    let mut rest = token;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (length, character) = escape(rest);
        match character {
            Some(character) => out.push(character),
            None => out.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
}

/// How long the escape is that `text` begins with, and what it stands for if that may be shown in its place.
fn escape(text: &str) -> (usize, Option<char>) {
    let unit = |from: usize| {
        let digits = text.get(from..from + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(0) else {
        return (2.min(text.len()), None);
    };
    let units = [first, unit(6).unwrap_or(0)];
    match char::decode_utf16(units).next() {
        Some(Ok('"' | '\\' | '\0'..='\u{1f}')) | None => (6, None),
        Some(Ok(character)) => (6 * character.len_utf16(), Some(character)),
        Some(Err(_)) => (6, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn laid(text: &str) -> String {
        lay_out(text).unwrap().text
    }

    #[test]
    fn order_numbers_and_repeated_keys_stay_as_they_were_sent() {
        let text = r#"{"b":1.50,"a":[1E2,{}, [] ,true],"b":null}"#;
        let out = "{\n  \"b\": 1.50,\n  \"a\": [\n    1E2,\n    {},\n    [],\n    true\n  ],\n  \"b\": null\n}";
        let laid = lay_out(text).unwrap();
        assert_eq!((laid.text.as_str(), laid.twice), (out, vec!["b".to_owned()]));
    }

    #[test]
    fn a_key_that_is_spelt_in_two_ways_is_the_same_key() {
        let laid = lay_out("{\"amount\": 1, \"\\u0061mount\": 1000000, \"x\": {\"amount\": 2}}").unwrap();
        assert_eq!(laid.twice, ["amount"]);
    }

    #[test]
    fn escapes_are_read_where_what_they_stand_for_can_be_shown() {
        assert_eq!(
            laid(r#""\u0064elete \ud83d\ude42 \u0022 \u005c \u0000 \ud83d \n \\u0041""#),
            "\"delete \u{1f642} \\u0022 \\u005c \\u0000 \\ud83d \\n \\\\u0041\""
        );
        // It is marked where the text is shown.
        assert_eq!(laid(r#""\u202e""#), "\"\u{202e}\"");
    }

    #[test]
    fn what_is_no_json_is_not_laid_out() {
        for text in ["", "{", "{} {}", "a=b", "{\"a\":1,}", "'a'"] {
            assert_eq!(lay_out(text), None, "{text}");
        }
        let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
        assert_eq!(lay_out(&deep), None);
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(serde_json::Value::String),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(".*", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn layout_changes_no_value(value in value()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let laid = lay_out(&text).unwrap();
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&laid.text).unwrap(), value.clone());
                prop_assert!(laid.twice.is_empty());
            }
        }
    }
}
