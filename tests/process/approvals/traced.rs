//! Calls that wait for people, as OpenTelemetry is told of them.

use super::scene::{DENY, Scene, policy, setup};
use super::talk::Order;
use crate::backend::Backend;
use crate::ledger::hex;
use crate::telemetry::collector::{CLIENT, Collector, INTERNAL, SERVER, failed, holds, one};
use serde_json::Value;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const AGAIN: &str = "1af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn within(order: Order, trace: &str, state: &str) -> Order {
    order
        .with("traceparent", format!("00-{trace}-{PARENT}-01"))
        .with("tracestate", state)
}

async fn open(collector: &Collector) -> Scene {
    let backend = Backend::start("t").await;
    let setup = setup(&policy(&backend));
    collector.of(&setup);
    let gate = setup.start().await;
    Scene {
        backend,
        setup,
        gate,
    }
}

/// What the backend was sent under a name.
fn sent<'e>(echo: &'e Value, name: &str) -> Vec<&'e str> {
    let fields = echo["fields"].as_array().unwrap().iter();
    let found = fields.filter(|field| field[0] == name);
    found.map(|field| field[1].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_call_is_told_of_with_its_wait_and_continues_its_agents_trace() {
    let collector = Collector::start().await;
    let scene = open(&collector).await;
    let session = scene.mint().await;
    let order = within(Order::post("/t/act/1").body("it"), TRACE, "a=1");
    let held = scene.sending(&session, &order);
    let shown = scene.asked("/t/act/1").await;
    scene.approve("dana", &shown).await;
    let echo = held.await.unwrap().expect(200).json();
    let spans = collector.spans(3).await;
    let (server, client) = (one(&spans, TRACE, SERVER), one(&spans, TRACE, CLIENT));
    let wait = one(&spans, TRACE, INTERNAL);
    assert_eq!(
        sent(&echo, "traceparent"),
        [format!("00-{TRACE}-{}-01", hex(&client.span_id))]
    );
    assert_eq!(sent(&echo, "tracestate"), ["a=1"]);
    assert_eq!(
        (wait.name.as_str(), &wait.parent_span_id),
        ("hold", &server.span_id)
    );
    assert!(wait.end_time_unix_nano <= client.start_time_unix_nano);
    for span in [server, wait] {
        holds(
            span,
            &[
                ("toolgate.approval.id", &shown.id),
                ("toolgate.decision", "allow"),
                ("toolgate.reason", "-"),
            ],
        );
    }
    holds(
        server,
        &[
            ("toolgate.grant", "on_use"),
            ("toolgate.resource", "item:1"),
        ],
    );
    assert!(!failed(server) && !failed(wait) && !failed(client));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_on_a_retry_belongs_to_the_retrys_trace_and_what_is_denied_has_no_backend() {
    let collector = Collector::start().await;
    let scene = open(&collector).await;
    let session = scene.mint().await;
    let first = within(Order::post("/t/act/2").body("it"), TRACE, "a=1");
    let shown = scene.ask(&session, &first).await;
    let spans = collector.spans(2).await;
    holds(
        one(&spans, TRACE, SERVER),
        &[
            ("http.response.status_code", "202"),
            ("toolgate.decision", "hold"),
            ("toolgate.reason", "pending_approval"),
        ],
    );
    scene.approve("dana", &shown).await;
    let again = within(Order::post("/t/act/2").body("it"), AGAIN, "b=2");
    let echo = scene.send(&session, &again).await.expect(200).json();
    let spans = collector.spans(5).await;
    let client = one(&spans, AGAIN, CLIENT);
    assert_eq!(
        sent(&echo, "traceparent"),
        [format!("00-{AGAIN}-{}-01", hex(&client.span_id))]
    );
    // What was kept is the first request's, and of another trace.
    assert_eq!(sent(&echo, "tracestate"), [""; 0]);

    let third = "2af7651916cd43dd8448eb211c80319c";
    let order = within(Order::post("/t/act/3").body("it"), third, "a=1");
    let held = scene.sending(&session, &order);
    let shown = scene.asked("/t/act/3").await;
    scene.decide("dana", &shown, DENY).await.expect(200);
    held.await.unwrap().expect(403);
    let spans = collector.spans(7).await;
    holds(
        one(&spans, third, SERVER),
        &[
            ("toolgate.decision", "deny"),
            ("toolgate.reason", "approval_denied"),
        ],
    );
    assert_eq!(one(&spans, third, INTERNAL).name, "hold");
    assert!(
        !spans
            .iter()
            .any(|span| hex(&span.trace_id) == third && span.kind == CLIENT)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_told_of_with_its_last_byte_and_says_if_it_had_none() {
    use crate::client::Connection;
    use http_body_util::BodyExt as _;

    let collector = Collector::start().await;
    let backend = Backend::start("t").await;
    let setup = setup(&policy(&backend).replace(
        "routes:\n",
        "routes:\n      - { id: stream, match: GET /events, scope: plain }\n",
    ));
    collector.of(&setup);
    let gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    for (trace, whole) in [(TRACE, true), (AGAIN, false)] {
        let feed = backend.events();
        let mut connection = Connection::open(gate.agents, &session.token).await.unwrap();
        let traceparent = format!("00-{trace}-{PARENT}-01");
        let fields = [("traceparent", traceparent.as_str())];
        let answer = connection
            .start(http::Method::GET, "/t/events", &fields, ().into())
            .await
            .unwrap();
        feed.send("data: 1\n\n".into()).await.unwrap();
        let mut body = answer.into_body();
        body.frame().await.unwrap().unwrap();
        // Nothing is told of a call that goes on.
        let told = collector.all();
        assert!(!told.iter().any(|span| hex(&span.trace_id) == trace));
        if whole {
            drop(feed);
            assert!(body.frame().await.is_none());
        } else {
            drop((body, connection));
        }
        let spans = collector.spans(if whole { 2 } else { 4 }).await;
        for kind in [SERVER, CLIENT] {
            let span = one(&spans, trace, kind);
            assert_eq!(failed(span), !whole, "{span:#?}");
            let error = if whole { "-" } else { "agent_left" };
            holds(
                span,
                &[("http.response.status_code", "200"), ("error.type", error)],
            );
        }
    }
}
