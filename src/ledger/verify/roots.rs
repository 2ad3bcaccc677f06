//! The file `roots`: where each segment begins in the tree, so that what was dropped before it is not needed.
//!
//! It is believed nowhere by itself: a root computed from a wrong line fits no checkpoint.

use super::canonical;
use crate::ledger::tree::{Hash, Tree};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

/// The tree before a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Grown over all records before the segment.
    pub tree: Tree,
    /// Digest of the line before the segment's first; zeros if there is none.
    pub head: Hash,
    /// Where it stands in the file, from 1.
    pub line: u64,
}

/// The lines of the file by segment; of several for one the last.
#[derive(Debug, Default)]
pub struct Roots {
    lines: HashMap<String, Root>,
    /// Lines that say nothing.
    pub unusable: u64,
}

impl Roots {
    /// Reads the file; one that is not there has no lines.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let file = match File::open(directory.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Roots::default()),
            file => file?,
        };
        let mut reader = BufReader::new(file);
        let mut roots = Roots::default();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            (&mut reader)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)?;
            // One that has no end is being written.
            let Some((b'\n', text)) = line.split_last() else {
                break;
            };
            match root(text, number) {
                Some((segment, root)) => drop(roots.lines.insert(segment, root)),
                None => roots.unusable += 1,
            }
        }
        Ok(roots)
    }

    /// That of a segment.
    pub fn of(&self, segment: &str) -> Option<&Root> {
        self.lines.get(segment)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

fn root(text: &[u8], line: u64) -> Option<(String, Root)> {
    let value = canonical::value(text)?;
    let hash = |value: &Value| super::unhex(value.as_str()?.as_bytes());
    let frontier = value.get("frontier")?.as_array()?.iter().map(hash);
    let tree = Tree::of(
        value.get("size")?.as_u64()?,
        frontier.collect::<Option<_>>()?,
    )?;
    let head = hash(value.get("head")?)?;
    let segment = value.get("segment")?.as_str()?.to_owned();
    Some((segment, Root { tree, head, line }))
}

/// Its name.
pub const FILE: &str = "roots";
/// 53 hashes and what is around them fit many times.
const LINE_BYTES_MAX: u64 = 1 << 16;
