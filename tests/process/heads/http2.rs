//! The same over HTTP/2, in frames written by hand: what belongs to a connection of HTTP/1 is malformed there (RFC 9113,
//! section 8.2.2), pseudo-fields name one thing once, and nothing of an agent's word on itself reaches the backend.

use super::scene::{Scene, scene};
use crate::wait::within;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back on the one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// 200.
    Passed,
    /// Another answer, RST_STREAM or GOAWAY.
    Refused,
}

/// A literal without indexing (RFC 7541, section 6.2.2); values of more than 126 bytes take a second one.
fn literal(block: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        block.push(text.len() as u8);
    } else {
        block.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(text);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Sends one request with these fields, and this body.
async fn ask(scene: &Scene, fields: &[(&str, &str)], body: Option<&[u8]>) -> Fate {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        literal(&mut block, name.as_bytes());
        literal(&mut block, value.as_bytes());
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, if body.is_some() { 4 } else { 5 }, 1, &block));
    if let Some(body) = body {
        bytes.extend(frame(0, 1, 1, body));
    }
    let mut stream = TcpStream::connect(scene.gate.agents).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut head = [0; 9];
    loop {
        if stream.read_exact(&mut head).await.is_err() {
            return Fate::Refused;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        match head[3] {
            // `:status: 200` is the eighth of the static table; any other answer is a refusal here.
            1 => {
                // A change of the table's size may stand before it.
                let first = payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                return if first == Some(&0x88) {
                    Fate::Passed
                } else {
                    Fate::Refused
                };
            }
            3 | 7 => return Fate::Refused,
            _ => {}
        }
    }
}

