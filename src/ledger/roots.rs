//! Where the log stood when each of its segments began: the file `roots`.
//!
//! One canonical JSON line for each segment that is begun, written and synced before the segment's first record:
//! `{"frontier":[hex,...],"head":hex,"segment":"0000000000000000.jsonl","size":N,"time":"..."}`. `size` records stand before the
//! segment, `head` is the digest of the last of them (zeros if there is none), `frontier` that of the Merkle tree over them
//! ([`Tree::frontier`]). With it recovery starts from the last segment, and what is left can be proven after older segments
//! were dropped.
//!
//! Nothing here is believed for its own sake: a root that grew from such a line must be the one that a checkpoint has, or
//! recovery starts further back. A line that can't be read is as good as none; where a segment has several, the last counts.

use super::line::{hex, rfc3339, unhex};
use super::storage::{Segment, Storage, first_seq, write_all};
use super::tree::{self, Tree};
use super::verify::Chain;
use crate::policy::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{self, Read as _};

/// The file's name.
pub const ROOTS: &str = "roots";

/// Where a log ends: its chain, and the tree over the same lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    pub chain: Chain,
    pub tree: Tree,
}

impl End {
    /// Goes on behind a line, given without its newline.
    pub fn advance(&mut self, line: &[u8]) {
        self.chain.advance(line);
        self.tree.push(tree::leaf(line));
    }

    /// Records so far.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }
}

/// The open end of the file.
#[derive(Debug)]
pub(super) struct Roots {
    /// Absent after a fault.
    file: Option<Box<dyn Segment>>,
    /// Whole lines.
    bytes: u64,
}

impl Roots {
    /// Cuts a torn line off, if there is one, and goes on behind it.
    pub fn open(storage: &mut dyn Storage, bytes: u64) -> io::Result<Self> {
        let mut roots = Roots { file: None, bytes };
        roots.mend(storage)?;
        Ok(roots)
    }

    /// After a fault: whatever was half written goes.
    pub fn mend(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(storage.append(ROOTS, self.bytes)?);
        }
        Ok(())
    }

    /// Says where a segment begins; on the disk when this returns.
    pub fn begin(&mut self, segment: &str, end: &End, time: Timestamp) -> io::Result<()> {
        let mut file = self
            .file
            .take()
            .ok_or_else(|| io::Error::other("`roots` is not open"))?;
        let line = to_line(segment, end, time);
        write_all(file.as_mut(), line.as_bytes())?;
        file.sync()?;
        self.bytes += line.len() as u64;
        self.file = Some(file);
        Ok(())
    }
}

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Starts {
    ends: HashMap<String, End>,
    /// Of whole lines.
    pub bytes: u64,
}

impl Starts {
    /// Reads the file; absent, it says nothing.
    pub fn read(storage: &dyn Storage) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match storage.read(ROOTS, 0) {
            Ok(mut source) => source.read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Starts::of(&bytes))
    }

    /// The same, from the file's bytes.
    pub fn of(file: &[u8]) -> Self {
        let whole = file.iter().rposition(|byte| *byte == b'\n');
        let whole = &file[..whole.map_or(0, |at| at + 1)];
        let lines = whole.split(|byte| *byte == b'\n');
        Starts {
            ends: lines.filter_map(of_line).collect(),
            bytes: whole.len() as u64,
        }
    }

    /// Whether the file says that the segment begins there.
    pub fn says(&self, name: &str, begins: &End) -> bool {
        self.ends.get(name) == Some(begins)
    }

    /// Where this segment begins. That of the very first is known without the file.
    pub fn of_segment(&self, name: &str) -> Option<End> {
        if first_seq(name) == Some(0) {
            return Some(End::default());
        }
        self.ends.get(name).cloned()
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    frontier: Vec<String>,
    head: String,
    segment: String,
    size: u64,
    time: String,
}

fn to_line(segment: &str, end: &End, time: Timestamp) -> String {
    let line = Line {
        frontier: end.tree.frontier().iter().map(hex).collect(),
        head: hex(&end.chain.head),
        segment: segment.to_owned(),
        size: end.size(),
        time: rfc3339(time),
    };
    serde_json::to_string(&line).expect("texts and a number are JSON") + "\n"
}

/// A segment's name and where it begins; `None` if the line does not fit itself.
fn of_line(line: &[u8]) -> Option<(String, End)> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let frontier = line.frontier.iter().map(|text| unhex(text.as_bytes()));
    let end = End {
        chain: Chain {
            next: line.size,
            head: unhex(line.head.as_bytes())?,
        },
        tree: Tree::of(line.size, frontier.collect::<Option<_>>()?)?,
    };
    (first_seq(&line.segment) == Some(line.size)).then_some((line.segment, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_usable_line_of_a_segment_counts_and_a_torn_one_does_not() {
        let mut end = End::default();
        for number in 0..5_u8 {
            end.advance(&[number]);
        }
        let mut other = end.clone();
        other.chain.head = [9; 32];
        let name = "0000000000000005.jsonl";
        let time = Timestamp::from_micros(0);
        let (first, second) = (to_line(name, &other, time), to_line(name, &end, time));
        let wrong = second.replace("\"size\":5", "\"size\":7");
        let torn = &first[..first.len() - 1];
        let file = format!("{first}{second}{wrong}no line\n{torn}");
        let starts = Starts::of(file.as_bytes());
        assert_eq!(starts.of_segment(name), Some(end));
        assert_eq!(starts.bytes as usize, file.len() - torn.len());
        assert_eq!(
            starts.of_segment("0000000000000000.jsonl"),
            Some(End::default())
        );
        assert_eq!(starts.of_segment("0000000000000006.jsonl"), None);
        let value: serde_json::Value = serde_json::from_str(&second).unwrap();
        assert_eq!(value.to_string() + "\n", second, "canonical");
    }
}
