//! What of an HTTP/2 answer is on its way: taken from the call and not yet written to the connection.
//!
//! TCP does not tell here whether the peer takes an answer: its windows are the calls' own, and the connection goes on for
//! the others. So pieces are counted out, and in again when HTTP/2 lets go of them. What is not taken is bounded, and
//! the call's watch sees it stand still.

use crate::serve::watch::Watch;
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

/// Longest piece: peers that take less than this within `body_idle` don't read.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// Bytes on their way at once.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// Of one answer.
#[derive(Clone)]
pub(super) struct Outflow(Arc<Inner>);

struct Inner {
    stream: Arc<Watch>,
    bytes: AtomicUsize,
    waiting: Mutex<Option<Waker>>,
}

/// Bytes that count for as long as they are there.
struct Piece {
    bytes: Bytes,
    outflow: Outflow,
}

impl Outflow {
    pub fn new(stream: Arc<Watch>) -> Self {
        Self(Arc::new(Inner {
            stream,
            bytes: AtomicUsize::new(0),
            waiting: Mutex::default(),
        }))
    }

    /// Takes a piece off `rest`. `None`: the peer has to take some first; the task is woken when it has.
    pub fn piece(&self, rest: &mut Bytes, context: &Context<'_>) -> Option<Bytes> {
        if !self.is_below(OUT_BYTES_MAX, context) {
            return None;
        }
        let bytes = rest.split_to(rest.len().min(PIECE_BYTES_MAX));
        let inner = &self.0;
        if inner.bytes.fetch_add(bytes.len(), Ordering::AcqRel) == 0 {
            inner.stream.blocked();
        }
        Some(Bytes::from_owner(Piece {
            bytes,
            outflow: self.clone(),
        }))
    }

    /// Whether so little is left that the call may end; if not, the task is woken when it is worth asking again.
    pub fn may_end(&self, context: &Context<'_>) -> bool {
        self.is_below(PIECE_BYTES_MAX + 1, context)
    }

    /// As [`Outflow::may_end`], without being woken.
    pub fn is_small(&self) -> bool {
        self.0.bytes.load(Ordering::Acquire) <= PIECE_BYTES_MAX
    }

    fn is_below(&self, bytes: usize, context: &Context<'_>) -> bool {
        let inner = &self.0;
        if inner.bytes.load(Ordering::Acquire) < bytes {
            return true;
        }
        let mut waiting = inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = Some(context.waker().clone());
        drop(waiting);
        // Again: pieces may have gone before the waker was there.
        inner.bytes.load(Ordering::Acquire) < bytes
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let inner = &self.outflow.0;
        let before = inner.bytes.fetch_sub(self.bytes.len(), Ordering::AcqRel);
        inner.stream.sent();
        if before > self.bytes.len() {
            // Others wait, from now on.
            inner.stream.blocked();
        }
        let waker = inner
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
