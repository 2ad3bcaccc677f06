//! `toolgate man`: manual pages, from the same definitions as the flags.

use super::{Cli, Failure, output};
use clap::{Args, CommandFactory};
use clap_mangen::Man;
use std::path::PathBuf;

/// `man`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  toolgate man | man -l -\n  toolgate man --directory /usr/local/share/man/man1"
)]
pub struct Arguments {
    /// Write a page for each command into this directory, instead of printing that of all
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Prints the page, or writes them all.
///
/// # Errors
/// [`Failure::Unavailable`] if the directory can't be written.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Some(directory) = &arguments.directory else {
        let mut page = Vec::new();
        Man::new(Cli::command())
            .render(&mut page)
            .map_err(|error| Failure::Ours(error.to_string()))?;
        return output::print(&String::from_utf8_lossy(&page));
    };
    clap_mangen::generate_to(Cli::command(), directory)
        .map_err(|error| Failure::Unavailable(format!("{}: {error}", directory.display())))
}
