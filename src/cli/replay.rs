//! `toolgate replay`: which past calls would now be decided otherwise, route by route.
//!
//! It reads the ledger's files and the project file that is given; no gate need run, and nothing is written.

use super::progress::Progress;
use super::{Failure, Globals, ledger, output};
use crate::config::{self, Secrets};
use crate::io::clock::{Clock as _, SystemClock};
use crate::ledger::query::{Filter, Records, bytes_total};
use crate::ledger::replay::{Change, Chosen, Replay, Report, Words};
use crate::ledger::rfc3339;
use crate::policy::model::Policy;
use crate::policy::time::Timestamp;
use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// `replay`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  toolgate replay --policy new.yaml --since 7d\n  toolgate replay data/ledger --policy new.yaml --agent support-bot --json\n\nEach call that the policy decided is decided again; limits are not replayed, and what quarantine, limits or people decided stays.\n\nThe ledger holds no attributes, only their digest: where one would decide, the call is counted as not recorded, unless the policy that decided then is at hand (the configuration's, or --before) and bounds the same. Nor does it hold bodies, arguments, header fields, or query values that no tool lists: a call whose conditions or resource read them is not recorded either, unless that policy is at hand and chooses by the same.\n\nExit codes: 0 nothing is decided otherwise, 1 something is, 78 the file is not valid."
)]
pub struct Arguments {
    /// The ledger's directory; the configuration's unless given
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The project file to decide by
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// A project file that decided then, besides the configuration's; may be repeated
    #[arg(long, value_name = "FILE")]
    before: Vec<PathBuf>,
    /// Only calls from then on: 24h, 2026-03-01 or a moment
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only calls until then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Calls of these projects, with commas between them; of the file's own unless given
    #[arg(long, value_name = "NAMES")]
    project: Option<String>,
    /// Only calls of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

/// Decides all again.
///
/// # Errors
/// [`Failure::No`] where something is decided otherwise, [`Failure::Configuration`] for a file that is not valid,
/// [`Failure::Unavailable`] for a ledger that can't be read.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let chosen = chosen(arguments)?;
    let new = project(&arguments.policy)?;
    let mut before = Vec::with_capacity(arguments.before.len());
    for path in &arguments.before {
        before.push(project(path)?);
    }
    let directory = ledger::directory(globals, arguments.directory.as_deref())?;
    // Where it is not valid, or not there, there is less to compare with.
    let loaded = config::load_untested(&globals.config, Secrets::Optional);
    let in_force = loaded.map(|loaded| loaded.projects).unwrap_or_default();
    let before = before.iter().chain(&in_force).collect();
    let report = read(&directory, Replay::new(&new, before, chosen))?;
    if globals.json {
        output::json(&summary(&report))?;
    } else {
        output::print(&prose(&report))?;
    }
    match report.changed() {
        0 => Ok(()),
        1 => Err(Failure::No("1 call is decided otherwise".to_owned())),
        many => Err(Failure::No(format!("{many} calls are decided otherwise"))),
    }
}

fn chosen(arguments: &Arguments) -> Result<Chosen, Failure> {
    let now = SystemClock.now().wall;
    let mut filter = Filter::default();
    let given = [
        ("since", &arguments.since),
        ("until", &arguments.until),
        ("project", &arguments.project),
        ("agent", &arguments.agent),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            filter
                .set(name, value, now)
                .map_err(|error| Failure::Usage(error.to_string()))?;
        }
    }
    Ok(Chosen {
        projects: filter.projects.unwrap_or_default(),
        agent: filter.agent,
        since: filter.since,
        until: filter.until,
    })
}

fn project(path: &Path) -> Result<Policy, Failure> {
    let project =
        config::load_project(path).map_err(|errors| Failure::Configuration(errors.coloured()))?;
    Ok(project.policy)
}

fn read(directory: &Path, mut replay: Replay<'_>) -> Result<Report, Failure> {
    let fault = |error: std::io::Error| {
        Failure::Unavailable(format!("the ledger at {}: {error}", directory.display()))
    };
    let progress = Progress::bytes("replaying", bytes_total(directory).map_err(fault)?);
    let mut records = Records::open(directory).map_err(fault)?;
    let mut read = 0;
    while let Some(line) = records.line().map_err(fault)? {
        if !line.is_empty() {
            replay.line(line);
        }
        if records.bytes() != read {
            progress.add(records.bytes() - read);
            read = records.bytes();
        }
    }
    progress.end();
    Ok(replay.finish())
}

