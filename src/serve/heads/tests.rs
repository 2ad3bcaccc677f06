//! What passes, where it ends, and that hyper reads all of it and nothing else.

use super::*;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What passes of `text` that comes in pieces of this size, and how it ended.
fn judged(text: &[u8], piece: usize) -> (Vec<u8>, Then) {
    let mut wire = Wire::default();
    let (mut held, mut passed) = (Vec::new(), Vec::new());
    for piece in text.chunks(piece) {
        held.extend_from_slice(piece);
        let judged = wire.judge(&held);
        passed.extend(held.drain(..judged.passed));
        match judged.then {
            Then::Go => {}
            then => return (passed, then),
        }
    }
    (passed, Then::Go)
}

fn head(lines: &str) -> String {
    format!("POST /a HTTP/1.1\r\nhost: a\r\n{lines}\r\n")
}

fn refused(text: &str) -> Option<Flaw> {
    match judged(text.as_bytes(), 4096) {
        (_, Then::Refuse(flaw)) => Some(flaw),
        _ => None,
    }
}

#[test]
fn messages_pass_one_behind_the_other_in_whatever_pieces_they_come() {
    let text = format!(
        "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n{}hello{}5\r\nhello\r\n00a;x=y\r\n0123456789\r\n0\r\nt: 1\r\n\r\nGET /b?x=y HTTP/1.0\r\n\r\n",
        head("content-length: \t5 \r\nx:\r\n"),
        head("Transfer-Encoding:CHUNKED\r\n"),
    );
    for piece in 1..text.len() {
        let (passed, then) = judged(text.as_bytes(), piece);
        assert_eq!((passed.len(), then), (text.len(), Then::Go), "{piece}");
    }
}

#[test]
fn nothing_of_a_head_passes_before_all_of_it_was_judged() {
    let text = head("x: 1\r\n");
    for end in 1..text.len() {
        let (passed, then) = judged(&text.as_bytes()[..end], text.len());
        assert_eq!((passed.len(), then), (0, Then::Go), "{end}");
    }
    let bad = head("x: 1\r\ny : 2\r\n");
    assert_eq!(
        judged(bad.as_bytes(), 1),
        (Vec::new(), Then::Refuse(Flaw::Name))
    );
}

#[test]
fn behind_a_request_for_another_protocol_nothing_is_judged_before_its_answer() {
    let asked = head("upgrade: websocket\r\n");
    let text = [asked.as_bytes(), b"\x81\x05hello"].concat();
    let mut wire = Wire::default();
    let judged = wire.judge(&text);
    assert_eq!((judged.passed, judged.then), (asked.len(), Then::Wait));
    assert_eq!(wire.judge(b"\x81\x05").then, Then::Wait);
    wire.resume();
    assert_eq!(
        wire.judge(b"\x81\x05").then,
        Then::Refuse(Flaw::RequestLine)
    );
    // HTTP/1.0 has no upgrade: what follows is the next head.
    let old = "GET / HTTP/1.0\r\nupgrade: websocket\r\n\r\n\x01";
    assert_eq!(refused(old), Some(Flaw::RequestLine));
}

#[test]
fn what_can_not_become_a_request_line_is_refused_before_it_ends() {
    for beginning in ["\x16\x03\x01", " GET", "\rG", "(", "\n"] {
        assert!(refused(beginning).is_some(), "{beginning:?}");
    }
    for beginning in ["", "\r", "\r\n", "\r\n\r", "G", "GET / HT"] {
        assert_eq!(refused(beginning), None, "{beginning:?}");
    }
}

#[test]
fn bounds_hold_whether_or_not_a_line_ends() {
    let target = format!("GET /{}", "x".repeat(REQUEST_LINE_BYTES_MAX));
    assert_eq!(refused(&target), Some(Flaw::LongTarget));
    assert_eq!(
        refused(&format!("{target} HTTP/1.1\r\n")),
        Some(Flaw::LongTarget)
    );
    let field = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(64 * 1024));
    assert_eq!(refused(&field), Some(Flaw::LongHead));
    assert_eq!(refused(&format!("{field}\r\n")), Some(Flaw::LongHead));
    let fields = |count: usize| head(&"x: 1\r\n".repeat(count - 1));
    assert_eq!(refused(&fields(usize::from(FIELDS_MAX))), None);
    assert_eq!(
        refused(&fields(usize::from(FIELDS_MAX) + 1)),
        Some(Flaw::LongHead)
    );
    let long = format!("x: {}\r\n", "x".repeat(1200));
    assert_eq!(refused(&head(&long.repeat(79))), None);
    assert_eq!(refused(&head(&long.repeat(90))), Some(Flaw::LongHead));
}

