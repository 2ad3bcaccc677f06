//! Where the key that signs checkpoints is kept: in the file that the configuration names, else as `key` in the ledger's
//! directory, made at the first start.
//!
//! A file that others than its owner can read is refused: who has the key can sign another past. A key is never overwritten
//! and never made anew where a ledger has one already: a lost key is for a person to put back. `key.next` is what a rotation
//! left behind that was killed; which of the two keys signs from there on is for the checkpoints to say, not for the files.

use super::LedgerError;
use super::note::{KeyError, SigningKey, VerifierKey};
use crate::config::LedgerSettings;
use secrecy::{ExposeSecret as _, SecretString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why a key can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Group or others can read it.
    #[error(
        "it can be read by others than its owner (mode {mode:04o}), and who has it can sign another past; if nobody may \
         have seen it, `chmod 600 {}`, else rotate it, too", path.display()
    )]
    Open {
        /// The permission bits.
        mode: u32,
        /// The file.
        path: PathBuf,
    },
    /// A directory, a pipe.
    #[error("it is not a file")]
    Kind,
    /// What it holds is no key.
    #[error("it holds no key: {0}; `toolgate ledger keygen` makes one")]
    Text(KeyError),
    /// A key would be overwritten.
    #[error("there is such a file already, and no key is ever overwritten; name another one")]
    Taken,
    /// The file that the configuration names is not there.
    #[error(
        "it is not there; `toolgate ledger keygen --out {}` makes a key", path.display()
    )]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// The ledger's own key is not there, and the ledger has checkpoints.
    #[error(
        "the ledger's key is not there; put the one back that signs as {signer}, or name the file that holds it in \
         `ledger.signing_key`: no other key can go on with this ledger"
    )]
    Lost {
        /// Who signs.
        signer: Box<VerifierKey>,
    },
    /// Another key signs this ledger.
    #[error(
        "it signs as {found}, but this ledger is signed by {signer}; name the file that holds that key in \
         `ledger.signing_key`; to change keys, the one that signs must say so: `toolgate ledger rotate --new FILE`"
    )]
    Other {
        /// Who signs.
        signer: Box<VerifierKey>,
        /// What was found in its place.
        found: Box<VerifierKey>,
    },
}

/// The key that signs this ledger's checkpoints from here on. `signer` is who does so by the checkpoints that there are;
/// where there are none yet and the configuration names no file, a key of these random bytes is made, named as the instance.
///
/// To be called with the directory's lock held. Where it ends with an error, nothing was changed on disk.
///
/// # Errors
/// [`LedgerError`], which names the file and the cure.
pub fn load(
    settings: &LedgerSettings,
    instance: &str,
    signer: Option<&VerifierKey>,
    random: impl FnOnce() -> [u8; 32],
) -> Result<SigningKey, LedgerError> {
    if let Some(path) = &settings.signing_key {
        let key = read(path)?.ok_or_else(|| absent(path))?;
        return is_of(key, signer, path);
    }
    let (path, next) = (own(&settings.directory), next(&settings.directory));
    let key = read(&path)?;
    let Some(signer) = signer else {
        return match key {
            Some(key) => Ok(key),
            None => make(&path, instance, random()),
        };
    };
    let signs = |key: &SigningKey| key.verifier() == signer;
    match (key, read(&next)?) {
        // A rotation that was killed before its checkpoint: what was to come signs nothing.
        (Some(key), Some(_)) if signs(&key) => remove(&next).map(|()| key),
        // And one that was killed behind it: all that is left of it to do.
        (_, Some(key)) if signs(&key) => replace(&next, &path).map(|()| key),
        (Some(key), _) => is_of(key, Some(signer), &path),
        (None, _) => Err(fault(
            &path,
            KeyFault::Lost {
                signer: Box::new(signer.clone()),
            },
        )),
    }
}

/// Where a ledger keeps its own key.
pub fn own(directory: &Path) -> PathBuf {
    directory.join("key")
}

/// Where a rotation keeps the key that is to take the place of [`own`].
pub fn next(directory: &Path) -> PathBuf {
    directory.join("key.next")
}

/// What is wrong where a file that the configuration names is not there.
pub fn absent(path: &Path) -> LedgerError {
    let path = path.to_owned();
    fault(&path.clone(), KeyFault::Absent { path })
}

