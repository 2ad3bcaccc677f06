//! Answers that do not go on as they came: lists, of which a session is shown what it could be granted, and the answer to
//! an approved call, which reaches an attempt that has another number.
//!
//! An answer is read as what it says it is, JSON or events, within a bound, and only what is changed is written anew. What
//! can't be read is not passed on where it could be a list. It is long because
//! every way an answer may go on stands here, and they are read against each other.

use super::asked::Attempt;
use super::change::{self, Change, Garbled, Narrow, Turned};
use super::events::Events;
use super::piece::{Piece, is_no_message};
use super::pins::{Pinned, Settling, unsettled};
use crate::gate::forward::{StreamFault, UpstreamBody};
use crate::gate::hold::HeldBody;
use crate::gate::record::{Caller, Content, Entry};
use crate::gate::refusal::Refusal;
use crate::gate::{Inner, Sequel};
use crate::io::sweep::{self, Lapse};
use crate::ledger::record::Fault;
use crate::policy::approval;
use crate::policy::model::ToolIndex;
use crate::store::live::approvals::LiveApproval;
use crate::store::live::pins::Sight;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Events,
}

impl Form {
    /// `None`: neither, or compressed.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        if is_coded(headers) {
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

/// Whether it is compressed, or in another coding.
fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// An answer on its way to the agent, message by message.
pub(in crate::gate) struct Rewritten {
    source: Source,
    /// One behind the other.
    changes: Vec<Change>,
    reading: Reading,
    /// Read, and not looked at yet.
    queue: VecDeque<Piece>,
    /// What is waited for before the first of them goes on.
    settling: Option<Settling>,
    /// Looked at, and not handed to the connection yet.
    out: Vec<u8>,
    end: End,
    /// Why it breaks off, where it is not the backend's fault.
    own_fault: Option<Refusal>,
    on_its_way: bool,
}

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// More of it may come.
    Open,
    /// All of it was read.
    Over,
    /// What comes next can't be read: it breaks off behind what could be.
    Garbled,
    /// As soon as that had a turn to be written.
    Breaking,
    /// It broke off.
    Broken,
}

enum Source {
    Upstream(UpstreamBody),
    Held(Box<HeldBody>),
}

enum Reading {
    /// To its end.
    Json(Vec<u8>),
    /// To its end: an answer that is a failure, and may be words.
    Failure(Vec<u8>),
    Events(Events),
}

