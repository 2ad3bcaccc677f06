//! All lines of all segments in order, read in chunks, each line with its two digests and what the chain needs of it.
//!
//! Digests don't depend on one another, so chunks go to threads and come back in order; what does depend (`prev`, the tree)
//! is the caller's. Of the files no more is in memory than a few chunks.

use super::canonical::{self, Essence};
use super::{LINE_BYTES_MAX, LineFault};
use crate::ledger::line::sha256;
use crate::ledger::tree::Hash;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, Read as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};

/// One segment to read.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its file.
    pub path: PathBuf,
    /// Bytes of it that count.
    pub limit: u64,
}

/// Some lines of one segment.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Which of the parts.
    pub part: usize,
    /// Where it begins in the file.
    pub from: u64,
    /// A byte to spare, then the lines. What separates them is no longer legible.
    text: Vec<u8>,
    /// Good lines, as far as they are records.
    pub lines: Vec<Line>,
    /// Why the rest was not read.
    pub bad: Option<LineFault>,
    /// Bytes behind the last newline, at the segment's end.
    pub torn: u64,
    /// Whether the segment ends here.
    pub end: bool,
}

/// A line that is a record.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    start: usize,
    end: usize,
    /// What the chain needs of it.
    pub essence: Essence,
    /// SHA-256: the next line's `prev`.
    pub digest: Hash,
    /// Its leaf in the tree.
    pub leaf: Hash,
}

impl Chunk {
    /// Bytes of the file that it holds.
    pub fn bytes(&self) -> u64 {
        self.text.len() as u64 - 1
    }

    /// The text of one of its lines.
    pub fn text(&self, line: &Line) -> &[u8] {
        &self.text[line.start..line.end]
    }

    /// Where a line begins in the file; of the one behind the last good one, too.
    pub fn offset(&self, index: usize) -> u64 {
        let behind = || self.lines.last().map_or(0, |last| last.end as u64);
        let at = |line: &Line| line.start as u64 - 1;
        self.from + self.lines.get(index).map_or_else(behind, at)
    }

    fn digest(&mut self) {
        let (mut start, end) = (1, self.text.len());
        while start < end {
            let Ok(length) = (&self.text[start..]).skip_until(b'\n') else {
                return;
            };
            let stop = start + length - 1;
            if length > LINE_BYTES_MAX + 1 {
                self.bad = Some(LineFault::TooLong);
                return;
            }
            let Some(essence) = canonical::record(&self.text[start..stop]) else {
                self.bad = Some(LineFault::NotARecord);
                return;
            };
            // A leaf has a zero in front of it: it takes the place of the newline that stands there.
            self.text[start - 1] = 0;
            self.lines.push(Line {
                start,
                end: stop,
                essence,
                digest: sha256(&self.text[start..stop]),
                leaf: sha256(&self.text[start - 1..stop]),
            });
            start = stop + 1;
        }
    }
}

/// Reads the parts.
pub struct Lines {
    parts: Vec<Part>,
    part: usize,
    file: Option<io::Take<File>>,
    /// How far the open file was handed out.
    from: u64,
    /// The beginning of a line whose end was not read yet.
    carry: Vec<u8>,
    workers: Vec<(SyncSender<Chunk>, Receiver<Chunk>)>,
    /// Chunks handed out and not taken back: which worker has them, in order.
    flying: VecDeque<usize>,
    given: usize,
    spare: Vec<Chunk>,
}

