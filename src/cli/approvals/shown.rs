//! An approval in words and lines. Every text in it came from somewhere, so every text is made harmless here; the layout
//! is the only thing that is added. What stands in a body can't pass for what is said about it: each of its lines has a bar.

use crate::cli::output::{harmless, plain};
use crate::ledger::timestamp;
use crate::policy::time::Timestamp;
use crate::serve::pretty;
use crate::serve::visible::{Lines, visible};
use serde_json::Value;
use std::fmt::Write as _;

/// Everything that is asked.
pub(super) fn whole(approval: &Value, now: Timestamp) -> String {
    let mut text = format!("{}\n", what(approval));
    if approval["irreversible"] == true {
        text.push_str("can't be undone\n");
    }
    text.push('\n');
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    row("approval", plain(&approval["id"]));
    row("state", state(approval, now));
    row("project", plain(&approval["project"]));
    row("agent", agent(approval));
    if let Some(intent) = approval["intent"]["text"].as_str() {
        row("intent", format!("the agent claims: {}", harmless(intent)));
    }
    if let Some(call) = approval["call"].as_object() {
        row(
            "route",
            format!("{} of tool {}", plain(&call["route"]), plain(&call["tool"])),
        );
        row("goes on", format!("grant {}", plain(&call["grant"])));
    }
    if !approval["grant"].is_null() {
        let grant = &approval["grant"];
        let (uses, seconds) = (plain(&grant["uses"]), plain(&grant["ttl_seconds"]));
        row(
            "grant",
            format!("for {uses} calls, for {seconds}s from when it is given"),
        );
        row(
            "reason",
            format!("{} (the asker's own words)", plain(&grant["reason"])),
        );
    }
    row("scope", plain(&approval["scope"]));
    // One below the other: a person agrees to each of them.
    for one in plain(&approval["resource"]).split(' ') {
        row("resource", one.to_owned());
    }
    row("chain", chain(approval));
    for vote in approval["votes"].as_array().into_iter().flatten() {
        row("vote", said(vote));
    }
    if approval["you"]["may_decide"] == false {
        row(
            "you",
            format!("can't decide it: {}", plain(&approval["you"]["because"])),
        );
    }
    if !approval["ending"].is_null() {
        row("since", ended(&approval["ending"]));
    }
    if !approval["outcome"].is_null() {
        let outcome = &approval["outcome"];
        row(
            "outcome",
            format!(
                "status {}, grant {}",
                plain(&outcome["status"]),
                plain(&outcome["grant"])
            ),
        );
    }
    row("digest", plain(&approval["digest"]));
    let call = &approval["call"];
    fields(&mut text, call["fields"].as_array());
    body(&mut text, &call["body"]);
    if text.contains("[U+") {
        text.push_str(
            "\ncharacters that can't be seen or that move text are marked by their number\n",
        );
    }
    text
}

/// The one line that says what would happen.
pub(super) fn what(approval: &Value) -> String {
    let call = &approval["call"];
    if call.is_null() {
        let (scope, resource) = (&approval["scope"], &approval["resource"]);
        let on = match resource.is_null() {
            true => String::new(),
            false => format!(" on {}", plain(resource)),
        };
        return format!("grant {}{on}", plain(scope));
    }
    let (method, target) = (plain(&call["method"]), plain(&call["target"]));
    match call["authority"].as_str() {
        // Every request names a host.
        Some("") => format!("{method} {target}, a function in the agent's own process"),
        _ => format!("{method} {target} at {}", plain(&call["authority"])),
    }
}

/// How long it still waits; `None`: it does not.
pub(super) fn left(approval: &Value, now: Timestamp) -> Option<String> {
    if !matches!(approval["state"].as_str(), Some("pending" | "approved")) {
        return None;
    }
    let end = timestamp(approval["expires_at"].as_str()?)?;
    let seconds = (end.micros() - now.micros()) / 1_000_000;
    Some(match seconds {
        ..=0 => "none".to_owned(),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    })
}

/// `1 of 2`.
pub(super) fn agreement(approval: &Value) -> String {
    format!(
        "{} of {}",
        plain(&approval["agreeing"]),
        plain(&approval["quorum"])
    )
}

/// What has become of it, after a decision.
pub(super) fn standing(approval: &Value) -> String {
    let id = plain(&approval["id"]);
    let next = match approval["state"].as_str() {
        Some("pending") => format!("waits for more: {} agree", agreement(approval)),
        Some("approved") => "approved: it runs once, when the agent asks again".to_owned(),
        Some("executing") => "approved, and running".to_owned(),
        Some("executed") => "approved, and done".to_owned(),
        _ => plain(&approval["state"]),
    };
    format!("{id}: {next}")
}

