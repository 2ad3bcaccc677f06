//! Heads of HTTP/2 that are none, or that two readers could take for two calls: refused before anything is made of them.

use super::frames::{
    END_HEADERS, END_STREAM, GOAWAY, HEADERS, Peer, RST_STREAM, block, call, frame,
};
use super::raw::{Act, Raw, good, setup};
use crate::wait::{PATIENCE, within};

type Fields<'a> = Vec<(&'a str, &'a str)>;

/// A good head with a change.
fn head<'a>(bearer: &'a str, change: impl FnOnce(&mut Fields<'a>)) -> Fields<'a> {
    let mut fields = call("GET", "/t/reached", bearer);
    change(&mut fields);
    fields
}

fn put<'a>(fields: &mut Fields<'a>, name: &'a str, value: &'a str) {
    let found = fields.iter_mut().find(|(it, _)| *it == name);
    found.unwrap().1 = value;
}

fn without(fields: &mut Fields<'_>, name: &str) {
    fields.retain(|(it, _)| *it != name);
}

fn cases(bearer: &str) -> Vec<(&'static str, Fields<'_>)> {
    let add = |name, value| head(bearer, |it| it.push((name, value)));
    let first = |name, value| head(bearer, |it| it.insert(0, (name, value)));
    let set = |name, value| head(bearer, |it| put(it, name, value));
    let drop = |name| head(bearer, |it| without(it, name));
    vec![
        ("two methods", first(":method", "GET")),
        ("two methods that differ", first(":method", "POST")),
        ("two paths", first(":path", "/t/other")),
        ("two schemes", first(":scheme", "https")),
        ("two authorities", first(":authority", "other")),
        ("no method", drop(":method")),
        ("no path", drop(":path")),
        ("no scheme", drop(":scheme")),
        ("no authority and no Host", drop(":authority")),
        ("an empty method", set(":method", "")),
        (
            "a method with a blank",
            set(":method", "GET /t/reached HTTP/1.1"),
        ),
        ("a method with a line in it", set(":method", "GET\r\nx: y")),
        ("an empty path", set(":path", "")),
        ("a path without a slash", set(":path", "t/reached")),
        (
            "a path of another place",
            set(":path", "http://other/t/reached"),
        ),
        ("a star", set(":path", "*")),
        ("a path with a blank", set(":path", "/t/reached HTTP/1.1")),
        (
            "a path with a line in it",
            set(":path", "/t/reached\r\nx: y"),
        ),
        ("a path with NUL", set(":path", "/t/rea\0ched")),
        ("a path with dots", set(":path", "/t/../t/reached")),
        ("an empty authority", set(":authority", "")),
        ("an authority with a user", set(":authority", "user@g")),
        ("an authority with a path", set(":authority", "g/t")),
        ("an authority with a blank", set(":authority", "g h")),
        (
            "an authority with a line in it",
            set(":authority", "g\r\nx: y"),
        ),
        ("a Host that differs", add("host", "other")),
        (
            "two Hosts",
            head(bearer, |it| it.extend([("host", "g"), ("host", "g")])),
        ),
        ("a scheme with a line in it", set(":scheme", "http\r\nx: y")),
        ("a scheme that is a URL", set(":scheme", "http://other/?")),
        ("a pseudo-field behind others", add(":path", "/t/reached")),
        (
            "a pseudo-field moved behind",
            head(bearer, |it| {
                without(it, ":path");
                it.push((":path", "/t/reached"));
            }),
        ),
        ("an unknown pseudo-field", first(":order", "1")),
        ("a pseudo-field of answers", first(":status", "200")),
        (":protocol without CONNECT", first(":protocol", "websocket")),
        ("CONNECT", set(":method", "CONNECT")),
        (
            "CONNECT as it was",
            head(bearer, |it| {
                put(it, ":method", "CONNECT");
                without(it, ":scheme");
                without(it, ":path");
            }),
        ),
        (
            "an unknown :protocol",
            head(bearer, |it| {
                put(it, ":method", "CONNECT");
                it.insert(0, (":protocol", "h2c"));
            }),
        ),
        ("a name in capitals", add("X-Capital", "1")),
        ("an empty name", add("", "1")),
        ("a name with a blank", add("x y", "1")),
        ("a name with a colon", add("x:y", "1")),
        ("a name with a line in it", add("x\r\ny", "1")),
        ("a value with a line in it", add("x-a", "1\r\ny: 2")),
        ("a value with NUL", add("x-a", "1\0")),
        ("Connection", add("connection", "close")),
        ("Keep-Alive", add("keep-alive", "timeout=5")),
        ("Proxy-Connection", add("proxy-connection", "keep-alive")),
        ("Transfer-Encoding", add("transfer-encoding", "chunked")),
        ("Upgrade", add("upgrade", "h2c")),
        ("TE other than trailers", add("te", "gzip")),
        ("a length and no body", add("content-length", "5")),
        (
            "two lengths",
            head(bearer, |it| {
                it.extend([("content-length", "0"), ("content-length", "1")])
            }),
        ),
        ("a length that is none", add("content-length", "+0")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_http2_that_readers_could_take_otherwise_reaches_nobody() {
    let backend = Raw::start(|_, _| Act::Say(vec![good("reached")])).await;
    let setup = setup(&[("t", backend.address, "")]);
    let gate = setup.start().await;
    let bearer = format!("Bearer {}", gate.mint("demo", "bot").await.token);
    for (name, fields) in cases(&bearer) {
        let mut peer = Peer::open(gate.agents, &[]).await.unwrap();
        let head = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields));
        peer.send(&head).await.unwrap();
        let ended = async {
            match peer.of(1).await {
                Err(_) => {}
                Ok(it) if matches!(it.kind, RST_STREAM | GOAWAY) => {}
                Ok(it) => {
                    assert_eq!(it.kind, HEADERS, "{name}: {it:?}");
                    assert!(
                        (400..500).contains(&it.status()) || it.status() == 501,
                        "{name}: {}",
                        it.status()
                    );
                }
            }
        };
        within(PATIENCE, name, ended).await;
        assert_eq!(backend.seen().len(), 0, "{name}: {:?}", backend.seen());
    }
    // It is the change that is refused.
    let mut peer = Peer::open(gate.agents, &[]).await.unwrap();
    let head = frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &block(&head(&bearer, |_| {})),
    );
    peer.send(&head).await.unwrap();
    assert_eq!(peer.of(1).await.unwrap().status(), 200);
    assert_eq!(backend.seen(), [["GET /reached HTTP/1.1"]]);
}
