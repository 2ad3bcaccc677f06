//! Bodies that are judged: which are read, which are refused, and that what passes is forwarded as it came.

use super::{End, MEDIA, Scene, UNEVALUABLE, UNREADABLE, json};
use crate::approvals::talk::Order;
use End::{By, No};

/// JSON that every reader takes alike.
const ACCEPTED: &[&[u8]] = &[
    b"null",
    b"true",
    b" \t\r\n0\n",
    b"-0",
    b"1E+2",
    b"0.10",
    b"123456789012345678901234567890",
    b"1e400",
    b"\"\"",
    b"\"a\\\"b\\/\\b\\f\\n\\r\\t\\u00e9\"",
    b"\"\\ud83d\\ude00 \xf0\x9f\x98\x80 \xe2\x80\xa8 \x7f\"",
    b"\"\\u0000\"",
    b"\"\xef\xbf\xbf\"",
    b"[]",
    b"[ ]",
    b"{}",
    b"{ }",
    b"[1 , 2 ,\n3]",
    b"{\"a\":{\"a\":{\"a\":[]}}}",
    b"{\"a\":1,\"b\":1}",
    b"{\"a\":1,\"A\":1}",
    b"{\"\":0}",
    b"{\"a\\u0000b\":0}",
    b"[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]",
    b"{\"amount\" : 1.50, \"note\" : \"keep   my  spaces\" }   ",
];

