//! An approval is bound to every byte of what a person was shown, and what runs is what was shown.

use super::scene::{Scene, Shown, waits};
use super::talk::{HOST, Order, send};
use crate::gate::Minted;
use http::Method;
use serde_json::{Value, json};

/// Requests of different makes, each of which comes with all that can be forwarded.
fn samples() -> Vec<Order> {
    vec![
        Order::new(Method::PUT, "/t/act/7?note=a+b&to=ada%20l")
            .with("content-type", "application/json")
            .with("x-list", "one")
            .with("x-list", "two")
            .with("cookie", "a=1; b=2")
            .with("idempotency-key", "k-1")
            .body(r#"{"amount": 10, "to": "ada"}"#),
        Order::post("/t/act/caf%C3%A9")
            .with("content-type", "application/octet-stream")
            .with("content-encoding", "x-own")
            .with("range", "bytes=0-9")
            .with("x-bytes", b"\xfe\xff")
            .body(&b"\0\x01\xff\n\r\n\r\nGET / HTTP/1.1"[..]),
        Order::new(Method::DELETE, "/t/items/9").with("if-match", "\"v1\""),
    ]
}

/// Another byte for this one, that may stand in its place.
fn other(byte: u8) -> u8 {
    match byte {
        b'a'..=b'y' | b'A'..=b'Y' | b'0'..=b'8' => byte + 1,
        b'z' => b'a',
        b'Z' => b'A',
        b'9' => b'0',
        _ => b'x',
    }
}

fn changed(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = other(bytes[at]);
    String::from_utf8(bytes).unwrap()
}

/// The order with one byte changed, once for each byte there is, and what was changed.
fn swaps(order: &Order) -> Vec<(String, Order)> {
    let mut swaps = Vec::new();
    let mut swap = |what: String, change: &dyn Fn(&mut Order)| {
        let mut other = order.clone();
        change(&mut other);
        assert_ne!(other, *order, "{what}");
        swaps.push((what, other));
    };
    for at in 0..order.method.as_str().len() {
        swap(format!("method, byte {at}"), &|order| {
            order.method = changed(order.method.as_str(), at).parse().unwrap();
        });
    }
    for at in 1..order.path.len() {
        swap(format!("target, byte {at}"), &|order| {
            order.path = changed(&order.path, at)
        });
    }
    for (number, (name, value)) in order.fields.iter().enumerate() {
        for at in 0..name.len() {
            swap(format!("name of {name}, byte {at}"), &|order| {
                order.fields[number].0 = changed(name, at);
            });
        }
        for (at, byte) in value.iter().enumerate() {
            swap(format!("value of {name}, byte {at}"), &|order| {
                order.fields[number].1[at] = other(*byte);
            });
        }
    }
    for at in 0..order.body.len() {
        swap(format!("body, byte {at}"), &|order| {
            let mut body = order.body.to_vec();
            body[at] = other(body[at]);
            order.body = body.into();
        });
    }
    swaps.extend(rearranged(order));
    swaps
}

/// Changes that are more than a byte, or less: what a careless digest would take for the same.
fn rearranged(order: &Order) -> Vec<(String, Order)> {
    let mut found = Vec::new();
    let mut add = |what: &str, changed: Order| found.push((what.to_owned(), changed));
    let put = order.clone().method_as(Method::PUT);
    if put != *order {
        add("another method of the same route", put);
    }
    add("another host", order.clone().to("elsewhere.example"));
    add("one more field", order.clone().with("x-more", ""));
    add(
        "a field twice",
        order.clone().with("accept", "a").with("accept", "a"),
    );
    add("a field once", order.clone().with("accept", "a, a"));
    add(
        "an own Authorization in another name",
        order.clone().with("x-authorization", "Bearer x"),
    );
    add(
        "one more query pair",
        order.clone().path_as(&joined(&order.path)),
    );
    if !order.body.is_empty() {
        add("no body", order.clone().body(""));
        let mut longer = order.body.to_vec();
        longer.push(b' ');
        add("a longer body", order.clone().body(longer));
        let (first, rest) = order.body.split_at(1);
        let moved = order
            .clone()
            .with("x-more", first.escape_ascii().to_string());
        add("a byte moved into a field", moved.body(rest.to_vec()));
    }
    for (number, (name, value)) in order.fields.iter().enumerate() {
        let mut without = order.clone();
        without.fields.remove(number);
        add(&format!("without {name}"), without);
        let Some((first, rest)) = value.split_first().filter(|it| !it.1.is_empty()) else {
            continue;
        };
        if first.is_ascii_lowercase() {
            let mut moved = order.clone();
            moved.fields[number] = (format!("{name}{}", char::from(*first)), rest.to_vec());
            add(&format!("a byte of {name} moved into its name"), moved);
        }
    }
    if let Some(at) = order.fields.windows(2).position(|two| two[0].0 == two[1].0) {
        let mut swapped = order.clone();
        swapped.fields.swap(at, at + 1);
        add("two values of one name in the other order", swapped);
        let mut joined = order.clone();
        let second = joined.fields.remove(at + 1).1;
        joined.fields[at].1 = [&joined.fields[at].1[..], b", ", &second].concat();
        add("two values of one name as one", joined);
    }
    found
}

fn joined(path: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}x")
}

