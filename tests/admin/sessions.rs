//! Sessions: minted, listed, shown, revoked, put in quarantine, released.

use crate::scene::Scene;
use http::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_minted_session_is_known_by_its_token_and_shown_without_it() {
    let scene = Scene::start();
    let order = json!({
        "project": "dev", "agent": "bot", "ttl": "5m", "attributes": { "customer_id": "7" },
        "scopes": { "items.read": {}, "items.write": { "resources": ["item:1", "item:2"], "uses": 2 } },
        "intent": "mend the shop", "run": "run-1",
    });
    let answer = scene
        .post("issuer", "/v1/sessions", &order)
        .await
        .expect(201);
    let minted = answer.json();
    let members: Vec<&String> = minted.as_object().unwrap().keys().collect();
    assert_eq!(members, ["expires_at", "id", "token"]);
    let id = minted["id"].as_str().unwrap();
    let token = minted["token"].as_str().unwrap();
    assert!(id.starts_with("ses_") && token.starts_with("tgs_"));
    assert_eq!(answer.headers["location"], format!("/v1/sessions/{id}"));
    assert_eq!(answer.headers["cache-control"], "no-store");

    let shown = scene
        .get("auditor", &format!("/v1/sessions/{id}"))
        .await
        .expect(200);
    assert!(!String::from_utf8_lossy(&shown.body).contains("tgs_"));
    let shown = shown.json();
    assert_eq!(shown["project"], "dev");
    assert_eq!(shown["agent"], "bot");
    assert_eq!(shown["state"], "live");
    assert_eq!(shown["run"], "run-1");
    assert_eq!(shown["intent"], "mend the shop");
    assert_eq!(shown["attributes"], json!({ "customer_id": "7" }));
    assert_eq!(
        shown["scopes"],
        json!({ "items.read": {}, "items.write": { "resources": ["item:1", "item:2"], "uses": 2 } })
    );
    assert_eq!(shown["minted_by"], "issuer");
    assert_eq!(shown["expires_at"], minted["expires_at"]);
    assert_eq!(shown["grants"], json!([]));
    let limits: Vec<&str> = shown["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| limit["id"].as_str().unwrap())
        .collect();
    assert_eq!(limits, ["pace", "spend"]);
    assert_eq!(shown["limits"][1]["quota"], 5.0);
    assert_eq!(shown["parent"], Value::Null);

    scene
        .agent(token, Method::GET, "/.toolgate/session")
        .await
        .expect(200);
    let recorded = scene.recorded("session", "minted");
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0]["session"], id);
    assert_eq!(recorded[0]["principal"], "issuer");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_minted_is_refused_with_its_reason() {
    let scene = Scene::start();
    let with = |name: &str, value: Value| {
        let mut order = json!({ "project": "dev", "agent": "bot" });
        order[name] = value;
        order
    };
    for (order, word) in [
        (json!({ "project": "dev" }), "agent"),
        (json!({ "agent": "bot" }), "project"),
        (with("agent", json!("nobody")), "nobody"),
        (with("ttl", json!("2h")), "3600s"),
        (with("ttl", json!("0s")), "ttl"),
        (with("ttl", json!(900)), "string"),
        (with("ttl", json!("15")), "duration"),
        (with("tll", json!("15m")), "tll"),
        (with("scopes", json!({})), "scopes"),
        (
            with("scopes", json!({ "items.read": { "resources": [] } })),
            "resources",
        ),
        (
            with("scopes", json!({ "items.read": { "uses": 0 } })),
            "uses",
        ),
        (
            with("scopes", json!({ "items.read": { "resources": ["item"] } })),
            "item",
        ),
        (
            with("scopes", json!({ "nothing.such": {} })),
            "nothing.such",
        ),
        (
            with("scopes", json!({ "items.read": { "ttl": "1m" } })),
            "ttl",
        ),
        (
            with("attributes", json!({ "customer_id": "" })),
            "customer_id",
        ),
        (
            with("attributes", json!({ "customer_id": "x".repeat(257) })),
            "customer_id",
        ),
        (with("attributes", json!({ "customer_id": 7 })), "string"),
        (with("parent", json!("ses_1")), "parent"),
        (
            with("parent", json!("ses_00000000000000000000000000000000")),
            "parent",
        ),
    ] {
        let detail = scene
            .post("issuer", "/v1/sessions", &order)
            .await
            .refused(400, "invalid_input");
        assert!(detail.contains(word), "{order}: {detail}");
    }
    for (body, word) in [
        ("", "JSON"),
        ("[]", "an object"),
        (r#"["dev","bot"]"#, "an object"),
        (
            r#"{"project":"dev","agent":"bot","scopes":{"items.read":[["item:1"]]}}"#,
            "an object",
        ),
        ("{", "EOF"),
        (
            r#"{"project":"dev","agent":"bot","agent":"bot"}"#,
            "duplicate",
        ),
        (
            r#"{"project":"dev","agent":"bot","attributes":{"a":"1","a":"2"}}"#,
            "twice",
        ),
        (
            r#"{"project":"dev","agent":"bot","scopes":{"items.read":{},"items.read":{}}}"#,
            "twice",
        ),
        (r#"{"project":"dev","agent":"bot"} {}"#, "trailing"),
    ] {
        let answer = scene
            .call("issuer", Method::POST, "/v1/sessions", body)
            .await;
        let detail = answer.refused(400, "invalid_input");
        assert!(detail.contains(word), "{body}: {detail}");
    }
    let long = json!({ "project": "dev", "agent": "bot", "intent": "x".repeat(300_000) });
    scene
        .post("issuer", "/v1/sessions", &long)
        .await
        .refused(413, "body_too_large");
    assert_eq!(
        scene.get("issuer", "/v1/sessions").await.expect(200).json()["items"],
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_project_answers_as_one_that_is_not_there() {
    let scene = Scene::start();
    let (id, _) = scene.mint().await;
    let elsewhere = json!({ "project": "dev", "agent": "bot" });
    let nowhere = json!({ "project": "never", "agent": "bot" });
    let there = scene
        .post("stranger", "/v1/sessions", &elsewhere)
        .await
        .refused(404, "not_found");
    let none = scene
        .post("stranger", "/v1/sessions", &nowhere)
        .await
        .refused(404, "not_found");
    assert_eq!(there.replace("dev", "never"), none);
    let why = json!({ "reason": "to meddle" });
    for id in [
        id.as_str(),
        "ses_00000000000000000000000000000000",
        "nonsense",
    ] {
        let session = format!("/v1/sessions/{id}");
        scene
            .get("stranger", &session)
            .await
            .refused(404, "not_found");
        scene
            .delete("stranger", &session)
            .await
            .refused(404, "not_found");
        scene
            .post("stranger", &format!("{session}/quarantine"), &why)
            .await
            .refused(404, "not_found");
        scene
            .post("stranger", &format!("{session}/release"), &why)
            .await
            .refused(404, "not_found");
        let ask = json!({ "scope": "items.write" });
        scene
            .post("stranger", &format!("{session}/grants"), &ask)
            .await
            .refused(404, "not_found");
    }
    let seen = scene
        .get("stranger", "/v1/sessions")
        .await
        .expect(200)
        .json();
    assert_eq!(seen, json!({ "items": [], "next": null }));
    assert_eq!(
        scene
            .get("root", &format!("/v1/sessions/{id}"))
            .await
            .expect(200)
            .json()["state"],
        "live"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_page_by_page() {
    let scene = Scene::start();
    let mut minted = Vec::new();
    for project in ["dev", "dev", "prod", "dev", "dev", "dev"] {
        minted.push((
            project,
            scene
                .mint_with(json!({ "project": project, "agent": "bot" }))
                .await
                .0,
        ));
    }
    let mut seen = Vec::new();
    let mut path = "/v1/sessions?limit=2".to_owned();
    loop {
        let page = scene.get("issuer", &path).await.expect(200).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2 && !items.is_empty());
        for item in items {
            assert!(item.get("grants").is_none() && item.get("token").is_none());
            seen.push(item["id"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/sessions?limit=2&after={next}"),
            None => break,
        }
    }
    seen.sort();
    let mut own: Vec<String> = minted
        .iter()
        .filter(|(project, _)| *project == "dev")
        .map(|(_, id)| id.clone())
        .collect();
    own.sort();
    assert_eq!(seen, own);
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "after=x",
        "limit=1&limit=2",
        "state=live",
    ] {
        scene
            .get("issuer", &format!("/v1/sessions?{query}"))
            .await
            .refused(400, "invalid_input");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_is_shown_as_ended_and_its_token_is_nobody_s() {
    let scene = Scene::start();
    let (id, token) = scene.mint().await;
    scene
        .agent(&token, Method::GET, "/.toolgate/session")
        .await
        .expect(200);
    let ended = scene
        .delete("issuer", &format!("/v1/sessions/{id}"))
        .await
        .expect(200)
        .json();
    assert_eq!(ended["id"], id.as_str());
    assert_eq!(ended["state"], "ended");
    scene
        .agent(&token, Method::GET, "/.toolgate/session")
        .await
        .refused(401, "credential_invalid");
    let recorded = scene.recorded("session", "revoked");
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0]["principal"], "issuer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_ends_with_its_parent_and_lies_within_it() {
    let scene = Scene::start();
    let (parent, _) = scene
        .mint_with(json!({ "project": "dev", "agent": "bot", "ttl": "5m", "scopes": { "items.read": {} } }))
        .await;
    let order = json!({ "project": "dev", "agent": "bot", "parent": parent });
    let child = scene
        .post("issuer", "/v1/sessions", &order)
        .await
        .expect(201)
        .json();
    let (id, token) = (
        child["id"].as_str().unwrap(),
        child["token"].as_str().unwrap(),
    );
    let shown = scene
        .get("issuer", &format!("/v1/sessions/{id}"))
        .await
        .expect(200)
        .json();
    assert_eq!(shown["parent"], parent.as_str());
    let elder = scene
        .get("issuer", &format!("/v1/sessions/{parent}"))
        .await
        .expect(200)
        .json();
    assert!(shown["expires_at"].as_str().unwrap() <= elder["expires_at"].as_str().unwrap());
    let foreign = json!({ "project": "prod", "agent": "bot", "parent": parent });
    scene
        .post("root", "/v1/sessions", &foreign)
        .await
        .refused(400, "invalid_input");
    scene
        .delete("issuer", &format!("/v1/sessions/{parent}"))
        .await
        .expect(200);
    scene
        .agent(token, Method::GET, "/.toolgate/session")
        .await
        .refused(401, "credential_invalid");
    scene
        .post("issuer", "/v1/sessions", &order)
        .await
        .refused(400, "invalid_input");
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_stops_a_session_until_it_is_released() {
    let scene = Scene::start();
    let (id, token) = scene.mint().await;
    let (_, other) = scene.mint().await;
    let session = format!("/v1/sessions/{id}");
    let why = json!({ "reason": "it loops" });
    scene
        .post("operator", &format!("{session}/release"), &why)
        .await
        .refused(409, "conflict");
    let held = scene
        .post("operator", &format!("{session}/quarantine"), &why)
        .await
        .expect(200)
        .json();
    assert_eq!(held["state"], "quarantined");
    assert!(held["quarantined_at"].is_string());
    scene
        .agent(&token, Method::GET, "/shop/items/1")
        .await
        .refused(403, "quarantined");
    scene
        .agent(&other, Method::GET, "/.toolgate/session")
        .await
        .expect(200);
    // Once more is no error: whoever stops it need not ask whether somebody did.
    scene
        .post("operator", &format!("{session}/quarantine"), &why)
        .await
        .expect(200);
    let free = scene
        .post("operator", &format!("{session}/release"), &why)
        .await
        .expect(200)
        .json();
    assert_eq!(free["state"], "live");
    assert_eq!(free["quarantined_at"], Value::Null);
    scene
        .agent(&token, Method::GET, "/.toolgate/session")
        .await
        .expect(200);
    for wrong in [
        json!({}),
        json!({ "reason": " " }),
        json!({ "reason": "x".repeat(2000) }),
        json!({ "why": "x" }),
    ] {
        for act in ["quarantine", "release"] {
            scene
                .post("operator", &format!("{session}/{act}"), &wrong)
                .await
                .refused(400, "invalid_input");
        }
    }
    for change in ["quarantined", "released"] {
        let recorded = scene.recorded("quarantine", change);
        assert_eq!(recorded[0]["reason"], "it loops");
        assert_eq!(recorded[0]["principal"], "operator");
    }
}
