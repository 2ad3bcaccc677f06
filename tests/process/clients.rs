//! Real clients, unchanged but for base URL and token.

use crate::backend::Backend;
use crate::gate::{Gate, Setup};
use crate::wait::{run, run_with_input, within};
use bytes::Bytes;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A tool as an agent's programmer knows it: users, notes, a download, an event stream.
pub fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot: {{ scopes: {{ users: on_use, notes: on_use, files: on_use }} }}
  other: {{ scopes: {{ users.delete: on_use }} }}
tools:
  crm:
    mount: /crm
    upstream:
      url: http://{}
      credential: {{ header: authorization, value: \"Bearer of-the-backend\" }}
    routes:
      - {{ id: users.list, match: GET /users, scope: users }}
      - {{ id: users.read, match: 'GET /users/{{user_id}}', scope: users }}
      - {{ id: users.delete, match: 'DELETE /users/{{user_id}}', scope: users.delete, approval: never }}
      - {{ id: notes.add, match: 'POST /users/{{user_id}}/notes', scope: notes }}
      - {{ id: files.read, match: GET /big, scope: files }}
      - {{ id: files.write, match: PUT /sink, scope: files }}
      - {{ id: files.events, match: GET /events, scope: files }}
",
        backend.address
    )
}

struct Scene {
    gate: Gate,
    backend: Backend,
    token: String,
    _setup: Setup,
}

impl Scene {
    async fn open() -> Self {
        let backend = Backend::start("crm").await;
        let setup = Setup::new("demo", &policy(&backend));
        let gate = setup.start().await;
        let token = gate.mint("demo", "bot").await.token;
        Self {
            gate,
            backend,
            token,
            _setup: setup,
        }
    }

    fn base(&self) -> String {
        format!("http://{}/crm", self.gate.agents)
    }

    /// A program that finds base URL and token where its programmer put them.
    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("BASE_URL", self.base())
            .env("TOKEN", &self.token)
            .env("PYTHONIOENCODING", "utf-8");
        for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command
    }

    fn python(&self, script: &str) -> Command {
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/bin/python");
        assert!(
            std::path::Path::new(python).exists(),
            "the Python clients are missing; ./test installs them"
        );
        let mut command = self.client(python);
        command.arg(script_path(script));
        command
    }
}

pub fn script_path(script: &str) -> String {
    format!(
        "{}/tests/process/clients/{script}",
        env!("CARGO_MANIFEST_DIR")
    )
}

pub async fn said(command: Command) -> Value {
    let output = run(command).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the client ends well: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|fault| panic!("{fault}: {output:?}"))
}

/// What the backend saw of a call: the agent's request, on the backend's credential and without the session's.
pub fn arrived(echo: &Value, method: &str, target: &str, body: &str) {
    assert_eq!(
        [&echo["method"], &echo["target"], &echo["body"]],
        [method, target, body],
        "{echo}"
    );
    let fields = echo["fields"].as_array().unwrap();
    let credentials: Vec<&Value> = fields
        .iter()
        .filter(|field| field[0] == "authorization")
        .map(|field| &field[1])
        .collect();
    assert_eq!(credentials, ["Bearer of-the-backend"], "{echo}");
    assert!(
        !echo.to_string().contains("tgs_"),
        "the session's token stays here: {echo}"
    );
}

