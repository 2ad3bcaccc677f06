//! Before the gate goes on with a log: what was signed of it must still be so.
//!
//! The newest checkpoints are read from the end of `checkpoints`, each chained to the one before, and signed by the key that the
//! last change of keys names; with the last one of the anchor file, on another volume, they say which sizes had which roots. [`recover`] finds
//! the roots. What disagrees is refused and nothing is changed: a log that was cut, edited, or put back from an older copy.
//!
//! Only so much of the file is read as a start can wait for ([`WINDOW_BYTES`]); `ledger verify` reads all of it.
//!
//! [`recover`]: super::recover

use super::LedgerError;
use super::checkpoint::{Checkpoint, notes};
use super::note::{NOTE_BYTES_MAX, Note, VerifierKey};
use super::seal::{CHECKPOINTS, behind_note};
use super::storage::Storage;
use super::tree::Hash;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// What `checkpoints` says.
#[derive(Debug, Default)]
pub(super) struct Seals {
    /// The newest, and its signed note.
    pub last: Option<(Checkpoint, Box<str>)>,
    /// Who signs from there on.
    pub signer: Option<VerifierKey>,
    /// Bytes of whole notes; what stands behind them was torn by a kill.
    pub bytes: u64,
}

/// Something that saw the log at a size.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    /// The file that says so.
    pub path: PathBuf,
    pub size: u64,
    pub root: Hash,
}

impl Seals {
    /// Reads the end of the file; absent, it says nothing. `oldest` is the first record that there is: older segments were
    /// dropped, and checkpoints with them.
    pub fn read(storage: &dyn Storage, oldest: u64) -> Result<Self, LedgerError> {
        let path = storage.place(CHECKPOINTS);
        let refused = |why: String| LedgerError::Checkpoints {
            path: path.clone(),
            why,
        };
        let fault = |error: io::Error| LedgerError::io(&path, &error);
        let there = match storage.bytes(CHECKPOINTS) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(fault(error)),
        };
        let from = there.saturating_sub(WINDOW_BYTES);
        let file = window(storage, from, there).map_err(fault)?;
        let skipped = if from > 0 { behind_note(&file) } else { 0 };
        let found = whole_notes(&file[skipped..]);
        let bytes = from + (skipped + found.last().map_or(0, |(_, end)| *end)) as u64;
        let Some((newest, _)) = found.last() else {
            return match from {
                0 => Ok(Seals::default()),
                _ => Err(refused("its end holds no checkpoint".to_owned())),
            };
        };
        let newest = String::from_utf8_lossy(newest).into();
        let read = chained(&found, storage.instance(), oldest).map_err(refused)?;
        if from == 0 && read.first().is_some_and(|(_, first)| first.key.is_none()) {
            return Err(refused(
                "the first checkpoint does not say who signs".to_owned(),
            ));
        }
        let rotation = read.iter().rposition(|(_, one)| one.key.is_some());
        let signer = match rotation {
            Some(at) => read[at].1.key.clone(),
            None => signer_before(storage, from).map_err(fault)?,
        };
        let signer = signer.ok_or_else(|| refused("no checkpoint says who signs".to_owned()))?;
        // Who signed before that is not known here; the chain holds those.
        for (note, _) in &read[rotation.unwrap_or(0)..] {
            note.by(std::slice::from_ref(&signer))
                .map_err(|error| refused(error.to_string()))?;
        }
        let last = read.into_iter().next_back();
        Ok(Seals {
            last: last.map(|(_, last)| (last, newest)),
            signer: Some(signer),
            bytes,
        })
    }

    /// What the newest one saw.
    pub fn witness(&self, storage: &dyn Storage) -> Option<Witness> {
        let (last, _) = self.last.as_ref()?;
        Some(Witness {
            path: storage.place(CHECKPOINTS),
            size: last.size,
            root: last.root,
        })
    }
}

