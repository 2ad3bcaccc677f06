//! Reading the ledger: which records meet a filter, page by page, from either end.
//!
//! Blocking, bounded in bytes and memory, beside the data plane: nothing is kept between two calls, a cursor is a `seq`. It
//! proves nothing (that is [`super::verify`]'s), changes nothing and asks the writer nothing: it reads the files as they are,
//! of a gate that runs or of one that is gone, and leaves a line alone that is still being written.
//!
//! A call is two records, and only its decision says what was wanted. Where a filter asks for that, the outcome comes with
//! its decision: it is looked for in the [`JOIN_BYTES`] behind it, and where it is not found although there is more of
//! the log, the page says so ([`Page::unresolved`]), for "not found" is not "did not happen".

mod filter;
mod matcher;
mod scan;
mod stream;

pub use filter::{Filter, FilterError, KINDS, NAMES, Outcomes};
pub use scan::{TIME_SLACK, total as bytes_total};
pub use stream::{Follow, Found, Records};

use matcher::{Line, Matcher, outcome_of};
use scan::{Bounds, Scan, seq};
use serde_json::Value;
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// In which order records come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The first written first.
    Oldest,
    /// The last written first.
    Newest,
}

/// What was found in one go.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In the order asked for. Outcomes that came with their decisions are not counted by the limit, and can lie behind
    /// `next`; they do not come again.
    pub records: Vec<Value>,
    /// How many records met the filter.
    pub found: usize,
    /// Where to go on, as the next call's `after`; `None`: the end was reached. A page can be short, or empty, and have one:
    /// its bytes were used up.
    pub next: Option<u64>,
    /// Calls whose outcome may stand further behind than was looked: `req_...`.
    pub unresolved: Vec<String>,
    /// Lines that are no records: `toolgate ledger verify` says which.
    pub damaged: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// How far behind its decision a call's outcome is looked for, in bytes.
pub const JOIN_BYTES: u64 = 16 << 20;

/// The next at most `limit` records of a ledger's directory that meet the filter, behind the record `after` in this order.
/// Reads not much more than `bytes_max` bytes for them, and as many for their outcomes.
///
/// # Errors
/// What the system says, with the file.
pub fn page(
    directory: &Path,
    filter: &Filter,
    order: Order,
    after: Option<u64>,
    limit: usize,
    bytes_max: u64,
) -> io::Result<Page> {
    let matcher = Matcher::new(filter);
    let bounds = Bounds {
        after,
        since: filter.since,
        until: filter.until,
    };
    let mut scan = Scan::new(directory, order, bounds)?;
    let mut page = Page::default();
    let mut calls = HashMap::new();
    'reading: while let Some(block) = scan.next()? {
        let mut lines = matcher.candidates(block);
        if order == Order::Newest {
            lines.reverse();
        }
        for line in lines {
            let (record, at) = match matcher.judge(&block[line]) {
                Line::Found(record, at) => (record, at),
                Line::Other => continue,
                Line::NoRecord => {
                    page.damaged += 1;
                    continue;
                }
            };
            if let Some(request) = matcher.call(&record) {
                // Of a call's two decisions the last is the nearest to its outcome.
                let last = calls.entry(request).or_insert(at);
                *last = at.max(*last);
            }
            if matcher.shows(&record) {
                page.records.push(record);
            }
            page.found += 1;
            if page.found >= limit {
                page.next = Some(at);
                break 'reading;
            }
        }
        let edge = edge(block, order);
        if scan.bytes >= bytes_max {
            page.next = Some(edge?);
            break;
        }
    }
    page.bytes = scan.bytes;
    advanced(order, after, page.next)?;
    join(directory, calls, bytes_max, &mut page)?;
    let seq = |record: &Value| record["seq"].as_u64();
    match order {
        Order::Oldest => page.records.sort_by_key(seq),
        Order::Newest => page
            .records
            .sort_by_key(|record| std::cmp::Reverse(seq(record))),
    }
    Ok(page)
}

/// Fetches the outcomes of calls, given with their decisions' `seq`, into the page.
fn join(
    directory: &Path,
    calls: HashMap<String, u64>,
    bytes_max: u64,
    page: &mut Page,
) -> io::Result<()> {
    let mut calls: Vec<(u64, String)> = calls
        .into_iter()
        .map(|(request, at)| (at, request))
        .collect();
    calls.sort_unstable();
    let mut calls = calls.into_iter().peekable();
    let mut left = bytes_max.max(JOIN_BYTES);
    while let Some((first, _)) = calls.peek() {
        let bounds = Bounds {
            after: Some(*first),
            ..Bounds::default()
        };
        let mut scan = Scan::new(directory, Order::Oldest, bounds)?;
        // With how many bytes were read when it was begun to look for it.
        let mut open: HashMap<String, u64> = HashMap::new();
        loop {
            let before = scan.bytes;
            let Some(block) = scan.next()? else {
                // All there is was looked at: these have none yet.
                return Ok(());
            };
            let last = edge(block, Order::Oldest)?;
            while let Some((_, request)) = calls.next_if(|(at, _)| *at <= last) {
                open.insert(request, before);
            }
            outcomes(block, &mut open, page);
            let read = scan.bytes;
            page.bytes += read - before;
            left = left.saturating_sub(read - before);
            if left == 0 {
                page.unresolved
                    .extend(open.into_keys().chain(calls.map(|(_, request)| request)));
                return Ok(());
            }
            let far = |_: &String, since: &mut u64| read - *since >= JOIN_BYTES;
            page.unresolved
                .extend(open.extract_if(far).map(|(request, _)| request));
            if open.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// Takes the outcomes of open calls out of a block.
fn outcomes(block: &[u8], open: &mut HashMap<String, u64>, page: &mut Page) {
    for line in block.split(|byte| *byte == b'\n') {
        let request = outcome_of(line).and_then(|request| std::str::from_utf8(request).ok());
        if let Some(request) = request.filter(|request| open.contains_key(*request)) {
            match serde_json::from_slice(line) {
                Ok(record) => {
                    open.remove(request);
                    page.records.push(record);
                }
                Err(_) => page.damaged += 1,
            }
        }
    }
}

/// The `seq` of a block's last record in the order of reading.
fn edge(block: &[u8], order: Order) -> io::Result<u64> {
    let mut lines = block.split(|byte| *byte == b'\n');
    let found = match order {
        Order::Oldest => lines.rev().find_map(seq),
        Order::Newest => lines.find_map(seq),
    };
    found.ok_or_else(damaged)
}

/// A cursor that stands still or runs back would be followed for ever.
fn advanced(order: Order, after: Option<u64>, next: Option<u64>) -> io::Result<()> {
    match (order, after, next) {
        (Order::Oldest, Some(after), Some(next)) if next <= after => Err(damaged()),
        (Order::Newest, Some(after), Some(next)) if next >= after => Err(damaged()),
        _ => Ok(()),
    }
}

fn damaged() -> io::Error {
    let text = "the ledger's records are not numbered as they were written: `toolgate ledger verify` says where";
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests;
