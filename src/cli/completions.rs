//! `toolgate completions`: a shell's completion script, from the same definitions as the flags.

use super::{Cli, Failure, output};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// `completions SHELL`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate completions bash > /etc/bash_completion.d/toolgate\n  toolgate completions zsh > \"${fpath[1]}/_toolgate\"\n  toolgate completions fish > ~/.config/fish/completions/toolgate.fish"
)]
pub struct Arguments {
    /// Whose
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// If standard output can't be written.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "toolgate",
        &mut script,
    );
    output::print(&String::from_utf8_lossy(&script))
}
