//! Calls that wait for people are judged again, conditions and all, when they are to run.

use crate::approvals::scene::{Scene, edited};
use crate::approvals::talk::Order;
use crate::backend::Backend;

fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot:
    session: {{ ttl: 1h, max_ttl: 4h }}
    scopes: {{ act: on_use }}
tools:
  t:
    mount: /t
    upstream: {{ url: 'http://{}', timeout: 60s }}
    routes:
      - {{ id: small, match: POST /mirror/refunds, where: {{ body./amount: {{ at_most: 100 }}, header.x-region: {{ equals: eu }} }}, scope: act, approval: default }}
      - {{ id: large, match: POST /mirror/refunds, where: {{ body./amount: {{ at_most: 1000 }} }}, scope: act, approval: large }}
approvals:
  default: {{ approvers: [leads], quorum: 1, hold: 30s, expires: 10m }}
  large: {{ approvers: [finance], quorum: 1, hold: 30s, expires: 10m }}
",
        backend.address
    )
}

fn refund(amount: &str) -> Order {
    Order::post("/t/mirror/refunds")
        .with("content-type", "application/json")
        .with("x-region", "eu")
        .body(format!("{{\"amount\": {amount} }}"))
}

async fn open() -> Scene {
    let backend = Backend::start("t").await;
    let yaml = policy(&backend);
    Scene::before(backend, &yaml).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_says_chooses_whose_word_it_needs_and_what_was_agreed_to_is_what_runs() {
    let scene = open().await;
    let session = scene.mint().await;
    for (amount, route, who) in [("100", "small", "dana"), ("1e3", "large", "finn")] {
        let order = refund(amount);
        let shown = scene.ask(&session, &order).await;
        assert_eq!(scene.all(&shown.id).await["call"]["route"], route);
        scene.approve(who, &shown).await;
        let answer = scene.send(&session, &order).await.expect(200);
        assert_eq!(answer.body, order.body);
    }
    let answer = scene.send(&session, &refund("1001")).await;
    answer.refused(403, "condition_unmet");
    let answer = scene.send(&session, &refund("\"100\"")).await;
    answer.refused(400, "unevaluable");
    assert_eq!(scene.backend.total(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_agreed_to_does_not_run_where_its_conditions_no_longer_hold() {
    let scene = open().await;
    let base = policy(&scene.backend);
    for (from, to) in [
        // No arm's condition holds; another arm's does, whose people did not agree; it can't be judged.
        ("at_most: 100 }", "at_most: 10 }"),
        (
            "header.x-region: { equals: eu }",
            "header.x-region: { equals: us }",
        ),
        (
            "header.x-region: { equals: eu }",
            "header.x-zone: { equals: eu }",
        ),
        (
            "body./amount: { at_most: 100 }",
            "body./sum: { at_most: 100 }",
        ),
    ] {
        let session = scene.mint().await;
        let order = refund("50");
        let shown = scene.ask(&session, &order).await;
        scene.approve("dana", &shown).await;
        scene.enact(&edited(&base, from, to)).await;
        let answer = scene.send(&session, &order).await.expect(403);
        assert_eq!(
            answer.reason().as_deref(),
            Some("approval_void"),
            "{to}: {answer:?}"
        );
        assert_ne!(scene.stage(&shown.id).await, "executed");
        assert_eq!(scene.backend.total(), 0, "{to}");
        scene.enact(&base).await;
    }
    // One that holds still is no reason not to run.
    let session = scene.mint().await;
    let order = refund("50");
    let shown = scene.ask(&session, &order).await;
    scene.approve("dana", &shown).await;
    scene
        .enact(&edited(&base, "at_most: 100 }", "at_most: 60 }"))
        .await;
    let answer = scene.send(&session, &order).await.expect(200);
    assert_eq!(answer.body, order.body);
}
