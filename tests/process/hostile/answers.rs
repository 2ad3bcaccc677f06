//! Answers that are none: each becomes a 502, or breaks off where its head is out; its connection never carries another
//! call, and the next call gets its own answer.

use super::raw::{Act, Raw, ask, good, setup};
use crate::wait::{PATIENCE, within};

/// What may become of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// 502, and nothing of it.
    Refused,
    /// 502, or cut behind its head: never whole.
    Torn,
    /// The agent gets this body, and the connection may not be used again.
    Last(&'static str),
    /// The agent gets this body, and the connection goes on.
    Whole(&'static str),
    /// 504.
    Late,
}

use End::{Last, Late, Refused, Torn, Whole};

struct Case {
    name: &'static str,
    method: &'static str,
    pieces: Vec<Vec<u8>>,
    close: Close,
    end: End,
}

#[derive(Clone, Copy)]
enum Close {
    No,
    Yes,
    Reset,
    Trickle,
}

fn case(name: &'static str, bytes: impl Into<Vec<u8>>, end: End) -> Case {
    Case {
        name,
        method: "GET",
        pieces: vec![bytes.into()],
        close: Close::No,
        end,
    }
}

impl Case {
    fn to(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn closing(mut self, close: Close) -> Self {
        self.close = close;
        self
    }

    fn then(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.pieces.push(bytes.into());
        self
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
/// Another answer, with what no agent may ever see.
const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nPOISON";

fn with(fields: &str, body: &str) -> String {
    format!("{OK}{fields}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    format!("{CHUNKED}{body}")
}

fn heads() -> Vec<Case> {
    vec![
        case("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n", Refused),
        case("HTTP/0.9", "<html>hello</html>", Refused).closing(Close::Yes),
        case(
            "HTTP/2 in words",
            "HTTP/2 200 OK\r\ncontent-length: 2\r\n\r\nok",
            Refused,
        ),
        case(
            "HTTP/1.2",
            "HTTP/1.2 200 OK\r\ncontent-length: 2\r\n\r\nok",
            Refused,
        ),
        case(
            "HTTP/1.10",
            "HTTP/1.10 200 OK\r\ncontent-length: 2\r\n\r\nok",
            Refused,
        ),
        case(
            "small letters",
            "http/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            Refused,
        ),
        case("a blank line first", format!("\r\n{POISON}"), Refused),
        case(
            "two blanks before the status",
            "HTTP/1.1  200 OK\r\ncontent-length: 2\r\n\r\nok",
            Refused,
        ),
        case(
            "a status of two digits",
            "HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\nok",
            Refused,
        ),
        case(
            "a status of four digits",
            "HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok",
            Refused,
        ),
        case(
            "a status below 100",
            "HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok",
            Refused,
        ),
        case(
            "a control character in the reason",
            "HTTP/1.1 200 O\x07K\r\ncontent-length: 2\r\n\r\nok",
            Refused,
        ),
        case(
            "line feeds alone",
            "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
            Refused,
        ),
        case(
            "one line feed alone",
            with("x-a: 1\nx-b: 2\r\ncontent-length: 2", "ok"),
            Refused,
        ),
        case(
            "an answer split by a carriage return",
            with("x-a: 1\rset-cookie: b\r\ncontent-length: 2", "ok"),
            Refused,
        ),
        case(
            "a folded field",
            with("x-a: 1\r\n folded\r\ncontent-length: 2", "ok"),
            Refused,
        ),
        case(
            "a folded length",
            with("content-length:\r\n 2", "ok"),
            Refused,
        ),
        case(
            "a field before the first",
            with(" x-a: 1\r\ncontent-length: 2", "ok"),
            Refused,
        ),
        case(
            "a blank before a colon",
            with("content-length : 2", "ok"),
            Refused,
        ),
        case(
            "a field without a name",
            with(": 1\r\ncontent-length: 2", "ok"),
            Refused,
        ),
        case(
            "a field without a colon",
            with("x-a\r\ncontent-length: 2", "ok"),
            Refused,
        ),
        case(
            "NUL in a value",
            with("x-a: a\0b\r\ncontent-length: 2", "ok"),
            Refused,
        ),
        case(
            "NUL in a name",
            with("x\0a: b\r\ncontent-length: 2", "ok"),
            Refused,
        ),
        case(
            "a head without end",
            format!("{OK}x: {}", "y".repeat(100_000)),
            Refused,
        ),
        case(
            "too many fields",
            with(&"x: y\r\n".repeat(1000), ""),
            Refused,
        ),
        case("a head that breaks off", format!("{OK}x: "), Refused).closing(Close::Yes),
        case("nothing", "", Refused).to("POST").closing(Close::Yes),
        case("a reset", "", Refused)
            .to("POST")
            .closing(Close::Reset),
        case("a head that trickles", OK, Late).closing(Close::Trickle),
        case(
            "a switch that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            Refused,
        ),
        case(
            "a flood of 1xx",
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(500),
            Refused,
        ),
        case(
            "1xx with a body",
            format!(
                "HTTP/1.1 102 Processing\r\ncontent-length: {}\r\n\r\n{POISON}",
                POISON.len()
            ),
            Refused,
        ),
        case("1xx and nothing", "HTTP/1.1 100 Continue\r\n\r\n", Refused).closing(Close::Yes),
    ]
}

fn framings() -> Vec<Case> {
    vec![
        case(
            "two lengths that differ",
            with("content-length: 2\r\ncontent-length: 4", "okay"),
            Refused,
        ),
        case(
            "two lengths alike",
            with("content-length: 2\r\ncontent-length: 2", "ok"),
            Refused,
        ),
        case(
            "a list of lengths",
            with("content-length: 2, 2", "ok"),
            Refused,
        ),
        case(
            "a length with a sign",
            with("content-length: +2", "ok"),
            Refused,
        ),
        case(
            "a negative length",
            with("content-length: -1", "ok"),
            Refused,
        ),
        case(
            "a length in hexadecimal",
            with("content-length: 0x2", "ok"),
            Refused,
        ),
        case(
            "a length of nothing",
            with("content-length:", "ok"),
            Refused,
        ),
        case(
            "a length that overflows",
            with("content-length: 18446744073709551618", "ok"),
            Refused,
        ),
        case(
            "length and chunks",
            with(
                "content-length: 5\r\ntransfer-encoding: chunked",
                "0\r\n\r\n",
            ),
            Refused,
        ),
        case(
            "chunks twice",
            with(
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
                "0\r\n\r\n",
            ),
            Refused,
        ),
        case(
            "a list before chunked",
            with("transfer-encoding: ,chunked", "2\r\nok\r\n0\r\n\r\n"),
            Refused,
        ),
        case(
            "gzip and chunks",
            with("transfer-encoding: gzip, chunked", "2\r\nok\r\n0\r\n\r\n"),
            Refused,
        ),
        case(
            "chunked and something",
            with(
                "transfer-encoding: chunked, identity",
                "2\r\nok\r\n0\r\n\r\n",
            ),
            Refused,
        ),
        case(
            "chunked with a tabulator in it",
            with("transfer-encoding: chunk\ted", "2\r\nok\r\n0\r\n\r\n"),
            Refused,
        ),
        case(
            "chunks of HTTP/1.0",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Refused,
        ),
        case(
            "a size that is none",
            chunked("zz\r\nok\r\n0\r\n\r\n"),
            Torn,
        ),
        case("a size with 0x", chunked("0x2\r\nok\r\n0\r\n\r\n"), Torn),
        case("a negative size", chunked("-2\r\nok\r\n0\r\n\r\n"), Torn),
        case(
            "a size that overflows",
            chunked("10000000000000002\r\nok\r\n0\r\n\r\n"),
            Torn,
        ),
        case(
            "a blank before a size",
            chunked(" 2\r\nok\r\n0\r\n\r\n"),
            Torn,
        ),
        case(
            "a size ended by a line feed",
            chunked("2\nok\r\n0\r\n\r\n"),
            Torn,
        ),
        case(
            "a line feed in an extension",
            chunked("2;a\nb\r\nok\r\n0\r\n\r\n"),
            Torn,
        ),
        case(
            "an extension without end",
            chunked(&format!("2;{}\r\nok\r\n0\r\n\r\n", "x".repeat(5000))),
            Torn,
        ),
        case(
            "a chunk longer than it says",
            chunked("2\r\nokay\r\n0\r\n\r\n"),
            Torn,
        ),
        case(
            "a chunk shorter than it says",
            chunked("5\r\nok\r\n0\r\n\r\n"),
            Torn,
        )
        .closing(Close::Yes),
        case(
            "a chunk ended by a line feed",
            chunked("2\r\nok\n0\r\n\r\n"),
            Torn,
        ),
        case("chunks without end", chunked("2\r\nok\r\n"), Torn).closing(Close::Yes),
        case("a bad chunk behind good ones", chunked("2\r\nok\r\n"), Torn)
            .then("zz\r\nno\r\n0\r\n\r\n"),
        case(
            "trailers that are folded",
            chunked("2\r\nok\r\n0\r\nx: 1\r\n y\r\n\r\n"),
            Torn,
        ),
        case(
            "trailers without end",
            chunked(&format!("2\r\nok\r\n0\r\nx: {}", "y".repeat(20_000))),
            Torn,
        ),
        case(
            "a body that breaks off",
            with("content-length: 9", "ok"),
            Torn,
        )
        .closing(Close::Yes),
        case(
            "a body that is reset",
            with("content-length: 9", "ok"),
            Torn,
        )
        .closing(Close::Reset),
        case(
            "a length beyond all",
            with("content-length: 9223372036854775807", "ok"),
            Torn,
        )
        .closing(Close::Yes),
    ]
}

fn extras() -> Vec<Case> {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    vec![
        case("two answers at once", format!("{ok}{POISON}"), Refused),
        case("two answers in turn", ok, Last("ok")).then(POISON),
        case("a byte too many", format!("{ok}\n"), Refused),
        case("a byte too many later", ok, Last("ok")).then("\n"),
        case(
            "an answer behind the last chunk",
            chunked(&format!("2\r\nok\r\n0\r\n\r\n{POISON}")),
            Refused,
        ),
        case(
            "an answer behind the last chunk later",
            chunked("2\r\nok\r\n0\r\n\r\n"),
            Last("ok"),
        )
        .then(POISON),
        case(
            "a body behind 204",
            format!("HTTP/1.1 204 No Content\r\n\r\n{POISON}"),
            Refused,
        ),
        case(
            "a body of 204",
            "HTTP/1.1 204 No Content\r\ncontent-length: 6\r\n\r\nPOISON",
            Refused,
        ),
        case(
            "a body of 304",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 6\r\n\r\nPOISON",
            Refused,
        ),
        case("a body for HEAD", ok, Refused).to("HEAD"),
        case("chunks for HEAD", chunked("2\r\nok\r\n0\r\n\r\n"), Refused).to("HEAD"),
        case("an answer and its end", ok, Last("ok")).closing(Close::Yes),
        case("an old answer", "HTTP/1.0 200 OK\r\n\r\nold", Last("old")).closing(Close::Yes),
        case(
            "an old answer with a length",
            "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold",
            Last("old"),
        ),
        case(
            "what claims to be compressed",
            with(
                "content-encoding: gzip\r\ncontent-length: 4",
                "\x1f\x0b\x08\x08",
            ),
            Whole("\x1f\x0b\x08\x08"),
        ),
        case(
            "extensions of chunks",
            chunked("2;a=b\r\nok\r\n0;c\r\n\r\n"),
            Whole("ok"),
        ),
        case("a good one", ok, Whole("ok")),
        case(
            "no reason",
            "HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
            Whole("ok"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_malformed_answer_is_passed_on_and_its_connection_carries_no_other_call() {
    let cases: Vec<Case> = [heads(), framings(), extras()]
        .into_iter()
        .flatten()
        .collect();
    assert!(cases.len() >= 80, "{}", cases.len());
    let script: Vec<(Vec<Vec<u8>>, Close)> = cases
        .iter()
        .map(|case| (case.pieces.clone(), case.close))
        .collect();
    let backend = Raw::start(move |head, _| {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let Some(number) = target.strip_prefix("/case/") else {
            return Act::Say(vec![good(target)]);
        };
        let (pieces, close) = &script[number.parse::<usize>().unwrap()];
        let pieces = pieces.clone();
        match close {
            Close::No => Act::Say(pieces),
            Close::Yes => Act::SayAndClose(pieces),
            Close::Reset => Act::SayAndReset(pieces),
            Close::Trickle => Act::SayAndTrickle(pieces),
        }
    })
    .await;
    let setup = setup(&[("t", backend.address, "")]);
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    for (number, case) in cases.iter().enumerate() {
        let name = case.name;
        // A kept connection is there to be misused.
        let before = ask(&gate, &token, "GET", &format!("/t/before/{number}"), "").await;
        assert_eq!(
            before.whole().unwrap(),
            format!("/before/{number}").as_bytes(),
            "before {name}"
        );
        let path = format!("/t/case/{number}");
        let call = ask(&gate, &token, case.method, &path, "");
        let got = within(PATIENCE, name, call).await;
        let said = got.0.escape_ascii().to_string();
        match case.end {
            Refused => assert_eq!(got.status(), 502, "{name}: {said}"),
            Torn if got.status() == 502 => {}
            Torn => assert_eq!((got.status(), got.whole()), (200, None), "{name}: {said}"),
            // Nothing forbids the gate to find out about the rest first.
            Last(_) if got.status() == 502 => {}
            Last(body) | Whole(body) => {
                assert_eq!(
                    got.whole().as_deref(),
                    Some(body.as_bytes()),
                    "{name}: {said}"
                );
            }
            Late => assert_eq!(got.status(), 504, "{name}: {said}"),
        }
        assert!(!said.contains("POISON"), "{name}: {said}");
        let after = ask(&gate, &token, "GET", &format!("/t/after/{number}"), "").await;
        assert_eq!(
            after.whole().unwrap(),
            format!("/after/{number}").as_bytes(),
            "after {name}"
        );
    }
    for lines in backend.seen() {
        let misused = lines.windows(2).find(|pair| {
            let number = pair[0].split("/case/").nth(1);
            let number = number.and_then(|it| it.split(' ').next()?.parse::<usize>().ok());
            number.is_some_and(|it| !matches!(cases[it].end, Whole(_)))
        });
        assert_eq!(
            misused, None,
            "a call followed on a connection that was to be closed"
        );
    }
}
