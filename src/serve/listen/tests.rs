//! Connections in a real data plane, with a handler of the tests' own.

mod http2;
mod tls;

use super::*;
use crate::config::{Caps, Timeouts};
use crate::io::tls::server::Server;
use crate::serve::watch::SWEEP_EVERY;
use http_body_util::{BodyExt as _, Full};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

/// Longest a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

struct Scene {
    address: SocketAddr,
    stage: watch::Sender<Stage>,
    plane: DataPlane,
    refused: Arc<AtomicU32>,
    /// Calls to `/held` wait for as many permits.
    permits: Arc<tokio::sync::Semaphore>,
    /// One for each call to `/held` that has begun.
    held: mpsc::Receiver<()>,
}

fn scene(timeouts: Timeouts, caps: Caps) -> Scene {
    scene_with(None, timeouts, caps)
}

fn scene_with(tls: Option<Arc<Server>>, timeouts: Timeouts, caps: Caps) -> Scene {
    let listener = Listener {
        address: "127.0.0.1:0".parse().unwrap(),
        trusted_proxies: Vec::new(),
        timeouts,
        caps,
        failed_tries: u32::MAX,
        body_rate: 1,
        tls: None,
    };
    let bound = bind(&listener, 2).unwrap();
    let address = bound.address;
    let (stage, stages) = watch::channel(Stage::Serve);
    let (refused, permits) = (
        Arc::new(AtomicU32::new(0)),
        Arc::new(tokio::sync::Semaphore::new(0)),
    );
    let (begun, held) = mpsc::channel();
    let counted = Arc::clone(&refused);
    let gate = Arc::clone(&permits);
    let plane = bound
        .serve(
            &stages,
            tls,
            Arc::new(|_, flaw| crate::gate::unread::plain(flaw)),
            move || {
                counted.fetch_add(1, Ordering::SeqCst);
            },
            move || {
                let (gate, begun) = (Arc::clone(&gate), begun.clone());
                move |request, peer| answer(request, peer, Arc::clone(&gate), begun.clone())
            },
        )
        .unwrap();
    Scene {
        address,
        stage,
        plane,
        refused,
        permits,
        held,
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    permits: Arc<tokio::sync::Semaphore>,
    begun: mpsc::Sender<()>,
) -> Response<Full<Bytes>> {
    if request.method() == http::Method::CONNECT {
        let tunnel = hyper::upgrade::on(request);
        spawn_local(async move {
            let tunnel = tunnel.await.unwrap();
            permits.acquire().await.unwrap().forget();
            drop(tunnel);
        });
        return Response::new(Full::default());
    }
    match request.uri().path() {
        "/panic" => panic!("a fault of this test's handler"),
        "/held" => {
            begun.send(()).unwrap();
            permits.acquire().await.unwrap().forget();
        }
        "/early" => {
            let line = peer.line.unwrap();
            line.say(http::StatusCode::PROCESSING, &http::HeaderMap::new());
            begun.send(()).unwrap();
            permits.acquire().await.unwrap().forget();
            // In one moment with the answer.
            line.say(http::StatusCode::EARLY_HINTS, &http::HeaderMap::new());
        }
        "/peer" => return Response::new(Full::new(format!("{:?}", peer.channel).into())),
        "/big" => return Response::new(Full::new(Bytes::from(vec![b'x'; BIG_BYTES]))),
        "/read" => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            return Response::new(Full::new(body));
        }
        _ => {}
    }
    Response::new(Full::new(Bytes::from_static(b"done")))
}

fn patient() -> Timeouts {
    Timeouts {
        tls: PATIENCE,
        head: PATIENCE,
        body_idle: PATIENCE,
        idle: PATIENCE,
    }
}

fn roomy() -> Caps {
    Caps {
        connections: 100,
        per_address: 100,
    }
}