/// What is no JSON, or JSON that readers take differently.
const REFUSED: &[&[u8]] = &[
    b"",
    b" ",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\0}\0",
    b"\xfe\xff\0{\0}",
    b"{\0}\0",
    b"{\"a\":\"\xe9\"}",
    b"{\"a\":\"\xc0\xaf\"}",
    b"{\"a\":\"\xed\xa0\x80\"}",
    b"{\"a\":\"\\ud800\"}",
    b"{\"a\":\"\\udc00\\ud800\"}",
    b"{\"a\":\"\\u12\"}",
    b"{\"a\":\"\\x41\"}",
    b"{\"a\":\"\\U00000041\"}",
    b"{\"a\":\"\n\"}",
    b"{\"a\":\"\0\"}",
    b"\0{}",
    b"{}\0",
    b"{} {}",
    b"{}x",
    b"[1]]",
    b"{\"a\":1}\n{\"a\":2}",
    b"{\"a\":1,}",
    b"[1,]",
    b"[,1]",
    b"[1,,2]",
    b"{,}",
    b"{\"a\"}",
    b"{\"a\":}",
    b"{\"a\" 1}",
    b"{a:1}",
    b"{\'a\':1}",
    b"{1:1}",
    b"{\"a\":01}",
    b"{\"a\":+1}",
    b"{\"a\":.5}",
    b"{\"a\":1.}",
    b"{\"a\":1e}",
    b"{\"a\":--1}",
    b"{\"a\":0x10}",
    b"{\"a\":1_000}",
    b"{\"a\":NaN}",
    b"{\"a\":Infinity}",
    b"{\"a\":-Infinity}",
    b"{\"a\":\xef\xbc\x91}",
    b"{\"a\":True}",
    b"{\"a\":nul}",
    b"{\"a\":undefined}",
    b"{\"a\":1 /* c */}",
    b"// c\n{}",
    b"# c\n{}",
    b"{\"a\":\"unended}",
    b"[\"a\"",
    b"{\"a\":1",
    b"\x0b{}",
    b"\x0c{}",
    b"\xc2\xa0{}",
    b"{\"a\":1,\"a\":1}",
    b"{\"a\":1,\"\\u0061\":2}",
    b"[{\"b\":{\"a\":1,\"c\":2,\"a\":3}}]",
    b"[1}",
    b"{\"a\":1]",
    b")]}\',\n{}",
    b"{}({})",
    b"jsonp({})",
];

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    text.chars().take(60).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_readers_take_differently_is_refused_and_any_other_is_forwarded_as_it_came() {
    let scene = Scene::open().await;
    let mut cases = Vec::new();
    let mut add = |body: &[u8], end| {
        cases.push((shown(body), json("/t/mirror/json", body), end));
    };
    ACCEPTED.iter().for_each(|body| add(body, By("json")));
    REFUSED.iter().for_each(|body| add(body, UNREADABLE));
    let deep = |count: usize| [b"[".repeat(count), b"]".repeat(count)].concat();
    add(&deep(64), By("json"));
    add(&deep(65), UNREADABLE);
    add(&deep(100_000), UNREADABLE);
    add(&b"[".repeat(100_000), UNREADABLE);
    add(&b"[{\"\":".repeat(50_000), UNREADABLE);
    add(&b"{\"a\":".repeat(70), UNREADABLE);
    let many = format!("[{}0]", "0,".repeat(70_000));
    add(many.as_bytes(), UNREADABLE);
    let long = format!("\"{}\"", "x".repeat(1_000_000));
    add(long.as_bytes(), By("json"));
    let longer = format!("\"{}\"", "x".repeat(1_100_000));
    add(longer.as_bytes(), No(413, "body_too_large"));
    scene.check(cases).await;
    // Arms whose conditions say nothing of the body would have let all of them pass.
    assert_eq!(scene.passed("json.any").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_amount_may_be_is_judged_exactly_and_what_is_none_reaches_no_laxer_route() {
    let scene = Scene::open().await;
    let path = "/t/mirror/refunds";
    let mut cases = Vec::new();
    for (body, end) in [
        ("{\"amount\":100}", By("small")),
        ("{\"amount\":1e2}", By("small")),
        ("{\"amount\":100.000}", By("small")),
        ("{\"amo\\u0075nt\":0.01}", By("small")),
        (
            "{\"amount\":100.00000000000000000000000000001}",
            By("large"),
        ),
        ("{\"amount\":0}", By("large")),
        ("{\"amount\":-5}", By("large")),
        ("{\"amount\":50000}", By("large")),
        ("{\"amount\":1e307}", By("large")),
        ("{\"amount\":1e400}", UNEVALUABLE),
        ("{\"amount\":1e-400}", UNEVALUABLE),
        ("{\"amount\":1e999999999999}", UNEVALUABLE),
        (
            "{\"amount\":1.00000000000000000000000000000000000001}",
            UNEVALUABLE,
        ),
        ("{\"amount\":\"100\"}", UNEVALUABLE),
        ("{\"amount\":[100]}", UNEVALUABLE),
        ("{\"amount\":{\"value\":100}}", UNEVALUABLE),
        ("{\"amount\":null}", UNEVALUABLE),
        ("{\"amount\":true}", UNEVALUABLE),
        ("{}", UNEVALUABLE),
        ("[]", UNEVALUABLE),
        ("[{\"amount\":1}]", UNEVALUABLE),
        ("100", UNEVALUABLE),
        ("{\"Amount\":1}", UNEVALUABLE),
        ("{\"amount\":1,\"Amount\":50000}", UNEVALUABLE),
        ("{\"AMOUNT\":1,\"amount\":50000}", UNEVALUABLE),
        ("{\"amount\":1,\"amount\\u0000\":50000}", UNEVALUABLE),
        ("{\"amount\":1,\"amount\":50000}", UNREADABLE),
        ("{\"amount\":1,\"\\u0061mount\":50000}", UNREADABLE),
        ("{\"refund\":{\"amount\":1}}", UNEVALUABLE),
        ("", UNREADABLE),
    ] {
        cases.push((body.to_owned(), json(path, body), end));
    }
    let form = |body: &str| {
        let order = Order::post(path).with("content-type", "application/x-www-form-urlencoded");
        order.body(body.as_bytes().to_vec())
    };
    for (body, end) in [
        ("amount=100", By("small")),
        ("a=1&amount=%31%30&b=%00%ff", By("small")),
        ("&&amount=5&", By("small")),
        ("amount=500", By("large")),
        ("amount=", UNEVALUABLE),
        ("amount", UNEVALUABLE),
        ("amount=1e1", UNEVALUABLE),
        ("amount=50000e-3", UNEVALUABLE),
        ("amount=1&amount=50000", UNEVALUABLE),
        ("amount=1&%61mount=50000", UNEVALUABLE),
        ("amount=1&AMOUNT=50000", UNEVALUABLE),
        ("amount=1&amount[]=50000", UNEVALUABLE),
        ("amount=1&+amount=50000", UNEVALUABLE),
        ("amount=1&amount%00=50000", UNEVALUABLE),
        ("amount=1;amount=50000", UNEVALUABLE),
        ("a=1;amount=50000&amount=1", UNEVALUABLE),
        ("amount=1&%=2", UNEVALUABLE),
        ("amount=1&%ff=2", UNEVALUABLE),
        ("amount=%zz", UNEVALUABLE),
        ("amount=%u0031", UNEVALUABLE),
        ("amount=1\n", UNREADABLE),
        ("", UNEVALUABLE),
        ("a=b", UNEVALUABLE),
        ("{\"amount\":1}", UNREADABLE),
        ("amount=1&note=\u{e9}", UNREADABLE),
    ] {
        cases.push((body.to_owned(), form(body), end));
    }
    scene.check(cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_read_as_what_it_is_said_to_be_once_and_as_nothing_else() {
    let scene = Scene::open().await;
    let mut cases = Vec::new();
    let order = || Order::post("/t/mirror/refunds").body("{\"amount\":5}");
    for (kind, end) in [
        ("application/json", By("small")),
        ("Application/JSON", By("small")),
        ("application/json; charset=utf-8", By("small")),
        ("application/json;charset=\"UTF-8\"", By("small")),
        ("application/json; profile=a", By("small")),
        ("application/merge-patch+json", By("small")),
        ("application/vnd.api+json", By("small")),
        ("application/problem+json; charset=utf-8", By("small")),
        ("application/json; charset=utf-16", MEDIA),
        ("application/json; charset=iso-8859-1", MEDIA),
        ("application/json; charset=utf-8; charset=utf-16", MEDIA),
        ("application/json; charset=\"utf-8", MEDIA),
        ("application/json; charset", MEDIA),
        ("application/json, text/plain", MEDIA),
        ("text/plain, application/x+json", MEDIA),
        ("multipart/x+json", MEDIA),
        ("text/x+json", MEDIA),
        ("application/x-www-form-urlencoded+json", MEDIA),
        ("application/+json", MEDIA),
        ("application/json+", MEDIA),
        ("application/jsonp", MEDIA),
        ("application/ json", MEDIA),
        ("application", MEDIA),
        ("json", MEDIA),
        ("*/*", MEDIA),
        ("", MEDIA),
        ("text/json", MEDIA),
        ("text/plain", MEDIA),
        ("text/plain; a=application/json", MEDIA),
        ("application/octet-stream", MEDIA),
        ("application/xml", MEDIA),
        ("application/yaml", MEDIA),
        ("application/x-ndjson", MEDIA),
        ("application/json-seq", MEDIA),
        ("application/cbor", MEDIA),
        ("application/graphql", MEDIA),
        ("multipart/form-data; boundary=x", MEDIA),
        ("multipart/mixed; boundary=x", MEDIA),
    ] {
        cases.push((kind.to_owned(), order().with("content-type", kind), end));
    }
    cases.push(("no type".into(), order(), MEDIA));
    let twice = order().with("content-type", "application/json");
    let twice = twice.with("content-type", "application/json");
    cases.push(("two types".into(), twice, MEDIA));
    for (coding, end) in [
        ("gzip", MEDIA),
        ("br", MEDIA),
        ("deflate, gzip", MEDIA),
        ("identity, gzip", MEDIA),
        ("aws-chunked", MEDIA),
        ("identity", By("small")),
    ] {
        let order = order().with("content-type", "application/json");
        cases.push((coding.into(), order.with("content-encoding", coding), end));
    }
    let typed = || order().with("content-type", "application/json");
    for (name, value) in [
        ("connection", "content-type"),
        ("connection", "Content-Encoding"),
        ("content_type", "text/plain"),
        ("x-http-method-override", "GET"),
    ] {
        let end = No(400, "field_forbidden");
        cases.push((format!("{name}: {value}"), typed().with(name, value), end));
    }
    let multipart = "--x\r\nContent-Disposition: form-data; name=\"amount\"\r\n\r\n5\r\n--x--\r\n";
    let multipart = Order::post("/t/mirror/refunds").body(multipart);
    let multipart = multipart.with("content-type", "multipart/form-data; boundary=x");
    cases.push(("a form of parts".into(), multipart, MEDIA));
    scene.check(cases).await;
    // A fifth of what was refused would have passed by the arm without conditions.
    assert_eq!(scene.passed("large").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_held_to_the_bound_of_the_route_that_judges_it_however_it_is_framed() {
    use crate::client::{Connection, Payload};
    use bytes::Bytes;
    let scene = Scene::open().await;
    let padded = |a: u8, bytes: usize| {
        let start = format!("{{\"a\":{a}}}");
        let space = " ".repeat(bytes - start.len());
        json("", start + &space).body
    };
    let order = |path: &str, a, bytes| json(path, padded(a, bytes).to_vec());
    let large = No(413, "body_too_large");
    scene
        .check(vec![
            ("fits".into(), order("/t/mirror/tiny", 1, 1024), By("tiny")),
            ("over".into(), order("/t/mirror/tiny", 1, 1025), large),
            (
                "over, for the laxer".into(),
                order("/t/mirror/tiny", 2, 1025),
                large,
            ),
            (
                "fits the first".into(),
                order("/t/mirror/wide", 1, 2048),
                By("wide"),
            ),
            (
                "fits the second".into(),
                order("/t/mirror/wide", 2, 1024),
                By("wide.narrow"),
            ),
            (
                "over the second".into(),
                order("/t/mirror/wide", 2, 1025),
                large,
            ),
        ])
        .await;
    // In chunks, one byte at a time, with the name torn apart.
    for (body, status) in [("{\"a\":1}", 200), ("{\"a\":1,\"\\u0061\":2}", 400)] {
        let (sender, fed) = tokio::sync::mpsc::channel(64);
        for byte in body.bytes() {
            sender.send(Bytes::copy_from_slice(&[byte])).await.unwrap();
        }
        drop(sender);
        let mut connection = Connection::open(scene.gate.agents, &scene.session.token)
            .await
            .unwrap();
        let fields = [("content-type", "application/json")];
        let answer = connection
            .start(
                http::Method::POST,
                "/t/mirror/tiny",
                &fields,
                Payload::Fed(fed),
            )
            .await
            .unwrap();
        let answer = crate::client::read(answer).await.unwrap().expect(status);
        if status == 200 {
            assert_eq!(answer.body, body.as_bytes());
        }
    }
}
