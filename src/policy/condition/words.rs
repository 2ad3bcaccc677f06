//! Conditions as they are written, for people: `body./amount: { at_most: 100 }`.

use super::{Condition, Literal, Network, Pattern, Subject, Test};
use crate::policy::sql;
use std::fmt;

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {{ ", self.subject)?;
        for (at, test) in self.tests.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{test}")?;
        }
        if let Subject::Hour(zone) | Subject::Weekday(zone) = &self.subject {
            write!(f, ", zone: {}", zone.iana_name().unwrap_or("UTC"))?;
        }
        f.write_str(" }")
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::OneOf(list) if list.len() == 1 => write!(f, "equals: {}", list[0]),
            Test::OneOf(list) => write!(f, "one_of: {}", Listed(list)),
            Test::NotOneOf(list) => write!(f, "not_one_of: {}", Listed(list)),
            Test::Prefix(text) => write!(f, "prefix: {text:?}"),
            Test::Matches(pattern) => write!(f, "matches: {pattern}"),
            Test::AtMost(number) => write!(f, "at_most: {number}"),
            Test::AtLeast(number) => write!(f, "at_least: {number}"),
            Test::Exists(there) => write!(f, "exists: {there}"),
            Test::LengthAtMost(most) => write!(f, "length_at_most: {most}"),
            Test::In(networks) => write!(f, "cidr: {}", Listed(networks)),
            Test::Sql(rule) => write!(f, "sql: {}", Rule(rule)),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Text(text) => write!(f, "{text:?}"),
            Literal::Number(number) => write!(f, "{number}"),
            Literal::Bool(is) => write!(f, "{is}"),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.as_str();
        let written = whole.strip_prefix("^(?:");
        let written = written.and_then(|rest| rest.strip_suffix(")$"));
        write!(f, "{:?}", written.unwrap_or(whole))
    }
}

/// `[a, b]`, as far as a line goes.
struct Listed<'l, T>(&'l [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, item) in self.0.iter().take(NAMED_MAX).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{item}")?;
        }
        let more = if self.0.len() > NAMED_MAX {
            ", ..."
        } else {
            ""
        };
        write!(f, "{more}]")
    }
}

/// What of a rule tells it from others: whose grammar, and which statements.
struct Rule<'r>(&'r sql::Rule);

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<sql::Kind> = self.0.statements.iter().copied().collect();
        let dialect = self.0.dialect;
        write!(f, "{{ dialect: {dialect}, statements: {}", Listed(&kinds))?;
        if let Some(tables) = &self.0.reads {
            let tables: Vec<String> = tables.iter().map(|name| name.join(".")).collect();
            write!(f, ", tables: {}", Listed(&tables))?;
        }
        f.write_str(" }")
    }
}

/// Of lists, this many are named.
const NAMED_MAX: usize = 8;
