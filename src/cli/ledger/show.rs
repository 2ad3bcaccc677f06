//! `toolgate ledger show`: one call, session or approval as a story. It finds what belongs to it: the decisions, the
//! approval and each person's word, the grants, the outcome, and what the agent said that it was doing.

use super::story::Story;
use super::{directory, tell_damaged, unreadable};
use crate::cli::progress::Progress;
use crate::cli::{Failure, Globals, output};
use crate::io::clock::{Clock as _, SystemClock};
use crate::ledger::query::{Filter, Follow, Order, bytes_total, page};
use clap::Args;
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// `ledger show`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate ledger show 4711\n  toolgate ledger show ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5\n\nA record's number (SEQ of `toolgate ledger query`) shows the call, approval or session that it is of."
)]
pub(super) struct Arguments {
    /// req_..., ses_..., apr_... or a record's number
    #[arg(value_name = "ID")]
    id: String,
    /// The ledger's directory [default: the configuration's]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// What a story is about.
enum Subject {
    Session(String),
    Request(String),
    Approval(String),
}

/// Finds and tells.
///
/// # Errors
/// [`Failure::No`]: the ledger has nothing of this id.
pub(super) fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let directory = directory(globals, arguments.directory.as_deref())?;
    let subject = match subject(&directory, &arguments.id)? {
        Ok(subject) => subject,
        // It belongs to nobody's run.
        Err(record) if globals.json => return output::line(&record.to_string()),
        Err(record) => return output::print(&output::object(&record)),
    };
    let mut reader = Reader {
        // A story may need the log to be read three times.
        progress: Progress::bytes("reading", 3 * bytes_total(&directory).map_err(unreadable)?),
        directory,
        damaged: 0,
    };
    let (records, cut) = reader.story(&subject)?;
    reader.progress.end();
    if globals.json {
        let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
        output::print(&lines)?;
    } else {
        let whole = matches!(subject, Subject::Session(_));
        output::print(&Story::new(&records, whole).text())?;
    }
    if cut {
        anstream::eprintln!(
            "only the first {RECORDS_MAX} records: `toolgate ledger query --session` has them all"
        );
    }
    tell_damaged(reader.damaged);
    Ok(())
}

/// What is meant, or the record itself where it is of no run.
fn subject(directory: &Path, id: &str) -> Result<Result<Subject, Value>, Failure> {
    let of = |name: &str, value: &str| {
        let read = Filter::default().set(name, value, SystemClock.now().wall);
        read.map_err(|error| Failure::Usage(error.to_string()))
    };
    if id.starts_with("req_") {
        return of("request", id).map(|()| Ok(Subject::Request(id.to_owned())));
    }
    if id.starts_with("ses_") {
        return of("session", id).map(|()| Ok(Subject::Session(id.to_owned())));
    }
    if id.starts_with("apr_") {
        return of("approval", id).map(|()| Ok(Subject::Approval(id.to_owned())));
    }
    let Ok(seq) = id.parse::<u64>() else {
        let text =
            "give req_..., ses_..., apr_... or a record's number (SEQ of `toolgate ledger query`)";
        return Err(Failure::Usage(text.to_owned()));
    };
    let (all, before) = (Filter::default(), seq.checked_sub(1));
    let mut page = page(directory, &all, Order::Oldest, before, 1, 1 << 20).map_err(unreadable)?;
    let record = page.records.pop().filter(|record| record["seq"] == seq);
    let record = record.ok_or_else(|| Failure::No(format!("the ledger has no record {seq}")))?;
    let id = |name: &str| record[name].as_str().map(str::to_owned);
    Ok(match record["kind"].as_str() {
        Some("decision" | "outcome") => id("request").map(Subject::Request),
        Some("approval") => id("approval").map(Subject::Approval),
        _ => id("session").map(Subject::Session),
    }
    .ok_or(record))
}

struct Reader {
    directory: PathBuf,
    progress: Progress,
    damaged: u64,
}

impl Reader {
    /// What belongs to the story, in order, and whether there would be more.
    fn story(&mut self, subject: &Subject) -> Result<(Vec<Value>, bool), Failure> {
        let (name, id) = match subject {
            Subject::Session(id) => ("session", id),
            Subject::Request(id) => ("request", id),
            Subject::Approval(id) => ("approval", id),
        };
        let own = self.all(name, id, |_| true)?;
        let text = |record: &Value, name: &str| record[name].as_str().map(str::to_owned);
        let Some(session) = own.0.iter().find_map(|record| text(record, "session")) else {
            return Err(Failure::No(format!("the ledger has nothing of {id}")));
        };
        if name == "session" {
            return Ok(own);
        }
        let ids = |records: &[Value], name: &str| -> HashSet<String> {
            records
                .iter()
                .filter_map(|record| text(record, name))
                .collect()
        };
        let approvals = ids(&own.0, "approval");
        let has = |record: &Value, name: &str, ids: &HashSet<String>| {
            record[name].as_str().is_some_and(|id| ids.contains(id))
        };
        // A retry that joined the same approval, and the call by which it ran, are part of it.
        let asked = match approvals.is_empty() {
            true => Vec::new(),
            false => {
                let of = |record: &Value| has(record, "approval", &approvals);
                self.all("session", &session, of)?.0
            }
        };
        let mut requests = ids(&asked, "request");
        requests.extend(ids(&own.0, "request"));
        let mut grants = ids(&asked, "grant");
        grants.extend(ids(&own.0, "grant"));
        let end = own
            .0
            .iter()
            .chain(&asked)
            .filter_map(|record| record["seq"].as_u64())
            .max();
        self.all("session", &session, |record| {
            match record["kind"].as_str() {
                Some("session") => record["seq"].as_u64() <= end,
                Some("decision" | "outcome") => has(record, "request", &requests),
                Some("approval") => has(record, "approval", &approvals),
                Some("grant") => has(record, "grant", &grants),
                _ => false,
            }
        })
    }

    /// Records with this id that are picked: at most [`RECORDS_MAX`].
    fn all(
        &mut self,
        name: &str,
        id: &str,
        pick: impl Fn(&Value) -> bool,
    ) -> Result<(Vec<Value>, bool), Failure> {
        let mut filter = Filter::default();
        filter
            .set(name, id, SystemClock.now().wall)
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let mut follow = Follow::new(&self.directory, &filter, None);
        let mut records = Vec::new();
        loop {
            let found = follow.read(PAGE_BYTES).map_err(unreadable)?;
            self.progress.add(found.bytes);
            self.damaged += found.damaged;
            records.extend(found.records.into_iter().filter(|record| pick(record)));
            if records.len() > RECORDS_MAX {
                records.truncate(RECORDS_MAX);
                return Ok((records, true));
            }
            if found.end {
                return Ok((records, false));
            }
        }
    }
}

/// Read at once.
const PAGE_BYTES: u64 = 16 << 20;
/// Most records of a story.
const RECORDS_MAX: usize = 20_000;
