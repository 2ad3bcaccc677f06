//! `POST /.toolgate/access/v1/requests`: who asks people for what an evaluation denied? The AuthZEN Access Request and
//! Approval Profile, draft 1, over the approvals that there are: an evaluation that needs a person's word has asked for it
//! already, and this finds that approval again for exactly what was evaluated; one that lacks a grant which a person may
//! give is what this asks for. `GET .../ID`: what came of it?
//! `POST .../ID/cancel`: I take it back. Then the evaluation is repeated, and gets the word.
//!
//! It refuses to ask people for anything that is not denied for just that, several things at once, and to call back.

use super::{approvals, grants, input};
use crate::gate::body::RequestBody;
use crate::gate::function::{base, flawed, may_wish, own_subject};
use crate::gate::hold::{
    Arrival, Preferred, Question as HeldQuestion, Wish, WishError, Wisher, not_asked,
};
use crate::gate::record::{Caller, Entry};
use crate::gate::refusal::{PENDING_RETRY, Refusal};
use crate::gate::respond::{self, timestamp};
use crate::gate::{Gate, Inner};
use crate::ledger::record::Cause;
use crate::ledger::without_tokens;
use crate::policy::AccessRequest;
use crate::policy::approval::{Asked, Stage};
use crate::policy::decision::Reason;
use crate::policy::function::{self, METHOD, Question};
use crate::policy::json::Value;
use crate::store::live::approvals::LiveApproval;
use crate::store::live::{Ask, WHY_BYTES_MAX};
use bytes::Bytes;
use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// Where agents find evaluations and requests, as AuthZEN has it: for the decision point `/.toolgate` of this host.
pub(super) fn configuration(arrival: Arrival<'_>) -> Response<Bytes> {
    let base = base(arrival);
    let document = json!({
        "policy_decision_point": format!("{base}/.toolgate"),
        "access_evaluation_endpoint": format!("{base}/.toolgate/access/v1/evaluation"),
        "access_evaluations_endpoint": format!("{base}/.toolgate/access/v1/evaluations"),
        "access_request_endpoint": format!("{base}{ROOT}"),
        "capabilities": ["urn:openid:authzen:capability:access-request"],
    });
    respond::json(StatusCode::OK, "application/json", &document)
}

/// Serves what is asked of requests: `rest` is the path behind [`ROOT`].
pub(super) async fn serve(
    gate: &Gate,
    arrival: Arrival<'_>,
    entry: &Entry,
    (rest, body): (&str, &mut Option<RequestBody>),
) -> Result<Response<Bytes>, Refusal> {
    let (method, caller) = (&arrival.head.method, arrival.caller);
    let Some(id) = rest.strip_prefix('/') else {
        return match *method {
            Method::POST => submit(gate, arrival, entry, body).await,
            _ => Err(Refusal::method_not_served("POST")),
        };
    };
    match id.strip_suffix("/cancel") {
        Some(id) if matches!(*method, Method::POST | Method::DELETE) => {
            let approval = task(&gate.0, caller, id)?;
            approvals::take_back(&gate.0, &approval)
                .await
                .map_err(|refusal| match refusal.reason() {
                    Reason::Conflict => refusal.typed(INVALID_TASK_STATE),
                    _ => refusal,
                })?;
            Ok(shown(&approval, arrival, StatusCode::OK))
        }
        Some(_) => Err(Refusal::method_not_served("POST, DELETE")),
        None if matches!(*method, Method::GET | Method::HEAD) => {
            let approval = task(&gate.0, caller, id)?;
            let headers = &arrival.head.headers;
            let applied = approvals::settled(gate, caller, headers, &approval).await?;
            let mut response = shown(&approval, arrival, StatusCode::OK);
            Preferred::read(headers).applied(applied, response.headers_mut());
            Ok(response)
        }
        None => Err(Refusal::method_not_served("GET, HEAD")),
    }
}

