//! A file of checkpoints: signed notes one behind the other, an empty line behind each, as the ledger's own `checkpoints`.

use crate::ledger::checkpoint;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Appends a note; it is durable afterwards, or not there. Blocks.
///
/// # Errors
/// What the system says, or that something else than checkpoints stands in the file.
pub(super) fn append(path: &Path, note: &str) -> io::Result<()> {
    let is_new = !path.try_exists()?;
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        // There is no secret in it, and it is for others to read.
        .mode(0o644)
        .open(path)?;
    let end = whole(&mut file)?;
    // In one call: whoever kills the gate finds all of it there, or nothing.
    let written = file.write(format!("{note}\n").as_bytes());
    if written.as_ref().ok() != Some(&(note.len() + 1)) {
        // What a full disk took of it is no note. Where even that can't be undone, the next call sees it.
        let _ = file.set_len(end);
        written?;
        return Err(io::ErrorKind::StorageFull.into());
    }
    file.sync_data()?;
    if is_new {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Cuts off the half of a note that a crash left, and says where the file ends then.
fn whole(file: &mut File) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let from = end.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    if end == 0 || ends_whole(&tail) {
        return Ok(end);
    }
    file.seek(SeekFrom::Start(0))?;
    let mut all = Vec::new();
    file.read_to_end(&mut all)?;
    let whole = checkpoint::notes(&all).last().map_or(0, |(_, end)| end);
    // Half a note is shorter than any bound on one; more is something else, which is not ours to cut.
    if all.len() - whole > TAIL_BYTES as usize || all[whole..].contains(&0) {
        let why = "it does not end with a checkpoint: is it the right file?";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    file.set_len(whole as u64)?;
    Ok(whole as u64)
}

/// Whether signatures and an empty line are the last of it.
fn ends_whole(tail: &[u8]) -> bool {
    let Some(notes) = tail.strip_suffix(b"\n\n") else {
        return false;
    };
    let last = notes.windows(2).rposition(|pair| pair == b"\n\n");
    last.is_some_and(|at| notes[at + 2..].starts_with("\u{2014} ".as_bytes()))
}

/// No checkpoint is longer.
const TAIL_BYTES: u64 = crate::ledger::note::NOTE_BYTES_MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::note::SigningKey;

    #[test]
    fn notes_stand_one_behind_the_other_and_half_a_one_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchor");
        let key = SigningKey::new("gate-1", [7; 32]).unwrap();
        let notes: Vec<String> = (0..3)
            .map(|n| key.sign(&format!("gate-1\n{n}\n")))
            .collect();
        for note in &notes {
            append(&path, note).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let expected: String = notes.iter().map(|note| format!("{note}\n")).collect();
        assert_eq!(whole, expected.as_bytes());
        let two = whole.len() - notes[2].len() - 1;
        for cut in two..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            append(&path, &notes[2]).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_file_of_checkpoints_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchor");
        let other = vec![b'x'; 40_000];
        std::fs::write(&path, &other).unwrap();
        assert!(append(&path, "a\n").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), other);
        assert!(append(&folder.path().join("nowhere/anchor"), "a\n").is_err());
    }
}