fn connect(scene: &Scene) -> TcpStream {
    let stream = TcpStream::connect(scene.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// Until the gate closes. A reset fails the test.
fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Until `end` stands at the end of what came.
fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with(end) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed after {text:?}");
        text.push(char::from(byte[0]));
    }
    text
}

fn finish(scene: Scene) {
    scene.stage.send_replace(Stage::Cut);
    scene.plane.join();
}

/// What `/big` answers with.
const BIG_BYTES: usize = 1 << 20;
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn calls_follow_each_other_on_one_connection() {
    let scene = scene(patient(), roomy());
    let mut stream = connect(&scene);
    for _ in 0..3 {
        send(&mut stream, GET);
        assert!(until(&mut stream, "done").starts_with("HTTP/1.1 200 OK\r\n"));
    }
    drop(stream);
    finish(scene);
}

#[test]
fn an_agent_that_shuts_its_sending_side_behind_a_whole_request_gets_its_answer() {
    let scene = scene(patient(), roomy());
    let mut stream = connect(&scene);
    send(&mut stream, "GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
    scene.held.recv_timeout(PATIENCE).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    // Whoever hears of it has heard of it by then: another call goes all the way.
    let mut other = connect(&scene);
    send(&mut other, GET);
    until(&mut other, "done");
    scene.permits.add_permits(1);
    let answer = rest(&mut stream);
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("done"),
        "{answer}"
    );
    finish(scene);
}

#[test]
fn what_comes_before_an_answer_is_sent_at_once_and_between_whole_messages() {
    let scene = scene(patient(), roomy());
    let mut stream = connect(&scene);
    // The second follows before the first is answered.
    let ask = "GET /early HTTP/1.1\r\nhost: a\r\n\r\n";
    send(&mut stream, &format!("{ask}{ask}"));
    for _ in 0..2 {
        scene.held.recv_timeout(PATIENCE).unwrap();
        let first = until(&mut stream, "\r\n\r\n");
        let processing = "HTTP/1.1 102 Processing\r\nvia: 1.1 toolgate\r\n\r\n";
        assert_eq!(first, processing);
        scene.permits.add_permits(1);
        let second = until(&mut stream, "\r\n\r\n");
        let hints = "HTTP/1.1 103 Early Hints\r\nvia: 1.1 toolgate\r\n\r\n";
        assert_eq!(second, hints);
        assert!(until(&mut stream, "done").starts_with("HTTP/1.1 200 OK\r\n"));
    }
    finish(scene);
}

