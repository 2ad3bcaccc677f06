//! The single values of the YAML: names, numbers, durations, bounds. Each is read once, here, and described by a schema.

use super::error::Reports;
use super::read::{self, Read, text, unexpected};
use super::tree::Node;
use super::units;
use crate::policy::name::{
    AgentName, ChainName, GroupName, LimitId, NotifyName, PrincipalName, ProjectName, RouteId,
    ScopeName, ToolName,
};
use crate::policy::time::duration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::time::Duration;

macro_rules! leaf_schema {
    ($($name:ident $(<$($bound:ident: $type:ty),+>)? => $schema:tt;)+) => {$(
        impl $(<$(const $bound: $type),+>)? JsonSchema for $name $(<$($bound),+>)? {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

mod condition;
mod outside;
mod sent;

pub(super) use condition::{Literal, Number, Whole};
pub(super) use outside::{
    Address, AttributeName, HeaderName, HostName, Network, Sha256, Variable, is_host, is_variable,
};
pub(super) use sent::{FieldValue, Sent};

/// The version of a file's format.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version;

impl Read for Version {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        match read::plain(node) {
            Some("1") => Some(Self),
            Some(_) | None => unexpected(
                node,
                "a version of the format that is known",
                "write `version: 1`",
                reports,
            ),
        }
    }
}

/// `true` or `false`, and no other word for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag(pub bool);

impl Read for Flag {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        match read::plain(node) {
            Some("true") => Some(Self(true)),
            Some("false") => Some(Self(false)),
            Some(_) | None => {
                unexpected(node, "`true` or `false`", "write one of the two", reports)
            }
        }
    }
}

/// A whole number from 1 to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count<const MAX: u32>(pub u32);

impl<const MAX: u32> Read for Count<MAX> {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let what = format!("a whole number from 1 to {MAX}");
        let written = read::plain(node);
        let number = written
            .and_then(units::whole)
            .and_then(|n| u32::try_from(n).ok());
        match number {
            Some(number) if (1..=MAX).contains(&number) => Some(Self(number)),
            Some(0) => unexpected(node, &what, ZERO, reports),
            Some(_) | None => unexpected(node, &what, "write it in digits", reports),
        }
    }
}

/// Data-plane threads: a number, or one per core.
#[derive(Clone, Copy, Debug)]
pub(super) enum Workers {
    Auto,
    Number(u32),
}

impl Read for Workers {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let written = read::plain(node);
        match written.and_then(units::whole) {
            _ if written == Some("auto") => Some(Self::Auto),
            Some(number @ 1..=1024) => u32::try_from(number).ok().map(Self::Number),
            Some(_) | None => unexpected(
                node,
                "`auto` or a number of threads from 1 to 1024",
                "`auto` is one per core",
                reports,
            ),
        }
    }
}

/// A duration from `MIN` to `MAX` milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<const MIN: u64, const MAX: u64>(pub Duration);

impl<const MIN: u64, const MAX: u64> Read for Span<MIN, MAX> {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let (least, most) = (Duration::from_millis(MIN), Duration::from_millis(MAX));
        let (least, most) = (units::show_duration(least), units::show_duration(most));
        let what = format!("a duration from {least} to {most}");
        let span = scalar(node).and_then(duration);
        match span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)) {
            Some(millis) if (MIN..=MAX).contains(&millis) => span.map(Self),
            Some(0) => unexpected(node, &what, ZERO, reports),
            Some(_) => unexpected(node, &what, "stay within these bounds", reports),
            None => unexpected(node, &what, DURATION, reports),
        }
    }
}

/// A size from `MIN` to `MAX` bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> Read for Size<MIN, MAX> {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let (least, most) = (units::show_size(MIN), units::show_size(MAX));
        let what = format!("a size from {least} to {most}");
        match scalar(node).and_then(units::size) {
            Some(bytes) if (MIN..=MAX).contains(&bytes) => Some(Self(bytes)),
            Some(0) => unexpected(node, &what, ZERO, reports),
            Some(_) => unexpected(node, &what, "stay within these bounds", reports),
            None => {
                let help = "write a whole number and `KiB`, `MiB` or `GiB`: `1MiB`";
                unexpected(node, &what, help, reports)
            }
        }
    }
}

/// `600/1m`: calls in a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calls {
    pub count: u32,
    pub window: Duration,
}

impl Read for Calls {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let what = "a number of calls in a window";
        let Some((count, window)) = scalar(node).and_then(units::per_window) else {
            return unexpected(node, what, "write `600/1m`: 600 calls in a minute", reports);
        };
        let window = window_within(node, window, reports)?;
        match u32::try_from(count) {
            Ok(0) => unexpected(node, "at least one call in a window", ZERO, reports),
            Ok(count) if count <= CALLS_MAX => Some(Self { count, window }),
            Ok(_) | Err(_) => {
                let what = format!("at most {CALLS_MAX} calls in a window");
                unexpected(node, &what, "write a smaller number", reports)
            }
        }
    }
}

/// `5.00/1h`: an amount in a window, in millionths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spend {
    pub micros: u64,
    pub window: Duration,
}

impl Read for Spend {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let Some((micros, window)) = scalar(node).and_then(units::cost_per_window) else {
            let help = "write `5.00/1h`: 5.00 in an hour, with at most six decimal places";
            return unexpected(node, "an amount in a window", help, reports);
        };
        let window = window_within(node, window, reports)?;
        match micros {
            0 => unexpected(node, "an amount above zero", ZERO, reports),
            1..=AMOUNT_MICROS_MAX => Some(Self { micros, window }),
            _ => unexpected(
                node,
                "at most 1000000000",
                "write a smaller amount",
                reports,
            ),
        }
    }
}