/// What the session did before, newest last.
pub(super) fn history(history: &Value) -> String {
    let Some(items) = history["items"].as_array() else {
        return String::new();
    };
    let mut text = "\nwhat this session did, newest last".to_owned();
    text.push_str(match history["complete"] == true {
        true => "\n",
        false => " (there may be more; the ledger has it)\n",
    });
    for item in items.iter().rev().take(HISTORY_MAX).rev() {
        let (method, target) = (plain(&item["method"]), plain(&item["target"]));
        let decision = plain(&item["decision"]);
        let why = match item["reason"].as_str() {
            Some(reason) => format!(" ({})", harmless(reason)),
            None => String::new(),
        };
        let status = item["status"]
            .as_u64()
            .map_or_else(String::new, |status| format!(", answered {status}"));
        let _ = writeln!(
            text,
            "  {}  {method} {target}: {decision}{why}{status}",
            plain(&item["time"])
        );
    }
    text
}

/// Most calls of a session that are shown.
const HISTORY_MAX: usize = 20;

fn state(approval: &Value, now: Timestamp) -> String {
    let state = plain(&approval["state"]);
    match left(approval, now) {
        Some(left) => format!("{state}, time left: {left}"),
        None => state,
    }
}

fn agent(approval: &Value) -> String {
    let mut text = format!(
        "{}, session {}",
        plain(&approval["agent"]),
        plain(&approval["session"])
    );
    if let Some(run) = approval["run"].as_str() {
        let _ = write!(text, ", run {}", harmless(run));
    }
    let _ = write!(
        text,
        ", minted by {}, from {}",
        plain(&approval["minted_by"]),
        plain(&approval["client"])
    );
    text
}

fn chain(approval: &Value) -> String {
    let groups = match approval["approvers"].is_null() {
        true => "it is not in the policy any more".to_owned(),
        false => format!("decided by {}", plain(&approval["approvers"])),
    };
    format!(
        "{}: {} agree; {groups}",
        plain(&approval["chain"]),
        agreement(approval)
    )
}

fn said(vote: &Value) -> String {
    let mut text = format!(
        "{}: {} at {}",
        plain(&vote["principal"]),
        plain(&vote["decision"]),
        plain(&vote["at"])
    );
    if let Some(note) = vote["note"].as_str() {
        let _ = write!(text, ": {}", harmless(note));
    }
    text
}

fn ended(ending: &Value) -> String {
    let mut text = plain(&ending["at"]);
    if let Some(by) = ending["by"].as_str() {
        let _ = write!(text, ", by {}", harmless(by));
    }
    if let Some(note) = ending["note"].as_str() {
        let _ = write!(text, ": {}", harmless(note));
    }
    text
}

fn fields(text: &mut String, fields: Option<&Vec<Value>>) {
    let Some(fields) = fields else {
        return;
    };
    text.push_str("\nheader fields that will be forwarded\n");
    if fields.is_empty() {
        text.push_str("  none\n");
    }
    for field in fields {
        let name = plain(&field["name"]);
        let _ = match (&field["value"], &field["value_hex"], &field["masked"]) {
            (Value::String(value), ..) => writeln!(text, "  {name}: {}", harmless(value)),
            (_, Value::String(hex), _) => {
                writeln!(text, "  {name}: not text; in hex: {}", harmless(hex))
            }
            (.., masked) => writeln!(
                text,
                "  {name}: not shown: {} bytes, sha256 {}",
                plain(&masked["bytes"]),
                plain(&masked["sha256"])
            ),
        };
    }
}

fn body(text: &mut String, body: &Value) {
    if body.is_null() {
        return;
    }
    if body["bytes"] == 0 {
        text.push_str("\nno body\n");
        return;
    }
    let _ = write!(
        text,
        "\nbody: {}, {} bytes, sha256 {}",
        body["content_type"]
            .as_str()
            .map_or_else(|| "no content type".to_owned(), harmless),
        plain(&body["bytes"]),
        plain(&body["sha256"])
    );
    if let Some(content) = body["text"].as_str() {
        let laid_out = pretty::json(content);
        text.push_str(match laid_out {
            Some(_) => "; JSON, laid out without changing a token\n",
            None => "; as it is\n",
        });
        let content = laid_out.as_deref().unwrap_or(content);
        for line in visible(content, Lines::Many).split('\n') {
            // Beyond a tab stop nothing may hide: tabs are shown as what they are.
            let _ = writeln!(text, "  | {}", line.replace('\t', "[U+0009]"));
        }
    } else if let Some(hex) = body["hex"].as_str() {
        text.push_str("; not text, in hex\n");
        dump(text, hex);
    }
}

