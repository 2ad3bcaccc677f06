//! JSON that agents send to the gate itself: bounded, strict, and refused with the place of the mistake.

use crate::gate::body::{Prefix, RequestBody};
use crate::gate::fields::{FieldFault, TOOLGATE_SESSION};
use crate::gate::refusal::Refusal;
use crate::policy::decision::Reason;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

/// Reads one JSON object, whatever `Content-Type` says of it: tools of agents often leave it out. `T` refuses unknown keys (`deny_unknown_fields`) and, as every derived struct does, repeated
/// ones.
pub(super) async fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &mut Option<RequestBody>,
) -> Result<T, Refusal> {
    let text = bytes(headers, body, INPUT_BYTES_MAX).await?;
    serde_json::from_slice(&text)
        .map_err(|why| Refusal::invalid_input(format!("the JSON can't be used: {why}")))
}

/// No backend is behind these paths that a second credential could be for.
pub(in crate::gate) fn one_credential(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.contains_key(TOOLGATE_SESSION) && headers.contains_key(AUTHORIZATION) {
        true => Err(Refusal::field(FieldFault::TwoCredentials)),
        false => Ok(()),
    }
}

/// The text of one JSON object.
pub(in crate::gate) async fn bytes(
    headers: &HeaderMap,
    body: &mut Option<RequestBody>,
    bytes_max: u64,
) -> Result<Bytes, Refusal> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Refusal::new(
            Reason::BodyUnreadable,
            "send the JSON as it is, without a content coding",
        )
        .status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let prefix = match body {
        Some(body) => body.read_prefix(bytes_max).await.map_err(Refusal::body)?,
        None => Prefix::Whole(Bytes::new()),
    };
    match prefix {
        // Serde would fill a struct from an array as well.
        Prefix::Whole(text) if text.trim_ascii_start().first() != Some(&b'{') => Err(
            Refusal::invalid_input("send one JSON object: `{...}`".to_owned()),
        ),
        Prefix::Whole(text) => Ok(text),
        Prefix::Longer(_) => Err(Refusal::new(
            Reason::BodyTooLarge,
            format!("send at most {bytes_max} bytes of JSON"),
        )),
    }
}

/// Longest JSON read: an intent at its bound, every character escaped, fits.
const INPUT_BYTES_MAX: u64 = 64 * 1024;
