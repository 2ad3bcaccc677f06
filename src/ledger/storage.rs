//! The seam between the ledger and the disk: segments are appended to, cut, listed and read; nothing is ever rewritten. The
//! files beside them (`checkpoints`, `roots`) are appended to and read by the same calls, under their own names.
//!
//! [`Disk`] is the real one. Tests put a faulty one in its place to see what an error does at the Nth call.

use super::LedgerError;
use crate::policy::time::Timestamp;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where segments live. Only the writer thread calls it.
pub trait Storage: Send + 'static {
    /// Names this log among others; the same for as long as the storage exists.
    fn instance(&self) -> &str;

    /// What an operator calls the segment.
    fn place(&self, name: &str) -> PathBuf;

    /// The segments, in order of name.
    ///
    /// # Errors
    /// What the system says.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Length of a segment, in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn bytes(&self, name: &str) -> io::Result<u64>;

    /// Reads a segment from byte `from`.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn Read + Send>>;

    /// Opens a segment for appending, cut to `keep` bytes; made if it does not exist. Its name is durable afterwards.
    ///
    /// # Errors
    /// What the system says.
    fn append(&mut self, name: &str, keep: u64) -> io::Result<Box<dyn Segment>>;

    /// Cuts a segment that is no longer written to `keep` bytes.
    ///
    /// # Errors
    /// What the system says.
    fn cut(&mut self, name: &str, keep: u64) -> io::Result<()>;

    /// Writes a segment's bytes from `from` to `to` once more, as they read, and syncs. After a failed flush the system takes
    /// what it could not write for written: only writing it again brings it to the disk.
    ///
    /// # Errors
    /// What the system says.
    fn redo(&mut self, name: &str, from: u64, to: u64) -> io::Result<()>;

    /// Removes a segment.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// The file `draft` takes the place of `name`, at once and for good.
    ///
    /// # Errors
    /// What the system says: either of the two may have the name then.
    fn replace(&mut self, draft: &str, name: &str) -> io::Result<()>;

    /// How long to leave it alone after a fault.
    fn retry_after(&self) -> Duration {
        RETRY_AFTER
    }
}

/// The open end of the log.
pub trait Segment: Send + std::fmt::Debug + 'static {
    /// Appends; may take less than all.
    ///
    /// # Errors
    /// What the system says: nothing is known of what was written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// `fdatasync`.
    ///
    /// # Errors
    /// What the system says: nothing is known of what is durable.
    fn sync(&mut self) -> io::Result<()>;

    /// A second handle to the same open file, to sync it from another thread.
    ///
    /// # Errors
    /// What the system says.
    fn twin(&self) -> io::Result<Box<dyn Segment>>;
}

/// A directory, held with a lock for as long as this lives.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    instance: String,
    /// The lock goes when the file is closed, however the process ends.
    _lock: File,
}

impl Disk {
    /// Makes the directory where needed (mode 0700) and takes its lock.
    ///
    /// # Errors
    /// [`LedgerError`] names the file and says why: another gate writes there, or the system refuses.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, LedgerError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| LedgerError::io(directory, &error))?;
        let path = directory.join(LOCK_FILE);
        let lock = private()
            .truncate(false)
            .open(&path)
            .map_err(|error| LedgerError::io(&path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: a lock file that can't be read names no holder.
                let _ = (&lock).take(20).read_to_string(&mut holder);
                return Err(LedgerError::Locked { path, holder });
            }
            Err(TryLockError::Error(error)) => return Err(LedgerError::io(&path, &error)),
        }
        let holder = std::process::id().to_string();
        lock.set_len(0)
            .and_then(|()| lock.write_all_at(holder.as_bytes(), 0))
            .map_err(|error| LedgerError::io(&path, &error))?;
        let instance = instance(directory, now)?;
        Ok(Disk {
            directory: directory.to_owned(),
            instance,
            _lock: lock,
        })
    }
}

