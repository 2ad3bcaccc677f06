//! Answers that do not go on as they came: lists, of which a session is shown what it could be granted, and the answer to
//! an approved call, which reaches an attempt that has another number.
//!
//! An answer is read as what it says it is, JSON or events, within a bound, and only what is changed is written anew. What
//! can't be read is not passed on where it could be a list.

use super::asked::Attempt;
use super::events::Events;
use crate::gate::forward::{StreamFault, UpstreamBody};
use crate::gate::hold::HeldBody;
use crate::gate::record::{Caller, Content, Entry};
use crate::gate::refusal::Refusal;
use crate::gate::{Inner, Sequel};
use crate::io::sweep::{self, Lapse};
use crate::ledger::record::Fault;
use crate::policy::approval::Asked;
use crate::policy::json::Value;
use crate::policy::mcp::List;
use crate::policy::model::ToolIndex;
use crate::store::live::approvals::LiveApproval;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What becomes of the messages of an answer.
enum Change {
    /// Items of lists that the session could not be granted are left out.
    Narrow {
        caller: Arc<Caller>,
        tool: ToolIndex,
    },
    /// What was said to the attempt that people saw is said to this one.
    Attempt { from: Attempt, to: Attempt },
}

/// A message that could be a list and can't be read.
#[derive(Debug, PartialEq, Eq)]
struct Garbled;

impl Change {
    /// The message as it goes on; `None`: as it came.
    fn of(&self, message: &[u8]) -> Result<Option<String>, Garbled> {
        match self {
            Change::Narrow { caller, tool } => {
                let value = Value::read(message).map_err(|_| Garbled)?;
                narrow(value, |list, item| {
                    let (policy, session) = (&caller.ruleset.policy, &caller.session.facts);
                    list.shows(policy, session, *tool, item)
                })
            }
            Change::Attempt { from, to } => Ok(readdressed(message, from, to)),
        }
    }
}

/// Leaves out of a message's lists what is not shown. What is left is another session's business even less than the whole
/// was: it is nobody's to keep for others.
fn narrow(
    mut message: Value<'_>,
    shows: impl Fn(List, &Value<'_>) -> Option<bool>,
) -> Result<Option<String>, Garbled> {
    let Value::Object(members) = &mut message else {
        return Err(Garbled);
    };
    let result = members.iter_mut().find(|(name, _)| name == "result");
    let Some((_, Value::Object(result))) = result else {
        return Ok(None);
    };
    let mut lists = false;
    for list in List::ALL {
        let held = result.iter_mut().find(|(name, _)| name == list.member());
        let Some((_, held)) = held else {
            continue;
        };
        let Value::List(items) = held else {
            return Err(Garbled);
        };
        lists = true;
        let all = std::mem::take(items);
        for item in all {
            if shows(list, &item).ok_or(Garbled)? {
                items.push(item);
            }
        }
    }
    if !lists {
        return Ok(None);
    }
    if let Some((_, scope)) = result.iter_mut().find(|(name, _)| name == "cacheScope") {
        *scope = Value::Text(Cow::Borrowed("private"));
    }
    let mut text = String::new();
    message.write(&mut text);
    Ok(Some(text))
}

/// The message for another attempt, where it is for the first.
fn readdressed(message: &[u8], from: &Attempt, to: &Attempt) -> Option<String> {
    let mut value = Value::read(message).ok()?;
    let Value::Object(members) = &mut value else {
        return None;
    };
    let is = |value: &Value<'_>, token: &Option<Box<str>>| {
        let mut text = String::new();
        value.write(&mut text);
        token.as_deref() == Some(&*text)
    };
    let asks = members.iter().any(|(name, _)| name == "method");
    let place = match asks {
        false => members.iter_mut().find(|(name, _)| name == "id"),
        true => {
            let params = members.iter_mut().find(|(name, _)| name == "params");
            match params {
                Some((_, Value::Object(params))) => {
                    params.iter_mut().find(|(name, _)| name == "progressToken")
                }
                _ => None,
            }
        }
    };
    let (_, place) = place?;
    let (old, new) = match asks {
        false => (&from.id, to.id.as_deref()?),
        true => (&from.token, to.token.as_deref()?),
    };
    if !is(place, old) {
        return None;
    }
    *place = Value::read(new.as_bytes()).ok()?;
    let mut text = String::new();
    value.write(&mut text);
    Some(text)
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Events,
}

