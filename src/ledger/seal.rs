//! Sealing: a checkpoint of what is on the disk is signed, appended to the file `checkpoints`, synced, and only then shown.
//!
//! The writer says what is synced by then (size and root) and the flusher's thread calls this. It never signs a tree that is
//! smaller than the last one or of another root at the same size, whatever it is told. After a fault the file is cut back to
//! its last whole note: one that was signed and not shown is none.

use super::checkpoint::Checkpoint;
use super::note::{SigningKey, VerifierKey};
use super::queue::locked;
use super::storage::{Segment, Storage, write_all};
use super::tree::Hash;
use crate::policy::time::Timestamp;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The file's name.
pub const CHECKPOINTS: &str = "checkpoints";
/// What it is written anew as, where older ones are left out.
pub(super) const DRAFT: &str = "checkpoints.new";

/// A state of the log that is on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Synced {
    pub size: u64,
    pub root: Hash,
    /// When that was.
    pub time: Timestamp,
}

/// What everybody may see.
#[derive(Debug)]
pub(super) struct Newest {
    note: Mutex<Option<Arc<str>>>,
    verifier: Mutex<VerifierKey>,
    size: AtomicU64,
}

impl Newest {
    pub fn new(verifier: VerifierKey) -> Self {
        Newest {
            note: Mutex::default(),
            verifier: Mutex::new(verifier),
            size: AtomicU64::new(0),
        }
    }

    /// The newest signed note.
    pub fn note(&self) -> Option<Arc<str>> {
        locked(&self.note).clone()
    }

    /// Who signs.
    pub fn verifier(&self) -> VerifierKey {
        locked(&self.verifier).clone()
    }

    /// Records that the newest one covers.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    pub fn show(&self, note: &str, size: u64) {
        *locked(&self.note) = Some(note.into());
        self.size.store(size, Ordering::Relaxed);
    }
}

/// Who signs, and the open end of the file.
#[derive(Debug)]
pub(super) struct Sealer {
    key: SigningKey,
    origin: Box<str>,
    last: Option<Checkpoint>,
    /// Absent after a fault.
    file: Option<Box<dyn Segment>>,
    /// Of whole notes.
    bytes: u64,
    /// The file written anew, and how long it is.
    draft: Option<(Box<dyn Segment>, u64)>,
    newest: Arc<Newest>,
}

impl Sealer {
    /// Goes on behind the `last` of `bytes` bytes of notes, which was judged to be the log's own.
    pub fn new(
        key: SigningKey,
        origin: &str,
        last: Option<Checkpoint>,
        bytes: u64,
        newest: Arc<Newest>,
    ) -> Self {
        Sealer {
            key,
            origin: origin.into(),
            last,
            file: None,
            bytes,
            draft: None,
            newest,
        }
    }

    /// At the start and after a fault: the file is opened, and whatever was half written goes.
    pub fn mend(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        if self.file.is_none() {
            // Never lengthened: the file may have been exchanged for a shorter one just before the fault.
            let there = match storage.bytes(CHECKPOINTS) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                there => there?,
            };
            self.bytes = self.bytes.min(there);
            self.file = Some(storage.append(CHECKPOINTS, self.bytes)?);
        }
        Ok(())
    }

    /// Bytes of whole notes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file was written anew and is on the disk, under the draft's name.
    pub fn drafted(&mut self, file: Box<dyn Segment>, bytes: u64) {
        self.draft = Some((file, bytes));
    }

    /// The draft takes the file's place.
    pub fn adopt(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        let Some((file, bytes)) = self.draft.take() else {
            return Ok(());
        };
        self.file = None;
        storage.replace(DRAFT, CHECKPOINTS)?;
        (self.file, self.bytes) = (Some(file), bytes);
        Ok(())
    }

    /// Whether there is none yet.
    pub fn is_first(&self) -> bool {
        self.last.is_none()
    }

    /// Signs, writes, syncs and shows. With `next`, that key signs too, and alone from then on.
    pub fn seal(&mut self, synced: Synced, next: Option<SigningKey>) -> io::Result<()> {
        let Synced { size, root, time } = synced;
        if let Some(last) = &self.last
            && (size < last.size || (size == last.size && root != last.root))
        {
            return Err(io::Error::other(
                "a checkpoint that contradicts the one before is not signed",
            ));
        }
        let mut file = self
            .file
            .take()
            .ok_or_else(|| io::Error::other("`checkpoints` is not open"))?;
        let signs = next.as_ref().map(SigningKey::verifier);
        let signs = signs.or_else(|| self.is_first().then(|| self.key.verifier()));
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size,
            root,
            time: Some(time),
            prev: self.last.as_ref().map(Checkpoint::digest),
            key: signs.cloned(),
        };
        let mut note = checkpoint.sign(&self.key);
        if let Some(next) = &next {
            next.sign_too(&mut note, &checkpoint.to_text());
        }
        // The empty line behind it goes down with it: a note without it is torn.
        let end = note.len();
        note.push('\n');
        write_all(file.as_mut(), note.as_bytes())?;
        file.sync()?;
        self.bytes += note.len() as u64;
        self.file = Some(file);
        self.last = Some(checkpoint);
        if let Some(next) = next {
            *locked(&self.newest.verifier) = next.verifier().clone();
            self.key = next;
        }
        self.newest.show(&note[..end], size);
        Ok(())
    }
}

/// Where the first whole note begins in bytes of the file that begin anywhere: behind the first block of signatures.
pub(super) fn behind_note(file: &[u8]) -> usize {
    let mut from = 0;
    while let Some(at) = file[from..].windows(2).position(|pair| pair == b"\n\n") {
        let signed = from > 0 && file[from..].starts_with("\u{2014} ".as_bytes());
        from += at + 2;
        if signed {
            return from;
        }
    }
    file.len()
}