#[test]
fn a_panic_is_answered_with_500_and_takes_nothing_else_down() {
    let scene = scene(patient(), roomy());
    let mut other = connect(&scene);
    send(&mut other, GET);
    until(&mut other, "done");
    for _ in 0..4 {
        let mut stream = connect(&scene);
        send(&mut stream, "GET /panic HTTP/1.1\r\nhost: a\r\n\r\n");
        let answer = rest(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    send(&mut other, GET);
    until(&mut other, "done");
    finish(scene);
}

#[test]
fn a_head_that_does_not_end_is_answered_with_408_and_cut() {
    let mut timeouts = patient();
    timeouts.head = SWEEP_EVERY;
    let scene = scene(timeouts, roomy());
    let (mut silent, mut slow) = (connect(&scene), connect(&scene));
    send(&mut slow, "GET / HTTP/1.1\r\nhost:");
    for stream in [&mut silent, &mut slow] {
        let answer = rest(stream);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(body.contains("\"reason\":\"request_malformed\""));
    }
    finish(scene);
}

#[test]
fn a_second_head_is_timed_too_and_an_idle_connection_is_closed_in_silence() {
    let mut timeouts = patient();
    timeouts.head = SWEEP_EVERY;
    timeouts.idle = SWEEP_EVERY * 2;
    let scene = scene(timeouts, roomy());
    let (mut idle, mut slow) = (connect(&scene), connect(&scene));
    for stream in [&mut idle, &mut slow] {
        send(stream, GET);
        until(stream, "done");
    }
    send(&mut slow, "GET / HTTP/1.1\r\n");
    assert!(rest(&mut slow).starts_with("HTTP/1.1 408 "));
    // Closed or reset: nothing was under way.
    let mut nothing = Vec::new();
    let _ = idle.read_to_end(&mut nothing);
    assert!(nothing.is_empty());
    finish(scene);
}

#[test]
fn a_call_in_progress_outlives_head_and_idle_timeouts() {
    let mut timeouts = patient();
    timeouts.head = SWEEP_EVERY;
    timeouts.idle = SWEEP_EVERY;
    let scene = scene(timeouts, roomy());
    let (mut held, mut idle) = (connect(&scene), connect(&scene));
    send(&mut held, "GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
    send(&mut idle, GET);
    until(&mut idle, "done");
    let _ = idle.read_to_end(&mut Vec::new());
    // By now a connection that idled was cut; the held call was there before it.
    scene.permits.add_permits(1);
    until(&mut held, "done");
    finish(scene);
}

#[test]
fn what_can_t_be_parsed_is_answered_and_closed() {
    let scene = scene(patient(), roomy());
    let (target, field) = ("x".repeat(70 * 1024), "x".repeat(100 * 1024));
    let cases = [
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), "400"),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"
                .to_owned(),
            "400",
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: a\r\nlong: {field}\r\n\r\n"),
            "431",
        ),
        (format!("GET /{target} HTTP/1.1\r\nhost: a\r\n\r\n"), "414"),
    ];
    for (request, status) in cases {
        let mut stream = connect(&scene);
        send(&mut stream, &request);
        let answer = rest(&mut stream);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{status}: {answer}"
        );
        assert!(
            answer.contains("problem+json") && answer.ends_with('}'),
            "{answer}"
        );
    }
    finish(scene);
}

#[test]
fn an_answer_given_before_the_body_was_read_reaches_the_agent() {
    let scene = scene(patient(), roomy());
    for _ in 0..8 {
        let mut stream = connect(&scene);
        let body = 512 * 1024;
        send(
            &mut stream,
            &format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {body}\r\n\r\n"),
        );
        send(&mut stream, &"x".repeat(body));
        assert!(rest(&mut stream).ends_with("done"));
    }
    finish(scene);
}

#[test]
fn connections_over_the_cap_are_closed_and_counted() {
    let scene = scene(
        patient(),
        Caps {
            connections: 100,
            per_address: 1,
        },
    );
    let mut first = connect(&scene);
    send(&mut first, GET);
    until(&mut first, "done");
    let mut second = connect(&scene);
    let mut nothing = Vec::new();
    let _ = second.read_to_end(&mut nothing);
    assert!(nothing.is_empty());
    assert_eq!(scene.refused.load(Ordering::SeqCst), 1);
    send(&mut first, GET);
    until(&mut first, "done");
    finish(scene);
}

#[test]
fn a_drain_finishes_calls_in_flight_closes_idle_connections_and_takes_no_more() {
    let scene = scene(patient(), roomy());
    let (mut idle, mut held) = (connect(&scene), connect(&scene));
    send(&mut idle, GET);
    until(&mut idle, "done");
    send(&mut held, "GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
    scene.held.recv_timeout(PATIENCE).unwrap();
    scene.stage.send_replace(Stage::Finish);
    assert_eq!(rest(&mut idle), "");
    while TcpStream::connect(scene.address).is_ok() {
        thread::yield_now();
    }
    scene.permits.add_permits(1);
    let answer = rest(&mut held);
    assert!(answer.ends_with("done"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    scene.plane.join();
}

#[test]
fn a_cut_ends_what_does_not_finish() {
    let scene = scene(patient(), roomy());
    let mut held = connect(&scene);
    send(&mut held, "GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
    scene.held.recv_timeout(PATIENCE).unwrap();
    scene.stage.send_replace(Stage::Finish);
    scene.stage.send_replace(Stage::Cut);
    scene.plane.join();
    let _ = held.read_to_end(&mut Vec::new());
}
