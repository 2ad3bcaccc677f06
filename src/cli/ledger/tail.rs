//! `toolgate ledger tail`: the newest records, and those to come. It looks at the files a few times a second, so it needs no
//! gate, and goes on over new segments and gates that come and go. Ctrl-C ends it.

use super::filters::Filters;
use super::rows::{HEADER, Layout, Outcome, row};
use super::{directory, tell_damaged, unreadable};
use crate::cli::{Failure, Globals, output};
use crate::ledger::query::{Filter, Follow, Order, page};
use clap::Args;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `ledger tail`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate ledger tail -f\n  toolgate ledger tail -f -n 0 --decision deny --json"
)]
pub(super) struct Arguments {
    /// The ledger's directory [default: the configuration's]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    filters: Filters,
    /// How many of those that are there
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
}

/// Prints, and goes on.
///
/// # Errors
/// [`Failure`]: a filter can't be meant, or the files can't be read.
pub(super) fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let filter = arguments.filters.read()?;
    let directory = directory(globals, arguments.directory.as_deref())?;
    // What is written from here on, the follower brings.
    let all = Filter::default();
    let last = page(&directory, &all, Order::Newest, None, 1, PAGE_BYTES).map_err(unreadable)?;
    let last = last
        .records
        .first()
        .and_then(|record| record["seq"].as_u64());
    let mut follow = Follow::new(&directory, &filter, last);
    let mut printer = Printer::new(globals.json);
    let mut newest = match last {
        Some(last) => newest(&directory, &filter, last + 1, arguments.lines)?,
        None => Vec::new(),
    };
    newest.reverse();
    if filter.joins() {
        let open = newest
            .iter()
            .filter(|record| record["kind"] == "decision" && !ended(&newest, record));
        open.filter_map(|record| record["request"].as_str())
            .for_each(|request| follow.await_outcome(request.to_owned()));
    }
    if !printer.print(&newest)? || !arguments.follow {
        return Ok(());
    }
    loop {
        let found = follow.read(PAGE_BYTES).map_err(unreadable)?;
        tell_damaged(found.damaged);
        if !printer.print(&found.records)? {
            return Ok(());
        }
        if found.end {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The newest so many that meet the filter, newest first.
fn newest(
    directory: &Path,
    filter: &Filter,
    before: u64,
    count: usize,
) -> Result<Vec<Value>, Failure> {
    let (mut records, mut found, mut after) = (Vec::new(), 0, Some(before));
    while found < count && after.is_some() {
        let page = page(
            directory,
            filter,
            Order::Newest,
            after,
            count - found,
            PAGE_BYTES,
        );
        let page = page.map_err(unreadable)?;
        tell_damaged(page.damaged);
        found += page.found;
        records.extend(page.records);
        after = page.next;
    }
    Ok(records)
}

fn ended(records: &[Value], decision: &Value) -> bool {
    let of =
        |record: &&Value| record["kind"] == "outcome" && record["request"] == decision["request"];
    records.iter().any(|record| of(&record))
}

/// Lines for a person, or the records as they are.
struct Printer {
    json: bool,
    layout: Option<Layout>,
    /// The `seq` of decisions whose outcome is still to come: what people read it by.
    calls: HashMap<String, u64>,
}

impl Printer {
    fn new(json: bool) -> Self {
        Printer {
            json,
            layout: None,
            calls: HashMap::new(),
        }
    }

    /// Whether anybody still reads.
    fn print(&mut self, records: &[Value]) -> Result<bool, Failure> {
        let mut text = String::new();
        for record in records {
            if self.json {
                text.push_str(&format!("{record}\n"));
            } else {
                let layout = self.layout.get_or_insert_with(|| {
                    let layout = Layout::usual();
                    text.push_str(&layout.line(&HEADER));
                    layout
                });
                text.push_str(&layout.line(&cells(&mut self.calls, record)));
            }
        }
        if text.is_empty() {
            Ok(true)
        } else {
            output::print_on(&text)
        }
    }
}

fn cells(calls: &mut HashMap<String, u64>, record: &Value) -> super::rows::Row {
    let request = record["request"].as_str().unwrap_or_default();
    match (record["kind"].as_str(), record["seq"].as_u64()) {
        (Some("decision"), Some(seq)) => {
            if calls.len() >= CALLS_MAX {
                calls.clear();
            }
            calls.insert(request.to_owned(), seq);
            row(record, &Outcome::None)
        }
        (Some("outcome"), _) => {
            let mut cells = row(record, &Outcome::Known(record));
            if let Some(seq) = calls.remove(request) {
                cells[3] = format!("end of {seq}");
            }
            cells
        }
        _ => row(record, &Outcome::None),
    }
}

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Read at once.
const PAGE_BYTES: u64 = 16 << 20;
/// Most calls remembered for the line of their outcome.
const CALLS_MAX: usize = 10_000;
