//! Before the gate goes on with a log: what was signed of it must still be so.
//!
//! The newest checkpoints are read from the end of `checkpoints`, each chained to the one before and signed by the key that
//! signs now; with the last one of the anchor file, on another volume, they say which sizes had which roots. [`recover`] finds
//! the roots. What disagrees is refused and nothing is changed: a log that was cut, edited, or put back from an older copy.
//!
//! Only so much of the file is read as a start can wait for ([`WINDOW_BYTES`]); `ledger verify` reads all of it.
//!
//! [`recover`]: super::recover

use super::LedgerError;
use super::checkpoint::{Checkpoint, notes};
use super::note::{NOTE_BYTES_MAX, Note, VerifierKey};
use super::seal::CHECKPOINTS;
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
    /// Reads the end of the file; absent, it says nothing.
    pub fn read(storage: &dyn Storage, key: &VerifierKey) -> Result<Self, LedgerError> {
        let path = storage.place(CHECKPOINTS);
        let fault = |error: io::Error| LedgerError::io(&path, &error);
        let there = match storage.bytes(CHECKPOINTS) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(fault(error)),
        };
        let from = there.saturating_sub(WINDOW_BYTES);
        let mut file = Vec::new();
        if there > 0 {
            let mut source = storage.read(CHECKPOINTS, from).map_err(fault)?;
            source.read_to_end(&mut file).map_err(fault)?;
        }
        let skipped = if from > 0 { behind_note(&file) } else { 0 };
        let mut found: Vec<_> = notes(&file[skipped..]).collect();
        // Power loss can leave a hole where the last one should be.
        if found.last().is_some_and(|(note, _)| note.contains(&0)) {
            found.pop();
        }
        let bytes = from + (skipped + found.last().map_or(0, |(_, end)| *end)) as u64;
        if from > 0 && found.is_empty() {
            let why = "its end holds no checkpoint".to_owned();
            return Err(LedgerError::Checkpoints { path, why });
        }
        let found: Vec<_> = found.into_iter().map(|(note, _)| note).collect();
        let last = chained(&found, from == 0, storage.instance(), key)
            .map_err(|refused| refused.at(path))?;
        Ok(Seals { last, bytes })
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

enum Refused {
    Why(String),
    Key,
}

impl Refused {
    fn at(self, path: PathBuf) -> LedgerError {
        match self {
            Refused::Why(why) => LedgerError::Checkpoints { path, why },
            Refused::Key => LedgerError::Key { path },
        }
    }
}

/// The last of these notes, if they follow from one another and `key` is the one that signs now.
fn chained(
    found: &[&[u8]],
    whole: bool,
    origin: &str,
    key: &VerifierKey,
) -> Result<Option<(Checkpoint, Box<str>)>, Refused> {
    let why = |text: &str| Refused::Why(text.to_owned());
    let mut read = Vec::with_capacity(found.len());
    for bytes in found {
        let note = Note::parse(bytes).map_err(|error| Refused::Why(error.to_string()))?;
        let checkpoint = Checkpoint::of(&note).ok_or_else(|| why("a note is no checkpoint"))?;
        if &*checkpoint.origin != origin {
            return Err(why("a checkpoint is of another log"));
        }
        read.push((note, checkpoint));
    }
    if whole && read.first().is_some_and(|(_, first)| first.key.is_none()) {
        return Err(why("the first checkpoint does not say who signs"));
    }
    for pair in read.windows(2) {
        let (before, after) = (&pair[0].1, &pair[1].1);
        // Where segments were dropped, so were their checkpoints: but for those that say who signs.
        let trimmed = before.key.is_some() && after.prev.is_some();
        if after.prev != Some(before.digest()) && !trimmed {
            return Err(why(
                "a checkpoint does not follow from the one before it: some were taken out or put in",
            ));
        }
        if after.size < before.size {
            return Err(why("a checkpoint covers less than the one before it"));
        }
    }
    // Who signed before the last change of keys is not known here; the chain holds those.
    let since = read.iter().rposition(|(_, one)| one.key.is_some());
    if let Some(at) = since
        && read[at].1.key.as_ref() != Some(key)
    {
        return Err(Refused::Key);
    }
    for (note, _) in &read[since.unwrap_or(0)..] {
        match note.by(std::slice::from_ref(key)) {
            Ok(_) => {}
            Err(super::note::NoteError::Unknown) => return Err(Refused::Key),
            Err(error) => return Err(Refused::Why(error.to_string())),
        }
    }
    let text = found.last().map(|bytes| String::from_utf8_lossy(bytes));
    Ok(read
        .pop()
        .zip(text)
        .map(|((_, last), text)| (last, text.into())))
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
    let mut found: Vec<_> = notes(&file[skipped..]).map(|(note, _)| note).collect();
    if found.last().is_some_and(|note| note.contains(&0)) {
        found.pop();
    }
    let Some(last) = found.last() else {
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

/// Where the first whole note begins in bytes that begin anywhere: behind the first block of signatures.
fn behind_note(file: &[u8]) -> usize {
    let mut from = 0;
    while let Some(at) = file[from..].windows(2).position(|pair| pair == b"\n\n") {
        let block = &file[from..from + at];
        let begins = |block: &[u8]| block.starts_with("\u{2014} ".as_bytes());
        let signed = begins(block) && from > 0;
        from += at + 2;
        if signed {
            return from;
        }
    }
    file.len()
}

/// How much of a file of checkpoints is read at a start: about seven hundred of them.
const WINDOW_BYTES: u64 = 256 << 10;
