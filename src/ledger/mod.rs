//! The ledger: the append-only, hash-chained record of intent and outcome.
//!
//! A call's decision is recorded before a byte leaves, its outcome after the last byte. What can't be recorded is not
//! forwarded. Records are canonical JSON (RFC 8785), one a line, each with the SHA-256 of the line before it.
//!
//! The path of a record: [`encode`] on the caller's thread, a place in the bounded [`queue`], the one [`writer`]
//! thread, a segment in [`storage`], and back to the caller by an [`ack`]. [`recover`] finds the end of the chain at
//! start; [`verify`] proves it, [`query`] reads it back. The ledger asks no clock, decides nothing, and never edits what it wrote.

mod ack;
pub mod checkpoint;
mod clean;
mod encode;
mod flush;
mod line;
pub mod note;
pub mod query;
mod queue;
mod recent;
pub mod record;
mod recover;
pub mod replay;
pub mod storage;
pub mod tree;
pub mod verify;
mod writer;

use crate::config::LedgerSettings;
use crate::policy::time::Timestamp;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub use ack::Ack;
use encode::{Damage, Encoder};
use flush::Flusher;
use line::Template;
pub use line::rfc3339;
use queue::{Entry, Fate, Queue, locked};
pub use recent::Recent;
use record::{DecisionRecord, Event, OutcomeRecord};
use recover::Cut;
use storage::{Disk, Storage};
use writer::{Bounds, Tail, Writer};

/// A handle to the one open ledger; clones are the same. The last one to go drains and closes it.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Core>);

#[derive(Debug)]
struct Core {
    queue: Arc<Queue>,
    encoder: Encoder,
    directory: PathBuf,
    thread: Mutex<Option<JoinHandle<Result<(), Unavailable>>>>,
}

/// How far a record must have got before its writer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// In the kernel's hands: survives the gate being killed.
    Written,
    /// `fdatasync` has returned: survives power loss, as far as the disk honours a flush.
    Sync,
}

/// The ledger can't take a record: full queue, or a write that failed. Nothing may be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger can't take a record now")]
pub struct Unavailable;

/// Why the ledger can't be opened. The gate does not start.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// Two gates can't append to one chain.
    #[error(
        "ledger: {} is held by another gate (process {holder}); stop it, or give this one its own `ledger.directory`",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Process id, as the holder wrote it.
        holder: String,
    },
    /// The system refuses.
    #[error("ledger: {}: {text}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        text: String,
    },
    /// The file that names the instance holds something else.
    #[error(
        "ledger: {} does not hold a name (letters, digits, `-`, `_`, `.`); put the instance's name back, every record \
         has it",
        path.display()
    )]
    Instance {
        /// The file.
        path: PathBuf,
    },
    /// The chain is broken by something other than a torn tail.
    #[error(
        "ledger: {0}; keep the directory as evidence and give the gate another `ledger.directory`, nothing is cut away"
    )]
    Broken(verify::BadLine),
    /// No thread for the writer.
    #[error("ledger: no thread for the writer: {0}")]
    Thread(String),
}

impl LedgerError {
    fn io(path: &Path, error: &io::Error) -> Self {
        LedgerError::Io {
            path: path.to_owned(),
            text: error.to_string(),
        }
    }
}

/// What metrics show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerStats {
    /// Places taken: records that wait to be written, and outcomes still to come.
    pub queue: u64,
    /// Records written since the start.
    pub records: u64,
    /// Times a write or sync failed since the start.
    pub failures: u64,
}

