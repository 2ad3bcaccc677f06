//! Tools that speak MCP: the official SDK on both sides of the gate, and what agents try that the SDK never would.

mod attacks;
mod held;
mod pins;
mod tasks;

use crate::client::{Answer, Connection};
use crate::gate::{Gate, Minted, Role, Setup};
use crate::program::{Program, python};
use crate::wait::run;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

/// `root` mints, operates and audits; `dana` approves.
const ROLES: [Role<'static>; 2] = [
    Role {
        name: "root",
        roles: "issuer, operator, auditor",
        projects: "demo",
    },
    Role {
        name: "dana",
        roles: "approver",
        projects: "demo",
    },
];

/// Where a result that is a refusal has the problem.
const PROBLEM: &str = "toolgate/problem";

fn policy(port: &str) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot:
    scopes:
      issues: {{ grant: on_use, resources: ['file:acme'] }}
      prompts: on_use
      pay: on_use
      loose: on_use
  other: {{ scopes: {{ wipe: on_use }} }}
tools:
  forge:
    mount: /mcp
    protocol: mcp
    upstream:
      url: http://127.0.0.1:{port}/mcp
      credential: {{ header: authorization, value: Bearer of-the-backend }}
    routes:
      - {{ id: issues.list, match: [tools/call list_issues, tools/call slow_issues], scope: prompts, where: {{ args./repo: {{ prefix: acme/ }} }} }}
      - {{ id: issues.create, match: tools/call create_issue, scope: prompts, approval: default }}
      - {{ id: repo.delete, match: tools/call delete_repo, scope: wipe, approval: never }}
      - {{ id: files.read, match: 'resources/read repo://{{owner}}/{{*file}}', scope: issues, resource: 'file:{{owner}}' }}
      - {{ id: keys.read, match: 'resources/read secret://keys', scope: wipe }}
      - {{ id: review, match: prompts/get review, scope: prompts }}
      - {{ id: pay, match: tools/call pay, scope: pay, where: {{ args./amount: {{ at_most: 50 }} }} }}
      - {{ id: pay.much, match: tools/call pay, scope: pay, approval: default }}
      - {{ id: wipe, match: tools/call wipe, scope: wipe, approval: never }}
      - {{ id: complete, match: completion/complete, scope: loose }}
  asked:
    mount: /asked
    protocol: mcp
    upstream: {{ url: 'http://127.0.0.1:{port}/mcp' }}
    routes:
      - {{ id: asked.list, match: tools/list, scope: pay, approval: default }}
      - {{ id: asked.pay, match: tools/call pay, scope: pay }}
approvals:
  default: {{ approvers: [leads], quorum: 1, hold: 1s, expires: 10m }}
"
    )
}

struct Scene {
    server: Program,
    gate: Gate,
    setup: Setup,
    session: Minted,
}

impl Scene {
    /// Before a server that is one of the scripts.
    async fn before(script: &str) -> Self {
        let server = Program::start(python(script));
        let port = server.says();
        let policy = policy(port.strip_prefix("port ").unwrap());
        let setup = Setup::with(&[("demo", &policy)], &ROLES);
        setup.edit_server(|text| text.replace("name: dana, ", "name: dana, groups: [leads], "));
        let gate = setup.start().await;
        let session = gate.mint("demo", "bot").await;
        Self {
            server,
            gate,
            setup,
            session,
        }
    }

    async fn send(&self, method: Method, fields: &[(&str, &str)], body: &str) -> Answer {
        self.send_as(&self.session, method, fields, body).await
    }

    async fn send_as(
        &self,
        session: &Minted,
        method: Method,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.send_to("/mcp", session, method, fields, body).await
    }

    async fn send_to(
        &self,
        path: &str,
        session: &Minted,
        method: Method,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut fields = fields.to_vec();
        if method == Method::POST && !fields.iter().any(|(name, _)| *name == "content-type") {
            fields.push(("content-type", "application/json"));
        }
        let mut connection = Connection::open(self.gate.agents, &session.token)
            .await
            .unwrap();
        let body = Bytes::copy_from_slice(body.as_bytes()).into();
        let answer = connection.start(method, path, &fields, body).await.unwrap();
        crate::client::read(answer).await.unwrap()
    }

