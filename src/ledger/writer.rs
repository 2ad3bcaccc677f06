//! The writer: one thread that gives every record its `seq` and `prev` and appends it.
//!
//! Group commit: it takes all that waits, writes it with one `write(2)`, syncs once if any of it asked for that, and
//! only then acknowledges. What did not ask is synced in the background, within a commit window. When the disk fails it stops at once: everything pending fails, nothing is accepted but
//! outcomes of what has happened already, and the segment is never written again. Once the disk answers, a new segment
//! begins with a record of the fault, which says how many bytes of the old one count; then the outcomes follow.
//! An acknowledged line is never moved, rewritten or repeated.

use super::encode::{Damage, Encoder};
use super::flush::Flusher;
use super::line::Template;
use super::queue::{Entry, Fate, Queue, Taken};
use super::storage::{Segment, Storage, segment_name};
use super::verify::Chain;
use super::{Level, Unavailable};
use crate::policy::time::Timestamp;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Everything the thread owns.
pub(super) struct Writer {
    pub queue: Arc<Queue>,
    pub storage: Box<dyn Storage>,
    pub encoder: Encoder,
    pub bounds: Bounds,
    pub chain: Chain,
    pub tail: Tail,
    /// The newest time seen: what a fault's own record is dated from, for the ledger asks no clock.
    pub seen: Timestamp,
    /// Finished lines on their way.
    pub buffer: Vec<u8>,
    /// Outcomes that wait for the disk.
    pub kept: Vec<Entry>,
    /// Syncs what is at level `written`.
    pub flusher: Flusher,
}

/// When a segment is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub bytes_max: u64,
    pub age_max: Duration,
}

/// The segment that is written to.
pub(super) struct Tail {
    pub name: String,
    /// Absent while the disk fails.
    pub file: Option<Box<dyn Segment>>,
    /// Acknowledged bytes.
    pub bytes: u64,
    /// Time of its first record.
    pub since: Option<Timestamp>,
    /// Whether anything is not synced.
    pub dirty: bool,
    pub synced: Timestamp,
    /// What the disk said.
    pub fault: String,
}

impl Writer {
    /// Until the queue is closed and empty. `Err` if outcomes could not be written.
    pub fn run(mut self) -> Result<(), Unavailable> {
        let mut entries = Vec::new();
        let mut relay = false;
        loop {
            if self.tail.file.is_none() && !self.wait_for_disk() {
                return self.end();
            }
            let patience = if relay { RELAY } else { COMMIT_WINDOW };
            match self.queue.take(&mut entries, patience) {
                Taken::Entries => relay = self.commit(&mut entries),
                Taken::Idle if relay => relay = self.queue.acks.wake(),
                Taken::Idle => self.rest(),
                Taken::Closing => return self.end(),
            }
        }
    }

    /// Writes what was taken, in batches of bounded size. True if waiters must be woken again later.
    fn commit(&mut self, entries: &mut Vec<Entry>) -> bool {
        let mut relay = false;
        let mut settled = self.queue.acks.below();
        while !entries.is_empty() {
            let mut bytes = 0;
            let count = entries
                .iter()
                .position(|entry| {
                    bytes += entry.line.bytes();
                    bytes > BATCH_BYTES_MAX
                })
                .unwrap_or(entries.len())
                .max(1);
            let sync = entries[..count]
                .iter()
                .any(|entry| entry.level == Level::Sync);
            let written = self.put(entries[..count].iter().map(|entry| &entry.line), sync);
            if let Err(error) = written {
                self.poison(&error, entries);
                return false;
            }
            settled += count as u64;
            self.queue.acks.settle(settled, Ok(()));
            relay = self.queue.acks.wake();
            self.discard(entries.drain(..count), true);
        }
        relay
    }

