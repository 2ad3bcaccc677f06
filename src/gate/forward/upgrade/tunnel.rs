//! The open tunnel: bytes both ways until one side is done, or the session is.

use super::super::super::body::Meter;
use super::flow::{Break, Flow, Turn};
use super::frames::{Frames, Sender, close};
use super::handshake::{Extensions, Handshake};
use crate::io::clock;
use crate::io::sweep::{Guard, Lapse, Liveness, Sweep};
use crate::io::upstream::{Lease, Tunnel as BackendStream};
use crate::ledger::record::{Fault, FrameCounts};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

/// A backend that has switched, and an agent that is about to be told. Dropped, it closes the backend.
pub struct Tunnel {
    handshake: Handshake,
    backend: Backend,
    /// Of the handshake; settled, so that only the session's life is watched.
    guard: Guard,
    watch: Watch,
    meter: Arc<Meter>,
    extensions: Extensions,
}

/// By what an open tunnel is watched.
pub(super) struct Watch {
    pub sweep: Arc<Sweep>,
    pub session: Arc<dyn Liveness>,
}

/// The backend's side.
pub(super) struct Backend {
    pub stream: BackendStream,
    /// Must outlive the stream.
    pub _lease: Lease,
}

/// How long what may stand still.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Both sides: no byte from either, pings and pongs included.
    pub idle: Duration,
    /// One side: takes nothing of what the other sends.
    pub stall: Duration,
}

/// A tunnel's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What went through.
    pub frames: FrameCounts,
    /// How it ended, other than by a Close frame.
    pub fault: Option<Fault>,
}

/// Both directions of an open tunnel.
struct Pipes {
    agent: TokioIo<Upgraded>,
    backend: Backend,
    inward: Flow,
    outward: Flow,
    /// The session's life, and silence on both sides.
    guard: Guard,
    meter: Arc<Meter>,
    /// The agent's side ended first.
    agent_first: bool,
}

/// Why a tunnel is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both sides sent their last.
    Over,
    /// The session was revoked, expired or quarantined.
    Session,
    /// Neither side sent anything.
    Idle,
    /// The gate stops.
    Stopped,
    Agent(Break),
    Backend(Break),
}

/// What the gate's own Close frames have to be out in: who does not take them at once is not waited for.
const FAREWELL_MAX: Duration = Duration::from_millis(250);

// RFC 6455 section 7.4.1.
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const POLICY_VIOLATION: u16 = 1008;

impl Tunnel {
    pub(super) fn new(
        handshake: Handshake,
        backend: Backend,
        guard: Guard,
        watch: Watch,
        meter: Arc<Meter>,
        extensions: Extensions,
    ) -> Self {
        Self {
            handshake,
            backend,
            guard,
            watch,
            meter,
            extensions,
        }
    }

    /// Carries frames until the end. To be driven from the moment on that the agent is answered; `ended` is told before
    /// the agent's connection is let go.
    pub async fn run(
        self,
        bounds: Bounds,
        mut stopping: watch::Receiver<bool>,
        ended: impl FnOnce(Ended),
    ) {
        let agent = match self.guard.watch(self.handshake.agent.clone()).await {
            Ok(Ok(upgraded)) => TokioIo::new(upgraded),
            // It went away before it could be told.
            Ok(Err(_)) => return ended(Ended::unopened(Fault::AgentLeft)),
            Err(_) => return ended(Ended::unopened(Fault::SessionEnded)),
        };
        let mut pipes = self.open(agent, bounds);
        let end = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => End::Stopped,
            end = poll_fn(|cx| pipes.poll(cx)) => end,
        };
        ended(pipes.ended(end));
        let _ = tokio::time::timeout(FAREWELL_MAX, pipes.farewell(end)).await;
    }

    fn open(self, agent: TokioIo<Upgraded>, bounds: Bounds) -> Pipes {
        let Watch { sweep, session } = self.watch;
        let guard = sweep.guard(Some(session), bounds.idle);
        guard.arm();
        let flow = |sender| {
            let frames = Frames::new(sender, self.extensions);
            Flow::new(frames, sweep.guard(None, bounds.stall))
        };
        Pipes {
            agent,
            inward: flow(Sender::Agent),
            outward: flow(Sender::Backend),
            backend: self.backend,
            guard,
            meter: self.meter,
            agent_first: false,
        }
    }
}