    async fn post(&self, message: &Value) -> Answer {
        self.send(Method::POST, &[], &message.to_string()).await
    }

    /// What the ledger has of calls with this text in them.
    async fn recorded(&self, query: &str) -> Vec<Value> {
        let path = format!("/v1/ledger?limit=100&{query}");
        let page = self.gate.admin(Method::GET, &path, ()).await.expect(200);
        page.json()["items"].as_array().unwrap().clone()
    }
}

fn request(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn call(id: u64, name: &str, arguments: Value) -> Value {
    request(
        id,
        "tools/call",
        json!({"name": name, "arguments": arguments}),
    )
}

/// The problem that a tool's call was refused with.
#[track_caller]
fn problem(answer: Answer) -> Value {
    let answer = answer.expect(200).json();
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    answer["result"]["_meta"][PROBLEM].clone()
}

async fn with_the_sdk(mode: &str, version: &str) {
    let scene = Scene::before("mcp_server.py").await;
    let mut client = python("mcp_client.py");
    client
        .env("BASE_URL", format!("http://{}/mcp", scene.gate.agents))
        .env("TOKEN", &scene.session.token)
        .env("MODE", mode);
    let output = run(client).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the client ends well: {errors}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["version"], version);
    // What it could be granted, and nothing else.
    assert_eq!(
        said["tools"],
        json!(["list_issues", "slow_issues", "create_issue"])
    );
    assert_eq!(said["prompts"], json!(["review"]));
    assert_eq!(said["resources"], json!([]));
    assert_eq!(said["templates"], json!(["repo://{owner}/{file}"]));
    let text = |name: &str| {
        said[name]["content"][0]["text"]
            .as_str()
            .unwrap_or_default()
    };
    assert_eq!(
        (text("called"), &said["called"]["isError"]),
        ("acme/a#1", &json!(false))
    );
    assert_eq!(
        (text("slow"), &said["progress"]),
        ("acme/a#1", &json!([1.0]))
    );
    assert_eq!(said["read"]["contents"][0]["text"], "README of acme");
    assert_eq!(
        said["prompted"]["messages"][0]["content"]["text"],
        "Review x"
    );
    // The model reads why, and what to do.
    for (name, reason) in [
        ("elsewhere", "condition_unmet"),
        ("refused", "scope_outside_ceiling"),
    ] {
        assert_eq!(said[name]["isError"], true, "{said}");
        assert_eq!(said[name]["_meta"][PROBLEM]["reason"], reason);
        assert!(text(name).contains("tell the user"), "{said}");
    }
    for name in ["unread", "unprompted"] {
        let raised = said[name]["raised"].as_str().unwrap();
        assert!(raised.contains("Error"), "{raised}");
    }
    // Nothing that was refused reached the server.
    let mut ran = vec![scene.server.says()];
    while !ran.last().unwrap().contains("repo://acme") {
        ran.push(scene.server.says());
    }
    assert_eq!(
        ran,
        [
            "ran list_issues acme/a",
            "ran slow_issues acme/a",
            "ran repo://acme/README"
        ]
    );
    let records = scene.recorded("text=tools%2Fcall%20list_issues").await;
    let called: Vec<(&Value, &Value)> = records
        .iter()
        .filter(|it| it["kind"] == "decision")
        .map(|it| (&it["call"], &it["decision"]))
        .collect();
    let list = json!("tools/call list_issues");
    assert!(
        called.contains(&(&list, &json!("allow"))) && called.contains(&(&list, &json!("deny"))),
        "{records:?}"
    );
    let lists = scene.recorded("text=tools%2Flist").await;
    assert!(
        lists.iter().any(|it| it["grant"] == "protocol"),
        "{lists:?}"
    );
}

#[tokio::test]
async fn the_official_client_works_through_the_gate_by_the_revision_with_sessions() {
    with_the_sdk("legacy", "2025-11-25").await;
}

#[tokio::test]
async fn the_official_client_works_through_the_gate_by_the_stateless_revision() {
    with_the_sdk("2026-07-28", "2026-07-28").await;
}
