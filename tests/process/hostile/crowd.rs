//! Ten thousand who take their time, all at once, plain and over TLS: what that costs the gate, how long each lasts, and
//! what somebody honest notices of it. By hand, on a machine that does nothing else, against the release build:
//!
//! `cargo nextest run --release --test process --run-ignored only --no-capture -E 'test(ten_thousand_slow)'`

#![allow(clippy::disallowed_methods, reason = "it measures time")]

use super::raw::{Act, Raw, good, setup};
use crate::tls::raise_descriptors;
use crate::wait::{PATIENCE, within};
use crate::wire::pki::Authority;
use rustls::pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const CONNECTIONS: usize = 10_000;
/// Addresses that they come from, beside the honest one's.
const ADDRESSES: u8 = 100;
/// So many come each second: it is not the opening that is measured.
const OPENED_PER_SECOND: u32 = 1000;
/// Descriptors of either process: a connection, and one between gate and backend.
const DESCRIPTORS: u64 = 2 * CONNECTIONS as u64 - 500;
/// Of the tool: it is not the backend that is late.
const PATIENT: &str = ", connect_timeout: 60s";

/// Of the whole process, for each of them. Those that never get as far as a call take a sixth of it.
const KIB_EACH_MAX: u64 = 36;
const KIB_EACH_TLS_MAX: u64 = 44;
const HONEST_P99_MAX: Duration = Duration::from_millis(50);
const LATE_MAX: Duration = Duration::from_secs(1);
/// Of who reads nothing: its time begins when the kernels have taken the last byte that they take, and nobody here sees when.
const READ_LATE_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    /// Over TLS: the beginning of a handshake.
    Handshake,
    /// A field of its head each second.
    Head,
    /// Half of its body, and no more.
    Body,
    /// A byte of its body each second.
    Drip,
    /// Reads nothing of its answer.
    Read,
}

/// How the gate is spoken to.
#[derive(Clone)]
enum Speech {
    Plain,
    Tls(TlsConnector),
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// The next bytes; none at its end, however it comes.
    async fn read(&mut self, bytes: &mut [u8]) -> usize {
        match self {
            Stream::Plain(stream) => stream.read(bytes).await,
            Stream::Tls(stream) => stream.read(bytes).await,
        }
        .unwrap_or(0)
    }

    /// Until a reset has come. Nothing is read.
    async fn reset(&self) {
        let socket = match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        socket.ready(Interest::ERROR).await.unwrap();
    }
}

/// The whole crowd's.
struct Scene {
    gate: SocketAddr,
    token: String,
    speech: Speech,
    began: Instant,
    open: AtomicUsize,
}

/// Until the gate is through with it; how long that took.
async fn slow(scene: Arc<Scene>, number: usize, kind: Slow) -> Duration {
    let turn = Duration::from_secs(number as u64) / OPENED_PER_SECOND;
    tokio::time::sleep_until((scene.began + turn).into()).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let last = 2 + u8::try_from(number % usize::from(ADDRESSES)).unwrap();
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    socket.bind(from).unwrap();
    let mut stream = socket.connect(scene.gate).await.unwrap();
    let mut began = Instant::now();
    let mut stream = match &scene.speech {
        Speech::Tls(_) if kind == Slow::Handshake => {
            stream.write_all(&[22, 3, 1, 2]).await.unwrap();
            Stream::Plain(stream)
        }
        Speech::Plain => Stream::Plain(stream),
        Speech::Tls(connector) => {
            let name = ServerName::try_from("localhost").unwrap();
            let stream = connector.connect(name, stream).await.unwrap();
            began = Instant::now();
            Stream::Tls(Box::new(stream))
        }
    };
    let head = format!("Host: g\r\nAuthorization: Bearer {}\r\n", scene.token);
    let first = match kind {
        Slow::Handshake => String::new(),
        Slow::Head => format!("GET /t/a HTTP/1.1\r\n{head}"),
        Slow::Body | Slow::Drip => {
            format!("POST /t/a HTTP/1.1\r\n{head}Content-Length: 100\r\n\r\nhalf of it")
        }
        Slow::Read => format!("GET /t/big HTTP/1.1\r\n{head}\r\n"),
    };
    stream.write(first.as_bytes()).await.unwrap();
    if kind != Slow::Head && kind != Slow::Handshake {
        began = Instant::now();
    }
    scene.open.fetch_add(1, Ordering::Relaxed);
    let more: &[u8] = match kind {
        Slow::Head => b"X-More: 1\r\n",
        Slow::Drip => b"x",
        Slow::Handshake | Slow::Body | Slow::Read => b"",
    };
    // A reset is all that who does not read can be told.
    if kind == Slow::Read {
        stream.reset().await;
        scene.open.fetch_sub(1, Ordering::Relaxed);
        return began.elapsed();
    }
    let mut answer = [0; 16];
    loop {
        let wait = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut answer));
        match wait.await {
            Ok(read) => {
                let said = &answer[..read];
                let fit = said.is_empty() || said.starts_with(b"HTTP/1.1 408");
                assert!(fit, "{kind:?}: {}", said.escape_ascii());
                break;
            }
            Err(_) if more.is_empty() => {}
            Err(_) if stream.write(more).await.is_err() => break,
            Err(_) => {}
        }
    }
    scene.open.fetch_sub(1, Ordering::Relaxed);
    began.elapsed()
}

