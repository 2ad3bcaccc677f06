//! What the policy in force would decide, asked of a running gate.

use crate::scene::{PRINCIPALS, Scene, policy};
use http::Method;
use serde_json::{Value, json};

fn step<'v>(explanation: &'v Value, name: &str) -> &'v Value {
    let mut steps = explanation["steps"].as_array().unwrap().iter();
    steps
        .find(|step| step["step"] == name)
        .unwrap_or(&Value::Null)
}

async fn asked(scene: &Scene, input: Value) -> Value {
    let answer = scene.post("operator", "/v1/policy/explain", &input).await;
    answer.expect(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_what_would_be_decided_and_where_it_is_written() {
    let scene = Scene::start();
    let told = asked(
        &scene,
        json!({"project": "dev", "agent": "bot", "request": "GET /shop/items/1"}),
    )
    .await;
    assert_eq!(told["decision"], "allow", "{told:#}");
    assert_eq!(told["resource"], "item:1");
    let at = step(&told, "route")["at"].as_str().unwrap().to_owned();
    assert!(
        at.ends_with("dev.project.yaml:16") || at.contains("dev"),
        "{at}"
    );
    let missing = asked(
        &scene,
        json!({"project": "dev", "agent": "bot", "request": "PUT /shop/items/1"}),
    )
    .await;
    assert_eq!(missing["reason"], "grant_missing");
    let held = json!({"project": "dev", "agent": "bot", "request": "PUT /shop/items/1", "grants": [{"scope": "items.write", "resource": "item:1"}]});
    assert_eq!(asked(&scene, held).await["decision"], "allow");
    // The lines are those of what is in force.
    let more = format!("# one line more\n{}", policy("dev"));
    std::fs::write(scene.project("dev"), more).unwrap();
    scene
        .post("operator", "/v1/policy/reload", &json!({}))
        .await
        .expect(200);
    let told = asked(
        &scene,
        json!({"project": "dev", "agent": "bot", "request": "GET /shop/items/1"}),
    )
    .await;
    let line = |at: &str| at.rsplit(':').next().unwrap().parse::<u32>().unwrap();
    assert_eq!(
        line(step(&told, "route")["at"].as_str().unwrap()),
        line(&at) + 1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_session_is_explained_with_what_it_holds_and_spends_nothing() {
    let scene = Scene::start();
    let (id, token) = scene.mint().await;
    let call = json!({"session": id, "request": "PUT /shop/items/1"});
    assert_eq!(asked(&scene, call.clone()).await["reason"], "grant_missing");
    let wish = json!({"scope": "items.write", "resource": "item:1", "uses": 1, "reason": "a test"});
    scene
        .post("issuer", &format!("/v1/sessions/{id}/grants"), &wish)
        .await
        .expect(201);
    for _ in 0..3 {
        let told = asked(&scene, call.clone()).await;
        assert_eq!(told["decision"], "allow", "{told:#}");
        assert!(told["grant"].as_str().unwrap().starts_with("grt_"));
    }
    scene
        .agent(&token, Method::PUT, "/shop/items/1")
        .await
        .refused(502, "upstream_failed");
    assert_eq!(asked(&scene, call.clone()).await["reason"], "grant_missing");
    let why = json!({"reason": "a test"});
    scene
        .post("operator", &format!("/v1/sessions/{id}/quarantine"), &why)
        .await
        .expect(200);
    let told = asked(
        &scene,
        json!({"session": id, "request": "GET /shop/items/1"}),
    )
    .await;
    assert_eq!(told["reason"], "quarantined", "{told:#}");
    assert_eq!(step(&told, "session")["passes"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn explaining_is_for_operators_of_the_project_and_says_what_was_meant() {
    let scene = Scene::start();
    let (id, _) = scene.mint().await;
    let good = json!({"project": "dev", "agent": "bot", "request": "GET /shop/items/1"});
    scene
        .post("issuer", "/v1/policy/explain", &good)
        .await
        .refused(403, "role_missing");
    scene
        .post("stranger", "/v1/policy/explain", &good)
        .await
        .refused(400, "invalid_input");
    let foreign = json!({"session": id, "request": "GET /shop/items/1"});
    scene
        .post("stranger", "/v1/policy/explain", &foreign)
        .await
        .refused(404, "not_found");
    for (input, says) in [
        (
            json!({"project": "dve", "agent": "bot", "request": "GET /"}),
            "`dev`",
        ),
        (
            json!({"project": "dev", "agent": "bto", "request": "GET /"}),
            "did you mean `bot`",
        ),
        (
            json!({"project": "dev", "agent": "bot", "request": "/shop"}),
            "method and target",
        ),
        (
            json!({"session": id, "agent": "bot", "request": "GET /"}),
            "leave it out",
        ),
        (
            json!({"request": "GET /"}),
            "`session`, or `project` and `agent`",
        ),
        (
            json!({"project": "dev", "agent": "bot", "request": "GET /", "grants": [{"scope": "a b"}]}),
            "`a b`",
        ),
    ] {
        let refused = scene.post("operator", "/v1/policy/explain", &input).await;
        assert!(
            refused.refused(400, "invalid_input").contains(says),
            "{input}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_says_what_a_call_says_and_is_told_what_was_not_said() {
    let judged = "      - { id: items.buy, match: POST /items, where: { body./count: { at_most: 3 }, header.x-shop: { equals: north }, client: { cidr: 10.0.0.0/8 } }, scope: items.read }
      - { id: items.late, match: GET /late, where: { time.hour: { at_least: 20, zone: UTC } }, scope: items.read }
limits:
";
    let scene = Scene::start_with(PRINCIPALS, |project| {
        policy(project).replace("limits:\n", judged)
    });
    let ask = |more: Value| {
        let mut call = json!({"project": "dev", "agent": "bot", "request": "POST /shop/items"});
        call.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        call
    };
    let whole =
        json!({"headers": {"X-Shop": "north"}, "body": "{\"count\": 3}", "client": "10.0.0.9"});
    let told = asked(&scene, ask(whole.clone())).await;
    assert_eq!(
        (&told["decision"], &told["unknown"]),
        (&"allow".into(), &Value::Null),
        "{told:#}"
    );
    for (missing, name) in [
        ("body", "body./count"),
        ("headers", "header.x-shop"),
        ("client", "client"),
    ] {
        let mut part = whole.clone();
        part.as_object_mut().unwrap().remove(missing);
        let told = asked(&scene, ask(part)).await;
        assert_eq!(
            (&told["decision"], &told["unknown"]),
            (&"unknown".into(), &name.into()),
            "{told:#}"
        );
    }
    for (key, value, reason) in [
        (
            "body",
            json!("{\"count\": 3, \"count\": 1}"),
            "body_unreadable",
        ),
        ("body", json!("{\"count\": 4}"), "condition_unmet"),
        ("headers", json!({}), "unevaluable"),
        (
            "headers",
            json!({"x-shop": "north", "content-type": "text/plain"}),
            "body_unreadable",
        ),
        ("client", json!("192.0.2.1"), "condition_unmet"),
    ] {
        let mut other = whole.clone();
        other[key] = value;
        assert_eq!(
            asked(&scene, ask(other.clone())).await["reason"],
            reason,
            "{other}"
        );
    }
    for (at, decision) in [
        ("2026-03-01T20:00:00Z", "allow"),
        ("2026-03-01T19:59:59Z", "deny"),
    ] {
        let late = json!({"project": "dev", "agent": "bot", "request": "GET /shop/late", "at": at});
        assert_eq!(asked(&scene, late).await["decision"], decision);
    }
    for (key, value, says) in [
        ("at", "noon", "2026-03-01T12:00:00Z"),
        ("client", "home", "not an address"),
        ("args", "{}", "has no arguments"),
        ("tool", "shop", "not named by their body"),
    ] {
        let mut wrong = ask(json!({}));
        wrong[key] = value.into();
        let refused = scene.post("operator", "/v1/policy/explain", &wrong).await;
        assert!(
            refused.refused(400, "invalid_input").contains(says),
            "{wrong}"
        );
    }
}
