//! The house's own rules: imports flow one way, documents agree with code, nothing secret or private is committed.
//!
//! These tests read the repository's files and run nothing of the gate.
#![allow(clippy::unwrap_used, reason = "every function here serves a test")]

mod documents;
mod hygiene;
mod law;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's top folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository, by its path from the top.
fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// Every file that is committed or would be: tracked, and untracked but not ignored. Paths are from the top.
fn files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(
        listed.status.success(),
        "git ls-files works in the repository"
    );
    String::from_utf8(listed.stdout)
        .unwrap()
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect()
}

/// The files under `folder` that end in `.rs`, with their text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    files()
        .into_iter()
        .filter(|path| path.starts_with(folder) && path.extension().is_some_and(|it| it == "rs"))
        .map(|path| {
            let text = read(path.to_str().unwrap());
            (path, text)
        })
        .collect()
}
