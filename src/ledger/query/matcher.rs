//! Whether a line is one that is asked for: first by its bytes, then by what it says.
//!
//! Lines are canonical JSON, so a field that must be exactly so stands in the line as exactly these bytes, and a resource
//! that may be one of several as its own. The rarest of
//! them is looked for in whole blocks at the speed of memory; only a line that has all of them is parsed, and what is
//! parsed decides. It refuses to guess: a line that is no JSON is counted, not skipped in silence.

use super::super::line::rfc3339;
use super::filter::{Filter, Outcomes};
use super::scan::time;
use memchr::memmem::{self, Finder};
use memchr::{memchr, memchr2_iter, memrchr};
use serde_json::Value;
use std::ops::Range;

/// A [`Filter`] made ready.
#[derive(Debug)]
pub(super) struct Matcher {
    filter: Filter,
    joins: bool,
    /// The rarest first.
    needles: Vec<Finder<'static>>,
    /// As it stands in a line, small letters.
    text: Option<Vec<u8>>,
    since: Option<String>,
    until: Option<String>,
}

/// What a line turned out to be.
pub(super) enum Line {
    /// Asked for, and its `seq`.
    Found(Value, u64),
    /// Not asked for.
    Other,
    /// Not JSON.
    NoRecord,
}

impl Matcher {
    pub fn new(filter: &Filter) -> Self {
        let needle = |(name, value): (&str, &str)| {
            let value = Value::from(value).to_string();
            match name {
                // It may stand among others.
                "resource" => Finder::new(&value[1..value.len() - 1]).into_owned(),
                _ => Finder::new(&format!("\"{name}\":{value}")).into_owned(),
            }
        };
        let mut needles: Vec<_> = filter.exact().map(needle).collect();
        if filter.shadow.is_some() {
            needles.insert(0, Finder::new("\"shadow\":{").into_owned());
        }
        if let Some([kind]) = filter.kinds.as_deref() {
            needles.push(needle(("kind", kind)));
        }
        if let Some([project]) = filter.projects.as_deref() {
            needles.push(needle(("project", project.as_str())));
        }
        let escaped = |text: &String| {
            let quoted = Value::from(text.to_ascii_lowercase()).to_string();
            quoted.as_bytes()[1..quoted.len() - 1].to_vec()
        };
        let joins = filter.joins();
        if joins && matches!(filter.kinds.as_deref(), Some([only]) if only == "outcome") {
            // What is asked for is found by the decisions.
            needles.retain(|needle| needle.needle() != b"\"kind\":\"outcome\"");
            needles.push(needle(("kind", "decision")));
        }
        Matcher {
            joins,
            needles,
            text: filter.text.as_ref().map(escaped),
            since: filter.since.map(rfc3339),
            until: filter.until.map(rfc3339),
            filter: filter.clone(),
        }
    }

    /// Whether outcomes come with their decisions.
    pub fn joins(&self) -> bool {
        self.joins
    }

    /// The call whose outcome belongs to this record, if it is one that was found.
    pub fn call(&self, record: &Value) -> Option<String> {
        let decision = self.joins && record["kind"] == "decision";
        let request = record["request"].as_str().filter(|_| decision)?;
        Some(request.to_owned())
    }

    /// The lines of a block that are worth a closer look, without their newlines.
    pub fn candidates(&self, block: &[u8]) -> Vec<Range<usize>> {
        let mut lines = Vec::new();
        let mut from = 0;
        while from < block.len() {
            let start = match self.needles.first() {
                None => from,
                Some(needle) => match needle.find(&block[from..]) {
                    None => break,
                    Some(at) => memrchr(b'\n', &block[from..from + at])
                        .map_or(from, |newline| from + newline + 1),
                },
            };
            let end = memchr(b'\n', &block[start..]).map_or(block.len(), |newline| start + newline);
            if self.may_be(&block[start..end]) {
                lines.push(start..end);
            }
            from = end + 1;
        }
        lines
    }

