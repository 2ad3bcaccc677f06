//! `toolgate ledger ...`: the ledger's files, by hand. No running gate is needed, and no secret but the key itself where a
//! command makes or changes it.
//!
//! One file a command; this one has what they share: which directory is meant.

mod export;
mod filters;
mod keygen;
mod proof;
mod query;
mod rotate;
mod rows;
mod show;
mod story;
mod tail;
mod verify;

use super::{Failure, Globals};
use crate::config::{self, Secrets};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// `ledger ...`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate ledger query --resource user:7 --since 7d\n  toolgate ledger show 4711"
)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Find records: who did what, what was decided and why, what came of it
    Query(query::Arguments),
    /// Print the newest records, and go on with what is written from now on
    Tail(tail::Arguments),
    /// Tell one call, session or approval as a story: what was intended, decided, agreed and done
    Show(show::Arguments),
    /// Write records in another system's form: OCSF, CloudEvents or OpenTelemetry
    Export(export::Arguments),
    /// Read all of it back: say what is proven, what can't be, and what is wrong
    Verify(verify::Arguments),
    /// Prove that a record is in the log, to somebody who has only the key
    Proof(proof::Arguments),
    /// Check such a proof
    CheckProof(proof::CheckArguments),
    /// Make a key that signs checkpoints; print its verifier key and the YAML to paste
    Keygen(keygen::Arguments),
    /// Let another key sign from here on; the gate must be stopped
    Rotate(rotate::Arguments),
}

/// Does what is asked of the ledger.
///
/// # Errors
/// [`Failure`].
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::Query(arguments) => query::run(globals, arguments),
        Action::Tail(arguments) => tail::run(globals, arguments),
        Action::Show(arguments) => show::run(globals, arguments),
        Action::Export(arguments) => export::run(globals, arguments),
        Action::Verify(arguments) => verify::run(globals, arguments),
        Action::Proof(arguments) => proof::run(globals, arguments),
        Action::CheckProof(arguments) => proof::check(globals, arguments),
        Action::Keygen(arguments) => keygen::run(globals, arguments),
        Action::Rotate(arguments) => rotate::run(globals, arguments),
    }
}

/// The directory that is meant: the one given, or the configuration's, whose secrets are not needed.
///
/// # Errors
/// [`Failure`]: the configuration is not valid, or there is no such directory.
pub(super) fn directory(globals: &Globals, given: Option<&Path>) -> Result<PathBuf, Failure> {
    let directory = match given {
        Some(directory) => directory.to_owned(),
        None => {
            let loaded =
                config::load_untested(&globals.config, Secrets::Optional).map_err(|errors| {
                    Failure::Configuration(format!("{errors}\n(or name the ledger's directory)"))
                })?;
            loaded.server.ledger.directory
        }
    };
    if directory.is_dir() {
        return Ok(directory);
    }
    Err(Failure::Unavailable(format!(
        "{} is no directory: give the one that `ledger.directory` of the server file names",
        directory.display()
    )))
}

/// The ledger's files can't be read.
fn unreadable(error: std::io::Error) -> Failure {
    Failure::Unavailable(format!("the ledger can't be read: {error}"))
}

/// Says on standard error that there were lines that are no records.
fn tell_damaged(lines: u64) {
    if lines > 0 {
        anstream::eprintln!(
            "{lines} lines are no records and were left out: `toolgate ledger verify` says which"
        );
    }
}
