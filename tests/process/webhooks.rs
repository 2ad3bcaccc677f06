//! Webhooks, received by the library of Standard Webhooks for Python: every one of them verifies, and none is lost.

use crate::backend::Backend;
use crate::client::{self, Connection, Payload};
use crate::gate::{Gate, Role, Setup};
use crate::program::{Program, python};
use crate::visit::Visit;
use crate::wait::until;
use crate::wire::pki::Authority;
use http::Method;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

const OLD: &str = "whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk";
const NEW: &str = "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3";

/// What tells the receiver apart from others on its host, and is no affair of the log's.
const PLACE: &str = "/hooks/T0KEN-of-the-place";

struct Scene {
    setup: Setup,
    backend: Backend,
    /// Where the receiver is, up or down.
    port: u16,
    scheme: &'static str,
}

/// What the receiver says of a message.
struct Said(Value);

impl Scene {
    async fn new(scheme: &'static str) -> Self {
        // Taken and given back, so that a receiver can come and go there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        let backend = Backend::start("t").await;
        let role = |name, roles| Role {
            name,
            roles,
            projects: "demo",
        };
        let root = role("root", "issuer, operator, auditor");
        let setup = Setup::with(&[("demo", "")], &[root, role("dana", "approver")]);
        setup.edit_server(|text| {
            text.replace("roles: [approver],", "roles: [approver], groups: [leads],")
        });
        let scene = Self {
            setup,
            backend,
            port,
            scheme,
        };
        std::fs::write(scene.file("old"), OLD).unwrap();
        std::fs::write(scene.file("new"), NEW).unwrap();
        scene.signs_with(&format!(
            "secret: {{ file: {} }}",
            scene.file("old").display()
        ));
        scene
    }

    fn file(&self, name: &str) -> PathBuf {
        self.setup.config().with_file_name(name)
    }

    fn signs_with(&self, secrets: &str) {
        let Self { port, scheme, .. } = self;
        let backend = self.backend.address;
        let yaml = format!(
            "version: 1
project: demo
agents: {{ bot: {{ scopes: {{ remove: on_use }} }} }}
tools:
  t:
    mount: /t
    upstream: {{ url: 'http://{backend}' }}
    routes: [{{ id: items.delete, match: 'DELETE /items/{{item}}', scope: remove, resource: 'item:{{item}}' }}]
approvals:
  default: {{ approvers: [leads], notify: [ops] }}
notify:
  ops: {{ webhook: {{ url: '{scheme}://127.0.0.1:{port}{PLACE}', {secrets} }} }}
"
        );
        self.setup.write_project("demo", &yaml);
    }

    /// A receiver that knows these secrets, and begins with these answers.
    fn receiver(&self, secrets: &[&str], answers: &str) -> Program {
        let mut command = python("webhook_receiver.py");
        command
            .arg(self.port.to_string())
            .env("SECRETS", secrets.join(" "))
            .env("ANSWERS", answers);
        if self.scheme == "https" {
            command
                .env("CERTIFICATE", self.file("receiver.pem"))
                .env("KEY", self.file("receiver.key"));
        }
        let receiver = Program::start(command);
        assert_eq!(receiver.says(), format!("port {}", self.port));
        receiver
    }
}

/// A session comes into quarantine; its id.
async fn quarantine(gate: &Gate) -> String {
    let session = gate.mint("demo", "bot").await.id;
    let path = format!("/v1/sessions/{session}/quarantine");
    let reason = json!({"reason": "it looks strange"});
    gate.admin(Method::POST, &path, &reason).await.expect(200);
    session
}

async fn counts(gate: &Gate, result: &str, least: f64) {
    let label = format!("result=\"{result}\"");
    until("webhooks are counted", || async {
        let name = "toolgate_webhook_deliveries_total";
        (gate
            .metric(name, &["project=\"demo\"", "target=\"ops\"", &label])
            .await
            >= least)
            .then_some(())
    })
    .await;
}

fn next(receiver: &Program) -> Said {
    Said(serde_json::from_str(&receiver.says()).unwrap())
}

impl Said {
    /// Of which session, if it verified with the only secret that the receiver knows.
    fn verified(&self) -> String {
        assert_eq!(self.0["good"], json!([true]), "{}", self.0);
        assert_eq!(self.0["path"], PLACE);
        let event = &self.0["event"];
        assert_eq!(event["type"], "session.quarantined");
        assert_eq!(event["data"]["agent"], "bot");
        assert_eq!(event["data"]["reason"], "it looks strange");
        event["data"]["session"].as_str().unwrap().to_owned()
    }

    fn id(&self) -> &str {
        self.0["id"].as_str().unwrap()
    }
}

