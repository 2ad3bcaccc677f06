//! What callers send: JSON with nothing unknown and nothing twice, or an answer that says what is wrong with it.

use super::problem::Refused;
use crate::policy::decision::Reason;
use crate::policy::time::duration;
use axum::body::Body;
use axum::extract::{Query, Request};
use http::Uri;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// Longest JSON read: the largest session there can be fits several times.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How long a caller has to send it.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// Items of one page of a list, unless the caller says otherwise, and the most it may say.
const PAGE_ITEMS: usize = 100;
const PAGE_ITEMS_MAX: usize = 1000;

/// The strict JSON body of a call.
pub(super) async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Refused> {
    parse(&bytes(request.into_body()).await?)
}

/// The body of a call, as it came.
pub(super) async fn text(request: Request) -> Result<bytes::Bytes, Refused> {
    bytes(request.into_body()).await
}

/// What a caller sends, within its bounds.
pub(in crate::serve) async fn bytes(body: Body) -> Result<bytes::Bytes, Refused> {
    let reading = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIME_MAX, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refused::new(
            Reason::BodyTooLarge,
            format!("the body is longer than {BODY_BYTES_MAX} bytes"),
        )),
        Ok(Err(_)) => Err(Refused::new(
            Reason::RequestMalformed,
            "the body ended early or is malformed",
        )),
        Err(_) => Err(
            Refused::new(Reason::RequestMalformed, "the body did not arrive in time")
                .status(http::StatusCode::REQUEST_TIMEOUT),
        ),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    if bytes.is_empty() {
        return Err(Refused::invalid(
            "this call needs a JSON object as its body; GET /openapi.json shows it",
        ));
    }
    let parsed = serde_json::from_slice::<Object<T>>(bytes);
    parsed.map(|Object(input)| input).map_err(|error| {
        Refused::invalid(format!(
            "the body is not what this call reads: {error}; GET /openapi.json shows it"
        ))
    })
}

/// A JSON object as a map, refused where a key stands twice: the last one must not win in silence.
pub(super) fn unique_map<'de, D, V>(from: D) -> Result<Option<BTreeMap<String, V>>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Unique<V>(PhantomData<V>);

    impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some(key) = access.next_key::<String>()? {
                if map.contains_key(&key) {
                    return Err(A::Error::custom(format_args!("`{key}` is given twice")));
                }
                let value = access.next_value()?;
                map.insert(key, value);
            }
            Ok(map)
        }
    }

    from.deserialize_map(Unique(PhantomData)).map(Some)
}

/// What a JSON object says. A derived type would take an array too, its members by position.
#[derive(Debug)]
pub(super) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(access))
            }
        }

        from.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// A length of time: `"15m"`, in one of `ms s m h d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        duration(&text).map(Self).ok_or_else(|| {
            D::Error::custom(
                "a duration is a text of a whole number and one of ms, s, m, h, d: \"15m\"",
            )
        })
    }
}

/// Which part of a list is asked for.
#[derive(Debug)]
pub(super) struct Page {
    pub limit: usize,
    pub after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPage {
    limit: Option<usize>,
    after: Option<String>,
}

/// The page that a target's query asks for.
pub(super) fn page(target: &Uri) -> Result<Page, Refused> {
    let Query(raw) = Query::<RawPage>::try_from_uri(target)
        .map_err(|error| Refused::invalid(format!("a list takes `limit` and `after`: {error}")))?;
    Ok(Page {
        limit: limit(raw.limit)?,
        after: raw.after,
    })
}

/// How many items a page has.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Refused> {
    let limit = asked.unwrap_or(PAGE_ITEMS);
    if !(1..=PAGE_ITEMS_MAX).contains(&limit) {
        return Err(Refused::invalid(format!(
            "`limit` is a number from 1 to {PAGE_ITEMS_MAX}"
        )));
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(default, deserialize_with = "unique_map")]
        map: Option<BTreeMap<String, u8>>,
        ttl: Option<Span>,
    }

    fn refusal(text: &str) -> String {
        format!("{:?}", parse::<Sample>(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn unknown_and_repeated_keys_are_refused_at_every_depth() {
        assert!(refusal(r#"{"tlt":"1m"}"#).contains("unknown field `tlt`"));
        assert!(refusal(r#"{"ttl":"1m","ttl":"2m"}"#).contains("duplicate field `ttl`"));
        assert!(refusal(r#"{"map":{"a":1,"a":2}}"#).contains("`a` is given twice"));
        assert!(refusal(r#"{"map":{}} {}"#).contains("trailing"));
        assert!(refusal("").contains("needs a JSON object"));
    }

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        let sample: Sample = parse(br#"{"ttl":"15m","map":{"a":1}}"#).unwrap();
        assert_eq!(sample.ttl, Some(Span(Duration::from_secs(900))));
        assert_eq!(sample.map.unwrap()["a"], 1);
        for wrong in [
            "15",
            "m",
            "1.5h",
            "-1s",
            "1 m",
            "99999999999999999999d",
            "1w",
        ] {
            assert!(duration(wrong).is_none(), "{wrong}");
        }
    }
}
