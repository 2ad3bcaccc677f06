//! Agents and strangers that take their time: heads that never end, bodies that stop, answers that nobody reads.

#![allow(clippy::disallowed_methods, reason = "it measures time")]

use super::raw::{Act, Raw, ask, good, setup};
use crate::wait::{PATIENCE, until, within};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Each kind, of which there are three.
const EACH: usize = 400;
/// Of the tool: on a busy machine it is others that are late.
const PATIENT: &str = ", connect_timeout: 60s";
const TIMEOUT: Duration = Duration::from_secs(2);
const MEMORY_KIB_MAX: u64 = 200 * 1024;

#[derive(Clone, Copy, Debug)]
enum Slow {
    /// A field of its head at a time.
    Head,
    /// Half of its body, and no more.
    Body,
    /// Reads nothing of its answer.
    Read,
}

/// Until the gate is through with it; how long that took.
async fn slow(gate: SocketAddr, token: String, kind: Slow) -> Duration {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(gate).await.unwrap();
    let began = Instant::now();
    let head = format!("Host: g\r\nAuthorization: Bearer {token}\r\n");
    let first = match kind {
        Slow::Head => format!("GET /t/a HTTP/1.1\r\n{head}"),
        Slow::Body => format!("POST /t/a HTTP/1.1\r\n{head}Content-Length: 100\r\n\r\nhalf of it"),
        Slow::Read => format!("GET /t/big HTTP/1.1\r\n{head}\r\n"),
    };
    stream.write_all(first.as_bytes()).await.unwrap();
    match kind {
        Slow::Head => {
            // It says something all the time.
            let mut answer = [0; 16];
            loop {
                tokio::select! {
                    read = stream.read(&mut answer) => {
                        assert!(matches!(read, Err(_) | Ok(0)) || answer.starts_with(b"HTTP/1.1 408"));
                        break;
                    }
                    () = tokio::time::sleep(TIMEOUT / 4) => {
                        if stream.write_all(b"X-More: 1\r\n").await.is_err() {
                            break;
                        }
                    }
                }
            }
        }
        Slow::Body => {
            let mut answer = Vec::new();
            drop(stream.read_to_end(&mut answer).await);
            assert!(
                answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"),
                "{}",
                answer.escape_ascii()
            );
        }
        // A reset is all that such a peer can be told.
        Slow::Read => {
            until("the gate has had enough", || async {
                stream.take_error_or_reset().then_some(())
            })
            .await;
        }
    }
    began.elapsed()
}

trait Reset {
    fn take_error_or_reset(&self) -> bool;
}

impl Reset for TcpStream {
    /// Whether a reset has come, without a byte being read.
    fn take_error_or_reset(&self) -> bool {
        socket2::SockRef::from(self).take_error().unwrap().is_some()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_hundred_slow_connections_are_cut_in_time_and_nobody_else_waits_for_them() {
    let large = "z".repeat(1024 * 1024);
    let backend = Raw::start(move |head, _| {
        Act::Say(vec![good(if head.contains("/big") {
            &large
        } else {
            "ok"
        })])
    })
    .await;
    let setup = setup(&[("t", backend.address, PATIENT)]);
    setup.edit_server(|text| {
        text.replace(
            "agents: { address: 127.0.0.1:0 }",
            "agents: { address: 127.0.0.1:0, timeouts: { head: 2s, body_idle: 2s, idle: 2s } }",
        )
    });
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    let calm = gate.memory_kib("VmRSS");
    let mut most = 0;
    let mut honest = Vec::new();
    let mut tasks = Vec::new();
    for kind in [Slow::Head, Slow::Body, Slow::Read] {
        for _ in 0..EACH {
            tasks.push((kind, tokio::spawn(slow(gate.agents, token.clone(), kind))));
        }
    }
    while tasks.iter().any(|(_, task)| !task.is_finished()) {
        let began = Instant::now();
        let call = ask(&gate, &token, "GET", "/t/a", "");
        let got = within(PATIENCE, "who is honest is served", call).await;
        assert_eq!(got.whole().unwrap(), b"ok", "{}", got.0.escape_ascii());
        honest.push(began.elapsed());
        most = gate.memory_kib("VmRSS").max(most);
    }
    let mut longest = [Duration::ZERO; 3];
    for (kind, task) in tasks {
        let took = within(PATIENCE, "it is cut", task).await.unwrap();
        assert!(took >= TIMEOUT, "{kind:?} was cut after {took:?}");
        longest[kind as usize] = longest[kind as usize].max(took);
    }
    honest.sort();
    println!(
        "{calm} KiB, then {most}; heads, bodies, reads cut after {longest:?}; {} honest calls, p99 {:?}",
        honest.len(),
        honest[honest.len() * 99 / 100]
    );
    assert!(most < MEMORY_KIB_MAX, "{most} KiB");
}
