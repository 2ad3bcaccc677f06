//! The file `checkpoints`, read note by note: whether each is signed by the key that signs there, follows the one before,
//! and covers no less than it did.

use super::report::{Fault, Wrong};
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::line::sha256;
use crate::ledger::note::{NOTE_BYTES_MAX, Note, NoteError, VerifierKey};
use crate::ledger::seal::CHECKPOINTS;
use crate::ledger::tree::Hash;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Take};
use std::path::{Path, PathBuf};

/// A checkpoint that is good as far as it shows by itself.
#[derive(Clone, Debug)]
pub struct Signed {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// Line of the file on which it begins, from 1.
    pub line: u64,
    /// Digest of its text.
    pub digest: Hash,
}

/// The file as far as it was read.
#[derive(Debug)]
pub struct Signatures {
    reader: Option<BufReader<Take<File>>>,
    path: PathBuf,
    absent: bool,
    /// Lines read.
    lines: u64,
    /// Records before this one were dropped, and checkpoints over no more than these may be missing with them.
    first: u64,
    last: Option<Signed>,
    note: Vec<u8>,
    /// Every key that signed, in order.
    pub keys: Vec<VerifierKey>,
    /// Good ones so far.
    pub count: u64,
    /// Whether the file ends in the middle of a note.
    pub torn: bool,
    /// Whether some are missing that cover dropped records alone.
    pub trimmed: bool,
    /// Those whose time is before that of the one before.
    pub clock_went_back: u64,
    /// The first that is not good: nothing behind it is read.
    pub fault: Option<Fault>,
}

impl Signatures {
    /// Opens the file of a directory, if it is there. What is appended from now on is not read: the records that it covers
    /// might not be read either.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(CHECKPOINTS);
        let (reader, bytes) = match File::open(&path) {
            Ok(file) => {
                let bytes = file.metadata()?.len();
                (Some(BufReader::new(file.take(bytes))), bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, 0),
            Err(error) => return Err(error),
        };
        Ok(Signatures {
            reader,
            path,
            absent: bytes == 0,
            lines: 0,
            first: 0,
            last: None,
            note: Vec::new(),
            keys: Vec::new(),
            count: 0,
            torn: false,
            trimmed: false,
            clock_went_back: 0,
            fault: None,
        })
    }

    /// What is before record `first` was dropped.
    pub fn dropped_before(&mut self, first: u64) {
        self.first = first;
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is no such file, or nothing in it.
    pub fn is_absent(&self) -> bool {
        self.absent
    }

    /// The newest good one that was read.
    pub fn last(&self) -> Option<&Signed> {
        self.last.as_ref()
    }

    /// The newest good one as it was signed, if all of the file is good.
    ///
    /// # Errors
    /// What the system says.
    pub fn newest(mut self) -> io::Result<Option<Vec<u8>>> {
        while self.next()?.is_some() {}
        let good = self.fault.is_none() && self.count > 0;
        Ok(good.then_some(self.note))
    }

    /// The next good one. `None`: the file ends here, or goes on with one that is not good.
    ///
    /// # Errors
    /// What the system says.
    pub fn next(&mut self) -> io::Result<Option<Signed>> {
        if self.fault.is_some() {
            return Ok(None);
        }
        let line = self.lines + 1;
        let bytes = match self.note()? {
            Some(Ok(bytes)) => bytes,
            Some(Err(wrong)) => return Ok(self.refuse(line, wrong)),
            None => return Ok(None),
        };
        match self.check(&bytes, line) {
            Ok(signed) => {
                self.count += 1;
                self.last = Some(signed.clone());
                self.note = bytes;
                Ok(Some(signed))
            }
            // Power loss can leave a hole where the last one should be: no note has a NUL in it.
            Err(_) if bytes.contains(&0) && self.note()?.is_none() => {
                self.torn = true;
                Ok(None)
            }
            Err(wrong) => Ok(self.refuse(line, wrong)),
        }
    }

    fn refuse(&mut self, line: u64, wrong: Wrong) -> Option<Signed> {
        self.fault = Some(Fault::at(self.path.clone(), line, wrong));
        None
    }

    /// The bytes of the next note, without the empty line behind it.
    fn note(&mut self) -> io::Result<Option<Result<Vec<u8>, Wrong>>> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let mut empty = 0;
        while empty < 2 {
            let start = bytes.len();
            let room = (NOTE_BYTES_MAX + 2 - start) as u64;
            reader.by_ref().take(room).read_until(b'\n', &mut bytes)?;
            if bytes.last() != Some(&b'\n') || bytes.len() == start {
                if bytes.len() > NOTE_BYTES_MAX {
                    return Ok(Some(Err(Wrong::NotACheckpoint)));
                }
                self.torn = !bytes.is_empty();
                return Ok(None);
            }
            self.lines += 1;
            empty += u32::from(bytes.len() - start == 1);
        }
        bytes.pop();
        Ok(Some(Ok(bytes)))
    }

    fn check(&mut self, bytes: &[u8], line: u64) -> Result<Signed, Wrong> {
        let note = Note::parse(bytes).map_err(|_| Wrong::NotACheckpoint)?;
        let checkpoint = Checkpoint::of(&note).ok_or(Wrong::NotACheckpoint)?;
        let digest = sha256(note.text().as_bytes());
        match self.last.take() {
            None => self.begin(&note, &checkpoint)?,
            Some(last) => {
                let followed = self.follow(&last, &note, &checkpoint);
                // The newest good one stays what it was, whatever comes behind it.
                self.last = Some(last);
                followed?;
            }
        }
        Ok(Signed {
            checkpoint,
            line,
            digest,
        })
    }

    fn begin(&mut self, note: &Note, checkpoint: &Checkpoint) -> Result<(), Wrong> {
        let (None, Some(key)) = (checkpoint.prev, &checkpoint.key) else {
            return Err(Wrong::FirstMissing);
        };
        signed_by(note, key, &[])?;
        self.keys.push(key.clone());
        Ok(())
    }

    fn follow(&mut self, last: &Signed, note: &Note, next: &Checkpoint) -> Result<(), Wrong> {
        if next.origin != last.checkpoint.origin {
            return Err(Wrong::Origin);
        }
        if let Some((current, older)) = self.keys.split_last() {
            signed_by(note, current, older)?;
        }
        if let Some(key) = &next.key {
            signed_by(note, key, &[])?;
        }
        if next.prev != Some(last.digest) {
            // Those that covered nothing but dropped records were dropped with them; one of these ends the gap.
            if self.first == 0 || next.size > self.first || next.prev.is_none() {
                return Err(Wrong::Unchained);
            }
            self.trimmed = true;
        }
        let before = last.checkpoint.size;
        if next.size < before {
            return Err(Wrong::Shrinks(before));
        }
        self.clock_went_back += u64::from(next.time < last.checkpoint.time);
        self.keys.extend(next.key.clone());
        Ok(())
    }
}

/// Whether this key signed; if an older one did instead, that is said.
fn signed_by(note: &Note, key: &VerifierKey, older: &[VerifierKey]) -> Result<(), Wrong> {
    match note.by(std::slice::from_ref(key)) {
        Ok(_) => Ok(()),
        Err(NoteError::Unknown) => Err(match note.by(older) {
            Ok(_) => Wrong::OldKey,
            Err(_) => Wrong::OtherKey(key.clone()),
        }),
        Err(NoteError::Signature | NoteError::Form) => Err(Wrong::Signature),
    }
}
