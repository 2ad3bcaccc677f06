//! Streams of a session that is revoked: they end within a second on every protocol, the ledger says why, and nobody
//! else's stream on the same connection is touched.

use super::call::{CALL, Call};
use super::content::Content;
use super::door::Talk;
use super::grpc;
use super::reference::Reference;
use super::scene::{Listening, Papers, setup};
use super::side::Side;
use crate::gate::{Gate, Minted};
use crate::ledger;
use crate::wait::{until, within};
use http::{Method, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A second, and some for a busy machine.
const SOON: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(60);

/// An open event stream of one session.
struct Stream {
    name: String,
    request: String,
    body: Incoming,
    call: Arc<Call>,
}

impl Stream {
    /// Opens one and waits for its first event.
    async fn open(talk: &mut Talk, backend: &Reference, name: String) -> Self {
        let call = backend.calls.of(&name);
        let fields = [(CALL, name.as_str())];
        let answer = talk.start(Method::GET, "/events", &fields, Content::Empty);
        let answer = within(PATIENCE, &name, answer).await.unwrap();
        assert_eq!(answer.status(), 200, "{name}");
        let request = answer.headers()["toolgate-request-id"].to_str().unwrap();
        let mut stream = Self {
            request: request.to_owned(),
            body: answer.into_body(),
            call,
            name,
        };
        stream.flows().await;
        stream
    }

    async fn flows(&mut self) {
        self.call.go.add_permits(1);
        let event = within(PATIENCE, &self.name, self.body.frame()).await;
        let event = event.unwrap_or_else(|| panic!("{}: ended", self.name));
        assert!(
            event.unwrap().data_ref().unwrap().starts_with(b"id: "),
            "{}",
            self.name
        );
    }

    /// Breaks off towards both sides.
    async fn is_cut(&mut self) {
        let cut = within(SOON, &self.name, self.body.frame()).await;
        assert!(
            matches!(cut, Some(Err(_))),
            "{}: it breaks off, and does not look complete: {cut:?}",
            self.name
        );
        within(PATIENCE, &self.name, self.call.left.notified()).await;
    }
}

async fn revoke(gate: &Gate, session: &Minted) {
    let path = format!("/v1/sessions/{}", session.id);
    gate.admin(Method::DELETE, &path, ()).await.expect(200);
}

/// Waits until the outcome of this request is on record, and gives it.
async fn outcome(directory: &Path, request: &str) -> Value {
    until("the outcome is on record", || async {
        let lines = ledger::lines(directory);
        lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|record| record["kind"] == "outcome" && record["request"] == request)
    })
    .await
}

/// Every side of the agents by every side of the backends: `bot`'s stream is revoked, and on HTTP/2 a second session's
/// stream on the same connection flows on.
async fn revoked_streams_end(listening: Listening, sides: &[Side]) {
    let papers = Papers::new();
    let mut backends = Vec::new();
    for side in sides {
        backends.push(papers.backend(*side).await);
    }
    let setup = setup(&papers, listening, &backends);
    let gate = setup.start().await;
    for agents in listening.serves() {
        for backend in &backends {
            let project = backend.side.name();
            let session = gate.mint(project, "bot").await;
            let other = gate.mint(project, "bot").await;
            let cell = format!("{} x {project}", agents.name());
            let door = papers.agent(*agents, &gate, &session.token);
            let mut talk = door.open().await.unwrap();
            let mut stream = Stream::open(&mut talk, backend, format!("{cell}, revoked")).await;
            let mut beside = if talk.version() == Version::HTTP_2 {
                talk.speak_for(&other.token);
                Some(Stream::open(&mut talk, backend, format!("{cell}, beside it")).await)
            } else {
                None
            };
            revoke(&gate, &session).await;
            stream.is_cut().await;
            if let Some(beside) = &mut beside {
                beside.flows().await;
            }
            let record = outcome(&setup.ledger(), &stream.request).await;
            assert_eq!(record["fault"], "session_ended", "{cell}: {record}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_sessions_event_streams_end_within_a_second_in_clear() {
    revoked_streams_end(Listening::Plain, &Side::ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_sessions_event_streams_end_within_a_second_over_tls() {
    revoked_streams_end(Listening::Tls, &Side::ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_sessions_event_streams_end_within_a_second_under_mutual_tls() {
    revoked_streams_end(Listening::MutualTls, &Side::ALL).await;
}

/// The next line a client says.
async fn line(
    lines: Lines<BufReader<ChildStdout>>,
    span: Duration,
    what: &str,
) -> (Value, Lines<BufReader<ChildStdout>>) {
    let mut lines = lines;
    let read = tokio::task::spawn_blocking(move || (lines.next(), lines));
    let (line, lines) = within(span, what, read).await.unwrap();
    (
        serde_json::from_str(&line.unwrap().unwrap()).unwrap(),
        lines,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_sessions_grpc_stream_ends_within_a_second() {
    for listening in [Listening::Plain, Listening::Tls] {
        let scene = grpc::Scene::open(listening).await;
        let session = scene.gate.mint("demo", "bot").await;
        let mut child = scene
            .client("grpc_follow.py", &session.token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (first, lines) = line(lines, PATIENCE, "the first message").await;
        assert_eq!(first, json!({ "number": 0 }));

        revoke(&scene.gate, &session).await;
        let (end, _) = line(lines, SOON, "the stream ends").await;
        assert_ne!(end["end"], "OK", "it does not look complete");
        assert!(end["end"].is_string(), "{end}");
        assert!(child.wait().unwrap().success());

        // The server was told too, and the ledger says why.
        let ended = until("the outcome is on record", || async {
            let lines = ledger::lines(&scene.setup.ledger());
            lines
                .into_iter()
                .find(|line| line.contains("session_ended"))
        })
        .await;
        let ended: Value = serde_json::from_str(&ended).unwrap();
        assert_eq!(
            [&ended["kind"], &ended["fault"]],
            ["outcome", "session_ended"]
        );
        let other = scene.gate.mint("demo", "bot").await;
        let told = crate::clients::said(scene.client("grpc_given.py", &other.token)).await;
        assert_eq!(told, json!({ "given_up": true }));
    }
}
