//! A value as text: compact, its members in their order, its numbers as they were written.

use super::Value;
use std::fmt::Write as _;

impl Value<'_> {
    /// Appends the value as JSON. Read again, it is the same value.
    pub fn write(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Number(text) => out.push_str(text),
            Value::Text(text) => write_text(text, out),
            Value::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    separate(at, out);
                    item.write(out);
                }
                out.push(']');
            }
            Value::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    separate(at, out);
                    write_text(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn separate(at: usize, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
}

/// Escaped where JSON wants it, and where readers of lines may see an end: the two separators of Unicode.
fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '\u{7f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_the_same_value() {
        let text = r#"{"b":[1.50,-0,1e400,12345678901234567890],"a":{"\u0000\u2028\"\\":null,"é😀":true},"":"\n","c":{},"d":[]}"#;
        let value = Value::read(text.as_bytes()).unwrap();
        let mut written = String::new();
        value.write(&mut written);
        assert_eq!(Value::read(written.as_bytes()).unwrap(), value);
        assert!(written.contains("1.50") && written.contains("1e400"));
        assert!(!written.contains('\u{2028}'));
    }
}
