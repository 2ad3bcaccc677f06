//! A log's leaves for those who prove something about it: nothing is verified here but that lines are records.

use super::directory::parts;
use super::lines::{Lines, Part};
use super::roots::Roots;
use super::signed::Signatures;
use crate::ledger::LedgerError;
use crate::ledger::storage::{first_seq, segments};
use crate::ledger::tree::{Hash, Tree};
use std::io;
use std::path::Path;

/// The leaves that there are, and the tree of those that were dropped.
#[derive(Debug)]
pub struct Leaves {
    /// The tree before the first of them.
    pub start: Tree,
    parts: Vec<Part>,
    bytes: u64,
}

/// Those of a directory.
///
/// # Errors
/// A file can't be read, or what was dropped left no root behind.
pub fn leaves(directory: &Path) -> Result<Leaves, LedgerError> {
    let fault = |error: io::Error| LedgerError::io(directory, &error);
    let roots = Roots::read(directory).map_err(fault)?;
    let names = segments(directory).map_err(fault)?;
    let first = names.first().and_then(|name| first_seq(name)).unwrap_or(0);
    let known = names.first().and_then(|name| roots.of(name)?.start(first));
    let start = match (first, known) {
        (0, _) => Tree::default(),
        (_, Some((start, _))) => start,
        (_, None) => {
            let why = "`roots` does not say where the oldest segment begins";
            return Err(fault(io::Error::other(why)));
        }
    };
    let (parts, bytes) = parts(directory, &names)?;
    Ok(Leaves {
        start,
        parts,
        bytes,
    })
}

/// The newest checkpoint of a directory as it was signed; `None`: there is none, or one of them is not good.
///
/// # Errors
/// The file can't be read.
pub fn newest_note(directory: &Path) -> Result<Option<Vec<u8>>, LedgerError> {
    let fault = |error: io::Error| LedgerError::io(directory, &error);
    let names = segments(directory).map_err(fault)?;
    let mut signatures = Signatures::open(directory).map_err(fault)?;
    signatures.dropped_before(names.first().and_then(|name| first_seq(name)).unwrap_or(0));
    signatures.newest().map_err(fault)
}

impl Leaves {
    /// Line by line, each with its leaf, until there are no more or `see` says that it is enough.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn each(self, mut see: impl FnMut(&[u8], &Hash) -> bool) -> Result<(), LedgerError> {
        std::thread::scope(|scope| {
            let mut lines = Lines::new(self.parts, self.bytes, scope);
            loop {
                let next = lines.next();
                let Some(chunk) = next.map_err(|(path, error)| LedgerError::io(&path, &error))?
                else {
                    return Ok(());
                };
                for line in &chunk.lines {
                    if !see(chunk.text(line), &line.leaf) {
                        return Ok(());
                    }
                }
                if chunk.bad.is_some() {
                    return Ok(());
                }
                lines.recycle(chunk);
            }
        })
    }
}
