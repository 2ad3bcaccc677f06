//! The writer: one thread that gives every record its `seq` and `prev` and appends it.
//!
//! Group commit: it takes all that waits, writes it with one `write(2)`, syncs once if any of it asked for that, and
//! only then acknowledges. What did not ask is synced in the background, within a commit window; and what is synced is
//! sealed with a checkpoint ([`super::seal`]), once a window while records come, once a minute while none do, and at the end.
//! When the disk fails it stops at once ([`super::mend`]); where a segment was begun, old ones may go ([`super::retain`]). An acknowledged line is never moved, rewritten or repeated.

use super::encode::{Encoder, Particulars};
use super::flush::Flusher;
use super::line::Template;
use super::note::SigningKey;
use super::queue::{Entry, Fate, Queue, Rotation, Taken, locked};
use super::roots::{End, Roots};
use super::seal::{Sealer, Synced};
use super::storage::{Segment, Storage, segment_name, write_all};
use super::{Level, Unavailable};
use crate::policy::time::Timestamp;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Everything the thread owns.
pub(super) struct Writer {
    pub queue: Arc<Queue>,
    pub storage: Box<dyn Storage>,
    pub encoder: Encoder,
    pub bounds: Bounds,
    /// Behind the last acknowledged line.
    pub log: End,
    pub tail: Tail,
    pub roots: Roots,
    /// The newest time seen: what a fault's own record is dated from, and how long ago things were.
    pub seen: Timestamp,
    /// The wall's clock, for what no record dates.
    pub clock: Clock,
    /// Finished lines on their way.
    pub buffer: Vec<u8>,
    /// Outcomes that wait for the disk.
    pub kept: Vec<Entry>,
    /// Syncs what is at level `written`, and seals.
    pub flusher: Flusher,
    /// Locked by whoever seals or mends; never by two at once.
    pub sealer: Arc<Mutex<Sealer>>,
    pub sealed: Sealed,
    /// `checkpoints` is being written anew.
    pub trimming: bool,
    /// A segment was begun, so an old one may be due to go.
    pub rolled: bool,
}

/// The wall's.
pub(super) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The checkpoint begun last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub size: u64,
    pub time: Timestamp,
}

