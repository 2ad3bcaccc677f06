//! The ledger's files as blocks of whole lines, oldest or newest first, from anywhere in them.
//!
//! Segments, and the bytes within them, that can't hold what is asked for are found by bisection and never read. It knows
//! what belongs to the ledger (not what a fault left behind `kept_bytes`, nor a line that is still being written), does not
//! mind segments that were dropped, and holds one block in memory. It looks at no field but `seq` and `time`.

use super::super::line::rfc3339;
use super::super::storage::{first_seq, segments};
use super::super::verify::{LINE_BYTES_MAX, kept_of};
use super::Order;
use crate::policy::time::Timestamp;
use memchr::{memchr, memrchr};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How far a record's time can lie behind that of a record before it: a call is dated before it waits for its turn, and
/// clocks are set. What ran back further can be missed by `since` and `until`; without them nothing is.
pub const TIME_SLACK: Duration = Duration::from_secs(3600);

/// Which records to read at all.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    /// Only those that come behind this one, in the order of reading.
    pub after: Option<u64>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// What is read, block by block.
pub(super) struct Scan {
    order: Order,
    bounds: Bounds,
    parts: VecDeque<Part>,
    open: Option<Window>,
    block: Vec<u8>,
    /// Bytes read so far.
    pub bytes: u64,
}

/// A segment.
#[derive(Clone, Debug)]
struct Part {
    path: PathBuf,
    name: String,
    /// The one behind it: its first record's `seq`, and its file.
    next: Option<(u64, PathBuf)>,
}

/// What is left to read of a segment; begins and, but for the open end of the log, ends with a line.
#[derive(Debug)]
struct Window {
    file: File,
    path: PathBuf,
    from: u64,
    to: u64,
}

impl Scan {
    /// Over a ledger's directory as it is now.
    pub fn new(directory: &Path, order: Order, bounds: Bounds) -> io::Result<Self> {
        let names = segments(directory)?;
        let firsts: Vec<u64> = names.iter().filter_map(|name| first_seq(name)).collect();
        let (mut from, mut to) = (0, names.len());
        match (order, bounds.after) {
            (Order::Oldest, Some(after)) => {
                let later = firsts.partition_point(|first| *first <= after.saturating_add(1));
                from = later.saturating_sub(1);
            }
            (Order::Newest, Some(before)) => to = firsts.partition_point(|first| *first < before),
            (_, None) => {}
        }
        if let Some(edge) = bounds.since.map(early) {
            let later = bisect(from, to, |at| {
                first_time(&directory.join(&names[at])).is_some_and(|time| time < edge)
            });
            from = from.max(later.saturating_sub(1));
        }
        if let Some(edge) = bounds.until.map(late) {
            to = bisect(from, to, |at| {
                first_time(&directory.join(&names[at])).is_none_or(|time| time <= edge)
            });
        }
        let part = |at: usize| Part {
            path: directory.join(&names[at]),
            name: names[at].clone(),
            next: names
                .get(at + 1)
                .map(|next| (firsts[at + 1], directory.join(next))),
        };
        let mut parts: VecDeque<Part> = (from..to).map(part).collect();
        if order == Order::Newest {
            parts = parts.into_iter().rev().collect();
        }
        Ok(Scan {
            order,
            bounds,
            parts,
            open: None,
            block: Vec::new(),
            bytes: 0,
        })
    }

    /// The next block: whole lines, in the order of the file. `None`: that was all.
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            if self.open.is_none() {
                let Some(part) = self.parts.pop_front() else {
                    return Ok(None);
                };
                match Window::open(&part, self.order, &self.bounds) {
                    Ok(window) => self.open = Some(window),
                    // Dropped since the directory was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(at(&part.path, &error)),
                }
            }
            let Some(window) = &mut self.open else {
                continue;
            };
            let found = match self.order {
                Order::Oldest => window.forward(&mut self.block)?,
                Order::Newest => window.backward(&mut self.block)?,
            };
            match found {
                Some((from, to)) => {
                    self.bytes += (to - from) as u64;
                    return Ok(Some(&self.block[from..to]));
                }
                None => self.open = None,
            }
        }
    }
}

