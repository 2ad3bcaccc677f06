//! What the agent says it is doing: the `Toolgate-Intent` field, decoded and bounded.
//!
//! It is evidence for people, recorded beside the decision. It is never a reason to let a call pass.

use crate::gate::refusal::Refusal;
use crate::ledger::without_tokens;
use crate::policy::model::{IntentRule, Route};
use crate::store::live::INTENT_BYTES_MAX;
use http::HeaderMap;
use std::sync::Arc;

/// The call's own intent; `None` where the field is absent.
///
/// # Errors
/// The field is repeated, empty, too long or not text.
pub(super) fn of_call(headers: &HeaderMap) -> Result<Option<Arc<str>>, Refusal> {
    let mut values = headers.get_all("toolgate-intent").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::invalid_input(
            "`Toolgate-Intent` was sent more than once; send it once",
        ));
    }
    let Ok(text) = std::str::from_utf8(value.as_bytes()) else {
        return Err(Refusal::invalid_input(
            "`Toolgate-Intent` is not UTF-8; send UTF-8 or percent-encode it",
        ));
    };
    let decoded = decode(text.trim());
    check(&decoded).map_err(|why| Refusal::invalid_input(format!("`Toolgate-Intent` {why}")))?;
    // It is kept and shown: whoever pastes a token into it has not told it to everybody.
    Ok(Some(without_tokens(&decoded).into()))
}

/// Whether a decoded text can be an intent.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty; say in a sentence what this is for".into());
    }
    if text.len() > INTENT_BYTES_MAX {
        return Err(format!(
            "has {} bytes; at most {INTENT_BYTES_MAX} are kept",
            text.len()
        ));
    }
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err("holds control characters; send plain text".into());
    }
    Ok(())
}

/// Refuses where the route wants to know what the call is for, and nobody said.
pub(super) fn demand(route: &Route, intent: Option<&str>) -> Result<(), Refusal> {
    match (route.intent, intent) {
        (IntentRule::Required, None) => Err(Refusal::intent_missing()),
        (IntentRule::Required, Some(_)) | (IntentRule::Optional, _) => Ok(()),
    }
}

/// RFC 8187 (`UTF-8'en'...`) or bare percent-encoding, where it is valid; otherwise the text as it stands, because a
/// lone `%` is an ordinary character of a sentence.
fn decode(text: &str) -> String {
    let encoded = extended(text).unwrap_or(text);
    if !encoded.contains('%') {
        return encoded.to_owned();
    }
    percent_decoded(encoded)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_else(|| text.to_owned())
}

/// The value of an RFC 8187 `ext-value` in UTF-8.
fn extended(text: &str) -> Option<&str> {
    let (charset, rest) = text.split_once('\'')?;
    let (_language, value) = rest.split_once('\'')?;
    charset.eq_ignore_ascii_case("utf-8").then_some(value)
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(bytes: &[u8]) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        headers.insert("toolgate-intent", HeaderValue::from_bytes(bytes).unwrap());
        of_call(&headers)
            .map(|intent| intent.map(|text| text.to_string()))
            .map_err(|_| ())
    }

    #[test]
    fn an_intent_is_read_as_utf8_as_percent_encoding_and_as_rfc_8187() {
        let expected = Ok(Some("größer".to_owned()));
        assert_eq!(read("größer".as_bytes()), expected);
        assert_eq!(read(b"gr%C3%B6%C3%9Fer"), expected);
        assert_eq!(read(b"UTF-8'de'gr%C3%B6%C3%9Fer"), expected);
    }

    #[test]
    fn a_lone_percent_sign_is_an_ordinary_character() {
        assert_eq!(read(b"give 20% off"), Ok(Some("give 20% off".to_owned())));
    }

    #[test]
    fn empty_overlong_repeated_and_unreadable_intents_are_refused() {
        assert!(read(b"  ").is_err());
        assert!(read(&[0xff, 0xfe]).is_err());
        assert!(read(b"a%00b").is_err());
        assert!(read(&[b'x'; INTENT_BYTES_MAX + 1]).is_err());
        let mut headers = HeaderMap::new();
        headers.append("toolgate-intent", HeaderValue::from_static("a"));
        headers.append("toolgate-intent", HeaderValue::from_static("b"));
        assert!(of_call(&headers).is_err());
    }
}
