//! Grants that issuers give and take away.

use crate::scene::Scene;
use http::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_given_shown_used_and_revoked() {
    let scene = Scene::start();
    let (id, token) = scene.mint().await;
    let path = format!("/v1/sessions/{id}/grants");
    let put = async || scene.agent(&token, Method::PUT, "/shop/items/1").await;
    put().await.refused(403, "grant_missing");
    let ask = json!({ "scope": "items.write", "resource": "item:1", "uses": 2, "ttl": "1m", "reason": "to mend it" });
    let given = scene.post("issuer", &path, &ask).await.expect(201).json();
    let grant = given["id"].as_str().unwrap().to_owned();
    assert!(grant.starts_with("grt_"));
    assert_eq!(given["session"], id.as_str());
    assert_eq!(given["scope"], "items.write");
    assert_eq!(given["resource"], "item:1");
    assert_eq!(
        (given["uses"].as_u64(), given["uses_left"].as_u64()),
        (Some(2), Some(2))
    );
    assert_eq!(given["state"], "live");
    assert_eq!(given["reason"], "to mend it");
    // Nobody listens behind the gate; a use that was begun is spent all the same.
    put().await.refused(502, "upstream_failed");
    let shown = scene
        .get("issuer", &format!("/v1/sessions/{id}"))
        .await
        .expect(200)
        .json();
    assert_eq!(shown["grants"].as_array().unwrap().len(), 1);
    assert_eq!(shown["grants"][0]["uses_left"], 1);
    let gone = scene
        .delete("issuer", &format!("/v1/grants/{grant}"))
        .await
        .expect(200)
        .json();
    assert_eq!(gone["state"], "revoked");
    assert_eq!(gone["id"], grant.as_str());
    put().await.refused(403, "grant_missing");
    scene
        .delete("issuer", &format!("/v1/grants/{grant}"))
        .await
        .refused(404, "not_found");
    for change in ["given", "revoked"] {
        let recorded = scene.recorded("grant", change);
        assert_eq!(recorded.len(), 1, "{change}");
        assert_eq!(recorded[0]["grant"], grant.as_str());
        assert_eq!(recorded[0]["principal"], "issuer");
    }
    assert!(
        scene
            .metrics()
            .await
            .contains("toolgate_grants_total{kind=\"on_request\",project=\"dev\"} 1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_outside_the_ceiling_is_not_given() {
    let scene = Scene::start();
    let (id, _) = scene.mint().await;
    let path = format!("/v1/sessions/{id}/grants");
    for (ask, status, reason) in [
        (json!({}), 400, "invalid_input"),
        (
            json!({ "scope": "items.write", "resorce": "item:1" }),
            400,
            "invalid_input",
        ),
        (
            json!({ "scope": "items.write", "resource": "item:*" }),
            400,
            "invalid_input",
        ),
        (
            json!({ "scope": "items.write", "resource": "item" }),
            400,
            "invalid_input",
        ),
        (
            json!({ "scope": "items.write", "uses": 0 }),
            400,
            "invalid_input",
        ),
        (
            json!({ "scope": "items.write", "uses": 6 }),
            400,
            "invalid_input",
        ),
        (
            json!({ "scope": "items.write", "ttl": "11m" }),
            400,
            "invalid_input",
        ),
        (
            json!({ "scope": "items.write", "ttl": "0s" }),
            400,
            "invalid_input",
        ),
        (json!({ "scope": "items.read" }), 400, "invalid_input"),
        (
            json!({ "scope": "nothing.such" }),
            403,
            "scope_outside_ceiling",
        ),
        (
            json!({ "scope": "items.write", "resource": "user:1" }),
            403,
            "resource_outside_ceiling",
        ),
    ] {
        scene
            .post("issuer", &path, &ask)
            .await
            .refused(status, reason);
    }
    let ask = json!({ "scope": "items.write", "resource": "item:1" });
    scene.post("issuer", &path, &ask).await.expect(201);
    scene
        .post("issuer", &path, &ask)
        .await
        .refused(409, "conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_another_project_is_not_found() {
    let scene = Scene::start();
    let (id, _) = scene.mint().await;
    let ask = json!({ "scope": "items.write" });
    let given = scene
        .post("issuer", &format!("/v1/sessions/{id}/grants"), &ask)
        .await
        .expect(201)
        .json();
    let grant = given["id"].as_str().unwrap();
    assert_eq!(given["resource"], Value::Null);
    for id in [grant, "grt_00000000000000000000000000000000", "nonsense"] {
        scene
            .delete("stranger", &format!("/v1/grants/{id}"))
            .await
            .refused(404, "not_found");
    }
    let shown = scene
        .get("issuer", &format!("/v1/sessions/{id}"))
        .await
        .expect(200)
        .json();
    assert_eq!(shown["grants"][0]["state"], "live");
}