impl Ledger {
    /// Opens the ledger in its directory, goes on behind its last whole line, and says in a record what was cut off. `clock`
    /// is the wall's: the ledger asks it only for what no record dates.
    ///
    /// # Errors
    /// [`LedgerError`], which names the file and says why.
    pub fn open(
        settings: &LedgerSettings,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Ledger, LedgerError> {
        let disk = Disk::open(&settings.directory, clock())?;
        Ledger::open_on(Box::new(disk), settings, clock)
    }

    /// The same, on any storage.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open_on(
        mut storage: Box<dyn Storage>,
        settings: &LedgerSettings,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Ledger, LedgerError> {
        let now = clock();
        let recovered = recover::recover(storage.as_mut())?;
        let encoder = Encoder {
            instance: storage.instance().into(),
            intent: settings.intent,
        };
        let queue = Arc::new(Queue::new());
        let mut tail = Tail::new(recovered.name, recovered.file, now);
        (tail.bytes, tail.since) = (recovered.bytes, recovered.since);
        let mut writer = Writer {
            queue: Arc::clone(&queue),
            storage,
            encoder: encoder.clone(),
            bounds: Bounds {
                bytes_max: settings.segment_bytes_max,
                age_max: settings.segment_age_max,
            },
            chain: recovered.chain,
            tail,
            seen: now,
            buffer: Vec::new(),
            kept: Vec::new(),
            flusher: Flusher::start().map_err(|error| LedgerError::Thread(error.to_string()))?,
        };
        for cut in &recovered.cuts {
            let line = of_cut(&encoder, cut, now);
            writer
                .put(std::iter::once(&line), true)
                .map_err(|error| LedgerError::io(&settings.directory.join(&cut.name), &error))?;
            queue.records.fetch_add(1, Ordering::Relaxed);
        }
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || writer.run())
            .map_err(|error| LedgerError::Thread(error.to_string()))?;
        Ok(Ledger(Arc::new(Core {
            queue,
            encoder,
            directory: settings.directory.clone(),
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Two places in the queue: for a call's decision and for its outcome.
    ///
    /// # Errors
    /// [`Unavailable`]: the call must be refused.
    pub fn reserve(&self) -> Result<Slot, Unavailable> {
        self.0.queue.reserve(2)?;
        Ok(Slot {
            ledger: self.clone(),
            places: 2,
        })
    }

    /// Records what is not a call. It takes its place in the order of records now, not when the answer is awaited.
    pub fn append(&self, event: &Event<'_>, time: Timestamp, level: Level) -> Ack {
        let pushed = self.0.queue.reserve(1).and_then(|()| {
            let line = self.0.encoder.event(event, time);
            self.0.queue.push(Entry {
                line,
                level,
                fate: Fate::Fail,
            })
        });
        Ack::new(pushed, &self.0.queue)
    }

    /// Records among the newest `bytes_max` bytes whose line has `needle` in it. Reads files: not for the data plane.
    ///
    /// # Errors
    /// What the system says.
    pub fn recent(&self, needle: &str, bytes_max: u64) -> io::Result<Recent> {
        recent::containing(&self.0.directory, needle, bytes_max)
    }

    /// Whether records are taken.
    pub fn healthy(&self) -> bool {
        self.0.queue.healthy()
    }

    /// What metrics show.
    pub fn stats(&self) -> LedgerStats {
        let queue = &self.0.queue;
        LedgerStats {
            queue: queue.taken() as u64,
            records: queue.records.load(Ordering::Relaxed),
            failures: queue.failures.load(Ordering::Relaxed),
        }
    }

    /// Writes and syncs what waits, then ends the writer; blocks until then. Whatever is handed in after is refused.
    ///
    /// # Errors
    /// [`Unavailable`]: the disk fails and outcomes could not be written.
    pub fn close(&self) -> Result<(), Unavailable> {
        self.0.close()
    }
}

impl Core {
    fn close(&self) -> Result<(), Unavailable> {
        self.queue.close();
        let thread = locked(&self.thread).take();
        thread.map_or(Ok(()), |thread| thread.join().unwrap_or(Err(Unavailable)))
    }

    fn push(&self, line: Template, level: Level, fate: Fate) -> Result<u64, Unavailable> {
        self.queue.push(Entry { line, level, fate })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.close().is_err() {
            tracing::error!("the ledger was closed with outcomes unwritten");
        }
    }
}

/// The right to record one call: its decision, then its outcome.
#[derive(Debug)]
pub struct Slot {
    ledger: Ledger,
    /// Of the two.
    places: usize,
}

impl Slot {
    /// Records the decision. Nothing may leave before the answer is `Ok`.
    ///
    /// A second decision in one slot is refused: its place is the outcome's.
    pub fn decide(&mut self, record: &DecisionRecord<'_>, level: Level) -> Ack {
        let core = &self.ledger.0;
        let pushed = if self.places == 2 {
            self.places = 1;
            core.push(core.encoder.decision(record), level, Fate::Fail)
        } else {
            Err(Unavailable)
        };
        Ack::new(pushed, &core.queue)
    }

    /// Records the outcome. Never waits; it is written as soon as the disk takes it, while the process lives.
    pub fn settle(mut self, record: &OutcomeRecord<'_>) {
        self.places -= 1;
        let core = &self.ledger.0;
        let line = core.encoder.outcome(record);
        if core.push(line, Level::Written, Fate::Keep).is_err() {
            tracing::warn!(request = %record.request, "an outcome came after the ledger was closed");
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.ledger.0.queue.release(self.places);
    }
}

fn of_cut(encoder: &Encoder, cut: &Cut, now: Timestamp) -> Template {
    let detail = format!("{} bytes of a torn tail were cut off", cut.bytes);
    let damage = Damage {
        kept: Some((&cut.name, cut.kept)),
        cut: Some((cut.bytes, cut.sha256)),
    };
    let version = env!("CARGO_PKG_VERSION");
    encoder.gate("recovered", version, &detail, &damage, now)
}
