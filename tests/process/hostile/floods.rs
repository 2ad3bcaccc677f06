//! Floods over HTTP/2: what costs its sender next to nothing and a server much. Each is bounded in the gate's memory, ends
//! or stands still by the gate's doing, and leaves who shares the thread with it served.

#![allow(clippy::disallowed_methods, reason = "it measures time")]

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, Peer,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, call, frame, settings,
};
use super::raw::{Act, Raw, good, setup};
use crate::client::Connection;
use crate::gate::{Gate, Setup};
use crate::wait::{PATIENCE, within};
use http::Method;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;

/// Connections that flood at once, for how long, and what each may send.
const FLOODERS: usize = 4;
const FLOODED: Duration = Duration::from_millis(500);
/// The same by hand, where it is the time of who stands by that counts.
const MEASURED: Duration = Duration::from_secs(2);
const BYTES_MAX: usize = 16 * 1024 * 1024;
const GROWN_KIB_MAX: u64 = 32 * 1024;

struct Flood {
    name: &'static str,
    /// Of the agent, in its preface.
    settings: Vec<(u16, u32)>,
    first: Vec<u8>,
    each: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>,
    /// Whether the gate closes the connection, and does not only let it wait.
    ends: bool,
}

fn flood(name: &'static str, each: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Flood {
    Flood {
        name,
        settings: Vec::new(),
        first: Vec::new(),
        each: Box::new(each),
        ends: true,
    }
}

impl Flood {
    fn after(mut self, first: Vec<u8>) -> Self {
        self.first = first;
        self
    }

    fn with(mut self, settings: &[(u16, u32)]) -> Self {
        self.settings = settings.to_vec();
        self
    }

    /// Nothing forbids it: it is held where it is, or costs no more than it brings.
    fn waits(mut self) -> Self {
        self.ends = false;
        self
    }
}

fn id(n: u32) -> u32 {
    2 * n + 1
}

fn floods(bearer: &str) -> Vec<Flood> {
    let get = block(&call("GET", "/t/reached", bearer));
    let big = block(&call("GET", "/t/big", bearer));
    let post = block(&call("POST", "/t/reached", bearer));
    let (reset, resets) = (get.clone(), get.clone());
    let (window, overflow) = (get.clone(), get.clone());
    let (closed, itself) = (get.clone(), post.clone());
    let (refused, paced) = (post.clone(), get.clone());
    let whole = END_STREAM | END_HEADERS;
    let open = frame(HEADERS, END_HEADERS, 1, &post);
    let begun = frame(HEADERS, END_STREAM, 1, &get);
    let cancel = |n: u32| frame(RST_STREAM, 0, n, &8u32.to_be_bytes());
    let long = "y".repeat(4000);
    let mut bomb = block(&call("GET", "/t/reached", bearer));
    bomb.extend([0x40, 1, b'x', 127, 0xa1, 0x1e]);
    bomb.extend(long.bytes());
    bomb.extend(std::iter::repeat_n(0xbe, 8000));
    let table = [
        frame(SETTINGS, 0, 0, &settings(&[(1, 0)])),
        frame(SETTINGS, 0, 0, &settings(&[(1, 4096)])),
    ]
    .concat();
    let bigs: Vec<u8> = (0..100)
        .flat_map(|n| frame(HEADERS, whole, id(n), &big))
        .collect();
    vec![
        flood("calls reset at once (CVE-2023-44487)", move |n| {
            [frame(HEADERS, whole, id(n), &reset), cancel(id(n))].concat()
        }),
        flood("calls with a body, reset", move |n| {
            [frame(HEADERS, END_HEADERS, id(n), &refused), cancel(id(n))].concat()
        }),
        flood(
            "calls whose window overflows, so that the gate resets (CVE-2025-8671)",
            move |n| {
                let much = 0x7fff_ffffu32.to_be_bytes();
                [
                    frame(HEADERS, whole, id(n), &overflow),
                    frame(WINDOW_UPDATE, 0, id(n), &much),
                ]
                .concat()
            },
        ),
        flood("calls with a window of nothing (CVE-2025-8671)", move |n| {
            [
                frame(HEADERS, whole, id(n), &window),
                frame(WINDOW_UPDATE, 0, id(n), &[0; 4]),
            ]
            .concat()
        }),
        flood("data behind the end of calls (CVE-2025-8671)", move |n| {
            [
                frame(HEADERS, whole, id(n), &closed),
                frame(DATA, 0, id(n), b"more"),
            ]
            .concat()
        }),
        flood("heads that are malformed, each on its stream", move |n| {
            frame(
                HEADERS,
                whole,
                id(n),
                &block(&[(":method", "GET"), ("x", "y")]),
            )
        }),
        flood("streams beyond those allowed", move |n| {
            frame(HEADERS, END_HEADERS, id(n), &itself)
        }),
        flood("resets of one stream", move |_| cancel(1)).after(frame(HEADERS, whole, 1, &resets)),
        flood("SETTINGS (CVE-2019-9515)", |_| {
            frame(SETTINGS, 0, 0, &settings(&[(4, 70_000)]))
        }),
        flood("SETTINGS that resize the table", move |_| table.clone()),
        flood("acknowledgements of SETTINGS", |_| {
            frame(SETTINGS, 1, 0, &[])
        }),
        flood("PING (CVE-2019-9512)", |_| frame(PING, 0, 0, &[0; 8])),
        flood("answers to no PING", |_| frame(PING, 1, 0, &[0; 8])),
        flood("PRIORITY (CVE-2019-9513)", |n| {
            frame(PRIORITY, 0, id(n % 1000), &[0, 0, 0, 0, 9])
        }),
        flood("CONTINUATION without end (CVE-2024-27316)", |_| {
            frame(CONTINUATION, 0, 1, &block(&[("x", "y")]))
        })
        .after(begun.clone()),
        flood("empty CONTINUATION", |_| frame(CONTINUATION, 0, 1, &[])).after(begun),
        flood("empty DATA (CVE-2019-9518)", |_| frame(DATA, 0, 1, &[])).after(open.clone()),
        flood("padding alone", |_| {
            frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat())
        })
        .after(open.clone())
        .waits(),
        flood("DATA of one byte", |_| frame(DATA, 0, 1, b"x"))
            .after(open)
            .waits(),
        flood("fields without names (CVE-2019-9516)", |n| {
            frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                id(n),
                &block(&[("", ""); 100]),
            )
        }),
        flood("fields without number", |n| {
            frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                id(n),
                &block(&[("x", ""); 3000]),
            )
        })
        // Each is a call, and is answered 431.
        .waits(),
        flood("a table that unfolds (CVE-2016-6581)", move |n| {
            frame(HEADERS, whole, id(n), &bomb)
        }),
        flood("WINDOW_UPDATE", |_| {
            frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())
        }),
        flood(
            "a window of one byte, and one more each time (CVE-2019-9517)",
            |_| frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()),
        )
        .with(&[(4, 1)])
        .after(frame(HEADERS, whole, 1, &big)),
        flood("a hundred answers that nobody takes", |_| Vec::new())
            .with(&[(4, 0)])
            .after(bigs)
            .waits(),
        flood("frames that nobody knows", |_| frame(0xfa, 0, 0, &[0; 8])),
        flood("GOAWAY", |_| frame(GOAWAY, 0, 0, &[0; 8])),
        flood(
            "calls one after the other, given up when they began",
            move |n| {
                [
                    frame(HEADERS, whole, id(n), &paced),
                    frame(PING, 0, 0, &[0; 8]),
                    cancel(id(n)),
                ]
                .concat()
            },
        ),
    ]
}

