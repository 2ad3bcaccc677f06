//! The bounded queue between callers and the writer thread.
//!
//! A **place** is the right to put one record in. Places are taken before a call is decided, two at a time, so that
//! its outcome has one however full things are by then. Places and bytes are bounded; past them, nothing is accepted.
//!
//! At level `batched` a decision's caller goes on as soon as it is in here: at most [`Batch::records_max`] of them, and the writer
//! takes them within [`Batch::wait`]. What they allowed has happened, so a disk that fails meanwhile does not undo them: they are
//! kept like outcomes. A kill loses them.

use super::ack::Acks;
use super::gather;
use super::line::Template;
use super::note::{SigningKey, VerifierKey};
use super::{Level, Unavailable};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A record that waits to be written.
#[derive(Debug)]
pub(super) struct Entry {
    pub line: Template,
    pub level: Level,
    pub fate: Fate,
}

/// What a failed write makes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its caller is told and does not go on.
    Fail,
    /// Its caller went on already, because the queue had room for it: it waits until the disk answers again.
    Batched,
    /// Something has happened already and must be written: it waits until the disk answers again.
    Keep,
}

/// What the writer finds.
#[derive(Debug)]
pub(super) enum Taken {
    /// Entries, now in the buffer handed in.
    Entries,
    /// Another key is to sign; everything handed in before is written.
    Rotation(Box<Rotation>),
    /// Nothing for as long as it would wait.
    Idle,
    /// Nothing, and nothing more will come.
    Closing,
}

/// Another key is to sign.
#[derive(Debug)]
pub(super) struct Rotation {
    pub old: VerifierKey,
    pub new: SigningKey,
    /// Told what came of it.
    pub done: SyncSender<Result<(), Unavailable>>,
}

/// The bounds of level `batched`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// Most records whose callers went on and that are not written.
    pub records_max: usize,
    /// Longest that one waits for the writer to begin.
    pub wait: Duration,
}

/// What is lost of a level `batched` when the gate is killed: no more than this.
pub(super) const BATCH: Batch = Batch {
    records_max: 4096,
    wait: Duration::from_millis(50),
};

#[derive(Debug)]
pub(super) struct Queue {
    /// At level `batched`.
    batch: Option<Batch>,
    /// Entries of fate `Batched`.
    batched: AtomicUsize,
    inner: Mutex<Inner>,
    ready: Condvar,
    pub acks: Acks,
    places: AtomicUsize,
    bytes: AtomicUsize,
    healthy: AtomicBool,
    /// Whether somebody waited in vain for a record that is still on its way.
    stalled: AtomicBool,
    pub records: AtomicU64,
    pub failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    entries: Vec<Entry>,
    rotation: Option<Rotation>,
    /// The ticket of the next entry.
    next: u64,
    asleep: bool,
    closing: bool,
    /// Somebody waits for one of the entries to be written.
    urgent: bool,
}

impl Queue {
    pub fn new(batch: Option<Batch>) -> Self {
        Queue {
            batch,
            batched: AtomicUsize::new(0),
            inner: Mutex::default(),
            ready: Condvar::new(),
            acks: Acks::default(),
            places: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            stalled: AtomicBool::new(false),
            records: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Whether records are taken: the disk neither fails nor hangs.
    pub fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire) && !self.stalled.load(Ordering::SeqCst)
    }

