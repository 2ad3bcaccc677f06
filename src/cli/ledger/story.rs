//! A story in words: who ran, what they said they were doing, and then each thing that happened, in its order.
//!
//! What people and agents said stands in quotation marks and is theirs; everything else is the gate's. A call without an
//! outcome is told as what it is: nobody knows.

use super::rows::{ending, millis, moment};
use crate::cli::output::{harmless, plain};
use crate::ledger::record::millionths;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

/// Records of one story, in order.
pub(super) struct Story<'a> {
    records: &'a [Value],
    /// Whether it is all of a session, not one call or approval in it.
    whole: bool,
}

impl<'a> Story<'a> {
    pub fn new(records: &'a [Value], whole: bool) -> Self {
        Story { records, whole }
    }

    /// All of it.
    pub fn text(&self) -> String {
        let mut text = self.head();
        let mut intent = None;
        let mut calls: HashMap<&str, &Value> = HashMap::new();
        for call in self.of_kind("decision") {
            if let Some(request) = call["request"].as_str() {
                calls.entry(request).or_insert(call);
            }
        }
        for record in self.records {
            let mut lines = told(record, &calls);
            if let Some(said) = record["intent"].as_str()
                && intent.replace(said) != Some(said)
            {
                lines.insert(
                    1,
                    format!("the agent says it is doing this: {}", quoted(said)),
                );
            }
            for (at, line) in lines.iter().enumerate() {
                let time = if at == 0 {
                    moment(record)
                } else {
                    String::new()
                };
                let _ = writeln!(text, "{time:23}  {line}");
            }
        }
        text + &self.unknown() + &self.sum()
    }

    fn head(&self) -> String {
        let mut text = String::new();
        let first = |name: &str| {
            self.records
                .iter()
                .find_map(|record| record[name].as_str())
                .map(harmless)
        };
        for name in ["session", "agent", "project", "run"] {
            if let Some(value) = first(name) {
                let _ = writeln!(text, "{name:8} {value}");
            }
        }
        text.push('\n');
        text
    }

    /// Calls that were let through and whose end is not known.
    fn unknown(&self) -> String {
        let ended: BTreeSet<&str> = self
            .of_kind("outcome")
            .filter_map(|end| end["request"].as_str())
            .collect();
        let open = self.of_kind("decision").filter(|call| {
            call["request"]
                .as_str()
                .is_some_and(|id| !ended.contains(id))
        });
        let mut calls: BTreeMap<&str, &Value> = BTreeMap::new();
        for call in open {
            calls.insert(call["request"].as_str().unwrap_or_default(), call);
        }
        let mut text = String::new();
        for (id, call) in calls {
            let _ = writeln!(
                text,
                "{:23}  not recorded: how {} ended ({}); that is not `not done`",
                "",
                called(call),
                harmless(id)
            );
        }
        text
    }

