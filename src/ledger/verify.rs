//! Reading the chain back: every line is a record, numbered without a gap, holding the digest of the line before it.
//!
//! Streams; a ledger of any size is read in the memory of one line. It says which line is the first bad one, and
//! changes nothing. What a chain alone can't show is an edit of the very last line, or its removal: compare
//! [`Whole::head`] with one that was kept elsewhere.

mod canonical;
mod directory;
mod leaves;
mod lines;
mod report;
mod roots;
mod signed;

use super::line::{sha256, unhex};
use super::storage::{first_seq, segments};
use serde::Deserialize;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

pub use canonical::{Essence, quick, record, slow};
pub use directory::{Given, directory};
pub(super) use leaves::{Leaves, leaves, newest_note};
pub use report::{Fault, Proven, Report, Trust, Unprovable, Wrong};

/// What was read and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// How many segments there are.
    pub segments: usize,
    /// How many records they hold.
    pub records: u64,
    /// SHA-256 of the last line, without its newline; zeros if there is none.
    pub head: [u8; 32],
}

/// The first line that is not as it was written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}, line {line}: {fault}", path.display())]
pub struct BadLine {
    /// The segment.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub fault: LineFault,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// The system can't read it.
    #[error("it can't be read: {0}")]
    Unreadable(String),
    /// The file ends within it.
    #[error("the file ends in the middle of it")]
    Torn,
    /// Longer than [`LINE_BYTES_MAX`].
    #[error("it is longer than {LINE_BYTES_MAX} bytes, no record is")]
    TooLong,
    /// Not an object with `seq`, `prev` and `kind`.
    #[error("it is not a record")]
    NotARecord,
    /// Records are missing, inserted or in another order.
    #[error("its seq is {found}, {expected} was due: records are missing, inserted or moved")]
    Seq {
        /// What follows from the line before.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// The line before was changed, or this one was.
    #[error("its prev is not the digest of the line before: one of the two was changed")]
    Prev,
}

/// Longest line there is, in bytes: all that is unbounded in a record is bounded before it comes here.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Verifies every segment of a ledger's directory.
///
/// # Errors
/// [`BadLine`]: the first that is not as it was written.
pub fn chain(directory: &Path) -> Result<Whole, BadLine> {
    let names = segments(directory).map_err(|error| unreadable(directory, 0, &error))?;
    let start = start(directory, &names);
    let mut chain = start;
    let mut damage = None;
    for (position, name) in names.iter().enumerate() {
        let path = directory.join(name);
        let expected = chain.next;
        if first_seq(name) != Some(expected) {
            let found = first_seq(name).unwrap_or(0);
            let fault = LineFault::Seq { expected, found };
            return Err(BadLine {
                path,
                line: 1,
                fault,
            });
        }
        // A segment that a fault ended has, in the first record of the next one, how much of it counts.
        let next = names.get(position + 1).map(|next| directory.join(next));
        let kept = next.and_then(|next| kept_of(&next, name));
        let file = File::open(&path).map_err(|error| unreadable(&path, 0, &error))?;
        let walk = walk(file, kept.unwrap_or(u64::MAX), &mut chain, |_| {});
        if let Some(fault) = walk.fault {
            damage.get_or_insert((path, walk.lines + 1, fault));
            break;
        }
    }
    match damage {
        Some((path, line, fault)) => Err(BadLine { path, line, fault }),
        None => Ok(Whole {
            segments: names.len(),
            records: chain.next - start.next,
            head: chain.head,
        }),
    }
}

/// Where the oldest segment begins: behind what was dropped, as `roots` has it.
fn start(directory: &Path, names: &[String]) -> Chain {
    let file = std::fs::read(directory.join(super::roots::ROOTS)).unwrap_or_default();
    let starts = super::roots::Starts::of(&file);
    let start = names.first().and_then(|name| starts.of_segment(name));
    start.map(|start| start.chain).unwrap_or_default()
}

/// How many bytes of segment `name` count, if the first record of `next` says so. Whether that record is genuine
/// shows when the chain is walked on from exactly there.
pub(super) fn kept_of(next: &Path, name: &str) -> Option<u64> {
    let mut line = Vec::new();
    let file = File::open(next).ok()?;
    let mut reader = BufReader::new(file).take(LINE_BYTES_MAX as u64);
    reader.read_until(b'\n', &mut line).ok()?;
    kept_in(&line, name)
}

/// The same, from the line itself.
pub(super) fn kept_in(line: &[u8], name: &str) -> Option<u64> {
    let record: Skeleton<'_> = serde_json::from_slice(line).ok()?;
    // A recovered segment was cut for good, so its record need not be obeyed here.
    let fault = record.kind == "gate" && record.change.as_deref() == Some("fault");
    (fault && record.segment.as_deref() == Some(name))
        .then_some(record.kept_bytes)
        .flatten()
}

fn unreadable(path: &Path, lines: u64, error: &io::Error) -> BadLine {
    BadLine {
        path: path.to_owned(),
        line: lines + 1,
        fault: LineFault::Unreadable(error.to_string()),
    }
}

/// Where a chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Chain {
    /// The `seq` of the next record.
    pub next: u64,
    /// What its `prev` must be.
    pub head: [u8; 32],
}

