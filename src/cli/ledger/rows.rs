//! Records as rows for a person: one line each, a call with its outcome on one, as wide as the terminal.
//!
//! Every text in a record came from somewhere, so every cell is made harmless. It leaves out digests and what only a machine
//! reads: `--json` has the lines as they are.

use crate::cli::output::harmless;
use serde_json::Value;
use std::io::IsTerminal as _;

/// A record's cells.
pub(super) type Row = [String; COLUMNS];

/// What stands above them.
pub(super) const HEADER: [&str; COLUMNS] = [
    "SEQ",
    "TIME (UTC)",
    "WHO",
    "WHAT",
    "RESOURCE",
    "DECISION",
    "OUTCOME",
    "MS",
];
const COLUMNS: usize = 8;

/// A record's row. `outcome`: of a decision, what is known of its end.
pub(super) fn row(record: &Value, outcome: &Outcome<'_>) -> Row {
    let (end, micros) = match outcome {
        Outcome::Known(end) => (ending(end), end["total_micros"].as_u64()),
        Outcome::Elsewhere => ("see show".to_owned(), None),
        Outcome::Unknown => ("unknown".to_owned(), None),
        Outcome::None => (String::new(), None),
    };
    [
        record["seq"].to_string(),
        moment(record),
        who(record),
        what(record),
        text(record, "resource"),
        why(record),
        end,
        micros.map_or_else(String::new, millis),
    ]
}

/// What is known of how a call ended.
pub(super) enum Outcome<'a> {
    /// It is no call, or its end has a line of its own.
    None,
    /// Its record.
    Known(&'a Value),
    /// There is none.
    Unknown,
    /// It was not looked for to the end of the log.
    Elsewhere,
}

/// Date and time, to the millisecond.
pub(super) fn moment(record: &Value) -> String {
    let time = record["time"].as_str().unwrap_or_default();
    let time = time.get(..23).unwrap_or(time);
    harmless(&time.replace('T', " "))
}

/// Whoever did it.
pub(super) fn who(record: &Value) -> String {
    let named = |name: &str| record[name].as_str().map(harmless);
    let limit = || named("limit").map(|limit| format!("limit {limit}"));
    match record["kind"].as_str() {
        Some("decision") => named("agent"),
        Some("policy") => named("trigger"),
        Some("principal") => named("principal").or_else(|| named("client")),
        Some("gate") => Some("gate".to_owned()),
        _ => named("principal")
            .or_else(limit)
            .or_else(|| match record["cause"].as_str() {
                Some("agent") => named("agent").or_else(|| Some("agent".to_owned())),
                _ => named("cause"),
            }),
    }
    .unwrap_or_default()
}

/// What was done or wanted.
pub(super) fn what(record: &Value) -> String {
    let kind = text(record, "kind");
    match &*kind {
        // What the body names says more than where it was sent.
        "decision" if record["call"].is_string() => {
            format!("{} {}", text(record, "target"), text(record, "call"))
        }
        "decision" => format!("{} {}", text(record, "method"), text(record, "target")),
        "outcome" => format!("outcome of {}", text(record, "request")),
        "approval" if record["word"].is_string() => {
            format!("approval voted: {}", text(record, "word"))
        }
        "grant" => format!(
            "grant {}: {}",
            text(record, "change"),
            text(record, "scope")
        ),
        "pin" => format!(
            "pin {}: {} {}",
            text(record, "change"),
            text(record, "tool"),
            text(record, "name")
        ),
        _ => format!("{kind} {}", text(record, "change")),
    }
}

/// What was decided, and why; of what is no call, its reason in words.
pub(super) fn why(record: &Value) -> String {
    let first = |names: &[&str]| {
        let found = names.iter().find_map(|name| record[*name].as_str());
        found.map(harmless).unwrap_or_default()
    };
    match record["kind"].as_str() {
        Some("decision") => {
            let decision = text(record, "decision");
            let (reason, approval) = (first(&["reason", "grant"]), text(record, "approval"));
            let would = &record["shadow"];
            match &*decision {
                "allow" if would.is_object() => format!(
                    "allow in shadow ({}: {})",
                    text(would, "would"),
                    text(would, "reason")
                ),
                "allow" if !approval.is_empty() => format!("allow: agreed {approval}"),
                "hold" => format!("hold: {approval}"),
                _ => format!("{decision}: {reason}"),
            }
        }
        Some("outcome") => String::new(),
        _ => first(&["note", "why", "reason", "intent", "detail"]),
    }
}