impl Order {
    fn method_as(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    fn path_as(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_an_approved_request_can_be_changed_and_run() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let (mut asked_anew, mut refused) = (0, 0);
    for order in samples() {
        let shown = scene.ask(&session, &order).await;
        scene.approve("dana", &shown).await;
        let mut talk = scene.talk().await;
        for (what, swapped) in swaps(&order) {
            let answer = talk.send(&session.token, &swapped.clone().at_once()).await;
            let answer = answer.unwrap_or_else(|fault| panic!("{what}: {fault}"));
            let told = format!("{what} of {order:?}: {answer:?}");
            if answer.status == 202 {
                assert_ne!(waits(&answer), shown.id, "{told}");
                asked_anew += 1;
            } else {
                // What no rule allows is not asked about.
                assert!(matches!(answer.status.as_u16(), 400 | 403), "{told}");
                assert!(answer.reason().is_some(), "{told}");
                refused += 1;
                if answer.header("connection") == Some("close") {
                    talk = scene.talk().await;
                }
            }
            assert_eq!(scene.backend.total(), 0, "{told}");
        }
        assert_eq!(scene.stage(&shown.id).await, "approved");
        let mut before = scene.backend.all_seen();
        let answer = scene.send(&session, &order).await.expect(200);
        before.retain(|_, times| *times > 0);
        assert!(before.is_empty(), "{before:?}");
        arrived_as_shown(&scene.all(&shown.id).await, &answer.json(), &order);
        assert_eq!(scene.backend.total(), 1, "{order:?}");
        scene.backend.forget();
    }
    println!("swaps asked about anew: {asked_anew}; refused: {refused}; run: 0");
    assert!(asked_anew > 250, "the samples are rich ({asked_anew})");
}

/// What the backend received, but for what the gate says of itself, is what a person was shown, and what was sent.
fn arrived_as_shown(shown: &Value, echo: &Value, order: &Order) {
    let shown = &shown["call"];
    assert_eq!(shown["method"], order.method.as_str());
    assert_eq!(shown["target"], order.path.as_str());
    assert_eq!(echo["method"], order.method.as_str());
    assert_eq!(
        format!("/t{}", echo["target"].as_str().unwrap()),
        order.path
    );
    assert_eq!(echo["body"], String::from_utf8_lossy(&order.body).as_ref());
    let own = [
        "host",
        "via",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "forwarded",
        "x-real-ip",
        "content-length",
        "traceparent",
        "toolgate-request-id",
        "x-request-id",
    ];
    let all = echo["fields"].as_array().unwrap();
    let names = |fields: &[Value]| {
        let mut names: Vec<String> = fields
            .iter()
            .map(|field| {
                let name = field.get(0).or_else(|| field.get("name"));
                name.unwrap().as_str().unwrap().to_owned()
            })
            .filter(|name| !own.contains(&name.as_str()))
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names(all),
        names(shown["fields"].as_array().unwrap()),
        "{shown}"
    );
    for (name, value) in &order.fields {
        let value = String::from_utf8_lossy(value);
        assert!(all.contains(&json!([name, value])), "{name} in {echo}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_joins_whatever_differs_in_what_is_not_forwarded_as_it_comes() {
    let scene = Scene::open().await;
    let session = scene.mint().await;
    let order = Order::post("/t/act/A~1?q=%2F")
        .with("x-b", "2")
        .with("x-a", "1")
        .body("whole");
    let noise = |order: Order, mark: &str| {
        order
            .with("user-agent", mark)
            .with(
                "date",
                format!("Mon, 23 Nov 2026 00:00:0{} GMT", mark.len() % 10),
            )
            .with("x-request-id", mark)
            .with("x-correlation-id", mark)
            .with("accept-encoding", format!("gzip, {mark}"))
            .with(
                "traceparent",
                format!(
                    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203{:03}-01",
                    mark.len()
                ),
            )
            .with("tracestate", format!("own={mark}"))
            .with("x-trace", mark)
            .with("toolgate-intent", mark)
            .with("x-forwarded-for", "192.0.2.7")
            .with("forwarded", "for=192.0.2.7")
    };
    let first = noise(order.clone(), "first");
    let shown = scene.ask(&session, &first).await;

    let mut reordered = order.clone();
    reordered.fields.reverse();
    let mut spelt = order.clone().path_as("/t/act/%41%7E1?q=%2F");
    spelt.fields = vec![
        ("X-B".to_owned(), b"2".to_vec()),
        ("X-A".to_owned(), b"1".to_vec()),
    ];
    let same = [
        order.clone(),
        noise(order.clone(), "second-and-longer"),
        reordered,
        spelt,
        order
            .clone()
            .with("connection", "keep-alive, x-hop")
            .with("keep-alive", "timeout=7"),
        order
            .clone()
            .with("te", "trailers")
            .with("connection", "te"),
        order.clone().with("expect", "100-continue"),
    ];
    for (number, again) in same.iter().enumerate() {
        let answer = scene.send(&session, &again.clone().at_once()).await;
        assert_eq!(waits(&answer), shown.id, "{number}: {again:?}");
    }
    let chunked = chunked_again(&scene, &session, &order).await;
    assert!(chunked.contains(&shown.id), "{chunked}");

    // What runs is what was shown, not what the retry brings.
    scene.approve("dana", &shown).await;
    let last = noise(order.clone(), "smuggled").with("x-hop", "smuggled");
    let last = last.with("connection", "x-hop");
    let answer = scene.send(&session, &last).await.expect(200).json();
    assert!(!answer.to_string().contains("smuggled"), "{answer}");
    for (name, value) in [
        ("user-agent", "first"),
        ("x-trace", "first"),
        ("x-request-id", "first"),
    ] {
        assert!(
            answer["fields"]
                .as_array()
                .unwrap()
                .contains(&json!([name, value])),
            "{answer}"
        );
    }
    assert_eq!(scene.backend.total(), 1);
}

/// The same request, its body in chunks.
async fn chunked_again(scene: &Scene, session: &Minted, order: &Order) -> String {
    let mut head = format!(
        "{} {} HTTP/1.1\r\nhost: {}\r\n",
        order.method, order.path, HOST
    );
    for (name, value) in &order.fields {
        head += &format!("{name}: {}\r\n", String::from_utf8_lossy(value));
    }
    head += &format!(
        "authorization: Bearer {}\r\nprefer: respond-async\r\nconnection: close\r\n",
        session.token
    );
    let (one, two) = order.body.split_at(2);
    let body = format!(
        "transfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n{:x};ext=1\r\n{}\r\n0\r\n\r\n",
        one.len(),
        String::from_utf8_lossy(one),
        two.len(),
        String::from_utf8_lossy(two)
    );
    super::talk::raw(scene.gate.agents, (head + &body).as_bytes()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_sessions_same_request_is_another_approval() {
    let scene = Scene::open().await;
    let (one, two) = (scene.mint().await, scene.mint().await);
    let order = Order::post("/t/act/1").body("same");
    let shown = scene.ask(&one, &order).await;
    scene.approve("dana", &shown).await;
    let other = scene.ask(&two, &order).await;
    assert_ne!(other.id, shown.id);
    // Nor can one look at, or take back, what the other asked.
    for method in [Method::GET, Method::DELETE] {
        let place = Order::new(method, format!("/.toolgate/approvals/{}", shown.id));
        scene.send(&two, &place).await.refused(404, "not_found");
    }
    // The digest of one is worth nothing for the other.
    let swapped = Shown {
        id: other.id.clone(),
        digest: shown.digest.clone(),
    };
    if swapped != other {
        scene
            .decide("dana", &swapped, "approve")
            .await
            .refused(409, "conflict");
    }
    assert_eq!(scene.backend.total(), 0);
    scene.send(&one, &order).await.expect(200);
    let again = send(scene.gate.agents, &two.token, &order.clone().at_once()).await;
    assert_eq!(waits(&again), other.id);
    assert_eq!(scene.backend.total(), 1);
}
