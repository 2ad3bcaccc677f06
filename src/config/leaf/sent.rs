//! What a call of a test sends: a body or arguments, and values of header fields.

use crate::config::error::Reports;
use crate::config::read::{self, Read};
use crate::config::tree::{Node, Value};
use crate::policy::json;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// A mapping or a list as JSON, text as it stands.
#[derive(Clone, Debug)]
pub(in crate::config) struct Sent(pub String);

impl Read for Sent {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let mut text = String::new();
        match &node.value {
            Value::Scalar(scalar) => text.push_str(&scalar.text),
            Value::List(_) | Value::Map(_) => write(node, &mut text, reports)?,
        }
        Some(Self(text))
    }
}

/// In JSON. A plain scalar is what JSON takes it for; what only YAML takes for something else than text is refused.
fn write(node: &Node<'_>, text: &mut String, reports: &mut Reports) -> Option<()> {
    match &node.value {
        Value::Scalar(_) if node.is_null() => text.push_str("null"),
        Value::Scalar(scalar) => {
            let own = scalar.plain && is_json(&scalar.text);
            match own {
                true => text.push_str(&scalar.text),
                false => quote(
                    read::text(
                        node,
                        "text, a number of JSON's form, `true`, `false` or `null`",
                        reports,
                    )?,
                    text,
                ),
            }
        }
        Value::List(items) => {
            text.push('[');
            let mut whole = Some(());
            for (at, item) in items.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                whole = whole.and(write(item, text, reports));
            }
            text.push(']');
            whole?;
        }
        Value::Map(entries) => {
            text.push('{');
            let mut whole = Some(());
            for (at, entry) in entries.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                quote(&entry.key, text);
                text.push(':');
                whole = whole.and(write(&entry.node, text, reports));
            }
            text.push('}');
            whole?;
        }
    }
    Some(())
}

fn is_json(text: &str) -> bool {
    matches!(
        json::Value::read(text.as_bytes()),
        Ok(json::Value::Number(_) | json::Value::Bool(_))
    )
}

fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// The value of a header field: text, whatever YAML takes it for.
#[derive(Clone, Debug)]
pub(in crate::config) struct FieldValue(pub String);

impl Read for FieldValue {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if !node.is_null() => {
                Some(Self(scalar.text.clone().into_owned()))
            }
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => read::unexpected(
                node,
                "the value of a header field",
                "write it in quotes; for a field that is sent twice write a list",
                reports,
            ),
        }
    }
}

leaf_schema! {
    Sent => { "type": ["object", "array", "string", "number", "boolean"] };
    FieldValue => { "type": ["string", "number", "boolean"] };
}
