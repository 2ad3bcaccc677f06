//! How a caller learns that its record is written: a ticket, and a watermark that passes it.
//!
//! Tickets are numbered in the order of the queue and settled in that order, so "everything below N is settled" is one
//! atomic. Waking is what costs: a wake-up from another thread is a system call on the runtime it goes to. Waiters of
//! one thread therefore share a **hub**, the writer wakes one of them, and that one, running on the thread they all
//! live on, wakes the rest for next to nothing. Should the woken one not come (its task went on with something else),
//! the writer wakes the rest itself a millisecond later: [`Acks::wake`] says whether it must look again.

use super::Unavailable;
use super::queue::{Queue, locked};
use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Resolves when the record is as safe as was asked. Dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "a record that was not acknowledged may not be there"]
pub struct Ack(State);

#[derive(Debug)]
enum State {
    /// Known from the start, or has given its answer.
    Known(Result<(), Unavailable>),
    /// Not yet known.
    Waiting {
        queue: Arc<Queue>,
        ticket: u64,
        /// The hub it waits in, once it was polled.
        hub: Option<usize>,
    },
}

impl Ack {
    pub(super) fn new(pushed: Result<u64, Unavailable>, queue: &Arc<Queue>) -> Self {
        Ack(match pushed {
            Ok(ticket) => State::Waiting {
                queue: Arc::clone(queue),
                ticket,
                hub: None,
            },
            Err(Unavailable) => State::Known(Err(Unavailable)),
        })
    }

    /// The caller has waited long enough and refuses its call. The record may still be written: its outcome must be, too.
    ///
    /// Until the writer gets on, the ledger takes nothing more: those who come are refused at once and not after as long.
    pub fn late(self) {
        if let State::Waiting { queue, ticket, .. } = &self.0 {
            queue.stall(*ticket);
        }
    }

    /// Its caller need not wait for the writer.
    pub(super) fn known(result: Result<(), Unavailable>) -> Self {
        Ack(State::Known(result))
    }

    fn leave(&mut self) {
        if let State::Waiting {
            queue,
            ticket,
            hub: Some(hub),
        } = &self.0
        {
            queue.acks.leave(*hub, *ticket);
        }
        self.0 = State::Known(Err(Unavailable));
    }
}

