//! What floods and what is no head, once more by the hand of a library of others: PyPI's h2, which keeps a connection's state
//! by itself, so that what the gate is told is not of this repository's own reading of RFC 9113.

use super::raw::{Act, Raw, good, setup};
use crate::clients::said;
use crate::program::python;
use serde_json::Value;

const GROWN_KIB_MAX: u64 = 32 * 1024;
/// Kinds of floods that were asked for at least.
const KINDS_MIN: usize = 16;

/// Those that nothing forbids: they are held where they are, or cost no more than they bring.
const WAITING: [&str; 4] = [
    "padding alone",
    "DATA of one byte",
    "a hundred answers and a window of nothing",
    "fields without number",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_h2_of_pypi_floods_with_ends_and_what_is_no_head_reaches_nobody() {
    let large = "z".repeat(4 * 1024 * 1024);
    let backend = Raw::start(move |head, _| {
        Act::Say(vec![good(if head.contains("/big") {
            &large
        } else {
            "reached"
        })])
    })
    .await;
    let setup = setup(&[("t", backend.address, "")]);
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    let before = gate.memory_kib("VmRSS");
    let mut client = python("h2_floods.py");
    client
        .env("TARGET", gate.agents.to_string())
        .env("TOKEN", &token)
        .env("WAITING", WAITING.join("|"));
    let told = said(client).await;
    let grown = gate.memory_kib("VmHWM").saturating_sub(before);
    let floods = told["floods"].as_object().unwrap();
    assert!(floods.len() >= KINDS_MIN, "{}", floods.len());
    for (name, ended) in floods {
        println!("{name}: {ended}");
        if !WAITING.contains(&name.as_str()) {
            assert_eq!(ended["closed"], true, "{name}: {ended}");
        }
        assert_eq!(ended["then"], 200, "{name}: {ended}");
    }
    println!("{grown} KiB more");
    assert!(grown < GROWN_KIB_MAX, "{grown} KiB more");
    for (name, ended) in told["heads"].as_object().unwrap() {
        assert!(is_refused(ended), "{name}: {ended}");
    }
}

/// By a status, the end of its stream or of its connection.
fn is_refused(ended: &Value) -> bool {
    match ended.as_u64() {
        Some(status) => (400..500).contains(&status) || status == 501,
        None => {
            ["StreamReset", "ConnectionTerminated", "closed"].contains(&ended.as_str().unwrap())
        }
    }
}
