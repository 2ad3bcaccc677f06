//! Recovery of a ledger's directory in which anything was changed: it is refused, or what goes on from there is one chain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use toolgate::config::LedgerSettings;
use toolgate::ledger::note::{SigningKey, VerifierKey};
use toolgate::ledger::record::Event;
use toolgate::ledger::storage::Disk;
use toolgate::ledger::{Ledger, LedgerError, Level, verify};
use toolgate::policy::time::Timestamp;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn key(_: Option<&VerifierKey>) -> Result<SigningKey, LedgerError> {
    Ok(SigningKey::new("gate", [7; 32]).expect("a name that may be one"))
}

fn open(directory: &Path) -> Result<Ledger, LedgerError> {
    let settings = LedgerSettings {
        segment_bytes_max: 700,
        ..LedgerSettings::new(directory.to_owned())
    };
    let disk = Disk::open(directory, NOW)?;
    Ledger::open_on(Box::new(disk), key, &settings, || NOW)
}

fn note(ledger: &Ledger, detail: &str) {
    let event = Event::Gate {
        change: "note",
        version: "0",
        detail,
    };
    drop(ledger.append(&event, NOW, Level::Written));
}

type Files = BTreeMap<String, Vec<u8>>;

/// A directory of this process, and what is in it before anybody meddles.
fn whole() -> &'static (PathBuf, Files) {
    static WHOLE: OnceLock<(PathBuf, Files)> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let directory = super::folder("ledger");
        let ledger = open(&directory).expect("a new one opens");
        (0..12).for_each(|number| note(&ledger, &format!("number {number}")));
        ledger.close().expect("it is closed whole");
        drop(ledger);
        let mut files = Files::new();
        for entry in std::fs::read_dir(&directory).expect("it can be listed") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name");
            files.insert(name, std::fs::read(entry.path()).expect("a file"));
        }
        (directory, files)
    })
}

/// What is done to the files: each order is a kind, a file, a place of two bytes, a length, and as many bytes.
fn meddle(files: &mut Files, mut data: &[u8]) {
    let names: Vec<String> = files.keys().cloned().collect();
    while let [kind, file, high, low, length, rest @ ..] = data {
        let (bytes, behind) = rest.split_at(rest.len().min(usize::from(*length)));
        data = behind;
        let name = &names[usize::from(*file) % names.len()];
        let Some(text) = files.get_mut(name) else {
            continue;
        };
        let at = usize::from(u16::from_be_bytes([*high, *low])).min(text.len());
        match kind % 6 {
            0 => text.truncate(at),
            1 => drop(text.splice(at..at, bytes.iter().copied())),
            2 => {
                let end = text.len().min(at + bytes.len());
                text[at..end].copy_from_slice(&bytes[..end - at]);
            }
            3 => drop(text.drain(at..text.len().min(at + usize::from(*length)))),
            4 => drop(files.remove(name)),
            _ => {
                let other = files.values().next().cloned().unwrap_or_default();
                files.insert(name.clone(), other);
            }
        }
    }
}

pub fn run(data: &[u8]) {
    let (directory, files) = whole();
    let mut changed = files.clone();
    meddle(&mut changed, data);
    for entry in std::fs::read_dir(directory).expect("it can be listed") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("a file can be removed");
    }
    for (name, text) in &changed {
        std::fs::write(directory.join(name), text).expect("a file can be written");
    }
    match open(directory) {
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a refusal says why");
            assert!(changed != *files, "what nobody touched opens: {error}");
        }
        Ok(ledger) => {
            note(&ledger, "goes on");
            ledger.close().expect("what was opened goes on");
            let found = verify::chain(directory);
            assert!(found.is_ok(), "what goes on is no chain: {found:?}");
        }
    }
}
