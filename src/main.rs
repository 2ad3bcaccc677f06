//! The binary: flags in, exit code out.

use clap::Parser;
use std::process::ExitCode;
use toolgate::cli::{Cli, Failure, run};

fn main() -> ExitCode {
    // Usage errors leave here with 2, help and version with 0.
    let Err(failure) = run(Cli::parse()) else {
        return ExitCode::SUCCESS;
    };
    failure.tell();
    ExitCode::from(match failure {
        Failure::No(_) => 1,
        Failure::Usage(_) => 2,
        Failure::Unavailable(_) => 69,
        Failure::Ours(_) => 70,
        Failure::Configuration(_) => 78,
    })
}
