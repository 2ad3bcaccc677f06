//! A record in words: what it is of, who caused it, and what became of it. For the table of records and for the timeline of
//! a session.

use super::form::link;
use super::record::{End, Ends, needed, text};
use crate::ledger::query::Page;
use crate::serve::console::text::{Text, Time, short};
use serde_json::Value;

/// A record in the table.
#[derive(Debug)]
pub(super) struct Row {
    pub seq: u64,
    pub at: Time,
    pub word: Word,
    /// The code beside the word.
    pub reason: Option<String>,
    pub subject: Subject,
    /// Each of what it acted on.
    pub resources: Vec<Linked>,
    pub route: Option<Linked>,
    pub approval: Option<Linked>,
    /// What the agent claims; never checked.
    pub claim: Option<Text>,
    /// What a person, or who asked, wrote.
    pub note: Option<Quote>,
    pub who: String,
    pub agent: Option<String>,
    pub project: Option<String>,
    pub session: Option<Linked>,
    pub end: Option<Ending>,
}

/// What happened, in a word or two.
#[derive(Debug)]
pub(super) struct Word {
    pub text: String,
    /// `good`, `bad`, `warn` or none.
    pub tone: &'static str,
}

/// What it is about.
#[derive(Debug)]
pub(super) enum Subject {
    /// Method and target, as the agent sent them.
    Call(Text, Text),
    /// In the gate's words; what is behind them is not.
    Words(String, Option<Text>),
}

/// A value that leads to more about it.
#[derive(Debug)]
pub(super) struct Linked {
    pub text: Text,
    pub href: String,
}

/// Somebody's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quote {
    pub by: String,
    pub text: Text,
}

/// What became of a call.
#[derive(Debug)]
pub(super) struct Ending {
    pub tone: &'static str,
    pub text: String,
    pub more: String,
}

/// What an outcome that is not on record means.
const UNKNOWN: &str =
    "no outcome is on record: it may be under way, or nobody can say; that is not “not done”";

/// The records of a page; outcomes stand with their decisions.
pub(super) fn rows(page: &Page) -> Vec<Row> {
    let ends = Ends::new(&page.records, &page.unresolved);
    let of_calls = |record: &&Value| needed(record, "kind") != "outcome";
    let shown = page.records.iter().filter(of_calls);
    shown.map(|record| Row::new(record, &ends)).collect()
}

impl Row {
    pub(super) fn new(record: &Value, ends: &Ends<'_>) -> Self {
        let kind = needed(record, "kind");
        let shown = |name: &str| text(record, name).map(str::to_owned);
        let filtered = |name: &'static str| {
            text(record, name).map(|value| Linked {
                text: Text::line(value),
                href: link([(name, value)]),
            })
        };
        Self {
            seq: record["seq"].as_u64().unwrap_or_default(),
            at: Time::parse_dated(needed(record, "time")),
            word: word(kind, record),
            reason: match kind {
                "decision" => shown("reason").or_else(|| would_be(record)),
                _ => None,
            },
            subject: subject(kind, record),
            resources: of_resources(record),
            route: filtered("route"),
            approval: text(record, "approval").map(|id| Linked {
                text: Text::line(&short(id)),
                href: link([("approval", id)]),
            }),
            claim: text(record, "intent").map(Text::lines),
            note: note(kind, record),
            who: who(kind, record),
            agent: shown("agent"),
            project: shown("project"),
            session: text(record, "session").map(|id| Linked {
                text: Text::line(&short(id)),
                href: format!("/ledger/sessions/{id}"),
            }),
            end: (kind == "decision").then(|| Ending::new(ends.of(record))),
        }
    }
}

/// Each of what a call acted on leads to all that was done to it.
fn of_resources(record: &Value) -> Vec<Linked> {
    let each = text(record, "resource").into_iter();
    let each = each.flat_map(|text| text.split(' '));
    let linked = each.map(|one| Linked {
        text: Text::line(one),
        href: link([("resource", one)]),
    });
    linked.collect()
}

impl Ending {
    fn new(end: End) -> Self {
        let said = |tone, text: &str, more: &str| Self {
            tone,
            text: text.to_owned(),
            more: more.to_owned(),
        };
        match end {
            End::WentOn => said("", "went on", "it was decided on once more, later"),
            End::Unknown => said("warn", "unknown", UNKNOWN),
            End::NotFound => said(
                "",
                "not looked up",
                "its outcome may stand further on than was looked",
            ),
            End::Known(outcome) => {
                let tone = match (outcome.status, &outcome.fault) {
                    (Some(status), None) if status < 400 => "good",
                    _ => "bad",
                };
                let mut more = vec![format!("took {}", outcome.took)];
                more.extend(
                    outcome
                        .held
                        .as_ref()
                        .map(|held| format!("{held} of it waiting for people")),
                );
                more.extend(outcome.cost.as_ref().map(|cost| format!("cost {cost}")));
                said(tone, &outcome.answer(), &more.join(", "))
            }
        }
    }
}

