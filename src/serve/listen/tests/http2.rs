//! HTTP/2 frame by frame: what well-behaved clients can't be asked to send.

use super::*;
use std::io::{Read, Write};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug)]
pub(super) struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET path` of the host `a`: indexed method and scheme, literal path and authority (RFC 7541).
fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.bytes());
    block.extend([0x01, 1, b'a']);
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
}

/// A connection that reads frames and answers what has to be answered.
pub(super) struct Peer2<S>(pub S);

impl<S: Read + Write> Peer2<S> {
    /// Preface and settings, each a list of identifier and value.
    pub fn open(stream: S, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self(stream);
        peer.send(PREFACE);
        peer.settings(settings);
        peer
    }

    fn settings(&mut self, settings: &[(u16, u32)]) {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        self.send(&frame(SETTINGS, 0, 0, &payload));
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    pub fn get(&mut self, stream: u32, path: &str) {
        self.send(&get(stream, path));
    }

    /// `None`: the gate has closed.
    fn read(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).ok()?;
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match kind {
                // The gate may have closed by now; what it said before is read all the same.
                SETTINGS if flags & ACK == 0 => {
                    drop(self.0.write_all(&frame(SETTINGS, ACK, 0, &[])))
                }
                PING if flags & ACK == 0 => drop(self.0.write_all(&frame(PING, ACK, 0, &payload))),
                _ => {}
            }
            let _ = self.0.flush();
            if !matches!(kind, SETTINGS | PING | WINDOW_UPDATE) {
                return Some(Frame {
                    kind,
                    flags,
                    stream,
                    payload,
                });
            }
        }
    }

    /// The status of a stream, its first field: answers of other streams are passed over.
    pub fn status(&mut self, stream: u32) -> u16 {
        loop {
            let frame = self.read().expect("an answer, and no end");
            if frame.stream == stream {
                assert_eq!(frame.kind, HEADERS, "{frame:?}");
                return match frame.payload[0] {
                    0x88 => 200,
                    0x8e => 500,
                    other => panic!("a status of {other:#x}"),
                };
            }
        }
    }

    /// Until a frame of this kind on this stream.
    fn until(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.read().expect("more frames");
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
        }
    }

    /// Until the gate closes; the kinds of what came.
    fn rest(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.read())
            .map(|frame| frame.kind)
            .collect()
    }
}

fn code(frame: &Frame) -> u32 {
    let at = if frame.kind == GOAWAY { 4 } else { 0 };
    u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap())
}

#[test]
fn http2_by_prior_knowledge_is_served_however_its_preface_comes() {
    let scene = scene(patient(), roomy());
    let mut whole = Peer2::open(connect(&scene), &[]);
    whole.get(1, "/");
    assert_eq!(whole.status(1), 200);
    let mut pieces = Peer2(connect(&scene));
    for byte in PREFACE {
        pieces.send(&[*byte]);
    }
    pieces.settings(&[]);
    pieces.get(1, "/");
    assert_eq!(pieces.status(1), 200);
    assert_eq!(pieces.until(DATA, 1).payload, b"done");
    finish(scene);
}

#[test]
fn http1_that_begins_like_the_preface_is_http1() {
    let scene = scene(patient(), roomy());
    for (first, then) in [
        ("P", "OST / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("PR", "OPFIND / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ] {
        let mut stream = connect(&scene);
        send(&mut stream, first);
        send(&mut stream, then);
        assert!(until(&mut stream, "done").starts_with("HTTP/1.1 200 OK\r\n"));
    }
    let mut stream = connect(&scene);
    send(&mut stream, "PRI * HTTP/2.0\r\n\r\nno\r\n\r\n");
    assert!(rest(&mut stream).starts_with("HTTP/1.1 505 "));
    finish(scene);
}

#[test]
fn a_preface_that_does_not_end_is_late_as_a_head_is() {
    let mut timeouts = patient();
    timeouts.head = SWEEP_EVERY;
    let scene = scene(timeouts, roomy());
    let mut stream = connect(&scene);
    send(&mut stream, "PRI * HTTP/2.0\r\n");
    assert!(rest(&mut stream).starts_with("HTTP/1.1 408 "));
    finish(scene);
}

#[test]
fn a_panic_answers_500_on_its_stream_and_the_others_go_on() {
    let scene = scene(patient(), roomy());
    let mut peer = Peer2::open(connect(&scene), &[]);
    peer.get(1, "/held");
    scene.held.recv_timeout(PATIENCE).unwrap();
    peer.get(3, "/panic");
    assert_eq!(peer.status(3), 500);
    peer.get(5, "/");
    assert_eq!(peer.status(5), 200);
    scene.permits.add_permits(1);
    assert_eq!(peer.status(1), 200);
    finish(scene);
}

#[test]
fn calls_beyond_the_hundredth_at_once_are_refused() {
    let scene = scene(patient(), roomy());
    let mut peer = Peer2::open(connect(&scene), &[]);
    let all: Vec<u8> = (0..101).flat_map(|n| get(2 * n + 1, "/held")).collect();
    peer.send(&all);
    let refused = peer.until(RST_STREAM, 201);
    assert_eq!(code(&refused), 7, "REFUSED_STREAM");
    scene.permits.add_permits(100);
    for n in 0..100 {
        scene
            .held
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("call {n}"));
    }
    finish(scene);
}

#[test]
fn a_drain_says_goaway_and_finishes_the_calls_in_flight() {
    let scene = scene(patient(), roomy());
    let mut peer = Peer2::open(connect(&scene), &[]);
    let mut idle = Peer2::open(connect(&scene), &[]);
    idle.get(1, "/");
    assert_eq!(idle.until(DATA, 1).payload, b"done");
    peer.get(1, "/held");
    scene.held.recv_timeout(PATIENCE).unwrap();
    scene.stage.send_replace(Stage::Finish);
    assert_eq!(code(&peer.until(GOAWAY, 0)), 0, "NO_ERROR");
    scene.permits.add_permits(1);
    assert_eq!(peer.status(1), 200);
    assert!(peer.rest().contains(&DATA));
    assert!(idle.rest().contains(&GOAWAY));
    scene.plane.join();
}

#[test]
fn a_cut_ends_http2_calls_that_do_not_finish() {
    let scene = scene(patient(), roomy());
    let mut peer = Peer2::open(connect(&scene), &[]);
    peer.get(1, "/held");
    scene.held.recv_timeout(PATIENCE).unwrap();
    scene.stage.send_replace(Stage::Cut);
    scene.plane.join();
    peer.rest();
}

#[test]
fn streams_opened_and_reset_at_once_end_the_connection() {
    let scene = scene(patient(), roomy());
    let mut peer = Peer2::open(connect(&scene), &[]);
    let reset = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    let storm: Vec<u8> = (0..2000u32)
        .flat_map(|n| [get(2 * n + 1, "/held"), reset(2 * n + 1)].concat())
        .collect();
    // The gate may have closed before all of it is written.
    let _ = peer.0.write_all(&storm);
    let mut calm = None;
    while let Some(frame) = peer.read() {
        if frame.kind == GOAWAY {
            calm = Some(code(&frame));
        }
    }
    assert!(
        calm.is_none_or(|code| code == 11),
        "ENHANCE_YOUR_CALM, not {calm:?}"
    );
    let begun = scene.held.try_iter().count();
    assert!(begun < 200, "{begun} calls were begun");
    let mut other = Peer2::open(connect(&scene), &[]);
    other.get(1, "/");
    assert_eq!(other.status(1), 200);
    finish(scene);
}

#[test]
fn an_answer_that_is_not_taken_is_reset_and_the_connection_goes_on() {
    let mut timeouts = patient();
    timeouts.body_idle = SWEEP_EVERY * 2;
    let scene = scene(timeouts, roomy());
    // INITIAL_WINDOW_SIZE 0: nothing of a body may be sent; then a small one.
    for window in [0, 1000] {
        let mut peer = Peer2::open(connect(&scene), &[(4, window)]);
        peer.get(1, "/big");
        assert_eq!(peer.status(1), 200);
        peer.until(RST_STREAM, 1);
        peer.get(3, "/");
        assert_eq!(peer.status(3), 200);
        peer.send(&frame(WINDOW_UPDATE, 0, 3, &100u32.to_be_bytes()));
        assert_eq!(peer.until(DATA, 3).payload, b"done");
    }
    finish(scene);
}

#[test]
fn an_answer_larger_than_every_window_arrives_whole() {
    let scene = scene(patient(), roomy());
    let mut peer = Peer2::open(connect(&scene), &[]);
    peer.get(1, "/big");
    let (mut read, mut ended) = (0, false);
    while !ended {
        let frame = peer.read().unwrap();
        if frame.kind == DATA {
            read += frame.payload.len();
            ended = frame.flags & END_STREAM != 0;
            let credit = u32::try_from(frame.payload.len().max(1))
                .unwrap()
                .to_be_bytes();
            if !ended {
                peer.send(&[frame_of_credit(0, credit), frame_of_credit(1, credit)].concat());
            }
        }
    }
    assert_eq!(read, BIG_BYTES);
    finish(scene);
}

fn frame_of_credit(stream: u32, credit: [u8; 4]) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &credit)
}

#[test]
fn an_idle_http2_connection_is_told_and_closed_and_one_in_a_call_is_not() {
    let mut timeouts = patient();
    timeouts.idle = SWEEP_EVERY;
    timeouts.head = SWEEP_EVERY;
    let scene = scene(timeouts, roomy());
    let mut busy = Peer2::open(connect(&scene), &[]);
    busy.get(1, "/held");
    scene.held.recv_timeout(PATIENCE).unwrap();
    let mut idle = Peer2::open(connect(&scene), &[]);
    assert_eq!(
        idle.rest(),
        [GOAWAY, GOAWAY],
        "the first warns, the second says which call was the last"
    );
    scene.permits.add_permits(1);
    assert_eq!(busy.status(1), 200);
    finish(scene);
}

#[test]
fn a_tunnel_is_a_call_in_progress_for_as_long_as_it_lasts() {
    let mut timeouts = patient();
    timeouts.idle = SWEEP_EVERY;
    let scene = scene(timeouts, roomy());
    let mut peer = Peer2::open(connect(&scene), &[]);
    // Extended CONNECT (RFC 8441): `:method` and `:protocol` literal.
    let mut block = b"\x02\x07CONNECT\x00\x09:protocol\x09websocket".to_vec();
    block.extend([0x86, 0x84, 0x01, 1, b'a']);
    peer.send(&frame(HEADERS, END_HEADERS, 1, &block));
    assert_eq!(peer.status(1), 200);
    let mut idle = Peer2::open(connect(&scene), &[]);
    assert_eq!(idle.rest(), [GOAWAY, GOAWAY]);
    // By now the tunnel's connection would have been told, too.
    peer.get(3, "/");
    assert_eq!(peer.status(3), 200);
    scene.permits.add_permits(1);
    assert!(
        peer.rest().contains(&GOAWAY),
        "it is over, and the connection idle"
    );
    finish(scene);
}

#[test]
fn a_head_beyond_the_limit_is_refused_on_its_stream() {
    let scene = scene(patient(), roomy());
    let mut peer = Peer2::open(connect(&scene), &[]);
    let mut fields = vec![0x82, 0x86, 0x84, 0x01, 1, b'a'];
    for _ in 0..20 {
        // A field named `x` of 8000 bytes: 7-bit prefix 127, then the rest in 7-bit groups.
        fields.extend([0x00, 1, b'x', 127, 0xc1, 0x3d]);
        fields.extend(std::iter::repeat_n(b'y', 8000));
    }
    let mut chunks = fields.chunks(16_000).peekable();
    let mut all = frame(HEADERS, END_STREAM, 1, chunks.next().unwrap());
    while let Some(chunk) = chunks.next() {
        let flags = if chunks.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        all.extend(frame(9, flags, 1, chunk));
    }
    peer.send(&all);
    let answer = peer.read().expect("431, or a reset");
    assert!(
        matches!(answer.kind, HEADERS | RST_STREAM | GOAWAY),
        "{answer:?}"
    );
    assert!(answer.kind != HEADERS || answer.payload[0] != 0x88);
    assert!(scene.held.try_recv().is_err());
    finish(scene);
}