/// Sixteen bytes a line, with what of them is printable ASCII.
fn dump(text: &mut String, hex: &str) {
    let bytes: Vec<u8> = hex
        .as_bytes()
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let letters: String = chunk
            .iter()
            .map(|byte| match byte {
                b' '..=b'~' if *byte != b'[' => char::from(*byte),
                _ => '.',
            })
            .collect();
        let _ = writeln!(
            text,
            "  | {:08x}  {:<47}  {letters}",
            line * 16,
            digits.join(" ")
        );
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// An approval as the admin API shows it.
    pub(in crate::cli::approvals) fn sample() -> Value {
        json!({
            "id": "apr_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5", "state": "pending", "asked": "call",
            "project": "demo", "agent": "support-bot", "session": "ses_1", "run": null,
            "intent": {"claimed_by": "agent", "text": "tidy\u{1b}[2Jup \u{202e}evil"},
            "minted_by": "orchestrator", "client": "127.0.0.1", "request": "req_1",
            "scope": "users.delete", "resource": "user:7", "irreversible": true,
            "call": {
                "tool": "crm", "route": "users.delete", "method": "DELETE", "authority": "crm:80",
                "target": "/crm/users/7?x=\u{200b}", "grant": "on_use",
                "fields": [
                    {"name": "content-type", "value": "application/json"},
                    {"name": "x-odd", "value_hex": "ff00"},
                    {"name": "x-secret", "masked": {"bytes": 3, "sha256": "ab"}},
                ],
                "body": {"content_type": "application/json", "bytes": 30, "sha256": "cd",
                    "text": "{\"a\":1,\"a\":\"\u{9b}31m\\u202e\"}"},
            },
            "grant": null, "digest": "d".repeat(64), "chain": "oncall", "approvers": ["ops"],
            "quorum": 2, "agreeing": 1,
            "votes": [{"principal": "dana", "decision": "approve", "note": "ok\nrow      forged", "at": "t"}],
            "you": {"may_decide": true, "because": null},
            "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:05:00Z",
            "ending": null, "outcome": null,
        })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros((1_767_225_600 + seconds) * 1_000_000)
    }

    #[test]
    fn nothing_that_an_agent_wrote_reaches_the_terminal_raw() {
        let text = whole(&sample(), at(0));
        for shown in [
            "DELETE /crm/users/7?x=[U+200B] at crm:80\ncan't be undone\n",
            "the agent claims: tidy[U+001B][2Jup [U+202E]evil",
            "dana: approve at t: ok[U+000A]row      forged",
            "  |   \"a\": 1,\n  |   \"a\": \"[U+009B]31m\\u202e\"\n",
            "x-odd: not text; in hex: ff00",
            "x-secret: not shown: 3 bytes, sha256 ab",
            "marked by their number",
        ] {
            assert!(text.contains(shown), "{shown:?} in {text}");
        }
        assert!(
            text.chars().all(|c| c == '\n' || !c.is_control()),
            "{text:?}"
        );
    }

    #[test]
    fn each_of_several_resources_has_a_row_of_its_own() {
        let mut several = sample();
        several["resource"] = "user:7 user:8".into();
        let text = whole(&several, at(0));
        let rows = text.lines().filter(|line| line.starts_with("resource"));
        let rows: Vec<_> = rows.filter_map(|row| row.split(' ').next_back()).collect();
        assert_eq!(rows, ["user:7", "user:8"], "{text}");
    }

    #[test]
    fn the_time_left_is_counted_down_and_then_there_is_none() {
        let left = |seconds| left(&sample(), at(seconds));
        assert_eq!(left(0).as_deref(), Some("5m 00s"));
        assert_eq!(left(241).as_deref(), Some("59s"));
        assert_eq!(left(300).as_deref(), Some("none"));
        let mut over = sample();
        over["state"] = "denied".into();
        assert_eq!(super::left(&over, at(0)), None);
    }

    #[test]
    fn bytes_that_are_not_text_are_shown_as_hex_beside_what_is_printable() {
        let mut text = String::new();
        let bytes = json!({"content_type": null, "bytes": 4, "sha256": "cd", "hex": "41ff1b5b"});
        body(&mut text, &bytes);
        assert!(
            text.contains("no content type, 4 bytes, sha256 cd; not text, in hex"),
            "{text}"
        );
        assert!(text.contains("00000000  41 ff 1b 5b"), "{text}");
        assert!(text.ends_with("A...\n"), "{text}");
    }
}
