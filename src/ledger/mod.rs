//! The ledger: the append-only, hash-chained record of intent and outcome.
//!
//! A call's decision is recorded before a byte leaves, its outcome after the last byte. What can't be recorded is not
//! forwarded. Records are canonical JSON (RFC 8785), one a line, each with the SHA-256 of the line before it.
//!
//! The path of a record: [`encode`] on the caller's thread, a place in the bounded [`queue`], the one [`writer`]
//! thread, a segment in [`storage`], and back to the caller by an [`ack`]. [`recover`] finds the end of the chain at
//! start; [`verify`] proves it, [`query`] reads it back. The ledger asks no clock, decides nothing, and never edits what it wrote.

mod ack;
mod begin;
pub mod checkpoint;
pub mod clean;
mod encode;
mod flush;
mod gather;
mod judge;
pub mod keys;
mod line;
mod mend;
pub mod note;
pub mod proof;
pub mod query;
mod queue;
pub mod record;
mod recover;
pub mod replay;
mod retain;
pub mod roots;
pub mod seal;
pub mod storage;
pub mod tree;
pub mod verify;
mod writer;

use crate::config::{LedgerLevel, LedgerSettings};
use crate::policy::time::Timestamp;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub use ack::Ack;
pub use clean::{untold, without_tokens};
use encode::Encoder;
pub use gather::gathering;
use line::Template;
pub use line::{rfc3339, timestamp};
use note::{SigningKey, VerifierKey};
use queue::{BATCH, Entry, Fate, Queue, Rotation, locked};
use record::{DecisionRecord, Event, OutcomeRecord};
use seal::Newest;
use storage::{Disk, Storage};
use writer::Writer;

/// A handle to the one open ledger; clones are the same. The last one to go drains and closes it.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Core>);

#[derive(Debug)]
struct Core {
    queue: Arc<Queue>,
    encoder: Encoder,
    directory: PathBuf,
    newest: Arc<Newest>,
    /// Nothing is acknowledged below it.
    level: LedgerLevel,
    thread: Mutex<Option<JoinHandle<Result<(), Unavailable>>>>,
}

