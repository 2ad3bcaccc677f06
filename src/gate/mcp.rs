//! Tools that speak the Model Context Protocol over Streamable HTTP, in its revisions of 2025-11-25 and 2026-07-28: one
//! endpoint for all calls, so that what is authorised is what the body says.
//!
//! One message is one call, and its journey is that of any other: from the look-up of what it calls on ([`Gate::call`]) the
//! steps are the same. What differs stands here: a message is read whole and strictly ([`message`]), fields that say what it
//! says must agree with it ([`headers`]), messages of the protocol itself pass without a route (`policy::mcp`), what a
//! server lists is narrowed to what the session could be granted, an answer reaches the attempt that waits for it
//! ([`rewrite`]), and refusals are told in the protocol's own form ([`answer`]).
//!
//! A call that waits for people is a task where its client takes one ([`tasks`]).
//!
//! It refuses every method that neither is named by a route nor belongs to the protocol itself, and a session of the
//! protocol that another session of the gate began. In a server's stead it declares nothing but those tasks.

mod answer;
mod asked;
mod change;
mod events;
mod headers;
mod message;
mod piece;
mod pins;
mod rewrite;
mod tasks;

pub(super) use answer::told;
pub(super) use asked::Asked;
pub use message::path_of;
pub(super) use message::{arguments, identity};
pub(super) use pins::as_accepted;
pub(super) use rewrite::{Rewritten, for_attempt};
pub(super) use tasks::begun;

use super::body::{Prefix, RequestBody};
use super::describe::{self, Described};
use super::fields;
use super::forward::upgrade::{HandshakeFault, is_extended};
use super::hold::Arrival;
use super::record::{Caller, Content, Entry};
use super::refusal::Refusal;
use super::{Asking, Gate, Inner, Sequel, shadow};
use crate::ledger::Level;
use crate::ledger::record::BodyDigest;
use crate::policy::content::Unreadable;
use crate::policy::decision::{Evidence, Reason};
use crate::policy::json::{JsonError, Value};
use crate::policy::mcp::{DISCOVER, INITIALIZE, List, PING, Said, exempt};
use crate::policy::model::{Mount, Policy, Protocol, Tool, ToolIndex};
use crate::policy::route::{NoRoute, called};
use crate::policy::target::Target;
use crate::store::live::endpoints::EndpointKey;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use http_body::Body as _;
use message::Message;
use tasks::Task;

impl Gate {
    /// What is sent to the endpoint of a tool.
    pub(super) async fn converse(
        &self,
        tool: ToolIndex,
        mut asking: Asking<'_>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let (gate, arrival) = (&*self.0, asking.arrival);
        let Arrival {
            caller,
            head,
            target,
            ..
        } = arrival;
        // One address and nothing below it: no backend is asked by path or query for something else.
        if !is_endpoint(caller.ruleset.policy.tool(tool), target) {
            gate.take_unrouted(caller, head, target, body, entry)
                .await?;
            return Err(Refusal::no_route());
        }
        fields::check_request(
            &head.headers,
            target.as_str(),
            caller.ruleset.outfit(tool).rules(),
        )
        .map_err(Refusal::field)?;
        headers::plain(&head.headers)?;
        if is_extended(head) {
            return Err(Refusal::handshake(HandshakeFault::Unserved));
        }
        // What is resumed is resumed within a session that is the caller's own, and that is for GET.
        if head.method != Method::GET && head.headers.contains_key(headers::LAST_EVENT) {
            return Err(Refusal::field_forbidden(
                "Last-Event-ID resumes the stream of a session, with GET; leave it out",
            ));
        }
        // A session of the protocol belongs to who began it: to all others it does not exist.
        let session = own_session(caller, tool, head)?;
        match head.method {
            Method::POST => self.hear(tool, asking, session, body, entry).await,
            Method::GET | Method::DELETE if session.is_some() => {
                asking.refused()?;
                self.attend(tool, arrival, session, body, entry).await
            }
            _ => {
                gate.take_unrouted(caller, head, target, body, entry)
                    .await?;
                Err(Refusal::method_of_endpoint())
            }
        }
    }

