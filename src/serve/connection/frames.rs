//! HTTP/2: a budget for frames that ask nothing of the gate and cost it work all the same.
//!
//! h2 bounds what such frames can make it keep: streams that are reset before anybody looked (CVE-2023-44487) or by the
//! gate itself (CVE-2025-8671), the length of a head in CONTINUATION frames (RUSTSEC-2024-0332), tiny pieces of a body. What
//! it lets pass as often as a peer likes are PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, calls that are given up
//! as soon as they began, and frames that nobody knows (CVE-2019-9511 to 9518). Each draws on the connection's budget, which
//! time and real work fill again. Who is through with it is told to calm down (ENHANCE_YOUR_CALM), and closed.
//!
//! It reads heads of frames and nothing else, and changes nothing of what passes.

use super::socket::{Socket, Stream};
use crate::serve::watch::{SWEEP_EVERY, Watch};
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection may spend at once.
const BUDGET_MAX: u32 = 4000;
/// What a second gives back.
const BUDGET_PER_SECOND: u32 = 1000;
/// What is earned by a head or a piece of a body that the gate sends: who reads says so with two frames.
const EARNED: u32 = 4;
/// A piece of a body that is shorter earns nothing, or a window of one byte would pay for itself.
const PIECE_BYTES_MIN: u32 = 64;

/// Length of the connection's preface, which is no frame.
const PREFACE_BYTES: u32 = 24;
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A stream whose frames are counted.
pub(super) struct Frames<S> {
    pub stream: S,
    watch: Arc<Watch>,
    from_peer: Cursor,
    to_peer: Cursor,
    budget: Budget,
    /// The last stream that the peer has opened.
    last_stream: u32,
}

/// Where one direction stands among its frames.
#[derive(Debug, Default)]
struct Cursor {
    head: [u8; HEAD_BYTES],
    have: usize,
    /// Bytes of the payload that are to come.
    left: u32,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
struct Head {
    kind: u8,
    flags: u8,
    bytes: u32,
    stream: u32,
}

#[derive(Debug)]
struct Budget {
    left: u32,
    /// The sweep up to which time has been paid for.
    paid: u32,
}

impl<S: Stream> Frames<S> {
    pub fn new(stream: S, watch: &Arc<Watch>) -> Self {
        Self {
            stream,
            watch: Arc::clone(watch),
            from_peer: Cursor {
                left: PREFACE_BYTES,
                ..Cursor::default()
            },
            to_peer: Cursor::default(),
            budget: Budget {
                left: BUDGET_MAX,
                paid: watch.sweep(),
            },
            last_stream: 0,
        }
    }

    /// What is to be said to a peer that is through with its budget; nothing, if it is not, or if it would fall into the
    /// middle of a frame.
    pub fn last_words(&self) -> Option<Bytes> {
        if self.budget.left > 0 || self.to_peer.left > 0 || self.to_peer.have > 0 {
            return None;
        }
        let mut goaway = vec![0, 0, 8, GOAWAY, 0, 0, 0, 0, 0];
        goaway.extend(self.last_stream.to_be_bytes());
        goaway.extend(ENHANCE_YOUR_CALM.to_be_bytes());
        Some(goaway.into())
    }

    fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self {
            from_peer,
            budget,
            last_stream,
            watch,
            ..
        } = self;
        from_peer.pass(bytes, |head| {
            if head.kind == HEADERS {
                *last_stream = head.stream.max(*last_stream);
            }
            budget.spend(cost(head));
        });
        if budget.left == 0 {
            budget.refill(watch.sweep());
        }
        if budget.left == 0 {
            self.socket().admission.turn_away();
            return Err(io::Error::other("too many frames that ask nothing"));
        }
        Ok(())
    }

    fn sent(&mut self, bytes: &[u8]) {
        let Self {
            to_peer, budget, ..
        } = self;
        to_peer.pass(bytes, |head| {
            if head.kind == HEADERS || head.kind == DATA && head.bytes >= PIECE_BYTES_MIN {
                budget.earn(EARNED);
            }
        });
    }
}

