//! The agent's body: counted, bounded in idleness and slowness, readable ahead within a bound, then streamed on.
//!
//! It is made at step 3 of the journey and consumed at step 8. Until it is read, nothing of it is taken from the agent:
//! an agent that asked `Expect: 100-continue` is told to go on by the first read, which therefore must not happen before
//! the decision unless the decision needs the body.
//!
//! It refuses to buffer: beyond what [`RequestBody::read_prefix`] was asked for, one chunk at a time passes through.

use super::{Line, fields};
use crate::io::clock::Clock;
use crate::io::room::{BUFFERED_BYTES_MAX, Room, buffered};
use crate::io::sweep::{self, Guard, Remote, Sweep};
use crate::policy::time::Tick;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::EXPECT;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// What went through a call's bodies, for its outcome.
#[derive(Debug, Default)]
pub struct Meter {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    fault: AtomicU8,
}

/// The agent's body.
pub struct RequestBody {
    source: Source,
    /// Read ahead, to be streamed before the rest.
    ahead: Bytes,
    /// What that takes.
    room: Room,
    trailers: Option<HeaderMap>,
    meter: Arc<Meter>,
    /// `None` where there is nothing to wait for.
    sweep: Option<Arc<Sweep>>,
    tempo: Tempo,
    /// Watches the agent's idleness, from the first wait on.
    guard: Option<Guard>,
    /// Since when the guard is armed: polls without news must not begin its span anew.
    waiting: Option<Tick>,
    /// How long the agent was waited for so far.
    waited: Duration,
    /// It is read ahead: somebody waits for all of it.
    needed: bool,
    /// Told when the last of it was read.
    line: Option<Arc<Line>>,
    /// The forwarded call's deadline, which must not run while it is the agent that is waited for.
    call: Option<Remote>,
}

/// How an agent's body has to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tempo {
    /// How long nothing may come.
    pub idle: Duration,
    /// Of a body that says how long it is, or that is waited for whole: bytes a second on the average, over all the time that
    /// it was waited for beyond `idle`. Any other is a stream, which may say little for as long as its session lasts.
    pub bytes_per_second_min: u32,
}

enum Source {
    /// The agent has more, and was not kept from sending it.
    Flowing(Incoming),
    /// The agent waits for `100 Continue`, which the first read sends.
    Awaiting(Incoming),
    /// It was read to its end, or failed.
    Over,
}

/// Why an agent's body could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// Nothing came for as long as the listener's `body_idle`, or less than its `body_rate`.
    #[error("the request's body stopped coming, or came too slowly")]
    Idle,
    /// The agent went away, or its framing is malformed.
    #[error("the request's body broke off or is malformed")]
    Broken,
    /// It was to be read ahead, and there is no room for it.
    #[error("the gate has no room for the request's body")]
    Crowded,
}

/// What was read ahead of a body. It is streamed to the backend all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// The body, to its end.
    Whole(Bytes),
    /// There is more than the limit; these are its first bytes (none, where `Content-Length` said so beforehand).
    Longer(Bytes),
}

/// What is read of a body that nobody wants any longer, so that the answer to it is not lost to a reset: bytes and time.
const DRAIN_BYTES_MAX: u64 = 1024 * 1024;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);

impl Meter {
    /// Body bytes read from the agent.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Body bytes of the answer handed to the agent's connection.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// How the agent's body failed, if it did.
    pub fn body_fault(&self) -> Option<BodyFault> {
        match self.fault.load(Ordering::Relaxed) {
            IDLE => Some(BodyFault::Idle),
            BROKEN => Some(BodyFault::Broken),
            CROWDED => Some(BodyFault::Crowded),
            _ => None,
        }
    }

    /// Counts bytes from the agent that are no body's: a tunnel's.
    pub fn count_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts body bytes of an answer: for those the gate makes itself.
    pub fn count_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn fail(&self, fault: BodyFault) {
        let code = match fault {
            BodyFault::Idle => IDLE,
            BodyFault::Broken => BROKEN,
            BodyFault::Crowded => CROWDED,
        };
        self.fault.store(code, Ordering::Relaxed);
    }
}

const IDLE: u8 = 1;
const BROKEN: u8 = 2;
const CROWDED: u8 = 3;