/// The instance's name: kept in a file beside the segments, made at the first start.
///
/// It needs to differ from other gates' names, not to be secret, so it is derived from what differs between them: the
/// ledger asks nobody for randomness.
fn instance(directory: &Path, now: Timestamp) -> Result<String, LedgerError> {
    let path = directory.join(INSTANCE_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if is_instance(text.trim_end()) => return Ok(text.trim_end().to_owned()),
        Ok(_) => return Err(LedgerError::Instance { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(LedgerError::io(&path, &error)),
    }
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let (micros, process) = (now.micros(), std::process::id());
    let seed = format!("{micros}\n{process}\n{host}\n{}", directory.display());
    let digest = super::line::sha256(seed.as_bytes());
    let mut name = String::from("gate-");
    for byte in &digest[..6] {
        name.push_str(&format!("{byte:02x}"));
    }
    // Under another name first: a kill in between must not leave half a name.
    let draft = directory.join("instance.new");
    let written = private().truncate(true).open(&draft).and_then(|mut file| {
        file.write_all(format!("{name}\n").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)?;
        File::open(directory)?.sync_all()
    });
    written.map_err(|error| LedgerError::io(&path, &error))?;
    Ok(name)
}

fn is_instance(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 100 && text.bytes().all(legal)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

impl Storage for Disk {
    fn instance(&self) -> &str {
        &self.instance
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        segments(&self.directory)
    }

    fn bytes(&self, name: &str) -> io::Result<u64> {
        Ok(std::fs::metadata(self.place(name))?.len())
    }

    fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn Read + Send>> {
        use std::io::Seek as _;
        let mut file = File::open(self.place(name))?;
        file.seek(io::SeekFrom::Start(from))?;
        Ok(Box::new(file))
    }

    fn append(&mut self, name: &str, keep: u64) -> io::Result<Box<dyn Segment>> {
        let path = self.place(name);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)?;
        file.set_len(keep)?;
        file.sync_all()?;
        File::open(&self.directory)?.sync_all()?;
        Ok(Box::new(file))
    }

    fn cut(&mut self, name: &str, keep: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.place(name))?;
        // Never lengthened: what is missing is missing.
        if file.metadata()?.len() > keep {
            file.set_len(keep)?;
        }
        file.sync_all()
    }

    fn redo(&mut self, name: &str, from: u64, to: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(self.place(name))?;
        let mut buffer = vec![0; 1 << 20];
        let mut at = from;
        while at < to {
            let part = usize::try_from(to - at).unwrap_or(usize::MAX);
            let part = part.min(buffer.len());
            file.read_exact_at(&mut buffer[..part], at)?;
            file.write_all_at(&buffer[..part], at)?;
            at += part as u64;
        }
        file.sync_all()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.place(name))?;
        File::open(&self.directory)?.sync_all()
    }

    fn replace(&mut self, draft: &str, name: &str) -> io::Result<()> {
        std::fs::rename(self.place(draft), self.place(name))?;
        File::open(&self.directory)?.sync_all()
    }
}

impl Segment for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn twin(&self) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(self.try_clone()?))
    }
}

/// Writes all of it, however many calls that takes.
pub(super) fn write_all(file: &mut dyn Segment, mut bytes: &[u8]) -> io::Result<()> {
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

/// The segments in a directory, in order of name.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        if let Ok(name) = entry?.file_name().into_string()
            && first_seq(&name).is_some()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What a segment is called whose first record is `seq`: sixteen digits hold every `seq` that JSON can.
pub(super) fn segment_name(seq: u64) -> String {
    format!("{seq:016}{SUFFIX}")
}

/// The first record's `seq`, if this is a segment's name.
pub(super) fn first_seq(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() != 16 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// A disk that fails is asked again this often.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const SUFFIX: &str = ".jsonl";
const LOCK_FILE: &str = "lock";
const INSTANCE_FILE: &str = "instance";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const NOW: Timestamp = Timestamp::from_micros(1);

    #[test]
    fn a_second_gate_is_told_which_file_is_held_and_by_whom() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("ledger");
        let held = Disk::open(&directory, NOW).unwrap();
        let text = Disk::open(&directory, NOW).unwrap_err().to_string();
        assert!(text.contains("ledger/lock"), "{text}");
        let process = std::process::id();
        assert!(text.contains(&format!("process {process}")), "{text}");
        drop(held);
        Disk::open(&directory, NOW).unwrap();
    }

    #[test]
    fn the_instance_keeps_its_name_and_nobody_else_can_read_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("ledger");
        let first = Disk::open(&directory, NOW).unwrap().instance().to_owned();
        let mut disk = Disk::open(&directory, Timestamp::from_micros(2)).unwrap();
        assert_eq!(disk.instance(), first);
        disk.append(&segment_name(0), 0).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        for file in std::fs::read_dir(&directory).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
    }
}