/// How a call ended.
pub(super) fn ending(outcome: &Value) -> String {
    let status = outcome["status"].as_u64().map(|status| status.to_string());
    let fault = outcome["fault"].as_str().map(harmless);
    let parts: Vec<String> = status.into_iter().chain(fault).collect();
    if parts.is_empty() {
        "no answer".to_owned()
    } else {
        parts.join(" ")
    }
}

/// Microseconds as milliseconds.
pub(super) fn millis(micros: u64) -> String {
    format!("{}.{}", micros / 1000, micros % 1000 / 100)
}

fn text(record: &Value, name: &str) -> String {
    record[name].as_str().map(harmless).unwrap_or_default()
}

/// How wide the columns are.
#[derive(Debug)]
pub(super) struct Layout([usize; COLUMNS]);

impl Layout {
    /// For these rows and what follows them: as wide as they need, and no wider than the terminal.
    pub fn new(rows: &[Row]) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let width = terminal
            .then(crossterm::terminal::size)
            .and_then(Result::ok);
        Self::within(
            rows,
            width.map_or(usize::MAX, |(columns, _)| usize::from(columns)),
        )
    }

    fn within(rows: &[Row], width: usize) -> Self {
        let mut widths = HEADER.map(str::len);
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        // The widest gives way first; numbers and times never.
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + 2 * (COLUMNS - 1);
        while total(&widths) > width {
            let soft = [2, 3, 4, 5, 6];
            let Some(widest) = soft
                .into_iter()
                .filter(|at| widths[*at] > CELL_MIN)
                .max_by_key(|at| widths[*at])
            else {
                break;
            };
            widths[widest] -= 1;
        }
        Layout(widths)
    }

    /// For rows that come one by one.
    pub fn usual() -> Self {
        let sample = [
            "123456",
            "2026-11-17 08:00:00.000",
            "customer-support",
            "approval voted: approve some-longer-path",
            "customer:123",
            "deny: resource_outside_ceiling",
            "502 upstream",
            "12345.6",
        ];
        Self::new(&[sample.map(str::to_owned)])
    }

    /// A row as a line.
    pub fn line<T: AsRef<str>>(&self, row: &[T; COLUMNS]) -> String {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(self.0).enumerate() {
            let cell = cut(cell.as_ref(), width);
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            // Numbers end where their column ends.
            match at {
                0 | 7 => line.extend([&*pad, &*cell]),
                _ => line.extend([&*cell, &*pad]),
            }
            line.push_str("  ");
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let mut cut: String = cell.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// No column is made narrower.
const CELL_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_and_its_end_are_one_row_and_no_cell_can_order_a_terminal() {
        let decision = json!({"seq": 7, "time": "2026-11-17T08:00:00.123456Z", "kind": "decision", "agent": "bot", "method": "DELETE",
            "target": "/users/7\u{1b}[2J", "resource": "user:7", "decision": "deny", "reason": "no_route"});
        let outcome = json!({"status": 403, "total_micros": 1250});
        let cells = row(&decision, &Outcome::Known(&outcome));
        assert_eq!(
            cells,
            [
                "7",
                "2026-11-17 08:00:00.123",
                "bot",
                "DELETE /users/7[U+001B][2J",
                "user:7",
                "deny: no_route",
                "403",
                "1.2"
            ]
        );
        assert_eq!(row(&decision, &Outcome::Unknown)[6], "unknown");
    }

    #[test]
    fn a_table_fits_the_terminal_and_says_where_it_cut() {
        let cells = [
            "1",
            "2026-11-17 08:00:00.123",
            "bot",
            &"x".repeat(200),
            "user:7",
            "allow",
            "200",
            "1.2",
        ];
        let rows = [cells.map(str::to_owned)];
        let line = Layout::within(&rows, 100).line(&rows[0]);
        assert_eq!(line.trim_end().chars().count(), 100);
        assert!(line.contains("x…"), "{line}");
        let whole = Layout::within(&rows, usize::MAX).line(&rows[0]);
        assert!(whole.contains(&"x".repeat(200)));
    }
}
