//! JSON Schema of both files, for editors: made by the declarations that also read them.

use super::raw;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    /// `toolgate.yaml`.
    Server,
    /// `projects/*.yaml`.
    Project,
}

/// The schema, in the draft that YAML editors know best.
pub fn schema(kind: SchemaKind) -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let schema = match kind {
        SchemaKind::Server => generator.into_root_schema_for::<raw::Server>(),
        SchemaKind::Project => generator.into_root_schema_for::<raw::Project>(),
    };
    schema.to_value()
}