/// What a frame from a peer draws on the budget.
fn cost(head: Head) -> u32 {
    match head.kind {
        DATA if head.bytes == 0 && head.flags & END_STREAM == 0 => 4,
        // Calls have their own bounds.
        DATA | HEADERS => 0,
        // A call was begun for nothing.
        RST_STREAM => 10,
        SETTINGS if head.flags & ACK == 0 => 10,
        // It is answered.
        PING if head.flags & ACK == 0 => 4,
        CONTINUATION if head.bytes == 0 => 4,
        // PRIORITY, WINDOW_UPDATE, what nobody knows.
        _ => 1,
    }
}

impl Cursor {
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(Head)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let here = usize::try_from(self.left).map_or(bytes.len(), |it| it.min(bytes.len()));
                bytes = &bytes[here..];
                // No more than was left.
                self.left -= here as u32;
                continue;
            }
            let here = (HEAD_BYTES - self.have).min(bytes.len());
            self.head[self.have..self.have + here].copy_from_slice(&bytes[..here]);
            self.have += here;
            bytes = &bytes[here..];
            if self.have == HEAD_BYTES {
                self.have = 0;
                let head = Head::of(&self.head);
                self.left = head.bytes;
                each(head);
            }
        }
    }
}

impl Head {
    fn of(head: &[u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *head;
        Self {
            kind,
            flags,
            bytes: u32::from_be_bytes([0, a, b, c]),
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }
}

impl Budget {
    fn spend(&mut self, cost: u32) {
        self.left = self.left.saturating_sub(cost);
    }

    fn earn(&mut self, earned: u32) {
        self.left = (self.left + earned).min(BUDGET_MAX);
    }

    /// Looked at only when it is empty: a connection within its budget reads no clock.
    fn refill(&mut self, sweep: u32) {
        let sweeps = sweep.wrapping_sub(self.paid);
        self.paid = sweep;
        // No more than a thousand milliseconds in a sweep.
        let each = BUDGET_PER_SECOND * SWEEP_EVERY.as_millis() as u32 / 1000;
        self.earn(each.saturating_mul(sweeps.min(BUDGET_MAX)));
    }
}

impl<S: Stream> Stream for Frames<S> {
    fn socket(&mut self) -> &mut Socket {
        self.stream.socket()
    }
}

impl<S: Stream> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.received(&buffer.filled()[before..]))
    }
}

impl<S: Stream> AsyncWrite for Frames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        let mut left = written;
        for slice in slices {
            let here = left.min(slice.len());
            self.sent(&slice[..here]);
            left -= here;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_wherever_a_read_ends() {
        let mut wire = vec![b'P'; PREFACE_BYTES as usize];
        wire.extend([0, 0, 3, DATA, END_STREAM, 0x80, 0, 0, 5, b'a', b'b', b'c']);
        wire.extend([0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]);
        for size in 1..=wire.len() {
            let mut cursor = Cursor {
                left: PREFACE_BYTES,
                ..Cursor::default()
            };
            let mut seen = Vec::new();
            for piece in wire.chunks(size) {
                cursor.pass(piece, |head| {
                    seen.push((head.kind, head.flags, head.bytes, head.stream));
                });
            }
            assert_eq!(seen, [(DATA, END_STREAM, 3, 5), (SETTINGS, ACK, 0, 0)]);
        }
    }

    #[test]
    fn time_and_work_fill_a_budget_and_neither_beyond_its_bound() {
        let mut budget = Budget {
            left: BUDGET_MAX,
            paid: 7,
        };
        budget.earn(EARNED);
        assert_eq!(budget.left, BUDGET_MAX);
        budget.spend(BUDGET_MAX + 1);
        budget.refill(8);
        assert_eq!(budget.left, 250, "a quarter of a second");
        budget.spend(250);
        budget.refill(8);
        assert_eq!(budget.left, 0, "time is paid for once");
        budget.refill(u32::MAX);
        assert_eq!(budget.left, BUDGET_MAX);
    }
}
