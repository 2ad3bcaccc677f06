//! `toolgate ledger ...`: the ledger's files, by hand. No running gate is needed, and no secret but the key itself where a
//! command makes or changes it.
//!
//! One file a command; this one has what they share: which directory is meant.

mod keygen;

use super::{Failure, Globals};
use clap::{Args, Subcommand};

/// `ledger ...`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  toolgate ledger keygen --out secrets/ledger.key")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key that signs checkpoints; print its verifier key and the YAML to paste
    Keygen(keygen::Arguments),
}

/// Does what is asked of the ledger.
///
/// # Errors
/// [`Failure`].
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::Keygen(arguments) => keygen::run(globals, arguments),
    }
}
