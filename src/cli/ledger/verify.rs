//! `toolgate ledger verify`: reads all of it back and says in words what is proven, from when to when, and what can't be.

use crate::cli::progress::Progress;
use crate::cli::{Failure, Globals, output};
use crate::ledger::note::VerifierKey;
use crate::ledger::rfc3339;
use crate::ledger::verify::{self, Given, Proven, Report, Trust};
use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// `ledger verify`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate ledger verify /var/lib/toolgate/ledger --key \"$VKEY\" --checkpoint tuesday.checkpoint\n\nExit codes: 0 nothing is wrong, 1 something is. Keep a checkpoint (GET /v1/ledger/checkpoint) and the verifier\nkey elsewhere: only they show that the log was not cut short or made again as a whole."
)]
pub struct Arguments {
    /// The ledger's directory [default: the configuration's]
    directory: Option<PathBuf>,
    /// A checkpoint that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The key that signs, as it was handed out: the log's first or a later one
    #[arg(long, value_name = "VKEY", value_parser = VerifierKey::parse)]
    key: Option<VerifierKey>,
}

/// Verifies a ledger.
///
/// # Errors
/// [`Failure::No`]: something is wrong with it; [`Failure::Unavailable`]: it can't be read.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let directory = super::directory(globals, arguments.directory.as_deref())?;
    let checkpoint = arguments.checkpoint.as_deref().map(note).transpose()?;
    let key = arguments.key.clone();
    let given = Given { checkpoint, key };
    let progress = Progress::bytes("verifying", 0);
    let report = verify::directory(&directory, &given, &mut |done, all| progress.at(done, all))
        .map_err(|error| Failure::Unavailable(error.to_string()))?;
    progress.end();
    if globals.json {
        output::json(&as_json(&report))?;
    } else {
        output::print(&shown(&report))?;
    }
    match report.faults.len() {
        0 => Ok(()),
        1 => Err(Failure::No("the ledger is not as it was signed".to_owned())),
        many => Err(Failure::No(format!(
            "the ledger is not as it was signed: {many} faults"
        ))),
    }
}

/// The file that holds a checkpoint; an empty line behind it is passed over.
pub(super) fn note(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = std::fs::read(path);
    let mut bytes =
        read.map_err(|error| Failure::Unavailable(format!("{}: {error}", path.display())))?;
    while bytes.ends_with(b"\n\n") {
        bytes.pop();
    }
    Ok(bytes)
}

/// The screen.
fn shown(report: &Report) -> String {
    let mut text = String::new();
    let style = |colour: AnsiColor| colour.on_default().bold();
    let heading = |text: &mut String, style: Style, word: &str| {
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}{style}{word}{style:#}");
    };
    if !report.faults.is_empty() {
        heading(&mut text, style(AnsiColor::Red), "FAULTS");
        for fault in &report.faults {
            text += &wrapped(&output::harmless(&fault.to_string()));
        }
    }
    if let Some(proven) = &report.proven {
        heading(&mut text, style(AnsiColor::Green), "PROVEN");
        for line in said(report, proven) {
            text += &wrapped(&line);
        }
    }
    if !report.unprovable.is_empty() {
        heading(&mut text, style(AnsiColor::Yellow), "NOT PROVABLE");
        for doubt in &report.unprovable {
            text += &wrapped(&output::harmless(&doubt.to_string()));
        }
    }
    text
}

fn said(report: &Report, proven: &Proven) -> Vec<String> {
    let count = proven.to - proven.from;
    let mut lines = Vec::new();
    let (from, last) = (proven.from, proven.to.saturating_sub(1));
    lines.push(match (count, proven.since, proven.until) {
        (0, ..) => "no record yet: the log is signed from its beginning on".to_owned(),
        (_, Some(since), Some(until)) => format!(
            "records {from} to {last} ({count}), of {} to {}: each as it was written, none missing, none added",
            rfc3339(since),
            rfc3339(until)
        ),
        _ => format!("records {from} to {last} ({count}): each as it was written, none missing, none added"),
    });
    let whose = match proven.trust {
        Trust::Given => "the key that you gave",
        Trust::Directory => "the directory's own key",
    };
    let keys = match proven.keys {
        1 => String::new(),
        many => format!(", the last of {many}, each brought in by the one before"),
    };
    let time = proven
        .signed
        .map_or(String::new(), |time| format!(" at {}", rfc3339(time)));
    let origin = report.origin.as_deref().unwrap_or("-");
    let checkpoints = report.checkpoints;
    lines.push(format!(
        "signed{time} as log {}: {checkpoints} checkpoints in one chain, by {}{keys} ({whose})",
        output::harmless(origin),
        output::harmless(&proven.key.to_string())
    ));
    if let Some((size, time)) = proven.held {
        let time = time.map_or(String::new(), |time| format!(" of {}", rfc3339(time)));
        lines.push(format!(
            "the checkpoint that you hold{time}, over {size} records, is one of these"
        ));
    }
    lines
}

/// One item, its further lines indented under its first.
fn wrapped(text: &str) -> String {
    let mut out = String::from("  - ");
    let mut column = 4;
    for (position, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if position > 0 && column + 1 + width > WIDTH {
            out.push_str("\n    ");
            column = 4;
        } else if position > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out + "\n"
}

fn as_json(report: &Report) -> Value {
    let proven = report.proven.as_ref().map(|proven| {
        json!({
            "from": proven.from,
            "to": proven.to,
            "since": proven.since.map(rfc3339),
            "until": proven.until.map(rfc3339),
            "signed": proven.signed.map(rfc3339),
            "key": proven.key.to_string(),
            "keys": proven.keys,
            "key_given": proven.trust == Trust::Given,
            "checkpoint_given": proven.held.map(|(size, time)| json!({"size": size, "time": time.map(rfc3339)})),
        })
    });
    let fault = |fault: &verify::Fault| {
        let place = fault.place.as_ref();
        json!({
            "file": place.map(|(path, _)| path.display().to_string()),
            "line": place.map(|(_, line)| line),
            "message": fault.wrong.to_string(),
        })
    };
    json!({
        "good": report.faults.is_empty(),
        "log": report.origin,
        "segments": report.segments,
        "checkpoints": report.checkpoints,
        "first": report.first,
        "next": report.next,
        "proven": proven,
        "unprovable": report.unprovable.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
    })
}

const WIDTH: usize = 100;