/// How far a record must have got before its writer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// In the kernel's hands: survives the gate being killed. Of decisions less than that where the configuration says
    /// `batched`, more where it says `sync`.
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
    /// The log ends before what a checkpoint covers.
    #[error(
        "ledger: {} has a checkpoint of {size} records, and there are {records}: records are missing at the end, as where an \
         older copy was put back; put the newest copy back, or keep the directory as evidence and give the gate another \
         `ledger.directory`", witness.display()
    )]
    Cut {
        /// The file of checkpoints, or the anchor file.
        witness: PathBuf,
        /// Records that it saw.
        size: u64,
        /// Records that there are.
        records: u64,
    },
    /// The log's records are not those that were signed.
    #[error(
        "ledger: the first {size} records in {} are not those that {} has a checkpoint of: they were changed, or are \
         another log's; keep the directory as evidence and give the gate another `ledger.directory`",
        directory.display(), witness.display()
    )]
    Edited {
        /// Of the ledger.
        directory: PathBuf,
        /// The file of checkpoints, or the anchor file.
        witness: PathBuf,
        /// Records that it saw.
        size: u64,
    },
    /// The checkpoints are not as they were written.
    #[error(
        "ledger: {}: {why}; `toolgate ledger verify` says what can still be proven; put the file back as it was, or keep the \
         directory as evidence and give the gate another `ledger.directory`", path.display()
    )]
    Checkpoints {
        /// The file of checkpoints, or the anchor file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Older segments were dropped, and what their tree was is not there.
    #[error(
        "ledger: {} has no line that fits {segment}, the oldest segment: without it nothing more can be proven; put the file \
         back as it was", path.display()
    )]
    Roots {
        /// The file.
        path: PathBuf,
        /// The first segment there is.
        segment: String,
    },
    /// The key that signs checkpoints can't be used.
    #[error("ledger: {}: {fault}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: keys::KeyFault,
    },
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
    /// Times a write or sync failed, or was given up waiting for, since the start.
    pub failures: u64,
    /// Records that the newest checkpoint covers.
    pub checkpointed: u64,
    /// Level `batched`: records whose callers went on and that are not written; a kill loses them.
    pub batched: u64,
    /// The most of those there can be; 0 at another level.
    pub batched_max: u64,
    /// How long one of them may wait to be written, while the disk answers; zero at another level.
    pub batched_wait: Duration,
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
        let instance = disk.instance().to_owned();
        let key = |signer: Option<&VerifierKey>| keys::load(settings, &instance, signer, random);
        Ledger::open_on(Box::new(disk), key, settings, clock)
    }

    /// The same, on any storage, with the key that `key` gives when it is told who has signed so far.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open_on(
        mut storage: Box<dyn Storage>,
        key: impl FnOnce(Option<&VerifierKey>) -> Result<SigningKey, LedgerError>,
        settings: &LedgerSettings,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Ledger, LedgerError> {
        let recovered = recover::recover(storage.as_mut(), key, settings.anchor_file.as_deref())?;
        let newest = Arc::new(Newest::new(recovered.key.verifier().clone()));
        let encoder = Encoder {
            instance: storage.instance().into(),
            intent: settings.intent,
        };
        let batch = (settings.level == LedgerLevel::Batched).then_some(BATCH);
        let queue = Arc::new(Queue::new(batch));
        let writer = Writer::begin(
            recovered,
            storage,
            settings,
            Arc::clone(&queue),
            Arc::clone(&newest),
            Arc::new(clock),
        )?;
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || writer.run())
            .map_err(|error| LedgerError::Thread(error.to_string()))?;
        Ok(Ledger(Arc::new(Core {
            queue,
            encoder,
            directory: settings.directory.clone(),
            newest,
            level: settings.level,
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
            self.0.push(line, self.0.at_least(level), Fate::Fail)
        });
        Ack::new(pushed, &self.0.queue)
    }

    /// The newest checkpoint, as a signed note. It covers only what is on the disk.
    pub fn checkpoint(&self) -> Option<Arc<str>> {
        self.0.newest.note()
    }

    /// Who signs checkpoints.
    pub fn verifier(&self) -> VerifierKey {
        self.0.newest.verifier()
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// From here on `new` signs: a record says so, and a checkpoint that both keys sign. Blocks until that is on the disk.
    ///
    /// # Errors
    /// [`Unavailable`]: the disk fails or the ledger is closed. The log may have the record without the checkpoint then, and
    /// the old key signs on; it can be tried again.
    pub fn rotate(&self, new: SigningKey) -> Result<(), Unavailable> {
        let (done, answer) = std::sync::mpsc::sync_channel(1);
        let old = self.verifier();
        self.0.queue.rotate(Rotation { old, new, done })?;
        answer.recv().unwrap_or(Err(Unavailable))
    }

    /// Whether records are taken.
    pub fn healthy(&self) -> bool {
        self.0.queue.healthy()
    }

    /// The name of this log, which all of its records carry.
    pub fn instance(&self) -> &str {
        &self.0.encoder.instance
    }

    /// What metrics show.
    pub fn stats(&self) -> LedgerStats {
        let queue = &self.0.queue;
        let batch = queue.batch();
        LedgerStats {
            batched: queue.batched() as u64,
            batched_max: batch.map_or(0, |batch| batch.records_max as u64),
            batched_wait: batch.map_or(Duration::ZERO, |batch| batch.wait),
            queue: queue.taken() as u64,
            records: queue.records.load(Ordering::Relaxed),
            failures: queue.failures.load(Ordering::Relaxed),
            checkpointed: self.0.newest.size(),
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

    /// What the configuration makes of a level that was asked for. An outcome stays what it is: nobody waits for it.
    fn at_least(&self, level: Level) -> Level {
        match self.level {
            LedgerLevel::Sync => Level::Sync,
            LedgerLevel::Written | LedgerLevel::Batched => level,
        }
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
    /// Records the decision. Nothing may leave before the answer is `Ok`. At [`Level::Sync`] that is when it is on the disk,
    /// whatever the configuration says of other calls.
    ///
    /// A second decision in one slot is refused: its place is the outcome's.
    pub fn decide(&mut self, record: &DecisionRecord<'_>, level: Level) -> Ack {
        let core = &self.ledger.0;
        if self.places != 2 {
            return Ack::known(Err(Unavailable));
        }
        self.places = 1;
        let (line, level) = (core.encoder.decision(record), core.at_least(level));
        if level == Level::Written && core.queue.has_batch() {
            return Ack::known(core.push(line, level, Fate::Batched).map(drop));
        }
        Ack::new(core.push(line, level, Fate::Fail), &core.queue)
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

/// From the system's generator.
fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator works");
    bytes
}