    /// Somebody waits no longer for this record. Until the writer gets on, nobody else begins to.
    pub fn stall(&self, ticket: u64) {
        // Set before it is asked, as the writer settles before it clears: the two can't both miss the other.
        let before = self.stalled.swap(true, Ordering::SeqCst);
        if self.acks.settled(ticket).is_some() {
            self.stalled.store(false, Ordering::SeqCst);
        } else if !before {
            self.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                "the ledger's disk does not answer: no call is forwarded until it does"
            );
        }
    }

    /// Records that wait to be written, and outcomes still to come.
    pub fn taken(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }

    /// The bounds of level `batched`, where it is that.
    pub fn batch(&self) -> Option<Batch> {
        self.batch
    }

    /// Records whose callers went on and that are not written.
    pub fn batched(&self) -> usize {
        self.batched.load(Ordering::Relaxed)
    }

    /// Whether one more caller may go on before its record is written; if so, [`Queue::push`] of that fate must follow.
    pub fn has_batch(&self) -> bool {
        let Some(batch) = self.batch else {
            return false;
        };
        let room = |count| Some(count + 1).filter(|&sum| sum <= batch.records_max);
        self.batched
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, room)
            .is_ok()
    }

    /// Takes places, all or none.
    pub fn reserve(&self, places: usize) -> Result<(), Unavailable> {
        if !self.healthy() || self.bytes.load(Ordering::Relaxed) > QUEUE_BYTES_MAX {
            return Err(Unavailable);
        }
        self.places
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |taken| {
                Some(taken + places).filter(|&sum| sum <= QUEUE_RECORDS_MAX)
            })
            .map(drop)
            .map_err(|_| Unavailable)
    }

    /// Gives places back.
    pub fn release(&self, places: usize) {
        self.places.fetch_sub(places, Ordering::AcqRel);
    }

    /// Puts a record into a reserved place; the place comes back when it is written or has failed. Its ticket.
    pub fn push(self: &Arc<Self>, entry: Entry) -> Result<u64, Unavailable> {
        let bytes = entry.line.bytes();
        let mut inner = locked(&self.inner);
        // Asked under the lock under which the writer declares a failure: nothing slips in behind it.
        if inner.closing || (entry.fate != Fate::Keep && !self.healthy.load(Ordering::Acquire)) {
            drop(inner);
            self.release(1);
            self.unbatch(usize::from(entry.fate == Fate::Batched));
            return Err(Unavailable);
        }
        let urgent = entry.fate == Fate::Fail || entry.level == Level::Sync;
        let ticket = inner.next;
        inner.next += 1;
        inner.entries.push(entry);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        inner.urgent |= urgent;
        // Whom nobody waits for is gathered: the first starts the writer's patience.
        let wake = inner.asleep && (inner.entries.len() == 1 || self.is_ripe(&inner));
        drop(inner);
        if wake && !gather::announce(self) {
            self.rouse();
        }
        Ok(ticket)
    }

    /// Wakes the writer if it sleeps.
    pub fn rouse(&self) {
        let asleep = std::mem::take(&mut locked(&self.inner).asleep);
        if asleep {
            self.ready.notify_one();
        }
    }

    /// Moves all entries into `into` (which is empty), waiting for one if there is none.
    pub fn take(&self, into: &mut Vec<Entry>, patience: Duration) -> Taken {
        let mut inner = locked(&self.inner);
        loop {
            if !inner.entries.is_empty() {
                inner = self.gather(inner);
                inner.urgent = false;
                std::mem::swap(&mut inner.entries, into);
                return Taken::Entries;
            }
            if let Some(rotation) = inner.rotation.take() {
                return Taken::Rotation(Box::new(rotation));
            }
            if inner.closing {
                return Taken::Closing;
            }
            inner.asleep = true;
            let (woken, waited) = self
                .ready
                .wait_timeout(inner, patience)
                .unwrap_or_else(PoisonError::into_inner);
            inner = woken;
            inner.asleep = false;
            let nothing = inner.entries.is_empty() && inner.rotation.is_none();
            if waited.timed_out() && nothing && !inner.closing {
                return Taken::Idle;
            }
        }
    }

    /// At level `batched`: waits for more, unless somebody waits for what there is.
    fn gather<'q>(&self, mut inner: MutexGuard<'q, Inner>) -> MutexGuard<'q, Inner> {
        let wait = self.batch.map_or(Duration::ZERO, |batch| batch.wait);
        if self.is_ripe(&inner) {
            return inner;
        }
        inner.asleep = true;
        let (mut inner, _) = self
            .ready
            .wait_timeout_while(inner, wait, |inner| !self.is_ripe(inner))
            .unwrap_or_else(PoisonError::into_inner);
        inner.asleep = false;
        inner
    }

    /// Whether what there is is to be written now.
    fn is_ripe(&self, inner: &Inner) -> bool {
        let full = |batch: Batch| inner.entries.len() >= batch.records_max / 2;
        self.batch.is_none_or(full) || inner.urgent || inner.closing || inner.rotation.is_some()
    }

    fn unbatch(&self, entries: usize) {
        if entries > 0 {
            self.batched.fetch_sub(entries, Ordering::AcqRel);
        }
    }

    /// Hands in a rotation; one at a time, and none once the queue is closed.
    pub fn rotate(&self, rotation: Rotation) -> Result<(), Unavailable> {
        let mut inner = locked(&self.inner);
        if inner.closing || inner.rotation.is_some() || !self.healthy() {
            return Err(Unavailable);
        }
        inner.rotation = Some(rotation);
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    /// Waits while the disk does not answer: only for time or the end; true at the end.
    pub fn pause(&self, span: Duration) -> bool {
        let inner = locked(&self.inner);
        let (inner, _) = self
            .ready
            .wait_timeout_while(inner, span, |inner| !inner.closing)
            .unwrap_or_else(PoisonError::into_inner);
        inner.closing
    }

    /// Nothing more is accepted but outcomes. What waited is handed over, with the ticket up to which all has failed.
    pub fn fail(&self, into: &mut Vec<Entry>) -> u64 {
        let mut inner = locked(&self.inner);
        self.healthy.store(false, Ordering::Release);
        self.failures.fetch_add(1, Ordering::Relaxed);
        into.append(&mut inner.entries);
        // Whoever waits for it is told by its going.
        inner.rotation = None;
        inner.next
    }

    /// Outcomes that came in while nothing else was accepted.
    pub fn collect(&self, into: &mut Vec<Entry>) {
        into.append(&mut locked(&self.inner).entries);
    }

    /// Everything is accepted again. The ticket of the first entry that was not collected.
    pub fn heal(&self) -> u64 {
        let inner = locked(&self.inner);
        self.healthy.store(true, Ordering::Release);
        inner.next - inner.entries.len() as u64
    }

    /// Entries have left for good, `batched` of them with callers that went on already: the writer gets on.
    pub fn gone(&self, entries: usize, batched: usize, bytes: usize) {
        if self.stalled.load(Ordering::SeqCst) {
            self.stalled.store(false, Ordering::SeqCst);
            tracing::info!("the ledger's disk answers again");
        }
        self.release(entries);
        self.unbatch(batched);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Nothing more is accepted at all.
    pub fn close(&self) {
        locked(&self.inner).closing = true;
        self.ready.notify_one();
    }
}

/// The lock, whether or not a thread died holding it: everything under these locks is whole between statements.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most places: each call in flight holds one for its outcome, so this is above the most connections there can be.
pub const QUEUE_RECORDS_MAX: usize = 65_536;
/// Past this many bytes waiting, no new call is accepted. Outcomes are, and are small.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IntentRecord;
    use crate::ledger::encode::Encoder;
    use crate::ledger::record::Event;
    use crate::policy::time::Timestamp;

    fn entry(fate: Fate) -> Entry {
        let encoder = Encoder {
            instance: "gate-1".into(),
            intent: IntentRecord::Full,
        };
        let event = Event::Strangers {
            client: None,
            count: 1,
        };
        Entry {
            line: encoder.event(&event, Timestamp::from_micros(0)),
            level: Level::Written,
            fate,
        }
    }

    #[test]
    fn while_the_disk_fails_only_outcomes_come_in_and_none_is_taken_for_written_before_it_is() {
        let queue = Arc::new(Queue::new(None));
        queue.reserve(4).unwrap();
        assert_eq!(queue.push(entry(Fate::Fail)), Ok(0));
        let mut taken = Vec::new();
        assert_eq!(queue.fail(&mut taken), 1);
        assert!(queue.reserve(1).is_err());
        assert_eq!(queue.push(entry(Fate::Fail)), Err(Unavailable));
        assert_eq!(queue.push(entry(Fate::Keep)), Ok(1));
        let mut kept = Vec::new();
        queue.collect(&mut kept);
        // One more between the last collection and the end of the fault: it is written with the next batch.
        assert_eq!(queue.push(entry(Fate::Keep)), Ok(2));
        assert_eq!(queue.heal(), 2);
        assert_eq!((taken.len(), kept.len()), (1, 1));
        assert_eq!(queue.taken(), 3, "the refused one gave its place back");
    }

    #[test]
    fn who_waited_in_vain_keeps_others_from_waiting_until_the_writer_gets_on() {
        let queue = Arc::new(Queue::new(None));
        queue.reserve(2).unwrap();
        let ticket = queue.push(entry(Fate::Fail)).unwrap();
        queue.stall(ticket);
        assert!(!queue.healthy());
        assert!(queue.reserve(1).is_err());
        assert_eq!(queue.failures.load(Ordering::Relaxed), 1);
        queue.push(entry(Fate::Keep)).unwrap();
        queue.acks.settle(2, Ok(()));
        queue.gone(2, 0, 0);
        assert!(queue.healthy());
        // Whoever gives up at the moment in which it is written stops nobody.
        queue.stall(ticket);
        queue.reserve(1).unwrap();
    }

    /// A writer that takes once, and how much it got.
    fn writer(queue: &Arc<Queue>) -> std::thread::JoinHandle<usize> {
        let taking = Arc::clone(queue);
        let writer = std::thread::spawn(move || {
            let mut taken = Vec::new();
            // Woken, or never.
            taking.take(&mut taken, Duration::from_secs(600));
            taken.len()
        });
        while !locked(&queue.inner).asleep {
            std::thread::yield_now();
        }
        writer
    }

    #[test]
    fn what_a_turn_hands_in_wakes_the_writer_once_and_all_of_it_is_taken() {
        let queue = Arc::new(Queue::new(None));
        queue.reserve(6).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build_local(Default::default());
        let runtime = runtime.unwrap();
        runtime.block_on(async {
            let gathering = tokio::task::spawn_local(gather::gathering());
            tokio::task::yield_now().await;
            let one = writer(&queue);
            for _ in 0..3 {
                queue.push(entry(Fate::Fail)).unwrap();
            }
            assert!(locked(&queue.inner).asleep, "the turn is not over");
            tokio::task::yield_now().await;
            assert_eq!(one.join().unwrap(), 3);
            // What is owed when the task ends is not forgotten, and what comes after it is not gathered.
            let two = writer(&queue);
            queue.push(entry(Fate::Keep)).unwrap();
            gathering.abort();
            assert!(gathering.await.unwrap_err().is_cancelled());
            assert_eq!(two.join().unwrap(), 1);
            let three = writer(&queue);
            queue.push(entry(Fate::Keep)).unwrap();
            assert_eq!(three.join().unwrap(), 1);
        });
    }

    #[test]
    fn past_its_bytes_the_queue_takes_no_new_call_and_still_its_outcomes() {
        let queue = Arc::new(Queue::new(None));
        queue.reserve(2).unwrap();
        queue.bytes.store(QUEUE_BYTES_MAX + 1, Ordering::Relaxed);
        assert!(queue.reserve(1).is_err());
        queue.push(entry(Fate::Keep)).unwrap();
    }
}
