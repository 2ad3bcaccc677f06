//! MCP's own judges of the gate: the official conformance suite against the conformance server of the official Python SDK,
//! with the gate between the two and without, and the official TypeScript SDKs.
//!
//! That server is not ours to judge: what it fails by itself it may fail through the gate. That nothing else
//! differs, scenario by scenario and check by check, is what is shown.

use crate::approvals::scene::Scene;
use crate::backend::Backend;
use crate::clients::{said, script_path};
use crate::gate::Setup;
use crate::program::{Program, python};
use crate::wait::{PATIENCE, run, within};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The revisions, and the fewest checks that each must have passed without the gate for the comparison to say anything.
const REVISIONS: [(&str, usize); 2] = [("2025-11-25", 70), ("2026-07-28", 110)];

/// Every message of the suite has its route: what is compared is the way through, not the policy.
fn open_to_all(port: &str) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot: {{ scopes: {{ all: on_use }} }}
tools:
  reference:
    mount: /mcp
    protocol: mcp
    # The server judges for itself whose `Host` it answers.
    preserve_host: true
    upstream: {{ url: 'http://127.0.0.1:{port}/mcp' }}
    routes:
      - id: all
        scope: all
        match:
          - 'tools/call {{tool}}'
          - 'resources/read {{*uri}}'
          - 'resources/subscribe {{*uri}}'
          - 'resources/unsubscribe {{*uri}}'
          - 'prompts/get {{prompt}}'
          - completion/complete
          - logging/setLevel
          - subscriptions/listen
          - tasks/get
          - tasks/update
          - tasks/cancel
          - tasks/list
          - tasks/result
"
    )
}

/// A program of Node, as ./test installs it, with our scripts' packages.
fn node(arguments: &[&str]) -> Command {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    let packages = format!("{target}/node");
    assert!(
        Path::new(&packages).join("node_modules").exists(),
        "the packages of Node are missing; ./test installs them"
    );
    let mut command = Command::new(format!("{packages}/node"));
    command
        .args(["--import", &script_path("node/packages.mjs")])
        .args(arguments)
        .env("NODE_PACKAGES", packages);
    for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(proxy).env_remove(proxy.to_uppercase());
    }
    command
}

/// The conformance server, and its port.
fn reference() -> (Program, String) {
    let sources = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/clients/everything-server"
    );
    let mut command = python("mcp_reference.py");
    command.arg(sources);
    let program = Program::start(command);
    loop {
        if let Some(port) = program.says().strip_prefix("port ") {
            let port = port.to_owned();
            return (program, port);
        }
    }
}

/// Checks by scenario: `ID STATUS`, in order of text, for some are made side by side.
type Results = BTreeMap<String, Vec<String>>;

/// Runs the suite against an address, with a token if there is one.
async fn suite(url: &str, token: Option<&str>, revision: &str) -> Results {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().to_str().unwrap();
    let suite = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/node/node_modules/@modelcontextprotocol/conformance/dist/index.js"
    );
    let with_token = script_path("node/token.mjs");
    let mut arguments = Vec::new();
    if token.is_some() {
        arguments.extend(["--import", with_token.as_str()]);
    }
    arguments.extend([suite, "server", "--url", url]);
    arguments.extend(["--requirements", revision, "-o", results]);
    let mut command = node(&arguments);
    command.env("BASE_URL", url);
    if let Some(token) = token {
        command.env("TOKEN", token);
    }
    // How it ends says whether the server meets the revision, which is not asked here.
    let output = run(command).await;
    let read = read_results(folder.path());
    assert!(!read.is_empty(), "{output:?}");
    read
}

fn read_results(folder: &Path) -> Results {
    let mut results = Results::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        // `server-NAME-2026-07-28T12-00-00-000Z`
        let name = name.strip_prefix("server-").unwrap_or(&name);
        let name = &name[..name.len() - "-2026-07-28T12-00-00-000Z".len()];
        let text = std::fs::read(entry.path().join("checks.json")).unwrap();
        let checks: Vec<Value> = serde_json::from_slice(&text).unwrap();
        let line = |check: &Value| {
            let part = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}", part("id"), part("status"))
        };
        let mut lines: Vec<String> = checks.iter().map(line).collect();
        lines.sort();
        results.insert(name.to_owned(), lines);
    }
    results
}

