//! The words of a decision: `decision`, and in `context` the problem document of a no, or what can be done about it.
//!
//! A no that a person could turn into a yes carries `access_request`, as the AuthZEN Access Request and Approval Profile
//! (draft 1) has it: where to ask what became of it, and until when. About a call the person is asked already; about a
//! grant nobody is asked until it is requested there.

use super::Asking;
use crate::gate::Channel;
use crate::gate::hold::{Arrival, Question as HeldQuestion};
use crate::gate::record::Entry;
use crate::gate::refusal::{PENDING_RETRY, Refusal};
use crate::gate::respond::{self, timestamp};
use crate::policy::approval::Stage;
use crate::policy::decision::Reason;
use crate::policy::function::{self, Question};
use crate::policy::id::SessionId;
use crate::policy::time::Now;
use crate::store::live::approvals::LiveApproval;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Response, StatusCode};
use serde_json::{Value, json};

/// Scheme and authority by which the agent found the gate.
pub(in crate::gate) fn base(arrival: Arrival<'_>) -> String {
    let scheme = match arrival.peer.channel {
        Channel::Plain => "http",
        Channel::Tls { .. } => "https",
    };
    format!("{scheme}://{}", arrival.target.authority())
}

pub(super) fn yes(approval: Option<&LiveApproval>) -> Value {
    match approval {
        None => json!({"decision": true}),
        Some(approval) => json!({
            "decision": true,
            "context": {"approval": {
                "id": approval.facts.id.to_string(),
                "approved_until": timestamp(approval.facts.expires_at),
            }},
        }),
    }
}

/// `again`: it came back with an approval, and is told what to do next with that.
pub(super) fn pending(approval: &LiveApproval, entry: &Entry, base: &str, again: bool) -> Value {
    let facts = &approval.facts;
    let mut context = respond::pending_document(approval, Some(entry));
    context["detail"] = match approval.stage() {
        Stage::Executing => ANOTHER,
        _ => ASKED,
    }
    .into();
    context["approval"] = json!({"id": facts.id.to_string()});
    // Who asks the same again joins what was asked first, and is told its name.
    context["evaluation_id"] = facts.request.to_string().into();
    context["evaluated_at"] = timestamp(facts.created_at).into();
    context["access_request"] = json!({
        "endpoint": format!("{base}{REQUESTS}"),
        "expires_at": timestamp(facts.expires_at),
    });
    if again {
        context["next_action"] = "retry".into();
        context["retry_after"] = PENDING_RETRY.as_secs().into();
    }
    json!({"decision": false, "context": context})
}

pub(super) fn no(refusal: Refusal, entry: &Entry, again: bool) -> Value {
    let reason = refusal.reason();
    let mut context = respond::told(refusal, entry);
    if again {
        let soon = matches!(
            reason,
            Reason::LimitExceeded
                | Reason::LedgerUnavailable
                | Reason::StoreUnavailable
                | Reason::Overloaded
        );
        context["next_action"] = if soon { "retry" } else { "none" }.into();
        if soon && let Some(seconds) = context["next"]["seconds"].as_u64() {
            context["retry_after"] = seconds.into();
        }
    }
    json!({"decision": false, "context": context})
}

/// It was denied for want of a grant that a person may give: where that is asked for.
pub(super) fn requestable(
    said: &mut Value,
    asking: &Asking<'_>,
    question: &Question<'_>,
    now: Now,
) {
    let session = &asking.caller.session.facts;
    let context = &mut said["context"];
    context["evaluation_id"] = evaluation_id(session.id, question).into();
    context["evaluated_at"] = timestamp(now.wall).into();
    context["access_request"] = json!({
        "endpoint": format!("{}{REQUESTS}", asking.base),
        "expires_at": timestamp(session.expires_at),
    });
}

/// What a denial is called that nothing is kept of: by whose it is, and all that was asked.
fn evaluation_id(session: SessionId, question: &Question<'_>) -> String {
    let path = function::path(question.name()).unwrap_or_default();
    let text = question.text();
    HeldQuestion::new(session, &path, &text).digest.to_string()
}

pub(super) fn is_yes(said: &Value) -> bool {
    said["decision"] == Value::Bool(true)
}

pub(super) fn answer(said: &Value) -> Response<Bytes> {
    respond::json(StatusCode::OK, "application/json", said)
}

pub(super) fn answers(said: Vec<Value>) -> Response<Bytes> {
    answer(&json!({"evaluations": said}))
}

/// A request of the API's that has a name for itself gets it back, whatever the answer is: also who has no token, and who
/// asks in vain.
pub(in crate::gate) fn identify(head: &Parts, answer: &mut HeaderMap) {
    if !head.uri.path().starts_with(API) {
        return;
    }
    let asked = &head.headers;
    let mut ids = asked.get_all(&X_REQUEST_ID).iter();
    if let (Some(id), None) = (ids.next(), ids.next())
        && id.len() <= REQUEST_ID_BYTES_MAX
    {
        answer.insert(X_REQUEST_ID, id.clone());
    }
}

const ASKED: &str = "a person has to agree to this call first and is being asked; do not make it yet; ask exactly the same again after `next.seconds` to hear what they said: a yes is given once, however often you ask";
const ANOTHER: &str = "a person agreed to this call, and another request of this session is being told so; do not make it on this answer";
/// Where what became of a question is asked.
const REQUESTS: &str = "/.toolgate/access/v1/requests";
/// Where evaluations, and requests for access, are served.
const API: &str = "/.toolgate/access/v1/";
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 256;