    fn may_be(&self, line: &[u8]) -> bool {
        if !self
            .needles
            .iter()
            .skip(1)
            .all(|needle| needle.find(line).is_some())
        {
            return false;
        }
        if let Some(text) = &self.text
            && !has(line, text)
        {
            return false;
        }
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        time(line).is_none_or(|time| {
            let early = self
                .since
                .as_ref()
                .is_some_and(|since| time < since.as_bytes());
            let late = self
                .until
                .as_ref()
                .is_some_and(|until| time >= until.as_bytes());
            !early && !late
        })
    }

    /// What a candidate is.
    pub fn judge(&self, line: &[u8]) -> Line {
        let Ok(record) = serde_json::from_slice::<Value>(line) else {
            return Line::NoRecord;
        };
        match record["seq"].as_u64() {
            None => Line::NoRecord,
            Some(seq) if self.meets(&record) => Line::Found(record, seq),
            Some(_) => Line::Other,
        }
    }

    /// Whether a record is itself to be shown, not only a decision whose outcome is.
    pub fn shows(&self, record: &Value) -> bool {
        let kind = record["kind"].as_str().unwrap_or_default();
        self.filter
            .kinds
            .as_ref()
            .is_none_or(|kinds| kinds.iter().any(|wanted| wanted == kind))
    }

    fn meets(&self, record: &Value) -> bool {
        let filter = &self.filter;
        if record["kind"] == "outcome" && filter.outcomes == Outcomes::WithDecisions {
            return false;
        }
        let for_its_outcome = self.joins && record["kind"] == "decision";
        if !(self.shows(record) || for_its_outcome) {
            return false;
        }
        let own = |projects: &Vec<_>| {
            let project = record["project"].as_str();
            project.is_some_and(|project| {
                projects
                    .iter()
                    .any(|own: &crate::policy::name::ProjectName| own.as_str() == project)
            })
        };
        filter.projects.as_ref().is_none_or(own)
            && filter.exact().all(|(name, value)| is(record, name, value))
            && filter.shadow.as_ref().is_none_or(|wanted| {
                let would = record["shadow"]["would"].as_str();
                would.is_some_and(|would| wanted == "any" || wanted == would)
            })
            && filter
                .text
                .as_ref()
                .is_none_or(|text| says(record, &text.to_ascii_lowercase()))
    }
}

/// Whether a field is just this; of several resources, whether one is.
fn is(record: &Value, name: &str, value: &str) -> bool {
    // What passed in shadow has its reason beside what it would have been.
    let of_shadow = (name == "reason").then(|| &record["shadow"][name]);
    let own = record[name].as_str().or(of_shadow.and_then(Value::as_str));
    own.is_some_and(|own| {
        own == value || name == "resource" && own.split(' ').any(|one| one == value)
    })
}

/// Whether one of a record's texts has it; digests are no texts.
fn says(record: &Value, text: &str) -> bool {
    match record {
        Value::String(own) => own.to_ascii_lowercase().contains(text),
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| {
                !matches!(
                    name.as_str(),
                    "prev" | "policy" | "hashes" | "digest" | "instance"
                )
            })
            .any(|(_, member)| says(member, text)),
        _ => false,
    }
}

/// Whether bytes stand in a line, in capitals or not. `needle` is in small letters.
fn has(line: &[u8], needle: &[u8]) -> bool {
    let Some(&first) = needle.first() else {
        return true;
    };
    memchr2_iter(first, first.to_ascii_uppercase(), line).any(|at| {
        line.get(at..at + needle.len())
            .is_some_and(|part| part.eq_ignore_ascii_case(needle))
    })
}

/// The call a line is of, if it is an outcome.
pub(super) fn outcome_of(line: &[u8]) -> Option<&[u8]> {
    memmem::find(line, b"\"kind\":\"outcome\"")?;
    super::scan::value(line, b"\"request\":\"")
}
