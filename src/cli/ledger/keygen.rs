//! `toolgate ledger keygen`: a key that signs checkpoints, in a file of its own. The private half is never printed.

use crate::cli::{Failure, Globals, output};
use crate::io::clock;
use crate::ledger::keys;
use crate::ledger::note::{KeyError, is_name};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// `ledger keygen`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate ledger keygen --out secrets/ledger.key\n\n\
The first line is the verifier key: give it to whoever is to check the ledger, by another\n\
way than the ledger itself. A gate whose configuration names no key makes its own at the\n\
first start; a ledger that has one already changes it with `toolgate ledger rotate`."
)]
pub struct Arguments {
    /// The key's name; stands before every signature [default: made up]
    #[arg(long, value_parser = name)]
    name: Option<String>,
    /// The file that gets the private key; it must not be there yet
    #[arg(long, value_name = "FILE", default_value = "ledger.key")]
    out: PathBuf,
}

/// Makes a key.
///
/// # Errors
/// [`Failure::No`]: the file is there already, or can't be made.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { name, out } = arguments;
    let name = name.clone().unwrap_or_else(made_up);
    let key =
        keys::make(out, &name, clock::random()).map_err(|error| Failure::No(error.to_string()))?;
    let (vkey, yaml) = (key.verifier().to_string(), yaml(out));
    if globals.json {
        let file = out.display().to_string();
        return output::json(&json!({"file": file, "vkey": vkey, "yaml": yaml}));
    }
    output::print(&format!("{vkey}\n\n{yaml}"))
}

fn name(text: &str) -> Result<String, KeyError> {
    is_name(text).then(|| text.to_owned()).ok_or(KeyError::Name)
}

/// As instances are named where nobody names them.
fn made_up() -> String {
    let digits = clock::random::<6>().map(|byte| format!("{byte:02x}"));
    format!("gate-{}", digits.concat())
}

/// What belongs under `ledger:` in the server file.
pub(super) fn yaml(file: &std::path::Path) -> String {
    // JSON's strings are YAML's.
    let file = serde_json::Value::from(file.display().to_string());
    format!("  signing_key: {{ file: {file} }}\n")
}
