//! The file `roots`: where each segment begins in the tree, so that what was dropped before it is not needed.
//!
//! It is believed nowhere by itself: a root computed from a wrong line fits no checkpoint.

use super::canonical;
use crate::ledger::line::unhex;
use crate::ledger::roots::ROOTS;
use crate::ledger::tree::{Hash, Tree};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

/// What is said of a segment.
#[derive(Clone, Debug)]
pub struct Root {
    said: Value,
    /// Where it stands in the file, from 1.
    pub line: u64,
}

impl Root {
    /// The tree before a segment, and the digest of the line before it. `None`: it can't be one.
    pub fn start(&self, size: u64) -> Option<(Tree, Hash)> {
        let hash = |value: &Value| unhex(value.as_str()?.as_bytes());
        let frontier = self.said["frontier"].as_array()?.iter().map(hash);
        let tree = Tree::of(size, frontier.collect::<Option<_>>()?)?;
        let head = hash(&self.said["head"])?;
        (self.said["size"] == size).then_some((tree, head))
    }

    /// Whether the tree and the digest before the segment are these.
    pub fn is(&self, tree: &Tree, head: &Hash) -> bool {
        let start = self.start(tree.size());
        start.is_some_and(|(said, before)| said == *tree && before == *head)
    }
}

/// The lines of the file by segment; of several for one the last.
#[derive(Debug, Default)]
pub struct Roots {
    lines: HashMap<String, Root>,
    /// Lines that name no segment.
    pub unusable: u64,
}

impl Roots {
    /// Reads the file; one that is not there has no lines.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let file = match File::open(directory.join(ROOTS)) {
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
            let said = canonical::value(text);
            let segment = said.as_ref().and_then(|said| said["segment"].as_str());
            match segment.map(str::to_owned).zip(said) {
                Some((segment, said)) => {
                    let line = number;
                    roots.lines.insert(segment, Root { said, line });
                }
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

/// 53 hashes and what is around them fit many times.
const LINE_BYTES_MAX: u64 = 1 << 16;
