//! Values that calls are compared with.

use crate::config::error::Reports;
use crate::config::read::{self, Read, unexpected};
use crate::config::tree::{Node, Value};
use crate::config::units;
use crate::policy::condition;
use crate::policy::decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// Text, a number, `true` or `false`. What is quoted is text.
#[derive(Clone, Debug)]
pub(in crate::config) struct Literal(pub condition::Literal);

impl Read for Literal {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        use condition::Literal::{Bool, Number, Text};
        let what = "text, a number, `true` or `false`";
        let Value::Scalar(scalar) = &node.value else {
            return unexpected(node, what, "write one value", reports);
        };
        let literal = match (&*scalar.text, scalar.plain) {
            ("true", true) => Bool(true),
            ("false", true) => Bool(false),
            (text, true) => match Decimal::read(text) {
                Some(number) => Number(number),
                None => Text(read::text(node, what, reports)?.into()),
            },
            (text, false) => Text(text.into()),
        };
        Some(Self(literal))
    }
}

/// A number, compared exactly.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Number(pub Decimal);

impl Read for Number {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let help = "write it in digits, at most 34 of them: `100`, `-0.5`";
        match read::plain(node).and_then(Decimal::read) {
            Some(number) => Some(Self(number)),
            None => unexpected(node, "a number", help, reports),
        }
    }
}

/// A whole number from 0 to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Whole<const MAX: u32>(pub u32);

impl<const MAX: u32> Read for Whole<MAX> {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let written = read::plain(node).and_then(units::whole);
        match written.and_then(|number| u32::try_from(number).ok()) {
            Some(number) if number <= MAX => Some(Self(number)),
            Some(_) | None => {
                let what = format!("a whole number from 0 to {MAX}");
                unexpected(node, &what, "write it in digits", reports)
            }
        }
    }
}

leaf_schema! {
    Literal => { "type": ["string", "number", "boolean"] };
    Number => { "type": "number" };
    Whole<MAX: u32> => { "type": "integer", "minimum": 0, "maximum": MAX };
}
