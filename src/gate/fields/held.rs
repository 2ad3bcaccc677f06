//! The fields of a request that waits for a person: which of them will be forwarded, and which of those tell it from
//! another request.
//!
//! What will be forwarded is shown and kept, so that what runs is what was shown. Less tells two requests apart: what a
//! client changes with every attempt (ids, dates, trace context) must not make a retry a new request.

use super::{Class, Nominated, Rules, TOOLGATE_SESSION, options};
use crate::policy::approval::Field;
use crate::policy::model::SessionHeader;
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, TE};

/// A field that will be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldField {
    /// Name and value.
    pub field: Field,
    /// Whether it tells the request from another.
    pub tells: Tells,
}

/// Whether a field is part of what a request is bound by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// With another value it is another request.
    Apart,
    /// Any value will do; what was shown is what is sent.
    Nothing,
}

/// Fields that clients change from one attempt to the next, sorted. `te` is between two neighbours, and `via` every proxy
/// adds to.
const VOLATILE: [&str; 10] = [
    "accept-encoding",
    "baggage",
    "date",
    "te",
    "traceparent",
    "tracestate",
    "user-agent",
    "via",
    "x-correlation-id",
    "x-request-id",
];

/// The fields of `headers`, which [`super::check_request`] let pass, that will be forwarded, in the order received. Left out
/// are the session's credential, what the gate sets or strips, and `Prefer`, which the gate has honoured.
pub fn held(headers: &HeaderMap, rules: &Rules, volatile: &[Box<str>]) -> Vec<HeldField> {
    let nominated = Nominated::by(headers);
    let own_authorization = rules.session_header == SessionHeader::ToolgateSession
        && headers.contains_key(TOOLGATE_SESSION);
    let mut kept: Vec<HeldField> = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let class = Class::of(name.as_str());
        let carried = match class {
            Class::Plain | Class::Checked | Class::Via | Class::Override | Class::Unknown => {
                name != "prefer"
            }
            Class::Authorization => own_authorization,
            Class::Te => options(value).any(|option| option.eq_ignore_ascii_case(b"trailers")),
            // Whence it comes the gate says, by the address that was shown.
            Class::Origin | Class::Hop | Class::Framing | Class::Trailer | Class::Gate => false,
        };
        if !carried || rules.credential.as_ref() == Some(name) || nominated.holds(name) {
            continue;
        }
        let name = name.as_str();
        // HTTP/2 may send cookies one by one; they are forwarded as one field.
        if name == COOKIE
            && let Some(first) = kept.iter_mut().find(|held| *held.field.name == *name)
        {
            let mut joined = std::mem::take(&mut first.field.value).into_vec();
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(value.as_bytes());
            first.field.value = joined.into();
            continue;
        }
        let free = VOLATILE.binary_search(&name).is_ok()
            || volatile.iter().any(|volatile| **volatile == *name);
        kept.push(HeldField {
            field: Field {
                name: name.into(),
                value: match class {
                    Class::Te => (*b"trailers").into(),
                    _ => value.as_bytes().into(),
                },
            },
            tells: if free { Tells::Nothing } else { Tells::Apart },
        });
    }
    kept
}

/// Kept fields as a request has them, for [`super::forward`] to let through whole.
pub fn again(fields: &[Field]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(fields.len() + 1);
    for field in fields {
        // They were a request's: both are what they were.
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(field.name.as_bytes()),
            HeaderValue::from_bytes(&field.value),
        ) {
            if name == http::header::AUTHORIZATION {
                // It is the agent's own and not the session's: as the field that is never forwarded says.
                headers.insert(TOOLGATE_SESSION, HeaderValue::from_static("held"));
            }
            if name == TE {
                headers.insert(TE, value);
                continue;
            }
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn rules(session_header: SessionHeader) -> Rules {
        Rules {
            credential: Some(HeaderName::from_static("x-api-key")),
            credential_folded: (*b"xapikey").into(),
            session_header,
            allow_method_override: Box::default(),
        }
    }

    fn names(held: &[HeldField], tells: Tells) -> Vec<&str> {
        let held = held.iter().filter(|held| held.tells == tells);
        held.map(|held| &*held.field.name).collect()
    }

    #[test]
    fn what_is_forwarded_is_kept_and_what_changes_with_every_attempt_tells_nothing() {
        assert!(VOLATILE.is_sorted());
        let headers = headers(&[
            ("authorization", "Bearer tgs_x"),
            ("toolgate-intent", "why"),
            ("prefer", "wait=5"),
            ("expect", "100-continue"),
            ("content-length", "3"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-api-key", "the agent's"),
            ("content-type", "text/plain"),
            ("idempotency-key", "7"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("user-agent", "u"),
            ("traceparent", "t"),
            ("x-nonce", "n"),
            ("te", "trailers"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ]);
        let held = held(
            &headers,
            &rules(SessionHeader::Authorization),
            &["x-nonce".into()],
        );
        assert_eq!(
            names(&held, Tells::Apart),
            ["content-type", "idempotency-key", "x-a", "x-a", "cookie"]
        );
        assert_eq!(
            names(&held, Tells::Nothing),
            ["user-agent", "traceparent", "x-nonce", "te"]
        );
        let cookie = held.iter().find(|held| *held.field.name == *"cookie");
        assert_eq!(&*cookie.unwrap().field.value, b"a=1; b=2");
    }

    #[test]
    fn an_authorization_that_is_the_agents_own_is_kept_and_forwarded() {
        let headers = headers(&[
            ("toolgate-session", "tgs_x"),
            ("authorization", "Basic own"),
        ]);
        let rules = rules(SessionHeader::ToolgateSession);
        let held = held(&headers, &rules, &[]);
        assert_eq!(names(&held, Tells::Apart), ["authorization"]);
        let fields: Vec<Field> = held.into_iter().map(|held| held.field).collect();
        let again = again(&fields);
        assert!(again.contains_key(TOOLGATE_SESSION) && again.contains_key("authorization"));
    }
}
