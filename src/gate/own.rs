//! The gate's own paths: who am I, what may I hold, give me a grant, this is what I am doing, what does this problem
//! mean. Everything under `/.toolgate/`, on every host; no tool can be mounted there.
//!
//! A call here is authenticated and counted like any other. What it changes is durable and recorded by
//! `store::live::Sessions` before it is answered. It refuses to show anything of another session.

mod approvals;
mod grants;
pub(super) mod input;
mod pages;
mod requests;
mod session;

pub(super) use approvals::{is_taken_back, take_back};

use crate::gate::Gate;
use crate::gate::body::RequestBody;
use crate::gate::hold::Arrival;
use crate::gate::record::Entry;
use crate::gate::refusal::Refusal;
use crate::policy::target::Target;
use bytes::Bytes;
use http::{Method, Response};

/// A problem's page: the same for everybody, so no token is asked for.
pub(super) fn public(
    method: &Method,
    target: &Result<Target, Refusal>,
) -> Option<Result<Response<Bytes>, Refusal>> {
    let rest = target.as_ref().ok()?.path().strip_prefix(PROBLEMS)?;
    let name = match rest.strip_prefix('/') {
        Some(name) => name,
        None if rest.is_empty() => "",
        None => return None,
    };
    Some(match *method {
        Method::GET | Method::HEAD => pages::page(name).ok_or_else(|| {
            Refusal::not_found(
                "there is no problem of this name; /.toolgate/problems/ lists all of them",
            )
        }),
        _ => Err(Refusal::method_not_served("GET, HEAD")),
    })
}

/// Whether a path is the gate's own.
pub(super) fn is_own(path: &str) -> bool {
    path == requests::CONFIGURATION
        || path
            .strip_prefix(ROOT)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Serves one of the caller's own calls.
pub(super) async fn serve(
    gate: &Gate,
    arrival: Arrival<'_>,
    entry: &Entry,
    body: &mut Option<RequestBody>,
) -> Result<Response<Bytes>, Refusal> {
    let (caller, head, target) = (arrival.caller, arrival.head, arrival.target);
    input::one_credential(&head.headers)?;
    let path = target.path().strip_prefix(ROOT).unwrap_or_default();
    let get = matches!(head.method, Method::GET | Method::HEAD);
    match path.strip_prefix("/grants/") {
        Some(id) if head.method == Method::DELETE => {
            return grants::give_up(&gate.0, caller, id).await;
        }
        Some(_) => return Err(Refusal::method_not_served("DELETE")),
        None => {}
    }
    match path.strip_prefix("/approvals/") {
        Some(id) if get => return approvals::show(gate, caller, &head.headers, id).await,
        Some(id) if head.method == Method::DELETE => {
            return approvals::withdraw(&gate.0, caller, id).await;
        }
        Some(_) => return Err(Refusal::method_not_served("GET, HEAD, DELETE")),
        None => {}
    }
    if let Some(rest) = target.path().strip_prefix(requests::ROOT)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        return requests::serve(gate, arrival, entry, (rest, body)).await;
    }
    if target.path() == requests::CONFIGURATION {
        return match get {
            true => Ok(requests::configuration(arrival)),
            false => Err(Refusal::method_not_served("GET, HEAD")),
        };
    }
    match path {
        "/access/v1/evaluation" | "/access/v1/evaluations" => {
            Err(Refusal::method_not_served("POST"))
        }
        "/session" if get => Ok(session::show(&gate.0, caller)),
        "/session" => Err(Refusal::method_not_served("GET, HEAD")),
        "/intent" if head.method == Method::PUT => {
            session::state_intent(&gate.0, caller, &head.headers, body).await
        }
        "/intent" => Err(Refusal::method_not_served("PUT")),
        "/grants" if head.method == Method::POST => {
            grants::ask(gate, caller, entry, &head.headers, body).await
        }
        "/grants" => Err(Refusal::method_not_served("POST")),
        _ => Err(Refusal::not_found(
            "the gate serves /.toolgate/session, /.toolgate/intent, /.toolgate/grants, /.toolgate/approvals/ID, /.toolgate/access/v1/ and /.toolgate/problems/ here",
        )),
    }
}

const ROOT: &str = "/.toolgate";
const PROBLEMS: &str = "/.toolgate/problems";