    /// Appends lines to the chain, as a whole or not at all.
    pub fn put<'t>(
        &mut self,
        lines: impl Iterator<Item = &'t Template>,
        sync: bool,
    ) -> io::Result<()> {
        // A flush that failed meanwhile: nothing more goes into this segment.
        self.flusher.look()?;
        self.roll()?;
        let mut chain = self.chain;
        let mut seen = self.seen;
        self.buffer.clear();
        for line in lines {
            let start = self.buffer.len();
            line.finish(chain.next, &chain.head, &mut self.buffer);
            chain.advance(&self.buffer[start..self.buffer.len() - 1]);
            seen = line.time;
        }
        self.seen = seen;
        let file = self.tail.file.as_mut().ok_or_else(no_segment)?;
        write_all(file.as_mut(), &self.buffer)?;
        self.tail.dirty = true;
        if sync {
            self.sync()?;
        } else {
            self.flush()?;
        }
        let tail = &mut self.tail;
        tail.since.get_or_insert(seen);
        tail.bytes += self.buffer.len() as u64;
        self.chain = chain;
        if self.buffer.capacity() > 2 * BATCH_BYTES_MAX {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Begins a new segment if this one is full or old. The old one is synced first, so that a durable line never
    /// stands behind one that is not.
    fn roll(&mut self) -> io::Result<()> {
        let age = self
            .tail
            .since
            .map_or(Duration::ZERO, |since| self.seen.since(since));
        let full = self.tail.bytes >= self.bounds.bytes_max || age >= self.bounds.age_max;
        if self.tail.bytes == 0 || !full {
            return Ok(());
        }
        self.sync()?;
        let name = segment_name(self.chain.next);
        let file = self.storage.append(&name, 0)?;
        self.tail = Tail::new(name, file, self.seen);
        Ok(())
    }

    /// Everything written is on the disk when this returns.
    fn sync(&mut self) -> io::Result<()> {
        self.flusher.join()?;
        if self.tail.dirty {
            self.tail.file.as_mut().ok_or_else(no_segment)?.sync()?;
            (self.tail.dirty, self.tail.synced) = (false, self.seen);
        }
        Ok(())
    }

    /// Begins to sync in the background what is older than a commit window.
    fn flush(&mut self) -> io::Result<()> {
        let tail = &mut self.tail;
        // A clock that was set back must not put the sync off.
        tail.synced = tail.synced.min(self.seen);
        let due = self.seen.since(tail.synced) >= COMMIT_WINDOW;
        if !tail.dirty || !due || self.flusher.busy() {
            return Ok(());
        }
        let file = tail.file.as_ref().ok_or_else(no_segment)?;
        let Ok(twin) = file.twin() else {
            // No descriptor to spare: slower, not worse.
            return self.sync();
        };
        self.flusher.begin(twin)?;
        // What is written from here on is for the next one.
        (tail.dirty, tail.synced) = (false, self.seen);
        Ok(())
    }

    /// Nothing was to do for a commit window: what is only in the kernel's hands goes to the disk.
    fn rest(&mut self) {
        self.seen = self.seen.plus(COMMIT_WINDOW);
        let flushed = self.flusher.look().and_then(|()| self.flush());
        if let Err(error) = flushed {
            self.poison(&error, &mut Vec::new());
        }
    }

    /// The end: all that was written is synced. `Err` if outcomes are left.
    fn end(&mut self) -> Result<(), Unavailable> {
        if self.tail.file.is_some()
            && let Err(error) = self.sync()
        {
            self.poison(&error, &mut Vec::new());
        }
        if self.kept.is_empty() {
            Ok(())
        } else {
            Err(Unavailable)
        }
    }

    /// The disk failed. Nothing that waits is acknowledged; outcomes are kept.
    fn poison(&mut self, error: &io::Error, entries: &mut Vec<Entry>) {
        tracing::error!(
            segment = %self.storage.place(&self.tail.name).display(), %error,
            "the ledger can't be written: no call is forwarded until it can"
        );
        self.tail.file = None;
        self.tail.fault = error.to_string();
        let below = self.queue.fail(entries);
        self.queue.acks.settle(below, Err(Unavailable));
        while self.queue.acks.wake() {}
        let (kept, failed): (Vec<_>, Vec<_>) = entries
            .drain(..)
            .partition(|entry| entry.fate == Fate::Keep);
        self.kept.extend(kept);
        self.discard(failed.into_iter(), false);
    }

    fn discard(&self, entries: impl Iterator<Item = Entry>, written: bool) {
        let (mut count, mut bytes) = (0, 0);
        for entry in entries {
            count += 1;
            bytes += entry.line.bytes();
        }
        self.queue.gone(count, bytes);
        if written {
            self.queue
                .records
                .fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Tries to begin anew until it works (true) or the ledger is closed (false).
    fn wait_for_disk(&mut self) -> bool {
        let retry_after = self.storage.retry_after();
        // Sooner the first time: most faults are over at once.
        let mut pause = retry_after / 5;
        loop {
            let closing = self.queue.pause(pause);
            self.seen = self.seen.plus(pause);
            pause = retry_after;
            match self.mend() {
                Ok(()) => {
                    tracing::info!(segment = %self.tail.name, "the ledger can be written again");
                    return true;
                }
                Err(error) => {
                    tracing::warn!(%error, "the ledger still can't be written");
                    self.tail.file = None;
                }
            }
            if closing {
                let lost = self.kept.len();
                tracing::error!(
                    lost,
                    "the ledger is closed with outcomes that can't be written"
                );
                return false;
            }
        }
    }

    /// A new segment: the fault, then the outcomes that were kept, all synced; then calls are accepted again.
    fn mend(&mut self) -> io::Result<()> {
        if let Err(error) = self.flusher.join() {
            tracing::debug!(%error, "a flush of the segment that failed has failed too");
        }
        let (name, bytes) = (self.tail.name.clone(), self.tail.bytes);
        let fresh = segment_name(self.chain.next);
        if fresh != name {
            // For those who read with other tools. Whether or not it works, the record below says what counts.
            if let Err(error) = self.storage.cut(&name, bytes) {
                tracing::warn!(segment = %name, %error, "the torn tail can't be cut off");
            }
        }
        let mut file = self.storage.append(&fresh, 0)?;
        let damage = Damage {
            // A segment without an acknowledged byte is begun again under its own name.
            kept: (fresh != name).then_some((&*name, bytes)),
            cut: None,
        };
        let version = env!("CARGO_PKG_VERSION");
        let fault = &self.tail.fault;
        let first = self
            .encoder
            .gate("fault", version, fault, &damage, self.seen);
        let (mut chain, mut lines) = (self.chain, Vec::new());
        // Outcomes that came in meanwhile.
        let mut kept = std::mem::take(&mut self.kept);
        self.queue.collect(&mut kept);
        for line in std::iter::once(&first).chain(kept.iter().map(|entry| &entry.line)) {
            let start = lines.len();
            line.finish(chain.next, &chain.head, &mut lines);
            chain.advance(&lines[start..lines.len() - 1]);
        }
        let written = write_all(file.as_mut(), &lines).and_then(|()| file.sync());
        if let Err(error) = written {
            self.kept = kept;
            return Err(error);
        }
        self.chain = chain;
        self.tail = Tail::new(fresh, file, self.seen);
        self.tail.bytes = lines.len() as u64;
        self.tail.since = Some(self.seen);
        self.queue.records.fetch_add(1, Ordering::Relaxed);
        self.discard(kept.into_iter(), true);
        let below = self.queue.heal();
        self.queue.acks.settle(below, Ok(()));
        Ok(())
    }
}

impl Tail {
    /// A segment without a record.
    pub fn new(name: String, file: Box<dyn Segment>, now: Timestamp) -> Self {
        Tail {
            name,
            file: Some(file),
            bytes: 0,
            since: None,
            dirty: false,
            synced: now,
            fault: String::new(),
        }
    }
}

fn no_segment() -> io::Error {
    io::Error::other("no segment is open")
}

fn write_all(file: &mut dyn Segment, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Most that is written at once, unless one record is longer.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// What power loss may cost of records at level `written`.
const COMMIT_WINDOW: Duration = Duration::from_secs(1);
/// How long a woken caller has to wake its neighbours before the writer does.
const RELAY: Duration = Duration::from_millis(1);
