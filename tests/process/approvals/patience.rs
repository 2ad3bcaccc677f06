//! Agents with little patience, people who take their time, and approvals that nobody comes back for.

use super::scene::{Scene, edited, waits};
use super::talk::{Order, Talk};
use crate::clients::{said, script_path};
use crate::wait::{PATIENCE, until, within};
use http::Method;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// A real client, which gives up after so long and calls again until it has an answer. What it says at the end.
fn client(scene: &Scene, token: &str, timeout: f64, path: &str) -> Command {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/bin/python");
    let mut command = Command::new(python);
    command
        .arg(script_path("retry_client.py"))
        .env("URL", format!("http://{}{path}", scene.gate.agents))
        .env("TOKEN", token)
        .env("TIMEOUT", timeout.to_string());
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}

/// The client calls again and again; a person agrees `after` it began. It gets the answer, of the one run.
async fn is_answered(timeout: f64, after: Duration) {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let path = "/t/act/1";
    let begun = tokio::time::Instant::now();
    let calling = tokio::spawn(said(client(&scene, &session.token, timeout, path)));
    let shown = scene.asked(path).await;
    // It is the person who takes this long.
    tokio::time::sleep_until(begun + after).await;
    assert_eq!(
        scene.pending().await.len(),
        1,
        "all retries stand under one approval"
    );
    scene.approve("dana", &shown).await;
    let told = within(2 * PATIENCE, "the client is answered", calling)
        .await
        .unwrap();
    println!("time-out {timeout} s, approved after {after:?}: {told}");
    assert_eq!(told["status"], 200, "{told}");
    assert_eq!(told["echo"]["body"], "{\"amount\": 7}", "{told}");
    assert!(
        told["timeouts"].as_u64().unwrap() >= 1,
        "it was impatient: {told}"
    );
    assert_eq!(scene.backend.seen("POST /act/1"), 1);
    assert_eq!(scene.stage(&shown.id).await, "executed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_gives_up_after_5_s_and_retries_gets_its_answer_after_an_approval_at_20_s() {
    is_answered(5.0, Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_gives_up_after_half_a_second_and_retries_gets_its_answer_all_the_same() {
    is_answered(0.5, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_that_nobody_comes_back_for_expires_and_never_runs() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/brief/1");
    let shown = scene.ask(&session, &order).await;
    scene.approve("dana", &shown).await;
    scene.comes_to(&shown.id, "expired").await;
    // Who comes back now is too late: a person is asked again.
    let late = scene.send(&session, &order.clone().at_once()).await;
    assert_ne!(waits(&late), shown.id);
    assert_eq!(scene.backend.total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_when_an_approval_expires_is_told_so() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/brief/1");
    let waiting = scene.sending(&session, &order);
    let shown = scene.asked("/t/brief/1").await;
    waiting.await.unwrap().refused(403, "approval_expired");
    assert_eq!(scene.stage(&shown.id).await, "expired");
    scene
        .decide("dana", &shown, "approve")
        .await
        .refused(409, "conflict");
    assert_eq!(scene.backend.total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_says_how_long_it_waits_and_never_longer_than_the_chain_allows() {
    let scene =
        Scene::open_with(|yaml| edited(&yaml, "quorum: 2, hold: 30s", "quorum: 2, hold: 1s")).await;
    let session = scene.mint().await;
    let timed = async |order: Order| {
        let begun = tokio::time::Instant::now();
        let answer = scene.send(&session, &order).await;
        (begun.elapsed(), answer)
    };
    let (short, answer) = timed(Order::post("/t/act/1").wait(1)).await;
    waits(&answer);
    assert_eq!(answer.header("preference-applied"), Some("wait=1"));
    assert!(
        short >= Duration::from_millis(900) && short < Duration::from_secs(20),
        "{short:?}"
    );
    let (at_once, answer) = timed(Order::post("/t/act/2").at_once()).await;
    waits(&answer);
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    assert!(at_once < Duration::from_secs(20), "{at_once:?}");
    // However much it asks for, and in whatever words.
    for wish in [
        "wait=3600",
        "wait=99999999999999999999999999",
        "wait=-1",
        "wait=",
        "wait",
        "wait=x, respond=9",
    ] {
        let order = Order::post("/t/pair/1").with("prefer", wish);
        let (long, answer) = timed(order).await;
        waits(&answer);
        assert!(long < Duration::from_secs(20), "{wish}: {long:?}");
    }
    // Over HTTP/2 as well, and many at once on one connection.
    let mut talk = Talk::open_http2(scene.gate.agents).await.unwrap();
    waits(
        &talk
            .send(&session.token, &Order::post("/t/act/1").wait(1))
            .await
            .unwrap(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_of_http2_are_held_too_and_join_what_came_over_http1() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/act/1").body("the same");
    let shown = scene.ask(&session, &order).await;
    let token = session.token.clone();
    let (address, held) = (scene.gate.agents, order.clone());
    let waiting = tokio::spawn(async move {
        let mut talk = Talk::open_http2(address).await.unwrap();
        let other = talk
            .send(&token, &Order::new(Method::GET, "/t/read/1"))
            .await;
        other.unwrap().expect(200);
        talk.send(&token, &held).await.unwrap()
    });
    until("it passes while the other is held", || async {
        (scene.backend.seen("GET /read/1") == 1).then_some(())
    })
    .await;
    assert_eq!(scene.pending().await.len(), 1);
    scene.approve("dana", &shown).await;
    waiting.await.unwrap().expect(200);
    assert_eq!(scene.backend.seen("POST /act/1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_can_be_done_by_hand_with_curl() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let curl = async |token: &str, arguments: &[&str]| -> Value {
        let mut command = Command::new("curl");
        command.args(["-sS", "--noproxy", "*", "--max-time", "60", "-H"]);
        command
            .arg(format!("Authorization: Bearer {token}"))
            .args(arguments);
        said(command).await
    };
    let (agents, admin) = (
        format!("http://{}", scene.gate.agents),
        format!("http://{}", scene.gate.admin),
    );
    let (agent, dana) = (session.token.as_str(), scene.setup.key("dana"));
    let delete = [
        "-X",
        "DELETE",
        "-H",
        "Prefer: respond-async",
        &format!("{agents}/t/items/7"),
    ];
    let held = curl(agent, &delete).await;
    assert_eq!(held["status"], "PENDING_APPROVAL", "{held}");
    let list = curl(dana, &[&format!("{admin}/v1/approvals?state=pending")]).await;
    let one = &list["items"][0];
    assert_eq!(
        (&one["id"], &one["call"]["method"]),
        (&held["approval"], &json!("DELETE")),
        "{list}"
    );
    let word = json!({ "decision": "approve", "digest": one["digest"], "note": "checked by hand" })
        .to_string();
    let place = format!(
        "{admin}/v1/approvals/{}/decision",
        one["id"].as_str().unwrap()
    );
    let decided = curl(
        dana,
        &["-H", "Content-Type: application/json", "-d", &word, &place],
    )
    .await;
    assert_eq!(super::scene::stage(&decided), "approved", "{decided}");
    let told = curl(
        agent,
        &[&format!(
            "{agents}/.toolgate/approvals/{}",
            held["approval"].as_str().unwrap()
        )],
    )
    .await;
    assert_eq!(super::scene::stage(&told), "approved", "{told}");
    let done = curl(agent, &delete).await;
    assert_eq!(
        (&done["method"], &done["target"]),
        (&json!("DELETE"), &json!("/items/7")),
        "{done}"
    );
    assert_eq!(scene.backend.seen("DELETE /items/7"), 1);
}
