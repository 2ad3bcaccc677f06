//! Grants that a person decides, and approvals that go on stored grants.

use super::scene::{APPROVE, Scene, stage, waits};
use super::talk::Order;
use crate::client::Answer;
use crate::gate::Minted;
use http::Method;
use serde_json::{Value, json};

async fn wish(scene: &Scene, session: &Minted, wish: &Value) -> Answer {
    let order = Order::post("/.toolgate/grants").with("content-type", "application/json");
    scene.send(session, &order.body(wish.to_string())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_needs_people_is_given_when_enough_agree_and_is_worth_what_was_agreed() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let export = Order::post("/t/export/1");
    let refused = scene
        .send(&session, &export)
        .await
        .refused(403, "grant_missing");
    assert!(
        refused.json()["next"]["href"].as_str().is_some(),
        "{refused:?}"
    );
    let wanted = json!({ "scope": "export", "resource": "item:1", "uses": 2, "ttl": "5m", "reason": "the quarter's report" });
    let id = waits(&wish(&scene, &session, &wanted).await);
    // The same wish joins; a greedier one is another.
    assert_eq!(waits(&wish(&scene, &session, &wanted).await), id);
    let mut greedier = wanted.clone();
    greedier["resource"] = json!("item:2");
    let other = waits(&wish(&scene, &session, &greedier).await);
    assert_ne!(other, id);
    let shown = scene.shown(&id).await;
    let all = scene.all(&id).await;
    assert_eq!(all["asked"], "grant", "{all}");
    assert_eq!(all["grant"]["uses"], 2, "{all}");
    assert!(all.to_string().contains("the quarter's report"), "{all}");
    scene.approve("dana", &shown).await;
    scene
        .send(&session, &export)
        .await
        .refused(403, "grant_missing");
    scene.approve("finn", &shown).await;
    // Given with the last word, without the agent's coming back.
    for _ in 0..2 {
        scene.send(&session, &export).await.expect(200);
    }
    scene
        .send(&session, &export)
        .await
        .refused(403, "grant_missing");
    assert_eq!(scene.stage(&id).await, "executed");
    scene
        .send(&session, &Order::post("/t/export/2"))
        .await
        .refused(403, "grant_missing");
    assert_eq!(scene.backend.seen("POST /export/1"), 2);
    assert_eq!(scene.backend.total(), 2);
    let told = scene
        .send(
            &session,
            &Order::new(Method::GET, format!("/.toolgate/approvals/{id}")),
        )
        .await;
    assert_eq!(stage(&told.expect(200).json()), "executed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_needs_people_waits_for_them_whoever_asks() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let path = format!("/v1/sessions/{}/grants", session.id);
    let wanted = json!({ "scope": "export", "resource": "item:1", "reason": "it said so" });
    let id = waits_of(&scene.gate.admin(Method::POST, &path, &wanted).await);
    scene
        .send(&session, &Order::post("/t/export/1"))
        .await
        .refused(403, "grant_missing");
    let shown = scene.shown(&id).await;
    scene.approve("dana", &shown).await;
    scene.decide("finn", &shown, "deny").await.expect(200);
    assert_eq!(scene.stage(&id).await, "denied");
    scene
        .send(&session, &Order::post("/t/export/1"))
        .await
        .refused(403, "grant_missing");
    assert_eq!(scene.backend.total(), 0);
}

/// The admin API's 202, which has its own place.
fn waits_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    let json = answer.json();
    let id = json["approval"].as_str().or(json["id"].as_str());
    id.unwrap_or_else(|| panic!("{json}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_grant_agreed_to_many_times_at_once_is_given_once() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let wanted = json!({ "scope": "export", "resource": "item:1", "uses": 1, "ttl": "5m", "reason": "once" });
    let id = waits(&wish(&scene, &session, &wanted).await);
    let shown = scene.shown(&id).await;
    scene.approve("finn", &shown).await;
    let words = ["dana", "eli", "dana", "eli", "finn", "dana"]
        .map(|who| scene.decide(who, &shown, APPROVE));
    let polls = [(); 8].map(|()| wish(&scene, &session, &wanted));
    let (words, polls) = tokio::join!(
        futures_util::future::join_all(words),
        futures_util::future::join_all(polls)
    );
    assert!(words.iter().any(|it| it.status == 200), "{words:?}");
    let calls: Vec<_> = (0..16).map(|_| Order::post("/t/export/1")).collect();
    let calls = calls.iter().map(|order| scene.send(&session, order));
    let passed = futures_util::future::join_all(calls).await;
    let passed = passed.iter().filter(|it| it.status == 200).count();
    assert_eq!(
        (passed, scene.backend.seen("POST /export/1")),
        (1, 1),
        "{polls:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_call_reserves_a_use_of_its_grant_and_a_run_takes_it() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let once = |body: &str| Order::post("/t/once/1").body(body.to_owned());
    let wanted = json!({ "scope": "once", "resource": "item:1", "uses": 2, "ttl": "10m", "reason": "two of them" });
    scene
        .send(&session, &once("a").at_once())
        .await
        .refused(403, "grant_missing");
    wish(&scene, &session, &wanted).await.expect(201);
    let first = scene.ask(&session, &once("a")).await;
    let second = scene.ask(&session, &once("b")).await;
    scene
        .send(&session, &once("c").at_once())
        .await
        .refused(403, "grant_missing");
    // Taken back, its use is free again; denied too.
    let back = Order::new(
        Method::DELETE,
        format!("/.toolgate/approvals/{}", second.id),
    );
    assert!(scene.send(&session, &back).await.status.is_success());
    let third = scene.ask(&session, &once("c")).await;
    scene.decide("dana", &third, "deny").await.expect(200);
    let fourth = scene.ask(&session, &once("d")).await;
    for shown in [&first, &fourth] {
        scene.approve("dana", shown).await;
    }
    for body in ["a", "d"] {
        scene.send(&session, &once(body)).await.expect(200);
    }
    scene
        .send(&session, &once("e").at_once())
        .await
        .refused(403, "grant_missing");
    assert_eq!(scene.backend.seen("POST /once/1"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_is_worth_nothing_when_its_grant_is_taken_away() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let wanted =
        json!({ "scope": "once", "resource": "item:1", "uses": 1, "ttl": "10m", "reason": "one" });
    let grant = wish(&scene, &session, &wanted).await.expect(201).json();
    let order = Order::post("/t/once/1");
    let shown = scene.ask(&session, &order).await;
    scene.approve("dana", &shown).await;
    let path = format!("/v1/grants/{}", grant["id"].as_str().unwrap());
    scene
        .gate
        .admin(Method::DELETE, &path, ())
        .await
        .expect(200);
    scene.send(&session, &order).await.expect(403);
    // A grant of another day is not the one that was agreed to.
    wish(&scene, &session, &wanted).await.expect(201);
    let answer = scene.send(&session, &order.clone().at_once()).await;
    assert_ne!(answer.status, 200, "{answer:?}");
    assert_eq!(scene.backend.total(), 0);
}
