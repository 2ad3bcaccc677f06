//! Calls that wait for people, as tasks of the protocol: the extension `io.modelcontextprotocol/tasks` of the revision of
//! 2026-07-28, for clients that declare it with the very request.
//!
//! A task is an approval under another name: its id is the approval's, and what there is to know of it is known there. Who
//! asks for it is who comes back for the call, without saying it again: what people saw is judged anew, recorded, and runs,
//! once, and what came of it is kept until the agent has it ([`crate::gate::hold`]). A task whose result was handed over is
//! gone. What would have been a refusal is the result of a task that is completed: the model has to read it.
//!
//! It refuses to answer for ids that are not the session's own, which go where routes say, and keeps nothing itself.

use super::answer;
use super::asked::{Asked, Attempt};
use super::events::Events;
use super::message::{INVALID_PARAMS, Message, TASKS};
use super::rewrite::Form;
use crate::gate::describe::Described;
use crate::gate::hold::{self, Arrival, Stood};
use crate::gate::own;
use crate::gate::record::{Caller, Content, Entry};
use crate::gate::refusal::{PENDING_RETRY, Refusal};
use crate::gate::respond::{self, timestamp};
use crate::gate::{Gate, Inner, Sequel, judge};
use crate::io::sweep::{self, Lapse};
use crate::ledger::record::BodyDigest;
use crate::policy::approval::{self, HeldCall, KEPT_BYTES_MAX, Stage};
use crate::policy::decision::Reason;
use crate::policy::id::ApprovalId;
use crate::policy::json::Value;
use crate::policy::model::ToolIndex;
use crate::policy::route::called;
use crate::store::live::approvals::LiveApproval;
use bytes::Bytes;
use http::response::Parts;
use http::{Response, StatusCode};
use serde_json::json;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// What is asked of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Update,
    Cancel,
}

impl Verb {
    fn of(method: &str) -> Option<Self> {
        match method {
            "tasks/get" => Some(Verb::Get),
            "tasks/update" => Some(Verb::Update),
            "tasks/cancel" => Some(Verb::Cancel),
            _ => None,
        }
    }
}

/// A message about a task that is the gate's to answer.
pub(super) enum Task {
    /// The client does not say that it knows what tasks are.
    Undeclared,
    /// It could be one of the gate's, and this session has none such.
    Unknown,
    Known(Verb, Arc<LiveApproval>),
}

impl Task {
    /// `None`: it is about none, or about one that a server keeps.
    pub(super) fn of(
        gate: &Inner,
        caller: &Caller,
        tool: ToolIndex,
        message: &Message<'_>,
    ) -> Option<Self> {
        let verb = Verb::of(message.method()?)?;
        let id: ApprovalId = message.parameter("taskId")?.parse().ok()?;
        if !message.has_tasks() {
            return None;
        }
        let policy = &caller.ruleset.policy;
        let own = gate.sessions.approval(id).filter(|approval| {
            approval.facts.session == caller.session.facts.id
                && !approval.is_delivered()
                && call_of(approval).is_some_and(|call| call.tool == policy.tool(tool).name)
        });
        match own {
            Some(_) if !message.declares_tasks() => Some(Task::Undeclared),
            Some(approval) => Some(Task::Known(verb, approval)),
            None => {
                let path = called(message.method()?, None)?;
                let goes_on = policy.table.find_call(tool, &path).is_some();
                (!goes_on).then_some(Task::Unknown)
            }
        }
    }
}