impl Rewritten {
    fn new(source: Source, reading: Reading, change: Change) -> Self {
        Self {
            source,
            changes: vec![change],
            reading,
            queue: VecDeque::new(),
            settling: None,
            out: Vec::new(),
            end: End::Open,
            own_fault: None,
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
            // First what could be read.
            if !self.out.is_empty() {
                let bytes = Bytes::from(std::mem::take(&mut self.out));
                self.hand_over();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            match self.end {
                End::Open | End::Over => match self.work_off(cx) {
                    Poll::Pending if self.out.is_empty() => return Poll::Pending,
                    Poll::Ready(Ok(())) if self.out.is_empty() && self.end == End::Over => {
                        self.hand_over();
                        return Poll::Ready(None);
                    }
                    Poll::Ready(Ok(())) if self.out.is_empty() => {}
                    Poll::Pending | Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(Garbled)) => {
                        self.queue.clear();
                        self.end = End::Garbled;
                        continue;
                    }
                },
                // An error takes with it what the connection has not written yet.
                End::Garbled => {
                    self.end = End::Breaking;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                End::Breaking => {
                    self.end = End::Broken;
                    let fault = match self.own_fault {
                        Some(_) => StreamFault::Unsettled,
                        None => StreamFault::UpstreamBroke,
                    };
                    return Poll::Ready(Some(Err(fault)));
                }
                End::Broken => return Poll::Ready(None),
            }
            let frame = match &mut self.source {
                Source::Upstream(body) => ready!(Pin::new(body).poll_frame(cx)),
                Source::Held(body) => ready!(body.poll_frame(cx)),
            };
            match frame {
                Some(Ok(frame)) => {
                    // Trailers are about the answer as it came.
                    if let Ok(chunk) = frame.into_data() {
                        self.take(&chunk);
                    }
                }
                Some(Err(fault)) => {
                    self.end = End::Broken;
                    return Poll::Ready(Some(Err(fault)));
                }
                None => self.finish(),
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        let queue = &mut self.queue;
        let fits = match &mut self.reading {
            Reading::Json(read) | Reading::Failure(read) => {
                read.extend_from_slice(chunk);
                read.len() <= JSON_BYTES_MAX
            }
            Reading::Events(events) => events
                .push(chunk, |event| queue.push_back(Piece::Event(event)))
                .is_ok(),
        };
        if !fits {
            queue.push_back(Piece::Garbled);
        }
    }

    fn finish(&mut self) {
        let (read, fails) = match &mut self.reading {
            Reading::Json(read) => (std::mem::take(read), false),
            Reading::Failure(read) => (std::mem::take(read), true),
            Reading::Events(_) => (Vec::new(), false),
        };
        // An answer without content is no message.
        if !read.is_empty() {
            self.queue.push_back(match fails && is_no_message(&read) {
                true => Piece::Words(read),
                false => Piece::Message(read),
            });
        }
        self.end = End::Over;
    }

    /// Looks at what was read. No more is read before that is done, so that little waits.
    fn work_off(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Garbled>> {
        while let Some(piece) = self.queue.front() {
            if matches!(piece, Piece::Garbled) {
                return Poll::Ready(Err(Garbled));
            }
            let again = match &mut self.settling {
                None => false,
                Some(settling) => {
                    let settled = ready!(Pin::new(settling).poll(cx));
                    self.settling = None;
                    self.own_fault = unsettled(settled);
                    if self.own_fault.is_some() {
                        return Poll::Ready(Err(Garbled));
                    }
                    true
                }
            };
            let changed = match piece.message() {
                Some(message) => changed_by(&self.changes, message, again),
                None => Ok(Turned::AsItCame),
            };
            let changed = match changed {
                Ok(Turned::AsItCame) => None,
                Ok(Turned::To(changed)) => Some(changed),
                Ok(Turned::Once(settling)) => {
                    self.settling = Some(settling);
                    continue;
                }
                Err(garbled) => return Poll::Ready(Err(garbled)),
            };
            if let Some(piece) = self.queue.pop_front() {
                piece.write(changed, &mut self.out);
            }
        }
        Poll::Ready(Ok(()))
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
        self.end == End::Over && self.out.is_empty() && self.queue.is_empty()
    }

    pub(in crate::gate) fn is_end_stream(&self) -> bool {
        self.end == End::Broken || self.is_over()
    }
}

/// A message behind all changes.
fn changed_by(changes: &[Change], message: &[u8], again: bool) -> Result<Turned, Garbled> {
    let mut changed: Option<String> = None;
    for change in changes {
        let message = changed.as_deref().map_or(message, str::as_bytes);
        match change.of(message, again)? {
            Turned::AsItCame => {}
            Turned::To(next) => changed = Some(next),
            once @ Turned::Once(_) => return Ok(once),
        }
    }
    Ok(changed.map_or(Turned::AsItCame, Turned::To))
}

/// Whether lists are what an answer answers, and what they may change of what is known of a pinned server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A list was asked for.
    List,
    /// The stream of a session: a list can be told again there.
    Stream,
    /// Something else. A server can answer a list there all the same, and clients take it for the answer.
    Other,
}

/// An answer with what the session could be granted of its lists.
pub(super) async fn narrowed(
    gate: &Arc<Inner>,
    caller: &Arc<Caller>,
    tool: ToolIndex,
    asked: Asked,
    answer: Response<Sequel>,
) -> Result<Response<Sequel>, Refusal> {
    let sight = match (answer.body(), asked) {
        (Sequel::Body(Content::Upstream(_)), Asked::List) => Sight::Fresh,
        (Sequel::Body(Content::Upstream(_)), Asked::Stream | Asked::Other) => Sight::Again,
        // Of an approved call: perhaps from an hour ago.
        _ => Sight::Kept,
    };
    let change = Change::Narrow(Narrow {
        caller: Arc::clone(caller),
        tool,
        pinned: Pinned::of(gate, caller, tool, sight),
        unasked: asked == Asked::Other,
    });
    rewritten(gate, caller, tool, answer, change).await
}

/// What a server says of itself, and that calls which wait for people are tasks.
pub(super) async fn declaring(
    gate: &Inner,
    caller: &Arc<Caller>,
    tool: ToolIndex,
    answer: Response<Sequel>,
) -> Result<Response<Sequel>, Refusal> {
    if !answer.status().is_success() || Form::of(answer.headers()).is_none() {
        return Ok(answer);
    }
    // Of a server that is pinned it was read whole already.
    if let Sequel::Body(Content::Own(whole)) = answer.body() {
        let said = change::declared(whole);
        return Ok(match said {
            Some(said) => answer.map(|_| Sequel::Body(Content::Own(said.into()))),
            None => answer,
        });
    }
    rewritten(gate, caller, tool, answer, Change::Declare).await
}

async fn rewritten(
    gate: &Inner,
    caller: &Arc<Caller>,
    tool: ToolIndex,
    answer: Response<Sequel>,
    change: Change,
) -> Result<Response<Sequel>, Refusal> {
    let (mut head, sequel) = answer.into_parts();
    let source = match sequel {
        Sequel::Body(Content::Upstream(mut body)) => {
            body.uncounted();
            Source::Upstream(body)
        }
        Sequel::Body(Content::Held(body)) => Source::Held(body),
        // It is for another attempt than the one that people saw: that is changed already, and this behind it.
        Sequel::Body(Content::Rewritten(mut body)) => {
            body.changes.push(change);
            if !head.status.is_success()
                && let Reading::Json(read) = body.reading
            {
                body.reading = Reading::Failure(read);
            }
            let content = Content::Rewritten(body);
            return Ok(Response::from_parts(head, Sequel::Body(content)));
        }
        // The gate's own.
        sequel @ (Sequel::Body(Content::Own(_)) | Sequel::Tunnel(_)) => {
            return Ok(Response::from_parts(head, sequel));
        }
    };
    let empty = match &source {
        Source::Upstream(body) => body.is_end_stream(),
        Source::Held(body) => body.is_end_stream(),
    };
    if empty {
        return Ok(Response::from_parts(head, passed(source)));
    }
    let reading = match Form::of(&head.headers) {
        Some(Form::Events) => Reading::Events(Events::default()),
        Some(Form::Json) if head.status.is_success() => Reading::Json(Vec::new()),
        Some(Form::Json) => Reading::Failure(Vec::new()),
        // A failure may be of any type, but not in a coding that nobody here looks into.
        None if !head.status.is_success() && !is_coded(&head.headers) => {
            Reading::Failure(Vec::new())
        }
        None => return Err(garbled()),
    };
    changed(&mut head.headers);
    let unasked = matches!(&change, Change::Narrow(narrow) if narrow.unasked);
    let streams = matches!(reading, Reading::Events(_)) || matches!(source, Source::Held(_));
    let streams = streams || unasked;
    let mut body = Rewritten::new(source, reading, change);
    if streams {
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
    let whole = {
        let read = pin!(read);
        guard.watch(read).await
    };
    match whole {
        Ok(Ok(whole)) => {
            let content = Content::Own(Bytes::from(whole));
            Ok(Response::from_parts(head, Sequel::Body(content)))
        }
        Ok(Err(StreamFault::SessionEnded)) | Err(Lapse::Ended) => {
            let state = caller.session.state(gate.clock.tick());
            Err(Refusal::of_state(state).after(Fault::SessionEnded))
        }
        Ok(Err(_)) | Err(Lapse::Deadline) => Err(body.own_fault.take().unwrap_or_else(garbled)),
    }
}

/// The answer of an approved call for the attempt that waits for it: what people saw may have been an earlier one.
pub(in crate::gate) fn for_attempt(
    entry: &Entry,
    approval: &LiveApproval,
    answer: Response<Sequel>,
) -> Result<Response<Sequel>, Refusal> {
    let (approval::Asked::Call(call), Some(asked)) = (&approval.facts.asked, &entry.asked) else {
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
    let reading = match form {
        Form::Json => Reading::Json(Vec::new()),
        Form::Events => Reading::Events(Events::default()),
    };
    let body = Rewritten::new(Source::Held(body), reading, Change::Attempt { from, to });
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