    /// One message.
    async fn hear(
        &self,
        tool: ToolIndex,
        mut asking: Asking<'_>,
        session: Option<EndpointKey>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let (gate, arrival) = (&*self.0, asking.arrival);
        let Arrival {
            caller,
            head,
            target,
            ..
        } = arrival;
        let policy = &caller.ruleset.policy;
        // Whole, and before anything is decided: the body is what is decided.
        let bytes = read(caller, tool, head, body, entry).await?;
        let value = Value::read(&bytes);
        let message = match understand(&value, &bytes, head, entry) {
            Ok(message) => message,
            Err(refusal) => {
                gate.take_unrouted(caller, head, target, body, entry)
                    .await?;
                return Err(refusal);
            }
        };
        if let Some(task) = Task::of(gate, caller, tool, &message) {
            asking.refused()?;
            return self.answer_for(task, arrival, entry).await;
        }
        let path = message
            .method()
            .and_then(|method| called(method, message.name));
        let first = path
            .as_deref()
            .and_then(|path| policy.table.find_call(tool, path));
        let answer = match first {
            Some(matched) => {
                entry.route = Some(matched.route);
                let first = Described::first(caller, matched, "");
                if bytes.len() as u64 > first.route.body_limit && asking.noted.is_none() {
                    let refusal = Refusal::too_large_to_judge(first.route);
                    asking.noted = Some(shadow::unjudged(refusal, caller, &first.matched)?);
                }
                self.call(first, asking, body, entry).await?
            }
            None => {
                asking.refused()?;
                let passes = match message.said {
                    // Only who has a session there can have been asked anything.
                    Said::Response if session.is_none() => None,
                    said => exempt(said),
                };
                // A loop is a loop. Whoever asks again and again whether somebody is there is in none.
                let counts = !matches!(message.said, Said::Response | Said::Request(PING));
                if counts || passes.is_none() {
                    gate.take_unrouted(caller, head, target, body, entry)
                        .await?;
                }
                let passes = passes.ok_or_else(Refusal::no_route)?;
                self.pass(Evidence::Protocol(passes), tool, arrival, body, entry)
                    .await?
            }
        };
        if message.method() == Some(INITIALIZE) {
            receive_session(caller, tool, &answer);
        }
        // Whatever it answers, a server that is pinned defines no tool there unseen.
        let answer = match message.method().and_then(List::of) {
            Some(_) => rewrite::narrowed(&self.0, caller, tool, rewrite::Asked::List, answer).await,
            None if caller.ruleset.pins(tool).is_some() => {
                rewrite::narrowed(&self.0, caller, tool, rewrite::Asked::Other, answer).await
            }
            None => Ok(answer),
        }?;
        match message.method() {
            Some(DISCOVER) if message.declares_tasks() && may_wait(policy, tool) => {
                rewrite::declaring(&self.0, caller, tool, answer).await
            }
            _ => Ok(answer),
        }
    }

    /// The stream of a session of the protocol, or its end.
    async fn attend(
        &self,
        tool: ToolIndex,
        arrival: Arrival<'_>,
        session: Option<EndpointKey>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let caller = arrival.caller;
        let ends = arrival.head.method == Method::DELETE;
        entry.asked = Some(Box::new(Asked::stream(ends)));
        // It would be forwarded, and nobody judges it.
        if body.as_ref().is_some_and(|body| !body.is_end_stream()) {
            return Err(Refusal::field_forbidden(
                "a session's stream and its end have no body; leave it out",
            ));
        }
        let passes = exempt(Said::Stream).ok_or_else(Refusal::no_route)?;
        let evidence = Evidence::Protocol(passes);
        let answer = self.pass(evidence, tool, arrival, body, entry).await?;
        if ends {
            if let Some(key) = session.filter(|_| answer.status().is_success()) {
                caller.session.unbind_endpoint(&key);
            }
            return Ok(answer);
        }
        // A list that was asked for elsewhere can be told again here.
        rewrite::narrowed(&self.0, caller, tool, rewrite::Asked::Stream, answer).await
    }

    /// Forwards what needs no route.
    async fn pass(
        &self,
        evidence: Evidence<'_>,
        tool: ToolIndex,
        arrival: Arrival<'_>,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let outfit = arrival.caller.ruleset.outfit(tool);
        let sent = self.send(
            (evidence, Level::Written),
            (outfit, ""),
            arrival,
            None,
            body,
            entry,
        );
        Ok(sent.await?.map(Sequel::from))
    }
}

impl Inner {
    /// What a refused request was about, where that was not known yet: it is answered as what it is. Nothing else comes of it.
    pub(super) async fn overhear(
        &self,
        head: &Parts,
        body: &mut Option<RequestBody>,
        entry: &mut Entry,
        reason: Reason,
    ) {
        let Some(caller) = entry.caller.clone() else {
            return;
        };
        let (Ok(target), true) = (describe::target(head), head.method == Method::POST) else {
            return;
        };
        let policy = &caller.ruleset.policy;
        let Err(NoRoute::Called(tool)) = policy.table.find(head.method.as_str(), &target) else {
            return;
        };
        if entry.asked.is_some()
            || answer::keeps_status(reason)
            || !is_endpoint(policy.tool(tool), &target)
        {
            return;
        }
        entry.tool = Some(tool);
        if let Ok(bytes) = read(&caller, tool, head, body, entry).await {
            let value = Value::read(&bytes);
            if let Some(message) = value.as_ref().ok().and_then(|it| Message::read(it).ok()) {
                entry.asked = Some(Box::new(Asked::of(&message, &bytes)));
            }
        }
    }
}