/// What happened.
fn word(kind: &str, record: &Value) -> Word {
    let change = text(record, "change").unwrap_or_default();
    let (text, tone): (&str, &'static str) = match (kind, change, text(record, "decision")) {
        ("decision", _, Some("allow")) if record["shadow"].is_object() => {
            ("let through in shadow", "warn")
        }
        ("decision", _, Some("allow")) => ("allowed", "good"),
        ("decision", _, Some("deny")) => ("refused", "bad"),
        ("decision", _, Some("hold")) => ("held for people", "warn"),
        ("approval", "requested", _) => ("people asked", "warn"),
        ("approval", "voted", _) => match record["word"].as_str() {
            Some("approve") => ("said yes", "good"),
            _ => ("said no", "bad"),
        },
        ("approval", "approved", _) => ("approved", "good"),
        ("approval", "executing", _) => ("its run began", ""),
        ("approval", "executed", _) => ("it ran", "good"),
        ("approval", "returned", _) => ("nothing was sent", "warn"),
        ("approval", "unknown", _) => ("outcome unknown", "warn"),
        ("approval", "resolved", _) => ("outcome found out", "warn"),
        ("approval", "denied", _) => ("denied", "bad"),
        ("grant", "given", _) => ("grant given", "good"),
        ("grant", "revoked", _) => ("grant revoked", "bad"),
        ("grant", "expired", _) => ("grant expired", ""),
        ("session", "minted", _) => ("session minted", ""),
        ("session", "revoked", _) => ("session revoked", "bad"),
        ("session", "expired", _) => ("session expired", ""),
        ("session", "intent", _) => ("new claim", ""),
        ("quarantine", "quarantined", _) => ("quarantined", "bad"),
        ("quarantine", "released", _) => ("released", "good"),
        ("pin", "pinned", _) => ("tool pinned", ""),
        ("pin", "changed", _) => ("tool changed", "bad"),
        ("pin", "restored", _) => ("tool as accepted again", "good"),
        ("pin", "accepted", _) => ("tool accepted", "good"),
        ("pin", "forgotten", _) => ("pin forgotten", "warn"),
        ("pin", "refused", _) => ("tool not kept", "bad"),
        ("principal", "called", _) => ("admin call", ""),
        ("principal", "failed", _) => ("wrong key", "bad"),
        ("principal", "strangers", _) => ("wrong token", "bad"),
        ("policy", "rejected", _) => ("policy rejected", "bad"),
        ("gate", "fault", _) => ("gate fault", "bad"),
        _ => {
            let text = format!("{kind} {change}").replace('_', " ");
            return Word {
                text: text.trim_end().to_owned(),
                tone: "",
            };
        }
    };
    Word {
        text: text.to_owned(),
        tone,
    }
}

/// What would have been decided of what passed in shadow.
fn would_be(record: &Value) -> Option<String> {
    let would = &record["shadow"];
    let word = match text(would, "would")? {
        "hold" => "would be held",
        _ => "would be refused",
    };
    Some(format!("{word}: {}", needed(would, "reason")))
}

/// What it is about.
fn subject(kind: &str, record: &Value) -> Subject {
    let line = |name: &str| text(record, name).map(Text::line);
    let words = |words: &str, more| Subject::Words(words.to_owned(), more);
    match kind {
        "decision" => Subject::Call(
            Text::line(needed(record, "method")),
            // What the body names says more than where it was sent.
            Text::line(text(record, "call").unwrap_or_else(|| needed(record, "target"))),
        ),
        "approval" => match (text(record, "asked"), record["status"].as_u64()) {
            (_, Some(status)) => words(&format!("the backend answered {status}"), None),
            (Some("grant"), _) => words("a grant of", line("scope")),
            _ => words("a call that needs", line("scope")),
        },
        "grant" => {
            let uses = record["uses"].as_u64().unwrap_or_default();
            let calls = if uses == 1 { "call" } else { "calls" };
            words(&format!("good for {uses} {calls} that need"), line("scope"))
        }
        "session" => match text(record, "run") {
            Some(run) => words("run", Some(Text::line(run))),
            None => words("", None),
        },
        "pin" => words(&format!("{} of", needed(record, "tool")), line("name")),
        "policy" => words("set off by", line("trigger")),
        "principal" => match record["count"].as_u64() {
            Some(count) if count != 1 => words(&format!("{count} times"), line("detail")),
            _ => words("", line("detail")),
        },
        "gate" => words(needed(record, "version"), line("detail")),
        _ => words("", None),
    }
}

