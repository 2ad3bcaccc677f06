//! What is looked at of an answer in one piece: a message, an event, or what is no message for any reader.

use super::events::Event;
use crate::policy::json::Value;

/// What is looked at in one piece.
pub(super) enum Piece {
    Message(Vec<u8>),
    /// No message for any reader.
    Words(Vec<u8>),
    Event(Event),
    /// It could not be read.
    Garbled,
}

impl Piece {
    /// The message in it, if any.
    pub fn message(&self) -> Option<&[u8]> {
        match self {
            Piece::Message(bytes) => Some(bytes),
            Piece::Event(event) => event.data(),
            Piece::Words(_) | Piece::Garbled => None,
        }
    }

    /// Goes on, with this message instead of its own if there is one.
    pub fn write(self, changed: Option<String>, out: &mut Vec<u8>) {
        match (self, changed) {
            (Piece::Message(_), Some(changed)) => out.extend_from_slice(changed.as_bytes()),
            (Piece::Message(bytes) | Piece::Words(bytes), _) => out.extend_from_slice(&bytes),
            (Piece::Event(mut event), changed) => {
                if let Some(changed) = changed {
                    event.carry(changed);
                }
                event.write(out);
            }
            (Piece::Garbled, _) => {}
        }
    }
}

/// Whether the content of a failure is no message for any reader, whatever type it says it is of: words, or JSON in which
/// no result stands. What begins as an object or a list and can't be read could be one.
pub(super) fn is_no_message(read: &[u8]) -> bool {
    // Blanks and marks of encodings, of those too whose characters are wider.
    let blank = |byte: &u8| *byte <= b' ' || matches!(byte, 0xef | 0xbb | 0xbf | 0xfe | 0xff);
    match read.iter().find(|byte| !blank(byte)) {
        Some(b'[') => {
            let results = |item: &Value<'_>| match item {
                Value::Object(members) => members
                    .iter()
                    .any(|(name, _)| name.eq_ignore_ascii_case("result")),
                Value::List(_) => true,
                _ => false,
            };
            matches!(Value::read(read), Ok(Value::List(items)) if !items.iter().any(results))
        }
        Some(b'{') => false,
        Some(_) | None => true,
    }
}
