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

/// A configuration of one project in a folder of its own.
fn configuration(project: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let server = "version: 1\nlisteners:\n  agents: { address: 127.0.0.1:0 }\n  admin: { address: 127.0.0.1:0 }\n  metrics: { address: 127.0.0.1:0 }\nprincipals:\n  - name: orchestrator\n    key: { sha256: \"0000000000000000000000000000000000000000000000000000000000000001\" }\n    roles: [issuer]\n    projects: [demo]\nstore: { embedded: { path: toolgate.db } }\nledger: { directory: ledger }\nprojects: [demo.yaml]\n";
    std::fs::write(folder.path().join("toolgate.yaml"), server).unwrap();
    std::fs::write(folder.path().join("demo.yaml"), project).unwrap();
    let config = folder.path().join("toolgate.yaml");
    (folder, config.to_str().unwrap().to_owned())
}

/// What is told of a call of that project's `bot`.
fn of_bot(config: &str, more: &[&str]) -> super::Ran {
    let own = [
        "explain",
        "--config",
        config,
        "--project",
        "demo",
        "--agent",
        "bot",
    ];
    toolgate(&[&own, more].concat()).ends(OK)
}

/// Arms by body, header, client and time, an MCP tool and a function.
const JUDGED: &str = r#"version: 1
project: demo
agents:
  bot:
    scopes: { small: on_use, large: on_use, night: on_use, near: on_use, forms: on_use, issues.close: on_use, purge: on_use }
tools:
  shop:
    mount: /shop
    upstream: { url: "http://127.0.0.1:9001" }
    body_limit: 1KiB
    routes:
      - id: refunds.small
        match: POST /refunds
        where:
          body./amount: { at_most: 100 }
        scope: small
      - id: refunds.large
        match: POST /refunds
        scope: large
        resource: refund:{body./id}
      - { id: night, match: GET /night, where: { time.hour: { at_most: 5, zone: UTC } }, scope: night }
      - { id: near, match: GET /near, where: { client: { cidr: 10.0.0.0/8 }, header.x-tenant: { equals: acme } }, scope: near }
      - { id: forms, match: POST /forms, where: { body./kind: { one_of: [a, b] } }, scope: forms }
  github:
    mount: /mcp
    protocol: mcp
    upstream: { url: "http://127.0.0.1:9002/mcp" }
    routes:
      - id: issues.close
        match: tools/call close_issue
        where: { args./number: { at_least: 1 } }
        scope: issues.close
        resource: issue:{args./number}
  code:
    protocol: function
    routes:
      - { id: purge, match: call purge, where: { args./table: { equals: tmp } }, scope: purge }
"#;

