//! From the tree to typed values: the one declaration behind both the parser and the JSON Schema.
//!
//! [`record!`] declares a mapping's keys once; it makes the struct, its reader and its schema, so the three can't
//! disagree, and stand in one file. A reader reports what is wrong and goes on: what could not be read is `None`, and has
//! been reported.

use super::error::{Place, Reports, did_you_mean};
use super::tree::{Entry, Node, Scalar, Value};
use schemars::{JsonSchema, Schema, json_schema};

/// What can be read from a node and described by a schema.
pub(super) trait Read: JsonSchema + Sized {
    /// `None`: it was reported.
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self>;
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub place: Place,
    pub value: T,
}

impl<T: Read> At<T> {
    pub fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let place = node.place;
        T::read(node, reports).map(|value| Self { place, value })
    }
}

/// What a mapping may hold.
pub(super) struct Shape {
    /// "a route".
    pub what: &'static str,
    pub keys: &'static [(&'static str, Need)],
    /// Keys of later versions, refused by name.
    pub later: &'static [&'static str],
    /// Messages about it begin so: noun and the key that names it.
    pub subject: Option<(&'static str, &'static str)>,
    /// What stands here instead of a mapping may be a secret.
    pub secret: bool,
    /// Exactly one of these keys must be there.
    pub one_of: &'static [&'static str],
    /// At least one of these keys must be there.
    pub some_of: &'static [&'static str],
    /// What else must be there, but for one kind of it.
    pub unless: Option<Unless>,
}

/// Keys that every kind of a mapping needs but one: that whose `key` says `word`.
pub(super) struct Unless {
    pub key: &'static str,
    pub word: &'static str,
    /// Exactly one of these.
    pub one_of: &'static [&'static str],
    /// All of these.
    pub needs: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "written as words in `record!`")]
pub(super) enum Need {
    required,
    optional,
}

/// Declares a mapping: the struct of its keys, how it is read, and its schema.
macro_rules! record {
    (
        $(#[doc = $doc:literal])*
        $name:ident: $what:literal $(, named $noun:literal by $by:literal)?;
        $($(#[doc = $note:literal])* $need:ident $field:ident = $key:literal: $type:ty,)*
        $(; later $($later:literal),+)?
        $(; secret $secret:literal)?
        $(; one_of $($one:literal),+)?
        $(; some_of $($some:literal),+)?
        $(; unless $key_is:literal is $word:literal, one_of $($unless_one:literal),+, needs $($unless_needs:literal),+)?
        $(; schema $extra:tt)?
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(in crate::config) struct $name {
            $($(#[doc = $note])* pub $field: Option<$crate::config::read::At<$type>>,)*
        }

        impl $crate::config::read::Read for $name {
            fn read(node: &$crate::config::tree::Node<'_>, reports: &mut $crate::config::error::Reports) -> Option<Self> {
                const SHAPE: $crate::config::read::Shape = $crate::config::read::Shape {
                    what: $what,
                    keys: &[$(($key, $crate::config::read::Need::$need),)*],
                    later: &[$($($later),+)?],
                    subject: record!(@subject $($noun $by)?),
                    secret: [$($secret,)? false][0],
                    one_of: &[$($($one),+)?],
                    some_of: &[$($($some),+)?],
                    unless: record!(@unless $($key_is, $word, [$($unless_one),+], [$($unless_needs),+])?),
                };
                let fields = $crate::config::read::Fields::open(node, &SHAPE, reports)?;
                let read = Self { $($field: fields.read($key, reports),)* };
                fields.close(reports);
                Some(read)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                #[allow(unused_mut)]
                let mut schema = $crate::config::read::mapping_schema(concat!($($doc),*), &[
                    $(($key, $crate::config::read::Need::$need, concat!($($note),*), generator.subschema_for::<$type>()),)*
                ], &[$($($one),+)?]);
                $(schema.as_object_mut().into_iter().for_each(|object| {
                    if let serde_json::Value::Object(extra) = serde_json::json!($extra) {
                        object.extend(extra);
                    }
                });)?
                schema
            }
        }
    };
    (@unless) => { None };
    (@unless $key:literal, $word:literal, [$($one:literal),+], [$($needs:literal),+]) => {
        Some($crate::config::read::Unless { key: $key, word: $word, one_of: &[$($one),+], needs: &[$($needs),+] })
    };
    (@subject) => { None };
    (@subject $noun:literal $by:literal) => { Some(($noun, $by)) };
}
pub(super) use record;

/// Declares a closed set of words.
macro_rules! words {
    (
        $(#[doc = $doc:literal])*
        $name:ident: $what:literal;
        $($variant:ident = $word:literal,)+
        $(; later $($later:literal),+)?
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::config) enum $name { $($variant,)+ }

        impl $crate::config::read::Read for $name {
            fn read(node: &$crate::config::tree::Node<'_>, reports: &mut $crate::config::error::Reports) -> Option<Self> {
                let words = [$(($word, Self::$variant),)+];
                $crate::config::read::word(node, $what, &words, &[$($($later),+)?], reports)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "enum": [$($word),+] })
            }
        }
    };
}
pub(super) use words;

/// A mapping while its keys are read.
pub(super) struct Fields<'n, 's> {
    entries: &'n [Entry<'s>],
    opening: Place,
    shape: &'static Shape,
    /// Keys that others are misspellings of: they are not said to be missing as well.
    meant: Vec<&'static str>,
}

impl<'n, 's> Fields<'n, 's> {
    /// Refuses what is not a mapping, and every key it should not have.
    pub fn open(node: &'n Node<'s>, shape: &'static Shape, reports: &mut Reports) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            if shape.secret {
                reports.hide(node.place);
            }
            let keys: Vec<String> = shape
                .keys
                .iter()
                .map(|(key, _)| format!("`{key}`"))
                .collect();
            let help = format!("{} has the keys {}", shape.what, listed(&keys));
            reports.error(
                node.place,
                format!(
                    "expected {}, a mapping, found {}",
                    shape.what,
                    describe(node, reports)
                ),
                help,
            );
            return None;
        };
        if let Some((noun, key)) = shape.subject {
            let name = node.child_text(key).unwrap_or("?");
            reports.enter(format!("{noun} `{}`", clipped(name)));
        }
        let meant = entries
            .iter()
            .filter_map(|entry| refuse_unknown(entry, shape, reports))
            .collect();
        require_one(node, entries, shape, reports);
        Some(Self {
            entries,
            opening: node.opening(),
            shape,
            meant,
        })
    }

    /// The value of a key; `None` where it is absent or was reported.
    pub fn read<T: Read>(&self, key: &'static str, reports: &mut Reports) -> Option<At<T>> {
        let Some(entry) = self.entries.iter().find(|entry| entry.key == key) else {
            if self.shape.keys.contains(&(key, Need::required)) && !self.meant.contains(&key) {
                reports.error(
                    self.opening,
                    format!("{} needs the key `{key}`", self.shape.what),
                    format!("add `{key}: ...`"),
                );
            }
            return None;
        };
        if entry.node.is_null() {
            reports.error(
                entry.key_place,
                format!("`{key}` has no value"),
                "write one, or remove the key",
            );
            return None;
        }
        At::read(&entry.node, reports)
    }

    pub fn close(self, reports: &mut Reports) {
        if self.shape.subject.is_some() {
            reports.leave();
        }
    }
}

