//! JSON for reading: laid out token by token ([`pretty`]), `\u` escapes of what can be shown as it is read, and keys
//! found that stand twice in one object, which a parser's value would not keep.

use crate::serve::pretty;
use std::collections::HashSet;

/// JSON, laid out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Laid {
    pub text: String,
    /// Keys that an object has more than once: readers differ on which of the values counts.
    pub twice: Vec<String>,
}

/// Most repeated keys that are named.
const TWICE_MAX: usize = 8;

/// `None`: not JSON, nested too deeply, or too long once it is laid out.
pub(super) fn lay_out(text: &str) -> Option<Laid> {
    let plain = pretty::json(text)?;
    let mut laid = Laid {
        text: String::with_capacity(plain.len()),
        twice: Vec::new(),
    };
    // Of each open object its keys so far; of an array none are ever put there.
    let mut open: Vec<HashSet<String>> = Vec::new();
    let mut rest = plain.as_str();
    while let Some(at) = rest.find(['"', '{', '[', '}', ']']) {
        laid.text.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match rest.as_bytes()[0] {
            b'"' => string_end(rest),
            _ => 1,
        };
        let (token, after) = rest.split_at(length);
        match token {
            "{" | "[" => open.push(HashSet::new()),
            "}" | "]" => drop(open.pop()),
            _ if after.starts_with(':') => {
                // Compared as they are meant, not as they are written.
                let key = serde_json::from_str(token).unwrap_or_else(|_| token.to_owned());
                if let Some(again) = open.last_mut().and_then(|keys| keys.replace(key)) {
                    laid.note(again);
                }
            }
            _ => {}
        }
        unescape(token, &mut laid.text);
        rest = after;
    }
    laid.text.push_str(rest);
    Some(laid)
}

impl Laid {
    fn note(&mut self, key: String) {
        if self.twice.len() < TWICE_MAX && !self.twice.contains(&key) {
            self.twice.push(key);
        }
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
        assert_eq!(
            (laid.text.as_str(), laid.twice),
            (out, vec!["b".to_owned()])
        );
    }

    #[test]
    fn a_key_that_is_spelt_in_two_ways_is_the_same_key() {
        let laid =
            lay_out("{\"amount\": 1, \"\\u0061mount\": 1000000, \"x\": {\"amount\": 2}}").unwrap();
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
