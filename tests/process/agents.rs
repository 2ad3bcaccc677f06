//! Agents of two frameworks, real but for their language model, which is a script: their HTTP tools work through the gate
//! unchanged but for base URL and token, and the model acts upon what it is told.
//!
//! The script takes each next step from the last answer's text alone (`clients/agents/script.py`), so a run that comes to
//! its end has read the refusal's `detail`, done what its `next` says, and come back for what a person agreed to.

use crate::approvals::scene::Scene;
use crate::backend::Backend;
use crate::clients::{arrived, said, script_path};
use crate::wait::{PATIENCE, within};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Command;

/// One customer a session; notes on request, refunds and deletions with a person's word.
fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot:
    scopes:
      users.read: {{ grant: on_use, resources: ['user:{{session.customer_id}}'] }}
      users.delete: {{ grant: on_use, resources: ['user:{{session.customer_id}}'] }}
      notes.write: {{ grant: on_request, uses: 1, ttl: 5m, resources: ['user:{{session.customer_id}}'] }}
      refunds.create: {{ grant: on_use, resources: ['user:{{session.customer_id}}'] }}
tools:
  crm:
    mount: /crm
    upstream:
      url: http://{}
      credential: {{ header: authorization, value: \"Bearer of-the-backend\" }}
    routes:
      - {{ id: users.read, match: 'GET /users/{{user_id}}', scope: users.read, resource: 'user:{{user_id}}' }}
      - {{ id: users.delete, match: 'DELETE /users/{{user_id}}', scope: users.delete, resource: 'user:{{user_id}}' }}
      - {{ id: notes.write, match: 'POST /users/{{user_id}}/notes', scope: notes.write, resource: 'user:{{user_id}}' }}
      - {{ id: refunds.create, match: 'POST /users/{{user_id}}/refunds', scope: refunds.create, resource: 'user:{{user_id}}', approval: later }}
approvals:
  default: {{ approvers: [leads], hold: 30s, expires: 10m }}
  later: {{ approvers: [leads], hold: 0s, expires: 10m }}
",
        backend.address
    )
}

/// An agent of the environment that ./test makes for the frameworks. Whatever asks for the world beyond finds `proxy`.
fn agent(script: &str, scene: &Scene, token: &str, proxy: &TcpListener) -> Command {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/agents/bin/python");
    assert!(
        std::path::Path::new(python).exists(),
        "the agents' frameworks are missing; ./test installs them"
    );
    let proxy = format!("http://{}", proxy.local_addr().unwrap());
    let home = scene.setup.config().with_file_name("home");
    std::fs::create_dir(&home).unwrap();
    let mut command = Command::new(python);
    command
        .arg(script_path(script))
        .env("BASE_URL", format!("http://{}/crm", scene.gate.agents))
        .env("TOKEN", token)
        .env("HOME", &home)
        .env("PYTHONIOENCODING", "utf-8")
        .current_dir(home);
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env(name, &proxy).env(name.to_uppercase(), &proxy);
    }
    command.env_remove("no_proxy").env_remove("NO_PROXY");
    command
}

/// Runs the agent to its end, with a person who says yes to what it asks, and judges what became of it.
async fn works_through_the_gate(script: &str) {
    let backend = Backend::start("crm").await;
    let yaml = policy(&backend);
    let scene = Scene::before(backend, &yaml).await;
    let order = json!({ "project": "demo", "agent": "bot", "attributes": { "customer_id": "7" } });
    let session = scene.gate.mint_with(order).await;
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    outside.set_nonblocking(true).unwrap();

    let agreeing = async {
        for target in ["/crm/users/7/refunds", "/crm/users/7"] {
            let shown = scene.asked(target).await;
            scene.approve("dana", &shown).await;
        }
    };
    // An agent that ends early says why at once, and nobody waits for what it would have asked.
    let running = said(agent(script, &scene, &session.token, &outside));
    let running = within(2 * PATIENCE, "the agent comes to its end", running);
    let (told, ()) = tokio::join!(running, agreeing);
    assert!(outside.accept().is_err(), "nothing asked for the world");

    let calls = told["calls"].as_array().unwrap();
    let line = |call: &Value| {
        let path = call[1].as_str().unwrap();
        let path = if path.starts_with("/.toolgate/approvals/") {
            "/.toolgate/approvals/ID"
        } else {
            path
        };
        format!("{} {path} {}", call[0].as_str().unwrap(), call[2])
    };
    assert_eq!(
        calls.iter().map(line).collect::<Vec<_>>(),
        [
            "GET /crm/users/7 200",
            "GET /crm/users/8 403",
            "POST /crm/users/7/notes 403",
            "POST /.toolgate/grants 201",
            "POST /crm/users/7/notes 200",
            "POST /crm/users/7/refunds 202",
            "GET /.toolgate/approvals/ID 200",
            "POST /crm/users/7/refunds 200",
            "DELETE /crm/users/7 200",
        ],
        "{told}"
    );
    let text =
        |at: usize| -> Value { serde_json::from_str(calls[at][3].as_str().unwrap()).unwrap() };
    arrived(&text(0), "GET", "/users/7", "");
    arrived(&text(7), "POST", "/users/7/refunds", r#"{"amount":5000}"#);
    arrived(&text(8), "DELETE", "/users/7", "");
    let detail = text(1)["detail"].as_str().unwrap().to_owned();
    assert!(
        told["final"].as_str().unwrap().ends_with(&detail),
        "what the gate said is what the model read: {told}"
    );
    for (line, times) in [
        ("GET /users/8", 0),
        ("POST /users/7/notes", 1),
        ("POST /users/7/refunds", 1),
        ("DELETE /users/7", 1),
    ] {
        assert_eq!(scene.backend.seen(line), times, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_langchain_agent_works_through_the_gate_and_acts_upon_what_it_is_told() {
    works_through_the_gate("agents/langchain_agent.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crewai_agent_works_through_the_gate_and_acts_upon_what_it_is_told() {
    works_through_the_gate("agents/crewai_agent.py").await;
}