fn require_one(node: &Node<'_>, entries: &[Entry<'_>], shape: &Shape, reports: &mut Reports) {
    let unless = shape
        .unless
        .as_ref()
        .filter(|unless| node.child_text(unless.key) != Some(unless.word));
    let one_of = unless.map_or(shape.one_of, |unless| unless.one_of);
    for key in unless.map_or(&[][..], |unless| unless.needs) {
        if !entries.iter().any(|entry| entry.key == *key) {
            let message = format!("{} needs the key `{key}`", shape.what);
            reports.error(node.opening(), message, format!("add `{key}: ...`"));
        }
    }
    let mut one = entries.iter().filter(|entry| one_of.contains(&&*entry.key));
    if let (Some(first), Some(second)) = (one.next(), one.next()) {
        reports.error(
            second.key_place,
            format!(
                "{} has `{}` or `{}`, not both",
                shape.what, first.key, second.key
            ),
            "keep one of the two",
        );
    }
    for needed in [one_of, shape.some_of] {
        let there = entries.iter().any(|entry| needed.contains(&&*entry.key));
        if !needed.is_empty() && !there {
            let keys: Vec<String> = needed.iter().map(|key| format!("`{key}`")).collect();
            reports.error(
                node.opening(),
                format!("{} needs {}", shape.what, alternatives(&keys)),
                "add one of them",
            );
        }
    }
}

/// Reports a key that the mapping does not have. The key that was meant, if there is a guess.
fn refuse_unknown(entry: &Entry<'_>, shape: &Shape, reports: &mut Reports) -> Option<&'static str> {
    let key = &*entry.key;
    if shape.keys.iter().any(|(known, _)| *known == key) {
        return None;
    }
    hide_secrets(entry, shape.secret, reports);
    if shape.later.contains(&key) {
        reports.error(
            entry.key_place,
            format!("`{key}` is not available yet"),
            "remove it: this version can't honour it, and nothing is read and then ignored",
        );
        return None;
    }
    let known = shape.keys.iter().map(|(known, _)| *known);
    let meant = did_you_mean(key, known.clone());
    let help = match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            let keys: Vec<String> = known.map(|key| format!("`{key}`")).collect();
            format!("{} has the keys {}", shape.what, listed(&keys))
        }
    };
    reports.error(
        entry.key_place,
        format!("unknown key `{}` in {}", clipped(key), shape.what),
        help,
    );
    meant
}

/// What stands behind a key that is never read may be a secret all the same.
pub(super) fn hide_secrets(entry: &Entry<'_>, secret: bool, reports: &mut Reports) {
    let key = entry.key.to_ascii_lowercase();
    if secret || SECRETIVE.iter().any(|part| key.contains(part)) {
        reports.hide(entry.node.place);
    } else if let Value::Map(entries) = &entry.node.value {
        for entry in entries {
            hide_secrets(entry, false, reports);
        }
    }
}