/// What is sent beside a good request, or in the place of a pseudo-field.
type Case = (&'static [(&'static str, &'static str)], Fate);

const CASES: &[Case] = &[
    (&[("connection", "close")], Fate::Refused),
    (&[("connection", "authorization, x-mine")], Fate::Refused),
    (&[("keep-alive", "spoof")], Fate::Refused),
    (&[("proxy-connection", "spoof")], Fate::Refused),
    (&[("transfer-encoding", "chunked")], Fate::Refused),
    (&[("transfer-encoding", "gzip, chunked")], Fate::Refused),
    (&[("upgrade", "h2c")], Fate::Refused),
    (&[("te", "gzip")], Fate::Refused),
    (&[("te", "trailers, gzip")], Fate::Refused),
    (&[("te", "trailers")], Fate::Passed),
    (&[("X-Mine", "spoof")], Fate::Refused),
    (&[("x mine", "spoof")], Fate::Refused),
    (&[("x-mine:", "spoof")], Fate::Refused),
    (&[("", "spoof")], Fate::Refused),
    (&[("x-mine", "spoof\r\nx-forwarded-for: 1")], Fate::Refused),
    (&[("x-mine", "spoof\nx: 1")], Fate::Refused),
    (&[("x-mine", "a\0spoof")], Fate::Refused),
    (&[("x-mine\r\nx", "spoof")], Fate::Refused),
    (&[("content-length", "5")], Fate::Refused),
    (
        &[("content-length", "0"), ("content-length", "5")],
        Fate::Refused,
    ),
    (&[("content-length", "+0")], Fate::Refused),
    (&[("content-length", "-1")], Fate::Refused),
    (&[("content-length", "x")], Fate::Refused),
    (&[("host", "spoof")], Fate::Refused),
    (&[("host", "spoof"), ("host", "spoof")], Fate::Refused),
    (&[(":authority", "spoof")], Fate::Refused),
    (&[(":path", "/crm/x/spoof")], Fate::Refused),
    (&[(":method", "POST")], Fate::Refused),
    (&[(":scheme", "https")], Fate::Refused),
    (&[(":status", "200")], Fate::Refused),
    (&[(":spoof", "1")], Fate::Refused),
    (&[(":protocol", "websocket")], Fate::Refused),
    (&[("x_forwarded_for", "spoof")], Fate::Refused),
    (&[("content_length", "5")], Fate::Refused),
    (&[("transfer_encoding", "chunked")], Fate::Refused),
    (&[("x-http-method-override", "DELETE")], Fate::Refused),
    (&[("x-original-url", "/spoof")], Fate::Refused),
    (&[("expect", "spoof")], Fate::Refused),
    (&[("authorization", "Bearer spoof")], Fate::Refused),
    (&[("toolgate-session", "spoof")], Fate::Refused),
    (&[("x-forwarded-for", "spoof")], Fate::Passed),
    (&[("x-forwarded-host", "spoof")], Fate::Passed),
    (&[("forwarded", "for=spoof")], Fate::Passed),
    (&[("x-real-ip", "spoof")], Fate::Passed),
    (&[("true-client-ip", "spoof")], Fate::Passed),
    (&[("toolgate-anything", "spoof")], Fate::Passed),
    (&[("toolgate-intent", "spoof")], Fate::Passed),
    (&[("trailer", "spoof")], Fate::Passed),
    (&[("proxy-authorization", "spoof")], Fate::Passed),
    (&[("http2-settings", "spoof")], Fate::Passed),
    (&[("cookie", "a=1"), ("cookie", "b=2")], Fate::Passed),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_no_field_pretends_hides_or_takes_away_anything_either() {
    let scene = scene("").await;
    let (host, bearer) = (
        scene.gate.agents.to_string(),
        format!("Bearer {}", scene.token),
    );
    let mut found = Vec::new();
    for (number, (fields, fate)) in CASES.iter().enumerate() {
        let path = format!("/crm/x/case-{number}");
        let mut all = vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", &*host),
            (":path", &*path),
        ];
        all.push(("authorization", &bearer));
        let (pseudo, plain): (Vec<_>, Vec<_>) =
            fields.iter().partition(|(name, _)| name.starts_with(':'));
        // Pseudo-fields come first; their second one is the malformation.
        all.splice(4..4, pseudo);
        all.extend(plain);
        let came = within(Duration::from_secs(20), &path, ask(&scene, &all, None)).await;
        let seen = scene.backend.whole(&format!("/x/case-{number} ")).len();
        let spoofed = scene.backend.saw("spoof");
        if came != *fate || seen != usize::from(*fate == Fate::Passed) || spoofed {
            found.push(format!(
                "{fields:?}: {came:?}, seen {seen} times, spoofed: {spoofed}"
            ));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    // What stands where a pseudo-field should.
    for (name, value) in [
        (":method", "get it"),
        (":method", "CONNECT"),
        (":method", "TRACE"),
        (":method", ""),
        (":path", ""),
        (":path", "*"),
        (":path", "crm/x/bad"),
        (":path", "/crm/x/bad HTTP/1.1\r\nx: 1"),
        (":path", "/crm/x/bad y"),
        (":path", "http://a/crm/x/bad"),
        (":scheme", "ftp:"),
        (":authority", ""),
        (":authority", "a b"),
        (":authority", "user@spoof"),
        (":authority", "spoof\r\nx: 1"),
    ] {
        let mut all = vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", &*host),
            (":path", "/crm/x/bad"),
            ("authorization", &*bearer),
        ];
        for field in &mut all {
            if field.0 == name {
                field.1 = value;
            }
        }
        let came = within(Duration::from_secs(20), value, ask(&scene, &all, None)).await;
        assert_eq!(came, Fate::Refused, "{name}: {value:?}");
        assert!(
            !scene.backend.saw("/x/bad") && !scene.backend.saw("spoof"),
            "{name}: {value:?}"
        );
    }
    // hyper cuts a fragment off before anybody sees it: what is decided is what is forwarded.
    let all = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", &*host),
        (":path", "/crm/x/cut?a=1#spoof"),
        ("authorization", &*bearer),
    ];
    let came = within(
        Duration::from_secs(20),
        "a fragment",
        ask(&scene, &all, None),
    )
    .await;
    assert_eq!(
        (
            came,
            scene.backend.whole("GET /x/cut?a=1 HTTP/1.1\r\n").len()
        ),
        (Fate::Passed, 1)
    );
    assert!(!scene.backend.saw("spoof"));
    // A body is held to the length that its head says.
    for (length, body, fate) in [
        ("5", "hello", Fate::Passed),
        ("4", "hello", Fate::Refused),
        ("6", "hello", Fate::Refused),
    ] {
        let path = format!("/crm/x/length-{length}");
        let all = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", &*host),
            (":path", &*path),
            ("authorization", &*bearer),
            ("content-length", length),
        ];
        let came = within(
            Duration::from_secs(20),
            &path,
            ask(&scene, &all, Some(body.as_bytes())),
        )
        .await;
        let seen = scene.backend.whole(&format!("/x/length-{length} ")).len();
        assert_eq!(
            (came, seen),
            (fate, usize::from(fate == Fate::Passed)),
            "{length}"
        );
    }
}