/// Calls one after the other on connections of their own, from a thread of its own, until told to stop.
fn honest(gate: SocketAddr, token: String, speech: Speech, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut took = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let stream = TcpStream::connect(gate).await.unwrap();
            let mut stream = match &speech {
                Speech::Plain => Stream::Plain(stream),
                Speech::Tls(connector) => {
                    let name = ServerName::try_from("localhost").unwrap();
                    Stream::Tls(Box::new(connector.connect(name, stream).await.unwrap()))
                }
            };
            let call = format!(
                "GET /t/a HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
            );
            stream.write(call.as_bytes()).await.unwrap();
            let (mut got, mut bytes) = (Vec::new(), [0; 1024]);
            loop {
                match within(PATIENCE, "who is honest is served", stream.read(&mut bytes)).await {
                    0 => break,
                    read => got.extend_from_slice(&bytes[..read]),
                }
            }
            assert!(
                got.starts_with(b"HTTP/1.1 200") && got.ends_with(b"\r\n\r\nok"),
                "{}",
                got.escape_ascii()
            );
            took.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        took
    })
}

/// How long each kind may last.
#[derive(Clone, Copy)]
struct Limits {
    handshake: Duration,
    head: Duration,
    body_idle: Duration,
}

impl Limits {
    fn of(self, kind: Slow) -> Duration {
        match kind {
            Slow::Handshake => self.handshake,
            Slow::Head => self.head,
            Slow::Body | Slow::Drip | Slow::Read => self.body_idle,
        }
    }
}

