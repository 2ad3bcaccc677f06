//! A real gRPC server and a real gRPC client, neither of which knows of the gate between them.

use super::clients::python;
use super::scene::{Listening, Papers, setup_with};
use crate::clients::said;
use crate::gate::{Gate, Setup};
use crate::wait::within;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The server; it ends when its input does.
struct Server {
    child: Child,
    port: u64,
}

impl Server {
    async fn start(told: &[(&str, PathBuf)]) -> Self {
        let mut child = python("grpc_server.py", told)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::task::spawn_blocking(move || lines.next());
        let line = within(Duration::from_secs(60), "the server starts", line).await;
        let said: Value = serde_json::from_str(&line.unwrap().unwrap().unwrap()).unwrap();
        Self {
            child,
            port: said["port"].as_u64().unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// gRPC paths are `/PACKAGE.SERVICE/METHOD` and clients can put nothing before them, so the tool is mounted at the root
/// or has a host of its own.
fn policy(place: &str, upstream: &str) -> String {
    format!(
        "version: 1
project: demo
agents: {{ bot: {{ scopes: {{ notes: on_use }} }} }}
tools:
  notes:
    {place}
    upstream: {{ {upstream}, timeout: 30s }}
    routes:
      - {{ id: notes.read, match: POST /demo.Notes/Read, scope: notes }}
      - {{ id: notes.missing, match: POST /demo.Notes/Missing, scope: notes }}
      - {{ id: notes.stall, match: POST /demo.Notes/Stall, scope: notes }}
      - {{ id: notes.given, match: POST /demo.Notes/Given, scope: notes }}
      - {{ id: notes.watch, match: POST /demo.Notes/Watch, scope: notes }}
      - {{ id: notes.follow, match: POST /demo.Notes/Follow, scope: notes }}
      - {{ id: notes.write, match: POST /demo.Notes/Write, scope: notes }}
      - {{ id: notes.chat, match: POST /demo.Notes/Chat, scope: notes }}
"
    )
}

/// How the gate goes to the server: in clear, or over TLS where agents come over TLS too.
fn upstream(listening: Listening, port: u64, folder: &Path) -> String {
    match listening {
        Listening::Plain => format!("url: 'http://127.0.0.1:{port}', http2: prior_knowledge"),
        Listening::Tls | Listening::MutualTls => {
            let ca = folder.join("ca.pem");
            format!(
                "url: 'https://127.0.0.1:{port}', tls: {{ ca: {} }}",
                ca.display()
            )
        }
    }
}

/// A gate between a real gRPC server and its clients.
pub struct Scene {
    pub gate: Gate,
    pub setup: Setup,
    _server: Server,
    known: Vec<(&'static str, PathBuf)>,
}

impl Scene {
    /// In clear on both sides, or over TLS on both.
    pub async fn open(listening: Listening) -> Self {
        Self::open_at("mount: /", listening).await
    }

    async fn open_at(place: &str, listening: Listening) -> Self {
        let papers = Papers::new();
        let folder = tempfile::tempdir().unwrap();
        papers.write(folder.path());
        let own = |name: &str| folder.path().join(name);
        let told = match listening {
            Listening::Plain => Vec::new(),
            Listening::Tls | Listening::MutualTls => {
                vec![
                    ("CERTIFICATE", own("backend.pem")),
                    ("KEY", own("backend.key")),
                ]
            }
        };
        let server = Server::start(&told).await;
        let setup = setup_with(&papers, listening, &["demo"], |_, folder| {
            policy(place, &upstream(listening, server.port, folder))
        });
        let gate = setup.start().await;
        let config = setup.config();
        Self {
            known: papers.environment(listening, config.parent().unwrap()),
            gate,
            _server: server,
            setup,
        }
    }

    /// A client that finds target and token where its programmer put them.
    pub fn client(&self, script: &str, token: &str) -> Command {
        let mut command = python(script, &self.known);
        command
            .env("TARGET", self.gate.agents.to_string())
            .env("TOKEN", token);
        command
    }
}

async fn grpc_does_it_all(listening: Listening) {
    let scene = Scene::open(listening).await;
    let token = scene.gate.mint("demo", "bot").await.token;
    judge(&said(scene.client("grpc_client.py", &token)).await);
}

/// What the client must have been told.
fn judge(told: &Value) {
    let read = &told["read"];
    assert_eq!(
        [
            &read["note"],
            &read["size"],
            &read["lead"],
            &read["trail"],
            &read["code"]
        ],
        [
            &json!("seven"),
            &json!(1_000_000),
            &json!("first"),
            &json!("last"),
            &json!("OK")
        ],
        "unary, with metadata on both ends of it"
    );
    assert_eq!(
        read["binary"],
        json!([0, 255, 1]),
        "binary metadata come back"
    );
    let seen = read["seen"].to_string();
    assert!(seen.contains(r#"["x-agent","mine"]"#), "{seen}");
    assert!(seen.contains(r#"["x-agent-bin",[0,254]]"#), "{seen}");
    assert!(
        !seen.contains("tgs_"),
        "the session's token stays here: {seen}"
    );
    assert_eq!(
        told["missing"],
        json!(["NOT_FOUND", "no note eight: grüße", "nobody wrote it"]),
        "an error without a message"
    );
    assert_eq!(
        told["watched"],
        json!((0..200).collect::<Vec<_>>()),
        "server streaming"
    );
    assert_eq!(
        told["broken"],
        json!([[0, 1, 2], ["DATA_LOSS", "the rest is lost", "ran dry"]]),
        "an error behind messages"
    );
    assert_eq!(told["written"], 499_500, "client streaming");
    let said: Vec<String> = (0..10).map(|number| format!("message {number}")).collect();
    assert_eq!(
        told["heard"],
        json!(said),
        "message by message in both directions"
    );
    assert_eq!(
        told["late"],
        json!(["DEADLINE_EXCEEDED", true]),
        "a deadline"
    );
    assert_eq!(
        told["given_up"], true,
        "the server learns that it was given up"
    );
    let crowd: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    assert_eq!(told["crowd"], json!(crowd), "each call has its own answer");
    assert_eq!(
        told["refused"][0], "PERMISSION_DENIED",
        "what has no route: {}",
        told["refused"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_works_in_clear() {
    grpc_does_it_all(Listening::Plain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_works_over_tls() {
    grpc_does_it_all(Listening::Tls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_works_with_a_client_certificate() {
    grpc_does_it_all(Listening::MutualTls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_works_on_a_host_of_its_own() {
    let scene = Scene::open_at("host: notes.tools.example", Listening::Plain).await;
    let token = scene.gate.mint("demo", "bot").await.token;
    let mut command = scene.client("grpc_client.py", &token);
    command.env("HOST_ASKED_FOR", "notes.tools.example");
    judge(&said(command).await);
}
