//! Retention: whole segments are dropped, oldest first, once all their records are older than they are to be kept.
//!
//! Never the open one, and never one whose successor has no line in `roots`: from there everything later can still be proven.
//! A `dropped` record is on the disk before the file goes; a segment that is missing without one was taken away. Where the
//! removal fails or is killed, the next round says it again. Checkpoints that cover nothing but dropped records go too, but for
//! those that name a key and the newest of them, which shows that no other is missing; not before that halves their file.

use super::checkpoint::Checkpoint;
use super::encode::Particulars;
use super::line::{Template, time_of};
use super::note::{NOTE_BYTES_MAX, Note};
use super::queue::locked;
use super::roots::Starts;
use super::seal::{CHECKPOINTS, DRAFT, Sealer, behind_note};
use super::storage::{Segment, first_seq, write_all};
use super::verify::LINE_BYTES_MAX;
use super::writer::Writer;
use crate::policy::time::Timestamp;
use std::io::{self, BufRead as _, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A segment that is to go.
struct Due {
    name: String,
    /// The first record behind it.
    first: u64,
    /// Of the tree over all before that.
    root: [u8; 32],
}

impl Writer {
    /// At the start and whenever a segment was begun.
    pub(super) fn retain(&mut self) {
        let now = (self.clock)();
        let due = self.due(now).unwrap_or_else(|error| {
            tracing::warn!(%error, "segments could not be looked through for old ones; the next round tries again");
            Vec::new()
        });
        let Some(last) = due.last() else { return };
        let first = last.first;
        let lines: Vec<Template> = due.iter().map(|due| self.of_drop(due, now)).collect();
        if let Err(error) = self.put(lines.iter(), true) {
            return self.poison(&error, &mut Vec::new());
        }
        let count = lines.len() as u64;
        self.queue.records.fetch_add(count, Ordering::Relaxed);
        for Due { name, .. } in &due {
            match self.storage.remove(name) {
                Ok(()) => {
                    tracing::info!(segment = %name, "dropped: all its records are older than they are kept")
                }
                // The rest stays with it: what is missing is always missing from the oldest on.
                Err(error) => {
                    tracing::warn!(segment = %name, %error, "a segment could not be removed; the next round tries again");
                    return;
                }
            }
        }
        if let Err(error) = self.trim(first) {
            self.poison(&error, &mut Vec::new());
        }
    }

    fn due(&self, now: Timestamp) -> io::Result<Vec<Due>> {
        let names = self.storage.names()?;
        let mut due = Vec::new();
        let mut starts = None;
        for pair in names.windows(2).take(DROPS_MAX) {
            let (name, next) = (&pair[0], &pair[1]);
            let mut line = Vec::new();
            let source = self.storage.read(next, 0)?.take(LINE_BYTES_MAX as u64);
            BufReader::new(source).read_until(b'\n', &mut line)?;
            let old = time_of(&line).is_some_and(|time| now.since(time) > self.bounds.retain);
            if !old || *name == self.tail.name {
                break;
            }
            let starts = match &mut starts {
                Some(starts) => starts,
                None => starts.insert(Starts::read(self.storage.as_ref())?),
            };
            let Some(begins) = starts.of_segment(next) else {
                tracing::warn!(segment = %name, "it is kept though it is old: `roots` has no line for the one behind it");
                break;
            };
            due.push(Due {
                name: name.clone(),
                first: first_seq(next).unwrap_or_default(),
                root: begins.tree.root(),
            });
        }
        Ok(due)
    }

    fn of_drop(&self, due: &Due, now: Timestamp) -> Template {
        let particulars = Particulars {
            dropped: Some((&due.name, due.first, due.root)),
            ..Particulars::default()
        };
        let version = env!("CARGO_PKG_VERSION");
        let detail = "all its records are older than they are kept";
        self.encoder
            .gate("dropped", version, detail, &particulars, now)
    }

    /// Begins to write `checkpoints` anew, without those that cover no more than what is before record `first`.
    fn trim(&mut self, first: u64) -> io::Result<()> {
        self.flusher.join()?;
        self.adopt()?;
        let worth = self.middle().is_some_and(|size| size <= first);
        if !worth {
            return Ok(());
        }
        // Whatever keeps this from working keeps the old file.
        let old = self.storage.read(CHECKPOINTS, 0);
        let (Ok(old), Ok(draft)) = (old, self.storage.append(DRAFT, 0)) else {
            return Ok(());
        };
        let sealer = Arc::clone(&self.sealer);
        self.trimming = true;
        self.flusher.begin(
            None,
            Box::new(move || {
                locked(&sealer).trim(old, draft, first);
                Ok(())
            }),
        )
    }

    /// Records covered by the checkpoint in the middle of the file.
    fn middle(&self) -> Option<u64> {
        let from = self.storage.bytes(CHECKPOINTS).ok()? / 2;
        let mut bytes = Vec::new();
        let source = self.storage.read(CHECKPOINTS, from).ok()?;
        source
            .take(2 * NOTE_BYTES_MAX as u64)
            .read_to_end(&mut bytes)
            .ok()?;
        let (note, _) = super::checkpoint::notes(&bytes[behind_note(&bytes)..]).next()?;
        Some(Checkpoint::of(&Note::parse(note).ok()?)?.size)
    }

    /// What was written anew takes the old file's place. No job may be under way.
    pub(super) fn adopt(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.trimming) {
            locked(&self.sealer).adopt(self.storage.as_mut())?;
        }
        Ok(())
    }
}

