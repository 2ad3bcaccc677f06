//! `toolgate ledger rotate`: another key signs from here on, and the key before it says so with its last signature.
//!
//! The gate must be stopped: whoever holds the ledger's lock is the only one who signs. Killed at any point, the next start
//! goes on with the key that the checkpoints name.

use crate::app::logs;
use crate::cli::{Failure, Globals, output};
use crate::config::{self, LedgerSettings, Secrets};
use crate::io::clock::{self, Clock as _, SystemClock};
use crate::ledger::note::SigningKey;
use crate::ledger::{Ledger, LedgerError, keys};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `ledger rotate`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  toolgate ledger rotate\n  toolgate ledger rotate --new secrets/ledger-2027.key\n\n\
Stop the gate first. Both keys sign one last checkpoint, so whoever knows the old verifier\n\
key follows to the new one. Where the configuration names a key, --new says where the next\n\
one goes; then change `ledger.signing_key` and start the gate. What the old key has signed\n\
stays good; keep or destroy it, but nobody else may get it."
)]
pub struct Arguments {
    /// The ledger's directory [default: the configuration's]
    dir: Option<PathBuf>,
    /// The file that has the key which signs now, where DIR does not
    #[arg(long, value_name = "FILE", requires = "dir")]
    old: Option<PathBuf>,
    /// The file that gets the new key, or has it already
    #[arg(long, value_name = "FILE")]
    new: Option<PathBuf>,
}

/// Rotates the key.
///
/// # Errors
/// [`Failure::Unavailable`] while a gate runs or where the ledger can't be opened; [`Failure::Usage`] where it is not said
/// where the new key goes.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let settings = settings(globals, arguments)?;
    if settings.signing_key.is_some() && arguments.new.is_none() {
        return Err(Failure::Usage(
            "the ledger's key is in a file of its own: say with --new FILE where the next one goes"
                .to_owned(),
        ));
    }
    if !settings.directory.join("instance").is_file() {
        let directory = settings.directory.display();
        return Err(Failure::No(format!("there is no ledger in {directory}")));
    }
    // What the disk refuses is said there.
    logs::start(globals.log_format.into(), "warn");
    let ledger =
        Ledger::open(&settings, || SystemClock.now().wall).map_err(|error| match error {
            LedgerError::Locked { holder, .. } => Failure::Unavailable(format!(
                "the gate runs on this ledger (process {holder}): stop it, rotate, start it again"
            )),
            error => unavailable(error),
        })?;
    let old = ledger.verifier();
    let next = keys::next(&settings.directory);
    let file = arguments.new.as_deref().unwrap_or(&next);
    let new = made(file, old.name())?;
    if *new.verifier() == old {
        return Err(Failure::No(format!(
            "{} holds the key that signs already",
            file.display()
        )));
    }
    let vkey = new.verifier().to_string();
    let rotated = ledger.rotate(new).and_then(|()| ledger.close());
    rotated.map_err(|error| {
        Failure::Unavailable(format!(
            "{error}; nothing is lost: the checkpoints say which key signs, and this can be run again"
        ))
    })?;
    drop(ledger);
    if arguments.new.is_none() {
        keys::replace(&next, &keys::own(&settings.directory)).map_err(unavailable)?;
    }
    told(globals, arguments.new.as_deref(), &old.to_string(), &vkey)
}

fn settings(globals: &Globals, arguments: &Arguments) -> Result<LedgerSettings, Failure> {
    if let Some(directory) = &arguments.dir {
        let mut settings = LedgerSettings::new(directory);
        settings.signing_key.clone_from(&arguments.old);
        // How long records are kept is for the configuration to say: who names a directory drops nothing by rotating.
        settings.retain = Duration::MAX;
        return Ok(settings);
    }
    let loaded = config::load_untested(&globals.config, Secrets::Optional);
    let loaded = loaded.map_err(|errors| Failure::Configuration(errors.coloured()))?;
    Ok(loaded.server.ledger)
}

/// The key in a file, or a new one: a run that was killed, or a key that was made elsewhere, is gone on with.
fn made(file: &Path, name: &str) -> Result<SigningKey, Failure> {
    match keys::read(file).map_err(unavailable)? {
        Some(key) => Ok(key),
        None => keys::make(file, name, clock::random()).map_err(unavailable),
    }
}

fn told(globals: &Globals, new: Option<&Path>, old: &str, vkey: &str) -> Result<(), Failure> {
    let yaml = new.map(super::keygen::yaml);
    if globals.json {
        return output::json(&json!({"old": old, "vkey": vkey, "yaml": yaml}));
    }
    let rest = match yaml {
        Some(yaml) => {
            format!("in the server file, under `ledger:`, before the gate starts again:\n{yaml}")
        }
        None => "the directory's own key; nothing in the server file changes\n".to_owned(),
    };
    output::print(&format!("{vkey}\n\n{rest}"))
}

fn unavailable(error: LedgerError) -> Failure {
    Failure::Unavailable(error.to_string())
}
