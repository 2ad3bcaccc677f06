//! An auditor who comes again and again and keeps what was read: a line that was there once must be there for ever.

use crate::ledger::sha256;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use toolgate::ledger::verify::{self, Given, Report};

/// What was read so far of a log that only grows.
pub struct Auditor {
    directory: PathBuf,
    /// How much of each segment was read: whole lines.
    read: BTreeMap<String, usize>,
    head: Option<String>,
    next: u64,
    /// `request decision` of every decision.
    pub decisions: HashSet<String>,
    /// Targets of calls that were allowed.
    pub allowed: HashSet<String>,
    /// `kind change id` of sessions and grants.
    pub changes: HashSet<String>,
    /// What `gate` records say of themselves.
    pub gate: BTreeSet<String>,
}

impl Auditor {
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            read: BTreeMap::new(),
            head: None,
            next: 0,
            decisions: HashSet::new(),
            allowed: HashSet::new(),
            changes: HashSet::new(),
            gate: BTreeSet::new(),
        }
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.next
    }

    /// Reads what has come since the last time. Every line continues the chain of those that were read then: one that
    /// was taken back or changed meanwhile would show.
    pub fn read_on(&mut self) {
        let mut names: Vec<String> = std::fs::read_dir(&self.directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".jsonl"))
            .collect();
        names.sort();
        for name in names {
            let from = self.read.get(&name).copied().unwrap_or(0);
            let text = std::fs::read(self.directory.join(&name)).unwrap();
            assert!(text.len() >= from, "{name}: {from} bytes were there");
            let whole = text.iter().rposition(|&byte| byte == b'\n');
            let end = whole.map_or(0, |at| at + 1);
            let lines = text[from..end.max(from)].split_inclusive(|&byte| byte == b'\n');
            for line in lines {
                self.take(&line[..line.len() - 1]);
            }
            self.read.insert(name, end.max(from));
        }
    }

    fn take(&mut self, line: &[u8]) {
        let shown = String::from_utf8_lossy(line);
        let record: Value =
            serde_json::from_slice(line).unwrap_or_else(|it| panic!("{it}: {shown}"));
        assert_eq!(record["seq"].as_u64(), Some(self.next), "{shown}");
        if let Some(head) = &self.head {
            assert_eq!(record["prev"].as_str(), Some(head.as_str()), "{shown}");
        }
        self.next += 1;
        self.head = Some(sha256(line));
        let text = |name: &str| record[name].as_str().unwrap_or_default();
        match text("kind") {
            "decision" => {
                let (request, decision) = (text("request"), text("decision"));
                self.decisions.insert(format!("{request} {decision}"));
                if decision == "allow" {
                    self.allowed.insert(text("target").to_owned());
                }
            }
            kind @ ("session" | "grant") => {
                let id = text(kind);
                self.changes
                    .insert(format!("{kind} {} {id}", text("change")));
            }
            "gate" => drop(self.gate.insert(text("change").to_owned())),
            _ => {}
        }
    }
}

/// Every record of a ledger that was closed in order is what its last checkpoint signed, and nothing is wrong with any.
pub fn sealed(directory: &Path) -> Report {
    let report = proven(directory);
    let proven = report.proven.as_ref().map(|proven| proven.to);
    assert_eq!(proven, Some(report.next), "{report:#?}");
    report
}

/// Nothing is wrong with a ledger; how far it is signed is in the report.
pub fn proven(directory: &Path) -> Report {
    let report = verify::directory(directory, &Given::default(), &mut |_, _| {}).unwrap();
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
    assert!(report.proven.is_some(), "{report:#?}");
    report
}