/// Reads a key; `None` where there is no such file.
///
/// # Errors
/// [`LedgerError`]: it can't be read, others can read it, or it holds no key.
pub fn read(path: &Path) -> Result<Option<SigningKey>, LedgerError> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LedgerError::io(path, &error)),
    };
    // Before it is opened: a pipe would hold the start.
    if !found.is_file() {
        return Err(fault(path, KeyFault::Kind));
    }
    let text = contents(path)?;
    SigningKey::parse(&text)
        .map(Some)
        .map_err(|why| fault(path, KeyFault::Text(why)))
}

fn contents(path: &Path) -> Result<SecretString, LedgerError> {
    let io = |error| LedgerError::io(path, &error);
    let file = File::open(path).map_err(io)?;
    // Of what was opened, not of what has its name by now.
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        let path = path.to_owned();
        return Err(fault(&path.clone(), KeyFault::Open { mode, path }));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES_MAX));
    file.take(KEY_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    // What is not text is no key, and its bytes are not to be shown.
    Ok(std::str::from_utf8(&bytes).unwrap_or_default().into())
}

/// Makes a key in a file that only its owner can read; the file is durable afterwards.
///
/// # Errors
/// [`LedgerError`]: there is such a file (it stays as it is), the name is none, or the system refuses.
pub fn make(path: &Path, name: &str, seed: [u8; 32]) -> Result<SigningKey, LedgerError> {
    let key = SigningKey::new(name, seed).map_err(|why| fault(path, KeyFault::Text(why)))?;
    match write(path, &key) {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(fault(path, KeyFault::Taken))
        }
        Err(error) => Err(LedgerError::io(path, &error)),
    }
}

/// Under another name first: a kill in between leaves no half a key, and a key that is there is never overwritten.
fn write(path: &Path, key: &SigningKey) -> io::Result<()> {
    let draft = draft(path);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&draft).and_then(|mut file| {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(key.to_text().expose_secret().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        // Fails where there is something of this name.
        std::fs::hard_link(&draft, path)
    });
    let removed = std::fs::remove_file(&draft);
    written.and(removed)?;
    File::open(folder(path))?.sync_all()
}

/// Gives a key the place of another.
///
/// # Errors
/// [`LedgerError`].
pub fn replace(from: &Path, to: &Path) -> Result<(), LedgerError> {
    std::fs::rename(from, to)
        .and_then(|()| File::open(folder(to))?.sync_all())
        .map_err(|error| LedgerError::io(to, &error))
}

/// Takes a key away that signed nothing.
///
/// # Errors
/// [`LedgerError`].
pub fn remove(path: &Path) -> Result<(), LedgerError> {
    std::fs::remove_file(path)
        .and_then(|()| File::open(folder(path))?.sync_all())
        .map_err(|error| LedgerError::io(path, &error))
}

fn is_of(
    key: SigningKey,
    signer: Option<&VerifierKey>,
    path: &Path,
) -> Result<SigningKey, LedgerError> {
    match signer.filter(|signer| *signer != key.verifier()) {
        None => Ok(key),
        Some(signer) => Err(fault(
            path,
            KeyFault::Other {
                signer: Box::new(signer.clone()),
                found: Box::new(key.verifier().clone()),
            },
        )),
    }
}

fn fault(path: &Path, fault: KeyFault) -> LedgerError {
    LedgerError::Key {
        path: path.to_owned(),
        fault,
    }
}