/// When a segment is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub bytes_max: u64,
    pub age_max: Duration,
    /// How long records are kept.
    pub retain: Duration,
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
    /// When it was last begun to sync what was not.
    pub flushed: Timestamp,
    /// Bytes that are on the disk for certain.
    pub synced: u64,
    /// And those that are once the flush under way is over.
    pub flushing: u64,
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
            if std::mem::take(&mut self.rolled) {
                self.retain();
                // It may have found the disk failing.
                continue;
            }
            let patience = match relay {
                true => RELAY,
                false => self.patience(),
            };
            match self.queue.take(&mut entries, patience) {
                Taken::Entries => relay = self.commit(&mut entries),
                Taken::Idle if relay => relay = self.queue.acks.wake(),
                Taken::Idle => self.rest(patience),
                Taken::Rotation(rotation) => self.rotate(*rotation),
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

    /// Appends lines to the log, as a whole or not at all.
    pub fn put<'t>(
        &mut self,
        lines: impl Iterator<Item = &'t Template>,
        sync: bool,
    ) -> io::Result<()> {
        // A flush or a seal that failed meanwhile: nothing more goes into this segment.
        self.flusher.look()?;
        self.roll()?;
        let mut log = self.log.clone();
        let mut seen = self.seen;
        self.buffer.clear();
        for line in lines {
            let start = self.buffer.len();
            line.finish(log.chain.next, &log.chain.head, &mut self.buffer);
            log.advance(&self.buffer[start..self.buffer.len() - 1]);
            seen = line.time;
        }
        self.seen = seen;
        let file = self.tail.file.as_mut().ok_or_else(no_segment)?;
        write_all(file.as_mut(), &self.buffer)?;
        self.tail.dirty = true;
        if sync {
            self.sync()?;
        }
        // The last thing that can fail: once a flush is begun, a checkpoint of these lines may follow.
        self.flush(&log)?;
        let tail = &mut self.tail;
        tail.since.get_or_insert(seen);
        tail.bytes += self.buffer.len() as u64;
        self.log = log;
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
        let name = segment_name(self.log.size());
        let file = self.begin_segment(&name)?;
        self.tail = Tail::new(name, self.tail.flushed);
        self.tail.file = Some(file);
        self.rolled = true;
        Ok(())
    }

    /// A new segment behind all that is acknowledged; `roots` says so first.
    pub(super) fn begin_segment(&mut self, name: &str) -> io::Result<Box<dyn Segment>> {
        self.roots.begin(name, &self.log, (self.clock)())?;
        self.storage.append(name, 0)
    }

    /// Everything written is on the disk when this returns.
    fn sync(&mut self) -> io::Result<()> {
        self.flusher.join_sync()?;
        let tail = &mut self.tail;
        if tail.dirty {
            tail.file.as_mut().ok_or_else(no_segment)?.sync()?;
            tail.dirty = false;
            // At the least: a batch that was just written counts only once it is acknowledged.
            (tail.synced, tail.flushing) = (tail.bytes, tail.bytes);
        }
        Ok(())
    }

    /// Once a window: begins to sync in the background what is not, and to seal what then is, the log up to `log`.
    fn flush(&mut self, log: &End) -> io::Result<()> {
        let tail = &mut self.tail;
        // A clock that was set back must not put it off.
        tail.flushed = tail.flushed.min(self.seen);
        let due = self.seen.since(tail.flushed) >= FLUSH_AFTER;
        let open = tail.dirty || log.size() > self.sealed.size;
        if !open || !due || self.flusher.busy() {
            return Ok(());
        }
        // None is under way and none has failed.
        tail.synced = tail.flushing;
        let mut segment = None;
        if tail.dirty {
            match tail.file.as_ref().ok_or_else(no_segment)?.twin() {
                Ok(twin) => segment = Some(twin),
                // No descriptor to spare: slower, not worse.
                Err(_) => self.sync()?,
            }
        }
        self.seal(segment, log, None)?;
        // What is written from here on is for the next one.
        (self.tail.dirty, self.tail.flushed) = (false, self.seen);
        self.tail.flushing = self.tail.bytes;
        Ok(())
    }

    /// Begins to sync the segment, and then to sign that the log is as it is now.
    fn seal(
        &mut self,
        segment: Option<Box<dyn Segment>>,
        log: &End,
        next: Option<SigningKey>,
    ) -> io::Result<()> {
        self.adopt()?;
        let synced = Synced {
            size: log.size(),
            root: log.tree.root(),
            time: (self.clock)(),
        };
        let sealer = Arc::clone(&self.sealer);
        let then = Box::new(move || locked(&sealer).seal(synced, next));
        self.flusher.begin(segment, then)?;
        self.sealed = Sealed {
            size: synced.size,
            time: synced.time,
        };
        Ok(())
    }

    /// The same, of all there is, and waits for it.
    fn seal_now(&mut self, next: Option<SigningKey>) -> io::Result<()> {
        self.sync()?;
        self.flusher.join()?;
        let log = self.log.clone();
        self.seal(None, &log, next)?;
        self.flusher.join()
    }

    /// How long nothing may come before it is looked whether something is due.
    fn patience(&self) -> Duration {
        let open = self.tail.dirty || self.log.size() > self.sealed.size || self.flusher.busy();
        if open { FLUSH_AFTER / 3 } else { COMMIT_WINDOW }
    }

    /// Nothing was to do for that long: what is only in the kernel's hands goes to the disk, and that nothing happens is sealed.
    fn rest(&mut self, span: Duration) {
        self.seen = self.seen.plus(span);
        let log = self.log.clone();
        let rested = self.flusher.look().and_then(|()| self.flush(&log));
        if let Err(error) = rested.and_then(|()| self.seal_silence(&log)) {
            self.poison(&error, &mut Vec::new());
        }
    }

    fn seal_silence(&mut self, log: &End) -> io::Result<()> {
        let now = (self.clock)();
        self.sealed.time = self.sealed.time.min(now);
        let due = now.since(self.sealed.time) >= SILENCE;
        if !due || self.tail.dirty || self.flusher.busy() {
            return Ok(());
        }
        self.seal(None, log, None)
    }

    /// Another key signs from here on: a record says so, then a checkpoint that both keys sign.
    fn rotate(&mut self, rotation: Rotation) {
        let Rotation { old, new, done } = rotation;
        let particulars = Particulars {
            rotated: Some((&old, new.verifier())),
            ..Particulars::default()
        };
        let (version, now) = (env!("CARGO_PKG_VERSION"), (self.clock)());
        let detail = "another key signs checkpoints from here on";
        let line = self
            .encoder
            .gate("key_rotated", version, detail, &particulars, now);
        let put = self.put(std::iter::once(&line), true);
        if put.is_ok() {
            self.queue.records.fetch_add(1, Ordering::Relaxed);
        }
        let rotated = put.and_then(|()| self.seal_now(Some(new)));
        let _ = done.send(rotated.as_ref().map_err(|_| Unavailable).copied());
        if let Err(error) = rotated {
            self.poison(&error, &mut Vec::new());
        }
    }

    /// The end: all that was written is synced and sealed. `Err` if outcomes are left.
    fn end(&mut self) -> Result<(), Unavailable> {
        if self.tail.file.is_some()
            && let Err(error) = self.seal_now(None)
        {
            self.poison(&error, &mut Vec::new());
        }
        if self.kept.is_empty() {
            Ok(())
        } else {
            Err(Unavailable)
        }
    }

    /// Entries that are written, or never will be, give their places back.
    pub(super) fn discard(&self, entries: impl Iterator<Item = Entry>, written: bool) {
        let (mut count, mut batched, mut bytes) = (0, 0, 0);
        for entry in entries {
            count += 1;
            batched += usize::from(entry.fate == Fate::Batched);
            bytes += entry.line.bytes();
        }
        self.queue.gone(count, batched, bytes);
        if written {
            self.queue
                .records
                .fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

impl Tail {
    /// A segment without a record, not open yet.
    pub fn new(name: String, now: Timestamp) -> Self {
        Tail {
            name,
            file: None,
            bytes: 0,
            since: None,
            dirty: false,
            flushed: now,
            synced: 0,
            flushing: 0,
            fault: String::new(),
        }
    }
}

fn no_segment() -> io::Error {
    io::Error::other("no segment is open")
}

/// Most that is written at once, unless one record is longer.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// What power loss may cost of records at level `written`, and what a checkpoint may be behind.
const COMMIT_WINDOW: Duration = Duration::from_secs(1);
/// A flush is begun this long after the last one, so that it is over within the window.
const FLUSH_AFTER: Duration = Duration::from_millis(750);
/// While no record comes, a checkpoint this often shows that none did.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a woken caller has to wake its neighbours before the writer does.
const RELAY: Duration = Duration::from_millis(1);