fn prose(report: &Report) -> String {
    let mut text = String::new();
    if report.differs() {
        let rows = report.changes.iter().map(row).collect();
        let header = [
            "AGENT", "ROUTE", "THEN", "NOW", "CALLS", "FIRST", "LAST", "EXAMPLE",
        ];
        text.push_str(&output::table(&header, rows, ""));
        text.push('\n');
    }
    let count = |count: u64| match count {
        1 => "1 call".to_owned(),
        many => format!("{many} calls"),
    };
    let style = match report.differs() {
        true => AnsiColor::Yellow.on_default().bold(),
        false => AnsiColor::Green.on_default().bold(),
    };
    let _ = writeln!(
        text,
        "{style}{} decided otherwise{style:#} of {} decided again",
        report.changed(),
        report.decided
    );
    if let Some((first, last)) = report.span {
        let _ = writeln!(text, "  made from {} to {}", rfc3339(first), rfc3339(last));
    }
    for (subject, unrecorded) in &report.unrecorded {
        let _ = writeln!(
            text,
            "  {} not recorded: {subject} would decide, such as {}",
            count(unrecorded.count),
            output::harmless(&unrecorded.example)
        );
    }
    for (reason, calls) in &report.beside {
        let reason = output::harmless(reason);
        let _ = writeln!(text, "  {} not the policy's: {reason}", count(*calls));
    }
    if report.own > 0 {
        let _ = writeln!(text, "  {} for the gate's own paths", count(report.own));
    }
    let dim = Style::new().dimmed();
    for (hash, calls) in &report.unknown_policies {
        let _ = writeln!(
            text,
            "  {dim}{} by a policy that is not at hand ({}): with it (--before FILE) more can be told{dim:#}",
            count(*calls),
            &hash[..12]
        );
    }
    if report.damaged > 0 {
        let _ = writeln!(
            text,
            "  {} lines are no records: `toolgate ledger verify` says which",
            report.damaged
        );
    }
    text.push_str("limits are not replayed\n");
    text
}

fn row(change: &Change) -> Vec<String> {
    let (then, now) = (&change.old, &change.new);
    vec![
        output::harmless(&change.agent),
        both(route(then), route(now)),
        said(then, now),
        said(now, then),
        change.count.to_string(),
        seconds(change.first),
        seconds(change.last),
        output::harmless(&change.example),
    ]
}

fn route(words: &Words) -> String {
    output::harmless(words.route.as_deref().unwrap_or("-"))
}

/// One where they are the same.
fn both(then: String, now: String) -> String {
    if then == now {
        return now;
    }
    format!("{then} -> {now}")
}

/// The word, why, and the scope where that is what differs.
fn said(words: &Words, other: &Words) -> String {
    let mut text = match &words.reason {
        None => words.decision.clone(),
        Some(reason) => format!("{} {reason}", words.decision),
    };
    if words.scope != other.scope
        && let Some(scope) = &words.scope
    {
        let _ = write!(text, " ({scope})");
    }
    output::harmless(&text)
}

fn seconds(time: Timestamp) -> String {
    rfc3339(time)
        .chars()
        .take("2026-03-01T12:00:00".len())
        .collect::<String>()
        + "Z"
}

fn summary(report: &Report) -> Value {
    let words = |words: &Words, resource: &Option<String>| {
        json!({
            "route": words.route,
            "decision": words.decision,
            "reason": words.reason,
            "scope": words.scope,
            "example_resource": resource,
        })
    };
    let changes = report.changes.iter().map(|change| {
        json!({
            "agent": change.agent,
            "old": words(&change.old, &change.resource.0),
            "new": words(&change.new, &change.resource.1),
            "calls": change.count,
            "first": rfc3339(change.first),
            "last": rfc3339(change.last),
            "example": change.example,
        })
    });
    let unrecorded = report.unrecorded.iter().map(|(subject, unrecorded)| {
        json!({"subject": subject, "calls": unrecorded.count, "example": unrecorded.example})
    });
    json!({
        "decided": report.decided,
        "changed": report.changed(),
        "changes": changes.collect::<Vec<_>>(),
        "not_recorded": unrecorded.collect::<Vec<_>>(),
        "not_the_policys": report.beside,
        "own_paths": report.own,
        "answered_by_people": report.answered,
        "other_projects": report.elsewhere,
        "unknown_policies": report.unknown_policies,
        "damaged_lines": report.damaged,
        "limits_replayed": false,
    })
}
