//! Lists and mappings of names, and what an empty one means: neither all nor nothing.

use super::error::Reports;
use super::read::{At, Read, clipped, unexpected};
use super::tree::{Node, Scalar, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// A list that can't be empty: an empty one could be read as "all".
#[derive(Debug)]
pub(super) struct List<T>(pub Vec<At<T>>);

/// A list that may be empty, because its default is.
#[derive(Debug)]
pub(super) struct ListOrNone<T>(pub Vec<At<T>>);

/// One value, or a list of several.
#[derive(Debug)]
pub(super) struct OneOrMore<T>(pub Vec<At<T>>);

/// A mapping from names to values, in file order; not empty.
#[derive(Debug)]
pub(super) struct Map<K, V>(pub Vec<(At<K>, Option<At<V>>)>);

/// A mapping from names to values, in file order; may be empty, where that means none.
#[derive(Debug)]
pub(super) struct MapOrNone<K, V>(pub Vec<(At<K>, Option<At<V>>)>);

impl<T: Read> Read for List<T> {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let items = items(node, reports)?;
        if items.is_empty() {
            reports.error(
                node.place,
                "an empty list is neither all nor nothing",
                "name at least one, or remove the key",
            );
        }
        Some(Self(read_all(items, reports)))
    }
}

impl<T: Read> Read for ListOrNone<T> {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        Some(Self(read_all(items(node, reports)?, reports)))
    }
}

impl<T: Read> Read for OneOrMore<T> {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::List(_) => List::read(node, reports).map(|list| Self(list.0)),
            Value::Scalar(_) | Value::Map(_) => At::read(node, reports).map(|one| Self(vec![one])),
        }
    }
}

impl<K: Read, V: Read> Read for Map<K, V> {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            return unexpected(
                node,
                "a mapping of names",
                "write `name: ...`, one per line",
                reports,
            );
        };
        if entries.is_empty() {
            reports.error(
                node.place,
                "an empty mapping is neither all nor nothing",
                "name at least one, or remove the key",
            );
        }
        let mut read = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = Node {
                place: entry.key_place,
                value: Value::Scalar(Scalar {
                    text: Cow::Borrowed(&entry.key),
                    plain: true,
                }),
            };
            let key = At::<K>::read(&key, reports);
            let value = if entry.node.is_null() {
                reports.error(
                    entry.key_place,
                    format!("`{}` has no value", clipped(&entry.key)),
                    "write one, or remove the key",
                );
                None
            } else {
                At::<V>::read(&entry.node, reports)
            };
            read.extend(key.map(|key| (key, value)));
        }
        Some(Self(read))
    }
}

impl<K: Read, V: Read> Read for MapOrNone<K, V> {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::Map(entries) if entries.is_empty() => Some(Self(Vec::new())),
            _ => Map::read(node, reports).map(|map| Self(map.0)),
        }
    }
}

fn items<'n, 's>(node: &'n Node<'s>, reports: &mut Reports) -> Option<&'n [Node<'s>]> {
    match &node.value {
        Value::List(items) => Some(items),
        Value::Scalar(_) | Value::Map(_) => unexpected(
            node,
            "a list",
            "write `[...]`, or one `- ...` per line",
            reports,
        ),
    }
}

fn read_all<T: Read>(items: &[Node<'_>], reports: &mut Reports) -> Vec<At<T>> {
    items
        .iter()
        .filter_map(|item| At::read(item, reports))
        .collect()
}

macro_rules! collection_schema {
    ($($name:ident: $generator:ident => $schema:expr;)+) => {$(
        impl<T: JsonSchema> JsonSchema for $name<T> {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                format!("{}_of_{}", stringify!($name), T::schema_name()).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )+};
}

collection_schema! {
    List: generator => {
        json_schema!({ "type": "array", "minItems": 1, "items": generator.subschema_for::<T>() })
    };
    ListOrNone: generator => {
        json_schema!({ "type": "array", "items": generator.subschema_for::<T>() })
    };
    OneOrMore: generator => {
        json_schema!({ "anyOf": [generator.subschema_for::<T>(), generator.subschema_for::<List<T>>()] })
    };
}

impl<K: JsonSchema, V: JsonSchema> JsonSchema for MapOrNone<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("MapOrNone_of_{}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": K::json_schema(generator),
            "additionalProperties": generator.subschema_for::<V>(),
        })
    }
}

impl<K: JsonSchema, V: JsonSchema> JsonSchema for Map<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Map_of_{}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": K::json_schema(generator),
            "additionalProperties": generator.subschema_for::<V>(),
        })
    }
}
