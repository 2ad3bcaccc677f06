//! The policy in force, and how another takes its place.

use crate::scene::{Scene, policy};
use http::Method;
use serde_json::json;

async fn hashes(scene: &Scene, principal: &str) -> Vec<(String, String)> {
    let shown = scene.get(principal, "/v1/policy").await.expect(200).json();
    assert_eq!(shown["next"], json!(null));
    let text = |item: &serde_json::Value, name: &str| item[name].as_str().unwrap().to_owned();
    let items = shown["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| (text(item, "project"), text(item, "hash")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_of_one_s_own_projects_are_shown() {
    let scene = Scene::start();
    let own = hashes(&scene, "operator").await;
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].0, "dev");
    let both: Vec<String> = hashes(&scene, "root")
        .await
        .into_iter()
        .map(|(project, _)| project)
        .collect();
    assert_eq!(both, ["dev", "prod"]);
    let shown = scene.get("operator", "/v1/policy").await.expect(200).json();
    assert_eq!(shown["items"][0]["agents"], json!(["bot"]));
    assert_eq!(shown["items"][0]["tools"], json!(["shop"]));
    assert_eq!(shown["items"][0]["routes"], 2);
    assert_eq!(shown["items"][0]["limits"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_change_is_in_force_when_the_reload_is_answered() {
    let scene = Scene::start();
    let (_, token) = scene.mint().await;
    let before = hashes(&scene, "operator").await;
    scene
        .agent(&token, Method::GET, "/shop/late")
        .await
        .refused(403, "no_route");
    let more = policy("dev").replace(
        "limits:",
        "      - { id: late, match: GET /late, scope: items.read }\nlimits:",
    );
    // The example of a route without a resource beside one with: the ceiling of `items.read` names none.
    std::fs::write(scene.project("dev"), more).unwrap();
    let answer = scene
        .post("operator", "/v1/policy/reload", &json!({}))
        .await
        .expect(200)
        .json();
    assert_eq!(answer["items"][0]["routes"], 3);
    scene
        .agent(&token, Method::GET, "/shop/late")
        .await
        .refused(502, "upstream_failed");
    assert_ne!(hashes(&scene, "operator").await, before);
    let recorded = scene.recorded("policy", "reloaded");
    assert!(
        recorded
            .iter()
            .any(|record| record["trigger"] == "principal:operator"),
        "{recorded:?}"
    );
    assert!(
        !scene
            .metrics()
            .await
            .contains("toolgate_policy_reloads_total{result=\"applied\"} 0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing_and_says_where_it_is_broken() {
    let scene = Scene::start();
    let (_, token) = scene.mint().await;
    let before = hashes(&scene, "root").await;
    let broken = policy("dev").replace("mount: /shop", "mount: /shop\n    mouth: /shop");
    std::fs::write(scene.project("dev"), broken).unwrap();
    let answer = scene.post("root", "/v1/policy/reload", &json!({})).await;
    let errors = answer.json()["errors"].clone();
    answer.refused(409, "conflict");
    assert_eq!(errors.as_array().unwrap().len(), 1, "{errors}");
    assert!(
        errors[0]["file"]
            .as_str()
            .unwrap()
            .ends_with("dev.project.yaml")
    );
    assert_eq!(errors[0]["line"], 12);
    assert!(
        errors[0]["message"].as_str().unwrap().contains("mouth"),
        "{errors}"
    );
    // Who does not see every project is not shown excerpts of files that may be another's.
    let partial = scene
        .post("operator", "/v1/policy/reload", &json!({}))
        .await;
    assert!(partial.json().get("errors").is_none());
    assert!(!partial.refused(409, "conflict").contains("mouth"));
    assert_eq!(hashes(&scene, "root").await, before);
    scene
        .agent(&token, Method::GET, "/shop/items/1")
        .await
        .refused(502, "upstream_failed");
    assert!(
        !scene
            .metrics()
            .await
            .contains("toolgate_policy_reloads_total{result=\"rejected\"} 0")
    );
    assert!(!scene.recorded("policy", "rejected").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_refused_by_name() {
    let scene = Scene::start();
    scene.write_server("127.0.0.1:1", &Scene::principals());
    let detail = scene
        .post("root", "/v1/policy/reload", &json!({}))
        .await
        .refused(409, "conflict");
    assert!(detail.contains("needs a restart"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_that_is_taken_out_is_nobody_from_then_on() {
    let scene = Scene::start();
    scene.get("auditor", "/v1/sessions").await.expect(200);
    let mut left = Scene::principals();
    left.retain(|(name, ..)| *name != "auditor");
    scene.write_server("127.0.0.1:0", &left);
    scene
        .post("root", "/v1/policy/reload", &json!({}))
        .await
        .expect(200);
    scene
        .get("auditor", "/v1/sessions")
        .await
        .refused(401, "credential_invalid");
    scene.get("issuer", "/v1/sessions").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_project_that_is_taken_out_are_nobody_s() {
    let scene = Scene::start();
    let (id, token) = scene
        .mint_with(json!({ "project": "prod", "agent": "bot" }))
        .await;
    scene
        .agent(&token, Method::GET, "/.toolgate/session")
        .await
        .expect(200);
    let principals: Vec<_> = Scene::principals()
        .into_iter()
        .filter(|(name, ..)| *name != "stranger")
        .map(|(name, roles, _)| (name, roles, "dev"))
        .collect();
    std::fs::remove_file(scene.project("prod")).unwrap();
    scene.write_server("127.0.0.1:0", &principals);
    scene
        .post("root", "/v1/policy/reload", &json!({}))
        .await
        .expect(200);
    scene
        .agent(&token, Method::GET, "/.toolgate/session")
        .await
        .refused(401, "credential_invalid");
    scene
        .get("root", &format!("/v1/sessions/{id}"))
        .await
        .refused(404, "not_found");
}
