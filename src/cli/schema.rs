//! `toolgate schema`: the JSON Schema that editors check the YAML against.

use super::{Failure, output};
use crate::config::{self, SchemaKind};
use clap::{Args, ValueEnum};

/// `schema server|project`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  toolgate schema project > config/schema/project.json")]
pub struct Arguments {
    /// Of which kind of file
    #[arg(value_enum)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// config/toolgate.yaml
    Server,
    /// config/projects/*.yaml
    Project,
}

/// Prints the schema.
///
/// # Errors
/// If standard output can't be written.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    output::json(&config::schema(match arguments.kind {
        Kind::Server => SchemaKind::Server,
        Kind::Project => SchemaKind::Project,
    }))
}