impl Gate {
    /// Answers a message about a task.
    pub(super) async fn answer_for(
        &self,
        task: Task,
        arrival: Arrival<'_>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let id = entry.asked.as_ref().and_then(|asked| asked.id.clone());
        let id = id.as_deref().unwrap_or("null");
        let (verb, approval) = match task {
            Task::Known(verb, approval) => (verb, approval),
            Task::Undeclared => {
                let needs = json!({"requiredCapabilities": {"extensions": {TASKS: {}}}});
                let why = "declare the extension io.modelcontextprotocol/tasks with each request";
                let answer = error(id, MISSING_CAPABILITY, why, Some(needs));
                return entry.own(Ok(told(StatusCode::BAD_REQUEST, answer)));
            }
            Task::Unknown => {
                let why = "this session has no task of this id; a task is gone once its result was handed over";
                let answer = error(id, INVALID_PARAMS, why, None);
                return entry.own(Ok(told(StatusCode::OK, answer)));
            }
        };
        match verb {
            Verb::Get => self.task(&approval, id, arrival, entry).await,
            // Nothing is ever asked of the client for one of these.
            Verb::Update => entry.own(Ok(told(StatusCode::OK, done(id)))),
            Verb::Cancel => match own::take_back(&self.0, &approval).await {
                // It is meant to be tried, and may come too late.
                Err(refusal) if refusal.reason() != Reason::Conflict => Err(refusal),
                Ok(()) | Err(_) => entry.own(Ok(told(StatusCode::OK, done(id)))),
            },
        }
    }

    /// What has come of a call, which is made now if people have agreed to it meanwhile.
    async fn task(
        &self,
        approval: &Arc<LiveApproval>,
        id: &str,
        arrival: Arrival<'_>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        if approval.stage() == Stage::Pending
            && let Err(refusal) = self.0.still_asked(arrival.caller, approval).await
            && approval.stage() == Stage::Pending
        {
            return Err(refusal);
        }
        let refusal = match approval.stage() {
            Stage::Approved | Stage::Executed => {
                return self.fetch(approval, id, arrival, entry).await;
            }
            Stage::Pending => return entry.own(Ok(working(approval, id, ASKED))),
            Stage::Executing => return entry.own(Ok(working(approval, id, MADE))),
            Stage::Withdrawn if own::is_taken_back(approval) => {
                let text = task_of(
                    approval,
                    "cancelled",
                    "the agent took it back; the call was not made",
                );
                return entry.own(Ok(told(StatusCode::OK, result(id, &text))));
            }
            Stage::Withdrawn => Refusal::approval_void(approval),
            Stage::Denied => Refusal::approval_denied(approval),
            Stage::Expired => Refusal::approval_expired(approval),
            Stage::Unknown => Refusal::outcome_unknown(approval),
        };
        let answer = refused(approval, id, refusal, entry);
        entry.own(Ok(answer))
    }

    /// Comes for a call as the same call would that is repeated: it runs, or what was kept of its run is told.
    async fn fetch(
        &self,
        approval: &Arc<LiveApproval>,
        id: &str,
        arrival: Arrival<'_>,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let (gate, caller) = (&self.0, arrival.caller);
        let call = call_of(approval).ok_or_else(Refusal::internal)?;
        self.0.speak_for(call, approval, arrival, entry).await?;
        // Who polls comes again anyway: a slow tool is waited for by the run alone.
        let guard = sweep::here(&gate.clock).guard(Some(caller.session.clone()), PENDING_RETRY);
        guard.arm();
        let coming = async {
            let came = self.come_to(approval, arrival, Duration::ZERO, entry);
            match came.await? {
                Stood::Answer(answer) => Ok(collected(*answer).await),
                Stood::Waits(_) => Ok(None),
            }
        };
        let came = guard.watch(pin!(coming)).await;
        match came {
            Ok(Ok(Some((head, body)))) => {
                let text = outcome(approval, call, (&head, &body), entry);
                let body = result(id, &text);
                // What was kept goes when the agent has this.
                let body = hold::last_word(gate, approval, arrival.peer, body);
                let answer = told(StatusCode::OK, Bytes::new());
                Ok(answer.map(|_| Sequel::Body(Content::Held(Box::new(body)))))
            }
            Ok(Ok(None)) | Err(Lapse::Deadline) => {
                entry.pending();
                Ok(working(approval, id, MADE).map(own_bytes))
            }
            Ok(Err(refusal)) => self.failed(approval, id, refusal, entry).await,
            Err(Lapse::Ended) => {
                let state = caller.session.state(gate.clock.tick());
                Err(Refusal::of_state(state))
            }
        }
    }