impl Chain {
    /// Goes on behind a line, given without its newline.
    pub fn advance(&mut self, line: &[u8]) {
        self.head = sha256(line);
        self.next += 1;
    }

    fn check(&self, line: &[u8]) -> Result<(), LineFault> {
        let record: Skeleton<'_> =
            serde_json::from_slice(line).map_err(|_| LineFault::NotARecord)?;
        let prev = unhex(record.prev.as_bytes()).ok_or(LineFault::NotARecord)?;
        self.next_is(record.seq, &prev)
    }

    /// Whether a record of this `seq` and `prev` is the next one.
    fn next_is(&self, seq: u64, prev: &[u8; 32]) -> Result<(), LineFault> {
        if seq != self.next {
            return Err(LineFault::Seq {
                expected: self.next,
                found: seq,
            });
        }
        if *prev != self.head {
            return Err(LineFault::Prev);
        }
        Ok(())
    }
}

/// What the chain itself needs of a record.
#[derive(Deserialize)]
struct Skeleton<'a> {
    seq: u64,
    #[serde(borrow)]
    prev: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    change: Option<Cow<'a, str>>,
    #[serde(borrow)]
    segment: Option<Cow<'a, str>>,
    kept_bytes: Option<u64>,
}

/// How far a segment is whole.
#[derive(Debug)]
pub(super) struct Walk {
    /// Good lines.
    pub lines: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// The first good line: it has the segment's age, and what became of the one before.
    pub first: Option<Vec<u8>>,
    /// Why the walk ended before the end.
    pub fault: Option<LineFault>,
}

/// Reads at most `limit` bytes of a segment, going on with `chain` for as long as lines are good. `each` gets every good
/// line, without its newline.
pub(super) fn walk(
    source: impl Read,
    limit: u64,
    chain: &mut Chain,
    mut each: impl FnMut(&[u8]),
) -> Walk {
    let mut reader = BufReader::with_capacity(1 << 16, source.take(limit));
    let mut walk = Walk {
        lines: 0,
        bytes: 0,
        first: None,
        fault: None,
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut reader).take(LINE_BYTES_MAX as u64 + 1);
        let fault = match bounded.read_until(b'\n', &mut line) {
            Ok(0) => return walk,
            Ok(_) if line.last() != Some(&b'\n') && line.len() > LINE_BYTES_MAX => {
                Some(LineFault::TooLong)
            }
            Ok(_) if line.last() != Some(&b'\n') => Some(LineFault::Torn),
            Ok(_) => chain.check(&line[..line.len() - 1]).err(),
            Err(error) => Some(LineFault::Unreadable(error.to_string())),
        };
        if fault.is_some() {
            walk.fault = fault;
            return walk;
        }
        chain.advance(&line[..line.len() - 1]);
        each(&line[..line.len() - 1]);
        walk.lines += 1;
        walk.bytes += line.len() as u64;
        walk.first.get_or_insert_with(|| line.clone());
    }
}
