//! Backends of HTTP/2 that keep to nothing: a call fails, or breaks off; the next gets its own answer.

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, Peer, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, settings,
};
use super::raw::{ask, setup};
use crate::wait::{PATIENCE, within};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;

/// What may become of the call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// 502, or cut behind its head.
    Fails,
    /// The agent gets what the backend said, for nothing was wrong with it.
    Passes,
}

use End::{Fails, Passes};

/// Answers the first call with `bytes` and each other as it should.
async fn backend(bytes: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (done, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(bytes));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (done, bytes) = (Arc::clone(&done), Arc::clone(&bytes));
            tokio::spawn(async move {
                let mut peer = Peer::accept(stream).await?;
                loop {
                    let call = peer.read().await?;
                    if call.kind != HEADERS {
                        continue;
                    }
                    let answer = match done.swap(true, Ordering::Relaxed) {
                        false => bytes(call.stream),
                        true => good(call.stream, "good"),
                    };
                    peer.send(&answer).await?;
                }
                #[allow(unreachable_code, reason = "the type of `?`")]
                Ok::<_, std::io::Error>(())
            });
        }
    });
    address
}

fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
}

fn data(stream: u32, flags: u8, text: &str) -> Vec<u8> {
    frame(DATA, flags, stream, text.as_bytes())
}

fn good(stream: u32, text: &str) -> Vec<u8> {
    let length = text.len().to_string();
    let fields = [(":status", "200"), ("content-length", &*length)];
    [head(stream, 0, &fields), data(stream, END_STREAM, text)].concat()
}

type Bytes = Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>;

