//! What flows through: gigabytes in little memory, and nothing for a session that has ended.

use crate::backend::Backend;
use crate::client::{Connection, Payload};
use crate::gate::{Gate, Minted, Setup};
use crate::wait::{until, within};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

const GIB: u64 = 1024 * 1024 * 1024;
const GROWTH_KIB_MAX: u64 = 32 * 1024;

fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents: {{ bot: {{ scopes: {{ files: on_use }} }} }}
tools:
  files:
    mount: /files
    upstream: {{ url: 'http://{}', timeout: 60s }}
    routes:
      - {{ id: download, match: GET /big, scope: files }}
      - {{ id: upload, match: PUT /sink, scope: files }}
      - {{ id: events, match: GET /events, scope: files }}
",
        backend.address
    )
}

async fn scene() -> (Backend, Setup, Gate, Minted) {
    let backend = Backend::start("files").await;
    let setup = Setup::new("demo", &policy(&backend));
    let gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    (backend, setup, gate, session)
}

async fn download(connection: &mut Connection, bytes: u64) {
    let answer = connection
        .start(
            Method::GET,
            &format!("/files/big?bytes={bytes}"),
            &[],
            ().into(),
        )
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame
            .unwrap()
            .data_ref()
            .map_or(0, |data| data.len() as u64);
    }
    assert_eq!(read, bytes);
}

async fn upload(connection: &mut Connection, bytes: u64) {
    let answer = connection
        .call(Method::PUT, "/files/sink", Payload::Zeros(bytes))
        .await
        .unwrap()
        .expect(200);
    assert_eq!(answer.json(), json!({ "bytes": bytes }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_in_each_direction_leaves_the_gates_memory_where_it_was() {
    let (_backend, _setup, gate, session) = scene().await;
    let mut connection = Connection::open(gate.agents, &session.token).await.unwrap();
    download(&mut connection, GIB / 1024).await;
    upload(&mut connection, GIB / 1024).await;
    let before = gate.memory_kib("VmRSS");

    within(
        Duration::from_secs(240),
        "a gibibyte down",
        download(&mut connection, GIB),
    )
    .await;
    within(
        Duration::from_secs(240),
        "a gibibyte up",
        upload(&mut connection, GIB),
    )
    .await;

    // The high-water mark, not what is left afterwards.
    let grown = gate.memory_kib("VmHWM").saturating_sub(before);
    assert!(
        grown < GROWTH_KIB_MAX,
        "grew by {grown} KiB from {before} KiB"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_reading_does_not_fill_the_gates_memory() {
    let (_backend, _setup, gate, session) = scene().await;
    let mut connection = Connection::open(gate.agents, &session.token).await.unwrap();
    download(&mut connection, GIB / 1024).await;
    let before = gate.memory_kib("VmRSS");
    let mut stalled = Vec::new();
    for _ in 0..16 {
        let mut connection = Connection::open(gate.agents, &session.token).await.unwrap();
        let path = format!("/files/big?bytes={GIB}");
        let answer = connection
            .start(Method::GET, &path, &[], ().into())
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        stalled.push((connection, answer));
    }
    // Meanwhile a brisk one gets everything: what the stalled ones left is not in its way, nor in the gate.
    download(&mut connection, GIB / 4).await;
    let grown = gate.memory_kib("VmHWM").saturating_sub(before);
    assert!(
        grown < GROWTH_KIB_MAX,
        "grew by {grown} KiB from {before} KiB"
    );
    drop(stalled);
}

/// An open event stream, with one event already through.
async fn open_stream(
    backend: &Backend,
    gate: &Gate,
    token: &str,
) -> (Sender<Bytes>, Incoming, Connection) {
    let events = backend.events();
    let mut connection = Connection::open(gate.agents, token).await.unwrap();
    let answer = connection
        .start(Method::GET, "/files/events", &[], ().into())
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    events.send(Bytes::from("data: first\n\n")).await.unwrap();
    let frame = within(Duration::from_secs(60), "the first event", body.frame())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(frame.into_data().unwrap(), "data: first\n\n");
    (events, body, connection)
}

/// The stream breaks off, towards both sides, within the second that is promised (and some for a busy machine).
async fn is_cut(mut body: Incoming, events: Sender<Bytes>) {
    let cut = within(
        Duration::from_millis(1500),
        "the stream is cut",
        body.frame(),
    )
    .await;
    assert!(!matches!(cut, Some(Ok(_))), "nothing more arrives: {cut:?}");
    assert!(
        matches!(cut, Some(Err(_))),
        "a stream that is cut does not look complete"
    );
    within(
        Duration::from_secs(10),
        "the backend's side is given up",
        events.closed(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_stream_is_cut_within_a_second_when_its_session_is_revoked() {
    let (backend, setup, gate, session) = scene().await;
    let (events, body, _connection) = open_stream(&backend, &gate, &session.token).await;
    gate.admin(Method::DELETE, &format!("/v1/sessions/{}", session.id), ())
        .await
        .expect(200);
    is_cut(body, events).await;
    until("the outcome is on record", || async {
        crate::ledger::lines(&setup.ledger())
            .iter()
            .any(|line| line.contains("session_ended"))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_stream_is_cut_within_a_second_when_its_session_is_quarantined() {
    let (backend, _setup, gate, session) = scene().await;
    let other = gate.mint("demo", "bot").await;
    let (events, body, _connection) = open_stream(&backend, &gate, &session.token).await;
    let (kept_events, mut kept_body, _kept) = open_stream(&backend, &gate, &other.token).await;
    let path = format!("/v1/sessions/{}/quarantine", session.id);
    gate.admin(Method::POST, &path, &json!({ "reason": "it rambles" }))
        .await
        .expect(200);
    is_cut(body, events).await;
    kept_events
        .send(Bytes::from("data: second\n\n"))
        .await
        .unwrap();
    let frame = within(
        Duration::from_secs(60),
        "another session's stream flows on",
        kept_body.frame(),
    )
    .await
    .unwrap();
    assert_eq!(frame.unwrap().into_data().unwrap(), "data: second\n\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_stream_is_cut_when_its_session_expires() {
    let (backend, _setup, gate, _) = scene().await;
    let brief = gate
        .mint_with(json!({ "project": "demo", "agent": "bot", "ttl": "3s" }))
        .await;
    let (events, mut body, _connection) = open_stream(&backend, &gate, &brief.token).await;
    let cut = within(Duration::from_secs(10), "the stream is cut", body.frame()).await;
    assert!(matches!(cut, Some(Err(_))), "{cut:?}");
    within(
        Duration::from_secs(10),
        "the backend's side is given up",
        events.closed(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_agent_has_left_is_cancelled_at_the_backend_and_recorded_so() {
    let (backend, setup, gate, session) = scene().await;
    let (events, body, connection) = open_stream(&backend, &gate, &session.token).await;
    drop((body, connection));
    within(
        Duration::from_secs(20),
        "the backend's side is given up",
        events.closed(),
    )
    .await;
    until("the outcome is on record", || async {
        crate::ledger::lines(&setup.ledger())
            .iter()
            .any(|line| line.contains("agent_left"))
            .then_some(())
    })
    .await;
}