/// Who caused it.
fn who(kind: &str, record: &Value) -> String {
    let client = text(record, "client");
    match (text(record, "cause"), text(record, "principal"), kind) {
        (_, Some(name), _) => format!("by {name}"),
        (Some("agent"), ..) => "by the agent".to_owned(),
        (Some("limit"), ..) => format!("by the limit {}", needed(record, "limit")),
        (Some("gate"), ..) => "by the gate".to_owned(),
        (.., "decision" | "principal") => match (client, text(record, "limit")) {
            (Some(client), Some(limit)) => format!("from {client}; limit {limit}"),
            (Some(client), None) => format!("from {client}"),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

/// Somebody's own words.
fn note(kind: &str, record: &Value) -> Option<Quote> {
    let said = |by: String, words: Option<&str>| {
        let words = words.filter(|words| !words.is_empty())?;
        Some(Quote {
            by,
            text: Text::lines(words),
        })
    };
    let principal = text(record, "principal");
    match kind {
        "approval" => match (text(record, "note"), principal) {
            (Some(note), Some(name)) => said(format!("{name} says:"), Some(note)),
            (Some(note), None) => said("Why:".to_owned(), Some(note)),
            (None, _) => said("Who asks gives as reason:".to_owned(), text(record, "why")),
        },
        "grant" => said("Who asked gave as reason:".to_owned(), text(record, "why")),
        "quarantine" => said("Reason:".to_owned(), text(record, "reason")),
        "pin" => said("Why:".to_owned(), text(record, "why")),
        "policy" => said("Why:".to_owned(), text(record, "detail")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(record: &Value) -> Row {
        let records = [record.clone()];
        Row::new(record, &Ends::new(&records, &[]))
    }

    #[test]
    fn a_decision_without_an_outcome_reads_unknown_and_never_not_done() {
        let row = row(&json!({
            "seq": 3, "kind": "decision", "time": "2026-11-17T08:00:00.000000Z", "request": "req_1",
            "method": "DELETE", "target": "/crm/users/7", "decision": "allow", "resource": "user:7",
            "session": "ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5", "client": "192.0.2.1",
        }));
        let end = row.end.unwrap();
        assert_eq!((end.text.as_str(), end.tone), ("unknown", "warn"));
        assert_eq!(row.word.text, "allowed");
        assert_eq!(row.at.short, "2026-11-17 08:00:00");
        assert_eq!(row.resources[0].href, "/ledger?resource=user:7");
        assert_eq!(row.who, "from 192.0.2.1");
        assert!(
            row.session
                .unwrap()
                .href
                .ends_with("/ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5")
        );
    }

    #[test]
    fn records_of_every_kind_and_of_kinds_to_come_are_put_in_words() {
        let mut seen = Vec::new();
        for record in [
            json!({ "kind": "approval", "change": "voted", "word": "approve", "principal": "dana", "note": "yes" }),
            json!({ "kind": "approval", "change": "executed", "status": 204, "cause": "gate" }),
            json!({ "kind": "quarantine", "change": "quarantined", "cause": "limit", "limit": "same-call", "reason": "loops" }),
            json!({ "kind": "pin", "change": "refused", "cause": "gate", "tool": "forge", "name": "x", "why": "too long" }),
            json!({ "kind": "principal", "change": "failed", "count": 7, "client": "192.0.2.1", "detail": "x" }),
            json!({ "kind": "gate", "change": "key_rotated", "version": "1", "detail": "" }),
            json!({ "kind": "something", "change": "else" }),
        ] {
            let row = row(&record);
            seen.push((row.word.text, row.who, row.note.map(|note| note.by)));
        }
        let said = |word: &str, who: &str, by: Option<&str>| {
            (word.to_owned(), who.to_owned(), by.map(str::to_owned))
        };
        assert_eq!(
            seen,
            [
                said("said yes", "by dana", Some("dana says:")),
                said("it ran", "by the gate", None),
                said("quarantined", "by the limit same-call", Some("Reason:")),
                said("tool not kept", "by the gate", Some("Why:")),
                said("wrong key", "from 192.0.2.1", None),
                said("gate key rotated", "", None),
                said("something else", "", None),
            ]
        );
    }
}
