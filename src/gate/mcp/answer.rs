//! The gate's own answers as the protocol has them: what a model is to read reaches it as a result, what its client is to
//! act on as an error of JSON-RPC. Clients take other statuses than 200 for a broken transport, or hang.

use super::asked::{Asked, Kind};
use crate::policy::decision::Reason;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

/// What the gate says to a message: `document` is what it says to any call.
pub(in crate::gate) fn told(
    asked: &Asked,
    reason: Reason,
    document: Response<Bytes>,
) -> Response<Bytes> {
    let (mut head, document) = document.into_parts();
    if asked.kind == Kind::Stream {
        return Response::from_parts(head, document);
    }
    let detail = detail_of(&document);
    // What the gate wrote is JSON, and goes in as it is.
    let problem = String::from_utf8_lossy(&document);
    // Of a message that was understood, these are the model's to mend.
    let mends = matches!(
        reason,
        Reason::BodyTooLarge | Reason::BodyUnreadable | Reason::FieldForbidden
    );
    let keeps =
        asked.code.is_some() || (keeps_status(reason) && !mends) || asked.kind == Kind::Notice;
    let body = match (&asked.id, asked.kind) {
        (Some(id), Kind::Call) if !keeps => {
            let result = refused(&document, asked.typed);
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
        }
        (id, _) => {
            let code = asked.code.unwrap_or(REFUSED);
            let id = id
                .as_ref()
                .map_or_else(String::new, |id| format!(r#""id":{id},"#));
            format!(
                r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{code},"message":{detail},"data":{problem}}}}}"#
            )
        }
    };
    if !keeps {
        head.status = StatusCode::OK;
        for name in [LOCATION, RETRY_AFTER, WWW_AUTHENTICATE] {
            head.headers.remove(name);
        }
    } else if head.status.is_success() {
        // It would say that the message was taken.
        head.status = StatusCode::FORBIDDEN;
    }
    let json = HeaderValue::from_static("application/json");
    head.headers.insert(CONTENT_TYPE, json);
    Response::from_parts(head, Bytes::from(body))
}

/// The result of a tool's call that is refused: the model reads the text, programs what it says in `_meta`.
pub(super) fn refused(document: &[u8], typed: bool) -> String {
    let (detail, problem) = (detail_of(document), String::from_utf8_lossy(document));
    let typed = if typed {
        r#""resultType":"complete","#
    } else {
        ""
    };
    format!(
        r#"{{{typed}"content":[{{"type":"text","text":{detail}}}],"isError":true,"_meta":{{"{PROBLEM}":{problem}}}}}"#
    )
}

/// Whether the client, not the model, has to do something about it.
pub(super) fn keeps_status(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::CredentialMissing
            | Reason::CredentialInvalid
            | Reason::TargetAmbiguous
            | Reason::RequestMalformed
            | Reason::FieldForbidden
            | Reason::BodyTooLarge
            | Reason::BodyUnreadable
            | Reason::NotFound
            | Reason::LedgerUnavailable
            | Reason::StoreUnavailable
            | Reason::Overloaded
            | Reason::Internal
    )
}

/// The sentence of a document, as JSON; of one that waits for a person with what to do about it.
fn detail_of(document: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(document).unwrap_or_default();
    let detail = document["detail"]
        .as_str()
        .unwrap_or("the gate refused this");
    let text = match document["approval"].as_str() {
        Some(approval) => format!("{detail} (approval {approval}; call again in a few seconds)"),
        None => detail.to_owned(),
    };
    serde_json::Value::from(text).to_string()
}

/// Where the problem stands in a result. Not in `structuredContent`: clients hold that to what the tool declares of its own
/// results, some of them even where the result is an error, and then the model would read nothing.
const PROBLEM: &str = "toolgate/problem";
/// A message that is understood and does not pass. In the range that the specification leaves to implementations.
const REFUSED: i32 = -32001;
