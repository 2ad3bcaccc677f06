//! What an agent tries to have one thing judged and another done, to be shown more than it may have, and to take part in
//! what another began. The server answers as it is told to.

use super::{Scene, call, problem, request};
use http::Method;
use serde_json::{Value, json};

const POST: Method = Method::POST;

/// What a message is refused with that is none, or that its fields contradict.
async fn faulty(scene: &Scene, fields: &[(&str, &str)], body: &str) -> (u16, i64) {
    let answer = scene.send(POST, fields, body).await;
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (
        answer.status.as_u16(),
        json["error"]["code"].as_i64().unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_field_that_says_otherwise_than_the_body_is_always_400_and_reaches_nobody() {
    let scene = Scene::before("mcp_stub.py").await;
    let body = call(1, "pay", json!({"amount": 5})).to_string();
    for fields in [
        [("mcp-method", "tools/list")],
        [("mcp-method", "Tools/call")],
        [("mcp-name", "wipe")],
        [("mcp-name", "=?base64?d2lwZQ==?=")],
        [("mcp-name", "=?base64?cGF5?= ")],
        [("mcp-name", "")],
        [("mcp-name", "pay\t")],
    ] {
        let trimmed = fields[0].1.trim() == "pay" || fields[0].1.trim() == "=?base64?cGF5?=";
        if !trimmed {
            assert_eq!(
                faulty(&scene, &fields, &body).await,
                (400, -32020),
                "{fields:?}"
            );
        }
    }
    let versioned = request(
        1,
        "tools/call",
        json!({"name": "pay", "arguments": {"amount": 5}, "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}),
    );
    let older = [("mcp-protocol-version", "2025-11-25")];
    assert_eq!(
        faulty(&scene, &older, &versioned.to_string()).await,
        (400, -32020)
    );
    // Twice, under a name that some take for it, or taken away on the way.
    for fields in [
        &[("mcp-name", "pay"), ("mcp-name", "pay")][..],
        &[("mcp_name", "wipe")],
        &[("Mcp.Session.Id", "session-1")],
        &[("mcp-name", "pay"), ("connection", "mcp-name")],
    ] {
        let answer = scene.send(POST, fields, &body).await;
        assert_eq!(answer.status, 400, "{fields:?}");
    }
    // What agrees passes.
    let fields = [
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?cGF5?="),
    ];
    let passed = scene.send(POST, &fields, &body).await.expect(200).json();
    assert_eq!(passed["result"]["saw"]["body"], body, "byte for byte");
    assert_eq!(passed["result"]["saw"]["path"], "/mcp");
    assert!(!passed.to_string().contains("tgs_"));
    assert_eq!(
        scene.server.says(),
        format!("ran {}", json!(body)),
        "the first that arrives"
    );
}

#[tokio::test]
async fn a_body_that_could_be_read_twice_is_refused_and_reaches_nobody() {
    let scene = Scene::before("mcp_stub.py").await;
    let pay = r#""params":{"name":"pay","arguments":{"amount":5}}"#;
    for (body, code) in [
        (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"tools/call",{pay}}}"#), -32700),
        (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","Method":"x",{pay}}}"#), -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","name":"wipe"}}"#.to_owned(), -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","Name":"wipe"}}"#.to_owned(), -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["wipe"]}}"#.to_owned(), -32602),
        (format!(r#"[{{"jsonrpc":"2.0","id":1,"method":"tools/call",{pay}}}]"#), -32600),
        (format!(r#"{{"jsonrpc":"2.0","method":"tools/call",{pay}}}"#), -32600),
        (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call",{pay},"params ":{{}}}}"#), -32600),
        (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call",{pay}}} {{}}"#), -32700),
        (format!("\u{feff}{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",{pay}}}"), -32700),
        (String::new(), -32700),
    ] {
        assert_eq!(faulty(&scene, &[], &body).await, (400, code), "{body}");
    }
    let good = call(1, "pay", json!({"amount": 5})).to_string();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
    ] {
        let answer = scene.send(POST, &[("content-type", kind)], &good).await;
        assert_eq!(answer.status, 415, "{kind}");
    }
    let packed = [("content-encoding", "gzip")];
    assert_eq!(scene.send(POST, &packed, &good).await.status, 415);
    let huge = call(1, "pay", json!({"amount": 5, "x": "a".repeat(2 << 20)}));
    assert_eq!(scene.post(&huge).await.status, 413);
    scene
        .post(&call(2, "pay", json!({"amount": 5})))
        .await
        .expect(200);
    assert!(
        scene.server.says().contains("\\\"id\\\":2"),
        "the first that arrives"
    );
}

#[tokio::test]
async fn only_the_tool_that_a_route_names_is_called_and_only_with_arguments_that_it_allows() {
    let scene = Scene::before("mcp_stub.py").await;
    for name in [
        "wipe",
        "pay ",
        "Pay",
        "pay/",
        "pay%20",
        "/pay",
        "",
        "tools/call pay",
        "p\u{430}y",
    ] {
        let answer = scene.post(&call(1, name, json!({"amount": 5}))).await;
        let problem = problem(answer);
        let reason = problem["reason"].as_str().unwrap();
        assert!(
            ["no_route", "scope_outside_ceiling"].contains(&reason),
            "{name}: {problem}"
        );
    }
    for arguments in [
        json!({}),
        json!({"amount": "5"}),
        json!({"Amount": 5, "amount": 5}),
        json!({"amount": null}),
    ] {
        let problem = problem(scene.post(&call(1, "pay", arguments)).await);
        assert_eq!(problem["reason"], "unevaluable");
    }
    for (method, params) in [
        ("resources/read", json!({"uri": "secret://keys"})),
        ("resources/read", json!({"uri": "repo://other/README"})),
        ("resources/subscribe", json!({"uri": "repo://acme/README"})),
        ("prompts/get", json!({"name": "leak"})),
        ("tasks/list", json!({})),
        ("logging/setLevel", json!({"level": "debug"})),
        ("tools/Call", json!({"name": "pay"})),
    ] {
        let answer = scene
            .post(&request(1, method, params))
            .await
            .expect(200)
            .json();
        assert_eq!(answer["error"]["code"], -32001, "{method}: {answer}");
        assert_eq!(answer["id"], 1);
    }
    // Neither below the one address, nor beside it.
    let good = call(1, "pay", json!({"amount": 5})).to_string();
    for path in ["/mcp/", "/mcp/x", "/mcp?toolset=all", "/mcp?"] {
        let answer = scene.send_to(path, &scene.session, POST, &[], &good).await;
        assert!(
            [400, 403].contains(&answer.status.as_u16()),
            "{path}: {answer:?}"
        );
    }
    for method in [
        Method::PUT,
        Method::HEAD,
        Method::OPTIONS,
        Method::GET,
        Method::DELETE,
    ] {
        let answer = scene.send(method.clone(), &[], "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("allow")),
            (405, Some("POST")),
            "{method}"
        );
    }
    // Methods of the protocol itself pass, and its notifications; others are refused by status.
    scene.post(&request(3, "ping", json!({}))).await.expect(200);
    let note = |method: &str| json!({"jsonrpc": "2.0", "method": method});
    scene
        .post(&note("notifications/initialized"))
        .await
        .expect(202);
    assert!(scene.server.says().contains("ping"));
    assert!(scene.server.says().contains("initialized"));
}

#[tokio::test]
async fn a_session_of_the_protocol_is_for_who_began_it_and_for_nobody_else() {
    let scene = Scene::before("mcp_stub.py").await;
    let began = scene
        .post(&request(1, "initialize", json!({})))
        .await
        .expect(200);
    let id = began.header("mcp-session-id").unwrap().to_owned();
    let other = scene.gate.mint("demo", "bot").await;
    let with = [("mcp-session-id", &*id)];
    let ping = request(2, "ping", json!({})).to_string();
    let reply = json!({"jsonrpc": "2.0", "id": 9, "result": {}}).to_string();
    for (method, body) in [
        (POST, &*ping),
        (POST, &*reply),
        (Method::GET, ""),
        (Method::DELETE, ""),
    ] {
        let answer = scene.send_as(&other, method.clone(), &with, body).await;
        assert_eq!(answer.status, 404, "{method} {body}");
        let unknown = [("mcp-session-id", "session-99")];
        let answer = scene.send(method.clone(), &unknown, body).await;
        assert_eq!(answer.status, 404, "{method} {body}");
    }
    // A session can't be made one's own by naming it while another is begun.
    let begin = request(1, "initialize", json!({})).to_string();
    scene.send_as(&other, POST, &with, &begin).await.expect(404);
    // An answer to a server's request needs a session in which it was asked.
    scene.send(POST, &[], &reply).await.expect(403);
    scene.send(POST, &with, &reply).await.expect(202);
    // A stream is resumed within a session that is one's own, and in no other way.
    let event = ("last-event-id", "of-another-session-7");
    for (method, body) in [(POST, &*ping), (Method::DELETE, "")] {
        let fields = [with[0], event];
        scene.send(method, &fields, body).await.expect(400);
    }
    scene.send(Method::GET, &[event], "").await.expect(405);
    let fields = [with[0], event];
    let answer = scene.send_as(&other, Method::GET, &fields, "").await;
    answer.expect(404);
    let stream = scene.send(Method::GET, &with, "").await.expect(200);
    // A list that is told again on the stream is narrowed there too.
    assert!(
        stream.text().contains("\"pay\"") && !stream.text().contains("wipe"),
        "{}",
        stream.text()
    );
    scene.send(Method::DELETE, &with, "").await.expect(200);
    scene.send(POST, &with, &ping).await.expect(404);
    let said: Vec<String> = (0..4).map(|_| scene.server.says()).collect();
    assert!(
        said[0].contains("initialize") && said[1].contains("result"),
        "{said:?}"
    );
    assert_eq!(said[2..], [format!("stream {id}"), format!("end {id}")]);
}

#[tokio::test]
async fn no_shape_of_a_list_shows_what_the_session_could_never_be_granted() {
    let scene = Scene::before("mcp_stub.py").await;
    let body = request(7, "tools/list", json!({})).to_string();
    let listed = |kind: &'static str| {
        let (scene, body) = (&scene, &body);
        async move { scene.send(POST, &[("x-answer", kind)], body).await }
    };
    for kind in ["list", "events", "returns", "cut"] {
        let answer = listed(kind).await.expect(200);
        let text = answer.text();
        assert!(
            text.contains("\"pay\"") && !text.contains("wipe"),
            "{kind}: {text}"
        );
        // What was not left out is as it was; nobody keeps it for others.
        assert!(
            text.contains("1.5") && text.contains("nextCursor"),
            "{kind}: {text}"
        );
        assert!(!text.contains("public"), "{kind}: {text}");
        assert_eq!(answer.header("etag"), None);
    }
    let events = listed("events").await;
    assert!(events.text().starts_with(": hello\n") && events.text().contains("id: 0\n"));
    // Compression is not asked of the server; one that compresses all the same is not believed.
    let pay = call(1, "pay", json!({"amount": 5})).to_string();
    let saw = scene.send(POST, &[("accept-encoding", "gzip, br")], &pay);
    let saw = saw.await.json()["result"]["saw"]["fields"].to_string();
    assert!(
        saw.contains(r#"["accept-encoding","identity"]"#) && !saw.contains("gzip"),
        "{saw}"
    );
    for (kind, packed) in [
        ("list", true),
        ("events", true),
        ("text", false),
        ("batch", false),
        ("twice", false),
        ("garbled", false),
        ("strange", false),
        ("huge", false),
    ] {
        let fields = [
            ("x-answer", kind),
            ("x-compress", if packed { "1" } else { "" }),
        ];
        let answer = scene.send(POST, &fields, &body).await.expect(200).json();
        assert_eq!(
            answer["error"]["data"]["reason"], "upstream_failed",
            "{kind}: {answer}"
        );
        assert!(!answer.to_string().contains("wipe"), "{kind}: {answer}");
    }
    let error = listed("error").await.expect(200).json();
    assert_eq!(error["error"]["message"], "no");
    // Events break off where one can't be read, or does not end.
    let mut connection = crate::client::Connection::open(scene.gate.agents, &scene.session.token)
        .await
        .unwrap();
    let fields = [
        ("x-answer", "garbled-events"),
        ("content-type", "application/json"),
    ];
    let body = bytes::Bytes::copy_from_slice(body.as_bytes());
    let broken = connection.start(POST, "/mcp", &fields, body.into()).await;
    // Whether its head is out by then is a matter of time.
    if let Ok(broken) = broken {
        assert!(crate::client::read(broken).await.is_err(), "it breaks off");
    }
    let unended = listed("unended").await.expect(200);
    assert!(unended.body.is_empty(), "{unended:?}");
}

/// A list that came as a failure was passed on whole where it said of itself that it was text; and failures that are no
/// messages lost their status, because they could not be read as lists.
#[tokio::test]
async fn a_failure_is_told_as_it_came_and_no_list_passes_as_one() {
    let scene = Scene::before("mcp_stub.py").await;
    let body = request(7, "tools/list", json!({})).to_string();
    let failed = |kind: &'static str, coding: &'static str| {
        let (scene, body) = (&scene, &body);
        let fields = [
            ("x-answer", kind),
            ("x-status", "503"),
            ("x-compress", coding),
        ];
        async move { scene.send(POST, &fields, body).await }
    };
    for (kind, text) in [
        ("words", "upstream connect error {reset}"),
        ("word", "\"unavailable {}\""),
        ("nothing", "null"),
        (
            "complaints",
            r#"[{"message": "down", "tools": ["wipe"]}, 7]"#,
        ),
        ("object", r#"{"message":"down"}"#),
        ("page", "<style>p {}</style><p>down</p>"),
    ] {
        let answer = failed(kind, "").await.expect(503);
        assert_eq!(answer.text(), text, "{kind}");
    }
    for kind in ["list", "text", "events", "cut"] {
        let answer = failed(kind, "").await.expect(503);
        let text = answer.text();
        assert!(
            text.contains("\"pay\"") && !text.contains("wipe"),
            "{kind}: {text}"
        );
    }
    for (kind, coding) in [
        ("batch", ""),
        ("twice", ""),
        ("garbled", ""),
        ("strange", ""),
        ("packed-wide", ""),
        ("list", "1"),
        ("page", "1"),
    ] {
        let answer = failed(kind, coding).await.expect(200).json();
        assert_eq!(
            answer["error"]["data"]["reason"], "upstream_failed",
            "{kind}: {answer}"
        );
    }
}

/// What could be read of a stream was lost with what could not, where both came in one piece.
#[tokio::test]
async fn events_before_one_that_cant_be_read_arrive() {
    use http_body_util::BodyExt as _;
    let scene = Scene::before("mcp_stub.py").await;
    let mut connection = crate::client::Connection::open(scene.gate.agents, &scene.session.token)
        .await
        .unwrap();
    let fields = [("x-answer", "half"), ("content-type", "application/json")];
    let body = request(7, "tools/list", json!({})).to_string();
    let answer = connection
        .start(POST, "/mcp", &fields, bytes::Bytes::from(body).into())
        .await
        .unwrap();
    let (mut body, mut read) = (answer.into_body(), Vec::new());
    let broke = loop {
        match body.frame().await {
            Some(Ok(frame)) => read.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    let text = String::from_utf8(read).unwrap();
    assert!(broke, "it breaks off: {text}");
    assert_eq!(text.matches("data: ").count(), 2, "{text}");
    assert!(text.contains("\"pay\"") && !text.contains("wipe"), "{text}");
}

#[tokio::test]
async fn what_is_refused_before_a_message_is_read_is_told_in_its_form_too() {
    let scene = Scene::before("mcp_stub.py").await;
    let path = format!("/v1/sessions/{}/quarantine", scene.session.id);
    let why = json!({"reason": "test"});
    scene.gate.admin(POST, &path, &why).await.expect(200);
    let refused = problem(scene.post(&call(5, "pay", json!({"amount": 5}))).await);
    assert_eq!(refused["reason"], "quarantined");
    let stranger = crate::gate::Minted {
        id: String::new(),
        token: "tgs_none".into(),
    };
    let answer = scene.send_as(&stranger, POST, &[], "{}").await.expect(401);
    assert_eq!(answer.reason().as_deref(), Some("credential_invalid"));
    let records = scene.recorded("text=tools%2Fcall%20pay").await;
    assert!(
        records.iter().any(|it| it["reason"] == "quarantined"),
        "{records:?}"
    );
}