/// Parts of keys that may have a secret behind them.
const SECRETIVE: [&str; 7] = ["value", "key", "secret", "token", "pass", "cred", "auth"];

/// One of a closed set of words.
pub(super) fn word<T: Copy>(
    node: &Node<'_>,
    what: &str,
    words: &[(&'static str, T)],
    later: &[&str],
    reports: &mut Reports,
) -> Option<T> {
    let written = match &node.value {
        Value::Scalar(scalar) => &*scalar.text,
        Value::List(_) | Value::Map(_) => "",
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == written) {
        return Some(*value);
    }
    let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    if later.contains(&written) {
        let help = format!("until then {} is {}", what, alternatives(&known));
        reports.error(
            node.place,
            format!("`{written}` is not available yet"),
            help,
        );
        return None;
    }
    let help = match did_you_mean(written, words.iter().map(|(word, _)| *word)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("{what} is {}", alternatives(&known)),
    };
    let found = describe(node, reports);
    reports.error(node.place, format!("expected {what}, found {found}"), help);
    None
}

/// The text of a value that must be text: quoted, or plain and not something else to YAML.
pub(super) fn text<'n>(node: &'n Node<'_>, what: &str, reports: &mut Reports) -> Option<&'n str> {
    match &node.value {
        Value::Scalar(scalar) if scalar.plain && !is_text(scalar) => {
            unexpected(node, what, "put it in quotes", reports)
        }
        Value::Scalar(scalar) => Some(&scalar.text),
        Value::List(_) | Value::Map(_) => {
            unexpected(node, what, format!("write {what} here"), reports)
        }
    }
}

/// The text of a plain scalar: a number, `true`, `any`. `None`: not reported yet.
pub(super) fn plain<'n>(node: &'n Node<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Scalar(scalar) if scalar.plain => Some(&scalar.text),
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => None,
    }
}

/// "expected a duration, found `5 s`", and the cure.
pub(super) fn unexpected<T>(
    node: &Node<'_>,
    what: &str,
    help: impl Into<String>,
    reports: &mut Reports,
) -> Option<T> {
    let found = describe(node, reports);
    reports.error(node.place, format!("expected {what}, found {found}"), help);
    None
}

/// What a node is, for "found ...". Never the text of what is hidden.
pub(super) fn describe(node: &Node<'_>, reports: &Reports) -> String {
    match &node.value {
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a mapping".into(),
        Value::Scalar(_) if node.is_null() => "nothing".into(),
        Value::Scalar(_) if reports.is_hidden(node.place) => "text".into(),
        Value::Scalar(scalar) if scalar.plain && !is_text(scalar) => {
            let kind = if is_bool(&scalar.text) {
                "truth value"
            } else {
                "number"
            };
            format!("the {kind} `{}`", clipped(&scalar.text))
        }
        Value::Scalar(scalar) => format!("`{}`", clipped(&scalar.text)),
    }
}

/// Bounded, on one line, and without tokens.
pub(super) fn clipped(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let line: String = text
        .chars()
        .take(SHOWN_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let line = super::error::hide_tokens(line);
    if text.chars().nth(SHOWN_MAX).is_some() {
        format!("{line}...")
    } else {
        line
    }
}

/// `a`, `b` and `c`.
pub(super) fn listed(items: &[String]) -> String {
    joined(items, "and")
}

/// `a`, `b` or `c`.
pub(super) fn alternatives(items: &[String]) -> String {
    joined(items, "or")
}

fn joined(items: &[String], last: &str) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., tail] => format!("{} {last} {tail}", head.join(", ")),
    }
}

fn is_bool(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

/// Whether YAML's core schema reads a plain scalar as a string.
fn is_text(scalar: &Scalar<'_>) -> bool {
    let text = &*scalar.text;
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && (digits.parse::<f64>().is_ok()
            || matches!(digits.get(..2), Some("0x" | "0o"))
                && digits[2..].bytes().all(|b| b.is_ascii_hexdigit())
            || matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"));
    !number && !is_bool(text) && !matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The schema of a mapping with a closed set of keys.
pub(super) fn mapping_schema(
    description: &str,
    keys: &[(&'static str, Need, &'static str, Schema)],
    one_of: &[&str],
) -> Schema {
    let mut properties = serde_json::Map::new();
    for (key, _, note, schema) in keys {
        let mut schema = schema.clone();
        schema.insert("description".into(), note.trim().into());
        properties.insert((*key).into(), schema.to_value());
    }
    let required: Vec<&str> = keys
        .iter()
        .filter(|(_, need, ..)| *need == Need::required)
        .map(|(key, ..)| *key)
        .collect();
    let mut schema = json_schema!({
        "type": "object",
        "description": description.trim(),
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    if !one_of.is_empty() {
        let each = one_of
            .iter()
            .map(|key| serde_json::json!({ "required": [key] }));
        schema.insert("oneOf".into(), each.collect());
    }
    schema
}