impl Sealer {
    fn trim(&mut self, old: Box<dyn Read + Send>, mut draft: Box<dyn Segment>, first: u64) {
        match copy(old.take(self.bytes()), draft.as_mut(), first) {
            Ok(bytes) => self.drafted(draft, bytes),
            Err(error) => {
                tracing::warn!(%error, "checkpoints of what was dropped could not be left out; they are kept");
            }
        }
    }
}

/// Copies what is to stay, and syncs it. How many bytes that are.
fn copy(old: impl Read, draft: &mut dyn Segment, first: u64) -> io::Result<u64> {
    let mut old = BufReader::with_capacity(1 << 16, old);
    let mut written = 0;
    let mut put = |note: &[u8]| {
        written += note.len() as u64;
        write_all(draft, note)
    };
    // The newest that covers nothing else.
    let mut before: Option<(Vec<u8>, bool)> = None;
    while let Some(note) = next_note(&mut old)? {
        let read = Note::parse(&note[..note.len() - 1]).ok();
        let read = read.and_then(|note| Checkpoint::of(&note));
        let read = read.ok_or_else(|| io::Error::other("`checkpoints` holds something else"))?;
        let trimmed = read.size <= first;
        if let Some((before, named)) = before.take()
            && (named || !trimmed)
        {
            put(&before)?;
        }
        match trimmed {
            true => before = Some((note, read.key.is_some())),
            false => put(&note)?,
        }
    }
    if let Some((before, _)) = before {
        put(&before)?;
    }
    draft.sync()?;
    Ok(written)
}

/// The next note, the empty line behind it included.
fn next_note(file: &mut impl io::BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut note = Vec::new();
    let mut empty = 0;
    while empty < 2 {
        let start = note.len();
        let room = (NOTE_BYTES_MAX + 2).saturating_sub(start) as u64;
        (&mut *file).take(room).read_until(b'\n', &mut note)?;
        if note.last() != Some(&b'\n') || note.len() == start {
            return match note.is_empty() {
                true => Ok(None),
                false => Err(io::Error::other("`checkpoints` holds something else")),
            };
        }
        empty += u32::from(note.len() - start == 1);
    }
    Ok(Some(note))
}

/// Most segments that one round drops: each costs a removal, and callers wait meanwhile.
const DROPS_MAX: usize = 64;
