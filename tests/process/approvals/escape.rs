//! Ways around people that an agent that wants out would try.

use super::scene::{APPROVE, DENY, Scene, edited, waits};
use super::talk::{HOST, Order, raw, send};
use crate::client::Answer;
use crate::gate::{Minted, minted};
use http::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_without_the_role_the_group_and_clean_hands_decides_anything() {
    let scene = Scene::open().await;
    let order = Order::post("/t/act/1");
    let session = scene.mint().await;
    let shown = scene.ask(&session, &order).await;
    let decision = format!("/v1/approvals/{}/decision", shown.id);
    let word = json!({ "decision": "approve", "digest": shown.digest });
    // The agent itself, at either listener.
    let own = Order::post(&decision)
        .with("content-type", "application/json")
        .body(word.to_string());
    let at_admin = own.clone().to(scene.gate.admin);
    send(scene.gate.admin, &session.token, &at_admin)
        .await
        .refused(401, "credential_invalid");
    let answer = scene.send(&session, &own).await;
    assert_eq!(answer.reason().as_deref(), Some("no_route"), "{answer:?}");
    let posted = Order::post(format!("/.toolgate/approvals/{}", shown.id)).body(word.to_string());
    assert!(scene.send(&session, &posted).await.status.is_client_error());
    send(scene.gate.admin, "", &at_admin)
        .await
        .refused(401, "credential_missing");
    // Who mints and operates; who is in another group.
    for who in ["root", "finn"] {
        scene
            .by(who, Method::POST, &decision, &word)
            .await
            .refused(403, "role_missing");
    }
    // Who minted the session, though in the group.
    let asked = json!({ "project": "demo", "agent": "bot" });
    let colluding = minted(
        &scene
            .by("mina", Method::POST, "/v1/sessions", &asked)
            .await
            .expect(201),
    );
    let hers = scene.ask(&colluding, &order).await;
    scene
        .decide("mina", &hers, APPROVE)
        .await
        .refused(403, "role_missing");
    // Nor for a child of it.
    let child = json!({ "project": "demo", "agent": "bot", "parent": session.id });
    let child = minted(
        &scene
            .by("mina", Method::POST, "/v1/sessions", &child)
            .await
            .expect(201),
    );
    let childs = scene.ask(&child, &order).await;
    scene
        .decide("mina", &childs, APPROVE)
        .await
        .refused(403, "role_missing");
    // What was not shown can't be agreed to.
    for digest in [
        hers.digest.to_uppercase(),
        "0".repeat(64),
        String::new(),
        "f".repeat(63),
    ] {
        let word = json!({ "decision": "approve", "digest": digest });
        let answer = scene.by("dana", Method::POST, &decision, &word).await;
        if digest != shown.digest {
            answer.refused(409, "conflict");
        }
    }
    let without = json!({ "decision": "approve" });
    scene
        .by("dana", Method::POST, &decision, &without)
        .await
        .refused(400, "invalid_input");
    for (session, shown) in [(&session, &shown), (&colluding, &hers), (&child, &childs)] {
        assert_eq!(scene.stage(&shown.id).await, "pending");
        waits(&scene.send(session, &order.clone().at_once()).await);
    }
    assert_eq!(scene.backend.total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minter_of_two_can_not_complete_a_quorum_and_one_person_is_never_two() {
    let scene = Scene::open().await;
    let asked = json!({ "project": "demo", "agent": "bot" });
    let session = minted(
        &scene
            .by("mina", Method::POST, "/v1/sessions", &asked)
            .await
            .expect(201),
    );
    let order = Order::post("/t/pair/1");
    let shown = scene.ask(&session, &order).await;
    for _ in 0..3 {
        scene.approve("dana", &shown).await;
    }
    scene
        .decide("mina", &shown, APPROVE)
        .await
        .refused(403, "role_missing");
    assert_eq!(scene.stage(&shown.id).await, "pending");
    waits(&scene.send(&session, &order.clone().at_once()).await);
    // A second thought is no second word.
    scene
        .decide("dana", &shown, DENY)
        .await
        .refused(409, "conflict");
    scene.approve("finn", &shown).await;
    scene.send(&session, &order).await.expect(200);
    assert_eq!(scene.backend.seen("POST /pair/1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_projects_people_see_and_decide_nothing_here() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let shown = scene.ask(&session, &Order::post("/t/act/1")).await;
    // The same people, of a project that is not this one.
    scene.setup.edit_server(|text| {
        let (head, rest) = text.split_once("- { name: eli").unwrap();
        format!(
            "{head}- {{ name: eli{}",
            edited(rest, "projects: [demo]", "projects: [other]")
        )
    });
    scene.setup.write_project(
        "other",
        &super::scene::policy(&scene.backend).replace("project: demo", "project: other"),
    );
    scene.reload().await;
    let place = format!("/v1/approvals/{}", shown.id);
    scene
        .by("eli", Method::GET, &place, &Value::Null)
        .await
        .refused(404, "not_found");
    scene
        .decide("eli", &shown, APPROVE)
        .await
        .refused(404, "not_found");
    let list = scene
        .by("eli", Method::GET, "/v1/approvals", &Value::Null)
        .await
        .expect(200)
        .json();
    assert_eq!(list["items"], json!([]));
    assert_eq!(scene.stage(&shown.id).await, "pending");
}

/// A request as text; the agent's token is put in.
async fn typed(scene: &Scene, session: &Minted, head: &str, rest: &str) -> String {
    let text = format!(
        "{head} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n{rest}",
        HOST, session.token
    );
    raw(scene.gate.agents, text.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_that_nobody_was_shown_never_reach_the_backend() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let rest = |prefer: &str, trailer: &str| {
        format!(
            "{prefer}connection: close\r\ntrailer: x-amount\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n{trailer}\r\n"
        )
    };
    let plain = typed(
        &scene,
        &session,
        "POST /t/act/1",
        &rest("prefer: respond-async\r\n", ""),
    )
    .await;
    assert!(plain.starts_with("HTTP/1.1 202 "), "{plain}");
    let shown = scene.asked("/t/act/1").await;
    scene.approve("dana", &shown).await;
    let smuggling = typed(
        &scene,
        &session,
        "POST /t/act/1",
        &rest("", "x-amount: 1000000\r\n"),
    )
    .await;
    assert!(!smuggling.contains("1000000"), "{smuggling}");
    let told = scene.all(&shown.id).await.to_string();
    assert!(!told.contains("1000000"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_call_never_becomes_a_tunnel() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::new(Method::GET, "/t/act/live");
    let shown = scene.ask(&session, &order).await;
    scene.approve("dana", &shown).await;
    let text = format!(
        "GET /t/act/live HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nprefer: respond-async\r\n\r\n",
        session.token
    );
    let answer = first_line(&scene, &text).await;
    // Asked about anew or run as the plain call it was. (A route that is approved can't be an upgraded one.)
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
}

/// The first line of what comes back.
async fn first_line(scene: &Scene, text: &str) -> String {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let mut stream = tokio::net::TcpStream::connect(scene.gate.agents)
        .await
        .unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    let reading = reader.read_line(&mut line);
    crate::wait::within(crate::wait::PATIENCE, "an answer", reading)
        .await
        .unwrap();
    line
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agents_own_authorization_is_part_of_what_is_agreed_where_it_is_forwarded() {
    let scene = Scene::open_with(|yaml| {
        edited(
            &yaml,
            "    mount: /t\n",
            "    mount: /t\n    session_header: toolgate-session\n",
        )
    })
    .await;
    let session = scene.mint().await;
    let order = |own: &str| {
        Order::post("/t/act/1")
            .with("toolgate-session", &session.token)
            .with("authorization", own)
    };
    let ask = async |order: &Order| -> Answer { send(scene.gate.agents, "", order).await };
    let id = waits(&ask(&order("Bearer of-one").at_once()).await);
    let shown = scene.shown(&id).await;
    scene.approve("dana", &shown).await;
    let other = waits(&ask(&order("Bearer of-another").at_once()).await);
    assert_ne!(other, id);
    assert_eq!(scene.backend.total(), 0);
    let echo = ask(&order("Bearer of-one")).await.expect(200).json();
    assert!(
        echo["fields"].to_string().contains("Bearer of-one"),
        "{echo}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_request_is_denied_again_without_asking_until_the_time_is_over() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/brief/1").body("please");
    let waiting = scene.sending(&session, &order);
    let shown = scene.asked("/t/brief/1").await;
    let path = format!("/v1/approvals/{}/decision", shown.id);
    let word = json!({ "decision": "deny", "digest": shown.digest, "note": "not on a Monday" });
    scene
        .by("dana", Method::POST, &path, &word)
        .await
        .expect(200);
    let told = waiting.await.unwrap().refused(403, "approval_denied");
    assert!(told.text().contains("not on a Monday"), "{told:?}");
    // However often, and in whatever it does not forward, it comes back.
    let mut denied = 0;
    let asked_again = loop {
        let again = order
            .clone()
            .at_once()
            .with("user-agent", format!("try/{denied}"));
        let answer = scene.send(&session, &again).await;
        if answer.status == 202 {
            break waits(&answer);
        }
        answer.refused(403, "approval_denied");
        assert_eq!(scene.pending().await.len(), 0, "nobody is asked again");
        denied += 1;
    };
    assert!(denied > 0);
    assert_ne!(asked_again, shown.id);
    assert_eq!(scene.backend.total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_not_flooded_and_what_is_taken_back_makes_room() {
    let scene = Scene::open_with(|yaml| {
        edited(
            &yaml,
            "expires: 1s, denied_for: 1s",
            "expires: 10m, denied_for: 1s",
        )
    })
    .await;
    let session = scene.mint().await;
    let ask = async |item: u32| {
        scene
            .send(&session, &Order::post(format!("/t/brief/{item}")).at_once())
            .await
    };
    let first = waits(&ask(1).await);
    waits(&ask(2).await);
    let refused = ask(3).await.refused(429, "too_many_pending");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    // Joining one's own is no flood; another session has its own room.
    assert_eq!(waits(&ask(1).await), first);
    let other = scene.mint().await;
    waits(
        &scene
            .send(&other, &Order::post("/t/brief/3").at_once())
            .await,
    );
    let place = format!("/.toolgate/approvals/{first}");
    let back = scene
        .send(&session, &Order::new(Method::DELETE, &place))
        .await;
    assert!(back.status.is_success(), "{back:?}");
    assert_eq!(scene.stage(&first).await, "withdrawn");
    waits(&ask(3).await);
    // Taken back, it can't be agreed to, nor taken back again.
    let shown = scene.shown(&first).await;
    scene
        .decide("dana", &shown, APPROVE)
        .await
        .refused(409, "conflict");
    assert_ne!(waits(&ask_again(&scene, &session, &place).await), first);
    assert_eq!(scene.backend.total(), 0);
}

/// After room was made: the request that was taken back is a new one.
async fn ask_again(scene: &Scene, session: &Minted, place: &str) -> Answer {
    let back = scene
        .send(session, &Order::new(Method::DELETE, place))
        .await;
    assert!(matches!(back.status.as_u16(), 200 | 204 | 409), "{back:?}");
    let pending = scene.pending().await;
    let third = pending
        .iter()
        .find(|it| it["call"]["target"] == "/t/brief/3" && it["session"] == session.id.as_str());
    let third = format!(
        "/.toolgate/approvals/{}",
        third.unwrap()["id"].as_str().unwrap()
    );
    assert!(
        scene
            .send(session, &Order::new(Method::DELETE, third))
            .await
            .status
            .is_success()
    );
    scene
        .send(session, &Order::post("/t/brief/1").at_once())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_can_not_be_shown_whole_is_refused_and_one_that_does_not_come_is_not_waited_for()
 {
    let scene =
        Scene::open_with(|yaml| edited(&yaml, "id: act, ", "id: act, body_limit: 64KiB, ")).await;
    let session = scene.mint().await;
    let long = Order::post("/t/act/1").body(vec![b'x'; 64 * 1024 + 1]);
    scene
        .send(&session, &long)
        .await
        .refused(413, "body_too_large");
    let most = Order::post("/t/act/1")
        .body(vec![b'x'; 64 * 1024])
        .at_once();
    waits(&scene.send(&session, &most).await);
    // Announced and not sent: no approval stands for what nobody has.
    let text = format!(
        "POST /t/act/2 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-length: 10\r\n\r\nhalf",
        session.token
    );
    let mut stream = tokio::net::TcpStream::connect(scene.gate.agents)
        .await
        .unwrap();
    {
        use tokio::io::AsyncWriteExt as _;
        stream.write_all(text.as_bytes()).await.unwrap();
    }
    drop(stream);
    scene
        .send(&session, &Order::new(Method::GET, "/t/read/1"))
        .await
        .expect(200);
    let pending = scene.pending().await;
    assert!(
        !pending.iter().any(|it| it["call"]["target"] == "/t/act/2"),
        "{pending:?}"
    );
}