impl Lines {
    /// With as many threads of this scope as there are processors, if there is enough to do.
    pub fn new<'scope>(parts: Vec<Part>, bytes: u64, scope: &'scope Scope<'scope, '_>) -> Self {
        let processors =
            thread::available_parallelism().map_or(1, |count| count.get().min(WORKERS_MAX));
        let count = if bytes < 2 * CHUNK as u64 {
            0
        } else {
            processors
        };
        let workers = (0..count).map(|_| worker(scope)).collect();
        Lines {
            parts,
            part: 0,
            file: None,
            from: 0,
            carry: Vec::new(),
            workers,
            flying: VecDeque::new(),
            given: 0,
            spare: Vec::new(),
        }
    }

    /// The next chunk in order.
    ///
    /// # Errors
    /// The file, and what the system says.
    pub fn next(&mut self) -> Result<Option<Chunk>, (PathBuf, io::Error)> {
        loop {
            let idle = self.flying.len() < 2 * self.workers.len() || self.workers.is_empty();
            let read = if idle { self.read()? } else { None };
            match read {
                Some(mut chunk) if self.workers.is_empty() => {
                    chunk.digest();
                    return Ok(Some(chunk));
                }
                Some(chunk) => {
                    let worker = self.given % self.workers.len();
                    self.given += 1;
                    self.flying.push_back(worker);
                    self.workers[worker].0.send(chunk).map_err(|_| gone())?;
                }
                None => {
                    let Some(worker) = self.flying.pop_front() else {
                        return Ok(None);
                    };
                    return self.workers[worker].1.recv().map(Some).map_err(|_| gone());
                }
            }
        }
    }

    /// Takes a chunk back, to be filled again.
    pub fn recycle(&mut self, chunk: Chunk) {
        self.spare.push(chunk);
    }

    fn read(&mut self) -> Result<Option<Chunk>, (PathBuf, io::Error)> {
        let Some(part) = self.parts.get(self.part) else {
            return Ok(None);
        };
        let result = fill(part, &mut self.file, &mut self.carry, self.spare.pop());
        let mut chunk = result.map_err(|error| (part.path.clone(), error))?;
        (chunk.part, chunk.from) = (self.part, self.from);
        self.from += chunk.text.len() as u64 - 1;
        if chunk.end {
            self.part += 1;
            (self.file, self.from) = (None, 0);
        }
        Ok(Some(chunk))
    }
}

/// Whole lines from where the file stands; at its end, or where a line is too long for a record, `end` is set.
fn fill(
    part: &Part,
    file: &mut Option<io::Take<File>>,
    carry: &mut Vec<u8>,
    spare: Option<Chunk>,
) -> io::Result<Chunk> {
    let file = match file {
        Some(file) => file,
        None => file.insert(File::open(&part.path)?.take(part.limit)),
    };
    let Chunk {
        mut text,
        mut lines,
        ..
    } = spare.unwrap_or_default();
    lines.clear();
    text.clear();
    text.push(0);
    text.append(carry);
    let mut room = CHUNK;
    loop {
        let count = file.by_ref().take(room as u64).read_to_end(&mut text)?;
        let end = count < room;
        let whole = text[1..]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(1, |at| at + 2);
        let rest = text.len() - whole;
        let mut chunk = Chunk {
            lines,
            end,
            ..Chunk::default()
        };
        if end || rest > LINE_BYTES_MAX {
            (chunk.end, chunk.torn) = (true, rest as u64);
            chunk.bad = (!end).then_some(LineFault::TooLong);
            text.truncate(whole);
        } else if whole > 1 {
            carry.extend_from_slice(&text[whole..]);
            text.truncate(whole);
        } else {
            (lines, room) = (chunk.lines, CHUNK / 4);
            continue;
        }
        chunk.text = text;
        return Ok(chunk);
    }
}

fn worker<'scope>(scope: &'scope Scope<'scope, '_>) -> (SyncSender<Chunk>, Receiver<Chunk>) {
    let (give, given) = sync_channel::<Chunk>(2);
    let (done, finished) = sync_channel(2);
    scope.spawn(move || {
        for mut chunk in given {
            chunk.digest();
            if done.send(chunk).is_err() {
                return;
            }
        }
    });
    (give, finished)
}

fn gone() -> (PathBuf, io::Error) {
    let error = io::Error::other("a thread that computes digests ended");
    (PathBuf::from("ledger"), error)
}

/// What is read at once; with a line of the greatest length it is what one chunk takes.
const CHUNK: usize = 1 << 20;
/// More don't help: reading and the tree are one thread's.
const WORKERS_MAX: usize = 8;
