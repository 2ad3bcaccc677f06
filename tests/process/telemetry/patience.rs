//! Collectors that are down, slow or unwilling, and load: no call waits for any of it, and every span is accounted for.

use super::collector::{Collector, SERVER, Saying, send_to};
use super::scene::{call, scene};
use crate::approvals::talk::{Order, Talk};
use crate::gate::Gate;
use crate::ledger::hex;
use crate::wait::until;
use http::Method;
use std::collections::HashSet;
use std::net::TcpListener;
use std::time::Duration;

fn read() -> Order {
    Order::new(Method::GET, "/one/items/1")
}

async fn count(gate: &Gate, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    gate.metric("toolgate_telemetry_spans_total", &[&label])
        .await
}

async fn comes_to(gate: &Gate, result: &str, spans: f64) {
    until(&format!("{spans} spans are {result}"), || async {
        (count(gate, result).await >= spans).then_some(())
    })
    .await;
    assert!((count(gate, result).await - spans).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_down_or_refuses_gets_every_span_once_it_takes_them() {
    let scene = scene().await;
    // Nobody is there yet.
    let place = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    send_to(&scene.setup, &format!("http://{place}"), "", "");
    let (gate, session) = scene.start().await;
    call(&gate, &session, false, &read()).await.expect(200);
    until("the log tells of it", || async {
        gate.said("the collector takes no spans").then_some(())
    })
    .await;
    let collector = Collector::at(place).await;
    collector.says(&[Saying::Status(503), Saying::After(429, 1)]);
    call(&gate, &session, false, &read()).await.expect(200);
    let spans = collector.spans(4).await;
    assert_eq!(spans.len(), 4);
    comes_to(&gate, "sent", 4.0).await;
    until("the log tells of that, too", || async {
        gate.said("the collector takes spans again").then_some(())
    })
    .await;
    assert!(collector.attempts() >= 3);
    for result in ["failed", "dropped", "rejected"] {
        assert!(count(&gate, result).await < 0.5, "{result}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_will_never_take_is_counted_and_not_sent_again() {
    let (collector, scene) = (Collector::start().await, scene().await);
    collector.says(&[Saying::Status(400)]);
    let (gate, session) = scene.told(&collector).await;
    call(&gate, &session, false, &read()).await.expect(200);
    comes_to(&gate, "failed", 2.0).await;
    assert_eq!(collector.attempts(), 1);
    collector.says(&[Saying::But(1)]);
    call(&gate, &session, false, &read()).await.expect(200);
    comes_to(&gate, "rejected", 1.0).await;
    comes_to(&gate, "sent", 1.0).await;
    assert_eq!(collector.attempts(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_waits_for_a_collector_that_says_nothing() {
    let (collector, scene) = (Collector::start().await, scene().await);
    collector.says(&[Saying::Silence; 2]);
    collector.with(&scene.setup, "    timeout: 1s\n", "");
    let (gate, session) = scene.start().await;
    let mut talk = Talk::open(gate.agents).await.unwrap();
    talk.send(&session.token, &read())
        .await
        .unwrap()
        .expect(200);
    // It has the first message, and is silent.
    until("a message is there", || async {
        (collector.attempts() > 0).then_some(())
    })
    .await;
    let calls = async {
        for _ in 0..100 {
            talk.send(&session.token, &read())
                .await
                .unwrap()
                .expect(200);
        }
    };
    // Two messages would take it two seconds of silence and more.
    tokio::time::timeout(Duration::from_secs(20), calls)
        .await
        .expect("calls go on");
    let spans = collector.spans(202).await;
    assert_eq!(spans.len(), 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_every_call_is_told_of_once() {
    const AGENTS: usize = 4;
    const CALLS: usize = 500;
    let (collector, scene) = (Collector::start().await, scene().await);
    let (gate, session) = scene.told(&collector).await;
    let agents: Vec<_> = (0..AGENTS)
        .map(|agent| {
            let (address, token) = (gate.agents, session.token.clone());
            tokio::spawn(async move {
                let mut talk = match agent % 2 {
                    0 => Talk::open(address).await.unwrap(),
                    _ => Talk::open_http2(address).await.unwrap(),
                };
                let mut requests = Vec::new();
                for _ in 0..CALLS {
                    let answer = talk.send(&token, &read()).await.unwrap().expect(200);
                    requests.push(answer.header("toolgate-request-id").unwrap().to_owned());
                }
                requests
            })
        })
        .collect();
    let mut made = HashSet::new();
    for agent in agents {
        made.extend(agent.await.unwrap());
    }
    let spans = collector.spans(2 * AGENTS * CALLS).await;
    let ids: HashSet<String> = spans.iter().map(|span| hex(&span.span_id)).collect();
    let told: HashSet<String> = spans
        .iter()
        .filter(|span| span.kind == SERVER)
        .filter_map(|span| super::collector::attribute(span, "toolgate.request.id"))
        .collect();
    assert_eq!((spans.len(), ids.len()), (4000, 4000));
    assert_eq!(told, made);
    comes_to(&gate, "sent", 4000.0).await;
    assert!(count(&gate, "dropped").await < 0.5);
    // In messages, not one by one.
    assert!(collector.attempts() < 400, "{}", collector.attempts());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_settled_last_is_told_before_the_gate_stops_and_a_dead_collector_holds_no_stop_up()
{
    let (collector, scene) = (Collector::start().await, scene().await);
    let (mut gate, session) = scene.told(&collector).await;
    call(&gate, &session, false, &read()).await.expect(200);
    gate.signal("TERM");
    assert!(gate.ended().await.success());
    assert_eq!(collector.all().len(), 2);

    collector.says(&[Saying::Silence; 8]);
    let (mut gate, session) = scene.start().await;
    call(&gate, &session, false, &read()).await.expect(200);
    gate.signal("TERM");
    let stopped = tokio::time::timeout(Duration::from_secs(20), gate.ended()).await;
    assert!(stopped.expect("the gate stops").success());
}