fn window(storage: &dyn Storage, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if to > from {
        let source = storage.read(CHECKPOINTS, from)?;
        source.take(to - from).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The whole notes in a file. Power loss can leave a hole where the last one should be.
fn whole_notes(file: &[u8]) -> Vec<(&[u8], usize)> {
    let mut found: Vec<_> = notes(file).collect();
    if found.last().is_some_and(|(note, _)| note.contains(&0)) {
        found.pop();
    }
    found
}

/// What these notes say, if they follow from one another.
fn chained(
    found: &[(&[u8], usize)],
    origin: &str,
    oldest: u64,
) -> Result<Vec<(Note, Checkpoint)>, String> {
    let mut read: Vec<(Note, Checkpoint)> = Vec::with_capacity(found.len());
    for (bytes, _) in found {
        let note = Note::parse(bytes).map_err(|error| error.to_string())?;
        let checkpoint = Checkpoint::of(&note).ok_or("a note is no checkpoint")?;
        if &*checkpoint.origin != origin {
            return Err("a checkpoint is of another log".to_owned());
        }
        if let Some((_, before)) = read.last() {
            // Those that covered nothing but dropped records went with them; one of these ends the gap.
            let trimmed = checkpoint.prev.is_some() && checkpoint.size <= oldest && oldest > 0;
            if checkpoint.prev != Some(before.digest()) && !trimmed {
                let why = "a checkpoint does not follow from the one before it: some were taken out, put in or changed";
                return Err(why.to_owned());
            }
            if checkpoint.size < before.size {
                return Err("a checkpoint covers less than the one before it".to_owned());
            }
        }
        read.push((note, checkpoint));
    }
    Ok(read)
}

/// Who signs behind `end`, by the last line before it that says so: read backwards, window by window.
fn signer_before(storage: &dyn Storage, end: u64) -> io::Result<Option<VerifierKey>> {
    const KEY: &[u8] = b"\nkey ";
    let mut to = end;
    while to > 0 {
        let from = to.saturating_sub(WINDOW_BYTES);
        // A line that begins in one window and ends in the next is read with the one it begins in.
        let bytes = window(storage, from, to + NOTE_BYTES_MAX as u64)?;
        if let Some(at) = bytes.windows(KEY.len()).rposition(|text| text == KEY) {
            let line = bytes[at + KEY.len()..].split(|byte| *byte == b'\n').next();
            let text = std::str::from_utf8(line.unwrap_or_default()).unwrap_or_default();
            return Ok(VerifierKey::parse(text).ok());
        }
        to = from;
    }
    Ok(None)
}

/// What the anchor file saw last; `None`: nothing yet.
pub(super) fn anchored(path: &Path, origin: &str) -> Result<Option<Witness>, LedgerError> {
    let refused = |why: &str| LedgerError::Checkpoints {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let file = match end_of(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LedgerError::io(path, &error)),
    };
    let (file, skipped) = (&file.0, if file.1 { behind_note(&file.0) } else { 0 });
    let found = whole_notes(&file[skipped..]);
    let Some((last, _)) = found.last() else {
        // A first one that was torn is none; a long file without one is something else.
        return match file.len() < NOTE_BYTES_MAX {
            true => Ok(None),
            false => Err(refused("it holds no checkpoint")),
        };
    };
    let note = Note::parse(last).map_err(|error| refused(&error.to_string()))?;
    let last = Checkpoint::of(&note).ok_or_else(|| refused("a note is no checkpoint"))?;
    if &*last.origin != origin {
        return Err(refused("its last checkpoint is of another log"));
    }
    Ok(Some(Witness {
        path: path.to_owned(),
        size: last.size,
        root: last.root,
    }))
}

/// The end of a file, and whether something stands before it.
fn end_of(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(WINDOW_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((bytes, from > 0))
}

/// How much of a file of checkpoints is read at a start: about seven hundred of them.
const WINDOW_BYTES: u64 = 256 << 10;