impl Form {
    /// `None`: neither, or compressed.
    fn of(headers: &HeaderMap) -> Option<Self> {
        if let Some(coding) = headers.get(CONTENT_ENCODING)
            && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return None;
        }
        let mut types = headers.get_all(CONTENT_TYPE).iter();
        let (Some(first), None) = (types.next(), types.next()) else {
            return None;
        };
        let essence = first.to_str().ok()?.split(';').next()?.trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Some(Form::Json)
        } else if essence.eq_ignore_ascii_case("text/event-stream") {
            Some(Form::Events)
        } else {
            None
        }
    }
}

/// An answer on its way to the agent, message by message.
pub(in crate::gate) struct Rewritten {
    source: Source,
    change: Change,
    reading: Reading,
    out: Vec<u8>,
    over: bool,
    broken: bool,
    on_its_way: bool,
}

enum Source {
    Upstream(UpstreamBody),
    Held(Box<HeldBody>),
}

enum Reading {
    /// To its end.
    Json(Vec<u8>),
    Events(Events),
}

impl Rewritten {
    fn new(source: Source, form: Form, change: Change) -> Self {
        Self {
            source,
            change,
            reading: match form {
                Form::Json => Reading::Json(Vec::new()),
                Form::Events => Reading::Events(Events::default()),
            },
            out: Vec::new(),
            over: false,
            broken: false,
            on_its_way: false,
        }
    }

    /// The agent's connection has it.
    pub(in crate::gate) fn set_out(&mut self) {
        self.on_its_way = true;
        self.hand_over();
    }

