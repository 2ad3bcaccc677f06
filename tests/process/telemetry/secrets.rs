//! What must never reach a collector.

use super::collector::Collector;
use super::scene::{CREDENTIAL, PLACE, call, scene, traceparent};
use crate::approvals::talk::Order;
use http::Method;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_nothing_that_agents_write_freely_reaches_the_collector() {
    const OWN: &str = "canary-of-the-collector";
    let (collector, scene) = (Collector::start().await, scene().await);
    let file = scene.setup.config().with_file_name("collector-key");
    std::fs::write(&file, OWN).unwrap();
    collector.with(
        &scene.setup,
        &format!(
            "    headers: {{ x-api-key: {{ file: {} }} }}\n",
            file.display()
        ),
        "  resource: { service.name: gates, deployment.environment.name: tests }\n",
    );
    let (gate, session) = scene.start().await;
    let order = |method: Method, path: String| {
        Order::new(method, path)
            .with("traceparent", traceparent())
            .with("tracestate", "vendor=canary-state")
            .with("baggage", "user=canary-baggage")
            .with("user-agent", "canary-agent")
            .with("cookie", "sid=canary-cookie")
            .with("toolgate-intent", "canary-intent")
            .with("x-anything", "canary-field")
            .body("canary-body")
    };
    let token = &session.token;
    let calls = [
        (
            Method::POST,
            "/one/items/1?q=canary-query&canary-bare".to_owned(),
        ),
        (Method::POST, format!("/one/items/{token}")),
        (Method::POST, format!("/one/items/1?page={token}")),
        (Method::POST, format!("/nowhere?{token}=1")),
        (Method::GET, "/two/items/1".to_owned()),
        (Method::DELETE, "/one/items/2".to_owned()),
    ];
    for (method, path) in &calls {
        call(&gate, &session, false, &order(method.clone(), path.clone())).await;
    }
    let _ = collector.spans(calls.len()).await;
    gate.signal("TERM");
    let mut gate = gate;
    gate.ended().await;
    collector.batches(|batches| {
        assert!(!batches.is_empty());
        for batch in batches {
            assert_eq!(batch.fields["x-api-key"], OWN);
            let text = String::from_utf8_lossy(&batch.bytes);
            for secret in [token.as_str(), "canary", CREDENTIAL, PLACE, OWN] {
                assert!(!text.contains(secret), "`{secret}` in a message");
            }
            let said = |key: &str| batch.resource.attributes.iter().any(|it| it.key == key);
            assert!(said("deployment.environment.name") && text.contains("gates"));
        }
    });
    assert!(!gate.said(OWN), "in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_key_of_the_collector_is_taken_up_by_a_reload() {
    let (collector, scene) = (Collector::start().await, scene().await);
    let file = scene.setup.config().with_file_name("collector-key");
    std::fs::write(&file, "the-old-one").unwrap();
    let headers = format!(
        "    headers: {{ x-api-key: {{ file: {} }} }}\n",
        file.display()
    );
    collector.with(&scene.setup, &headers, "");
    let (gate, session) = scene.start().await;
    for (count, key) in [(2, "the-old-one"), (4, "the-new-one")] {
        std::fs::write(&file, key).unwrap();
        let reload = gate.admin(Method::POST, "/v1/policy/reload", ());
        reload.await.expect(200);
        let order = Order::new(Method::GET, "/one/items/1");
        call(&gate, &session, false, &order).await.expect(200);
        collector.spans(count).await;
        collector.batches(|batches| {
            assert_eq!(batches.last().unwrap().fields["x-api-key"], key);
        });
    }
}