/// How a connection that floods ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The gate has closed it.
    Closed,
    /// It stands where it is.
    Waiting,
}

/// Floods, on one connection after the other, until the time is over; how each ended.
async fn flooding(gate: SocketAddr, flood: Arc<Flood>, span: Duration) -> Vec<Ended> {
    let began = Instant::now();
    let mut ended = Vec::new();
    while began.elapsed() < span {
        ended.push(once(gate, &flood, span).await);
    }
    ended
}

async fn once(gate: SocketAddr, flood: &Flood, span: Duration) -> Ended {
    let Ok(mut peer) = Peer::open(gate, &flood.settings).await else {
        return Ended::Closed;
    };
    let sending = async {
        if peer.send(&flood.first).await.is_err() {
            return Ended::Closed;
        }
        let (mut n, mut sent) = (1, 0);
        while sent < BYTES_MAX {
            let mut bytes = Vec::with_capacity(32 * 1024);
            while bytes.len() < 16 * 1024 {
                let piece = (flood.each)(n);
                if piece.is_empty() {
                    return std::future::pending().await;
                }
                bytes.extend(piece);
                n += 1;
            }
            if peer.send(&bytes).await.is_err() {
                return Ended::Closed;
            }
            sent += bytes.len();
        }
        Ended::Waiting
    };
    if tokio::time::timeout(span, sending).await == Ok(Ended::Closed) {
        return Ended::Closed;
    }
    // What the gate says now, it says because it was asked to; or it has closed.
    let mut rest = Vec::new();
    if flood.ends
        && tokio::time::timeout(PATIENCE, peer.stream.read_to_end(&mut rest))
            .await
            .is_ok()
    {
        Ended::Closed
    } else {
        Ended::Waiting
    }
}

/// Calls without a pause until told to stop; how long each took, and the most memory seen meanwhile.
async fn bystand(gate: Arc<Gate>, token: String, stop: Arc<AtomicBool>) -> (Vec<Duration>, u64) {
    let mut connection = Connection::open(gate.agents, &token).await.unwrap();
    let (mut took, mut memory) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let answer = connection.call(Method::GET, "/t/reached", ()).await;
        assert_eq!(answer.expect("who stands by is served").status, 200);
        took.push(began.elapsed());
        memory = memory.max(gate.memory_kib("VmRSS"));
    }
    (took, memory)
}

