//! Real WebSocket clients against a real WebSocket server, and what ends their tunnels.

use crate::clients::script_path;
use crate::gate::{Gate, Minted, Setup};
use crate::program::{Program, python};
use crate::telemetry::collector::{CLIENT, Collector, SERVER, attribute, failed, holds};
use crate::wait::until;
use crate::wire::pki::{self, Authority};
use http::Method;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

fn node(name: &str) -> Command {
    let mut command = Command::new("node");
    command
        .arg(script_path(name))
        .env("NODE_PATH", "/usr/share/nodejs");
    command
}

struct Scene {
    backend: Program,
    setup: Setup,
    gate: Gate,
    session: Minted,
    scheme: &'static str,
}

impl Scene {
    async fn open() -> Self {
        Self::over("http").await
    }

    /// Agents come by `scheme`, `http` or `https`.
    async fn over(scheme: &'static str) -> Self {
        Self::after(scheme, |_| {}).await
    }

    /// As [`Scene::over`], with the server file prepared.
    async fn after(scheme: &'static str, prepare: impl FnOnce(&Setup)) -> Self {
        let backend = Program::start(python("ws_server.py"));
        let port = backend.says();
        let policy = format!(
            "version: 1
project: demo
agents: {{ bot: {{ scopes: {{ feed: on_use }} }} }}
tools:
  crm:
    mount: /crm
    upstream:
      url: http://127.0.0.1:{}/
      credential: {{ header: authorization, value: Bearer of-the-backend }}
    routes:
      - {{ id: feed, match: GET /feed, scope: feed, upgrade: websocket }}
",
            port.strip_prefix("port ").unwrap()
        );
        let setup = Setup::new("demo", &policy);
        if scheme == "https" {
            encrypt(&setup);
        }
        prepare(&setup);
        let gate = setup.start_with(&["--drain", "1"]).await;
        let session = gate.mint("demo", "bot").await;
        Self {
            backend,
            setup,
            gate,
            session,
            scheme,
        }
    }

    fn base(&self) -> String {
        format!("{}://{}/crm", self.scheme, self.gate.agents)
    }

    /// A client that has had its echoes.
    fn connected(&self, mut client: Command, stay: &str) -> Program {
        client
            .env("BASE_URL", self.base())
            // Where Python, Node and nobody else look for authorities.
            .env("SSL_CERT_FILE", authorities(&self.setup))
            .env("NODE_EXTRA_CA_CERTS", authorities(&self.setup))
            .env("TOKEN", &self.session.token)
            .env("STAY", stay);
        let client = Program::start(client);
        assert_eq!(client.says(), "echoed chat");
        assert_eq!(self.backend.says(), "open Bearer of-the-backend chat");
        client
    }

    /// The outcome of the one call, once it has one.
    async fn outcome(&self) -> Value {
        until("the outcome is on record", || async {
            crate::ledger::lines(&self.setup.ledger())
                .iter()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .find(|line| line["kind"] == "outcome")
        })
        .await
    }
}

fn authorities(setup: &Setup) -> PathBuf {
    setup.config().with_file_name("ca.pem")
}

/// Gives the agents' listener a certificate.
fn encrypt(setup: &Setup) {
    let authority = Authority::new();
    let (config, ca) = (setup.config(), authorities(setup));
    authority.server().write(config.parent().unwrap(), "gate");
    pki::put(&ca, &authority.pem());
    setup.edit_server(|server| {
        let plain = "{ address: 127.0.0.1:0 }";
        let named = |name| config.with_file_name(name).display().to_string();
        let tls = format!(
            "{{ address: 127.0.0.1:0, tls: {{ certificate: {}, private_key: {} }} }}",
            named("gate.pem"),
            named("gate.key")
        );
        assert!(server.contains(plain), "{server}");
        server.replacen(plain, &tls, 1)
    });
}

/// The session's end, within the second that is promised (and some for a busy machine).
const CUT_MAX: Duration = Duration::from_millis(1500);

async fn works(client: Command) {
    works_in(Scene::open().await, client).await;
}

