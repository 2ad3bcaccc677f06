//! Held requests while the gate is replaced, stopped and started again, and while its disk is full.

use super::scene::{APPROVE, Scene, policy, setup, waits};
use super::talk::Order;
use crate::backend::Backend;
use crate::operations::limit_file_size;
use crate::wait::{PATIENCE, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_is_replaced_tells_who_is_held_to_come_back_and_the_next_runs_it_once() {
    let mut scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/pair/1").body("through it all");
    let waiting = scene.sending(&session, &order);
    let shown = scene.asked("/t/pair/1").await;
    scene.approve("dana", &shown).await;
    let begun = tokio::time::Instant::now();
    let next = scene
        .setup
        .start_with(&["--take-over", "--take-over-wait", "60"])
        .await;
    // Held ones do not hold it up: they have nothing to lose.
    println!("taken over in {:?}", begun.elapsed());
    assert_eq!(waits(&waiting.await.unwrap()), shown.id);
    let mut last = std::mem::replace(&mut scene.gate, next);
    assert!(last.ended().await.success());
    // What was said before counts; what is said now completes it.
    assert_eq!(scene.stage(&shown.id).await, "pending");
    let waiting = scene.sending(&session, &order);
    scene.approve("finn", &shown).await;
    waiting.await.unwrap().expect(200);
    assert_eq!(scene.backend.seen("POST /pair/1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_call_that_runs_while_the_gate_is_replaced_is_answered_and_runs_once() {
    let mut scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/held");
    let shown = scene.ask(&session, &order).await;
    scene.approve("dana", &shown).await;
    let running = scene.sending(&session, &order);
    until("it runs", || async {
        (scene.backend.seen("POST /held") == 1).then_some(())
    })
    .await;
    let next = {
        let starting = scene
            .setup
            .start_with(&["--take-over", "--take-over-wait", "60"]);
        let (gate, backend) = (&scene.gate, &scene.backend);
        let releasing = async {
            until("the gate hands over", || async {
                gate.said("handing over").then_some(())
            })
            .await;
            backend.release(10);
        };
        tokio::join!(starting, releasing).0
    };
    running.await.unwrap().expect(200);
    let mut last = std::mem::replace(&mut scene.gate, next);
    assert!(last.ended().await.success());
    assert_eq!(scene.stage(&shown.id).await, "executed");
    let again = scene.send(&session, &order.clone().at_once()).await;
    assert_ne!(waits(&again), shown.id);
    assert_eq!(scene.backend.seen("POST /held"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_stops_answers_who_is_held_and_knows_them_when_it_is_back() {
    let mut scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/act/1").body("still");
    let waiting = scene.sending(&session, &order);
    let shown = scene.asked("/t/act/1").await;
    let agreed = scene.ask(&session, &Order::post("/t/act/2")).await;
    scene.approve("dana", &agreed).await;
    scene.gate.signal("TERM");
    let begun = tokio::time::Instant::now();
    let answer = within(PATIENCE, "who is held is answered", waiting)
        .await
        .unwrap();
    assert_eq!(waits(&answer), shown.id);
    // Long before it would have been let go.
    assert!(begun.elapsed().as_secs() < 25, "{:?}", begun.elapsed());
    assert!(scene.gate.ended().await.success());
    let next = scene.setup.start().await;
    scene.gate = next;
    assert_eq!(scene.stage(&shown.id).await, "pending");
    assert_eq!(scene.stage(&agreed.id).await, "approved");
    // What was agreed to before runs; what waited goes on waiting.
    scene
        .send(&session, &Order::post("/t/act/2"))
        .await
        .expect(200);
    assert_eq!(
        waits(&scene.send(&session, &order.clone().at_once()).await),
        shown.id
    );
    scene.approve("dana", &shown).await;
    scene.send(&session, &order).await.expect(200);
    let (one, two) = (
        scene.backend.seen("POST /act/1"),
        scene.backend.seen("POST /act/2"),
    );
    assert_eq!((one, two), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_no_word_counts_and_nothing_runs_until_there_is_space() {
    let backend = Backend::start("t").await;
    let setup = setup(&policy(&backend));
    let gate = setup.start_for_a_full_disk().await;
    let scene = Scene {
        backend,
        setup,
        gate,
    };
    let session = scene.mint().await;
    let (waiting, agreed) = (Order::post("/t/act/1"), Order::post("/t/act/2"));
    let shown = scene.ask(&session, &waiting).await;
    let ready = scene.ask(&session, &agreed).await;
    scene.approve("dana", &ready).await;
    limit_file_size(scene.gate.id(), "0:").await;
    let answer = scene.decide("dana", &shown, APPROVE).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    for order in [&waiting, &agreed, &Order::post("/t/act/3")] {
        let answer = scene.send(&session, &order.clone().at_once()).await;
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    assert_eq!(scene.backend.total(), 0);
    limit_file_size(scene.gate.id(), "unlimited:").await;
    until("words are taken again", || async {
        let answer = scene.decide("dana", &shown, APPROVE).await;
        (answer.status == 200).then_some(())
    })
    .await;
    for order in [&waiting, &agreed] {
        until("it runs", || async {
            let answer = scene.send(&session, order).await;
            (answer.status == 200).then_some(())
        })
        .await;
    }
    let (one, two) = (
        scene.backend.seen("POST /act/1"),
        scene.backend.seen("POST /act/2"),
    );
    assert_eq!((one, two, scene.backend.total()), (1, 1, 2));
}