fn p99(took: &mut [Duration]) -> Duration {
    took.sort();
    took[(took.len() * 99 / 100).min(took.len() - 1)]
}

/// A backend and a gate in front of it, and the token of a session.
async fn scene() -> (Setup, Arc<Gate>, String) {
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
    let gate = Arc::new(setup.start().await);
    let token = gate.mint("demo", "bot").await.token;
    (setup, gate, token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_flood_of_frames_grows_the_gate_or_keeps_others_from_being_served() {
    let (_setup, gate, token) = scene().await;
    let bearer = format!("Bearer {token}");
    let watch = |stop: &Arc<AtomicBool>| {
        tokio::spawn(bystand(Arc::clone(&gate), token.clone(), Arc::clone(stop)))
    };
    let pause = |stop: Arc<AtomicBool>| async move {
        tokio::time::sleep(FLOODED).await;
        stop.store(true, Ordering::Relaxed);
    };
    let stop = Arc::new(AtomicBool::new(false));
    let calm = watch(&stop);
    pause(stop).await;
    let (mut took, before) = calm.await.unwrap();
    let calm = p99(&mut took);
    println!("calm: {before} KiB, p99 {calm:?}");
    let floods = floods(&bearer);
    assert!(floods.len() >= 16);
    for flood in floods {
        let flood = Arc::new(flood);
        let stop = Arc::new(AtomicBool::new(false));
        let bystander = watch(&stop);
        let flooders: Vec<_> = (0..FLOODERS)
            .map(|_| tokio::spawn(flooding(gate.agents, Arc::clone(&flood), FLOODED)))
            .collect();
        let mut ended = Vec::new();
        for flooder in flooders {
            let each = within(2 * PATIENCE, flood.name, flooder).await;
            ended.extend(each.unwrap());
        }
        stop.store(true, Ordering::Relaxed);
        let (mut took, memory) = within(PATIENCE, flood.name, bystander).await.unwrap();
        let grown = memory.saturating_sub(before);
        let (calls, slow) = (took.len(), p99(&mut took));
        println!(
            "{}: {grown} KiB, p99 {slow:?} of {calls}, {} connections",
            flood.name,
            ended.len()
        );
        assert!(grown < GROWN_KIB_MAX, "{}: {grown} KiB more", flood.name);
        if flood.ends {
            assert!(
                ended.iter().all(|it| *it == Ended::Closed),
                "{}: {ended:?}",
                flood.name
            );
        }
        // Twice as long is what was asked for; the floor is for machines that test many things at once.
        let most = (2 * calm).max(Duration::from_secs(5));
        assert!(
            slow < most,
            "{}: {slow:?}, and {calm:?} without it",
            flood.name
        );
    }
}

/// By hand, on a machine that does nothing else, against the release build: what each kind costs who stands by, on the one
/// thread that serves both. One connection floods after the other, from a thread of its own, as fast as it can. The times are
/// for a person to compare: those without a flood vary by more than a flood adds to most.
///
/// `cargo nextest run --release --test process --run-ignored only --no-capture -E 'test(who_stands_by)'`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "by hand: it takes a machine of its own, and the release build"]
async fn who_stands_by_a_flood_is_served_and_how_soon() {
    let (_setup, gate, token) = scene().await;
    let watched = |span: Duration| {
        let (gate, token) = (Arc::clone(&gate), token.clone());
        async move {
            let stop = Arc::new(AtomicBool::new(false));
            let watching = own_thread(bystand(gate, token, Arc::clone(&stop)));
            tokio::time::sleep(span).await;
            stop.store(true, Ordering::Relaxed);
            tokio::task::spawn_blocking(|| watching.join().unwrap())
                .await
                .unwrap()
        }
    };
    let (_, before) = watched(MEASURED).await;
    for flood in floods(&format!("Bearer {token}")) {
        let (mut calm, _) = watched(MEASURED).await;
        let flood = Arc::new(flood);
        let flooder = own_thread(flooding(gate.agents, Arc::clone(&flood), MEASURED));
        let (mut took, memory) = watched(MEASURED).await;
        let ended = tokio::task::spawn_blocking(|| flooder.join().unwrap());
        let connections = within(PATIENCE, flood.name, ended).await.unwrap().len();
        let (calm, slow) = (p99(&mut calm), p99(&mut took));
        let grown = memory.saturating_sub(before);
        println!(
            "{calm:>10.1?} then {slow:>10.1?} of {:>6} calls, {grown:>6} KiB, {connections:>5} connections: {}",
            took.len(),
            flood.name
        );
        assert!(grown < GROWN_KIB_MAX, "{}: {grown} KiB more", flood.name);
    }
}

fn own_thread<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(future)
    })
}