fn draft(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

/// The directory a file is in; the working directory, for a mere name.
fn folder(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// What only its owner may do with a key.
const OTHERS: u32 = 0o077;
/// No key's text is longer.
const KEY_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(directory: &Path) -> LedgerSettings {
        LedgerSettings::new(directory)
    }

    fn never() -> [u8; 32] {
        panic!("a key was made")
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(directory: &Path) -> Vec<String> {
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let entries = std::fs::read_dir(directory).unwrap().map(name);
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_first_start_makes_a_key_for_its_owner_alone_and_the_next_one_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let made = load(&settings, "gate-1", None, || [7; 32]).unwrap();
        assert_eq!(mode(&own(folder.path())), 0o600);
        assert_eq!(names(folder.path()), ["key"]);
        let found = load(&settings, "gate-1", None, never).unwrap();
        assert_eq!(found.verifier(), made.verifier());
        assert_eq!(found.verifier().name(), "gate-1");
        let signer = Some(made.verifier());
        assert!(load(&settings, "gate-1", signer, never).is_ok());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_the_cure_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        load(&settings, "gate-1", None, || [7; 32]).unwrap();
        let path = own(folder.path());
        for (mode, good) in [
            (0o640, false),
            (0o604, false),
            (0o620, false),
            (0o601, false),
            (0o600, true),
            (0o400, true),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let loaded = load(&settings, "gate-1", None, never);
            assert_eq!(loaded.is_ok(), good, "{mode:o}");
            if let Err(error) = loaded {
                let text = error.to_string();
                let cure = format!("chmod 600 {}", path.display());
                assert!(text.contains(&cure), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let good = load(&settings, "gate-1", None, || [7; 32]).unwrap();
        let good = good.to_text().expose_secret().to_owned();
        let path = own(folder.path());
        let wrong = good.replace("PRIVATE+KEY+gate-1", "PRIVATE+KEY+gate-2");
        for text in ["", "hunter2", &good[..good.len() - 4], &wrong] {
            std::fs::write(&path, text).unwrap();
            let error = load(&settings, "gate-1", None, never).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("/key"), "{shown}");
            assert!(text.is_empty() || !shown.contains(text), "{shown}");
        }
        std::fs::write(&path, [0xff; 2000]).unwrap();
        assert!(load(&settings, "gate-1", None, never).is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = load(&settings, "gate-1", None, never).unwrap_err();
        assert!(error.to_string().contains("not a file"), "{error}");
    }

    #[test]
    fn a_lost_key_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let signer = SigningKey::new("gate-1", [7; 32]).unwrap();
        let settings = settings(folder.path());
        let lost = load(&settings, "gate-1", Some(signer.verifier()), never).unwrap_err();
        assert!(
            lost.to_string().contains(&signer.verifier().to_string()),
            "{lost}"
        );
        assert!(names(folder.path()).is_empty());
        make(&own(folder.path()), "gate-1", [8; 32]).unwrap();
        let other = load(&settings, "gate-1", Some(signer.verifier()), never).unwrap_err();
        let text = other.to_string();
        assert!(text.contains(&signer.verifier().to_string()), "{text}");
        assert!(text.contains("toolgate ledger rotate"), "{text}");
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn a_configured_key_must_be_there_and_be_the_one_that_signs() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        let path = folder.path().join("elsewhere");
        settings.signing_key = Some(path.clone());
        let absent = load(&settings, "gate-1", None, never).unwrap_err();
        let cure = format!("keygen --out {}", path.display());
        assert!(absent.to_string().contains(&cure), "{absent}");
        let key = make(&path, "ledger.example", [7; 32]).unwrap();
        let found = load(&settings, "gate-1", None, never).unwrap();
        assert_eq!(found.verifier(), key.verifier());
        let other = SigningKey::new("gate-1", [8; 32]).unwrap();
        assert!(load(&settings, "gate-1", Some(other.verifier()), never).is_err());
        assert_eq!(names(folder.path()), ["elsewhere"]);
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        make(&path, "gate-1", [7; 32]).unwrap();
        let before = std::fs::read(&path).unwrap();
        let refused = make(&path, "gate-1", [8; 32]).unwrap_err().to_string();
        assert!(refused.contains("already"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn a_rotation_that_was_killed_goes_on_with_the_key_that_the_checkpoints_name() {
        let old = SigningKey::new("gate-1", [7; 32]).unwrap();
        let new = SigningKey::new("gate-1", [8; 32]).unwrap();
        for signer in [&old, &new] {
            let folder = tempfile::tempdir().unwrap();
            let settings = settings(folder.path());
            make(&own(folder.path()), "gate-1", [7; 32]).unwrap();
            make(&next(folder.path()), "gate-1", [8; 32]).unwrap();
            for _ in 0..2 {
                let found = load(&settings, "gate-1", Some(signer.verifier()), never).unwrap();
                assert_eq!(found.verifier(), signer.verifier());
                assert_eq!(names(folder.path()), ["key"]);
            }
        }
        // Neither of them: both stay.
        let folder = tempfile::tempdir().unwrap();
        make(&own(folder.path()), "gate-1", [7; 32]).unwrap();
        make(&next(folder.path()), "gate-1", [8; 32]).unwrap();
        let stranger = SigningKey::new("gate-1", [9; 32]).unwrap();
        let settings = settings(folder.path());
        assert!(load(&settings, "gate-1", Some(stranger.verifier()), never).is_err());
        assert_eq!(names(folder.path()), ["key", "key.next"]);
    }
}
