//! `toolgate ledger proof` and `check-proof`: that one record is in the log, for somebody who has nothing of it but the key.

use super::verify::note;
use crate::cli::{Failure, Globals, output};
use crate::ledger::note::VerifierKey;
use crate::ledger::proof::{NoProof, Proof};
use crate::ledger::rfc3339;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

/// `ledger proof`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate ledger proof 4711 > 4711.tlog-proof\n  toolgate ledger check-proof 4711.tlog-proof --key \"$VKEY\"\n\nThe format is C2SP tlog-proof, with the record as its extra data: any tool for it can check it."
)]
pub struct Arguments {
    /// The record's seq
    seq: u64,
    /// The ledger's directory [default: the configuration's]
    directory: Option<PathBuf>,
    /// A checkpoint to prove it under [default: the newest]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

/// `ledger check-proof`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate ledger check-proof 4711.tlog-proof --key \"$VKEY\"\n\nExit codes: 0 the record is in the log that the key signs, 1 it is not shown to be."
)]
pub struct CheckArguments {
    /// The proof
    file: PathBuf,
    /// The key that signed its checkpoint
    #[arg(long, value_name = "VKEY", value_parser = VerifierKey::parse)]
    key: VerifierKey,
}

/// Prints a proof.
///
/// # Errors
/// [`Failure::No`]: there is none; [`Failure::Unavailable`]: the ledger can't be read.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let directory = super::directory(globals, arguments.directory.as_deref())?;
    let checkpoint = arguments.checkpoint.as_deref().map(note).transpose()?;
    let proof = Proof::make(&directory, arguments.seq, checkpoint.as_deref());
    let proof = proof.map_err(|error| match error {
        NoProof::Io(error) => Failure::Unavailable(error.to_string()),
        other => Failure::No(other.to_string()),
    })?;
    if !globals.json {
        return output::print(&proof.to_text());
    }
    let hex = |hash: &[u8; 32]| {
        hash.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    output::json(&json!({
        "index": proof.index,
        "record": String::from_utf8_lossy(&proof.line),
        "hashes": proof.hashes.iter().map(hex).collect::<Vec<_>>(),
        "checkpoint": proof.note,
    }))
}

/// Checks a proof, and prints the record that it is about.
///
/// # Errors
/// [`Failure::No`]: it proves nothing; [`Failure::Unavailable`]: it can't be read.
pub fn check(globals: &Globals, arguments: &CheckArguments) -> Result<(), Failure> {
    let path = arguments.file.display();
    let text = std::fs::read_to_string(&arguments.file)
        .map_err(|error| Failure::Unavailable(format!("{path}: {error}")))?;
    let checked = Proof::parse(&text).and_then(|proof| Ok((proof.check(&arguments.key)?, proof)));
    let (checkpoint, proof) = checked.map_err(|wrong| Failure::No(format!("{path}: {wrong}")))?;
    let record: Value = serde_json::from_slice(&proof.line).unwrap_or_default();
    let time = checkpoint.time.map(rfc3339);
    if globals.json {
        return output::json(&json!({
            "log": checkpoint.origin, "size": checkpoint.size, "signed": time, "index": proof.index, "record": record,
        }));
    }
    let signed = time.map_or(String::new(), |time| format!(", signed at {time}"));
    output::print(&format!(
        "record {} is in the log {} of {} records{signed}, by {}\n\n{}",
        proof.index,
        output::harmless(&checkpoint.origin),
        checkpoint.size,
        arguments.key,
        output::object(&record)
    ))
}