fn window_within(node: &Node<'_>, window: Duration, reports: &mut Reports) -> Option<Duration> {
    let within = (Duration::from_secs(1)..=WINDOW_MAX).contains(&window);
    if !within {
        let help = "write a longer or shorter window, and scale the number with it";
        return unexpected(node, "a window from 1s to 31d", help, reports);
    }
    Some(window)
}

/// `0.01`: an amount in millionths; zero is free.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount(pub u64);

impl Read for Amount {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        match scalar(node).and_then(units::micros) {
            Some(micros) if micros <= AMOUNT_MICROS_MAX => Some(Self(micros)),
            Some(_) | None => unexpected(
                node,
                "an amount from 0 to 1000000000",
                "write a decimal with at most six places: `0.01`",
                reports,
            ),
        }
    }
}

/// `0.25`: a part of all, in millionths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share(pub u32);

impl Read for Share {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let millionths = scalar(node).and_then(units::micros);
        match millionths.map(u32::try_from) {
            Some(Ok(part)) if part <= 1_000_000 => Some(Self(part)),
            Some(_) | None => unexpected(
                node,
                "a part of all, from 0 to 1",
                "write a decimal with at most six places: `0.1` is one in ten",
                reports,
            ),
        }
    }
}

macro_rules! names {
    ($($name:ident $what:literal,)+) => {$(
        impl Read for $name {
            fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
                name(node, $what, |text| $name::parse(text), reports)
            }
        }

        leaf_schema! {
            $name => {
                "type": "string",
                "maxLength": 100,
                "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
            };
        }
    )+};
}

names! {
    ProjectName "the name of a project",
    AgentName "the name of an agent",
    ToolName "the name of a tool",
    RouteId "the id of a route",
    LimitId "the id of a limit",
    PrincipalName "the name of a principal",
    ChainName "the name of a chain",
    GroupName "the name of a group",
    NotifyName "the name of a target of `notify`",
}

fn name<T>(
    node: &Node<'_>,
    what: &str,
    parse: impl Fn(&str) -> Result<T, crate::policy::name::NameError>,
    reports: &mut Reports,
) -> Option<T> {
    let written = text(node, what, reports)?;
    match parse(written) {
        Ok(name) => Some(name),
        Err(error) => unexpected(node, what, error.to_string(), reports),
    }
}

impl Read for ScopeName {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let what = "a scope";
        let scope = name(node, what, Self::parse, reports)?;
        if scope.as_str().contains("..") {
            let help = "a scope is words with single dots between them: `users.read`";
            return unexpected(node, what, help, reports);
        }
        Some(scope)
    }
}

/// Any text but none.
#[derive(Clone, Debug)]
pub(super) struct Text(pub String);

impl Read for Text {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let written = text(node, "text", reports)?;
        if written.is_empty() {
            return unexpected(node, "text", "write something, or remove the key", reports);
        }
        if written.contains("${") {
            reports.error(
                node.place,
                "`${...}` is not read here",
                "the environment is read only in a tool's `upstream.url` and `credential.value`, in the `url` of a webhook, and in the `headers` of `otlp`",
            );
            return None;
        }
        Some(Self(written.to_owned()))
    }
}

/// Text in which `${NAME}` is the environment's, and `$${` is `${`.
#[derive(Clone, Debug)]
pub(super) struct Interpolated(pub String);

impl Read for Interpolated {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let written = text(node, "text", reports)?;
        if written.is_empty() {
            return unexpected(node, "text", "write something, or remove the key", reports);
        }
        Some(Self(written.to_owned()))
    }
}

/// The text of any scalar: numbers with units are never mistaken for something else.
fn scalar<'n>(node: &'n Node<'_>) -> Option<&'n str> {
    match &node.value {
        super::tree::Value::Scalar(scalar) => Some(&scalar.text),
        super::tree::Value::List(_) | super::tree::Value::Map(_) => None,
    }
}

leaf_schema! {
    Version => { "const": 1 };
    Flag => { "type": "boolean" };
    Count<MAX: u32> => { "type": "integer", "minimum": 1, "maximum": MAX };
    Workers => { "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }] };
    Span<MIN: u64, MAX: u64> => { "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" };
    Size<MIN: u64, MAX: u64> => { "type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)$" };
    Calls => { "type": "string", "pattern": "^[0-9]+/[0-9]+(ms|s|m|h|d)$" };
    Spend => { "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,6})?/[0-9]+(ms|s|m|h|d)$" };
    Amount => { "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,6})?$" }] };
    Share => { "anyOf": [{ "type": "number", "minimum": 0, "maximum": 1 }, { "type": "string", "pattern": "^[01](\\.[0-9]{1,6})?$" }] };
    ScopeName => { "type": "string", "maxLength": 100, "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$" };
    Text => { "type": "string", "minLength": 1 };
    Interpolated => { "type": "string", "minLength": 1 };
}

const ZERO: &str = "zero would not mean unlimited: write a bound, or remove the key";
const DURATION: &str = "write a whole number and `ms`, `s`, `m`, `h` or `d`: `30s`";
/// Most calls that one limit counts.
const CALLS_MAX: u32 = 100_000_000;
/// Largest amount, in millionths.
const AMOUNT_MICROS_MAX: u64 = 1_000_000_000_000_000;
/// Longest window of a limit.
const WINDOW_MAX: Duration = Duration::from_secs(31 * 86_400);
