//! Watching the files of a configuration: says that something changed, not what.
//!
//! The folders are watched rather than the files, because editors and Kubernetes replace files (and the links they are
//! behind) instead of writing to them. Whatever woke it, only content counts: a change is reported when the digest over
//! all files, and over the names that fit the patterns, differs from the last. Where the system's events fail, a look
//! every few seconds finds the change all the same. It refuses to load anything: who is told decides.

use super::files;
use aws_lc_rs::digest::{Context, SHA256};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    signals: Sender<Signal>,
}

enum Signal {
    /// Something happened in a watched folder.
    Woken,
    /// From now on these.
    Follow(Watched),
    /// The watcher was dropped.
    Stop,
}

/// What is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Files whose content counts; a missing one is a state like any other.
    pub files: Vec<PathBuf>,
    /// Patterns whose matches count.
    pub patterns: Vec<PathBuf>,
}

impl Watcher {
    /// Begins to watch. The receiver's number rises with each change of content.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(watched: Watched) -> std::io::Result<(Self, watch::Receiver<u64>)> {
        Self::start_with(watched, POLL)
    }

    fn start_with(
        watched: Watched,
        poll: Duration,
    ) -> std::io::Result<(Self, watch::Receiver<u64>)> {
        let (signals, inbox) = mpsc::channel();
        let (changes, receiver) = watch::channel(0);
        let events = signals.clone();
        let woken = move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| may_change(&event.kind)) {
                // The only receiver is the loop below; when it is gone there is nobody to wake.
                events.send(Signal::Woken).ok();
            }
        };
        let mut folders = Folders::new(notify::recommended_watcher(woken).ok());
        folders.follow(&watched);
        // After the folders are under watch, so that no change falls between.
        let seen = fingerprint(&watched);
        thread::Builder::new()
            .name("config-watch".into())
            .spawn(move || run(watched, seen, folders, &inbox, &changes, poll))?;
        Ok((Self { signals }, receiver))
    }

    /// Watches these from now on: what a load, successful or not, says it read. Not itself a change.
    pub fn follow(&self, watched: Watched) {
        self.signals.send(Signal::Follow(watched)).ok();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.signals.send(Signal::Stop).ok();
    }
}

