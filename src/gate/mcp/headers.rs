//! What header fields say of a message must be what the message says.
//!
//! `Mcp-Method` and `Mcp-Name` are read by balancers and servers before the body is; `Mcp-Session-Id` decides whose session
//! of the protocol a message belongs to. So a field that says otherwise than the body, that stands there twice, that
//! `Connection` takes away on the way, or that backends which ignore punctuation would read as one of these, is refused.

use super::message::Message;
use crate::gate::fields;
use crate::gate::refusal::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// The session of the protocol, up to the revision of 2025-11-25.
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Behind which event a stream is resumed.
pub(super) const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

const READ: [HeaderName; 7] = [
    SESSION_ID,
    METHOD,
    NAME,
    VERSION,
    LAST_EVENT,
    CONTENT_TYPE,
    CONTENT_ENCODING,
];

/// Refuses what could be read as one of these fields by some, and is not by others.
pub(super) fn plain(headers: &HeaderMap) -> Result<(), Refusal> {
    for name in headers.keys() {
        let alias = READ
            .iter()
            .any(|read| read != name && folded(read).eq(folded(name)));
        if alias {
            return Err(Refusal::field_forbidden(format!(
                "the field {name} can be read as another that the gate checks; leave it out"
            )));
        }
    }
    for name in &READ {
        if fields::is_nominated(headers, name) {
            return Err(Refusal::field_forbidden(format!(
                "Connection may not name the field {name}; leave it out of Connection"
            )));
        }
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(Refusal::field_forbidden(format!(
                "the field {name} may be sent only once"
            )));
        }
    }
    Ok(())
}

/// A name as backends read it that know no case and no punctuation.
fn folded(name: &HeaderName) -> impl Iterator<Item = u8> + '_ {
    let bytes = name.as_str().bytes();
    bytes.filter(u8::is_ascii_alphanumeric)
}

/// Whether the body is sent as JSON, in UTF-8 and not compressed.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let coding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
    let plain = coding.is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
    let Some(Ok(text)) = headers.get(CONTENT_TYPE).map(HeaderValue::to_str) else {
        return false;
    };
    let mut parts = text.split(';').map(str::trim);
    let json = parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    plain
        && json
        && parts.all(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                !name.trim().eq_ignore_ascii_case("charset")
                    || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
        })
}

/// The session of the protocol that a request names.
///
/// # Errors
/// It is none.
pub(super) fn session_id(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    match headers.get(&SESSION_ID).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(id)) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Some(id))
        }
        Some(_) => Err(Refusal::field_forbidden(
            "Mcp-Session-Id must be the one that the server gave, as it gave it",
        )),
    }
}

/// The field that says otherwise than the message, where one does.
pub(super) fn mismatch(headers: &HeaderMap, message: &Message<'_>) -> Option<HeaderName> {
    if let Some(method) = headers.get(METHOD)
        && Some(method.as_bytes()) != message.method().map(str::as_bytes)
    {
        return Some(METHOD);
    }
    if let Some(name) = headers.get(NAME) {
        let said = match message.name {
            Some(name) => vec![name],
            None if message.method().is_some_and(|it| it.starts_with("tasks/")) => {
                message.parameter("taskId").into_iter().collect()
            }
            // Methods of which only the server knows what they are for: it must stand in the body.
            None => ["name", "uri", "taskId"]
                .into_iter()
                .filter_map(|member| message.parameter(member))
                .collect(),
        };
        let named = decoded(name);
        if !said
            .iter()
            .any(|said| Some(said.as_bytes()) == named.as_deref())
        {
            return Some(NAME);
        }
    }
    match (headers.get(VERSION), message.version()) {
        (_, Err(())) => Some(VERSION),
        (Some(sent), Ok(Some(said))) if sent.as_bytes() != said.as_bytes() => Some(VERSION),
        _ => None,
    }
}

/// A value as it was meant: plain, or in base64 between its two marks. `None`: neither.
fn decoded(value: &HeaderValue) -> Option<Vec<u8>> {
    let bytes = value.as_bytes();
    let inner = bytes
        .strip_prefix(b"=?base64?")
        .and_then(|rest| rest.strip_suffix(b"?="));
    match inner {
        Some(inner) => STANDARD.decode(inner).ok(),
        None => {
            let plain = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
            bytes.iter().all(plain).then(|| bytes.to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::json::Value;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (HeaderName::from_static(name), value)
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        headers
    }

    fn of(body: &str, fields: &[(&'static str, &str)]) -> Option<HeaderName> {
        let value = Value::read(body.as_bytes()).unwrap();
        mismatch(&headers(fields), &Message::read(&value).unwrap())
    }

    const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"Hello, 世界","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;

    #[test]
    fn fields_must_say_what_the_body_says() {
        for agreeing in [
            &[][..],
            &[("mcp-method", "tools/call")],
            &[("mcp-name", "=?base64?SGVsbG8sIOS4lueVjA==?=")],
            &[("mcp-protocol-version", "2026-07-28")],
        ] {
            assert_eq!(of(CALL, agreeing), None, "{agreeing:?}");
        }
        for (name, value) in [
            ("mcp-method", "tools/list"),
            ("mcp-method", "TOOLS/CALL"),
            ("mcp-method", ""),
            ("mcp-name", "list_issues"),
            ("mcp-name", ""),
            ("mcp-name", "Hello, 世界"),
            ("mcp-name", "=?base64?SGVsbG8=?="),
            ("mcp-name", "=?base64?SGVsbG8sIOS4lueVjA?="),
            ("mcp-name", "=?BASE64?SGVsbG8sIOS4lueVjA==?="),
            ("mcp-protocol-version", "2025-11-25"),
        ] {
            assert!(of(CALL, &[(name, value)]).is_some(), "{name}: {value}");
        }
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        assert!(of(list, &[("mcp-name", "x")]).is_some());
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        assert!(of(response, &[("mcp-method", "ping")]).is_some());
        let task =
            r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"t","name":"n"}}"#;
        assert_eq!(of(task, &[("mcp-name", "t")]), None);
        assert!(of(task, &[("mcp-name", "n")]).is_some());
    }

    #[test]
    fn what_some_read_as_a_checked_field_is_refused() {
        for fields in [
            &[("mcp_session_id", "x")][..],
            &[("mcpsessionid", "x")],
            &[("mcp.method", "x")],
            &[("mcp-session-id", "a"), ("mcp-session-id", "b")],
            &[
                ("mcp-session-id", "a"),
                ("connection", "close, Mcp-Session-Id"),
            ],
        ] {
            assert!(plain(&headers(fields)).is_err(), "{fields:?}");
        }
        assert!(
            plain(&headers(&[
                ("mcp-session-id", "a"),
                ("mcp-param-region", "eu")
            ]))
            .is_ok()
        );
    }

    #[test]
    fn only_json_in_utf_8_is_json() {
        let json = |value| is_json(&headers(&[("content-type", value)]));
        assert!(json("application/json") && json("Application/JSON; charset=\"UTF-8\""));
        for other in [
            "text/plain",
            "application/json-rpc",
            "application/x+json",
            "application/json; charset=utf-16",
            "application/json;",
            "",
        ] {
            assert!(!json(other), "{other}");
        }
        assert!(!is_json(&headers(&[
            ("content-type", "application/json"),
            ("content-encoding", "gzip")
        ])));
        assert!(!is_json(&headers(&[])));
    }
}
