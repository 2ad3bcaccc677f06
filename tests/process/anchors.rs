//! Anchors of the real gate: what it signs reaches a file and a receiver on the library of Standard Webhooks for Python,
//! through a receiver that is down for a while and a gate that is killed.

use crate::gate::{Gate, Setup};
use crate::program::{Program, python};
use crate::wait::until;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use toolgate::ledger::checkpoint::{Checkpoint, notes};
use toolgate::ledger::note::{Note, VerifierKey};

const SECRET: &str = "whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk";
const PLACE: &str = "/anchors/T0KEN-of-the-place";
const YAML: &str = "version: 1
project: demo
agents: { bot: { scopes: { read: on_use } } }
tools:
  t:
    mount: /t
    upstream: { url: 'http://127.0.0.1:9' }
    routes: [{ id: items.read, match: 'GET /items', scope: read }]
";

struct Scene {
    setup: Setup,
    port: u16,
}

impl Scene {
    fn new() -> Self {
        // Taken and given back, so that a receiver can come and go there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        let setup = Setup::new("demo", YAML);
        let scene = Scene { setup, port };
        let secret = scene.file("secret");
        std::fs::write(&secret, SECRET).unwrap();
        let anchor = format!(
            "/ledger, anchor: {{ every: 1s, file: '{}', webhook: {{ url: 'http://127.0.0.1:{port}{PLACE}', secret: {{ file: '{}' }} }} }} }}",
            scene.file("anchor").display(),
            secret.display()
        );
        let edit = |text: String| text.replace("/ledger }", &anchor);
        scene.setup.edit_server(edit);
        scene
    }

    fn file(&self, name: &str) -> PathBuf {
        self.setup.config().with_file_name(name)
    }

    fn receiver(&self, answers: &str) -> Program {
        let mut command = python("webhook_receiver.py");
        command
            .arg(self.port.to_string())
            .env("SECRETS", SECRET)
            .env("ANSWERS", answers);
        let receiver = Program::start(command);
        assert_eq!(receiver.says(), format!("port {}", self.port));
        receiver
    }
}

/// What the receiver got next, if its library found it good.
fn next(receiver: &Program) -> Value {
    let said: Value = serde_json::from_str(&receiver.says()).unwrap();
    assert_eq!(said["good"], json!([true]), "{said}");
    assert_eq!(said["path"], PLACE);
    assert_eq!(said["event"]["type"], "ledger.checkpoint");
    said
}

/// What a note says, if this key signed it.
fn signed(note: &[u8], key: &VerifierKey) -> Checkpoint {
    let note = Note::parse(note).unwrap();
    note.by(std::slice::from_ref(key)).unwrap();
    Checkpoint::of(&note).unwrap()
}

fn all(file: &Path, key: &VerifierKey) -> Vec<Checkpoint> {
    let bytes = std::fs::read(file).unwrap();
    notes(&bytes).map(|(note, _)| signed(note, key)).collect()
}

/// As the gate says it in its log.
async fn vkey(gate: &Gate) -> VerifierKey {
    let said = until("the gate says who signs", || async {
        let mut lines = gate.lines("{").into_iter();
        lines.find(|line| line.contains("\"vkey\":"))
    });
    let line: Value = serde_json::from_str(&said.await).unwrap();
    let vkey = line["fields"]["vkey"].as_str().or(line["vkey"].as_str());
    VerifierKey::parse(vkey.unwrap()).unwrap()
}

async fn counted(gate: &Gate, kind: &str, result: &str, least: f64) {
    let labels = [format!("kind=\"{kind}\""), format!("result=\"{result}\"")];
    until("checkpoints are counted", || async {
        let labels = [labels[0].as_str(), labels[1].as_str()];
        let count = gate.metric("toolgate_ledger_anchors_total", &labels).await;
        (count >= least).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gate_signs_reaches_its_anchors_though_one_is_down_and_the_gate_is_killed() {
    let scene = Scene::new();
    let mut gate = scene.setup.start().await;
    let key = vkey(&gate).await;
    counted(&gate, "webhook", "failed", 1.0).await;
    counted(&gate, "file", "anchored", 1.0).await;
    gate.mint("demo", "bot").await;
    // 500 and 409 are not the end of it.
    let receiver = scene.receiver("500 409");
    let (first, second, third) = (next(&receiver), next(&receiver), next(&receiver));
    let size = |said: &Value| {
        let data = &said["event"]["data"];
        let checkpoint = signed(data["note"].as_str().unwrap().as_bytes(), &key);
        assert_eq!(data["size"], checkpoint.size);
        assert_eq!(data["origin"], &*checkpoint.origin);
        checkpoint.size
    };
    assert!(size(&first) <= size(&second) && size(&second) <= size(&third));
    counted(&gate, "webhook", "conflict", 1.0).await;
    counted(&gate, "webhook", "anchored", 1.0).await;
    let at = gate
        .metric(
            "toolgate_ledger_anchored_timestamp_seconds",
            &["kind=\"webhook\""],
        )
        .await;
    assert!(at > 1_600_000_000.0, "{at}");

    gate.kill();
    gate = scene.setup.start().await;
    assert_eq!(vkey(&gate).await, key);
    let after = next(&receiver);
    assert!(size(&after) >= size(&third));
    gate.signal("TERM");
    assert!(gate.ended().await.success());

    // The last of the ledger's own is the last that both have got.
    let own = all(&scene.setup.ledger().join("checkpoints"), &key);
    let anchored = all(&scene.file("anchor"), &key);
    assert_eq!(own.last(), anchored.last());
    assert!(anchored.iter().all(|one| own.contains(one)));
    let last = own.last().unwrap().size;
    while size(&next(&receiver)) < last {}
    for secret in [SECRET, "T0KEN"] {
        assert!(!gate.said(secret), "{secret}");
    }
}