impl Pipes {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // Before anything that is ready: sides that never pause must not outlive the session.
        match self.guard.poll(cx) {
            Poll::Ready(Lapse::Ended) => return Poll::Ready(End::Session),
            Poll::Ready(Lapse::Deadline) => return Poll::Ready(End::Idle),
            Poll::Pending => {}
        }
        let (guard, meter) = (&self.guard, &self.meter);
        let (agent, backend) = (&mut self.agent, &mut self.backend.stream);
        let inward = self.inward.poll(cx, agent, backend, |bytes| {
            guard.arm();
            meter.count_in(bytes);
        });
        if inward == Ok(Turn::Over) && !self.outward.ended() {
            self.agent_first = true;
        }
        let outward = self.outward.poll(cx, backend, agent, |bytes| {
            guard.arm();
            meter.count_out(bytes);
        });
        match (inward, outward) {
            (Err(broken), _) => Poll::Ready(End::of_inward(broken)),
            (_, Err(broken)) => Poll::Ready(End::of_outward(broken)),
            (Ok(Turn::Over), Ok(Turn::Over)) => Poll::Ready(End::Over),
            (Ok(Turn::Waiting), Ok(_)) | (Ok(_), Ok(Turn::Waiting)) => Poll::Pending,
        }
    }

    fn ended(&self, end: End) -> Ended {
        // Once either side has said that it closes, it does not matter how their connections end.
        let closing = self.inward.frames.closing() || self.outward.frames.closing();
        Ended {
            frames: FrameCounts {
                received: self.inward.frames.count(),
                sent: self.outward.frames.count(),
            },
            fault: end.fault(closing, self.agent_first),
        }
    }

    /// Tells both sides why it ends, as far as the frames under way let it, and closes.
    async fn farewell(&mut self, end: End) {
        if let Some((agent, backend)) = end.codes() {
            if self.outward.may_say_close() {
                say(&mut self.agent, &close(agent, None)).await;
            }
            if self.inward.may_say_close() {
                let frame = close(backend, Some(clock::random()));
                say(&mut self.backend.stream, &frame).await;
            }
        }
        // Whoever is gone already can't be told.
        let _ = self.backend.stream.shutdown().await;
        let _ = self.agent.shutdown().await;
        // Closing a socket with unread input resets it, and a reset overtakes what was said last.
        let _ = tokio::io::copy(&mut self.agent, &mut tokio::io::sink()).await;
    }
}

async fn say(sink: &mut (impl AsyncWrite + Unpin), frame: &[u8]) {
    // Whoever is gone already can't be told.
    if sink.write_all(frame).await.is_ok() {
        let _ = sink.flush().await;
    }
}

impl End {
    fn of_inward(broken: Break) -> Self {
        match broken {
            Break::Source | Break::Nonsense => End::Agent(broken),
            Break::Sink | Break::Stall => End::Backend(broken),
        }
    }

    fn of_outward(broken: Break) -> Self {
        match broken {
            Break::Source | Break::Nonsense => End::Backend(broken),
            Break::Sink | Break::Stall => End::Agent(broken),
        }
    }

    /// As the outcome records it.
    fn fault(self, closing: bool, agent_first: bool) -> Option<Fault> {
        match self {
            End::Session => Some(Fault::SessionEnded),
            End::Stopped => Some(Fault::GateStopped),
            End::Agent(Break::Nonsense) => Some(Fault::AgentFailed),
            End::Backend(Break::Nonsense) => Some(Fault::UpstreamBroke),
            End::Over | End::Idle | End::Agent(_) | End::Backend(_) if closing => None,
            End::Idle => Some(Fault::Idle),
            End::Over if agent_first => Some(Fault::AgentLeft),
            End::Over => Some(Fault::UpstreamBroke),
            End::Agent(Break::Source | Break::Sink | Break::Stall) => Some(Fault::AgentLeft),
            End::Backend(Break::Stall) => Some(Fault::UpstreamTimeout),
            End::Backend(Break::Source | Break::Sink) => Some(Fault::UpstreamBroke),
        }
    }

    /// What the gate itself says, to the agent and to the backend; nothing where it is one of them that ends it.
    fn codes(self) -> Option<(u16, u16)> {
        match self {
            End::Session => Some((POLICY_VIOLATION, GOING_AWAY)),
            End::Idle | End::Stopped => Some((GOING_AWAY, GOING_AWAY)),
            End::Agent(Break::Nonsense) => Some((PROTOCOL_ERROR, GOING_AWAY)),
            End::Backend(Break::Nonsense) => Some((GOING_AWAY, PROTOCOL_ERROR)),
            End::Over | End::Agent(_) | End::Backend(_) => None,
        }
    }
}

impl Ended {
    fn unopened(fault: Fault) -> Self {
        Self {
            frames: FrameCounts::default(),
            fault: Some(fault),
        }
    }
}
