//! Who may call: `Host`, key, path, role, in this order.

use crate::scene::{Scene, key};
use http::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_key_nothing_is_told_and_failures_are_summed_up_in_the_ledger() {
    let scene = Scene::start();
    let answer = scene.raw(Method::GET, "/v1/sessions", &[], "").await;
    assert_eq!(
        answer.headers["www-authenticate"],
        "Bearer realm=\"toolgate-admin\""
    );
    answer.refused(401, "credential_missing");
    let strange = toolgate::policy::token::Token::mint(
        toolgate::policy::token::TokenKind::Principal,
        &[9; 32],
    );
    let (_, session) = scene.mint().await;
    for credential in [
        format!("Bearer {}", strange.reveal()),
        format!("Bearer {session}"),
        format!("Basic {}", key("root")),
        "Bearer".to_owned(),
        format!("Bearer {}x", key("root")),
    ] {
        for path in ["/v1/sessions", "/nowhere"] {
            let fields = [("authorization", credential.as_str())];
            let answer = scene.raw(Method::GET, path, &fields, "").await;
            assert!(
                answer.headers["www-authenticate"]
                    .to_str()
                    .unwrap()
                    .contains("invalid_token")
            );
            answer.refused(401, "credential_invalid");
        }
    }
    let twice = format!("Bearer {}", key("root"));
    let fields = [
        ("authorization", twice.as_str()),
        ("authorization", twice.as_str()),
    ];
    scene
        .raw(Method::GET, "/v1/sessions", &fields, "")
        .await
        .refused(401, "credential_invalid");

    let scene = drained(scene).await;
    let failures: u64 = scene
        .iter()
        .filter(|record| record["kind"] == "principal" && record["change"] == "failed")
        .map(|record| {
            assert_eq!(record["client"], "127.0.0.1");
            record["count"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(failures, 12);
}

/// Stops the gate and reads its ledger.
async fn drained(scene: Scene) -> Vec<serde_json::Value> {
    let Scene { folder, running } = scene;
    assert!(running.drain(std::time::Duration::from_secs(10)).await);
    crate::scene::records_of(&folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_host_is_misdirected_before_the_key_is_looked_at() {
    let scene = Scene::start();
    let bearer = format!("Bearer {}", key("root"));
    for host in [
        "evil.example",
        "evil.example:9080",
        "127.0.0.1.evil.example",
        "",
    ] {
        let fields = [("host", host), ("authorization", bearer.as_str())];
        scene
            .raw(Method::GET, "/v1/sessions", &fields, "")
            .await
            .refused(421, "request_malformed");
        scene
            .raw(Method::GET, "/openapi.json", &[("host", host)], "")
            .await
            .refused(421, "request_malformed");
    }
    let fields = [("host", "LOCALHOST:1"), ("authorization", bearer.as_str())];
    scene
        .raw(Method::GET, "/v1/sessions", &fields, "")
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_endpoint_asks_for_its_role() {
    let scene = Scene::start();
    let (id, _) = scene.mint().await;
    let session = format!("/v1/sessions/{id}");
    let grant = "/v1/grants/grt_00000000000000000000000000000000".to_owned();
    let all = ["issuer", "operator", "auditor", "approver"];
    let cases: &[(Method, String, &[&str])] = &[
        (Method::POST, "/v1/sessions".into(), &["issuer"]),
        (
            Method::GET,
            "/v1/sessions".into(),
            &["issuer", "operator", "auditor"],
        ),
        (
            Method::GET,
            session.clone(),
            &["issuer", "operator", "auditor"],
        ),
        (Method::POST, format!("{session}/grants"), &["issuer"]),
        (Method::DELETE, grant, &["issuer"]),
        (Method::POST, format!("{session}/quarantine"), &["operator"]),
        (Method::POST, format!("{session}/release"), &["operator"]),
        (Method::GET, "/v1/policy".into(), &["operator"]),
        (Method::POST, "/v1/policy/reload".into(), &["operator"]),
        (Method::DELETE, session, &["issuer"]),
    ];
    for (method, path, roles) in cases {
        for principal in all {
            let answer = scene.call(principal, method.clone(), path, "").await;
            let missing = answer.status == 403;
            assert_eq!(
                missing,
                !roles.contains(&principal),
                "{principal} {method} {path}"
            );
            if missing {
                let detail = answer.refused(403, "role_missing");
                assert!(detail.contains(roles[0]), "{detail}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found_and_a_wrong_method_not_allowed() {
    let scene = Scene::start();
    for path in ["/v1", "/v1/sessions/", "/access/v1/evaluation/"] {
        scene.get("root", path).await.refused(404, "not_found");
    }
    let answer = scene.call("root", Method::PUT, "/v1/sessions", "{}").await;
    let allow = answer.headers["allow"].to_str().unwrap().to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    answer.refused(405, "invalid_input");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_describes_itself() {
    let scene = Scene::start();
    let document = scene
        .raw(Method::GET, "/openapi.json", &[], "")
        .await
        .expect(200)
        .json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for (path, method) in [
        ("/v1/sessions", "post"),
        ("/v1/sessions", "get"),
        ("/v1/sessions/{id}", "get"),
        ("/v1/sessions/{id}", "delete"),
        ("/v1/sessions/{id}/grants", "post"),
        ("/v1/sessions/{id}/quarantine", "post"),
        ("/v1/sessions/{id}/release", "post"),
        ("/v1/grants/{id}", "delete"),
        ("/v1/approvals", "get"),
        ("/v1/approvals/{id}", "get"),
        ("/v1/approvals/{id}/history", "get"),
        ("/v1/approvals/{id}/decision", "post"),
        ("/v1/approvals/{id}/resolve", "post"),
        ("/v1/events", "get"),
        ("/v1/policy", "get"),
        ("/v1/policy/reload", "post"),
    ] {
        assert!(
            document["paths"][path][method].is_object(),
            "{method} {path}"
        );
    }
    assert!(document["components"]["schemas"]["MintInput"]["properties"]["ttl"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_call_that_changes_something_says_who_made_it_and_from_where() {
    let scene = Scene::start();
    let (id, token) = scene.mint().await;
    let calls = scene.recorded("principal", "called");
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0]["principal"], "root");
    assert_eq!(calls[0]["client"], "127.0.0.1");
    assert!(calls[0]["detail"].as_str().unwrap().contains(&id));
    scene
        .get("root", &format!("/v1/sessions/{id}"))
        .await
        .expect(200);
    assert_eq!(
        scene.recorded("principal", "called").len(),
        1,
        "looking changes nothing"
    );
    let all = json!(scene.records()).to_string();
    assert!(!all.contains(&token) && !all.contains(&key("root")));
}
