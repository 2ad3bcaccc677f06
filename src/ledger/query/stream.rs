//! Reading on and on: every line there is, or those that meet a filter, and what comes to them while one waits.
//!
//! In the order they were written. Nothing is held but one block, a place in the log, and the calls whose outcome is
//! awaited: at most [`CALLS_MAX`], the oldest forgotten first.

use super::filter::Filter;
use super::matcher::{Line, Matcher, outcome_of};
use super::scan::{Bounds, Scan};
use super::{Order, advanced, edge};
use memchr::memchr;
use serde_json::Value;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

/// Every whole line of a ledger's directory, in order, each without its newline.
pub struct Records {
    scan: Scan,
    block: Vec<u8>,
    from: usize,
}

impl Records {
    /// Of the directory as it is now.
    ///
    /// # Errors
    /// What the system says, with the file.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Ok(Records {
            scan: Scan::new(directory, Order::Oldest, Bounds::default())?,
            block: Vec::new(),
            from: 0,
        })
    }

    /// Bytes read so far; [`super::bytes_total`] has them all.
    pub fn bytes(&self) -> u64 {
        self.scan.bytes
    }

    /// The next line.
    ///
    /// # Errors
    /// What the system says, with the file.
    pub fn line(&mut self) -> io::Result<Option<&[u8]>> {
        if self.from >= self.block.len() {
            self.from = 0;
            self.block.clear();
            match self.scan.next()? {
                Some(block) => self.block.extend_from_slice(block),
                None => return Ok(None),
            }
        }
        let rest = &self.block[self.from..];
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        self.from += end + 1;
        Ok(Some(&rest[..end]))
    }
}

impl Iterator for Records {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line().map(|line| line.map(<[u8]>::to_vec)).transpose()
    }
}

/// A log that is followed: what meets the filter, from a place on, and whatever is written later.
pub struct Follow {
    directory: PathBuf,
    matcher: Matcher,
    bounds: Bounds,
    /// Calls whose outcome is awaited.
    open: HashSet<String>,
    /// The same, in order.
    queue: VecDeque<String>,
}

/// What one look brought.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order they were written; outcomes of calls that were found before, too.
    pub records: Vec<Value>,
    /// Whether the log's present end was reached.
    pub end: bool,
    /// Lines that are no records.
    pub damaged: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Most calls whose outcome is awaited.
pub const CALLS_MAX: usize = 100_000;

impl Follow {
    /// What comes behind the record `after`, or all of it.
    pub fn new(directory: &Path, filter: &Filter, after: Option<u64>) -> Self {
        Follow {
            directory: directory.to_owned(),
            matcher: Matcher::new(filter),
            bounds: Bounds {
                after,
                since: filter.since,
                until: filter.until,
            },
            open: HashSet::new(),
            queue: VecDeque::new(),
        }
    }

    /// Reads on, not much more than `bytes_max` bytes. Never waits.
    ///
    /// # Errors
    /// What the system says, with the file.
    pub fn read(&mut self, bytes_max: u64) -> io::Result<Found> {
        let mut found = Found::default();
        let mut scan = Scan::new(&self.directory, Order::Oldest, self.bounds.clone())?;
        while found.bytes < bytes_max {
            let Some(block) = scan.next()? else {
                found.end = true;
                break;
            };
            self.take(block, &mut found);
            let last = edge(block, Order::Oldest)?;
            advanced(Order::Oldest, self.bounds.after, Some(last))?;
            self.bounds.after = Some(last);
            self.bounds.since = None;
            found.bytes = scan.bytes;
        }
        Ok(found)
    }

    fn take(&mut self, block: &[u8], found: &mut Found) {
        // Where no outcome can be due, the needles alone say which lines are looked at.
        if !self.matcher.joins() {
            for line in self.matcher.candidates(block) {
                self.judge(&block[line], found);
            }
            return;
        }
        let mut candidates = self.matcher.candidates(block).into_iter().peekable();
        let mut from = 0;
        while from < block.len() {
            if self.open.is_empty() {
                let Some(next) = candidates.peek() else {
                    return;
                };
                from = next.start;
            }
            let end = memchr(b'\n', &block[from..]).map_or(block.len(), |newline| from + newline);
            let line = &block[from..end];
            if candidates.next_if(|next| next.start == from).is_some() {
                self.judge(line, found);
            } else {
                self.outcome(line, found);
            }
            from = end + 1;
        }
    }

    fn judge(&mut self, line: &[u8], found: &mut Found) {
        match self.matcher.judge(line) {
            Line::Found(record, _) => {
                if let Some(request) = self.matcher.call(&record) {
                    self.await_outcome(request);
                }
                if self.matcher.shows(&record) {
                    found.records.push(record);
                }
            }
            Line::Other => self.outcome(line, found),
            Line::NoRecord => found.damaged += 1,
        }
    }

    fn outcome(&mut self, line: &[u8], found: &mut Found) {
        let request = outcome_of(line).and_then(|request| std::str::from_utf8(request).ok());
        if let Some(request) = request.filter(|request| self.open.contains(*request)) {
            match serde_json::from_slice(line) {
                Ok(record) => {
                    self.open.remove(request);
                    found.records.push(record);
                }
                Err(_) => found.damaged += 1,
            }
        }
    }

    /// Tells the outcome of this call too, when it comes: its decision was found elsewhere.
    pub fn await_outcome(&mut self, request: String) {
        if !self.open.insert(request.clone()) {
            return;
        }
        self.queue.push_back(request);
        // Answered ones leave the queue late; it holds at most as many more.
        while self.queue.len() > CALLS_MAX {
            if let Some(oldest) = self.queue.pop_front() {
                self.open.remove(&oldest);
            }
        }
    }
}