    /// A call that was come for and was not made, or not by this.
    async fn failed(
        &self,
        approval: &Arc<LiveApproval>,
        id: &str,
        refusal: Refusal,
        entry: &mut Entry,
    ) -> Result<Response<Sequel>, Refusal> {
        let refusal = entry.deny(refusal).await;
        if answer::keeps_status(refusal.reason()) {
            return Err(refusal);
        }
        let unreached = matches!(
            refusal.reason(),
            Reason::UpstreamFailed | Reason::UpstreamTimeout
        );
        match approval.stage() {
            // Nothing was sent: the next one who comes tries again.
            Stage::Approved if unreached => Ok(working(approval, id, UNREACHED).map(own_bytes)),
            Stage::Pending | Stage::Approved | Stage::Executing => Err(refusal),
            Stage::Denied
            | Stage::Expired
            | Stage::Withdrawn
            | Stage::Executed
            | Stage::Unknown => Ok(refused(approval, id, refusal, entry).map(own_bytes)),
        }
    }
}

impl Inner {
    /// The message stands for the call that was kept: on record as that, and counted by the rates of its route.
    async fn speak_for(
        &self,
        call: &HeldCall,
        approval: &Arc<LiveApproval>,
        arrival: Arrival<'_>,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        entry.body = Some(BodyDigest::of(&call.body));
        entry.resource.clone_from(&approval.facts.resource);
        if let Some(asked) = &mut entry.asked {
            asked.speak_for(&call.body);
        }
        let (caller, path) = (arrival.caller, super::path_of(&call.body));
        let table = &caller.ruleset.policy.table;
        let matched = entry
            .tool
            .zip(path.as_deref())
            .and_then(|(tool, path)| table.find_call(tool, path));
        // Where there is none any more, that is found out when it is judged.
        if let Some(matched) = matched {
            entry.route = Some(matched.route);
            let first = Described::first(caller, matched, "");
            let described = judge::asked(caller, first, approval, entry);
            let asked = (arrival.head, arrival.target);
            self.take_of_route(caller, &described, asked, &mut None, Some(approval), entry)
                .await?;
        }
        Ok(())
    }
}

/// The kept call of a tool that an approval is of.
fn call_of(approval: &LiveApproval) -> Option<&HeldCall> {
    let approval::Asked::Call(call) = &approval.facts.asked else {
        return None;
    };
    let path = super::path_of(&call.body)?;
    let calls = called("tools/call", None)?;
    let calls = path.strip_prefix(&*calls)?.starts_with('/');
    (calls && !call.authority.is_empty()).then_some(call)
}

/// What the gate says to a call that waits, in the place of its result.
pub(in crate::gate) fn begun(asked: &Asked, approval: &LiveApproval) -> Response<Bytes> {
    let said = match approval.stage() {
        Stage::Pending => ASKED,
        _ => MADE,
    };
    let text = format!(
        r#"{{"resultType":"task",{}}}"#,
        members(approval, "working", said)
    );
    let id = asked.id.as_deref().unwrap_or("null");
    told(StatusCode::OK, result(id, &text))
}

/// All of an answer; `None`: it broke off, or is longer than is kept.
async fn collected(answer: Response<Sequel>) -> Option<(Parts, Vec<u8>)> {
    let (head, Sequel::Body(Content::Held(mut body))) = answer.into_parts() else {
        return None;
    };
    let mut whole = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.poll_frame(cx)).await {
        whole.extend_from_slice(frame.ok()?.data_ref().map_or(&[][..], |chunk| chunk));
        if whole.len() > KEPT_BYTES_MAX {
            return None;
        }
    }
    body.is_over().then_some((head, whole))
}

/// The task that is over, with what the tool said.
fn outcome(
    approval: &LiveApproval,
    call: &HeldCall,
    (head, body): (&Parts, &[u8]),
    entry: &Entry,
) -> String {
    let status = head.status.as_u16();
    match said(head, body, &Attempt::of(&call.body)) {
        Some(Said::Result(result)) => over(
            approval,
            "completed",
            "the call was made",
            ("result", &result),
        ),
        Some(Said::Error(error)) => over(
            approval,
            "failed",
            "the tool refused the call",
            ("error", &error),
        ),
        None => {
            let refusal = Refusal::new(
                Reason::OutcomeNotKept,
                format!(
                    "this call was approved and made, once, and the tool answered with status {status} and with no result that a task can carry; it is not made again, read with another call what you need to know"
                ),
            );
            refused_task(approval, refusal, entry)
        }
    }
}

