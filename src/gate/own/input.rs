//! JSON that agents send to the gate itself: bounded, strict, and refused with the place of the mistake.

use crate::gate::body::{Prefix, RequestBody};
use crate::gate::refusal::Refusal;
use crate::policy::decision::Reason;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

/// Reads one JSON object. `T` refuses unknown keys (`deny_unknown_fields`) and, as every derived struct does, repeated
/// ones.
pub(super) async fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &mut Option<RequestBody>,
) -> Result<T, Refusal> {
    if headers.contains_key(CONTENT_ENCODING) || !is_json(headers) {
        return Err(Refusal::new(
            Reason::BodyUnreadable,
            "send JSON with `Content-Type: application/json` and no content coding",
        )
        .status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let prefix = match body {
        Some(body) => body
            .read_prefix(INPUT_BYTES_MAX)
            .await
            .map_err(Refusal::body)?,
        None => Prefix::Whole(bytes::Bytes::new()),
    };
    match prefix {
        Prefix::Whole(text) => serde_json::from_slice(&text)
            .map_err(|why| Refusal::invalid_input(format!("the JSON can't be used: {why}"))),
        Prefix::Longer(_) => Err(Refusal::new(
            Reason::BodyTooLarge,
            format!("send at most {INPUT_BYTES_MAX} bytes of JSON"),
        )),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let Ok(value) = value.to_str() else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    let essence = parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let charset = |part: &str| {
        part.split_once('=').is_none_or(|(name, charset)| {
            !name.eq_ignore_ascii_case("charset")
                || charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    };
    essence && parts.all(charset)
}

/// Longest JSON read: an intent at its bound, every character escaped, fits.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_in_utf8_is_read() {
        let judged = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            is_json(&headers)
        };
        assert!(judged("application/json"));
        assert!(judged("Application/JSON; charset=\"UTF-8\""));
        assert!(!judged("application/json; charset=latin1"));
        assert!(!judged("text/plain"));
        assert!(!is_json(&HeaderMap::new()));
    }
}
