//! A record as a page reads it: texts by name, and what a call came to.

use crate::ledger::record::millionths;
use crate::serve::console::text::took;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// A text of a record.
pub(super) fn text<'r>(record: &'r Value, name: &str) -> Option<&'r str> {
    record[name].as_str()
}

/// A text that every record of its kind has.
pub(super) fn needed<'r>(record: &'r Value, name: &str) -> &'r str {
    text(record, name).unwrap_or("?")
}

/// How calls ended, as far as the records at hand say.
#[derive(Debug, Default)]
pub(super) struct Ends<'r> {
    outcomes: HashMap<&'r str, &'r Value>,
    /// The last decision of each call: its outcome tells how that went.
    last: BTreeMap<&'r str, u64>,
    /// Whose outcome was not looked for far enough.
    unresolved: &'r [String],
}

impl<'r> Ends<'r> {
    pub(super) fn new(records: &'r [Value], unresolved: &'r [String]) -> Self {
        let mut ends = Self {
            unresolved,
            ..Self::default()
        };
        for record in records {
            let (Some(request), Some(seq)) = (text(record, "request"), record["seq"].as_u64())
            else {
                continue;
            };
            match needed(record, "kind") {
                "outcome" => {
                    ends.outcomes.insert(request, record);
                }
                "decision" => {
                    let last = ends.last.entry(request).or_insert(seq);
                    *last = seq.max(*last);
                }
                _ => {}
            }
        }
        ends
    }

    /// What became of a decision.
    pub(super) fn of(&self, decision: &Value) -> End {
        let request = needed(decision, "request");
        if self.last.get(request).copied() != decision["seq"].as_u64() {
            return End::WentOn;
        }
        match self.outcomes.get(request) {
            Some(outcome) => End::Known(Outcome::new(outcome)),
            None if self.unresolved.iter().any(|each| each == request) => End::NotFound,
            None => End::Unknown,
        }
    }
}

/// What became of a decision.
#[derive(Debug)]
pub(super) enum End {
    /// The call was decided on once more, further on.
    WentOn,
    /// It is on record.
    Known(Outcome),
    /// It is not on record: under way, or nobody knows.
    Unknown,
    /// It was not looked for far enough.
    NotFound,
}

/// A call's outcome, for people.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What the agent was answered.
    pub status: Option<u64>,
    pub fault: Option<String>,
    pub took: String,
    /// How long people were waited for.
    pub held: Option<String>,
    pub cost_micros: Option<u64>,
    pub cost: Option<String>,
}

impl Outcome {
    fn new(record: &Value) -> Self {
        let span = |name: &str| record[name].as_u64();
        Self {
            status: span("status"),
            fault: text(record, "fault").map(str::to_owned),
            took: took(span("total_micros").unwrap_or_default()),
            held: span("hold_micros").map(took),
            cost_micros: text(record, "cost").and_then(millionths),
            cost: text(record, "cost").map(str::to_owned),
        }
    }

    /// `200`, `agent_left after 200`.
    pub(super) fn answer(&self) -> String {
        match (self.status, &self.fault) {
            (Some(status), None) => format!("answered {status}"),
            (Some(status), Some(fault)) => format!("answered {status}, {fault}"),
            (None, Some(fault)) => format!("no answer: {fault}"),
            (None, None) => "no answer".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn costs_are_read_and_written_as_the_ledger_writes_them() {
        for (text, micros) in [
            ("0", 0),
            ("0.01", 10_000),
            ("1.5", 1_500_000),
            ("7.000001", 7_000_001),
        ] {
            assert_eq!(millionths(text), Some(micros));
            assert_eq!(crate::ledger::record::decimal(micros), text);
        }
        assert_eq!(millionths("x"), None);
    }

    #[test]
    fn an_outcome_is_of_a_calls_last_decision_and_none_is_unknown() {
        let records = [
            json!({ "seq": 1, "kind": "decision", "request": "req_1" }),
            json!({ "seq": 4, "kind": "decision", "request": "req_1" }),
            json!({ "seq": 5, "kind": "outcome", "request": "req_1", "status": 200, "total_micros": 1500, "cost": "0.5" }),
            json!({ "seq": 6, "kind": "decision", "request": "req_2" }),
            json!({ "seq": 7, "kind": "decision", "request": "req_3" }),
        ];
        let unresolved = ["req_3".to_owned()];
        let ends = Ends::new(&records, &unresolved);
        assert!(matches!(ends.of(&records[0]), End::WentOn));
        let End::Known(outcome) = ends.of(&records[1]) else {
            panic!("it is on record");
        };
        assert_eq!(outcome.answer(), "answered 200");
        assert_eq!(outcome.cost_micros, Some(500_000));
        assert!(matches!(ends.of(&records[3]), End::Unknown));
        assert!(matches!(ends.of(&records[4]), End::NotFound));
    }
}