/// Finds what was asked when this was evaluated.
async fn submit(
    gate: &Gate,
    arrival: Arrival<'_>,
    entry: &Entry,
    body: &mut Option<RequestBody>,
) -> Result<Response<Bytes>, Refusal> {
    let caller = arrival.caller;
    let text = input::bytes(&arrival.head.headers, body, SUBMISSION_BYTES_MAX).await?;
    let value = Value::read(&text).map_err(|why| {
        Refusal::invalid_input(format!("the body is not JSON that can be judged: {why}"))
    })?;
    for (name, why) in [
        ("items", "submit what each evaluation denied by itself"),
        (
            "callback",
            "nobody is called back: poll `task.status_endpoint`",
        ),
    ] {
        if !matches!(value.at([name]), Ok(None)) {
            let detail = format!("`{name}` is not served here: {why}");
            return Err(Refusal::invalid_input(detail).typed(NOT_REQUESTABLE));
        }
    }
    let evaluation = said(&value, "evaluation_id")?;
    // Their own word of it is not what counts; but it must be said.
    said(&value, "expires_at")?;
    own_subject(&value, None, caller)?;
    let question = Question::read(&value, None).map_err(flawed)?;
    let unbound = || {
        Refusal::invalid_input(
            "no person is asked, or was asked lately, about exactly what this says under `denial.evaluation_id`; send subject, action, resource and context as they were evaluated, or evaluate anew",
        )
        .typed(INVALID_DENIAL_BINDING)
    };
    let path = function::path(question.name()).ok_or_else(unbound)?;
    let text = question.text();
    let asked = HeldQuestion::new(caller.session.facts.id, &path, &text);
    let now = gate.0.clock.now();
    let standing = gate
        .0
        .sessions
        .standing(&caller.session, asked.digest, now)
        .filter(|approval| approval.facts.request.to_string() == evaluation);
    let approval = match standing {
        Some(approval) => approval,
        // By its name it is about exactly this, and of this session.
        None if evaluation == asked.digest.to_string() => {
            let wish = lacking(&gate.0, caller, (&question, &path), entry).ok_or_else(unbound)?;
            let wish = Ask {
                why: why(&value, &question, caller)?,
                ..wish
            };
            ask_for(gate, caller, wish, entry)
                .await?
                .ok_or_else(unbound)?
        }
        None => return Err(unbound()),
    };
    let status = match approval.stage() {
        Stage::Pending => StatusCode::ACCEPTED,
        _ => StatusCode::CREATED,
    };
    Ok(shown(&approval, arrival, status))
}

/// The grant that this is denied for want of, now as when it was evaluated, where a person may give it.
fn lacking(
    gate: &Inner,
    caller: &Caller,
    (question, path): (&Question<'_>, &str),
    entry: &Entry,
) -> Option<Ask> {
    let policy = &caller.ruleset.policy;
    let asked = function::Asked {
        question,
        session: &caller.session.facts,
        client: Some(entry.client),
        now: entry.opened.wall,
    };
    let first = policy.table.find_function(path)?;
    let matched = asked.chosen(policy, first).ok()?;
    let route = policy.route(matched.route);
    let resource = asked.resource(route, &matched.captures).ok()?;
    let access = AccessRequest {
        route,
        resource: resource.clone(),
    };
    let lacks = |refusal: Refusal| refusal.reason() == Reason::GrantMissing;
    let lacks = gate
        .decide(caller, access, entry.opened)
        .err()
        .is_some_and(lacks);
    lacks.then(|| may_wish(caller, route, resource))?
}

/// What is said of why: for whoever decides, and for the record.
fn why(value: &Value<'_>, question: &Question<'_>, caller: &Caller) -> Result<String, Refusal> {
    let said = match value.at(["context", "business_justification"]) {
        Ok(Some(Value::Text(text))) => Some(text.to_string()),
        _ => question.intent.map(str::to_owned),
    };
    let intent = || caller.session.intent().map(|intent| intent.to_string());
    let said = said.or_else(intent).filter(|said| !said.trim().is_empty());
    let why = said.unwrap_or_else(|| format!("`{}` was denied without it", question.name()));
    if why.len() > WHY_BYTES_MAX {
        return Err(Refusal::invalid_input(format!(
            "`context.business_justification`: say in 1 to {WHY_BYTES_MAX} bytes what it is for"
        )));
    }
    Ok(without_tokens(why.trim()).into_owned())
}

/// Asks people for a grant. `None`: they gave it already.
async fn ask_for(
    gate: &Gate,
    caller: &Caller,
    ask: Ask,
    entry: &Entry,
) -> Result<Option<Arc<LiveApproval>>, Refusal> {
    let wisher = Wisher {
        cause: Cause::Agent,
        client: entry.client,
        request: entry.id(),
    };
    let (scope, resource) = (ask.scope.clone(), ask.resource.clone());
    match gate.wish(&caller.session, ask, wisher).await {
        Ok(Wish::Asked(approval)) => Ok(Some(approval)),
        Ok(Wish::Given(_)) => Ok(None),
        Err(WishError::Give(why)) => Err(grants::not_given(why, scope, resource)),
        Err(WishError::Hold(why)) => Err(not_asked(why, (scope, resource))),
    }
}

/// A member of `denial`, which an evaluation said.
fn said<'v>(value: &'v Value<'v>, name: &'static str) -> Result<&'v str, Refusal> {
    match value.at(["denial", name]) {
        Ok(Some(Value::Text(text))) if !text.is_empty() => Ok(text),
        _ => Err(Refusal::invalid_input(format!(
            "`denial.{name}` is missing, or is not text; send it as the evaluation's `context` had it"
        ))
        .typed(INVALID_DENIAL_BINDING)),
    }
}