/// What a tool said in the end.
enum Said {
    Result(String),
    Error(String),
}

/// The answer to the attempt that people saw. `None`: there is none that can be read, or it is not the call's last word.
fn said(head: &Parts, body: &[u8], attempt: &Attempt) -> Option<Said> {
    let last_word = |message: &[u8]| {
        let value = Value::read(message).ok()?;
        let id = value.at(["id"]).ok().flatten().map(super::asked::written);
        if id.is_none() || id != attempt.id {
            return None;
        }
        if let Ok(Some(result @ Value::Object(_))) = value.at(["result"]) {
            let complete = match result.at(["resultType"]) {
                Ok(None) => true,
                Ok(Some(Value::Text(kind))) => kind == "complete",
                Ok(Some(_)) | Err(_) => false,
            };
            return complete.then(|| Said::Result(super::asked::written(result).into()));
        }
        match value.at(["error"]) {
            Ok(Some(error @ Value::Object(_))) => {
                Some(Said::Error(super::asked::written(error).into()))
            }
            _ => None,
        }
    };
    match Form::of(&head.headers)? {
        Form::Json => last_word(body),
        Form::Events => {
            let mut found = None;
            let mut events = Events::default();
            let read = events.push(body, |event| {
                if let Some(word) = event.data().and_then(last_word) {
                    found = Some(word);
                }
            });
            read.ok().and(found)
        }
    }
}

fn refused(approval: &LiveApproval, id: &str, refusal: Refusal, entry: &Entry) -> Response<Bytes> {
    let text = refused_task(approval, refusal, entry);
    told(StatusCode::OK, result(id, &text))
}

/// The model reads of it what it would have read without tasks.
fn refused_task(approval: &LiveApproval, refusal: Refusal, entry: &Entry) -> String {
    let document = respond::refused(refusal, entry).into_body();
    let result = answer::refused(&document, true);
    over(
        approval,
        "completed",
        "the call is over",
        ("result", &result),
    )
}

fn working(approval: &LiveApproval, id: &str, said: &str) -> Response<Bytes> {
    let text = task_of(approval, "working", said);
    told(StatusCode::OK, result(id, &text))
}

fn over(approval: &LiveApproval, status: &str, said: &str, (name, value): (&str, &str)) -> String {
    let members = members(approval, status, said);
    format!(r#"{{"resultType":"complete",{members},"{name}":{value}}}"#)
}

fn task_of(approval: &LiveApproval, status: &str, said: &str) -> String {
    let members = members(approval, status, said);
    format!(r#"{{"resultType":"complete",{members}}}"#)
}

/// What every task says of itself.
fn members(approval: &LiveApproval, status: &str, said: &str) -> String {
    let facts = &approval.facts;
    let (made, changed) = (timestamp(facts.created_at), timestamp(approval.since()));
    let (lasts, poll) = (
        facts.expires_at.since(facts.created_at).as_millis(),
        PENDING_RETRY.as_millis(),
    );
    format!(
        r#""taskId":"{}","status":"{status}","statusMessage":"{said}","createdAt":"{made}","lastUpdatedAt":"{changed}","ttlMs":{lasts},"pollIntervalMs":{poll}"#,
        facts.id
    )
}

/// `id` and `text` are JSON.
fn result(id: &str, text: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{text}}}"#).into()
}

fn done(id: &str) -> Bytes {
    result(id, r#"{"resultType":"complete"}"#)
}

fn error(id: &str, code: i32, why: &str, data: Option<serde_json::Value>) -> Bytes {
    let mut error = json!({"code": code, "message": why});
    if let Some(data) = data {
        error["data"] = data;
    }
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into()
}

fn told(status: StatusCode, body: Bytes) -> Response<Bytes> {
    respond::own(status, "application/json", body)
}

fn own_bytes(bytes: Bytes) -> Sequel {
    Sequel::Body(Content::Own(bytes))
}

/// What a request needs that its client did not declare (the specification's own code).
const MISSING_CAPABILITY: i32 = -32021;
const ASKED: &str = "a person has to agree to this call first and is being asked";
const MADE: &str = "a person agreed, and the call is being made";
const UNREACHED: &str = "a person agreed, and the tool could not be reached; it is tried again";
