//! What is legal and looks odd passes, is answered in order, and leaves the connection where the next request begins.

use super::scene::{Scene, scene};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Messages that pass, one behind the other, and what the backend gets of each: a beginning and an end.
struct Case {
    name: &'static str,
    text: String,
    seen: Vec<(&'static str, &'static str)>,
}

const GOOD: &str = "Host: {H}\r\nAuthorization: Bearer {T}\r\n";

fn case(name: &'static str, text: &str, seen: &[(&'static str, &'static str)]) -> Case {
    Case {
        name,
        text: text.to_owned(),
        seen: seen.to_vec(),
    }
}

/// A GET with these lines.
fn get(name: &'static str, lines: &str) -> Case {
    let text = format!("GET /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}{lines}\r\n");
    case(name, &text, &[("GET", "\r\n\r\n")])
}

/// A POST whose body arrives as this.
fn post(name: &'static str, lines: &str, body: &str, arrives: &'static str) -> Case {
    let text = format!("POST /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}{lines}\r\n{body}");
    case(name, &text, &[("POST", arrives)])
}

/// A chunked POST.
fn chunks(name: &'static str, body: &str, arrives: &'static str) -> Case {
    post(name, "Transfer-Encoding: chunked\r\n", body, arrives)
}

fn all() -> Vec<Case> {
    let hello = "5\r\nhello\r\n0\r\n\r\n";
    let one = format!("GET /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}\r\n");
    let two = format!("POST /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}Content-Length: 2\r\n\r\nab");
    let three = format!(
        "PUT /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}Transfer-Encoding: chunked\r\n\r\n{hello}"
    );
    vec![
        case(
            "three in one write",
            &format!("{one}{two}{three}"),
            &[("GET", "\r\n\r\n"), ("POST", "\r\n\r\nab"), ("PUT", hello)],
        ),
        case(
            "ten in one write",
            &one.repeat(10),
            &[("GET", "\r\n\r\n"); 10],
        ),
        case(
            "an empty line before the first",
            &format!("\r\n{one}"),
            &[("GET", "\r\n\r\n")],
        ),
        case(
            "an empty line between two",
            &format!("{two}\r\n{one}"),
            &[("POST", "ab"), ("GET", "\r\n\r\n")],
        ),
        case(
            "HTTP/1.0 that stays",
            &format!("GET /crm/x/case-{{N}} HTTP/1.0\r\nConnection: keep-alive\r\n{GOOD}\r\n{one}"),
            &[("GET", "\r\n\r\n"), ("GET", "\r\n\r\n")],
        ),
        case(
            "HTTP/1.0 with a body",
            &format!(
                "POST /crm/x/case-{{N}} HTTP/1.0\r\nConnection: Keep-Alive\r\n{GOOD}Content-Length: 5\r\n\r\nhello"
            ),
            &[("POST", "hello")],
        ),
        case(
            "an absolute-form of the same host",
            &format!("GET http://{{H}}/crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}\r\n"),
            &[("GET", "\r\n\r\n")],
        ),
        case(
            "an absolute-form in other letters",
            &format!("GET HTTP://{{H}}/crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}\r\n"),
            &[("GET", "\r\n\r\n")],
        ),
        case(
            "HEAD",
            &format!("HEAD /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}\r\n"),
            &[("HEAD", "\r\n\r\n")],
        ),
        case(
            "OPTIONS",
            &format!("OPTIONS /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}\r\n"),
            &[("OPTIONS", "\r\n\r\n")],
        ),
        case(
            "DELETE with a body",
            &format!("DELETE /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}Content-Length: 2\r\n\r\n{{}}"),
            &[("DELETE", "{}")],
        ),
        get("no blank behind a colon", "X:1\r\n"),
        get("many blanks around a value", "X: \t  1 \t \r\n"),
        get("an empty value", "X:\r\nY: \r\n"),
        get("an empty value between others", "X: 1\r\nX:\r\nX: 2\r\n"),
        get("obs-text", "X: caf\u{e9} \u{1f600}\r\n"),
        get("a tab in a value", "X: a\tb\r\n"),
        get(
            "every character of a token in a name",
            "a!#$%&'*+-.^_`|~9: 1\r\n",
        ),
        get(
            "a colon, quotes and brackets in a value",
            "X: \"a:b\" (c) [d] {e} <f>;g=h\r\n",
        ),
        get("names in capitals", "ACCEPT: */*\r\nX-A: 1\r\n"),
        get("a value of 8 KiB", &format!("X: {}\r\n", "x".repeat(8192))),
        get("ninety fields", &"X: 1\r\n".repeat(90)),
        get("a length of nought to GET", "Content-Length: 0\r\n"),
        get(
            "Connection: keep-alive",
            "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n",
        ),
        get("TE", "TE: trailers\r\nConnection: TE\r\n"),
        get(
            "TE with weights",
            "TE: trailers, deflate;q=0.5\r\nConnection: te\r\n",
        ),
        get(
            "an upgrade that nobody serves",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        ),
        get("an upgrade that is not meant", "Upgrade: TLS/1.0\r\n"),
        case(
            "an upgrade that nobody serves, and the next call",
            &format!(
                "GET /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n{two}"
            ),
            &[("GET", "\r\n\r\n"), ("POST", "ab")],
        ),
        case(
            "an upgrade with a body, and the next call",
            &format!(
                "POST /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello{one}"
            ),
            &[("POST", "hello"), ("GET", "\r\n\r\n")],
        ),
        case(
            "a query with all that queries have",
            &format!(
                "GET /crm/x/case-{{N}}?a=%20&b[]=c|d^e`f{{}}&g=\u{e9}&h=?/:@ HTTP/1.1\r\n{GOOD}\r\n"
            ),
            &[("GET", "\r\n\r\n")],
        ),
        post(
            "a length with noughts before it",
            "Content-Length: 0005\r\n",
            "hello",
            "\r\n\r\nhello",
        ),
        post(
            "blanks around a length",
            "Content-Length: \t5\t \r\n",
            "hello",
            "\r\n\r\nhello",
        ),
        post("no body and no length", "", "", "\r\n\r\n"),
        post(
            "a body that looks like a head",
            "Content-Length: 27\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        post("Chunked", "transfer-encoding: \tChunKed \r\n", hello, hello),
        post(
            "100-continue with a length",
            "Expect: 100-continue\r\nContent-Length: 5\r\n",
            "hello",
            "\r\n\r\nhello",
        ),
        post(
            "100-Continue with chunks",
            "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n",
            hello,
            hello,
        ),
        chunks("an empty body", "0\r\n\r\n", "0\r\n\r\n"),
        chunks(
            "noughts before a size",
            "00000005\r\nhello\r\n0\r\n\r\n",
            hello,
        ),
        chunks(
            "sixteen digits",
            "0000000000000005\r\nhello\r\n0\r\n\r\n",
            hello,
        ),
        chunks(
            "several noughts at the end",
            "5\r\nhello\r\n0000\r\n\r\n",
            hello,
        ),
        chunks(
            "capital digits",
            "A\r\n0123456789\r\n0\r\n\r\n",
            "A\r\n0123456789\r\n0\r\n\r\n",
        ),
        chunks(
            "small digits",
            "a\r\n0123456789\r\n0\r\n\r\n",
            "A\r\n0123456789\r\n0\r\n\r\n",
        ),
        chunks(
            "an extension",
            "5;a=b;c=\"d e\"\r\nhello\r\n0;f\r\n\r\n",
            hello,
        ),
        chunks(
            "a blank before an extension",
            "5 ;a\r\nhello\r\n0\r\n\r\n",
            hello,
        ),
        chunks(
            "line ends within a chunk",
            "9\r\n\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n",
            "9\r\n\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n",
        ),
        chunks(
            "trailers that were not announced",
            "5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More:\r\n\r\n",
            hello,
        ),
        post(
            "trailers that were announced",
            "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
            "5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
        ),
    ]
}

/// Whether a request ends as it should. Where chunks end is the gate's own affair, and the pieces' in which they came.
fn arrived(seen: &str, end: &str) -> bool {
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        return joined(body) == joined(end);
    }
    seen.ends_with(end)
}