fn run(
    mut watched: Watched,
    mut seen: Fingerprint,
    mut folders: Folders,
    inbox: &mpsc::Receiver<Signal>,
    changes: &watch::Sender<u64>,
    poll: Duration,
) {
    loop {
        match inbox.recv_timeout(poll) {
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Signal::Follow(more)) => {
                if more != watched {
                    // Only what was watched already can have changed unseen: what is new was read just now.
                    let before = fingerprint(&watched) != seen;
                    seen = fingerprint(&more);
                    watched = more;
                    folders.follow(&watched);
                    if before {
                        changes.send_modify(|count| *count += 1);
                    }
                }
                continue;
            }
            Ok(Signal::Woken) => {
                // Writers write in pieces: wait until it is quiet, and not for ever.
                for _ in 0..QUIET_WAITS_MAX {
                    match inbox.recv_timeout(QUIET) {
                        Ok(Signal::Woken) => {}
                        Ok(Signal::Follow(more)) => {
                            watched = more;
                            folders.follow(&watched);
                        }
                        Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                        Err(RecvTimeoutError::Timeout) => break,
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = fingerprint(&watched);
        if now != seen {
            seen = now;
            folders.follow(&watched);
            changes.send_modify(|count| *count += 1);
        }
    }
}

/// Looking at a file is an event too, and it is we who look.
fn may_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => *access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// The folders under the system's watch. Without a watcher, or where a folder can't be watched, the poll remains.
struct Folders {
    watcher: Option<notify::RecommendedWatcher>,
    now: BTreeSet<PathBuf>,
}

impl Folders {
    fn new(watcher: Option<notify::RecommendedWatcher>) -> Self {
        Self {
            watcher,
            now: BTreeSet::new(),
        }
    }

    fn follow(&mut self, watched: &Watched) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted = folders(watched);
        for gone in self.now.difference(&wanted) {
            watcher.unwatch(gone).ok();
        }
        // Those already under watch are asked for again: the folder behind a path may be another by now.
        self.now = wanted;
        self.now
            .retain(|folder| watcher.watch(folder, RecursiveMode::NonRecursive).is_ok());
    }
}

/// The folders that hold the files, and those that hold what links lead to.
fn folders(watched: &Watched) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for path in watched.files.iter().chain(&watched.patterns) {
        folders.insert(folder_of(path));
        if let Ok(target) = path.canonicalize() {
            folders.insert(folder_of(&target));
        }
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

type Fingerprint = [u8; 32];

/// Digest over what is watched: names and contents.
fn fingerprint(watched: &Watched) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    let fitting = watched.patterns.iter().flat_map(|pattern| {
        files::matching(Path::new(""), &pattern.to_string_lossy()).unwrap_or_default()
    });
    let paths: BTreeSet<PathBuf> = watched.files.iter().cloned().chain(fitting).collect();
    for path in paths {
        let mut file = Context::new(&SHA256);
        match std::fs::read(&path) {
            Ok(bytes) => file.update(&bytes),
            Err(error) => file.update(format!("{:?}", error.kind()).as_bytes()),
        }
        context.update(path.as_os_str().as_encoded_bytes());
        context.update(&[0]);
        context.update(file.finish().as_ref());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// How often a look is taken without being woken.
const POLL: Duration = Duration::from_secs(5);
/// How long it must be quiet after an event.
const QUIET: Duration = Duration::from_millis(100);
/// How often quiet is waited for: two seconds of steady events are enough.
const QUIET_WAITS_MAX: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Waits for the next change, and fails the test where none comes.
    fn changed(receiver: &mut watch::Receiver<u64>) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let waited = tokio::time::timeout(Duration::from_secs(30), receiver.changed()).await;
            waited.expect("a change is seen").unwrap();
        });
        *receiver.borrow_and_update()
    }

    /// A poll this slow leaves it to the system's events.
    const NEVER: Duration = Duration::from_secs(3600);

    #[test]
    fn a_changed_a_replaced_and_a_new_file_are_each_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("toolgate.yaml");
        fs::write(&file, "a").unwrap();
        let watched = Watched {
            files: vec![file.clone()],
            patterns: vec![folder.path().join("*.yaml")],
        };
        let (_watcher, mut receiver) = Watcher::start_with(watched, NEVER).unwrap();
        fs::write(&file, "b").unwrap();
        assert_eq!(changed(&mut receiver), 1);
        fs::write(folder.path().join("toolgate.tmp"), "c").unwrap();
        fs::rename(folder.path().join("toolgate.tmp"), &file).unwrap();
        assert_eq!(changed(&mut receiver), 2);
        fs::write(folder.path().join("more.yaml"), "d").unwrap();
        assert_eq!(changed(&mut receiver), 3);
    }

    #[test]
    fn a_swapped_link_as_a_config_map_has_it_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", "a"), ("v2", "b")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("demo.yaml"), text).unwrap();
        }
        std::os::unix::fs::symlink("v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/demo.yaml", at("demo.yaml")).unwrap();
        let watched = Watched {
            files: vec![at("demo.yaml")],
            patterns: Vec::new(),
        };
        let (_watcher, mut receiver) = Watcher::start_with(watched, NEVER).unwrap();
        std::os::unix::fs::symlink("v2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(changed(&mut receiver), 1);
    }

    #[test]
    fn without_events_the_poll_finds_the_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("toolgate.yaml");
        fs::write(&file, "a").unwrap();
        let watched = Watched {
            files: vec![file.clone()],
            patterns: Vec::new(),
        };
        let (_signals, inbox) = mpsc::channel();
        let (changes, mut receiver) = watch::channel(0);
        let seen = fingerprint(&watched);
        fs::write(&file, "b").unwrap();
        thread::spawn(move || {
            run(
                watched,
                seen,
                Folders::new(None),
                &inbox,
                &changes,
                Duration::from_millis(10),
            );
        });
        assert_eq!(changed(&mut receiver), 1);
    }

    #[test]
    fn writing_the_same_content_again_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("toolgate.yaml");
        fs::write(&file, "a").unwrap();
        let watched = Watched {
            files: vec![file.clone()],
            patterns: Vec::new(),
        };
        let before = fingerprint(&watched);
        fs::write(&file, "a").unwrap();
        assert_eq!(fingerprint(&watched), before);
        fs::remove_file(&file).unwrap();
        assert_ne!(fingerprint(&watched), before);
    }
}
