//! One direction of a tunnel: read, judge, write; never more in hand than one buffer.

use super::frames::{Frames, Nonsense};
use crate::io::sweep::Guard;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes in hand of one direction. What a tunnel costs in memory, twice.
const BUFFER_BYTES: usize = 16 * 1024;

/// Rounds before another task has its turn, whatever is ready.
const ROUNDS_MAX: usize = 32;

/// One direction, from its source to its sink.
pub(super) struct Flow {
    pub frames: Frames,
    buffer: Box<[u8]>,
    /// What of the buffer is not written yet.
    start: usize,
    end: usize,
    unflushed: bool,
    stage: Stage,
    /// Watches the sink while it takes nothing.
    stall: Guard,
    stalled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The source has ended; the sink is to be told.
    Ended,
    /// Nothing that came next may pass.
    Nonsense,
    Over,
}

/// Why a direction can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The source's connection failed.
    Source,
    /// The source sent a frame that makes no sense.
    Nonsense,
    /// The sink's connection failed.
    Sink,
    /// The sink took nothing for too long.
    Stall,
}

/// What came of polling a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It waits.
    Waiting,
    /// The source has ended, and the sink knows.
    Over,
}

impl Flow {
    pub(super) fn new(frames: Frames, stall: Guard) -> Self {
        Self {
            frames,
            buffer: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            unflushed: false,
            stage: Stage::Open,
            stall,
            stalled: false,
        }
    }

    /// Whether the source has sent its last.
    pub(super) fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended | Stage::Over)
    }

    /// Whether a frame of the gate's own may be written to the sink: it stands between two frames and says no Close twice.
    pub(super) fn may_say_close(&self) -> bool {
        self.start == self.end
            && self.frames.at_boundary()
            && !self.frames.closing()
            && self.stage != Stage::Over
    }

    /// Goes on. `moved` is told how many bytes each read brought that may pass.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        moved: impl Fn(usize),
    ) -> Result<Turn, Break>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..ROUNDS_MAX {
            match self.round(cx, source, sink, &moved) {
                Poll::Ready(Ok(Some(turn))) => return Ok(turn),
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Err(broken)) => return Err(broken),
                Poll::Pending => return Ok(Turn::Waiting),
            }
        }
        cx.waker().wake_by_ref();
        Ok(Turn::Waiting)
    }

    fn round<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        moved: &impl Fn(usize),
    ) -> Poll<Result<Option<Turn>, Break>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.start < self.end || self.unflushed {
            ready!(self.write(cx, sink))?;
            return Poll::Ready(Ok(None));
        }
        match self.stage {
            Stage::Open => {
                let read = ready!(self.read(cx, source));
                let bytes = read.map_err(|_| Break::Source)?;
                if bytes > 0 {
                    moved(bytes);
                }
                Poll::Ready(Ok(None))
            }
            Stage::Nonsense => Poll::Ready(Err(Break::Nonsense)),
            Stage::Ended => {
                // A sink that is gone already needs no telling.
                let _ = ready!(Pin::new(sink).poll_shutdown(cx));
                self.stage = Stage::Over;
                Poll::Ready(Ok(Some(Turn::Over)))
            }
            Stage::Over => Poll::Ready(Ok(Some(Turn::Over))),
        }
    }

    fn read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
    ) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(source).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        if read == 0 {
            self.stage = Stage::Ended;
            return Poll::Ready(Ok(0));
        }
        let sound = match self.frames.read(&self.buffer[..read]) {
            Ok(()) => read,
            Err(Nonsense { sound }) => {
                self.stage = Stage::Nonsense;
                sound
            }
        };
        (self.start, self.end) = (0, sound);
        Poll::Ready(Ok(sound))
    }

    /// Until the sink has all that is in hand.
    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut W,
    ) -> Poll<Result<(), Break>> {
        while self.start < self.end {
            let rest = &self.buffer[self.start..self.end];
            match Pin::new(&mut *sink).poll_write(cx, rest) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Break::Sink)),
                Poll::Ready(Ok(written)) => {
                    self.start += written;
                    self.unflushed = true;
                    self.taken();
                }
                Poll::Pending => return self.wait(cx),
            }
        }
        match Pin::new(sink).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                self.taken();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Break::Sink)),
            Poll::Pending => self.wait(cx),
        }
    }

    fn taken(&mut self) {
        if std::mem::take(&mut self.stalled) {
            self.stall.disarm();
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Break>> {
        if !std::mem::replace(&mut self.stalled, true) {
            self.stall.arm();
        }
        self.stall.poll(cx).map(|_| Err(Break::Stall))
    }
}
