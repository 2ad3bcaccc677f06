//! What it costs to judge each head before hyper reads it, against all that a listener spends on a call.
//!
//! Two figures from one run: the time of the judge alone over heads of four sizes, and the processor time that the
//! listener's thread takes for a call whose handler does nothing, so that nothing of a gate makes the share look small.
//! Nothing is asserted: a machine is as fast as it is.
//!
//! `cargo bench --bench heads`; `HEADS_CALLS=1000000` for more calls.

#![allow(clippy::unwrap_used, reason = "a benchmark is a test")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use toolgate::config::{Caps, Listener, Timeouts};
use toolgate::gate::unread;
use toolgate::serve::accept::Stage;
use toolgate::serve::heads::Wire;
use toolgate::serve::listen;

/// Calls of one connection, one after the other.
const CALLS: usize = 200_000;
/// How often each head is judged.
const ROUNDS: u32 = 1_000_000;

/// A head as agents send them, with so many more fields.
fn head(more: usize) -> Vec<u8> {
    let mut head = String::from(
        "GET /crm/customers/8213/invoices?status=open&limit=50 HTTP/1.1\r\nHost: gate.internal:8080\r\n\
         Authorization: Bearer tgs_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG012345\r\n\
         User-Agent: python-httpx/0.28.1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n\
         Connection: keep-alive\r\n",
    );
    for number in 0..more {
        head.push_str(&format!(
            "X-Field-{number}: a value of a length that is usual\r\n"
        ));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn judge() -> Vec<(usize, f64)> {
    let mut found = Vec::new();
    for more in [0, 4, 16, 64] {
        let head = head(more);
        let mut wire = Wire::default();
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            black_box(wire.judge(black_box(&head)));
        }
        let nanos = begun.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS);
        found.push((head.len(), nanos));
    }
    found
}

/// Processor time of a call on the listener's thread, in nanoseconds.
fn call(calls: usize) -> f64 {
    let long = Duration::from_secs(3600);
    let listener = Listener {
        address: "127.0.0.1:0".parse().unwrap(),
        trusted_proxies: Vec::new(),
        timeouts: Timeouts {
            tls: long,
            head: long,
            body_idle: long,
            idle: long,
        },
        caps: Caps {
            connections: 10,
            per_address: 10,
        },
        failed_tries: u32::MAX,
        body_rate: 1,
        tls: None,
    };
    let bound = listen::bind(&listener, 1).unwrap();
    let address = bound.address;
    let (stage, stages) = watch::channel(Stage::Serve);
    let plane = bound
        .serve(
            &stages,
            None,
            Arc::new(|_, flaw| unread::plain(flaw)),
            || {},
            || |_, _| std::future::ready(Response::new(Full::new(Bytes::from_static(b"done")))),
        )
        .unwrap();
    let head = head(4);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = [0; 4096];
    let before = spent();
    for _ in 0..calls {
        stream.write_all(&head).unwrap();
        let mut read = 0;
        while !answer[..read].ends_with(b"done") {
            read += stream.read(&mut answer[read..]).unwrap();
        }
    }
    let spent = spent() - before;
    drop(stream);
    stage.send(Stage::Finish).unwrap();
    plane.join();
    spent * 1e9 / calls as f64
}

/// Processor time of the listener's one thread so far, in seconds: the system counts it in hundredths.
fn spent() -> f64 {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let place = task.unwrap().path();
        let name = std::fs::read_to_string(place.join("comm")).unwrap();
        if name.trim() == "agents-0" {
            let stat = std::fs::read_to_string(place.join("stat")).unwrap();
            let (_, rest) = stat.rsplit_once(')').unwrap();
            let field =
                |at: usize| -> f64 { rest.split_whitespace().nth(at).unwrap().parse().unwrap() };
            return (field(11) + field(12)) / 100.0;
        }
    }
    panic!("the listener has no thread");
}

fn main() {
    let calls = std::env::var("HEADS_CALLS").ok();
    let calls = calls.map_or(CALLS, |text| text.parse().unwrap());
    let judged = judge();
    let call = call(calls);
    println!("a call of {calls} on one connection: {call:.0} ns of the listener's thread");
    println!("head       judged     of such a call");
    for (bytes, nanos) in judged {
        println!(
            "{bytes:5} B  {nanos:7.1} ns  {:6.2} %",
            100.0 * nanos / call
        );
    }
}
