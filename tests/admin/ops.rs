//! The metrics listener, and the gate's end.

use crate::scene::{Scene, exchange, records_of};
use http::Method;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn operations_reads_health_and_metrics_and_nothing_else() {
    let scene = Scene::start();
    scene.mint().await;
    let at = scene.running.addresses.metrics;
    let get = async |path: &str| exchange(at, Method::GET, path, &[], String::new()).await;
    get("/livez").await.expect(200);
    get("/readyz").await.expect(200);
    let metrics = scene.metrics().await;
    assert!(
        metrics.contains("toolgate_sessions{agent=\"bot\",project=\"dev\",state=\"live\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("toolgate_build_info"));
    get("/v1/sessions").await.expect(404);
    exchange(at, Method::POST, "/metrics", &[], String::new())
        .await
        .expect(405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_a_stop_are_on_record_and_the_store_outlives_them() {
    let scene = Scene::start();
    let (id, token) = scene.mint().await;
    let Scene { folder, running } = scene;
    assert!(
        running.drain(Duration::from_secs(10)).await,
        "nothing was in flight"
    );
    let records = records_of(&folder);
    let changes: Vec<_> = records
        .iter()
        .filter(|record| record["kind"] == "gate" || record["kind"] == "policy")
        .map(|record| record["change"].as_str().unwrap())
        .collect();
    assert_eq!(changes, ["started", "loaded", "stopped"]);
    assert_eq!(records.last().unwrap()["change"], "stopped");

    let scene = Scene::start_in(folder);
    scene
        .agent(&token, Method::GET, "/.toolgate/session")
        .await
        .expect(200);
    let shown = scene
        .get("issuer", &format!("/v1/sessions/{id}"))
        .await
        .expect(200)
        .json();
    assert_eq!(shown["state"], "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gate_on_the_same_files_does_not_start() {
    let scene = Scene::start();
    let error = scene.start_again().unwrap_err().to_string();
    assert!(error.contains("ledger"), "{error}");
    scene.get("issuer", "/v1/sessions").await.expect(200);
}
