//! What the gate itself answers is the same on every protocol.

use super::content::{Content, Received, fields, pattern};
use super::door::Door;
use super::exchange::{read, told};
use super::scene::{Listening, Papers, setup};
use super::side::Side;
use crate::wait::within;
use http::Method;
use hyper::body::Frame;
use std::time::Duration;

/// An answer without what is of one connection, or of one request.
type Told = (u16, Vec<(String, String)>, Received);

const OF_ONE: [&str; 4] = [
    "connection",
    "date",
    "toolgate-request-id",
    "transfer-encoding",
];

/// A call that is refused; an upload stays unfinished until the answer is here.
async fn refused(door: &Door, method: Method, target: &str) -> Told {
    let name = format!("{method} {target} over {}", door.side.name());
    let refused = async {
        let mut talk = door.open().await.unwrap();
        let (upload, body) = match method {
            Method::POST => {
                let (sender, body) = Content::fed(None);
                sender.try_send(Frame::data(pattern(0, 1000))).unwrap();
                (Some(sender), body)
            }
            _ => (None, Content::Empty),
        };
        let answer = talk.start(method, target, &[], body).await;
        let answer = answer.unwrap_or_else(|fault| panic!("{name}: {}", told(&fault)));
        let (head, body) = answer.into_parts();
        let body = read(body).await;
        let body = body.unwrap_or_else(|fault| panic!("{name}: {}, then {fault}", head.status));
        drop(upload);
        (head, body)
    };
    let (head, mut body) = within(Duration::from_secs(60), &name, refused).await;
    let mut fields = fields(&head.headers);
    fields.retain(|(name, _)| !OF_ONE.contains(&name.as_str()));
    // The document names the request.
    if let Some(id) = head.headers.get("toolgate-request-id") {
        body.beginning = body.beginning.replace(id.to_str().unwrap(), "ID");
        body.sha256.clear();
    }
    (head.status.as_u16(), fields, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gates_own_answers_are_the_same_on_every_protocol() {
    let papers = Papers::new();
    let backend = papers.backend(Side::H1).await;
    let mut first: Option<Vec<Told>> = None;
    for listening in Listening::ALL {
        let setup = setup(&papers, listening, std::slice::from_ref(&backend));
        let gate = setup.start().await;
        let token = gate.mint("h1", "bot").await.token;
        for side in listening.serves() {
            let mut door = papers.agent(*side, &gate, &token);
            door.mount = "";
            let mut answers = Vec::new();
            for target in ["/nowhere", "/.toolgate/nothing", "/cells//two"] {
                for method in [Method::GET, Method::HEAD, Method::POST] {
                    answers.push(refused(&door, method, target).await);
                }
            }
            door.bearer = "tgs_nobody".to_owned();
            for method in [Method::GET, Method::HEAD, Method::POST] {
                answers.push(refused(&door, method, "/cells/page").await);
            }
            assert!(
                answers.iter().any(|(status, ..)| *status == 401),
                "{answers:?}"
            );
            let first = first.get_or_insert_with(|| answers.clone());
            for (one, other) in first.iter().zip(&answers) {
                assert_eq!(one, other, "over {}", side.name());
            }
        }
    }
}
