//! Agents whose calls share connections to a backend that mixes answers up: nobody ever gets what is another's.

use super::raw::{Act, Raw, good, setup};
use crate::client::{Connection, Payload};
use crate::wait::within;
use bytes::Bytes;
use http::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

const AGENTS: usize = 16;
const CALLS: usize = 150;

/// Deterministic, and good enough to mix.
fn mixed(state: &AtomicU32) -> u32 {
    let next = |it: u32| it.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let before = state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| Some(next(it)));
    next(before.unwrap_or_default()) >> 16
}

/// What a backend says to who is called `own`, and with it or later what nobody asked for.
fn act(own: &str, chance: u32) -> Act {
    let answer = good(own);
    let poison = good(&format!("{own}-poison"));
    let part = answer[..answer.len() - 3].to_vec();
    match chance % 16 {
        0 => Act::Say(vec![[answer, poison].concat()]),
        1 => Act::Say(vec![answer, poison]),
        2 => Act::SayAndClose(vec![answer, poison]),
        3 => Act::SayAndClose(vec![part]),
        4 => Act::SayAndReset(vec![part]),
        5 => Act::Say(vec![answer, b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()]),
        6 => Act::SayAndClose(vec![answer]),
        7 => Act::Say(vec![
            format!(
                "HTTP/1.1 204 No Content\r\ncontent-length: {}\r\n\r\n",
                poison.len()
            )
            .into(),
            poison,
        ]),
        // The head, and a moment later the rest.
        8 => {
            let (head, body) = answer.split_at(answer.len() - own.len());
            Act::Say(vec![head.to_vec(), body.to_vec()])
        }
        _ => Act::Say(vec![answer]),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_never_reaches_another_agent_nor_a_body_another_call() {
    let state = AtomicU32::new(7);
    let torn = Arc::new(AtomicUsize::new(0));
    let found = Arc::clone(&torn);
    let backend = Raw::start(move |head, body| {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let own = target.trim_start_matches('/');
        if head.starts_with("POST") && body != own.as_bytes() {
            found.fetch_add(1, Ordering::Relaxed);
        }
        act(own, mixed(&state))
    })
    .await;
    let setup = setup(&[("t", backend.address, "")]);
    let gate = setup.start().await;
    let mut tasks = Vec::new();
    for agent in 0..AGENTS {
        let token = gate.mint("demo", "bot").await.token;
        let address = gate.agents;
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(address, &token).await.unwrap();
            let (mut own, mut none, mut late) = (0, 0, 0);
            for call in 0..CALLS {
                let canary = format!("agent-{agent}-call-{call}");
                let path = format!("/t/{canary}");
                let answer = match call % 3 {
                    0 => {
                        let body = Payload::from(Bytes::from(canary.clone()));
                        connection.call(Method::POST, &path, body).await
                    }
                    _ => connection.call(Method::GET, &path, ()).await,
                };
                match answer {
                    Ok(answer) if answer.status == 200 => {
                        // What comes when the next request is written already is its answer, as far as anybody can tell: so
                        // connections are kept for one session, and what is said too much is said to who was spoken to.
                        let whose = format!("agent-{agent}-call-");
                        let said = answer.text();
                        assert!(said.starts_with(&whose), "{canary} got {said}");
                        late += usize::from(said != canary);
                        own += 1;
                    }
                    Ok(answer) if answer.status == 204 => assert!(answer.body.is_empty()),
                    Ok(answer) => {
                        assert_eq!(answer.status, 502, "{answer:?}");
                        none += 1;
                    }
                    Err(_) => {
                        none += 1;
                        connection = Connection::open(address, &token).await.unwrap();
                    }
                }
            }
            (own, none, late)
        }));
    }
    let (mut own, mut none, mut late) = (0, 0, 0);
    for task in tasks {
        let sums = within(Duration::from_secs(120), "all agents are done", task)
            .await
            .unwrap();
        (own, none, late) = (own + sums.0, none + sums.1, late + sums.2);
    }
    assert_eq!(torn.load(Ordering::Relaxed), 0, "bodies of other calls");
    println!("{own} answers, {none} failures; {late} of one's own earlier calls");
    assert!(own > AGENTS * CALLS / 2, "{own} answers, {none} failures");
    assert!(
        none > 0,
        "{own} answers and no failure: nothing was put to the test"
    );
    let calls: usize = backend.seen().iter().map(Vec::len).sum();
    assert!(
        backend.seen().len() < calls,
        "no connection was ever used twice"
    );
}