/// Nothing of what is secret has been said.
fn keeps_secrets(gate: &Gate) {
    for secret in [OLD, NEW, PLACE] {
        assert!(!gate.said(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_webhook_verifies_while_the_secret_is_rotated_and_links_to_the_console() {
    let scene = Scene::new("http").await;
    let gate = scene.setup.start().await;
    let receiver = scene.receiver(&[OLD], "");
    for _ in 0..5 {
        let session = quarantine(&gate).await;
        let said = next(&receiver);
        assert_eq!(said.verified(), session);
        let url = format!("http://{}/sessions/{session}", gate.admin);
        assert_eq!(said.0["event"]["data"]["url"], url.as_str());
    }
    // The gate changes over first, the receiver then: neither moment fails a message.
    let (old, new) = (scene.file("old"), scene.file("new"));
    scene.signs_with(&format!(
        "secret: {{ file: {} }}, previous_secret: {{ file: {} }}",
        new.display(),
        old.display()
    ));
    gate.runs(&scene.setup.project_file("demo")).await;
    let session = quarantine(&gate).await;
    assert_eq!(next(&receiver).verified(), session);
    drop(receiver);
    let receiver = scene.receiver(&[NEW], "");
    let session = quarantine(&gate).await;
    assert_eq!(next(&receiver).verified(), session);
    scene.signs_with(&format!("secret: {{ file: {} }}", new.display()));
    gate.runs(&scene.setup.project_file("demo")).await;
    let session = quarantine(&gate).await;
    assert_eq!(next(&receiver).verified(), session);
    counts(&gate, "delivered", 8.0).await;
    assert_eq!(gate.metric("toolgate_webhook_queue", &[]).await, 0.0);
    keeps_secrets(&gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_decides_is_told_what_is_asked_and_what_was_decided_and_nothing_that_was_sent() {
    let scene = Scene::new("http").await;
    let gate = scene.setup.start().await;
    let receiver = scene.receiver(&[OLD], "");
    let session = gate.mint("demo", "bot").await;
    let mut agent = Connection::open(gate.agents, &session.token).await.unwrap();
    let fields = [
        ("prefer", "respond-async"),
        ("toolgate-intent", "tidying up"),
        ("x-note", "F1ELD"),
    ];
    let body = Payload::from(bytes::Bytes::from_static(b"B0DY"));
    let path = "/t/items/7?why=QU3RY";
    let answer = agent
        .start(Method::DELETE, path, &fields, body)
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);

    let asked = next(&receiver);
    assert_eq!(asked.0["good"], json!([true]));
    let event = &asked.0["event"];
    assert_eq!(event["type"], "approval.requested");
    let data = &event["data"];
    for (name, value) in [
        ("agent", "bot"),
        ("session", &session.id),
        ("route", "items.delete"),
        ("resource", "item:7"),
        ("method", "DELETE"),
        ("stage", "pending"),
        ("intent", "tidying up"),
        ("chain", "default"),
    ] {
        assert_eq!(data[name], value, "{event}");
    }
    let approval = data["approval"].as_str().unwrap();
    let url = format!("http://{}/approvals/{approval}", gate.admin);
    assert_eq!(data["url"], url.as_str());

    let dana = scene.setup.key("dana");
    let path = format!("/v1/approvals/{approval}");
    let shown = client::get(gate.admin, dana, &path)
        .await
        .expect(200)
        .json();
    let denial = json!({"decision": "deny", "digest": shown["digest"], "note": "N0TE"});
    let path = format!("{path}/decision");
    let answer = client::call(gate.admin, dana, Method::POST, &path, &denial).await;
    answer.expect(200);
    let decided = next(&receiver);
    assert_eq!(decided.0["good"], json!([true]));
    let event = &decided.0["event"];
    assert_eq!(event["type"], "approval.decided");
    assert_eq!(event["data"]["stage"], "denied");
    assert_eq!(event["data"]["decided_by"], "dana");
    assert_eq!(event["data"]["approval"], approval);
    for said in [&asked.0, &decided.0] {
        for sent in ["B0DY", "QU3RY", "F1ELD", "N0TE", &session.token] {
            assert!(!said.to_string().contains(sent), "{sent}: {said}");
        }
    }
    keeps_secrets(&gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_down_for_a_while_loses_nothing_though_the_gate_is_killed_meanwhile() {
    let scene = Scene::new("http").await;
    let gate = scene.setup.start().await;
    let mut told = HashSet::new();
    let mut messages: HashMap<String, String> = HashMap::new();
    let mut hears = |receiver: &Program| {
        let said = next(receiver);
        let session = said.verified();
        let known = messages
            .entry(session.clone())
            .or_insert(said.id().to_owned());
        assert_eq!(known, said.id(), "a message keeps its id");
        session
    };
    let receiver = scene.receiver(&[OLD], "");
    told.insert(quarantine(&gate).await);
    assert!(told.contains(&hears(&receiver)));
    drop(receiver);
    for _ in 0..20 {
        told.insert(quarantine(&gate).await);
    }
    counts(&gate, "failed", 4.0).await;
    // The last is killed as soon as it was acknowledged: before anybody could have sent it.
    told.insert(quarantine(&gate).await);
    gate.kill();

    let gate = scene.setup.start().await;
    told.insert(quarantine(&gate).await);
    let receiver = scene.receiver(&[OLD], "503");
    let mut heard: HashSet<String> = HashSet::new();
    while heard.len() + 1 < told.len() {
        heard.insert(hears(&receiver));
    }
    assert!(heard.is_subset(&told), "nothing that did not happen");
    until("nothing waits any more", || async {
        (gate.metric("toolgate_webhook_queue", &[]).await == 0.0).then_some(())
    })
    .await;
    keeps_secrets(&gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_stalls_is_given_fifteen_seconds_and_asked_again() {
    let scene = Scene::new("http").await;
    let gate = scene.setup.start().await;
    let receiver = scene.receiver(&[OLD], "0");
    let session = quarantine(&gate).await;
    let first = next(&receiver);
    // Its call is in flight; the gate and its admin API are not held up by it.
    let other = quarantine(&gate).await;
    assert_eq!(next(&receiver).verified(), other);
    let again = next(&receiver);
    assert_eq!(
        (first.verified(), again.verified()),
        (session.clone(), session)
    );
    assert_eq!(first.id(), again.id());
    counts(&gate, "failed", 1.0).await;
    assert!(gate.said("it took longer than 15 s"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_over_tls_must_be_who_it_should_be() {
    let scene = Scene::new("https").await;
    let authority = Authority::new();
    let server = authority.server();
    std::fs::write(scene.file("ca.pem"), authority.pem()).unwrap();
    std::fs::write(scene.file("receiver.pem"), server.certificate).unwrap();
    std::fs::write(scene.file("receiver.key"), server.key).unwrap();
    let receiver = scene.receiver(&[OLD], "");
    let stranger = Authority::new();
    std::fs::write(scene.file("stranger.pem"), stranger.pem()).unwrap();
    let trusting = |file: &str| {
        let mut command = scene.setup.serve(&[]);
        command.env("SSL_CERT_FILE", scene.file(file));
        command.env_remove("SSL_CERT_DIR");
        command
    };
    let gate = scene.setup.started(trusting("stranger.pem")).await;
    let session = quarantine(&gate).await;
    counts(&gate, "failed", 1.0).await;
    gate.kill();
    let gate = scene.setup.started(trusting("ca.pem")).await;
    assert_eq!(next(&receiver).verified(), session);
    counts(&gate, "delivered", 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_wants_no_more_leaves_a_dead_letter_that_outlives_the_gate() {
    let scene = Scene::new("http").await;
    let mut gate = scene.setup.start().await;
    let receiver = scene.receiver(&[OLD], "410");
    let lost = quarantine(&gate).await;
    next(&receiver);
    counts(&gate, "dead", 1.0).await;
    let dead = ["state=\"dead\""];
    assert_eq!(gate.metric("toolgate_webhook_queue", &dead).await, 1.0);
    gate.signal("TERM");
    assert!(gate.ended().await.success());
    let gate = scene.setup.start().await;
    assert_eq!(gate.metric("toolgate_webhook_queue", &dead).await, 1.0);
    // Operators see it on every page, and on the policy's what it was, where it was to go and why it did not.
    let visit = Visit::begin(gate.admin, scene.setup.key("root")).await;
    let sessions = visit.page("/sessions").await.expect(200);
    assert!(
        sessions
            .text()
            .contains("One message to the webhook ops of demo could not be delivered"),
        "{}",
        sessions.text()
    );
    let policy = visit.page("/policy").await.expect(200);
    let (_, told) = policy.text().split_once("id=\"told-demo\"").unwrap();
    let told = told.split("</section>").next().unwrap();
    for part in [
        "Dead letters",
        "session.quarantined",
        &format!("href=\"/sessions/{lost}\""),
        "410",
        "after 1 attempt",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains(PLACE) && !told.contains(OLD), "{told}");
    let other = Visit::begin(gate.admin, scene.setup.key("dana")).await;
    let inbox = other.page("/").await.expect(200);
    assert!(
        !inbox.text().contains("could not be delivered"),
        "only operators"
    );
    // A restart gives it another chance.
    let session = quarantine(&gate).await;
    assert_eq!(next(&receiver).verified(), session);
}
