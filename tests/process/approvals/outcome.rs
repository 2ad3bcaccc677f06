//! How the one run of an approved call can end, and what the agent hears of it.

use super::scene::{Scene, policy, setup, waits};
use super::talk::{Order, Talk};
use crate::backend::Backend;
use crate::gate::Minted;
use crate::ledger;
use crate::wait::{PATIENCE, until, within};
use http::Method;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;

/// Asks, has it approved, and gives the approval's id.
async fn approved(scene: &Scene, session: &Minted, order: &Order) -> String {
    let shown = scene.ask(session, order).await;
    scene.approve("dana", &shown).await;
    shown.id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_leaves_while_its_approved_call_runs_gets_the_outcome_once_when_it_returns() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/held").body("run me");
    let id = approved(&scene, &session, &order).await;
    let mut talk = scene.talk().await;
    {
        let running = talk.send(&session.token, &order);
        let begun = until("it runs", || async {
            (scene.backend.seen("POST /held") == 1).then_some(())
        });
        tokio::select! { answer = running => panic!("{answer:?}"), () = begun => {} }
    }
    drop(talk);
    scene.backend.release(10);
    scene.comes_to(&id, "executed").await;
    let first = scene.send(&session, &order).await.expect(200);
    assert_eq!(first.header("toolgate-replayed"), Some("true"), "{first:?}");
    assert_eq!(first.header("x-backend"), Some("t"), "{first:?}");
    assert_eq!(first.json(), json!({ "released": true }));
    // It has its answer: the same request is a new one, and a person is asked again.
    // (The gate learns that the last byte was taken a moment after the agent has it.)
    let anew = until("the same request is a new one", || async {
        let second = scene.send(&session, &order.clone().at_once()).await;
        (second.status == 202).then(|| waits(&second))
    });
    assert_ne!(anew.await, id);
    assert_eq!(scene.backend.seen("POST /held"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_leaves_while_held_finds_its_request_where_it_stands() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/act/1").body("held");
    let waiting = scene.sending(&session, &order);
    let shown = scene.asked("/t/act/1").await;
    waiting.abort();
    drop(waiting.await);
    // Still waits, and is agreed to while nobody is there.
    let again = scene.send(&session, &order.clone().at_once()).await;
    assert_eq!(waits(&again), shown.id);
    scene.approve("dana", &shown).await;
    // That it has left the gate may learn a little later; then the call ran already, and its outcome was kept.
    scene.send(&session, &order).await.expect(200);
    assert_eq!(scene.backend.seen("POST /act/1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_longer_than_is_kept_or_streamed_is_passed_whole_to_who_stays() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let size = 3 * 1024 * 1024;
    let big = Order::post(format!("/t/big?bytes={size}"));
    let id = approved(&scene, &session, &big).await;
    let answer = scene.send(&session, &big).await.expect(200);
    assert_eq!(answer.body.len(), size);
    scene.comes_to(&id, "executed").await;
    assert_ne!(
        waits(&scene.send(&session, &big.clone().at_once()).await),
        id
    );

    let events = scene.backend.events();
    let stream = Order::post("/t/events");
    let id = approved(&scene, &session, &stream).await;
    let streaming = scene.sending(&session, &stream);
    for event in ["data: one\n\n", "data: two\n\n"] {
        events.send(event.into()).await.unwrap();
    }
    drop(events);
    let answer = streaming.await.unwrap().expect(200);
    assert_eq!(answer.text(), "data: one\n\ndata: two\n\n");
    scene.comes_to(&id, "executed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_answer_that_was_too_long_to_keep_the_agent_learns_that_its_call_ran() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/big?bytes=50000000");
    let id = approved(&scene, &session, &order).await;
    let mut talk = scene.talk().await;
    {
        // Leaves in the middle: of 50 MB, hardly all is on its way.
        let running = talk.start(&session.token, &order);
        within(PATIENCE, "the answer begins", running)
            .await
            .unwrap();
    }
    drop(talk);
    scene.comes_to(&id, "executed").await;
    let again = scene
        .send(&session, &order)
        .await
        .refused(409, "outcome_not_kept");
    assert!(
        again.text().contains("200"),
        "it names the status: {again:?}"
    );
    assert_eq!(scene.backend.total(), 1);
}

/// A port that refuses connections until it is opened, and is nobody else's meanwhile.
struct Shut(Socket, SocketAddr);

impl Shut {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self(socket, address)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_which_no_byte_was_written_stays_approved_and_runs_on_the_next_retry() {
    let aside = Backend::start("aside").await;
    let shut = Shut::new();
    let yaml = policy(&aside).replace(&aside.address.to_string(), &shut.1.to_string());
    let setup = setup(&yaml);
    let gate = setup.start().await;
    let scene = Scene {
        backend: aside,
        setup,
        gate,
    };
    let session = scene.mint().await;
    let order = Order::post("/t/act/1").body("once");
    let id = approved(&scene, &session, &order).await;
    for _ in 0..2 {
        scene
            .send(&session, &order)
            .await
            .refused(502, "upstream_failed");
        assert_eq!(scene.stage(&id).await, "approved");
    }
    let open = Backend::open("t", shut.0);
    scene.send(&session, &order).await.expect(200);
    assert_eq!(scene.stage(&id).await, "executed");
    assert_eq!(open.seen("POST /act/1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_backend_died_is_unknown_until_an_operator_says_what_happened() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    // Closed without a byte of answer: it may have happened.
    let broken = Order::post("/t/broken").body("once");
    let id = approved(&scene, &session, &broken).await;
    let answer = scene.send(&session, &broken).await;
    assert!(matches!(answer.status.as_u16(), 409 | 502), "{answer:?}");
    assert_eq!(scene.stage(&id).await, "unknown");
    for _ in 0..3 {
        scene
            .send(&session, &broken)
            .await
            .refused(409, "outcome_unknown");
    }
    assert_eq!(scene.backend.seen("POST /broken"), 1);

    // Only an operator may say so, with a reason, and once.
    let path = format!("/v1/approvals/{id}/resolve");
    let said = |ran: bool| json!({ "ran": ran, "note": "the backend's own log has no such call" });
    scene
        .by("dana", Method::POST, &path, &said(false))
        .await
        .refused(403, "role_missing");
    let session_says = scene.gate.admin;
    super::talk::send(
        session_says,
        &session.token,
        &Order::post(&path)
            .body(said(false).to_string())
            .with("content-type", "application/json")
            .to(session_says),
    )
    .await
    .refused(401, "credential_invalid");
    scene
        .by(
            "root",
            Method::POST,
            &path,
            &json!({ "ran": false, "note": " " }),
        )
        .await
        .refused(400, "invalid_input");
    scene
        .by("root", Method::POST, &path, &said(false))
        .await
        .expect(200);
    scene
        .by("root", Method::POST, &path, &said(true))
        .await
        .refused(409, "conflict");
    assert_eq!(scene.stage(&id).await, "approved");
    // It may run once more; that its backend closes on it again changes nothing of that.
    drop(scene.send(&session, &broken).await);
    assert_eq!(scene.backend.seen("POST /broken"), 2);
    scene
        .send(&session, &broken)
        .await
        .refused(409, "outcome_unknown");
    scene
        .by("root", Method::POST, &path, &said(true))
        .await
        .expect(200);
    assert_eq!(scene.stage(&id).await, "executed");
    let after = scene.send(&session, &broken.clone().at_once()).await;
    assert!(matches!(after.status.as_u16(), 202 | 409), "{after:?}");
    assert_eq!(scene.backend.seen("POST /broken"), 2);
    let records = ledger::verified(&scene.setup.ledger());
    let resolved = records
        .iter()
        .filter(|it| it["kind"] == "approval" && it["principal"] == "root");
    assert_eq!(resolved.count(), 2, "who said so is on record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_is_never_run_again_by_itself() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/cut");
    let id = approved(&scene, &session, &order).await;
    let mut talk = Talk::open(scene.gate.agents).await.unwrap();
    let first = talk.send(&session.token, &order).await;
    if let Ok(answer) = first {
        assert_ne!(
            answer.status, 200,
            "what is cut does not look whole: {answer:?}"
        );
    }
    let stage = until("its run is over", || async {
        let stage = scene.stage(&id).await;
        (stage != "executing").then_some(stage)
    })
    .await;
    assert!(["unknown", "executed"].contains(&stage.as_str()), "{stage}");
    let again = scene.send(&session, &order.clone().at_once()).await;
    assert!(
        matches!(again.status.as_u16(), 409 | 202),
        "{stage}: {again:?}"
    );
    assert_eq!(scene.backend.seen("POST /cut"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_waited_for_by_those_who_ask_meanwhile_and_polls_tell_where_it_stands() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/held");
    let shown = scene.ask(&session, &order).await;
    let place = Order::new(Method::GET, format!("/.toolgate/approvals/{}", shown.id));
    let poll = || async { scene.send(&session, &place).await };
    assert_eq!(super::scene::stage(&poll().await.json()), "pending");
    // A long poll hears of the decision; it does not run anything.
    let waiting = scene.sending(&session, &place.clone().wait(30));
    scene.approve("dana", &shown).await;
    assert_eq!(
        super::scene::stage(&waiting.await.unwrap().expect(200).json()),
        "approved"
    );
    assert_eq!(scene.backend.total(), 0);
    let running = scene.sending(&session, &order);
    scene.comes_to(&shown.id, "executing").await;
    scene.backend.release(1);
    running.await.unwrap().expect(200);
    assert_eq!(scene.stage(&shown.id).await, "executed");
}
