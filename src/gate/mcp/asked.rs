//! What is remembered of a message for its record and for the answer to it.

use super::message::{self, Message};
use crate::gate::describe;
use crate::ledger::record::BodyDigest;
use crate::policy::json::Value;
use crate::policy::mcp::Said;

/// A message, as far as it is recorded and answered.
#[derive(Debug)]
pub(in crate::gate) struct Asked {
    /// As JSON; `None`: it wants no answer, or could not be read.
    pub(super) id: Option<Box<str>>,
    pub(super) kind: Kind,
    /// Whether it speaks a revision whose results say of which type they are.
    pub(super) typed: bool,
    /// Whether it is a call, and its client takes a task for its result.
    pub(in crate::gate) takes_task: bool,
    /// JSON-RPC's, of a message that is refused as such.
    pub(super) code: Option<i32>,
    call: Box<str>,
    /// How it is told from other attempts of the same.
    pub(super) attempt: Attempt,
    /// What it is but for that.
    pub(in crate::gate) identity: Option<[u8; 32]>,
}

/// How a message is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A tool's call: the model reads the result.
    Call,
    /// Any other request.
    Request,
    /// By the status alone.
    Notice,
    /// No message at all.
    Stream,
}

impl Asked {
    pub(super) fn of(message: &Message<'_>, body: &[u8]) -> Self {
        let kind = match message.said {
            Said::Request("tools/call") => Kind::Call,
            Said::Request(_) => Kind::Request,
            Said::Notification(_) | Said::Response => Kind::Notice,
            Said::Stream => Kind::Stream,
        };
        Self {
            id: match message.said {
                Said::Request(_) => message.id.map(written),
                Said::Notification(_) | Said::Response | Said::Stream => None,
            },
            kind,
            typed: matches!(message.version(), Ok(Some(_))),
            takes_task: kind == Kind::Call && message.declares_tasks(),
            code: None,
            call: recorded(&message.call()),
            attempt: Attempt::of(body),
            identity: message::identity(body).map(|text| BodyDigest::of(text.as_bytes()).sha256),
        }
    }

    /// No message that could be read.
    pub(super) fn faulty(code: i32, id: Option<&Value<'_>>) -> Self {
        Self {
            id: id.map(written),
            kind: Kind::Request,
            typed: false,
            takes_task: false,
            code: Some(code),
            call: Box::default(),
            attempt: Attempt::default(),
            identity: None,
        }
    }

    /// The stream of a session of the protocol, or its end.
    pub(super) fn stream(ends: bool) -> Self {
        Self {
            id: None,
            kind: Kind::Stream,
            typed: false,
            takes_task: false,
            code: None,
            call: if ends {
                "session end"
            } else {
                "session stream"
            }
            .into(),
            attempt: Attempt::default(),
            identity: None,
        }
    }

    /// It stands for a message that was kept: on record as that.
    pub(super) fn speak_for(&mut self, kept: &[u8]) {
        let value = Value::read(kept).ok();
        let message = value.as_ref().and_then(|value| Message::read(value).ok());
        if let Some(message) = message {
            self.call = recorded(&message.call());
        }
    }

    /// What is called, as records show it; `None`: that could not be read.
    pub(in crate::gate) fn call(&self) -> Option<&str> {
        (!self.call.is_empty()).then_some(&*self.call)
    }
}

pub(super) fn written(value: &Value<'_>) -> Box<str> {
    let mut text = String::new();
    value.write(&mut text);
    text.into()
}

/// What an agent calls by name can be anything: bounded, without control characters, and never with a token in it.
fn recorded(call: &str) -> Box<str> {
    if describe::holds_token(call) {
        return "(withheld: it holds a token)".into();
    }
    let plain = |char: char| if char.is_control() { '\u{fffd}' } else { char };
    let mut text: String = call.chars().take(CALL_CHARS_MAX).map(plain).collect();
    if text.len() < call.len() && call.chars().nth(CALL_CHARS_MAX).is_some() {
        text.push('…');
    }
    text.into()
}

/// What clients number anew with every attempt: its id, and the token by which it is told of progress; as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempt {
    pub id: Option<Box<str>>,
    pub token: Option<Box<str>>,
}

impl Attempt {
    /// Of a body that was let pass.
    pub fn of(body: &[u8]) -> Self {
        let Ok(value) = Value::read(body) else {
            return Self::default();
        };
        let token = value.at(["params", "_meta", "progressToken"]);
        Self {
            id: value
                .at(["id"])
                .ok()
                .flatten()
                .filter(|id| message::is_id(id))
                .map(written),
            token: token
                .ok()
                .flatten()
                .filter(|id| message::is_id(id))
                .map(written),
        }
    }
}

const CALL_CHARS_MAX: usize = 512;
