//! Stopping: the notice, the second signal; limits of file descriptors.

use super::agents::Load;
use super::{policy, serves, takes_no_more};
use crate::backend::Backend;
use crate::client::{Connection, get};
use crate::gate::Setup;
use crate::wait::until;
use http::Method;
use std::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_drain_at_once() {
    for signal in ["TERM", "INT"] {
        let backend = Backend::start("t").await;
        let setup = Setup::new("demo", &policy(&backend));
        let mut gate = setup.start_with(&["--drain", "600"]).await;
        let session = gate.mint("demo", "bot").await;
        let mut connection = Connection::open(gate.agents, &session.token).await.unwrap();
        let call = tokio::spawn(async move { connection.call(Method::GET, "/t/held", ()).await });
        until("the call is in flight", || async {
            (backend.seen("GET /held") == 1).then_some(())
        })
        .await;
        gate.signal("TERM");
        until("it drains", || async {
            gate.said("draining").then_some(())
        })
        .await;
        gate.signal(signal);
        assert_eq!(gate.ended().await.code(), Some(1));
        assert!(call.await.unwrap().is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_the_delay_it_is_not_ready_and_serves_on_and_announces_that_connections_close() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let mut gate = setup.start_with(&["--drain-delay", "600"]).await;
    let session = gate.mint("demo", "bot").await;
    let mut kept = Connection::open(gate.agents, &session.token).await.unwrap();
    let answer = kept.call(Method::GET, "/t/items/1", ()).await.unwrap();
    assert_eq!(answer.expect(200).header("connection"), None);
    gate.signal("TERM");
    until("it is not ready", || async {
        (get(gate.metrics, "", "/readyz").await.status == 503).then_some(())
    })
    .await;
    until("it announces", || async {
        let answer = get(gate.agents, &session.token, "/t/items/1").await;
        (answer.expect(200).header("connection") == Some("close")).then_some(())
    })
    .await;
    // One that is kept is told with its next answer, and closed behind it.
    let answer = kept.call(Method::GET, "/t/items/1", ()).await.unwrap();
    assert_eq!(answer.expect(200).header("connection"), Some("close"));
    assert!(kept.call(Method::GET, "/t/items/1", ()).await.is_err());
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_has_begun_is_lost_when_a_gate_stops() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let mut gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    // The first bytes of its first request are here, and of its second.
    let mut half = Vec::new();
    for before in [0, 1] {
        use tokio::io::AsyncWriteExt as _;
        let mut stream = tokio::net::TcpStream::connect(gate.agents).await.unwrap();
        let request = format!(
            "GET /t/items/{before} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n",
            session.token
        );
        if before > 0 {
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = read_until(&mut stream, b"}").await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
        let (first, second) = request.split_at(20);
        stream.write_all(first.as_bytes()).await.unwrap();
        half.push((stream, second.to_owned()));
    }
    serves(&gate, &session.token).await;
    gate.signal("TERM");
    let agents = gate.agents;
    takes_no_more(agents).await;
    for (mut stream, rest) in half {
        use tokio::io::AsyncWriteExt as _;
        stream.write_all(rest.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, b"}").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert!(gate.ended().await.success());
}

/// What comes until a piece ends so.
async fn read_until(stream: &mut tokio::net::TcpStream, end: &[u8]) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut text = Vec::new();
    crate::wait::within(crate::wait::PATIENCE, "an answer", async {
        let mut piece = [0; 4096];
        while !text.ends_with(end) {
            let length = stream.read(&mut piece).await.unwrap();
            assert_ne!(
                length,
                0,
                "closed after {:?}",
                String::from_utf8_lossy(&text)
            );
            text.extend_from_slice(&piece[..length]);
        }
    })
    .await;
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_descriptors_is_raised_and_one_too_low_is_named_with_the_figure_needed() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            r#"ulimit -Sn 256; ulimit -Hn 1000; exec "$0" serve --config "$1""#,
            env!("CARGO_BIN_EXE_toolgate"),
        ])
        .arg(setup.config());
    let gate = setup.started(command).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gate.id())).unwrap();
    let line = limits.lines().find(|it| it.starts_with("Max open files"));
    let soft = line.unwrap().split_whitespace().nth(3);
    assert_eq!(soft, Some("1000"));
    assert!(gate.said("fewer file descriptors"));
    assert!(
        gate.said("60384"),
        "20,000 agents and their backends, 20,000 who administer, 256 who scrape, and some"
    );
    // It serves with what it has.
    let session = gate.mint("demo", "bot").await;
    let load = Load::start(gate.agents, &session.token, 4);
    load.answers(50).await;
    load.end().await;
}
