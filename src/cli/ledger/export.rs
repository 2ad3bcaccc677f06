//! `toolgate ledger export`: records in the forms that other systems take, one JSON object a line.
//!
//! Each form is a pure function of a record. Nothing is left out in silence: what a form has no place for goes along whole,
//! as the record itself. It proves nothing: what was exported is a copy, and the ledger is what can be verified.

mod cloudevents;
mod ocsf;
mod otel;

use super::filters::Filters;
use super::{directory, tell_damaged, unreadable};
use crate::cli::progress::Progress;
use crate::cli::{Failure, Globals, output};
use crate::ledger::query::{Follow, bytes_total};
use crate::ledger::timestamp;
use crate::policy::time::Timestamp;
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// `ledger export`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate ledger export --format ocsf --since 1d --output tuesday.jsonl\n  toolgate ledger export --format otel --project demo | gzip > demo.jsonl.gz\n\nocsf: OCSF 1.7.0 events. cloudevents: CloudEvents 1.0, structured JSON. otel: OTLP/JSON log records, as the\nOpenTelemetry collector's file receiver reads them. One object a line."
)]
pub(super) struct Arguments {
    /// The ledger's directory [default: the configuration's]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The form
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Format,
    #[command(flatten)]
    filters: Filters,
    /// The file that is made, for its owner alone; it must not be there yet [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Open Cybersecurity Schema Framework 1.7.0
    Ocsf,
    /// CloudEvents 1.0
    Cloudevents,
    /// OpenTelemetry log records (OTLP/JSON)
    Otel,
}

impl Format {
    fn of(self, record: &Value, decision: Option<&Value>) -> Value {
        match self {
            Format::Ocsf => ocsf::event(record, decision),
            Format::Cloudevents => cloudevents::event(record),
            Format::Otel => otel::logs(record),
        }
    }
}

/// Reads, converts, writes.
///
/// # Errors
/// [`Failure`]: a filter can't be meant, the files can't be read, or the output can't be written.
pub(super) fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let filter = arguments.filters.read()?;
    let directory = directory(globals, arguments.directory.as_deref())?;
    let mut out = Out::open(arguments.output.as_deref())?;
    let progress = Progress::bytes("exporting", bytes_total(&directory).map_err(unreadable)?);
    let mut follow = Follow::new(&directory, &filter, None);
    let mut calls = Calls::default();
    let (mut damaged, mut count) = (0, 0_u64);
    loop {
        let found = follow.read(READ_BYTES).map_err(unreadable)?;
        damaged += found.damaged;
        let mut text = String::new();
        count += found.records.len() as u64;
        for record in found.records {
            let decision = calls.decision_of(&record);
            let event = arguments.format.of(&record, decision.as_ref());
            text.push_str(&format!("{event}\n"));
            calls.note(record);
        }
        progress.add(found.bytes);
        if !progress.aside(|| out.write(&text))? {
            return Ok(());
        }
        if found.end {
            break;
        }
    }
    progress.end();
    out.end()?;
    if let Some(file) = &arguments.output {
        anstream::eprintln!("{count} records to {}", file.display());
    }
    tell_damaged(damaged);
    Ok(())
}

/// Decisions whose outcome may follow: it does not say what was wanted.
#[derive(Default)]
struct Calls {
    decisions: HashMap<String, Value>,
    queue: VecDeque<String>,
}

impl Calls {
    fn note(&mut self, record: Value) {
        let Some(request) = record["request"]
            .as_str()
            .filter(|_| record["kind"] == "decision")
            .map(str::to_owned)
        else {
            return;
        };
        self.queue.push_back(request.clone());
        self.decisions.insert(request, record);
        if self.queue.len() > CALLS_MAX
            && let Some(oldest) = self.queue.pop_front()
        {
            self.decisions.remove(&oldest);
        }
    }

    fn decision_of(&mut self, record: &Value) -> Option<Value> {
        let request = record["request"]
            .as_str()
            .filter(|_| record["kind"] == "outcome")?;
        self.decisions.remove(request)
    }
}

/// Where it goes.
enum Out {
    Terminal,
    File(PathBuf, File),
}

impl Out {
    fn open(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = file else {
            return Ok(Out::Terminal);
        };
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        file.map(|file| Out::File(path.to_owned(), file))
            .map_err(|error| not_written(path, &error))
    }

    /// Whether anybody still reads.
    fn write(&mut self, text: &str) -> Result<bool, Failure> {
        match self {
            Out::Terminal => output::print_on(text),
            Out::File(path, file) => {
                let written = file.write_all(text.as_bytes());
                written
                    .map(|()| true)
                    .map_err(|error| not_written(path, &error))
            }
        }
    }

    fn end(&self) -> Result<(), Failure> {
        match self {
            Out::Terminal => Ok(()),
            Out::File(path, file) => file.sync_all().map_err(|error| not_written(path, &error)),
        }
    }
}

fn not_written(path: &Path, error: &std::io::Error) -> Failure {
    Failure::No(format!("{}: {error}", path.display()))
}

/// Microseconds since 1970 of a record's time.
fn micros(record: &Value) -> i64 {
    let time = record["time"].as_str().and_then(timestamp);
    time.map_or(0, Timestamp::micros)
}

/// Read at once.
const READ_BYTES: u64 = 4 << 20;
/// Most decisions kept for their outcomes.
const CALLS_MAX: usize = 10_000;