impl Window {
    fn open(part: &Part, order: Order, bounds: &Bounds) -> io::Result<Self> {
        let file = File::open(&part.path)?;
        let mut window = Window {
            to: file.metadata()?.len(),
            from: 0,
            path: part.path.clone(),
            file,
        };
        if let Some((first, next)) = &part.next {
            let kept = kept_of(next, &part.name);
            window.to = window.to.min(kept.unwrap_or(u64::MAX));
            // The record that says what counts may be on its way: what its segment has again does not.
            if window
                .last()?
                .is_some_and(|line| seq(&line).is_none_or(|seq| seq >= *first))
            {
                window.to = window.locate(|line| seq(line).is_none_or(|seq| seq >= *first))?;
            }
        }
        match (order, bounds.after) {
            (Order::Oldest, Some(after)) => {
                window.from = window.locate(|line| seq(line).is_none_or(|seq| seq > after))?;
            }
            (Order::Newest, Some(before)) => {
                window.to = window.locate(|line| seq(line).is_none_or(|seq| seq >= before))?;
            }
            (_, None) => {}
        }
        if let Some(edge) = bounds.since.map(early) {
            window.from =
                window.locate(|line| time(line).is_none_or(|time| time >= edge.as_bytes()))?;
        }
        if let Some(edge) = bounds.until.map(late) {
            window.to =
                window.locate(|line| time(line).is_some_and(|time| time > edge.as_bytes()))?;
        }
        Ok(window)
    }

    fn forward(&mut self, block: &mut Vec<u8>) -> io::Result<Option<(usize, usize)>> {
        let mut size = BLOCK_BYTES;
        while self.from < self.to {
            let asked = size.min(self.to - self.from);
            let got = self.read(self.from, asked, block)?;
            if let Some(newline) = memrchr(b'\n', &block[..got]) {
                self.from += newline as u64 + 1;
                return Ok(Some((0, newline + 1)));
            }
            if asked == self.to - self.from {
                break;
            }
            size = self.longer(size)?;
        }
        Ok(None)
    }

    fn backward(&mut self, block: &mut Vec<u8>) -> io::Result<Option<(usize, usize)>> {
        let mut size = BLOCK_BYTES;
        while self.from < self.to {
            let start = self.to.saturating_sub(size).max(self.from);
            let got = self.read(start, self.to - start, block)?;
            // What has no end is being written.
            let end = memrchr(b'\n', &block[..got]).map_or(0, |newline| newline + 1);
            let whole = if start == self.from {
                Some(0)
            } else {
                memchr(b'\n', &block[..end]).map(|newline| newline + 1)
            };
            if let Some(from) = whole.filter(|from| *from < end) {
                self.to = start + from as u64;
                return Ok(Some((from, end)));
            }
            if start == self.from {
                break;
            }
            size = self.longer(size)?;
        }
        Ok(None)
    }