impl Future for Ack {
    type Output = Result<(), Unavailable>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (queue, ticket, hub) = match &mut self.0 {
            State::Known(result) => return Poll::Ready(*result),
            State::Waiting { queue, ticket, hub } => (queue, ticket, hub),
        };
        let place = *hub.get_or_insert_with(hub_of_thread);
        let settled = queue
            .acks
            .settled(*ticket)
            .or_else(|| queue.acks.wait(place, *ticket, context.waker()));
        match settled {
            None => Poll::Pending,
            Some(result) => {
                self.leave();
                Poll::Ready(result)
            }
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Who waits, and how far things are settled.
#[derive(Debug)]
pub(super) struct Acks {
    /// Every ticket below is settled.
    below: AtomicU64,
    /// No ticket below this one failed: spares the look into `failed`.
    first_failed: AtomicU64,
    /// Tickets that failed, in order.
    failed: Mutex<Vec<Range<u64>>>,
    hubs: [Hub; HUBS],
}

#[derive(Debug, Default)]
struct Hub {
    /// How many wait, so that an empty hub is passed without its lock.
    count: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order of their tickets, which is nearly that of their coming and of their going.
    tasks: VecDeque<(u64, Waker)>,
    /// One was woken and is to wake the others.
    relayed: bool,
}

impl Default for Acks {
    fn default() -> Self {
        Acks {
            below: AtomicU64::new(0),
            first_failed: AtomicU64::new(u64::MAX),
            failed: Mutex::default(),
            hubs: std::array::from_fn(|_| Hub::default()),
        }
    }
}

impl Acks {
    /// What became of a ticket, if that is known.
    pub fn settled(&self, ticket: u64) -> Option<Result<(), Unavailable>> {
        // SeqCst here, in `settle`, and on `count`: a waiter that registers and a writer that settles must not both
        // miss the other.
        if self.below.load(Ordering::SeqCst) <= ticket {
            return None;
        }
        if ticket < self.first_failed.load(Ordering::Acquire) {
            return Some(Ok(()));
        }
        let failed = locked(&self.failed)
            .iter()
            .any(|range| range.contains(&ticket));
        Some(if failed { Err(Unavailable) } else { Ok(()) })
    }

    /// Every ticket below is settled. For the writer, the only one to change it.
    pub fn below(&self) -> u64 {
        self.below.load(Ordering::Relaxed)
    }

    /// Settles every ticket below `below` that is not settled yet. [`Acks::wake`] must follow.
    pub fn settle(&self, below: u64, result: Result<(), Unavailable>) {
        let from = self.below.load(Ordering::Relaxed);
        if result.is_err() && from < below {
            let mut failed = locked(&self.failed);
            match failed.last_mut() {
                Some(last) if last.end == from => last.end = below,
                _ => failed.push(from..below),
            }
            if failed.len() > FAILED_RANGES_MAX {
                // Joined to one: whoever still waits from before the first of them is told a failure, never a success.
                failed[1].start = failed[0].start;
                failed.remove(0);
            }
            self.first_failed.fetch_min(from, Ordering::Release);
        }
        self.below.store(below, Ordering::SeqCst);
    }

    /// Wakes those that are settled; true if it must be called again though nothing more is settled.
    pub fn wake(&self) -> bool {
        let mut again = false;
        for hub in &self.hubs {
            if hub.count.load(Ordering::SeqCst) == 0 {
                continue;
            }
            let mut waiting = locked(&hub.waiting);
            let below = self.below.load(Ordering::SeqCst);
            let woken = if waiting.relayed {
                waiting.relayed = false;
                waiting.take(below)
            } else {
                let due = waiting.is_due(below);
                let first = if due { waiting.tasks.pop_front() } else { None };
                waiting.relayed = first.is_some() && waiting.is_due(below);
                again |= waiting.relayed;
                first.into_iter().collect()
            };
            hub.count.store(waiting.tasks.len(), Ordering::SeqCst);
            drop(waiting);
            woken.into_iter().for_each(|(_, waker)| waker.wake());
        }
        again
    }

    /// Enters the list, unless it is settled meanwhile.
    fn wait(&self, hub: usize, ticket: u64, waker: &Waker) -> Option<Result<(), Unavailable>> {
        let hub = &self.hubs[hub];
        let mut waiting = locked(&hub.waiting);
        match waiting.place(ticket) {
            Ok(at) => waiting.tasks[at].1.clone_from(waker),
            Err(at) => waiting.tasks.insert(at, (ticket, waker.clone())),
        }
        hub.count.store(waiting.tasks.len(), Ordering::SeqCst);
        drop(waiting);
        self.settled(ticket)
    }

    /// Leaves the list, and passes the word on if it was the one to do so.
    fn leave(&self, hub: usize, ticket: u64) {
        let hub = &self.hubs[hub];
        let mut waiting = locked(&hub.waiting);
        if let Ok(own) = waiting.place(ticket) {
            waiting.tasks.remove(own);
        }
        let mut woken = Vec::new();
        if waiting.relayed {
            waiting.relayed = false;
            woken = waiting.take(self.below.load(Ordering::SeqCst));
        }
        hub.count.store(waiting.tasks.len(), Ordering::SeqCst);
        drop(waiting);
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Waiting {
    /// Where a ticket stands, or would.
    fn place(&self, ticket: u64) -> Result<usize, usize> {
        self.tasks.binary_search_by_key(&ticket, |task| task.0)
    }

    fn is_due(&self, below: u64) -> bool {
        self.tasks.front().is_some_and(|task| task.0 < below)
    }

    fn take(&mut self, below: u64) -> Vec<(u64, Waker)> {
        let due = self.tasks.partition_point(|task| task.0 < below);
        self.tasks.drain(..due).collect()
    }
}

/// Threads are spread over the hubs as they come.
fn hub_of_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static HUB: usize = THREADS.fetch_add(1, Ordering::Relaxed) % HUBS;
    }
    HUB.with(|hub| *hub)
}

/// More threads than this share hubs, which costs wake-ups and nothing else.
const HUBS: usize = 16;
/// Spells of failure that are told apart.
const FAILED_RANGES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Four waiters in one hub.
    fn waiting(acks: &Acks) -> [Arc<Bell>; 4] {
        let bells: [Arc<Bell>; 4] = std::array::from_fn(|_| Arc::default());
        for (ticket, bell) in (0..).zip(&bells) {
            assert_eq!(acks.wait(3, ticket, &Waker::from(Arc::clone(bell))), None);
        }
        bells
    }

    /// How often each was woken.
    fn rung(bells: &[Arc<Bell>; 4]) -> [usize; 4] {
        std::array::from_fn(|at| bells[at].0.load(Ordering::Relaxed))
    }

    #[test]
    fn one_waiter_is_woken_and_wakes_the_others_that_are_settled() {
        let acks = Acks::default();
        let bells = waiting(&acks);
        acks.settle(3, Ok(()));
        assert!(acks.wake(), "two more are due");
        assert_eq!(rung(&bells), [1, 0, 0, 0]);
        acks.leave(3, 0);
        assert_eq!(rung(&bells), [1, 1, 1, 0]);
        assert!(!acks.wake(), "nothing is due");
        acks.settle(4, Ok(()));
        assert!(!acks.wake(), "nobody is left to be woken");
        assert_eq!(rung(&bells), [1, 1, 1, 1]);
    }

    #[test]
    fn where_the_woken_one_does_not_come_the_writer_wakes_the_others() {
        let acks = Acks::default();
        let bells = waiting(&acks);
        acks.settle(4, Ok(()));
        assert!(acks.wake());
        assert!(!acks.wake());
        assert_eq!(rung(&bells), [1, 1, 1, 1]);
    }

    #[test]
    fn a_ticket_that_failed_is_told_so_however_late_it_asks() {
        let acks = Acks::default();
        for spell in 0..3000 {
            acks.settle(2 * spell + 1, Ok(()));
            acks.settle(2 * spell + 2, Err(Unavailable));
        }
        acks.settle(10_000, Ok(()));
        assert_eq!(acks.settled(9_999), Some(Ok(())));
        assert_eq!(acks.settled(10_000), None);
        assert_eq!(acks.settled(5_999), Some(Err(Unavailable)));
        assert_eq!(acks.settled(5_998), Some(Ok(())));
        assert_eq!(acks.settled(1), Some(Err(Unavailable)));
    }
}