/// What is not the same: of each scenario, which results there are how often without the gate and with it.
fn differences(direct: &Results, gated: &Results) -> Vec<String> {
    let mut counts: BTreeMap<(&str, &str), [usize; 2]> = BTreeMap::new();
    for (at, results) in [direct, gated].into_iter().enumerate() {
        for (scenario, lines) in results {
            for line in lines {
                counts.entry((scenario, line)).or_default()[at] += 1;
            }
        }
    }
    let differ = counts
        .into_iter()
        .filter(|(_, [direct, gated])| direct != gated);
    differ
        .map(|((scenario, line), [direct, gated])| {
            format!("{scenario}: {line} {direct} -> {gated}")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conformance_suite_of_mcp_finds_its_server_the_same_through_the_gate() {
    let (_server, port) = reference();
    let setup = Setup::new("demo", &open_to_all(&port));
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    let mut told = Vec::new();
    for (revision, least) in REVISIONS {
        let direct = suite(&format!("http://127.0.0.1:{port}/mcp"), None, revision).await;
        let passed = direct.values().flatten();
        let passed = passed.filter(|line| line.ends_with(" SUCCESS")).count();
        assert!(passed >= least, "{revision}: {passed} checks passed");
        let url = format!("http://{}/mcp", gate.agents);
        let gated = suite(&url, Some(&token), revision).await;
        println!(
            "{revision}: {} scenarios, {passed} checks passed",
            direct.len()
        );
        let found = differences(&direct, &gated);
        told.extend(found.into_iter().map(|line| format!("{revision} {line}")));
    }
    assert_eq!(told, REFUSALS, "{}", told.join("\n"));
}

/// Where the gate's own refusals show, and how often each result is there without the gate and with it: a method that no route
/// names, and a message that does not say what it is for, are refused by the gate, not by the server as unknown.
const REFUSALS: [&str; 6] = [
    "2026-07-28 server-stateless: sep-2575-http-server-method-not-found-404 FAILURE 0 -> 1",
    "2026-07-28 server-stateless: sep-2575-http-server-method-not-found-404 SUCCESS 1 -> 0",
    "2026-07-28 server-stateless: sep-2575-http-server-method-not-found-404-resources-subscribe FAILURE 0 -> 1",
    "2026-07-28 server-stateless: sep-2575-http-server-method-not-found-404-resources-subscribe SUCCESS 1 -> 0",
    "2026-07-28 server-stateless: sep-2575-http-server-method-not-found-404-resources-unsubscribe FAILURE 0 -> 1",
    "2026-07-28 server-stateless: sep-2575-http-server-method-not-found-404-resources-unsubscribe SUCCESS 1 -> 0",
];

/// A part of what the server has for one agent, some of it with a person's word.
fn narrow(port: &str) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot: {{ scopes: {{ some: on_use }} }}
  other: {{ scopes: {{ rest: on_use }} }}
tools:
  forge:
    mount: /mcp
    protocol: mcp
    upstream: {{ url: 'http://127.0.0.1:{port}/mcp' }}
    routes:
      - {{ id: listed, match: tools/call list_issues, scope: some, where: {{ args./repo: {{ prefix: acme/ }} }} }}
      - {{ id: some, match: [tools/call slow_issues, 'resources/read repo://{{owner}}/{{*file}}', prompts/get review], scope: some }}
      - {{ id: asked, match: tools/call create_issue, scope: some, approval: default }}
      - {{ id: rest, match: [tools/call delete_repo, 'resources/read secret://keys', prompts/get leak], scope: rest }}
approvals:
  default: {{ approvers: [leads], hold: 30s, expires: 10m }}
"
    )
}

/// One of the packages in one of the revisions, against a server on the Python SDK.
async fn works_through_the_gate(package: &str, revision: &str) {
    let server = Program::start(python("mcp_server.py"));
    let said_port = server.says();
    let policy = narrow(said_port.strip_prefix("port ").unwrap());
    let scene = Scene::before(Backend::start("unused").await, &policy).await;
    let session = scene.mint().await;
    let script = script_path("node/sdk_client.mjs");
    let mut command = node(&[&script]);
    command
        .env("BASE_URL", format!("http://{}/mcp", scene.gate.agents))
        .env("TOKEN", &session.token)
        .env("SDK", package)
        .env("REVISION", revision);
    let running = within(2 * PATIENCE, "the client comes to its end", said(command));
    let agreeing = async {
        let shown = scene.asked("/mcp").await;
        scene.approve("dana", &shown).await;
        shown
    };
    let (told, shown) = tokio::join!(running, agreeing);

    // Lists show what this session could be granted, and nothing else.
    assert_eq!(
        told["tools"],
        json!(["create_issue", "list_issues", "slow_issues"]),
        "{told}"
    );
    assert_eq!(told["resources"], json!([]), "{told}");
    assert_eq!(
        told["templates"],
        json!(["repo://{owner}/{file}"]),
        "{told}"
    );
    assert_eq!(told["prompts"], json!(["review"]), "{told}");
    let text = |of: &str| told[of]["content"][0]["text"].as_str().unwrap_or_default();
    assert!(told["called"].to_string().contains("acme/a#1"), "{told}");
    assert!(told["followed"].to_string().contains("acme/a#1"), "{told}");
    assert_eq!(told["progress"], json!([1]), "{told}");
    // The model reads why, and what it may do.
    // Of a tool, too, that declares what its results look like: no SDK takes a refusal for one that is not so.
    for (of, reason) in [
        ("refused", "scope_outside_ceiling"),
        ("elsewhere", "condition_unmet"),
    ] {
        let problem = &told[of]["_meta"]["toolgate/problem"];
        assert_eq!(told[of]["isError"], true, "{told}");
        assert_eq!(problem["reason"], reason, "{told}");
        assert_eq!(problem["detail"], text(of), "{told}");
    }
    assert_eq!(told["declared"], json!(["list_issues"]), "{told}");
    let read = &told["read"]["contents"][0]["text"];
    assert_eq!(read, "README of acme", "{told}");
    let prompted = told["prompted"]["messages"].to_string();
    assert!(prompted.contains("Review x"), "{told}");
    for of in ["unread", "unprompted"] {
        assert_eq!(told[of]["code"], -32001, "{told}");
        let reason = &told[of]["data"]["reason"];
        assert_eq!(reason, "scope_outside_ceiling", "{told}");
    }
    assert_eq!(text("held"), "acme/a#2", "{told}");
    scene.comes_to(&shown.id, "executed").await;
    // Whatever was refused never got there, and what a person agreed to did once.
    for ran in [
        "list_issues acme/a",
        "slow_issues acme/a",
        "repo://acme/README",
        "create_issue acme/a t",
    ] {
        assert_eq!(server.says(), format!("ran {ran}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_typescript_sdk_works_through_the_gate() {
    works_through_the_gate("@modelcontextprotocol/sdk", "2025-11-25").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_typescript_client_works_through_the_gate_in_both_revisions() {
    for revision in ["2025-11-25", "2026-07-28"] {
        works_through_the_gate("@modelcontextprotocol/client", revision).await;
    }
}