    fn sum(&self) -> String {
        let count = |word: &str| {
            self.of_kind("decision")
                .filter(|call| call["decision"] == word)
                .count()
        };
        let calls: BTreeSet<&str> = self
            .of_kind("decision")
            .filter_map(|call| call["request"].as_str())
            .collect();
        let shadow = self
            .of_kind("decision")
            .filter(|call| call["shadow"].is_object())
            .count();
        let mut parts = vec![format!(
            "{} {}: decided {} allow, {} deny, {} hold",
            calls.len(),
            if calls.len() == 1 { "call" } else { "calls" },
            count("allow"),
            count("deny"),
            count("hold")
        )];
        if shadow > 0 {
            parts.push(format!("{shadow} of them let through in shadow"));
        }
        if calls.len() == 1 && !self.whole {
            parts.clear();
        }
        let votes = self
            .of_kind("approval")
            .filter(|record| record["change"] == "voted");
        let people: BTreeSet<String> = votes
            .map(|vote| format!("{} ({})", plain(&vote["principal"]), plain(&vote["word"])))
            .collect();
        if !people.is_empty() {
            parts.push(format!(
                "decided by {}",
                people.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
        let costs: u64 = self
            .of_kind("outcome")
            .filter_map(|end| millionths(end["cost"].as_str()?))
            .sum();
        if costs > 0 {
            parts.push(format!(
                "cost {}.{:02}",
                costs / 1_000_000,
                costs % 1_000_000 / 10_000
            ));
        }
        if parts.is_empty() {
            String::new()
        } else {
            format!("\n{}\n", parts.join("; "))
        }
    }

    fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &'a Value> {
        self.records
            .iter()
            .filter(move |record| record["kind"] == kind)
    }
}

/// What a record says happened; the first line has its time. `calls` are the first decisions by request.
fn told(record: &Value, calls: &HashMap<&str, &Value>) -> Vec<String> {
    match record["kind"].as_str() {
        Some("decision") => decision(record),
        Some("outcome") => outcome(record, calls),
        Some("approval") => approval(record),
        Some("session") => session(record),
        Some("grant") => vec![format!(
            "grant {} {} by {}: {} on {}, {} uses, until {}{}",
            plain(&record["grant"]),
            plain(&record["change"]),
            by(record),
            plain(&record["scope"]),
            record["resource"]
                .as_str()
                .map_or_else(|| "anything".to_owned(), harmless),
            plain(&record["uses"]),
            until(record),
            said(&record["why"], ": "),
        )],
        Some("quarantine") => vec![format!(
            "session {} by {}{}",
            plain(&record["change"]),
            by(record),
            said(&record["reason"], ": ")
        )],
        Some("pin") => vec![format!(
            "tool {} of {} {} by {}{}",
            plain(&record["name"]),
            plain(&record["tool"]),
            plain(&record["change"]),
            by(record),
            said(&record["why"], ": ")
        )],
        _ => vec![format!(
            "{} {}",
            plain(&record["kind"]),
            plain(&record["change"])
        )],
    }
}

fn decision(record: &Value) -> Vec<String> {
    let mut lines = vec![format!(
        "{}  (record {}, {})",
        called(record),
        record["seq"],
        plain(&record["request"])
    )];
    if record["scope"].is_string() {
        let resource = record["resource"]
            .as_str()
            .map(|resource| format!(" on {}", harmless(resource)));
        lines.push(format!(
            "needs {}{} (route {} of tool {})",
            plain(&record["scope"]),
            resource.unwrap_or_default(),
            plain(&record["route"]),
            plain(&record["tool"])
        ));
    }
    let approval = record["approval"].as_str().map(harmless);
    lines.push(match (record["decision"].as_str(), approval) {
        (Some("hold"), Some(approval)) => format!("held: people are asked ({approval})"),
        (Some("allow"), Some(approval)) => format!("allowed: people agreed ({approval})"),
        (Some("allow"), None) if record["shadow"].is_object() => format!(
            "let through in shadow: it would have been {}: {}{}",
            match record["shadow"]["would"].as_str() {
                Some("hold") => "held for people",
                _ => "denied",
            },
            plain(&record["shadow"]["reason"]),
            of_limit(record)
        ),
        (Some("allow"), None) => format!("allowed: on grant {}", plain(&record["grant"])),
        (_, approval) => format!(
            "denied: {}{}{}",
            plain(&record["reason"]),
            of_limit(record),
            approval
                .map(|approval| format!(" ({approval})"))
                .unwrap_or_default()
        ),
    });
    lines
}

fn of_limit(record: &Value) -> String {
    let limit = record["limit"].as_str();
    limit.map_or_else(String::new, |limit| format!(", limit {}", harmless(limit)))
}

fn outcome(record: &Value, calls: &HashMap<&str, &Value>) -> Vec<String> {
    let call = record["request"].as_str().and_then(|id| calls.get(id));
    let call = call.map_or_else(|| plain(&record["request"]), |call| called(call));
    let spent = |name: &str, words: &str| {
        record[name]
            .as_u64()
            .map(|micros| format!("{words} {} ms", millis(micros)))
    };
    let parts = [
        spent("total_micros", "after"),
        spent("hold_micros", "people were waited for"),
        spent("upstream_micros", "the backend took"),
        record["cost"]
            .as_str()
            .map(|cost| format!("cost {}", harmless(cost))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    vec![format!(
        "{call}: its agent was answered {}, {}",
        ending(record),
        parts.join(", ")
    )]
}

fn approval(record: &Value) -> Vec<String> {
    let id = plain(&record["approval"]);
    let note = said(&record["note"], ": ");
    let line = match record["change"].as_str() {
        Some("requested") => {
            let what = match record["asked"].as_str() {
                Some("grant") => format!(
                    "a grant of {}{}",
                    plain(&record["scope"]),
                    said(&record["why"], ", for ")
                ),
                _ => format!("the call on route {}", plain(&record["route"])),
            };
            return vec![
                format!("people are asked: {what} ({id})"),
                format!(
                    "chain {}, {} must agree, until {}",
                    plain(&record["chain"]),
                    plain(&record["quorum"]),
                    until(record)
                ),
            ];
        }
        Some("voted") => format!("{} says {}{note}", by(record), plain(&record["word"])),
        Some("approved") => "agreed".to_owned(),
        Some("executing") => "what was agreed to runs now, once".to_owned(),
        Some("executed") if record["status"].is_u64() => {
            format!("it ran: the backend answered {}", record["status"])
        }
        Some("executed") => "it is done".to_owned(),
        Some("unknown") => "nobody can say how its run ended".to_owned(),
        Some("returned") => "not a byte of it was sent: it may run again".to_owned(),
        Some("resolved") => format!("{} found out how it ended{note}", by(record)),
        _ => format!("{} by {}{note}", plain(&record["change"]), by(record)),
    };
    vec![line]
}

fn session(record: &Value) -> Vec<String> {
    let change = record["change"].as_str();
    vec![match change {
        Some("intent") => "the agent changed what it says it is doing".to_owned(),
        Some("minted") => format!("session minted by {}, until {}", by(record), until(record)),
        _ => format!("session {} by {}", plain(&record["change"]), by(record)),
    }]
}

fn called(call: &Value) -> String {
    let named = match call["call"].is_string() {
        true => format!(" {}", plain(&call["call"])),
        false => String::new(),
    };
    format!(
        "{} {}{named}",
        plain(&call["method"]),
        plain(&call["target"])
    )
}

/// Whoever caused a change.
fn by(record: &Value) -> String {
    let named = |name: &str| record[name].as_str().map(harmless);
    let limit = named("limit").map(|limit| format!("limit {limit}"));
    named("principal")
        .or(limit)
        .unwrap_or_else(|| format!("the {}", plain(&record["cause"])))
}

fn until(record: &Value) -> String {
    let time = plain(&record["expires"]);
    time.get(..19).unwrap_or(&time).replace('T', " ")
}

fn said(text: &Value, before: &str) -> String {
    text.as_str()
        .filter(|text| !text.is_empty())
        .map_or_else(String::new, |text| format!("{before}{}", quoted(text)))
}

fn quoted(text: &str) -> String {
    format!("“{}”", harmless(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_story_says_who_agreed_and_what_the_agent_said_and_what_nobody_knows() {
        let at = |seq: u64, mut record: Value| {
            record["seq"] = seq.into();
            record["time"] = format!("2026-11-17T08:00:0{seq}.000000Z").into();
            record
        };
        let records = [
            at(
                0,
                json!({"kind": "session", "change": "minted", "cause": "principal", "principal": "orchestrator", "session": "ses_1", "agent": "bot", "project": "demo", "expires": "2026-11-17T09:00:00.000000Z"}),
            ),
            at(
                1,
                json!({"kind": "decision", "decision": "hold", "request": "req_1", "method": "DELETE", "target": "/users/7", "scope": "users.delete", "resource": "user:7", "route": "users.delete", "tool": "crm", "approval": "apr_1", "intent": "clean up\u{202e}"}),
            ),
            at(
                2,
                json!({"kind": "approval", "change": "voted", "approval": "apr_1", "word": "approve", "note": "ticket 4711", "principal": "dana", "cause": "principal"}),
            ),
            at(
                3,
                json!({"kind": "decision", "decision": "allow", "request": "req_1", "method": "DELETE", "target": "/users/7", "approval": "apr_1", "intent": "clean up\u{202e}"}),
            ),
        ];
        let text = Story::new(&records, false).text();
        for expected in [
            "session  ses_1\n",
            "DELETE /users/7  (record 1, req_1)\n",
            "says it is doing this: “clean up[U+202E]”\n",
            "needs users.delete on user:7 (route users.delete of tool crm)\n",
            "dana says approve: “ticket 4711”\n",
            "not recorded: how DELETE /users/7 ended (req_1)",
            "decided by dana (approve)\n",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert_eq!(text.matches("clean up").count(), 1, "{text}");
    }

    #[test]
    fn money_is_summed_as_decimals() {
        assert_eq!(millionths("0.01"), Some(10_000));
        assert_eq!(millionths("3"), Some(3_000_000));
        assert_eq!(millionths("x"), None);
    }
}
