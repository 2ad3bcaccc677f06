//! Answers that do not go on as they came: lists, of which a session is shown what it could be granted, and the answer to
//! an approved call, which reaches an attempt that has another number.
//!
//! An answer is read as what it says it is, JSON or events, within a bound, and only what is changed is written anew. What
//! can't be read is not passed on where it could be a list.

use super::asked::Attempt;
use super::change::{Change, Garbled, Narrow, Turned};
use super::events::{Event, Events};
use super::pins::{Pinned, Settling};
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
use crate::store::live::pins::{Sight, SightError};
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot::error::RecvError;

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
    /// Read, and not looked at yet.
    queue: VecDeque<Piece>,
    /// What is waited for before the first of them goes on.
    settling: Option<Settling>,
    out: Vec<u8>,
    over: bool,
    broken: bool,
    /// Why it broke, where it is not the backend's fault.
    own_fault: Option<Refusal>,
    on_its_way: bool,
}

/// What is looked at in one piece.
enum Piece {
    Message(Vec<u8>),
    Event(Event),
}

impl Piece {
    /// The message in it, if any.
    fn message(&self) -> Option<&[u8]> {
        match self {
            Piece::Message(bytes) => Some(bytes)
                .filter(|bytes| !bytes.is_empty())
                .map(|it| &**it),
            Piece::Event(event) => event.data(),
        }
    }

    /// Goes on, with this message instead of its own if there is one.
    fn write(self, changed: Option<String>, out: &mut Vec<u8>) {
        match (self, changed) {
            (Piece::Message(_), Some(changed)) => out.extend_from_slice(changed.as_bytes()),
            (Piece::Message(bytes), None) => out.extend_from_slice(&bytes),
            (Piece::Event(mut event), changed) => {
                if let Some(changed) = changed {
                    event.carry(changed);
                }
                event.write(out);
            }
        }
    }
}

/// Why an answer does not go on.
enum Stuck {
    Garbled,
    Unsettled(Refusal),
}

impl From<Garbled> for Stuck {
    fn from(Garbled: Garbled) -> Self {
        Stuck::Garbled
    }
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
            queue: VecDeque::new(),
            settling: None,
            out: Vec::new(),
            over: false,
            broken: false,
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
            if self.broken {
                return Poll::Ready(None);
            }
            let worked = self.work_off(cx);
            if let Poll::Ready(Err(stuck)) = worked {
                return Poll::Ready(Some(Err(self.break_off(stuck))));
            }
            if !self.out.is_empty() {
                let bytes = Bytes::from(std::mem::take(&mut self.out));
                self.hand_over();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if worked.is_pending() {
                return Poll::Pending;
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
                None => {
                    self.finish();
                    Ok(())
                }
            };
            if let Err(garbled) = taken {
                return Poll::Ready(Some(Err(self.break_off(garbled.into()))));
            }
        }
    }

    /// Nothing more of it goes on.
    fn break_off(&mut self, stuck: Stuck) -> StreamFault {
        self.broken = true;
        self.queue.clear();
        match stuck {
            Stuck::Garbled => StreamFault::UpstreamBroke,
            Stuck::Unsettled(refusal) => {
                self.own_fault = Some(refusal);
                StreamFault::Unsettled
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
                let queue = &mut self.queue;
                let pushed = events.push(chunk, |event| queue.push_back(Piece::Event(event)));
                pushed.map_err(|_| Garbled)
            }
        }
    }

    fn finish(&mut self) {
        self.over = true;
        if let Reading::Json(read) = &mut self.reading {
            self.queue.push_back(Piece::Message(std::mem::take(read)));
        }
    }

    /// Looks at what was read. No more is read before that is done, so that little waits.
    fn work_off(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stuck>> {
        while let Some(piece) = self.queue.front() {
            let again = match &mut self.settling {
                None => false,
                Some(settling) => {
                    let settled = ready!(Pin::new(settling).poll(cx));
                    self.settling = None;
                    if let Some(refusal) = unsettled(settled) {
                        return Poll::Ready(Err(Stuck::Unsettled(refusal)));
                    }
                    true
                }
            };
            // An answer without content is no message.
            let changed = match piece.message().map(|data| self.change.of(data, again)) {
                None | Some(Ok(Turned::AsItCame)) => None,
                Some(Ok(Turned::To(changed))) => Some(changed),
                Some(Ok(Turned::Once(settling))) => {
                    self.settling = Some(settling);
                    continue;
                }
                Some(Err(garbled)) => return Poll::Ready(Err(garbled.into())),
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
        self.over && !self.broken && self.out.is_empty() && self.queue.is_empty()
    }

    pub(in crate::gate) fn is_end_stream(&self) -> bool {
        self.broken || self.is_over()
    }
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
    let (mut head, sequel) = answer.into_parts();
    let narrow = |sight| Narrow {
        caller: Arc::clone(caller),
        tool,
        pinned: Pinned::of(gate, caller, tool, sight),
        unasked: asked == Asked::Other,
    };
    let source = match sequel {
        Sequel::Body(Content::Upstream(mut body)) => {
            body.uncounted();
            Source::Upstream(body)
        }
        Sequel::Body(Content::Held(body)) => Source::Held(body),
        // The gate's own.
        sequel @ (Sequel::Body(Content::Own(_)) | Sequel::Tunnel(_)) => {
            return Ok(Response::from_parts(head, sequel));
        }
        // For another attempt than the one that ran.
        Sequel::Body(Content::Rewritten(mut body)) => {
            body.change.narrow = Some(narrow(Sight::Kept));
            let content = Content::Rewritten(body);
            return Ok(Response::from_parts(head, Sequel::Body(content)));
        }
    };
    let sight = match (&source, asked) {
        (Source::Upstream(_), Asked::List) => Sight::Fresh,
        (Source::Upstream(_), Asked::Stream | Asked::Other) => Sight::Again,
        // Perhaps from an hour ago.
        (Source::Held(_), _) => Sight::Kept,
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
    let change = Change {
        narrow: Some(narrow(sight)),
        attempt: None,
    };
    let mut body = Rewritten::new(source, form, change);
    let streams = form == Form::Events || asked == Asked::Other;
    if streams || matches!(body.source, Source::Held(_)) {
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
        Ok(Err(_)) | Err(Lapse::Deadline) => Err(body.own_fault.take().unwrap_or_else(garbled)),
    }
}

/// What is said where news could not be settled.
fn unsettled(settled: Result<Result<(), SightError>, RecvError>) -> Option<Refusal> {
    match settled {
        Ok(Ok(())) => None,
        Ok(Err(SightError::Store(_))) => Some(Refusal::store_unavailable()),
        Ok(Err(SightError::Ledger(_))) => Some(Refusal::ledger_unavailable()),
        // It panicked, or the gate stops.
        Err(_) => Some(Refusal::internal()),
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
    let body = Rewritten::new(
        Source::Held(body),
        form,
        Change {
            attempt: Some((from, to)),
            ..Change::default()
        },
    );
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