/// One word after the other, mostly well-formed.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => Just("GET /a HTTP/1.1\r\nhost: a\r\n\r\n"),
        8 => Just("POST /a?b=c HTTP/1.1\r\nhost: a\r\n"),
        2 => Just("POST /\u{e9}{}|\"^` HTTP/1.1\r\n"),
        2 => Just("OPTIONS * HTTP/1.1\r\n"),
        2 => Just("GET http://a/b HTTP/1.1\r\n"),
        2 => Just("CONNECT a:80 HTTP/1.1\r\n"),
        1 => Just("GET / HTTP/1.0\r\nconnection: keep-alive\r\n"),
        6 => Just("content-length: 5\r\n"),
        6 => Just("transfer-encoding: chunked\r\n"),
        2 => Just("content-length: 005\r\n"),
        2 => Just("Transfer-Encoding:\t Chunked \r\n"),
        1 => Just("transfer-encoding: gzip, chunked\r\n"),
        1 => Just("expect: 100-continue\r\n"),
        2 => Just("x:\r\n"),
        8 => Just("\r\n"),
        8 => Just("\r\nhello"),
        6 => Just("5\r\nhello\r\n"),
        2 => Just("0005;a=\"b\"\r\nhello\r\n"),
        6 => Just("0\r\n\r\n"),
        2 => Just("0\r\nt: 1\r\n\r\n"),
        1 => Just("\n"),
        1 => Just("\r"),
        1 => Just(" "),
        1 => Just("\0"),
        1 => Just("#"),
        1 => Just(":"),
        1 => Just(","),
    ];
    prop::collection::vec(word, 1..12).prop_map(|words| words.concat().into_bytes())
}

/// What hyper makes of these bytes: the requests that it read whole, and what it answered.
fn read_by_hyper(bytes: Vec<u8>) -> (Vec<String>, String) {
    let read = Arc::<Mutex<Vec<String>>>::default();
    let requests = Arc::clone(&read);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let answer = runtime.block_on(async move {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let service = service_fn(move |request: Request<Incoming>| {
            let requests = Arc::clone(&requests);
            async move {
                let (head, body) = request.into_parts();
                if let Ok(body) = body.collect().await {
                    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                    let line = format!("{} {} {body}", head.method, head.uri);
                    requests.lock().unwrap().push(line);
                }
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"said"))))
            }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(far), service);
        let talking = async {
            near.write_all(&bytes).await.unwrap();
            near.shutdown().await.unwrap();
            let mut answer = String::new();
            near.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (_, answer) = tokio::join!(serving, talking);
        answer
    });
    (Arc::into_inner(read).unwrap().into_inner().unwrap(), answer)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// hyper never refuses by itself what passed, and pieces make no difference.
    #[test]
    fn hyper_reads_whatever_passes(text in messages(), piece in 1_usize..40) {
        let (passed, then) = judged(&text, text.len());
        let (same, also) = judged(&text, piece);
        // Where it is refused, pieces only tell how much of a body came before.
        if let (Then::Go | Then::Wait, _) = (then, also) {
            prop_assert_eq!((&passed, then), (&same, also));
        } else {
            prop_assert!(!matches!(also, Then::Go | Then::Wait));
        }
        let (_, answer) = read_by_hyper(passed);
        for answer in answer.split_inclusive("said") {
            prop_assert!(
                answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 100") || answer.starts_with("HTTP/1.0 200"),
                "{:?}: {answer}", String::from_utf8_lossy(&text)
            );
        }
    }

    /// No bytes bring it down, and no more passes than came.
    #[test]
    fn any_bytes_are_judged(text in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..40) {
        let (passed, _) = judged(&text, piece);
        prop_assert!(passed.len() <= text.len());
    }
}