fn answers() -> Vec<(&'static str, End, Bytes)> {
    fn case(
        name: &'static str,
        end: End,
        bytes: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static,
    ) -> (&'static str, End, Bytes) {
        (name, end, Box::new(bytes))
    }
    const OK: (&str, &str) = (":status", "200");
    vec![
        case("good", Passes, |n| good(n, "good")),
        case("no-status", Fails, |n| head(n, END_STREAM, &[("x", "y")])),
        case("two-status", Fails, |n| {
            head(n, END_STREAM, &[OK, (":status", "204")])
        }),
        case("bad-status", Fails, |n| {
            head(n, END_STREAM, &[(":status", "abc")])
        }),
        case("late-status", Fails, |n| {
            head(n, END_STREAM, &[("x", "y"), OK])
        }),
        // h2 drops it unread.
        case("request-fields", Passes, |n| {
            [
                head(n, 0, &[OK, (":path", "/")]),
                data(n, END_STREAM, "good"),
            ]
            .concat()
        }),
        case("capitals", Fails, |n| {
            head(n, END_STREAM, &[OK, ("X-Y", "z")])
        }),
        case("line-in-value", Fails, |n| {
            head(n, END_STREAM, &[OK, ("x", "y\r\nz: 1")])
        }),
        case("connection", Fails, |n| {
            head(n, END_STREAM, &[OK, ("connection", "close")])
        }),
        case("coding", Fails, |n| {
            head(n, END_STREAM, &[OK, ("transfer-encoding", "chunked")])
        }),
        case("too-short", Fails, |n| {
            [
                head(n, 0, &[OK, ("content-length", "9")]),
                data(n, END_STREAM, "ok"),
            ]
            .concat()
        }),
        case("too-long", Fails, |n| {
            [
                head(n, 0, &[OK, ("content-length", "1")]),
                data(n, END_STREAM, "POISON"),
            ]
            .concat()
        }),
        case("two-lengths", Fails, |n| {
            [
                head(
                    n,
                    0,
                    &[OK, ("content-length", "2"), ("content-length", "3")],
                ),
                data(n, END_STREAM, "ok"),
            ]
            .concat()
        }),
        case("data-first", Fails, |n| data(n, END_STREAM, "POISON")),
        case("unasked-stream", Fails, |n| {
            [
                head(n + 2, END_STREAM, &[OK]),
                data(n + 2, END_STREAM, "POISON"),
            ]
            .concat()
        }),
        case("pushed", Fails, |n| {
            frame(
                5,
                END_HEADERS,
                n,
                &[
                    &2u32.to_be_bytes()[..],
                    &block(&[
                        (":method", "GET"),
                        (":scheme", "http"),
                        (":path", "/"),
                        (":authority", "g"),
                    ]),
                ]
                .concat(),
            )
        }),
        case("reset", Fails, |n| {
            frame(RST_STREAM, 0, n, &8u32.to_be_bytes())
        }),
        case("reset-midway", Fails, |n| {
            [
                head(n, 0, &[OK]),
                data(n, 0, "half"),
                frame(RST_STREAM, 0, n, &2u32.to_be_bytes()),
            ]
            .concat()
        }),
        case("goaway", Fails, |n| {
            [
                frame(
                    GOAWAY,
                    0,
                    0,
                    &[n.to_be_bytes(), 2u32.to_be_bytes()].concat(),
                ),
                frame(RST_STREAM, 0, n, &2u32.to_be_bytes()),
            ]
            .concat()
        }),
        case("long-head", Fails, |n| {
            let long = "y".repeat(15_000);
            let mut all = frame(HEADERS, END_STREAM, n, &block(&[OK, ("x", &long)]));
            for last in (0..30).rev() {
                let flags = if last == 0 { END_HEADERS } else { 0 };
                all.extend(frame(CONTINUATION, flags, n, &block(&[("x", &long)])));
            }
            all
        }),
        case("table-bomb", Fails, |n| {
            // One entry of the table, of 3 KiB, again and again.
            let mut bomb = vec![0x88, 0x40, 1, b'x', 127, 0x81, 0x17];
            bomb.extend(std::iter::repeat_n(b'y', 3072));
            bomb.extend(std::iter::repeat_n(0xbe, 10_000));
            frame(HEADERS, END_STREAM | END_HEADERS, n, &bomb)
        }),
        case("no-entry", Fails, |n| {
            frame(HEADERS, END_STREAM | END_HEADERS, n, &[0xff, 0xff])
        }),
        case("oversized", Fails, |n| frame(DATA, 0, n, &vec![0; 20_000])),
        case("bad-settings", Fails, |_| {
            frame(SETTINGS, 0, 0, &settings(&[(4, u32::MAX)]))
        }),
        case("ping-of-stream", Fails, |n| frame(PING, 0, n, &[0; 8])),
        case("window-of-nothing", Fails, |n| {
            frame(WINDOW_UPDATE, 0, n, &[0; 4])
        }),
        case("window-overflow", Fails, |_| {
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes())
        }),
        case("priorities", Passes, |n| {
            [
                frame(PRIORITY, 0, n, &[0, 0, 0, 0, 9]).repeat(100),
                good(n, "good"),
            ]
            .concat()
        }),
        case("http1", Fails, |_| {
            b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nPOISON".to_vec()
        }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_malformed_answer_over_http2_is_passed_on_and_the_next_call_gets_its_own() {
    let mut tools = Vec::new();
    let cases = answers();
    let ends: Vec<(&str, End)> = cases.iter().map(|(name, end, _)| (*name, *end)).collect();
    for (name, _, bytes) in cases {
        tools.push((name, backend(bytes).await, ", http2: prior_knowledge"));
    }
    let setup = setup(&tools);
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    for (name, end) in ends {
        let path = format!("/{name}/a");
        let got = within(PATIENCE, name, ask(&gate, &token, "POST", &path, "")).await;
        let said = got.0.escape_ascii().to_string();
        assert!(!said.contains("POISON"), "{name}: {said}");
        match end {
            Passes => assert_eq!(got.whole().unwrap(), b"good", "{name}: {said}"),
            Fails if got.status() == 200 => assert_eq!(got.whole(), None, "{name}: {said}"),
            // Nothing at all, where the body failed before the head was out.
            Fails => assert!([0, 502].contains(&got.status()), "{name}: {said}"),
        }
        let after = within(PATIENCE, name, ask(&gate, &token, "GET", &path, "")).await;
        assert_eq!(
            after.whole().as_deref(),
            Some(&b"good"[..]),
            "after {name}: {}",
            after.0.escape_ascii()
        );
    }
}
