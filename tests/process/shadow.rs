//! A policy that is tried in shadow on real calls, and then enforced: the log says so, the ledger has what would have been
//! denied and still proves, and from the reload on exactly that is denied.

use crate::backend::Backend;
use crate::client::{Answer, call};
use crate::gate::{Gate, Setup};
use crate::ledger;
use http::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

fn policy(backend: &Backend, mode: &str) -> String {
    format!(
        "version: 1
project: demo
mode: {mode}
agents:
  bot:
    scopes:
      read: on_use
      write: on_request
      remove: {{ grant: on_use, resources: any }}
tools:
  shop:
    mount: /shop
    upstream: {{ url: 'http://{}' }}
    routes:
      - {{ id: read, match: 'GET /items/{{id}}', scope: read, resource: 'item:{{id}}' }}
      - {{ id: write, match: 'POST /items', scope: write }}
      - {{ id: priced, match: 'POST /orders', scope: read, where: {{ body./price: {{ at_most: 10 }} }} }}
      - {{ id: remove, match: 'DELETE /items/{{id}}', scope: remove, resource: 'item:{{id}}' }}
      - {{ id: admin, match: 'GET /admin', scope: admin }}
approvals:
  default: {{ approvers: [ops], hold: 0s }}
",
        backend.address
    )
}

/// Method, path and body; the last three are no policy's to let through.
const CALLS: [(Method, &str, &str); 9] = [
    (Method::GET, "/shop/items/7", ""),
    (Method::POST, "/shop/items", ""),
    (Method::POST, "/shop/orders", "{\"price\": 9}"),
    (Method::POST, "/shop/orders", "{\"price\": 11}"),
    (Method::POST, "/shop/orders", "{\"price\": \"9\"}"),
    (Method::DELETE, "/shop/items/7", ""),
    (Method::GET, "/shop/admin", ""),
    (Method::GET, "/shop/nowhere", ""),
    (Method::GET, "/shop/items//7", ""),
];

async fn all(gate: &Gate, token: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (method, path, body) in CALLS {
        let answer = match serde_json::from_str::<Value>(body) {
            Ok(json) => call(gate.agents, token, method, path, &json).await,
            Err(_) => call(gate.agents, token, method, path, ()).await,
        };
        answers.push(answer);
    }
    answers
}

fn toolgate(setup: &Setup, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    command
        .args(arguments)
        .args(["--config"])
        .arg(setup.config());
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_was_tried_in_shadow_denies_once_enforced_what_its_ledger_said_it_would() {
    let backend = Backend::start("shop").await;
    let setup = Setup::new("demo", &policy(&backend, "shadow"));
    let gate = setup.start().await;
    assert!(gate.said("project `demo` is in shadow"));
    let token = gate.mint("demo", "bot").await.token;
    let answers = all(&gate, &token).await;
    let passed: Vec<bool> = answers.iter().map(|answer| answer.status == 200).collect();
    assert_eq!(
        passed,
        [true, true, true, true, true, true, true, false, false]
    );
    assert_eq!(
        gate.metric("toolgate_shadow_routes", &["project=\"demo\""])
            .await,
        5.0
    );
    assert_eq!(
        gate.metric(
            "toolgate_shadow_total",
            &["route=\"remove\"", "reason=\"pending_approval\""]
        )
        .await,
        1.0
    );

    // What is recorded as denied.
    let found = toolgate(
        &setup,
        &[
            "ledger", "query", "--shadow", "any", "--kind", "decision", "--json",
        ],
    );
    let would: BTreeMap<String, String> = found
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|record| {
            let reason = record["shadow"]["reason"].as_str().unwrap().to_owned();
            (record["seq"].to_string(), reason)
        })
        .collect();
    let mut reasons: Vec<&str> = would.values().map(String::as_str).collect();
    reasons.sort_unstable();
    let expected = [
        "condition_unmet",
        "grant_missing",
        "pending_approval",
        "scope_outside_ceiling",
        "unevaluable",
    ];
    assert_eq!(reasons, expected);
    let held = toolgate(&setup, &["ledger", "query", "--shadow", "hold"]);
    assert!(
        held.contains("allow in shadow (hold: pending_approval)"),
        "{held}"
    );
    assert!(toolgate(&setup, &["check"]).contains("mode    SHADOW"));

    setup.write_project("demo", &policy(&backend, "enforce"));
    gate.signal("HUP");
    gate.runs(&setup.project_file("demo")).await;
    let refused: Vec<String> = all(&gate, &token)
        .await
        .iter()
        .filter_map(|answer| match answer.status.as_u16() {
            // It waits, which is no problem.
            202 => Some("pending_approval".to_owned()),
            _ => answer.reason(),
        })
        .collect();
    let expected = [
        "grant_missing",
        "condition_unmet",
        "unevaluable",
        "pending_approval",
        "scope_outside_ceiling",
        "no_route",
        "target_ambiguous",
    ];
    assert_eq!(refused, expected);
    assert_eq!(
        gate.metric("toolgate_shadow_routes", &["project=\"demo\""])
            .await,
        0.0
    );
    gate.kill();
    ledger::verified(&setup.ledger());
    let report = toolgate(&setup, &["ledger", "verify"]);
    assert!(report.contains("PROVEN"), "{report}");
}