#[test]
fn conditions_are_explained_one_by_one_with_their_lines_and_the_routes_that_were_tried() {
    let (folder, config) = configuration(JUDGED);
    let file = |text: &str| {
        let line = JUDGED.lines().position(|line| line.contains(text)).unwrap() + 1;
        format!("{}:{line}", folder.path().join("demo.yaml").display())
    };
    let body = folder.path().join("body");
    let told = |text: &str, more: &[&str]| {
        std::fs::write(&body, text).unwrap();
        let own = [
            "--json",
            "POST /shop/refunds",
            "--body",
            body.to_str().unwrap(),
        ];
        of_bot(&config, &[&own, more].concat()).json()
    };
    let small = told(r#"{"amount": 100.00, "id": 4}"#, &[]);
    assert_eq!(small["decision"], "allow", "{small:#}");
    assert_eq!(small["route"], "refunds.small");
    let judged = step(&small, "where");
    assert_eq!(judged["says"], "body./amount: { at_most: 100 } holds");
    assert_eq!(judged["at"], file("body./amount"));
    let large = told(r#"{"amount": 100.01, "id": 4}"#, &[]);
    assert_eq!(
        (&large["route"], &large["resource"]),
        (&"refunds.large".into(), &"refund:4".into())
    );
    let passed_over = step(&large, "where");
    assert_eq!(
        (&passed_over["next"], &passed_over["passes"]),
        (&true.into(), &true.into())
    );
    assert!(
        passed_over["says"]
            .as_str()
            .unwrap()
            .ends_with("does not hold: the next route is asked")
    );
    // Nothing that the gate would refuse to read is judged here either.
    for (text, more, reason, says) in [
        (
            r#"{"amount": "1"}"#,
            &[][..],
            "unevaluable",
            "it is of another type",
        ),
        (
            r#"{"amount": 1, "amount": 2}"#,
            &[],
            "body_unreadable",
            "a name that the object has already",
        ),
        (
            r#"{"amount": 1}"#,
            &["--content-type", "text/plain"],
            "body_unreadable",
            "media type",
        ),
        (
            r#"{"amount": 1}"#,
            &["--header", "content-encoding: gzip"],
            "body_unreadable",
            "Content-Encoding",
        ),
        (
            &" ".repeat(1025),
            &[],
            "body_too_large",
            "longer than 1024 bytes",
        ),
    ] {
        let refused = told(text, more);
        assert_eq!(
            (&refused["decision"], &refused["reason"]),
            (&"deny".into(), &reason.into()),
            "{text}"
        );
        let last = refused["steps"]
            .as_array()
            .unwrap()
            .iter()
            .rfind(|step| step["passes"] == false);
        assert!(
            last.unwrap()["says"].as_str().unwrap().contains(says),
            "{refused:#}"
        );
    }
    std::fs::write(&body, "kind=a&x=1").unwrap();
    let form = [
        "explain",
        "--config",
        &config,
        "--project",
        "demo",
        "--agent",
        "bot",
        "--json",
        "POST /shop/forms",
        "--content-type",
        "application/x-www-form-urlencoded",
        "--body",
        body.to_str().unwrap(),
    ];
    assert_eq!(toolgate(&form).ends(OK).json()["decision"], "allow");
}

#[test]
fn a_missing_intent_and_fields_that_may_not_be_sent_are_judged_as_the_gate_would() {
    let project = JUDGED.replace("scope: forms }", "scope: forms, intent: required }");
    let (folder, config) = configuration(&project);
    let told = |more: &[&str]| of_bot(&config, more).stdout;
    let body = folder.path().join("body");
    std::fs::write(&body, r#"{"kind": "a"}"#).unwrap();
    let forms = ["POST /shop/forms", "--body", body.to_str().unwrap()];
    let with = |more: &[&str]| told(&[&forms[..], more].concat());
    let unknown = with(&[]);
    assert!(unknown.starts_with("unknown  "), "{unknown}");
    assert!(unknown.contains("give --intent TEXT"), "{unknown}");
    assert!(with(&["--intent", "ask"]).starts_with("allow  "));
    assert!(with(&["--header", "Toolgate-Intent: ask"]).starts_with("allow  "));
    for none in [&["--intent", ""][..], &["--header", "accept: text/plain"]] {
        let missing = with(none);
        assert!(missing.starts_with("deny intent_missing  "), "{missing}");
    }
    let other = told(&[
        "GET /shop/night",
        "--header",
        "X_HTTP_Method_Override: DELETE",
    ]);
    assert!(other.starts_with("deny field_forbidden  "), "{other}");
    assert!(other.contains("x_http_method_override"), "{other}");
}

#[test]
fn what_was_not_said_of_a_call_is_asked_for_and_never_guessed() {
    let (_folder, config) = configuration(JUDGED);
    let told = |more: &[&str]| of_bot(&config, more);
    let near = [
        "GET /shop/near",
        "--client",
        "10.1.2.3",
        "--header",
        "x-tenant: acme",
    ];
    for (call, says) in [
        (&["POST /shop/refunds"][..], "give --body FILE"),
        (&near[..1], "give --client ADDRESS"),
        (&near[..3], "give --header"),
        (&["tools/call close_issue"], "give --args JSON"),
        (&["call purge", "--tool", "code"], "give --args JSON"),
    ] {
        let unknown = told(call);
        assert!(unknown.stdout.starts_with("unknown  "), "{unknown:?}");
        assert!(
            unknown.stdout.contains("??  where") && unknown.stdout.contains(says),
            "{unknown:?}"
        );
        let json: Value = told(&[call, &["--json"]].concat()).json();
        assert_eq!(
            (&json["decision"], &json["reason"]),
            (&"unknown".into(), &Value::Null)
        );
    }
    let decided = |more: &[&str]| told(&[more, &["--json"]].concat()).json();
    assert_eq!(decided(&near)["decision"], "allow");
    assert_eq!(
        decided(&[&near[..], &["--header", "x-tenant: acme"]].concat())["reason"],
        "unevaluable"
    );
    let night = |at| decided(&["GET /shop/night", "--at", at])["decision"].clone();
    assert_eq!(
        (night("2026-03-01T05:59:59Z"), night("2026-03-01T06:00:00Z")),
        ("allow".into(), "deny".into())
    );
    let close = decided(&[
        "tools/call close_issue",
        "--tool",
        "github",
        "--args",
        r#"{"number": 7}"#,
    ]);
    assert_eq!(
        (&close["decision"], &close["resource"]),
        (&"allow".into(), &"issue:7".into())
    );
    assert_eq!(
        decided(&["tools/call close_issue", "--args", r#"{"number": 0}"#])["reason"],
        "condition_unmet"
    );
    assert_eq!(
        decided(&["tools/call drop_all", "--args", "{}"])["reason"],
        "no_route"
    );
    assert_eq!(
        decided(&["call purge", "--args", r#"{"table": "tmp"}"#])["decision"],
        "allow"
    );
    assert_eq!(
        decided(&["call purge", "--args", r#"{"table": "users"}"#])["reason"],
        "condition_unmet"
    );
    let over = decided(&["POST /mcp"]);
    assert!(
        step(&over, "route")["says"]
            .as_str()
            .unwrap()
            .contains("named by their body"),
        "{over:#}"
    );
    for (wrong, says) in [
        (
            &["call purge", "--tool", "codes"][..],
            "did you mean `code`?",
        ),
        (
            &["call purge", "--args", r#"{"a": 1, "a": 2}"#],
            "not JSON that can be judged",
        ),
        (&["GET /shop/near", "--args", "{}"], "has no arguments"),
        (&["GET /shop/near", "--client", "home"], "is not an address"),
        (&["GET /shop/near", "--header", "x-tenant"], "NAME: VALUE"),
        (
            &["POST /shop/refunds", "--body", "/nonexistent"],
            "can't be read",
        ),
    ] {
        let own = [
            "explain",
            "--config",
            &config,
            "--project",
            "demo",
            "--agent",
            "bot",
        ];
        toolgate(&[&own, wrong].concat())
            .ends(USAGE)
            .complains(says);
    }
}

#[test]
fn a_test_that_fails_is_said_with_what_decided_and_ends_with_one() {
    let promise = |expect: &str| {
        format!(
            "{JUDGED}tests:\n  - name: large refunds are refused\n    session: {{ agent: bot }}\n    request: POST /shop/refunds\n    body: {{ amount: 101, id: 4 }}\n    expect: {expect}\n"
        )
    };
    let (_folder, config) = configuration(&promise("{ decision: deny }"));
    let ran = toolgate(&["check", "--config", &config]).ends(NO);
    for says in [
        "test `large refunds are refused`: expected `deny`, got `allow`",
        "= help: route: refunds.large, which answers to POST /shop/refunds",
        "1 test fails",
    ] {
        assert!(ran.stderr.contains(says), "{says} in {ran:?}");
    }
    let json = toolgate(&["check", "--json", "--config", &config])
        .ends(NO)
        .json();
    assert_eq!(
        (&json["valid"], &json["failed_tests"]),
        (&false.into(), &1.into())
    );
    toolgate(&["serve", "--config", &config])
        .ends(CONFIGURATION)
        .complains("large refunds are refused");
    // Whoever asks why is answered.
    toolgate(&[
        "explain",
        "--config",
        &config,
        "--project",
        "demo",
        "--agent",
        "bot",
        "GET /shop/near",
    ])
    .ends(OK);
    let (_folder, config) = configuration(&promise(
        "{ decision: allow, route: refunds.large, scope: large, resource: \"refund:4\" }",
    ));
    let ran = toolgate(&["check", "--config", &config]).ends(OK);
    assert!(
        ran.stdout.contains("tests     1  passed") && ran.stdout.contains("1 test passed"),
        "{ran:?}"
    );
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
fn replay_counts_what_conditions_read_and_no_ledger_holds_and_takes_several_projects() {
    let folder = tempfile::tempdir().unwrap();
    let (_configuration, _) = configuration(JUDGED);
    let of = |route: &str| {
        format!(
            r#""decision":"allow","grant":"on_use","route":"{route}","scope":"small","tool":"shop""#
        )
    };
    let read = of("refunds.small");
    written(
        folder.path(),
        &[("/shop/near", &read), ("/shop/night", &read)],
    );
    let policy = folder.path().join("new.yaml");
    std::fs::write(&policy, JUDGED.replace("  bot:", "  support-bot:")).unwrap();
    let (directory, policy) = (folder.path().to_str().unwrap(), policy.to_str().unwrap());
    let report = toolgate(&["replay", directory, "--policy", policy, "--json"])
        .ends(NO)
        .json();
    assert_eq!(report["decided"], 1, "{report:#}");
    assert_eq!(report["not_recorded"][0]["subject"], "client", "{report:#}");
    assert_eq!(
        report["changes"][0]["new"]["reason"], "condition_unmet",
        "at noon: {report:#}"
    );
    let other = |names: &str| {
        toolgate(&[
            "replay",
            directory,
            "--policy",
            policy,
            "--json",
            "--project",
            names,
        ])
    };
    assert_eq!(other("elsewhere").ends(OK).json()["decided"], 0);
    assert_eq!(other("elsewhere,demo").ends(NO).json()["decided"], 1);
    other("a b").ends(USAGE).complains("`project`");
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