/// A refusal that a language model can act on.
pub fn refused(answer: &Value) {
    assert_eq!(answer[0], 403, "{answer}");
    assert_eq!(answer[1]["reason"], "scope_outside_ceiling", "{answer}");
    assert!(
        answer[1]["detail"]
            .as_str()
            .is_some_and(|detail| detail.len() > 20),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_works_through_the_gate() {
    let scene = Scene::open().await;
    let curl = |arguments: &[&str], path: &str| {
        let mut command = scene.client("curl");
        command.args(["-sS", "--noproxy", "*", "--max-time", "60", "-H"]);
        command
            .arg(format!("Authorization: Bearer {}", scene.token))
            .args(arguments)
            .arg(scene.base() + path);
        command
    };
    arrived(
        &said(curl(&[], "/users?q=ada%20lovelace&page=2")).await,
        "GET",
        "/users?q=ada%20lovelace&page=2",
        "",
    );
    arrived(
        &said(curl(&["-d", "text=hello"], "/users/7/notes")).await,
        "POST",
        "/users/7/notes",
        "text=hello",
    );

    // A body of unknown length, which curl sends chunked; then one so large that it asks `Expect: 100-continue`.
    let piped = run_with_input(
        curl(&["-T", "-", "-H", "Expect:"], "/sink"),
        b"piped".repeat(1000),
    )
    .await;
    assert_eq!(
        serde_json::from_slice::<Value>(&piped.stdout).unwrap(),
        json!({ "bytes": 5000 })
    );
    let large = vec![b'x'; 5_000_000];
    let expect = [
        "-X",
        "PUT",
        "--data-binary",
        "@-",
        "-H",
        "Expect: 100-continue",
    ];
    let expected = run_with_input(curl(&expect, "/sink"), large).await;
    assert_eq!(
        serde_json::from_slice::<Value>(&expected.stdout).unwrap(),
        json!({ "bytes": 5_000_000 })
    );

    let head = run(curl(&["-I"], "/users")).await;
    assert!(head.stdout.starts_with(b"HTTP/1.1 200"), "{head:?}");
    let big = run(curl(&[], "/big?bytes=3000000")).await;
    assert_eq!(big.stdout.len(), 3_000_000);

    let gone = run(curl(
        &[
            "-X",
            "DELETE",
            "-w",
            "%{http_code}",
            "-o",
            "/dev/null",
            "--fail",
        ],
        "/users/8",
    ))
    .await;
    assert_eq!(
        (gone.status.code(), gone.stdout.as_slice()),
        (Some(22), b"403".as_slice()),
        "curl --fail says so"
    );
    assert_eq!(scene.backend.seen("DELETE /users/8"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_sends_no_more_once_its_upload_is_whole_gets_its_answer() {
    use std::io::{Read as _, Write as _};
    let scene = Scene::open().await;
    let (agents, token) = (scene.gate.agents, scene.token.clone());
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(agents).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let head = format!(
            "PUT /crm/sink HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {token}\r\ncontent-length: 100000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&[b'x'; 100_000]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = within(Duration::from_secs(60), "the answer", answer)
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(r#"{"bytes":100000}"#), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_route_does_not_upgrade_stays_http() {
    let scene = Scene::open().await;
    let websocket = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let h2c = [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    ];
    for fields in [&websocket[..], &h2c] {
        let mut curl = scene.client("curl");
        curl.args([
            "-sS",
            "--http1.1",
            "--noproxy",
            "*",
            "--max-time",
            "60",
            "-H",
        ]);
        curl.arg(format!("Authorization: Bearer {}", scene.token));
        fields.iter().for_each(|field| {
            curl.args(["-H", field]);
        });
        curl.arg(scene.base() + "/users");
        let echo = said(curl).await;
        arrived(&echo, "GET", "/users", "");
        let names = echo["fields"].to_string().to_ascii_lowercase();
        for name in ["\"upgrade\"", "http2-settings", "\"connection\""] {
            assert!(!names.contains(name), "{names}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_requests_works_through_the_gate() {
    let scene = Scene::open().await;
    let told = said(scene.python("requests_client.py")).await;
    arrived(&told["found"], "GET", "/users?q=ada+lovelace&page=2", "");
    arrived(
        &told["made"],
        "POST",
        "/users/7/notes",
        told["made"]["body"].as_str().unwrap(),
    );
    let note: Value = serde_json::from_str(told["made"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(note, json!({ "text": "grüße" }));
    arrived(&told["piped"], "POST", "/users/7/notes", "one two three");
    assert_eq!(told["head"], json!([200, 0]));
    refused(&told["gone"]);
    assert_eq!(told["size"], 3_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_httpx_works_through_the_gate() {
    let scene = Scene::open().await;
    let told = said(scene.python("httpx_client.py")).await;
    let target = told["found"]["target"].as_str().unwrap().to_owned();
    assert!(
        [
            "/users?q=ada+lovelace&page=2",
            "/users?q=ada%20lovelace&page=2"
        ]
        .contains(&target.as_str()),
        "{target}"
    );
    arrived(&told["found"], "GET", &target, "");
    refused(&told["gone"]);
    let crowd: Vec<String> = (0..100).map(|number| format!("/users/{number}")).collect();
    assert_eq!(
        told["crowd"],
        json!(crowd),
        "a hundred at once, each with its own answer"
    );
    assert_eq!(told["size"], 3_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_fetch_works_through_the_gate() {
    let scene = Scene::open().await;
    let mut node = scene.client("node");
    node.arg(script_path("fetch.mjs"));
    let told = said(node).await;
    arrived(&told["found"], "GET", "/users?q=ada%20lovelace&page=2", "");
    arrived(
        &told["made"],
        "POST",
        "/users/7/notes",
        r#"{"text":"grüße"}"#,
    );
    arrived(&told["piped"], "POST", "/users/7/notes", "one two three");
    refused(&told["gone"]);
    assert_eq!(told["size"], 3_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_stream_client_has_each_event_before_the_next_is_sent() {
    let scene = Scene::open().await;
    let events = scene.backend.events();
    let mut child = scene
        .python("sse_client.py")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for number in 0..20 {
        let event = format!("event: tick\ndata: {number}\n\n");
        within(
            Duration::from_secs(60),
            "the stream takes an event",
            events.send(Bytes::from(event)),
        )
        .await
        .unwrap();
        // Nothing else is under way: the client can only have this line from this event.
        let read = tokio::task::spawn_blocking(move || (lines.next(), lines));
        let (line, rest) = within(Duration::from_secs(60), "the client has the event", read)
            .await
            .unwrap();
        assert_eq!(line.unwrap().unwrap(), format!("tick {number}"));
        lines = rest;
    }
    drop(events);
    let rest: Vec<String> =
        tokio::task::spawn_blocking(move || lines.map(Result::unwrap).collect())
            .await
            .unwrap();
    assert_eq!(rest, ["end"]);
    assert!(child.wait().unwrap().success());
}