    pub(in crate::gate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamFault>>> {
        loop {
            if self.broken {
                return Poll::Ready(None);
            }
            if !self.out.is_empty() {
                let bytes = Bytes::from(std::mem::take(&mut self.out));
                self.hand_over();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.over {
                self.hand_over();
                return Poll::Ready(None);
            }
            let frame = match &mut self.source {
                Source::Upstream(body) => ready!(Pin::new(body).poll_frame(cx)),
                Source::Held(body) => ready!(body.poll_frame(cx)),
            };
            let taken = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => self.take(&chunk),
                    // Trailers are about the answer as it came.
                    Err(_) => Ok(()),
                },
                Some(Err(fault)) => {
                    self.broken = true;
                    return Poll::Ready(Some(Err(fault)));
                }
                None => self.finish(),
            };
            if taken.is_err() {
                self.broken = true;
                return Poll::Ready(Some(Err(StreamFault::UpstreamBroke)));
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), Garbled> {
        match &mut self.reading {
            Reading::Json(read) => {
                read.extend_from_slice(chunk);
                (read.len() <= JSON_BYTES_MAX).then_some(()).ok_or(Garbled)
            }
            Reading::Events(events) => {
                let (change, out) = (&self.change, &mut self.out);
                let mut taken = Ok(());
                let pushed = events.push(chunk, |mut event| {
                    if taken.is_err() {
                        return;
                    }
                    match event.data().map(|data| change.of(data)) {
                        Some(Err(garbled)) => {
                            taken = Err(garbled);
                            return;
                        }
                        Some(Ok(Some(changed))) => event.carry(changed),
                        Some(Ok(None)) | None => {}
                    }
                    event.write(out);
                });
                pushed.map_err(|_| Garbled).and(taken)
            }
        }
    }

    fn finish(&mut self) -> Result<(), Garbled> {
        self.over = true;
        if let Reading::Json(read) = &mut self.reading {
            let read = std::mem::take(read);
            // An answer without content is no message.
            if !read.is_empty() {
                self.out = match self.change.of(&read)? {
                    Some(changed) => changed.into_bytes(),
                    None => read,
                };
            }
        }
        Ok(())
    }

    /// The last of it is with the connection: what was kept for this agent need not be kept.
    fn hand_over(&mut self) {
        if self.is_over()
            && self.on_its_way
            && let Source::Held(body) = &mut self.source
        {
            body.set_out();
        }
    }

    /// Whether the last of it was handed to the connection.
    pub(in crate::gate) fn is_over(&self) -> bool {
        self.over && !self.broken && self.out.is_empty()
    }

    pub(in crate::gate) fn is_end_stream(&self) -> bool {
        self.broken || self.is_over()
    }
}

/// An answer with what the session could be granted of its lists.
pub(super) async fn narrowed(
    gate: &Inner,
    caller: &Arc<Caller>,
    tool: ToolIndex,
    answer: Response<Sequel>,
) -> Result<Response<Sequel>, Refusal> {
    let (mut head, sequel) = answer.into_parts();
    let source = match sequel {
        Sequel::Body(Content::Upstream(mut body)) => {
            body.uncounted();
            Source::Upstream(body)
        }
        Sequel::Body(Content::Held(body)) => Source::Held(body),
        // The gate's own, or one that was looked through already for another attempt, which came from here.
        sequel @ (Sequel::Body(Content::Own(_)) | Sequel::Tunnel(_)) => {
            return Ok(Response::from_parts(head, sequel));
        }
        Sequel::Body(Content::Rewritten(_)) => return Err(garbled()),
    };
    let change = Change::Narrow {
        caller: Arc::clone(caller),
        tool,
    };
    let empty = match &source {
        Source::Upstream(body) => body.is_end_stream(),
        Source::Held(body) => body.is_end_stream(),
    };
    let Some(form) = Form::of(&head.headers) else {
        // A failure in words is no list.
        if empty || !head.status.is_success() {
            return Ok(Response::from_parts(head, passed(source)));
        }
        return Err(garbled());
    };
    changed(&mut head.headers);
    let mut body = Rewritten::new(source, form, change);
    if form == Form::Events || matches!(body.source, Source::Held(_)) {
        let content = Content::Rewritten(Box::new(body));
        return Ok(Response::from_parts(head, Sequel::Body(content)));
    }
    // Whole before its head goes out, so that what can't be read can be said.
    let guard = sweep::here(&gate.clock).guard(
        Some(caller.session.clone()),
        caller.ruleset.outfit(tool).timeout(),
    );
    guard.arm();
    let read = async {
        let mut whole = Vec::new();
        while let Some(frame) = poll_fn(|cx| body.poll_frame(cx)).await {
            whole.extend_from_slice(frame?.data_ref().map_or(&[][..], |chunk| chunk));
        }
        Ok::<_, StreamFault>(whole)
    };
    match guard.watch(read).await {
        Ok(Ok(whole)) => {
            let content = Content::Own(Bytes::from(whole));
            Ok(Response::from_parts(head, Sequel::Body(content)))
        }
        Ok(Err(StreamFault::SessionEnded)) | Err(Lapse::Ended) => {
            let state = caller.session.state(gate.clock.now().tick);
            Err(Refusal::of_state(state).after(Fault::SessionEnded))
        }
        Ok(Err(_)) | Err(Lapse::Deadline) => Err(garbled()),
    }
}

/// The answer of an approved call for the attempt that waits for it: what people saw may have been an earlier one.
pub(in crate::gate) fn for_attempt(
    entry: &Entry,
    approval: &LiveApproval,
    answer: Response<Sequel>,
) -> Result<Response<Sequel>, Refusal> {
    let (Asked::Call(call), Some(asked)) = (&approval.facts.asked, &entry.asked) else {
        return Ok(answer);
    };
    let (from, to) = (Attempt::of(&call.body), asked.attempt.clone());
    if from == to {
        return Ok(answer);
    }
    let (mut head, sequel) = answer.into_parts();
    let Sequel::Body(Content::Held(body)) = sequel else {
        return Ok(Response::from_parts(head, sequel));
    };
    let Some(form) = Form::of(&head.headers) else {
        let content = Content::Held(body);
        // No message, or one that can't be told to this attempt.
        return match head.headers.contains_key(CONTENT_ENCODING) {
            true => Err(Refusal::outcome_not_kept(approval)),
            false => Ok(Response::from_parts(head, Sequel::Body(content))),
        };
    };
    changed(&mut head.headers);
    let body = Rewritten::new(Source::Held(body), form, Change::Attempt { from, to });
    let content = Content::Rewritten(Box::new(body));
    Ok(Response::from_parts(head, Sequel::Body(content)))
}

fn passed(source: Source) -> Sequel {
    Sequel::Body(match source {
        Source::Upstream(mut body) => {
            body.counted();
            Content::Upstream(body)
        }
        Source::Held(body) => Content::Held(body),
    })
}

/// Takes away what was said of the bytes as they came.
fn changed(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, CONTENT_RANGE, ACCEPT_RANGES, ETAG] {
        headers.remove(name);
    }
    for name in ["content-md5", "content-digest", "repr-digest", "digest"] {
        headers.remove(HeaderName::from_static(name));
    }
}

fn garbled() -> Refusal {
    Refusal::garbled()
}

/// An answer in JSON that is looked at is kept whole.
const JSON_BYTES_MAX: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn narrowed(text: &str) -> Result<Option<String>, Garbled> {
        narrow(Value::read(text.as_bytes()).unwrap(), |list, item| {
            let key = match list {
                List::Resources => "uri",
                List::Templates => "uriTemplate",
                List::Tools | List::Prompts => "name",
            };
            match item.at([key]) {
                Ok(Some(Value::Text(name))) => Some(name.starts_with("ok")),
                _ => None,
            }
        })
    }

