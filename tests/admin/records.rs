//! Who did what through the admin API, as the ledger has it: every call that changes something, whoever could not say who
//! they are, and nothing for who only looks.

use crate::scene::{Scene, exchange, key, records_of};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

const OWN: [(&str, &str); 2] = [
    ("sec-fetch-site", "same-origin"),
    ("content-type", "application/x-www-form-urlencoded"),
];

/// Who called what from where, in order.
fn called(records: &[Value]) -> Vec<(String, String)> {
    let calls = records
        .iter()
        .filter(|record| record["kind"] == "principal" && record["change"] == "called");
    calls
        .map(|record| {
            assert_eq!(
                (&record["client"], &record["count"]),
                (&json!("127.0.0.1"), &json!(1)),
                "{record}"
            );
            let text = |name: &str| record[name].as_str().unwrap().to_owned();
            (text("principal"), text("detail"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_admin_call_that_changes_something_is_on_record_and_no_other_is() {
    let scene = Scene::asking();
    let (id, token) = scene.mint().await;
    let mut expected = vec![("root".to_owned(), format!("POST /v1/sessions: {id}"))];
    let mut expect =
        |who: &str, call: String| expected.push((who.to_owned(), call.replace("ID", &id)));
    let session = format!("/v1/sessions/{id}");

    let wish = json!({ "scope": "items.write", "reason": "for the ticket" });
    let given = scene
        .post("issuer", &format!("{session}/grants"), &wish)
        .await
        .expect(201)
        .json();
    let grant = given["id"].as_str().unwrap();
    expect("issuer", format!("POST {session}/grants: {grant}"));
    scene
        .delete("issuer", &format!("/v1/grants/{grant}"))
        .await
        .expect(200);
    expect("issuer", format!("DELETE /v1/grants/{grant}"));
    let wish = json!({ "scope": "vault.open", "reason": "for the audit" });
    let asked = scene
        .post("issuer", &format!("{session}/grants"), &wish)
        .await
        .expect(202)
        .json();
    let approval = asked["approval"].as_str().unwrap();
    expect("issuer", format!("POST {session}/grants: {approval}"));

    let held = scene
        .held(&token, Method::DELETE, "/shop/items/1", "")
        .await;
    scene.says("dana", &held, "deny").await.expect(200);
    expect("dana", format!("POST /v1/approvals/{held}/decision: deny"));
    let reason = json!({ "reason": "looks odd" });
    for step in ["quarantine", "release"] {
        scene
            .post("operator", &format!("{session}/{step}"), &reason)
            .await
            .expect(200);
        expect("operator", format!("POST {session}/{step}"));
    }
    scene
        .post("operator", "/v1/policy/reload", &json!({}))
        .await
        .expect(200);
    expect("operator", "POST /v1/policy/reload".to_owned());
    let form = format!("to=%2F&key={}", key("auditor"));
    let came = scene.raw(Method::POST, "/sign-in", &OWN, form).await;
    let cookie = came.expect(303).headers["set-cookie"].clone();
    let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
    expect("auditor", "POST /sign-in".to_owned());
    scene.delete("issuer", &session).await.expect(200);
    expect("issuer", format!("DELETE {session}"));

    // Looking, and what is refused, changes nothing.
    for path in ["/v1/sessions", "/v1/policy", "/v1/approvals"] {
        for who in ["root", "dana"] {
            scene.get(who, path).await;
        }
    }
    let page = [("cookie", cookie)];
    scene
        .raw(Method::GET, "/sessions", &page, "")
        .await
        .expect(200);
    scene.delete("issuer", &session).await.expect(404);
    scene
        .post("operator", &format!("{session}/quarantine"), &reason)
        .await
        .expect(404);
    scene
        .post("auditor", "/v1/sessions", &json!({}))
        .await
        .expect(403);
    assert_eq!(called(&scene.records()), expected);
    let all = json!(scene.records()).to_string();
    for secret in [&token, &key("root"), &key("auditor")] {
        assert!(!all.contains(&secret[4..]), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_both_listeners_failures_become_a_record_for_each_client_and_second() {
    let scene = Scene::start();
    let addresses = [
        scene.running.addresses.agents,
        scene.running.addresses.admin,
    ];
    let wrong = format!("Bearer {}", key("nobody"));
    for _ in 0..60 {
        for address in addresses {
            let fields = [("authorization", wrong.as_str())];
            exchange(address, Method::GET, "/v1/sessions", &fields, "")
                .await
                .expect(401);
        }
    }
    let form = format!("to=%2F&key={}", key("nobody"));
    for tries in 1..=12 {
        let status = if tries <= 10 { 403 } else { 429 };
        let answer = scene.raw(Method::POST, "/sign-in", &OWN, &form).await;
        answer.expect(status);
    }
    let Scene { folder, running } = scene;
    assert!(running.drain(Duration::from_secs(10)).await);
    let records = records_of(&folder);
    for (change, failures) in [("strangers", 60), ("failed", 72)] {
        let found: Vec<&Value> = records
            .iter()
            .filter(|record| record["kind"] == "principal" && record["change"] == change)
            .collect();
        let sum: u64 = found
            .iter()
            .map(|record| record["count"].as_u64().unwrap())
            .sum();
        assert_eq!(sum, failures, "{change}: each is counted, once");
        let mut seconds = Vec::new();
        for record in &found {
            assert_eq!(record["client"], "127.0.0.1", "{record}");
            assert!(record.get("principal").is_none(), "{record}");
            seconds.push(record["time"].as_str().unwrap()[..19].to_owned());
        }
        let all = seconds.len();
        seconds.dedup();
        assert!(
            all <= seconds.len() + 1,
            "a record a second, and one of the stop: {found:?}"
        );
    }
    let text = json!(records).to_string();
    assert!(!text.contains(&key("nobody")[4..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_of_policy_and_server_file_is_on_record_with_what_put_it_in_force() {
    let scene = Scene::start();
    let of = |change: &str| scene.recorded("policy", change);
    let loaded = &of("loaded")[0];
    assert_eq!(loaded["trigger"], "start");
    let reload = || async { scene.post("root", "/v1/policy/reload", &json!({})).await };
    // Who is a principal stands in the server file alone: no project's hash would show it.
    let fewer: Vec<_> = Scene::principals()
        .into_iter()
        .filter(|(name, ..)| *name != "approver")
        .collect();
    scene.write_server("127.0.0.1:0", &fewer);
    reload().await.expect(200);
    let reloaded = &of("reloaded")[0];
    assert_eq!(reloaded["trigger"], "principal:root");
    assert_eq!(reloaded["hashes"], loaded["hashes"]);
    assert_ne!(reloaded["server_sha256"], loaded["server_sha256"]);
    assert_eq!(reloaded["hashes"].as_object().unwrap().len(), 2);

    std::fs::write(scene.project("dev"), "version: 1\nproject: [").unwrap();
    reload().await.expect(409);
    let rejected = &of("rejected")[0];
    assert_eq!(rejected["trigger"], "principal:root");
    assert!(
        rejected["detail"]
            .as_str()
            .unwrap()
            .contains("dev.project.yaml:2:")
    );
    for same in ["hashes", "server_sha256"] {
        assert_eq!(rejected[same], reloaded[same], "what stays in force");
    }
}
