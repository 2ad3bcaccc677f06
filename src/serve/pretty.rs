//! JSON laid out for a person: white space is put between tokens, and nothing else is changed.
//!
//! What is approved is bytes. A layout that went through a parser's values would show a key that stands twice once, and a
//! number as the parser took it; this one copies every token as it stands. What is not JSON is not laid out.

use serde::de::IgnoredAny;

/// Deepest nesting laid out: more is shown as it is.
const DEPTH_MAX: usize = 64;
/// Longest layout: indentation can be far longer than what it indents.
const OUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// `text` with a line for each member and element; `None`: it is not one JSON value.
pub fn json(text: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let token = match first {
            '"' => string(rest)?,
            '{' | '[' | '}' | ']' | ',' | ':' => &rest[..1],
            _ => word(rest),
        };
        rest = rest[token.len()..].trim_start();
        match token {
            "{" | "[" => {
                out.push_str(token);
                // Nothing in it: closed on the same line.
                if rest.starts_with(['}', ']']) {
                    out.push_str(&rest[..1]);
                    rest = rest[1..].trim_start();
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            "}" | "]" => {
                depth = depth.checked_sub(1)?;
                line(&mut out, depth);
                out.push_str(token);
            }
            "," => {
                out.push(',');
                line(&mut out, depth);
            }
            ":" => out.push_str(": "),
            _ => out.push_str(token),
        }
        if depth > DEPTH_MAX || out.len() > OUT_BYTES_MAX {
            return None;
        }
    }
    Some(out)
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

/// A string with its quotes, at the beginning of `text`.
fn string(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(&text[..=at]),
            _ => {}
        }
    }
    None
}

/// A number or a literal, at the beginning of `text`.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| c.is_ascii_whitespace() || ",:{}[]\"".contains(c));
    // Of a valid text no word is empty; never stand still all the same.
    let end = end.unwrap_or(text.len());
    if end == 0 { text } else { &text[..end] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_token_is_shown_as_it_stands_twice_if_it_stands_twice() {
        assert_eq!(
            json(r#"{"id":7,"id":1e3 ,"a":[1.50,{},[ ],"x, \" {"],"b":null}"#).unwrap(),
            "{\n  \"id\": 7,\n  \"id\": 1e3,\n  \"a\": [\n    1.50,\n    {},\n    [],\n    \"x, \\\" {\"\n  ],\n  \"b\": null\n}"
        );
        assert_eq!(json(" 7 ").as_deref(), Some("7"));
    }

    #[test]
    fn what_is_not_one_json_value_is_not_laid_out() {
        for text in ["", "{", "{} {}", "a=b", "\u{feff}{}", "[1,]"] {
            assert_eq!(json(text), None, "{text}");
        }
        let deep = "[".repeat(DEPTH_MAX + 2) + "7" + &"]".repeat(DEPTH_MAX + 2);
        assert_eq!(json(&deep), None);
        let wide = format!(
            "{}{}7{}",
            "[".repeat(60),
            "7,".repeat(100_000),
            "]".repeat(60)
        );
        assert_eq!(json(&wide), None);
    }

    /// Without the white space that stands outside of strings.
    fn bare(text: &str) -> String {
        let mut out = String::new();
        let (mut within, mut escaped) = (false, false);
        for c in text.chars() {
            if within || !c.is_ascii_whitespace() {
                out.push(c);
            }
            match c {
                _ if escaped => escaped = false,
                '\\' if within => escaped = true,
                '"' => within = !within,
                _ => {}
            }
        }
        out
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<Option<bool>>().prop_map(|b| b.map_or(serde_json::Value::Null, Into::into)),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::hash_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn only_white_space_is_added(value in value()) {
            let text = value.to_string();
            let shown = json(&text).unwrap();
            prop_assert_eq!(bare(&shown), bare(&text));
        }
    }
}