/// An approval of the caller's own, of a function or of a grant; all others do not exist.
fn task(gate: &Inner, caller: &Caller, id: &str) -> Result<Arc<LiveApproval>, Refusal> {
    let unknown = |refusal: Refusal| refusal.typed(UNKNOWN_TASK);
    let approval = approvals::own(gate, caller, id).map_err(unknown)?;
    match &approval.facts.asked {
        Asked::Call(call) if *call.method == *METHOD && call.authority.is_empty() => Ok(approval),
        Asked::Grant(_) => Ok(approval),
        Asked::Call(_) => Err(unknown(approvals::none())),
    }
}

/// The task, and what it came to.
fn shown(approval: &LiveApproval, arrival: Arrival<'_>, status: StatusCode) -> Response<Bytes> {
    let (facts, stage) = (&approval.facts, approval.stage());
    let until = timestamp(facts.expires_at);
    let href = format!("{}{ROOT}/{}", base(arrival), facts.id);
    let mut task = json!({
        "id": facts.id.to_string(),
        "status": status_of(stage),
        "status_endpoint": href,
        "expires_at": until,
    });
    if matches!(stage, Stage::Pending | Stage::Approved) {
        task["links"] = json!({"cancel": format!("{href}/cancel")});
    }
    let mut document = json!({"task": task});
    if status_of(stage) == APPROVED {
        let approval = json!({"id": facts.id.to_string(), "approved_until": until});
        document["result"] = json!({"mode": "reevaluate", "approval": approval});
    }
    let mut response = respond::json(status, "application/json", &document);
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&href) {
        headers.insert(LOCATION, location);
    }
    if stage == Stage::Pending {
        headers.insert(RETRY_AFTER, HeaderValue::from(PENDING_RETRY.as_secs()));
    }
    response
}

/// The profile's word for a stage. What people agreed to stays so, whether or not the word was given since.
const fn status_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Pending => "pending",
        Stage::Approved | Stage::Executing | Stage::Executed | Stage::Unknown => APPROVED,
        Stage::Denied => "denied",
        Stage::Expired => "expired",
        Stage::Withdrawn => "cancelled",
    }
}

/// RFC 8615: in front of the path of the decision point that it describes.
pub(super) const CONFIGURATION: &str = "/.well-known/authzen-configuration/.toolgate";
/// Where requests are served, on every host.
pub(super) const ROOT: &str = "/.toolgate/access/v1/requests";
const APPROVED: &str = "approved";
/// As long as a question may be.
const SUBMISSION_BYTES_MAX: u64 = 256 * 1024;
const NOT_REQUESTABLE: &str = "urn:openid:authzen:access-request:error:not_requestable";
const INVALID_DENIAL_BINDING: &str =
    "urn:openid:authzen:access-request:error:invalid_denial_binding";
const UNKNOWN_TASK: &str = "urn:openid:authzen:access-request:error:unknown_task";
const INVALID_TASK_STATE: &str = "urn:openid:authzen:access-request:error:invalid_task_state";