async fn crowd(encrypted: bool, kinds: &[Slow], limits: Limits) {
    let large = "z".repeat(256 * 1024);
    let backend = Raw::start(move |head, _| {
        Act::Say(vec![good(if head.contains("/big") {
            &large
        } else {
            "ok"
        })])
    })
    .await;
    let setup = setup(&[("t", backend.address, PATIENT)]);
    let authority = Authority::new();
    let folder = setup.config();
    let folder = folder.parent().unwrap();
    authority.server().write(folder, "gate");
    let seconds = |span: Duration| format!("{}s", span.as_secs());
    let tls = if encrypted {
        ", tls: { certificate: gate.pem, private_key: gate.key }"
    } else {
        ""
    };
    setup.edit_server(|text| {
        text.replace("workers: 1", "workers: 2").replace(
            "agents: { address: 127.0.0.1:0 }",
            &format!(
                "agents: {{ address: 127.0.0.1:0, timeouts: {{ tls: {}, head: {}, body_idle: {} }}{tls} }}",
                seconds(limits.handshake),
                seconds(limits.head),
                seconds(limits.body_idle)
            ),
        )
    });
    let gate = setup.start().await;
    for process in [gate.id(), std::process::id()] {
        let descriptors = raise_descriptors(process, DESCRIPTORS);
        assert!(descriptors >= DESCRIPTORS, "{descriptors} are too few");
    }
    let speech = if encrypted {
        Speech::Tls(TlsConnector::from(Arc::new(
            authority.trusting(None, Vec::new()),
        )))
    } else {
        Speech::Plain
    };
    let token = gate.mint("demo", "bot").await.token;
    // Somebody else's: what a session does falls on itself.
    let other = gate.mint("demo", "bot").await.token;
    let calm = gate.memory_kib("VmRSS");
    let watch = |stop: &Arc<AtomicBool>| {
        let (gate, token, speech) = (gate.agents, other.clone(), speech.clone());
        let stop = Arc::clone(stop);
        std::thread::spawn(move || honest(gate, token, speech, stop))
    };
    let stop = Arc::new(AtomicBool::new(false));
    let alone = watch(&stop);
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    let mut alone = alone.join().unwrap();
    println!("nobody slow: {}", told(&mut alone));

    let scene = Arc::new(Scene {
        gate: gate.agents,
        token,
        speech: speech.clone(),
        began: Instant::now(),
        open: AtomicUsize::new(0),
    });
    let stop = Arc::new(AtomicBool::new(false));
    let honest = watch(&stop);
    let began = Instant::now();
    // One kind after the other: those that last longest come first.
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let kind = kinds[number * kinds.len() / CONNECTIONS];
            (kind, tokio::spawn(slow(Arc::clone(&scene), number, kind)))
        })
        .collect();
    let mut most = 0;
    while tasks.iter().any(|(_, task)| !task.is_finished()) {
        let open = scene.open.load(Ordering::Relaxed);
        if open > most && open == CONNECTIONS {
            println!("all are open after {:?}", began.elapsed());
        }
        most = open.max(most);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("all are cut after {:?}", began.elapsed());
    stop.store(true, Ordering::Relaxed);
    let mut honest = honest.join().unwrap();
    let mut lasted: Vec<(Slow, Vec<Duration>)> =
        kinds.iter().map(|kind| (*kind, Vec::new())).collect();
    for (kind, task) in tasks {
        let took = within(PATIENCE, "it is cut", task).await.unwrap();
        let (_, spans) = lasted.iter_mut().find(|(it, _)| *it == kind).unwrap();
        spans.push(took);
    }
    for (kind, spans) in &mut lasted {
        spans.sort();
        println!(
            "{kind:?}: {} cut after {:?} to {:?}",
            spans.len(),
            spans[0],
            spans[spans.len() - 1]
        );
    }
    let peak = gate.memory_kib("VmHWM");
    println!("at most {most} open at once; {calm} KiB, at most {peak}");
    println!("meanwhile: {}", told(&mut honest));
    assert!(most >= CONNECTIONS, "{most} at once");
    for (kind, spans) in lasted {
        let limit = limits.of(kind);
        // It may be this process that was late to look at its clock.
        assert!(spans[0] + LATE_MAX >= limit, "{kind:?} was cut too soon");
        let last = spans[spans.len() - 1];
        let late = match kind {
            Slow::Read => READ_LATE_MAX,
            Slow::Handshake | Slow::Head | Slow::Body | Slow::Drip => LATE_MAX,
        };
        assert!(last <= limit + late, "{kind:?} was cut late: {last:?}");
    }
    let each = if encrypted {
        KIB_EACH_TLS_MAX
    } else {
        KIB_EACH_MAX
    };
    assert!(peak < each * CONNECTIONS as u64, "{peak} KiB");
    assert!(
        quantile(&honest, 99) < HONEST_P99_MAX,
        "who is honest waits"
    );
}

fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn told(took: &mut [Duration]) -> String {
    took.sort();
    format!(
        "{} honest calls, half within {:?}, p99 {:?}, all within {:?}",
        took.len(),
        quantile(took, 50),
        quantile(took, 99),
        quantile(took, 100)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "by hand: it takes a machine of its own, and the release build"]
async fn ten_thousand_slow_connections_are_cut_in_time_and_nobody_else_waits_for_them() {
    let limits = Limits {
        handshake: Duration::from_secs(10),
        head: Duration::from_secs(10),
        body_idle: Duration::from_secs(20),
    };
    let kinds = [Slow::Body, Slow::Drip, Slow::Read, Slow::Head];
    crowd(false, &kinds, limits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "by hand: it takes a machine of its own, and the release build"]
async fn ten_thousand_slow_heads_are_cut_in_time_and_nobody_else_waits_for_them() {
    let limits = Limits {
        handshake: Duration::from_secs(10),
        head: Duration::from_secs(10),
        body_idle: Duration::from_secs(20),
    };
    crowd(false, &[Slow::Head], limits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "by hand: it takes a machine of its own, and the release build"]
async fn ten_thousand_slow_tls_connections_are_cut_in_time_and_nobody_else_waits_for_them() {
    let limits = Limits {
        handshake: Duration::from_secs(20),
        head: Duration::from_secs(20),
        body_idle: Duration::from_secs(30),
    };
    let kinds = [
        Slow::Body,
        Slow::Drip,
        Slow::Read,
        Slow::Head,
        Slow::Handshake,
    ];
    crowd(true, &kinds, limits).await;
}