/// The message, if it is one and the fields of its request agree with it; on record from here on.
fn understand<'v>(
    value: &'v Result<Value<'v>, JsonError>,
    bytes: &[u8],
    head: &Parts,
    entry: &mut Entry,
) -> Result<Message<'v>, Refusal> {
    let value = match value {
        Ok(value) => value,
        Err(why) => {
            entry.asked = Some(Box::new(Asked::faulty(message::PARSE_ERROR, None)));
            return Err(Refusal::unreadable(Unreadable::Json(*why)));
        }
    };
    let message = Message::read(value).map_err(|fault| {
        entry.asked = Some(Box::new(Asked::faulty(fault.code, fault.id)));
        Refusal::new(Reason::BodyUnreadable, fault.detail)
    })?;
    let mut asked = Asked::of(&message, bytes);
    let mismatch = headers::mismatch(&head.headers, &message);
    if mismatch.is_some() {
        asked.code = Some(HEADER_MISMATCH);
    }
    entry.asked = Some(Box::new(asked));
    match mismatch {
        None => Ok(message),
        Some(name) => Err(Refusal::field_forbidden(format!(
            "the field {name} does not say what the body says; send in it exactly what stands in the body"
        ))),
    }
}

/// The whole body; on record from here on.
async fn read(
    caller: &Caller,
    tool: ToolIndex,
    head: &Parts,
    body: &mut Option<RequestBody>,
    entry: &mut Entry,
) -> Result<Bytes, Refusal> {
    if !headers::is_json(&head.headers) {
        return Err(Refusal::unreadable(Unreadable::Media));
    }
    let most = caller.ruleset.body_limit(tool);
    let Some(body) = body else {
        return Ok(Bytes::new());
    };
    match body.read_prefix(most).await {
        Err(fault) => Err(Refusal::body(fault)),
        Ok(Prefix::Longer(_)) => Err(Refusal::too_large_to_read(most)),
        // They would be forwarded, and say nothing that is judged.
        Ok(Prefix::Whole(_)) if body.has_trailers() => Err(Refusal::field_forbidden(
            "a message has no trailers; send them as header fields",
        )),
        Ok(Prefix::Whole(bytes)) => {
            entry.body = Some(BodyDigest::of(&bytes));
            Ok(bytes)
        }
    }
}

/// Whether a call of the tool may have to wait for people.
fn may_wait(policy: &Policy, tool: ToolIndex) -> bool {
    let mut routes = policy.routes.iter();
    routes.any(|route| route.tool == tool && route.approval.is_some())
}

/// Whether a target is a tool's one address.
fn is_endpoint(tool: &Tool, target: &Target) -> bool {
    let place = match &tool.mount {
        Mount::Path(path) => path,
        Mount::Host(_) => "/",
        Mount::None => return false,
    };
    tool.protocol == Protocol::Mcp && target.path() == place && target.query().is_none()
}

/// The session of the protocol that a request names, which must be the caller's own.
fn own_session(
    caller: &Caller,
    tool: ToolIndex,
    head: &Parts,
) -> Result<Option<EndpointKey>, Refusal> {
    let Some(id) = headers::session_id(&head.headers)? else {
        return Ok(None);
    };
    let key = key(caller, tool, id);
    match caller.session.has_endpoint(&key) {
        true => Ok(Some(key)),
        false => Err(Refusal::not_found(
            "there is no such session of the tool's protocol for this token; begin a new one with `initialize`",
        )),
    }
}

/// Binds the session of the protocol that an answer begins.
fn receive_session(caller: &Caller, tool: ToolIndex, answer: &Response<Sequel>) {
    let id = answer.headers().get(headers::SESSION_ID);
    if answer.status().is_success()
        && !matches!(answer.body(), Sequel::Body(Content::Own(_)))
        && let Some(Ok(id)) = id.map(HeaderValue::to_str)
    {
        caller.session.bind_endpoint(key(caller, tool, id));
    }
}

fn key(caller: &Caller, tool: ToolIndex, id: &str) -> EndpointKey {
    let mut context = Context::new(&SHA256);
    // A tool's name has no NUL in it. Another backend under its name knows nothing of the id.
    let tool = caller.ruleset.policy.tool(tool);
    for part in [
        tool.name.as_str().as_bytes(),
        b"\0",
        &tool.backend(),
        id.as_bytes(),
    ] {
        context.update(part);
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

/// What fields say is not what the body says (the specification's own code).
const HEADER_MISMATCH: i32 = -32020;