async fn works_in(scene: Scene, client: Command) {
    let client = scene.connected(client, "no");
    assert!(client.says().starts_with("closed 100"));
    assert!(scene.backend.says().starts_with("closed 100"));
    let outcome = scene.outcome().await;
    assert_eq!(outcome["status"], 101, "{outcome}");
    assert_eq!(outcome.get("fault"), None, "{outcome}");
    // Two messages, however they were cut into frames, a ping or its pong, and the Close of both.
    for way in ["received", "sent"] {
        assert!(outcome["frames"][way].as_u64() >= Some(4), "{outcome}");
    }
    assert!(outcome["bytes_in"].as_u64() > Some(1_000_000), "{outcome}");
    assert!(outcome["bytes_out"].as_u64() > Some(1_000_000), "{outcome}");
}

async fn is_cut(client: Command) {
    let scene = Scene::open().await;
    let client = scene.connected(client, "yes");
    scene
        .gate
        .admin(
            Method::DELETE,
            &format!("/v1/sessions/{}", scene.session.id),
            (),
        )
        .await
        .expect(200);
    assert_eq!(client.within(CUT_MAX), "closed 1008");
    assert_eq!(scene.backend.within(CUT_MAX), "closed 1001");
    let outcome = scene.outcome().await;
    assert_eq!(outcome["fault"], "session_ended", "{outcome}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_websockets_works_through_the_gate() {
    works(python("ws_client.py")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_ws_works_through_the_gate() {
    works(node("ws_client.cjs")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_clients_work_over_tls() {
    works_in(Scene::over("https").await, python("ws_client.py")).await;
    works_in(Scene::over("https").await, node("ws_client.cjs")).await;
}

/// Debian's curl has no `ws://`: it asks for the upgrade as for any other, and shows the tunnel's bytes as they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_opens_a_websocket_and_is_shown_its_close() {
    let scene = Scene::open().await;
    let curl = Command::new("curl")
        .args(["--silent", "--no-buffer", "--include", "--http1.1"])
        .args(["--max-time", "30"])
        .args(["-H", "Connection: Upgrade", "-H", "Upgrade: websocket"])
        .args(["-H", "Sec-WebSocket-Version: 13"])
        .args(["-H", "Sec-WebSocket-Protocol: chat"])
        .args(["-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="])
        .args([
            "-H",
            &format!("Authorization: Bearer {}", scene.session.token),
        ])
        .arg(format!("{}/feed", scene.base()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(scene.backend.says(), "open Bearer of-the-backend chat");
    let session = format!("/v1/sessions/{}", scene.session.id);
    scene
        .gate
        .admin(Method::DELETE, &session, ())
        .await
        .expect(200);
    let output = tokio::task::spawn_blocking(|| curl.wait_with_output());
    let shown = output.await.unwrap().unwrap().stdout;
    let text = String::from_utf8_lossy(&shown);
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    // The example of RFC 6455, section 1.3.
    assert!(text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
    // A Close frame with 1008, policy violation.
    let close = shown
        .windows(4)
        .any(|at| at[0] == 0x88 && at[2..] == [0x03, 0xf0]);
    assert!(close, "{shown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_websocket_is_cut_within_a_second_when_its_session_is_revoked() {
    is_cut(python("ws_client.py")).await;
    is_cut(node("ws_client.cjs")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_of_a_websocket_hear_that_the_gate_stops() {
    let mut scene = Scene::open().await;
    let client = scene.connected(python("ws_client.py"), "yes");
    scene.gate.signal("TERM");
    // Once the drain's bound has passed: a tunnel never finishes by itself.
    assert_eq!(client.says(), "closed 1001");
    assert_eq!(scene.backend.says(), "closed 1001");
    scene.gate.ended().await;
    let outcome = scene.outcome().await;
    assert_eq!(outcome["fault"], "gate_stopped", "{outcome}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_is_told_of_once_it_is_closed() {
    let collector = Collector::start().await;
    let scene = Scene::after("http", |setup| collector.of(setup)).await;
    let client = scene.connected(python("ws_client.py"), "no");
    assert!(client.says().starts_with("closed 100"));
    let spans = collector.spans(2).await;
    let server = spans.iter().find(|span| span.kind == SERVER).unwrap();
    let client = spans.iter().find(|span| span.kind == CLIENT).unwrap();
    assert_eq!(client.parent_span_id, server.span_id);
    for span in [server, client] {
        assert!(!failed(span));
        holds(span, &[("http.response.status_code", "101")]);
    }
    let outcome = scene.outcome().await;
    for way in ["received", "sent"] {
        let key = format!("toolgate.frames.{way}");
        let frames = attribute(server, &key).unwrap();
        assert_eq!(outcome["frames"][way].to_string(), frames);
    }
}
