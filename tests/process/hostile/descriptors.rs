//! Descriptors: a connection of HTTP/2 carries a hundred calls, and each may hold a socket to a backend of HTTP/1.1. What one
//! session holds so leaves enough for the others, and for those who are still to come.

use super::frames::{END_HEADERS, END_STREAM, HEADERS, Peer, block, call, frame};
use super::raw::{Act, Raw, ask, good, setup};
use crate::wait::{PATIENCE, until, within};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Of the gate's process, and what it keeps for itself of them.
const DESCRIPTORS: usize = 1000;
const CONNECTIONS: u32 = 12;
const STREAMS: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_holds_many_calls_leaves_descriptors_for_others() {
    let held = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&held);
    let backend = Raw::start(move |head, _| {
        if head.contains("/held") {
            counted.fetch_add(1, Ordering::SeqCst);
            return Act::Say(Vec::new());
        }
        Act::Say(vec![good("ok")])
    })
    .await;
    let setup = setup(&[("t", backend.address, ", connect_timeout: 60s")]);
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!(r#"ulimit -n {DESCRIPTORS}; exec "$0" serve --config "$1""#),
            env!("CARGO_BIN_EXE_toolgate"),
        ])
        .arg(setup.config());
    let gate = setup.started(command).await;
    let greedy = gate.mint("demo", "bot").await.token;
    let other = gate.mint("demo", "bot").await.token;
    let bearer = format!("Bearer {greedy}");
    let get = block(&call("GET", "/t/held", &bearer));
    let refused = Arc::new(AtomicUsize::new(0));
    for _ in 0..CONNECTIONS {
        let mut peer = Peer::open(gate.agents, &[]).await.unwrap();
        for stream in 0..STREAMS {
            let head = frame(HEADERS, END_STREAM | END_HEADERS, 2 * stream + 1, &get);
            peer.send(&head).await.unwrap();
        }
        let refused = Arc::clone(&refused);
        tokio::spawn(async move {
            while let Ok(frame) = peer.read().await {
                // An answer; that it is the right one, the metrics say.
                if frame.kind == HEADERS {
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    let wanted = (CONNECTIONS * STREAMS) as usize;
    assert!(wanted > DESCRIPTORS);
    until("each call is held, or refused in words", || async {
        let told = held.load(Ordering::SeqCst) + refused.load(Ordering::SeqCst);
        (told == wanted).then_some(())
    })
    .await;
    let refused = refused.load(Ordering::SeqCst);
    assert!(refused > 0 && refused < wanted, "{refused} of {wanted}");
    // Who comes now is served, again and again.
    for _ in 0..20 {
        let call = ask(&gate, &other, "GET", "/t/a", "");
        let got = within(PATIENCE, "others are served", call).await;
        assert_eq!(got.whole().unwrap(), b"ok", "{}", got.0.escape_ascii());
    }
    assert!(!gate.said("can't accept connections"));
    let counted = gate
        .metric("toolgate_requests_total", &["reason=\"overloaded\""])
        .await;
    assert_eq!(counted, refused as f64);
}
