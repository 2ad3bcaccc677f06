//! `toolgate explain` and `toolgate replay` on files, as a user meets them.

use super::{CONFIGURATION, NO, OK, UNAVAILABLE, USAGE, toolgate};
use serde_json::Value;

const CONFIG: &str = "config/toolgate.yaml";

/// The line of the example project that has this text, as `explain` writes it.
fn line_of(text: &str) -> String {
    let file = "config/projects/demo.yaml";
    let whole = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let at = whole.lines().position(|line| line.contains(text)).unwrap();
    format!("{file}:{}", at + 1)
}

fn explain(arguments: &[&str]) -> super::Ran {
    let own = ["explain", "--config", CONFIG, "--project", "demo"];
    toolgate(&[&own, arguments].concat())
}

fn json(arguments: &[&str]) -> Value {
    explain(&[arguments, &["--json"]].concat()).ends(OK).json()
}

fn step<'v>(explanation: &'v Value, name: &str) -> &'v Value {
    let mut steps = explanation["steps"].as_array().unwrap().iter();
    steps
        .find(|step| step["step"] == name)
        .unwrap_or(&Value::Null)
}

#[test]
fn a_decision_is_explained_step_by_step_with_the_line_that_decided() {
    let own = [
        "--agent",
        "support-bot",
        "DELETE /crm/users/7",
        "--attribute",
        "customer_id=7",
    ];
    let held = json(&own);
    assert_eq!(held["decision"], "hold", "{held:#}");
    assert_eq!(held["route"], "users.delete");
    assert_eq!(held["chain"], "default");
    let at = |name: &str| {
        step(&held, name)["at"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        at("agent").ends_with(&line_of("  support-bot:")),
        "{held:#}"
    );
    assert!(at("tool").ends_with(&line_of("mount: /crm")), "{held:#}");
    assert!(
        at("route").ends_with(&line_of("- id: users.delete")),
        "{held:#}"
    );
    let ceiling = line_of("users.delete:   {");
    assert!(at("scope").ends_with(&ceiling), "{held:#}");
    assert!(at("resource").ends_with(&ceiling), "{held:#}");
    assert!(
        at("approval").ends_with(&line_of("  default:  ")),
        "{held:#}"
    );
    assert!(
        step(&held, "approval")["says"]
            .as_str()
            .unwrap()
            .contains("1 of support-leads")
    );
    let says = step(&held, "resource")["says"].as_str().unwrap();
    assert_eq!(says, "user:7, within user:{session.customer_id} (user:7)");

    let other = json(&[
        "--agent",
        "support-bot",
        "DELETE /crm/users/8",
        "--attribute",
        "customer_id=7",
    ]);
    assert_eq!(
        (&other["decision"], &other["reason"]),
        (&"deny".into(), &"resource_outside_ceiling".into())
    );
    assert_eq!(step(&other, "resource")["passes"], false);
    assert_eq!(
        step(&other, "grant"),
        &Value::Null,
        "what was not reached is not told"
    );

    let prose = explain(&own).ends(OK);
    assert!(
        prose.stdout.starts_with("hold  DELETE /crm/users/7\n"),
        "{prose:?}"
    );
    assert!(
        prose.stderr.contains("warning"),
        "an unset secret is one: {prose:?}"
    );
}

#[test]
fn what_keeps_a_call_from_passing_is_said_and_what_would_let_it_pass() {
    let none = json(&["--agent", "support-bot", "PATCH /crm/users/7"]);
    assert_eq!(none["reason"], "no_route");
    let says = step(&none, "route")["says"].as_str().unwrap();
    assert!(says.contains("only for GET, HEAD, DELETE"), "{says}");
    let outside = json(&["--agent", "support-bot", "GET /other"]);
    assert!(
        step(&outside, "tool")["says"]
            .as_str()
            .unwrap()
            .contains("/crm"),
        "{outside:#}"
    );
    let dots = json(&["--agent", "support-bot", "GET /crm/../x"]);
    assert_eq!(dots["reason"], "target_ambiguous");
    let refund = [
        "--agent",
        "support-bot",
        "POST /crm/users/7/refunds",
        "--attribute",
        "customer_id=7",
    ];
    let asked = json(&refund);
    assert_eq!(asked["reason"], "grant_missing");
    let held = json(&[&refund[..], &["--grant", "refunds.create@user:7"]].concat());
    assert_eq!(held["decision"], "allow", "{held:#}");
    let lacking = json(&["--agent", "support-bot", "DELETE /crm/users/7"]);
    assert!(
        step(&lacking, "resource")["says"]
            .as_str()
            .unwrap()
            .contains("lacks customer_id")
    );
    let ceiling = json(&["--agent", "research-bot", "GET /crm/export"]);
    assert_eq!(ceiling["reason"], "scope_outside_ceiling");
}

#[test]
fn explain_says_what_was_probably_meant() {
    explain(&["--agent", "suport-bot", "GET /crm/users"])
        .ends(USAGE)
        .complains("did you mean `support-bot`?");
    toolgate(&[
        "explain",
        "--config",
        CONFIG,
        "--project",
        "dmo",
        "--agent",
        "x",
        "GET /",
    ])
    .ends(USAGE)
    .complains("did you mean `demo`?");
    explain(&["--agent", "support-bot", "/crm/users"])
        .ends(USAGE)
        .complains("write method and target");
    explain(&[
        "--agent",
        "support-bot",
        "GET /crm/users",
        "--grant",
        "users.read@nothing",
    ])
    .ends(USAGE)
    .complains("type:id");
    explain(&["--agent", "support-bot", "GET /crm/users", "--at", "noon"])
        .ends(USAGE)
        .complains("2026-03-01T12:00:00Z");
}

/// A ledger of one session, as a gate would have written it.
fn written(folder: &std::path::Path, calls: &[(&str, &str)]) {
    let time = |second: usize| format!("2026-03-01T12:00:{second:02}.000000Z");
    let session = "ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5";
    let mut text = format!(
        "{{\"agent\":\"support-bot\",\"change\":\"minted\",\"kind\":\"session\",\"project\":\"demo\",\"seq\":0,\"session\":\"{session}\",\"time\":\"{}\"}}\n",
        time(0)
    );
    for (at, (target, rest)) in calls.iter().enumerate() {
        let seq = at + 1;
        text.push_str(&format!(
            "{{\"agent\":\"support-bot\",\"kind\":\"decision\",\"method\":\"GET\",\"policy\":\"{}\",\"project\":\"demo\",\"request\":\"req_{seq:032x}\",\"seq\":{seq},\"session\":\"{session}\",\"target\":\"{target}\",\"time\":\"{}\",{rest}}}\n",
            "00".repeat(32),
            time(seq),
        ));
    }
    std::fs::write(folder.join("0000000000000000.jsonl"), text).unwrap();
}

#[test]
fn replay_shows_a_row_for_each_change_and_ends_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let read = r#""decision":"allow","grant":"on_use","resource":"user:7","route":"users.read","scope":"users.read","tool":"crm""#;
    let gone = r#""decision":"deny","reason":"limit_exceeded","limit":"x","tool":"crm""#;
    written(
        folder.path(),
        &[
            ("/crm/users/7", read),
            ("/crm/users/8?q=*", gone),
            ("/crm/users/7", read),
        ],
    );
    let directory = folder.path().to_str().unwrap();
    let own = "config/projects/demo.yaml";
    let same = toolgate(&["replay", directory, "--policy", own]).ends(OK);
    assert!(
        same.stdout
            .contains("0 decided otherwise of 2 decided again"),
        "{same:?}"
    );
    assert!(
        same.stdout
            .contains("1 call not the policy's: limit_exceeded"),
        "{same:?}"
    );
    assert!(same.stdout.contains("limits are not replayed"), "{same:?}");
    let text = std::fs::read_to_string(format!("{}/{own}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let edited = text.replacen("users.read:     on_use", "users.read:     on_request", 1);
    let file = folder.path().join("new.yaml");
    std::fs::write(&file, edited).unwrap();
    let file = file.to_str().unwrap();
    let ran = toolgate(&["replay", directory, "--policy", file]).ends(NO);
    assert!(ran.stdout.contains("deny grant_missing"), "{ran:?}");
    assert!(ran.stdout.contains("2026-03-01T12:00:01Z"), "{ran:?}");
    let json = toolgate(&["replay", directory, "--policy", file, "--json"])
        .ends(NO)
        .json();
    assert_eq!(json["changes"][0]["calls"], 2, "{json:#}");
    assert_eq!(json["changes"][0]["new"]["reason"], "grant_missing");
    let later = [
        "replay",
        directory,
        "--policy",
        file,
        "--since",
        "2026-03-01T12:00:02Z",
        "--json",
    ];
    assert_eq!(toolgate(&later).ends(NO).json()["changed"], 1);
    let other = [
        "replay",
        directory,
        "--policy",
        file,
        "--agent",
        "research-bot",
        "--json",
    ];
    assert_eq!(toolgate(&other).ends(OK).json()["decided"], 0);
}

#[test]
fn replay_refuses_what_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let own = "config/projects/demo.yaml";
    toolgate(&["replay", "/nonexistent", "--policy", own])
        .ends(UNAVAILABLE)
        .complains("is no directory");
    toolgate(&["replay", directory, "--policy", "/nonexistent.yaml"]).ends(CONFIGURATION);
    toolgate(&["replay", directory, "--policy", own, "--since", "yesterday"])
        .ends(USAGE)
        .complains("`since`");
}

#[test]
fn every_command_has_a_manual_page() {
    let page = toolgate(&["man"]).ends(OK);
    assert!(page.stdout.contains(".TH toolgate 1"), "{page:?}");
    let folder = tempfile::tempdir().unwrap();
    toolgate(&["man", "--directory", folder.path().to_str().unwrap()]).ends(OK);
    for name in ["toolgate", "toolgate-explain", "toolgate-session-mint"] {
        let page = std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains("Example"), "{name}");
    }
    toolgate(&["man", "--directory", "/nonexistent/man1"]).ends(UNAVAILABLE);
}