impl RequestBody {
    /// The body that came with `headers`. Must be called within a tokio runtime.
    pub fn new(
        incoming: Incoming,
        headers: &HeaderMap,
        meter: Arc<Meter>,
        tempo: Tempo,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let (source, sweep) = if incoming.is_end_stream() {
            (Source::Over, None)
        } else if headers.contains_key(EXPECT) {
            (Source::Awaiting(incoming), Some(sweep::here(clock)))
        } else {
            (Source::Flowing(incoming), Some(sweep::here(clock)))
        };
        Self {
            source,
            ahead: Bytes::new(),
            room: Room::default(),
            trailers: None,
            meter,
            sweep,
            tempo,
            guard: None,
            waiting: None,
            waited: Duration::ZERO,
            needed: false,
            line: None,
            call: None,
        }
    }

    /// Has `line` told when the last of it was read.
    pub(super) fn listen(&mut self, line: Option<&Arc<Line>>) {
        if !self.is_over() {
            self.line = line.cloned();
        }
    }

    /// What it and its answer are counted in.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Whether there are trailers behind what was read.
    pub fn has_trailers(&self) -> bool {
        self.trailers
            .as_ref()
            .is_some_and(|trailers| !trailers.is_empty())
    }

    /// Reads up to `limit` bytes ahead. Called again with the same limit, it says the same.
    ///
    /// # Errors
    /// [`BodyFault`]: there is no body to go on with.
    pub async fn read_prefix(&mut self, limit: u64) -> Result<Prefix, BodyFault> {
        self.needed = true;
        let prefix = self.prefix(limit).await;
        self.needed = false;
        prefix
    }

    async fn prefix(&mut self, limit: u64) -> Result<Prefix, BodyFault> {
        // What failed is over, and must not be taken for a body that ended.
        if let Some(fault) = self.meter.body_fault() {
            return Err(fault);
        }
        if self.size_hint().lower() > limit {
            // Not a byte is asked for: the agent may still be waiting for `100 Continue`.
            return Ok(Prefix::Longer(Bytes::new()));
        }
        // Early, where it said how long it is.
        if self.ahead.is_empty() && self.size_hint().lower() + buffered() > BUFFERED_BYTES_MAX {
            return Err(self.fail(BodyFault::Crowded));
        }
        self.read_ahead(limit).await
    }

    /// Has more than `bytes` of a body that nobody read yet, or all there is of it, come before it is streamed.
    ///
    /// # Errors
    /// [`BodyFault`]: there is no body to go on with.
    pub(super) async fn gather(&mut self, bytes: u64) -> Result<(), BodyFault> {
        if !self.ahead.is_empty() {
            return Ok(());
        }
        self.read_ahead(bytes).await.map(drop)
    }