    /// As much as there is of `bytes` from `from` on.
    fn read(&self, from: u64, bytes: u64, block: &mut Vec<u8>) -> io::Result<usize> {
        block.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
        let mut got = 0;
        while got < block.len() {
            match self.file.read_at(&mut block[got..], from + got as u64) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(at(&self.path, &error)),
            }
        }
        Ok(got)
    }

    fn longer(&self, size: u64) -> io::Result<u64> {
        if size > 2 * LINE_BYTES_MAX as u64 {
            let text = "it has a line longer than any record: `toolgate ledger verify` says which";
            return Err(at(
                &self.path,
                &io::Error::new(io::ErrorKind::InvalidData, text),
            ));
        }
        Ok(size * 2)
    }

    /// Where the first line stands for which `late` holds; it holds for all behind it, too (of times: within the slack).
    fn locate(&self, late: impl Fn(&[u8]) -> bool) -> io::Result<u64> {
        let (mut low, mut high) = (self.from, self.to);
        let mut block = Vec::new();
        // `low` and `high` begin lines; `late` holds at `high` if a line begins there, and not before `low`.
        while high - low > BISECT_BYTES {
            let middle = low + (high - low) / 2;
            let Some((start, line)) = self.line_behind(middle, high, &mut block)? else {
                break;
            };
            if late(line) {
                high = start;
            } else {
                low = start + line.len() as u64 + 1;
            }
        }
        let got = self.read(low, high - low, &mut block)?;
        let mut rest = &block[..got];
        while let Some(end) = memchr(b'\n', rest) {
            if late(&rest[..end]) {
                break;
            }
            low += end as u64 + 1;
            rest = &rest[end + 1..];
        }
        Ok(low)
    }

    /// The first line that begins behind `from` and ends before `to`, and where.
    fn line_behind<'a>(
        &self,
        from: u64,
        to: u64,
        block: &'a mut Vec<u8>,
    ) -> io::Result<Option<(u64, &'a [u8])>> {
        let mut size = LINE_BYTES;
        loop {
            let asked = size.min(to - from);
            let got = self.read(from, asked, block)?;
            let start = memchr(b'\n', &block[..got]).map(|newline| newline + 1);
            let end =
                start.and_then(|start| memchr(b'\n', &block[start..got]).map(|end| start + end));
            match (start, end) {
                (Some(start), Some(end)) => {
                    return Ok(Some((from + start as u64, &block[start..end])));
                }
                _ if asked == to - from => return Ok(None),
                _ => size = self.longer(size)?,
            }
        }
    }

    /// The last whole line.
    fn last(&self) -> io::Result<Option<Vec<u8>>> {
        let mut rest = Window {
            file: self.file.try_clone()?,
            path: self.path.clone(),
            from: self
                .from
                .max(self.to.saturating_sub(LINE_BYTES_MAX as u64 + 1)),
            to: self.to,
        };
        let mut block = Vec::new();
        let found = rest.backward(&mut block)?;
        Ok(found.map(|(from, to)| {
            let lines = &block[from..to - 1];
            let start = memrchr(b'\n', lines).map_or(0, |newline| newline + 1);
            lines[start..].to_vec()
        }))
    }
}

/// The `seq` of a line. Nested objects stand before it, and within texts a quote is escaped: the last one is the record's.
pub(super) fn seq(line: &[u8]) -> Option<u64> {
    let at = memchr::memmem::rfind(line, b"\"seq\":")? + b"\"seq\":".len();
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let digits = &line[at..at + digits.count()];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The `time` of a line: in UTC with six digits behind the second, so it compares as text.
pub(super) fn time(line: &[u8]) -> Option<&[u8]> {
    value(line, b"\"time\":\"")
}

/// The text behind a key, up to the next quote.
pub(super) fn value<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = memchr::memmem::rfind(line, key)? + key.len();
    let end = memchr(b'"', &line[at..])?;
    Some(&line[at..at + end])
}

/// All bytes of the segments, for who shows progress.
pub fn total(directory: &Path) -> io::Result<u64> {
    let names = segments(directory)?;
    let sizes = names
        .iter()
        .map(|name| std::fs::metadata(directory.join(name)));
    Ok(sizes.filter_map(Result::ok).map(|file| file.len()).sum())
}

fn early(since: Timestamp) -> String {
    let slack = i64::try_from(TIME_SLACK.as_micros()).unwrap_or(i64::MAX);
    rfc3339(Timestamp::from_micros(since.micros().saturating_sub(slack)))
}

fn late(until: Timestamp) -> String {
    rfc3339(until.plus(TIME_SLACK))
}

/// The time of a segment's first record.
fn first_time(path: &Path) -> Option<String> {
    let mut line = Vec::new();
    let file = File::open(path).ok()?;
    let mut reader = BufReader::new(file).take(LINE_BYTES_MAX as u64);
    reader.read_until(b'\n', &mut line).ok()?;
    let time = std::str::from_utf8(time(&line)?).ok()?;
    Some(time.to_owned())
}

/// The first of `from..to` for which `early` does not hold.
fn bisect(from: usize, to: usize, early: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (from, to);
    while low < high {
        let middle = low + (high - low) / 2;
        if early(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// An error that names the file.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Read at once.
const BLOCK_BYTES: u64 = 256 * 1024;
/// Bisection goes no further.
const BISECT_BYTES: u64 = 32 * 1024;
/// Most lines are shorter.
const LINE_BYTES: u64 = 8 * 1024;
