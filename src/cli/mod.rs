//! The command line: one file a subcommand.
//!
//! Results go to standard output, everything else to standard error; how a command ends is a [`Failure`] or nothing, and
//! `main` turns that into an exit code. Nothing here decides about a call: commands read files, start the
//! [`crate::app`], or ask the admin API as any other principal does.

pub mod approvals;
pub mod check;
pub mod client;
pub mod completions;
pub mod demo;
pub mod events;
pub mod explain;
mod failure;
pub mod grants;
pub mod import;
pub mod key;
pub mod ledger;
pub mod man;
pub mod output;
pub mod pins;
mod progress;
pub mod replay;
pub mod schema;
pub mod serve;
pub mod session;
pub mod trust;

pub use failure::Failure;

use self::trust::Trust;
use crate::app::logs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::future::Future;
use std::path::PathBuf;
use tokio::runtime::Runtime;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "toolgate",
    version,
    about = "The gate between AI agents and their tools: every call authenticated, scoped, limited, recorded",
    after_help = "Example:\n  toolgate demo\n  toolgate serve --config config/toolgate.yaml"
)]
pub struct Cli {
    /// What most commands read.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that may stand before or after the command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The server file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TOOLGATE_CONFIG",
        default_value = "config/toolgate.yaml"
    )]
    pub config: PathBuf,
    /// The admin API, where a command calls it
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TOOLGATE_ADMIN",
        default_value = "http://127.0.0.1:9080"
    )]
    pub admin: String,
    /// File that holds the key to the admin API; otherwise TOOLGATE_KEY does
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Whom to believe there.
    #[command(flatten)]
    pub trust: Trust,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    pub json: bool,
    /// How log lines look
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value = "auto"
    )]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise
    Auto,
    /// Text, coloured on a terminal
    Pretty,
    /// One JSON object a line
    Json,
}

impl From<LogFormat> for logs::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Auto => logs::Format::Auto,
            LogFormat::Pretty => logs::Format::Pretty,
            LogFormat::Json => logs::Format::Json,
        }
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gate
    Serve(serve::Arguments),
    /// Run a sample backend, the gate and a session, and print lines to paste
    Demo(demo::Arguments),
    /// Validate all configuration files
    Check(check::Arguments),
    /// Say what the policy decides of a call, and why
    Explain(explain::Arguments),
    /// Make a project file to start from
    Import(import::Arguments),
    /// Print the JSON Schema of a configuration file
    Schema(schema::Arguments),
    /// Say which recorded calls another policy would decide otherwise
    Replay(replay::Arguments),
    /// Mint, look at and end sessions, through the admin API
    Session(session::Arguments),
    /// Look at and decide what waits for a person, through the admin API
    Approvals(approvals::Arguments),
    /// Give, look at and revoke grants, through the admin API
    Grants(grants::Arguments),
    /// Look at what servers say of their tools, and accept changes, through the admin API
    Pins(pins::Arguments),
    /// Make keys for the admin API
    Key(key::Arguments),
    /// Check the ledger, read it, and keep its keys
    Ledger(Box<ledger::Arguments>),
    /// Print a shell's completion script
    Completions(completions::Arguments),
    /// Print the manual page, or write one for each command
    Man(man::Arguments),
}

impl Command {
    /// Its name, where `--json` would change nothing.
    const fn without_json(&self) -> Option<&'static str> {
        match self {
            Command::Serve(_) => Some("serve"),
            Command::Demo(_) => Some("demo"),
            Command::Completions(_) => Some("completions"),
            Command::Man(_) => Some("man"),
            Command::Import(_) => Some("import"),
            Command::Check(_)
            | Command::Explain(_)
            | Command::Replay(_)
            | Command::Schema(_)
            | Command::Session(_)
            | Command::Approvals(_)
            | Command::Grants(_)
            | Command::Pins(_)
            | Command::Key(_)
            | Command::Ledger(_) => None,
        }
    }
}

/// Does what the command line asks.
///
/// # Errors
/// [`Failure`]: not done, and why.
pub fn run(cli: Cli) -> Result<(), Failure> {
    // An option that is parsed and ignored would lie to a script.
    if let Some(name) = cli.command.without_json().filter(|_| cli.globals.json) {
        return Err(Failure::Usage(format!(
            "`toolgate {name}` has no --json (logs in JSON: --log-format json)"
        )));
    }
    let globals = &cli.globals;
    match cli.command {
        Command::Serve(arguments) => serve::run(globals, &arguments),
        Command::Demo(arguments) => demo::run(globals, &arguments),
        Command::Check(arguments) => check::run(globals, &arguments),
        Command::Explain(arguments) => explain::run(globals, &arguments),
        Command::Replay(arguments) => replay::run(globals, &arguments),
        Command::Import(arguments) => import::run(globals, &arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Session(arguments) => block_on(session::run(globals, arguments)),
        Command::Approvals(arguments) => block_on(approvals::run(globals, arguments)),
        Command::Grants(arguments) => block_on(grants::run(globals, arguments)),
        Command::Pins(arguments) => block_on(pins::run(globals, arguments)),
        Command::Key(arguments) => key::run(globals, &arguments),
        Command::Ledger(arguments) => ledger::run(globals, &arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}

/// Runs a command's future on a runtime of its own.
fn block_on<F: Future<Output = Result<(), Failure>>>(command: F) -> Result<(), Failure> {
    let runtime = runtime()?;
    let result = runtime.block_on(command);
    // A name being resolved would otherwise hold the exit.
    runtime.shutdown_background();
    result
}

/// For what the command line itself waits for; the gate has its own.
fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Ours(format!("the runtime could not start: {error}")))
}
