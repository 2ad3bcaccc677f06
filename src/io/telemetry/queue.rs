//! Calls that wait to be sent as spans. Who settles a call puts it here and goes on: full is full, and what does not fit is
//! counted and gone.

use super::call::Call;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bounded, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Box<Call>>>,
    /// A batch is full.
    pub full: Notify,
}

impl Queue {
    /// False: there is no room.
    pub fn put(&self, call: Box<Call>) -> bool {
        let mut waiting = self.waiting();
        if waiting.len() >= CALLS_MAX {
            return false;
        }
        waiting.push_back(call);
        // Waking a thread costs more than all of this: it is done once for each batch.
        let batches = waiting.len().is_multiple_of(BATCH_CALLS);
        drop(waiting);
        if batches {
            self.full.notify_one();
        }
        true
    }

    /// The oldest, at most a batch of them.
    #[allow(
        clippy::vec_box,
        reason = "as they were put: the lock is held while they move"
    )]
    pub fn take(&self) -> Vec<Box<Call>> {
        let mut waiting = self.waiting();
        let count = waiting.len().min(BATCH_CALLS);
        waiting.drain(..count).collect()
    }

    /// Everything, for nobody will send it any more: how many spans.
    pub fn empty(&self) -> usize {
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.iter().map(|call| call.spans()).sum()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Box<Call>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most calls that wait.
pub(super) const CALLS_MAX: usize = 8192;
/// Most calls in one message.
pub(super) const BATCH_CALLS: usize = 512;