/// A chunked body in one piece, with its trailers.
fn joined(body: &str) -> String {
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return format!("{whole}|{behind}");
        }
        whole.push_str(&behind[..size]);
        rest = behind[size..].strip_prefix("\r\n").unwrap();
    }
    panic!("no chunks: {body:?}")
}

async fn wrong(scene: &Scene, number: usize, case: &Case, piece: usize) -> Option<String> {
    let last = "GET /crm/x/last-{N} HTTP/1.1\r\nHost: {H}\r\nConnection: close\r\nAuthorization: Bearer {T}\r\n\r\n";
    let bytes = scene.bytes(format!("{}{last}", case.text).as_bytes(), number);
    let pieces: Vec<_> = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
    let name = format!("{number} {}", case.name);
    let told = scene.talk(&pieces, &name).await;
    if told.len() != case.seen.len() + 1 || told.iter().any(|it| it.status != 200) {
        return Some(format!("{name}: {told:?}"));
    }
    let seen = scene.backend.whole(&format!("case-{number}"));
    let mut fits = seen.len() == case.seen.len();
    // Calls of one connection come one after the other, but may come by several.
    for (beginning, end) in &case.seen {
        fits &= seen
            .iter()
            .any(|it| it.starts_with(&format!("{beginning} /x/case-{number}")) && arrived(it, end));
    }
    let last = scene.backend.whole(&format!("/x/last-{number} ")).len();
    (!fits || last != 1).then(|| format!("{name}: the last came {last} times, seen: {seen:#?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_legal_passes_however_odd_it_is_and_in_whatever_pieces_it_comes() {
    let scene = Arc::new(scene("").await);
    assert!(all().len() >= 45);
    let mut running = JoinSet::new();
    let mut found = Vec::new();
    for (round, piece) in [usize::MAX, 13].into_iter().enumerate() {
        for (number, case) in all().into_iter().enumerate() {
            if running.len() >= 16 {
                found.extend(running.join_next().await.unwrap().unwrap());
            }
            let (scene, number) = (Arc::clone(&scene), 1000 * (round + 1) + number);
            running.spawn(async move { wrong(&scene, number, &case, piece).await });
        }
    }
    while let Some(one) = running.join_next().await {
        found.extend(one.unwrap());
    }
    found.sort();
    assert!(found.is_empty(), "{}:\n{}", found.len(), found.join("\n"));
}
