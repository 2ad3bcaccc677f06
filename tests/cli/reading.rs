//! `toolgate ledger query`, `tail` and `show`: an auditor's way from a ticket to who agreed to it, on a real gate's files.

use super::{NO, OK, UNAVAILABLE, USAGE, toolgate};
use crate::scene::Scene;
use http::Method;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const INTENT: &str = "Ticket 4711: customer 7 asks to be deleted";

/// A gate whose agent deleted item 7, to which dana agreed; what happened before the deletion, and after it.
async fn deleted() -> TempDir {
    let backend = backend();
    let scene = Scene::asking_before(&format!("http://{backend}"));
    let (_, token) = scene.mint().await;
    scene
        .agent(&token, Method::GET, "/shop/nowhere")
        .await
        .refused(403, "no_route");
    let delete = async || {
        let fields = [("toolgate-intent", INTENT)];
        scene
            .agent_sends(&token, Method::DELETE, "/shop/items/7", &fields, "")
            .await
    };
    let held = delete().await.expect(202).json();
    let id = held["approval"].as_str().unwrap();
    scene.says("dana", id, "approve").await.expect(200);
    delete().await.expect(204);
    let Scene { folder, running } = scene;
    assert!(running.drain(Duration::from_secs(10)).await);
    folder
}

/// Answers 204 to whatever comes.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                line.clear();
            }
            let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            stream.into_inner().write_all(answer).unwrap();
        }
    });
    address
}

fn ledger(folder: &TempDir) -> String {
    folder.path().join("ledger").to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_ticket_to_who_agreed_and_what_the_agent_said_in_two_commands() {
    let folder = deleted().await;
    let ledger = ledger(&folder);
    let table = toolgate(&[
        "ledger",
        "query",
        &ledger,
        "--resource",
        "item:7",
        "--since",
        "1d",
        "--kind",
        "decision",
    ])
    .ends(OK);
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert!(lines[0].trim_start().starts_with("SEQ"), "{table:?}");
    // It was held, came again, and ran.
    assert_eq!(lines.len(), 4, "{table:?}");
    let ran = lines[3];
    assert!(
        ran.contains("bot")
            && ran.contains("DELETE /shop/items/7")
            && ran.contains("allow: agreed apr_"),
        "{ran}"
    );
    assert!(ran.contains("  204  "), "{ran}");
    let seq = ran.split_whitespace().next().unwrap();
    let story = toolgate(&["ledger", "show", seq, &ledger]).ends(OK).stdout;
    for expected in [
        "session minted by root",
        "the agent says it is doing this: “Ticket 4711: customer 7 asks to be deleted”",
        "needs items.delete on item:7 (route items.delete of tool shop)",
        "held: people are asked (apr_",
        "dana says approve",
        "allowed: people agreed (apr_",
        "it ran: the backend answered 204",
        "its agent was answered 204",
        "decided by dana (approve)",
    ] {
        assert!(story.contains(expected), "{expected}: {story}");
    }
    assert!(
        !story.contains("no_route"),
        "another call is no part of it: {story}"
    );
    let shown = toolgate(&["ledger", "show", seq, &ledger, "--json"])
        .ends(OK)
        .stdout;
    let records: Vec<Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let id = |name: &str| {
        records
            .iter()
            .find_map(|record| record[name].as_str())
            .unwrap()
    };
    for id in [id("approval"), id("request")] {
        let same = toolgate(&["ledger", "show", id, &ledger]).ends(OK).stdout;
        assert_eq!(same, story, "{id}");
    }
    let session = toolgate(&["ledger", "show", id("session"), &ledger])
        .ends(OK)
        .stdout;
    assert!(
        session.contains("no_route")
            && session.contains("3 calls: decided 1 allow, 1 deny, 2 hold"),
        "{session}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_printed_as_they_are_and_what_cannot_be_meant_is_said() {
    let folder = deleted().await;
    let ledger = ledger(&folder);
    let segment = folder.path().join("ledger/0000000000000000.jsonl");
    let lines = std::fs::read_to_string(segment).unwrap();
    assert_eq!(
        toolgate(&["ledger", "query", &ledger, "--json"])
            .ends(OK)
            .stdout,
        lines
    );
    assert_eq!(
        toolgate(&["ledger", "tail", &ledger, "-n", "100", "--json"])
            .ends(OK)
            .stdout,
        lines
    );
    let newest = toolgate(&[
        "ledger", "query", &ledger, "--json", "--newest", "--limit", "1",
    ])
    .ends(OK)
    .stdout;
    assert_eq!(newest.trim_end(), lines.lines().last().unwrap());
    let two = toolgate(&["ledger", "tail", &ledger, "-n", "2"])
        .ends(OK)
        .stdout;
    assert_eq!(two.lines().count(), 3, "{two}");
    let none = toolgate(&["ledger", "query", &ledger, "--agent", "nobody"]).ends(OK);
    assert_eq!(none.stdout, "no records\n");
    toolgate(&["ledger", "query", &ledger, "--decision", "no"])
        .ends(USAGE)
        .complains("--decision is one of allow, deny, hold");
    toolgate(&["ledger", "query", "/nowhere"])
        .ends(UNAVAILABLE)
        .complains("/nowhere is no directory");
    toolgate(&["ledger", "show", "999999", &ledger])
        .ends(NO)
        .complains("no record 999999");
    toolgate(&[
        "ledger",
        "show",
        "req_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5",
        &ledger,
    ])
    .ends(NO)
    .complains("has nothing of req_");
    toolgate(&["ledger", "show", "customer", &ledger])
        .ends(USAGE)
        .complains("or a record's number");
    let out = folder.path().join("out.jsonl");
    let out = out.to_str().unwrap();
    let export = [
        "ledger",
        "export",
        &ledger,
        "--format",
        "cloudevents",
        "--agent",
        "bot",
        "--output",
        out,
    ];
    toolgate(&export).ends(OK).complains("records to");
    let first = std::fs::read_to_string(out).unwrap();
    let event: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(event["type"], "toolgate.session.minted");
    toolgate(&export).ends(NO).complains("out.jsonl");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_goes_on_with_what_is_written_and_ends_when_nobody_reads() {
    let scene = Scene::start();
    let (_, token) = scene.mint().await;
    let ledger = ledger(&scene.folder);
    let mut tail = Command::new(env!("CARGO_BIN_EXE_toolgate"))
        .args([
            "ledger",
            "tail",
            &ledger,
            "-f",
            "-n",
            "0",
            "--json",
            "--decision",
            "deny",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let (told, heard) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        for line in lines.by_ref().take(2) {
            told.send(line.unwrap()).unwrap();
        }
    });
    // It may not have begun to listen when the first call is made.
    let mut found: Vec<Value> = Vec::new();
    while found.len() < 2 {
        scene
            .agent(&token, Method::GET, "/shop/nowhere")
            .await
            .refused(403, "no_route");
        while let Ok(line) = heard.recv_timeout(Duration::from_millis(100)) {
            found.push(serde_json::from_str(&line).unwrap());
        }
    }
    assert_eq!(found[0]["kind"], "decision");
    assert!(
        found
            .iter()
            .all(|record| record["kind"] == "outcome" || record["decision"] == "deny"),
        "{found:?}"
    );
    reading.join().unwrap();
    // Nobody reads any more: the next line ends it.
    let ended = loop {
        scene.agent(&token, Method::GET, "/shop/nowhere").await;
        if let Some(status) = tail.try_wait().unwrap() {
            break status;
        }
    };
    assert!(ended.success(), "{ended}");
}
