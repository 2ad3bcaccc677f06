//! Answers that end where they should, and what is none, in one piece and byte by byte.

use super::*;

/// Judged in one piece, and byte by byte: where a read ends must not matter.
fn judged(asked: Asked, wire: &[u8]) -> Result<Reader, Nonsense> {
    let mut reader = Reader::default();
    reader.ask(asked);
    let whole = reader.read(wire);
    let mut slow = Reader::default();
    slow.ask(asked);
    let pieces = wire
        .iter()
        .try_for_each(|byte| slow.read(std::slice::from_ref(byte)));
    assert_eq!(whole, pieces, "{}", wire.escape_ascii());
    assert!(
        whole.is_err() || reader.stage == slow.stage,
        "{}",
        wire.escape_ascii()
    );
    whole.map(|()| reader)
}

#[test]
fn answers_end_where_the_rfc_says_and_what_is_behind_them_is_nobodys() {
    use Asked::{Answer, Head, Switch};
    let cases: &[(Asked, &[u8])] = &[
        (Answer, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        (Answer, b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n"),
        (Answer, b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"),
        (Answer, b"HTTP/1.1 304 Not Modified\r\ncontent-length: 55\r\n\r\n"),
        (Head, b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n"),
        (Head, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (Answer, b"HTTP/1.0 200 Fine\r\nContent-Length:\t1 \r\n\r\nx"),
        (Answer, b"HTTP/1.1 200 \xc3\xa4\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=\"b\"\r\nabc\r\nA \t; x\r\n0123456789\r\n0\r\nx-sum: 7\r\n\r\n"),
        (Answer, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"),
        (Switch, b"HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\nx"),
    ];
    for (asked, wire) in cases {
        let reader =
            judged(*asked, wire).unwrap_or_else(|it| panic!("{it}: {}", wire.escape_ascii()));
        assert_eq!(reader.stage, Stage::Rest, "{}", wire.escape_ascii());
        let behind = [wire, &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..]].concat();
        assert_eq!(judged(*asked, &behind).unwrap_err(), Nonsense::Unasked);
    }
    for (asked, wire) in [
        (
            Switch,
            &b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n\x81\x00\n"[..],
        ),
        (Answer, b"HTTP/1.1 200 OK\r\n\r\nanything\n\x00"),
    ] {
        assert_eq!(judged(asked, wire).unwrap().stage, Stage::Rush);
    }
    assert_eq!(judged(Asked::Nothing, b"H").unwrap_err(), Nonsense::Unasked);
}

#[test]
fn what_readers_take_differently_or_no_server_may_send_is_nonsense() {
    let heads: &[(&[u8], Nonsense)] = &[
        (b"hello", Nonsense::Status),
        (b"SSH-2.0-x\r\n", Nonsense::Status),
        (b"HTTP/2 200 OK\r\n", Nonsense::Status),
        (b"HTTP/1.2 200 OK\r\n", Nonsense::Status),
        (b"http/1.1 200 OK\r\n", Nonsense::Status),
        (b"\r\nHTTP/1.1 200 OK\r\n", Nonsense::Status),
        (b"HTTP/1.1  200 OK\r\n", Nonsense::Status),
        (b"HTTP/1.1 20 OK\r\n", Nonsense::Status),
        (b"HTTP/1.1 2000 OK\r\n", Nonsense::Status),
        (b"HTTP/1.1 +20 OK\r\n", Nonsense::Status),
        (b"HTTP/1.1 099 OK\r\n", Nonsense::Status),
        (b"HTTP/1.1 200\tOK\r\n", Nonsense::Status),
        (b"HTTP/1.1 200 O\x01K\r\n", Nonsense::Status),
        (b"HTTP/1.1 200 OK\n", Nonsense::Line),
        (b"HTTP/1.1 200 OK\r\nx: 1\n", Nonsense::Line),
        (b"HTTP/1.1 200 OK\r\nx: 1\ry\r\n", Nonsense::Line),
        (b"HTTP/1.1 200 OK\r\nx: \x00\r\n", Nonsense::Line),
        (b"HTTP/1.1 200 OK\r\nx: \x7f\r\n", Nonsense::Field),
        (b"HTTP/1.1 200 OK\r\nx: 1\r\n y\r\n", Nonsense::Field),
        (b"HTTP/1.1 200 OK\r\nx: 1\r\n y: 2\r\n", Nonsense::Field),
        (b"HTTP/1.1 200 OK\r\n x: 1\r\n", Nonsense::Field),
        (b"HTTP/1.1 200 OK\r\nx : 1\r\n", Nonsense::Field),
        (b"HTTP/1.1 200 OK\r\n: 1\r\n", Nonsense::Field),
        (b"HTTP/1.1 200 OK\r\nx\r\n", Nonsense::Field),
        (b"HTTP/1.1 200 OK\r\nx(y): 1\r\n", Nonsense::Field),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n",
            Nonsense::Length,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nContent-Length: 2\r\n",
            Nonsense::Length,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n",
            Nonsense::Length,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: +1\r\n",
            Nonsense::Length,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 0x1\r\n",
            Nonsense::Length,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1 1\r\n",
            Nonsense::Length,
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length:\r\n", Nonsense::Length),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n",
            Nonsense::Length,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n",
            Nonsense::Coding,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: ,chunked\r\n",
            Nonsense::Coding,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            Nonsense::Coding,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n",
            Nonsense::Coding,
        ),
        (
            b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            Nonsense::Coding,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
            Nonsense::Both,
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            Nonsense::Switched,
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\ncontent-length: 1\r\n\r\n",
            Nonsense::Interim,
        ),
    ];
    for (wire, nonsense) in heads {
        let found = judged(Asked::Answer, wire).expect_err(&wire.escape_ascii().to_string());
        assert_eq!(found, *nonsense, "{}", wire.escape_ascii());
    }
    let chunks: &[(&[u8], Nonsense)] = &[
        (b"\r\n", Nonsense::Chunk),
        (b"g\r\n", Nonsense::Chunk),
        (b"0x2\r\n", Nonsense::Chunk),
        (b" 2\r\n", Nonsense::Chunk),
        (b"2 \r\n", Nonsense::Chunk),
        (b"-2\r\n", Nonsense::Chunk),
        (b"11112222333344445\r\n", Nonsense::Chunk),
        (b"2\n", Nonsense::Line),
        (b"2;x\n", Nonsense::Line),
        (b"2;\x00\r\n", Nonsense::Line),
        (b"2;\x01\r\n", Nonsense::Chunk),
        (b"2\r\nokX", Nonsense::Chunk),
        (b"2\r\nok\n", Nonsense::Chunk),
        (b"2\r\nok\rX", Nonsense::Chunk),
        (b"0\r\nx : 1\r\n", Nonsense::Field),
        (b"0\r\n\n", Nonsense::Line),
    ];
    for (body, nonsense) in chunks {
        let wire = [
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..],
            body,
        ]
        .concat();
        let found = judged(Asked::Answer, &wire).expect_err(&wire.escape_ascii().to_string());
        assert_eq!(found, *nonsense, "{}", wire.escape_ascii());
    }
}

#[test]
fn heads_lines_and_interim_answers_are_bounded() {
    let long = |prefix: &str, bytes| [prefix.as_bytes(), &vec![b'x'; bytes]].concat();
    let head = long("HTTP/1.1 200 OK\r\nx: ", HEAD_BYTES_MAX);
    assert_eq!(judged(Asked::Answer, &head).unwrap_err(), Nonsense::Long);
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let line = long(&format!("{chunked}1;"), CHUNK_LINE_BYTES_MAX);
    assert_eq!(judged(Asked::Answer, &line).unwrap_err(), Nonsense::Long);
    let trailers = long(&format!("{chunked}0\r\nx:"), TRAILER_BYTES_MAX);
    assert_eq!(
        judged(Asked::Answer, &trailers).unwrap_err(),
        Nonsense::Long
    );
    let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(65);
    assert_eq!(
        judged(Asked::Answer, interim.as_bytes()).unwrap_err(),
        Nonsense::Interim
    );
}
