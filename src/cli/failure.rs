//! How a command ends when it does not end well. Each kind is one exit code, which `main` alone knows.

use std::fmt;

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The answer is "no": a check failed, the admin API refused.
    No(String),
    /// The command line asks for what can't be meant.
    Usage(String),
    /// The configuration is not valid. The text is a whole report.
    Configuration(String),
    /// Something the command needs can't be reached or had.
    Unavailable(String),
    /// Our fault.
    Ours(String),
}

impl Failure {
    /// Says it on standard error. A configuration report brings its own `error:` lines.
    pub fn tell(&self) {
        match self {
            Failure::Configuration(report) => {
                anstream::eprintln!("{}", report.trim_end());
            }
            Failure::No(_) | Failure::Usage(_) | Failure::Unavailable(_) | Failure::Ours(_) => {
                let style = anstyle::AnsiColor::Red.on_default().bold();
                anstream::eprintln!("{style}error{style:#}: {self}");
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::No(text)
            | Failure::Usage(text)
            | Failure::Configuration(text)
            | Failure::Unavailable(text)
            | Failure::Ours(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}
