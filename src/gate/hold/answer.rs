//! The answer of an approved call on its way to an agent: as it comes, or kept from before. Who knows that the last of it
//! was taken.

use crate::gate::forward::StreamFault;
use crate::gate::record::Content;
use crate::gate::refusal::Refusal;
use crate::gate::{Inner, Line, Peer, Sequel};
use crate::io::sweep::{self, Guard};
use crate::store::live::approvals::{LiveApproval, Outcome};
use crate::store::live::{LiveSession, Sessions};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// A piece of an answer.
pub(super) enum Piece {
    /// And whether it is the last.
    Frame(Frame<Bytes>, bool),
    End,
    Broke(StreamFault),
}

/// The body of such an answer. Cut when its session ends; the run itself goes on.
pub(in crate::gate) struct HeldBody {
    source: Source,
    /// What is still to come, where that is known.
    left: Option<u64>,
    guard: Option<Guard>,
    taken: Option<Taken>,
    /// Whether a connection has it: one that was dropped on the way there was taken by nobody.
    on_its_way: bool,
}

enum Source {
    Run(mpsc::Receiver<Piece>),
    Kept(Bytes),
    /// The last of it was handed over.
    Over,
    /// There will be no last of it.
    Broken,
}

impl HeldBody {
    /// As it comes; `length`: `None` where nothing comes, else as long as it is, where that is known.
    pub(super) fn streamed(
        gate: &Inner,
        session: &Arc<LiveSession>,
        pieces: mpsc::Receiver<Piece>,
        length: Option<Option<u64>>,
        taken: Taken,
    ) -> Self {
        let session: Arc<LiveSession> = Arc::clone(session);
        Self {
            source: match length {
                Some(_) => Source::Run(pieces),
                None => Source::Over,
            },
            left: length.unwrap_or(Some(0)),
            guard: Some(sweep::here(&gate.clock).guard(Some(session), std::time::Duration::ZERO)),
            taken: Some(taken),
            on_its_way: false,
        }
    }

    fn kept(bytes: Bytes, taken: Taken) -> Self {
        Self {
            left: Some(bytes.len() as u64),
            source: if bytes.is_empty() {
                Source::Over
            } else {
                Source::Kept(bytes)
            },
            guard: None,
            taken: Some(taken),
            on_its_way: false,
        }
    }

    /// The agent's connection has it.
    pub(in crate::gate) fn set_out(&mut self) {
        self.on_its_way = true;
    }

    pub(in crate::gate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamFault>>> {
        if let Some(guard) = &self.guard
            && guard.poll(cx).is_ready()
        {
            return self.broken(StreamFault::SessionEnded);
        }
        let piece = match &mut self.source {
            Source::Over | Source::Broken => return Poll::Ready(None),
            Source::Kept(bytes) => {
                let bytes = std::mem::take(bytes);
                Piece::Frame(Frame::data(bytes), true)
            }
            Source::Run(pieces) => match std::task::ready!(pieces.poll_recv(cx)) {
                Some(piece) => piece,
                // It ended without a word: nothing here is whole.
                None => return self.broken(StreamFault::UpstreamBroke),
            },
        };
        match piece {
            Piece::Frame(frame, last) => {
                if let (Some(left), Some(chunk)) = (&mut self.left, frame.data_ref()) {
                    *left = left.saturating_sub(chunk.len() as u64);
                }
                if last {
                    self.source = Source::Over;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Piece::End => {
                self.source = Source::Over;
                Poll::Ready(None)
            }
            Piece::Broke(fault) => self.broken(fault),
        }
    }

    fn broken(&mut self, fault: StreamFault) -> Poll<Option<Result<Frame<Bytes>, StreamFault>>> {
        self.source = Source::Broken;
        self.guard = None;
        Poll::Ready(Some(Err(fault)))
    }

    /// Whether the last of it was handed to the connection.
    pub(in crate::gate) fn is_over(&self) -> bool {
        matches!(self.source, Source::Over)
    }

    pub(in crate::gate) fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Over | Source::Broken)
    }

    pub(in crate::gate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        if self.is_over()
            && self.on_its_way
            && let Some(taken) = self.taken.take()
        {
            taken.handed_over();
        }
    }
}

/// Forgets an answer once the agent has it.
///
/// Over HTTP/1.1 that is when its last byte was written to a socket whose other end had not closed it: the connection tells
/// by its [`Line`]. Over HTTP/2 it is when the last of it was handed to a stream that had not been reset. An agent that gives up
/// in the very moment in which the bytes are on their way can't be told from one that reads them.
pub(in crate::gate) struct Taken {
    sessions: Sessions,
    approval: Arc<LiveApproval>,
    line: Option<Arc<Line>>,
}

impl Taken {
    pub(super) fn new(gate: &Inner, approval: &Arc<LiveApproval>, line: Option<Arc<Line>>) -> Self {
        Self {
            sessions: gate.sessions.clone(),
            approval: Arc::clone(approval),
            line,
        }
    }

    fn handed_over(self) {
        let Self {
            sessions,
            approval,
            line,
        } = self;
        let done = move || {
            // Others who wait for it have yet to get it; the last of them forgets it.
            if !approval.is_watched() {
                sessions.delivered(&approval);
            }
        };
        match line {
            Some(line) => line.once_taken(Box::new(done)),
            None => done(),
        }
    }
}

/// The last that is said of a call that ran: once the agent has it, what was kept goes.
pub(in crate::gate) fn last_word(
    gate: &Inner,
    approval: &Arc<LiveApproval>,
    peer: &Peer,
    word: Bytes,
) -> HeldBody {
    HeldBody::kept(word, Taken::new(gate, approval, peer.line.clone()))
}

/// The kept answer of a call that ran and that nobody got.
pub(super) fn replay(
    gate: &Inner,
    approval: &Arc<LiveApproval>,
    peer: &Peer,
) -> Result<Response<Sequel>, Refusal> {
    let Some(Outcome {
        status: Some(status),
        fields,
        body: Some(body),
        ..
    }) = approval.outcome()
    else {
        return Err(Refusal::outcome_not_kept(approval));
    };
    let taken = Taken::new(gate, approval, peer.line.clone());
    let held = HeldBody::kept(Bytes::from_owner(body), taken);
    let mut response = Response::new(Sequel::Body(Content::Held(Box::new(held))));
    *response.status_mut() =
        StatusCode::from_u16(status).map_err(|_| Refusal::outcome_not_kept(approval))?;
    let headers = response.headers_mut();
    for field in &fields {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(field.name.as_bytes()),
            HeaderValue::from_bytes(&field.value),
        ) {
            headers.append(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

const REPLAYED: HeaderName = HeaderName::from_static("toolgate-replayed");