    async fn read_ahead(&mut self, limit: u64) -> Result<Prefix, BodyFault> {
        let mut read = BytesMut::new();
        loop {
            let frame = poll_fn(|cx| self.poll_agent(cx)).await;
            if let Some(Ok(frame)) = &frame
                && let Some(chunk) = frame.data_ref()
                && !self.room.grow(chunk.len() as u64)
            {
                return Err(self.fail(BodyFault::Crowded));
            }
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) if read.is_empty() && self.is_over() => {
                        // The usual case, one chunk: nothing is copied.
                        self.ahead = chunk;
                        break;
                    }
                    Ok(chunk) => read.extend_from_slice(&chunk),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                None => break,
                Some(Err(fault)) => return Err(fault),
            }
            if read.len() as u64 > limit {
                self.ahead = read.freeze();
                return Ok(Prefix::Longer(self.ahead.clone()));
            }
        }
        if !read.is_empty() {
            self.ahead = read.freeze();
        }
        Ok(if self.ahead.len() as u64 > limit {
            Prefix::Longer(self.ahead.clone())
        } else {
            Prefix::Whole(self.ahead.clone())
        })
    }

    /// From here on the call's deadline stands still while the agent is waited for, and begins anew with each chunk.
    pub(super) fn pace(&mut self, call: Remote) {
        self.call = Some(call);
    }

    fn is_over(&self) -> bool {
        match &self.source {
            Source::Flowing(incoming) | Source::Awaiting(incoming) => incoming.is_end_stream(),
            Source::Over => true,
        }
    }

    /// The next frame from the agent.
    fn poll_agent(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Source::Awaiting(_) = self.source
            && let Source::Awaiting(incoming) = std::mem::replace(&mut self.source, Source::Over)
        {
            self.source = Source::Flowing(incoming);
        }
        let Source::Flowing(incoming) = &mut self.source else {
            return Poll::Ready(None);
        };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                if self.line.is_some()
                    && !matches!(frame, Some(Err(_)))
                    && self.is_over()
                    && let Some(line) = self.line.take()
                {
                    line.whole();
                }
                if let (Some(guard), Some(sweep)) = (&self.guard, &self.sweep)
                    && let Some(since) = self.waiting.take()
                {
                    guard.disarm();
                    self.waited += sweep.now().since(since);
                }
                Poll::Ready(self.take_in(frame))
            }
            Poll::Pending => self.poll_idle(cx).map(|fault| Some(Err(fault))),
        }
    }

    fn take_in(
        &mut self,
        frame: Option<Result<Frame<Bytes>, hyper::Error>>,
    ) -> Option<Result<Frame<Bytes>, BodyFault>> {
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(chunk) = frame.data_ref() {
                    self.meter
                        .bytes_in
                        .fetch_add(chunk.len() as u64, Ordering::Relaxed);
                }
                if let Some(trailers) = frame.trailers_mut() {
                    fields::clean_trailers(trailers);
                }
                Some(Ok(frame))
            }
            Some(Err(_)) => Some(Err(self.fail(BodyFault::Broken))),
            None => {
                self.source = Source::Over;
                None
            }
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<BodyFault> {
        let Some(sweep) = &self.sweep else {
            return Poll::Pending;
        };
        let begins = self
            .waiting
            .is_none()
            .then(|| (sweep.now(), self.time_left()));
        let guard = self
            .guard
            .get_or_insert_with(|| sweep.guard(None, self.tempo.idle));
        if let Some((now, left)) = begins {
            self.waiting = Some(now);
            match left {
                Some(left) if left < self.tempo.idle => guard.until(now.plus(left)),
                Some(_) | None => guard.arm(),
            }
        }
        match guard.poll(cx) {
            Poll::Ready(_) => Poll::Ready(self.fail(BodyFault::Idle)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// How much longer the agent is waited for at the rate that its body has come so far; `None`: it is a stream.
    fn time_left(&self) -> Option<Duration> {
        let sized = match &self.source {
            Source::Flowing(incoming) => incoming.size_hint().exact().is_some(),
            Source::Awaiting(_) | Source::Over => false,
        };
        let rate = u64::from(self.tempo.bytes_per_second_min);
        let earned = Duration::from_millis(self.meter.bytes_in().saturating_mul(1000) / rate);
        (sized || self.needed).then(|| (self.tempo.idle + earned).saturating_sub(self.waited))
    }

    fn fail(&mut self, fault: BodyFault) -> BodyFault {
        self.meter.fail(fault);
        // Not drained: there is nothing more, or nothing that comes.
        self.source = Source::Over;
        fault
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            this.room = Room::default();
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.ahead)))));
        }
        let polled = match this.poll_agent(cx) {
            Poll::Ready(None) => Poll::Ready(
                this.trailers
                    .take()
                    .map(|trailers| Ok(Frame::trailers(trailers))),
            ),
            polled => polled,
        };
        if let Some(call) = &this.call {
            match polled {
                Poll::Ready(_) => call.arm(),
                Poll::Pending => call.disarm(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.trailers.is_none() && self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.len() as u64;
        let rest = match &self.source {
            Source::Flowing(incoming) | Source::Awaiting(incoming) => incoming.size_hint(),
            Source::Over => SizeHint::with_exact(0),
        };
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower().saturating_add(ahead));
        // Trailers need chunks, so a body that has them has no exact size.
        if let Some(upper) = rest.upper()
            && self.trailers.is_none()
        {
            whole.set_upper(upper.saturating_add(ahead));
        }
        whole
    }
}

impl Drop for RequestBody {
    /// A body that nobody reads any longer is read a little further: closing with bytes unread resets the connection,
    /// and the agent would lose the answer that says why.
    fn drop(&mut self) {
        if let Source::Flowing(incoming) = std::mem::replace(&mut self.source, Source::Over)
            && !incoming.is_end_stream()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(drain(incoming));
        }
    }
}

async fn drain(mut incoming: Incoming) {
    let read = async {
        let mut bytes = 0;
        while bytes < DRAIN_BYTES_MAX {
            match poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, |chunk| chunk.len() as u64),
                Some(Err(_)) | None => return,
            }
        }
    };
    // What is left when time is up is dropped with the connection.
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, read).await;
}

#[cfg(test)]
mod tests;
