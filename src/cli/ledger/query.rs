//! `toolgate ledger query`: the records that meet some filters, as a table or as they are.

use super::filters::Filters;
use super::rows::{HEADER, Layout, Outcome, Row, row};
use super::{directory, tell_damaged, unreadable};
use crate::cli::progress::Progress;
use crate::cli::{Failure, Globals, output};
use crate::ledger::query::{Filter, Order, Outcomes, Page, bytes_total, page};
use clap::Args;
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;

/// `ledger query`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate ledger query --resource user:7 --since 7d\n  toolgate ledger query --decision deny --since 1h --newest --limit 20\n  toolgate ledger query --session ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5 --json | jq .target\n\nThe table has a call and its outcome in one row; SEQ is what `toolgate ledger show` takes. An outcome\n`unknown` is not `not done`."
)]
pub(super) struct Arguments {
    /// The ledger's directory [default: the configuration's]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    filters: Filters,
    /// Print no more than this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Newest first
    #[arg(long)]
    newest: bool,
}

/// Finds and prints.
///
/// # Errors
/// [`Failure`]: a filter can't be meant, or the files can't be read.
pub(super) fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let mut filter = arguments.filters.read()?;
    let directory = directory(globals, arguments.directory.as_deref())?;
    let calls = filter
        .kinds
        .as_ref()
        .is_none_or(|kinds| kinds.iter().any(|kind| kind == "decision"));
    if !globals.json && calls {
        join_outcomes(&mut filter);
    }
    let order = if arguments.newest {
        Order::Newest
    } else {
        Order::Oldest
    };
    let progress = Progress::bytes("reading", bytes_total(&directory).map_err(unreadable)?);
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let mut table = Table::default();
    let (mut after, mut damaged) = (None, 0);
    while left > 0 {
        let limit = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(PAGE_RECORDS);
        let found =
            page(&directory, &filter, order, after, limit, PAGE_BYTES).map_err(unreadable)?;
        progress.add(found.bytes);
        damaged += found.damaged;
        let text = if globals.json {
            lines(&found)
        } else {
            table.text(&found)
        };
        left = left.saturating_sub(found.found as u64);
        if !progress.aside(|| output::print_on(&text))? {
            return Ok(());
        }
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    progress.end();
    if !globals.json && !table.begun() {
        output::line("no records")?;
    }
    if !globals.json && left == 0 && after.is_some() {
        anstream::eprintln!("there may be more: --limit");
    }
    tell_damaged(damaged);
    table.tell_unresolved();
    Ok(())
}

/// A call's row has its outcome, whatever else is asked for.
fn join_outcomes(filter: &mut Filter) {
    filter.outcomes = Outcomes::WithDecisions;
    if let Some(kinds) = &mut filter.kinds
        && !kinds.iter().any(|kind| kind == "outcome")
    {
        kinds.push("outcome".to_owned());
    }
}

/// The records as they are.
pub(super) fn lines(page: &Page) -> String {
    page.records
        .iter()
        .map(|record| format!("{record}\n"))
        .collect()
}

/// A table that grows page by page; the first rows say how wide its columns are.
#[derive(Debug, Default)]
struct Table {
    layout: Option<Layout>,
    unresolved: usize,
}

impl Table {
    fn begun(&self) -> bool {
        self.layout.is_some()
    }

    fn text(&mut self, page: &Page) -> String {
        let rows = rows(page);
        self.unresolved += page.unresolved.len();
        if rows.is_empty() {
            return String::new();
        }
        let mut text = String::new();
        let layout = self.layout.get_or_insert_with(|| {
            let layout = Layout::new(&rows);
            text = layout.line(&HEADER);
            layout
        });
        text.extend(rows.iter().map(|row| layout.line(row)));
        text
    }

    fn tell_unresolved(&self) {
        if self.unresolved > 0 {
            let calls = self.unresolved;
            anstream::eprintln!(
                "of {calls} calls the outcome may stand further on than was read: `toolgate ledger show SEQ` reads on"
            );
        }
    }
}

/// A page's rows: each outcome in the row of its call's last decision.
fn rows(page: &Page) -> Vec<Row> {
    let (mut ends, mut last) = (HashMap::new(), HashMap::new());
    for record in &page.records {
        let (call, seq) = (call(record), record["seq"].as_u64());
        if record["kind"] == "outcome" {
            ends.insert(call, record);
        } else if record["kind"] == "decision" {
            let latest = last.entry(call).or_insert(seq);
            *latest = seq.max(*latest);
        }
    }
    let mut rows = Vec::new();
    for record in &page.records {
        let call = call(record);
        let outcome = match record["kind"].as_str() {
            Some("outcome") if last.contains_key(call) => continue,
            Some("outcome") => Outcome::Known(record),
            Some("decision") if last.get(call) != Some(&record["seq"].as_u64()) => Outcome::None,
            Some("decision") => match ends.get(call) {
                Some(end) => Outcome::Known(end),
                None if page.unresolved.iter().any(|open| open == call) => Outcome::Elsewhere,
                None => Outcome::Unknown,
            },
            _ => Outcome::None,
        };
        rows.push(row(record, &outcome));
    }
    rows
}

fn call(record: &Value) -> &str {
    record["request"].as_str().unwrap_or_default()
}

/// Read at once.
const PAGE_RECORDS: usize = 500;
const PAGE_BYTES: u64 = 16 << 20;
