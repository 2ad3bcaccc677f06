//! Events as they happen: who hears what, and for how long.

use crate::scene::{Scene, key};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open stream, read line by line as it comes.
struct Stream {
    lines: tokio::io::Lines<BufReader<TcpStream>>,
    last_id: String,
}

#[derive(Debug)]
struct Event {
    name: String,
    data: Value,
    id: String,
}

impl Stream {
    /// Opens one and waits until it is heard by.
    async fn open(scene: &Scene, principal: &str, last_id: Option<&str>) -> Self {
        let address = scene.running.addresses.admin;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let resume = last_id.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        let head = format!(
            "GET /v1/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n{resume}\r\n",
            key(principal)
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut stream = Self {
            lines: BufReader::new(stream).lines(),
            last_id: String::new(),
        };
        let mut head = Vec::new();
        loop {
            let line = stream.line().await.unwrap();
            if line.is_empty() {
                break;
            }
            head.push(line.to_lowercase());
        }
        assert_eq!(head[0], "http/1.1 200 ok");
        for field in ["content-type: text/event-stream", "cache-control: no-store"] {
            assert!(head.iter().any(|line| line == field), "{head:?}");
        }
        stream
    }

    async fn line(&mut self) -> Option<String> {
        let line = timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("in time");
        line.ok().flatten()
    }

    /// The next event; `None`: the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        let (mut name, mut data) = (String::new(), None);
        loop {
            // Lengths of chunks stand between; they are no fields of an event.
            let line = self.line().await?;
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut self.last_id);
            } else if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut name);
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = Some(serde_json::from_str(text).unwrap());
            } else if line == "0" {
                return None;
            }
            if let Some(data) = data.take_if(|_| line.is_empty()) {
                let id = self.last_id.clone();
                return Some(Event { name, data, id });
            }
        }
    }

    /// The next event, which is this change of an approval.
    #[track_caller]
    fn approval(event: Option<Event>, id: &str, change: &str) -> String {
        let event = event.expect("an event");
        assert_eq!(event.name, "approval", "{event:?}");
        assert_eq!(
            (&event.data["id"], &event.data["change"]),
            (&json!(id), &json!(change))
        );
        assert_eq!(event.data["project"], "dev");
        event.id
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_in_ones_own_projects_is_told_and_nothing_else() {
    let scene = Scene::asking();
    let (session, token) = scene.mint().await;
    let mut approver = Stream::open(&scene, "dana", None).await;
    let mut operator = Stream::open(&scene, "operator", None).await;
    let mut foreign = Stream::open(&scene, "foreign", None).await;
    let id = scene
        .held(&token, Method::DELETE, "/shop/items/1?q=private", "")
        .await;
    scene.says("dana", &id, "approve").await.expect(200);
    let reason = json!({ "reason": "odd" });
    scene
        .post(
            "operator",
            &format!("/v1/sessions/{session}/quarantine"),
            &reason,
        )
        .await
        .expect(200);
    scene
        .post("operator", "/v1/policy/reload", &json!({}))
        .await
        .expect(200);
    for stream in [&mut approver, &mut operator] {
        let mut changes = Vec::new();
        loop {
            let event = stream.next().await.unwrap();
            assert!(!event.data.to_string().contains("private"));
            changes.push(format!(
                "{} {}",
                event.name,
                event.data["change"].as_str().unwrap()
            ));
            if event.name == "policy" {
                break;
            }
        }
        assert_eq!(changes[0], "approval requested");
        assert!(
            changes.contains(&"approval approved".to_owned()),
            "{changes:?}"
        );
        // A quarantine takes what waits with it.
        assert!(
            changes.contains(&"approval withdrawn".to_owned()),
            "{changes:?}"
        );
        assert!(
            changes.contains(&"quarantine quarantined".to_owned()),
            "{changes:?}"
        );
    }
    let first = foreign.next().await.unwrap();
    assert_eq!(
        (first.name.as_str(), &first.data["change"]),
        ("policy", &json!("reloaded"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_approvers_and_operators_hear_events() {
    let scene = Scene::asking();
    for principal in ["issuer", "auditor"] {
        scene
            .get(principal, "/v1/events")
            .await
            .refused(403, "role_missing");
    }
    scene
        .raw(Method::GET, "/v1/events", &[], "")
        .await
        .refused(401, "credential_missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_away_hears_what_it_missed_or_that_it_can_t() {
    let scene = Scene::asking();
    let (_, token) = scene.mint().await;
    let mut stream = Stream::open(&scene, "dana", None).await;
    let first = scene
        .held(&token, Method::DELETE, "/shop/items/1", "")
        .await;
    let heard = Stream::approval(stream.next().await, &first, "requested");
    drop(stream);
    let second = scene
        .held(&token, Method::DELETE, "/shop/items/2", "")
        .await;
    let mut stream = Stream::open(&scene, "dana", Some(&heard)).await;
    Stream::approval(stream.next().await, &second, "requested");
    // An id of another run, or of none.
    for unknown in ["0123456789abcdef01234567", "1"] {
        let mut stream = Stream::open(&scene, "dana", Some(unknown)).await;
        let event = stream.next().await.unwrap();
        assert_eq!((event.name.as_str(), event.data), ("reset", json!({})));
        // And goes on from there.
        let third = scene
            .held(
                &token,
                Method::DELETE,
                &format!("/shop/items/3{unknown}"),
                "",
            )
            .await;
        Stream::approval(stream.next().await, &third, "requested");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_or_role_that_is_taken_away_hears_nothing_more() {
    let scene = Scene::asking();
    let mut gone = Stream::open(&scene, "dana", None).await;
    let mut demoted = Stream::open(&scene, "erin", None).await;
    let mut moved = Stream::open(&scene, "maker", None).await;
    let mut stays = Stream::open(&scene, "operator", None).await;
    let people: Vec<_> = Scene::people()
        .into_iter()
        .filter(|(name, ..)| *name != "dana")
        .map(|(name, roles, projects)| match name {
            "erin" => (name, "auditor", projects),
            "maker" => (name, roles, "prod"),
            _ => (name, roles, projects),
        })
        .collect();
    scene.write_server("127.0.0.1:0", &people);
    scene
        .post("operator", "/v1/policy/reload", &json!({}))
        .await
        .expect(200);
    assert!(gone.next().await.is_none());
    assert!(demoted.next().await.is_none());
    assert_eq!(stays.next().await.unwrap().name, "policy");
    assert_eq!(moved.next().await.unwrap().name, "policy");
    // Who has other projects now hears of those.
    let (_, token) = scene.mint().await;
    scene
        .held(&token, Method::DELETE, "/shop/items/1", "")
        .await;
    assert_eq!(stays.next().await.unwrap().name, "approval");
    scene
        .post("root", "/v1/policy/reload", &json!({}))
        .await
        .expect(200);
    assert_eq!(moved.next().await.unwrap().name, "policy");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_gate_and_do_not_hold_its_stop() {
    let scene = Scene::asking();
    let mut stream = Stream::open(&scene, "dana", None).await;
    let Scene {
        folder: _folder,
        running,
    } = scene;
    assert!(
        timeout(PATIENCE, running.drain(PATIENCE))
            .await
            .expect("in time")
    );
    assert!(stream.next().await.is_none());
}