    #[test]
    fn only_what_is_shown_is_left_of_a_list_and_all_else_stays() {
        let list = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"no"},{"name":"ok","inputSchema":{"x":1.50}}],"nextCursor":"c","ttlMs":9,"cacheScope":"public"}}"#;
        let left = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ok","inputSchema":{"x":1.50}}],"nextCursor":"c","ttlMs":9,"cacheScope":"private"}}"#;
        assert_eq!(narrowed(list).unwrap().unwrap(), left);
        for other in [
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no","data":{"tools":7}}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"tools":{}}}}"#,
        ] {
            assert_eq!(narrowed(other), Ok(None), "{other}");
        }
        for garbled in [
            "[]",
            r#"[{"result":{"tools":[{"name":"no"}]}}]"#,
            r#"{"result":{"tools":{"name":"no"}}}"#,
            r#"{"result":{"tools":["no"]}}"#,
            r#"{"result":{"tools":[{"name":["no"]}]}}"#,
            r#"{"result":{"resources":[{"name":"ok"}]}}"#,
        ] {
            assert_eq!(narrowed(garbled), Err(Garbled), "{garbled}");
        }
    }

    #[test]
    fn an_answer_reaches_the_attempt_that_waits_and_nothing_else_in_it_changes() {
        let attempt = |id: &str, token: Option<&str>| Attempt {
            id: Some(id.into()),
            token: token.map(Into::into),
        };
        let (from, to) = (attempt("1", Some("\"a\"")), attempt("\"x\"", Some("7")));
        let of = |text: &str| readdressed(text.as_bytes(), &from, &to);
        assert_eq!(
            of(r#"{"jsonrpc":"2.0","id":1,"result":{"id":1}}"#).unwrap(),
            r#"{"jsonrpc":"2.0","id":"x","result":{"id":1}}"#
        );
        assert_eq!(
            of(r#"{"method":"notifications/progress","params":{"progressToken":"a","progress":0.50}}"#).unwrap(),
            r#"{"method":"notifications/progress","params":{"progressToken":7,"progress":0.50}}"#
        );
        for same in [
            r#"{"jsonrpc":"2.0","id":2,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"1","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage"}"#,
            "not json",
        ] {
            assert_eq!(of(same), None, "{same}");
        }
    }
}
