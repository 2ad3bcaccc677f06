//! What the backend sees of a request, and the agent of an answer.

use super::*;

/// A backend that answers one request; and the head of what it saw.
pub(super) async fn noting() -> (SocketAddr, tokio::sync::oneshot::Receiver<String>) {
    let (tell, heard) = tokio::sync::oneshot::channel();
    let tell = Arc::new(Mutex::new(Some(tell)));
    let address = backend(move |_, mut wire| {
        let tell = tell.clone();
        async move {
            let head = wire.head().await;
            wire.send(OK).await;
            tell.lock().unwrap().take().unwrap().send(head).unwrap();
            wire.rest().await;
        }
    })
    .await;
    (address, heard)
}

/// What a backend saw of one request, and the answer's head.
async fn seen(tool: impl FnOnce(&mut Tool), request: &str) -> (String, String) {
    let (address, heard) = noting().await;
    let mut described = super::tool(address);
    tool(&mut described);
    let gate = Gate::with(described, SOON).await;
    let mut agent = gate.agent().await;
    agent.send(request).await;
    let answer = agent.head().await;
    (heard.await.unwrap(), answer)
}

#[tokio::test]
async fn the_backend_sees_the_canonical_request_with_its_own_credential_and_nothing_of_the_session()
{
    let (head, _) = seen(
        |tool| {
            tool.upstream.as_mut().unwrap().base_path = "/v2".into();
            tool.upstream.as_mut().unwrap().credential = Some(Credential {
                header: "x-api-key".into(),
                value: "secret-of-the-backend".to_owned().into(),
            });
        },
        "GET /users/7?q=%61+b HTTP/1.1\r\nHost: gate.example\r\nAuthorization: Bearer tgs_x\r\n\
         X-Api-Key: mine\r\nToolgate-Intent: look\r\nX-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\
         Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nAccept: */*\r\nVia: 1.0 before\r\n\r\n",
    )
    .await;
    let expected = "GET /v2/users/7?q=%61+b HTTP/1.1\r\nhost: crm.internal\r\naccept: */*\r\nvia: 1.0 before\r\n\
                    via: 1.1 toolgate\r\nx-api-key: secret-of-the-backend\r\nx-forwarded-for: 127.0.0.1\r\n\
                    x-forwarded-proto: http\r\nx-forwarded-host: gate.example\r\n\r\n";
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&head), sorted(expected));
}

#[tokio::test]
async fn the_agents_authorization_goes_on_where_the_session_has_its_own_header() {
    let request =
        "GET / HTTP/1.1\r\nHost: g\r\nToolgate-Session: tgs_x\r\nAuthorization: Basic abc\r\n\r\n";
    let (head, _) = seen(
        |tool| tool.session_header = SessionHeader::ToolgateSession,
        request,
    )
    .await;
    assert!(head.contains("authorization: Basic abc"), "{head}");
    assert!(!head.contains("tgs_"), "{head}");
}

#[tokio::test]
async fn an_answer_loses_what_belongs_to_the_backends_connection() {
    let address = fixed(
        "HTTP/1.1 200 Fine\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Toolgate-Request-Id: forged\r\nX-Stays: 1\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let answer = agent.until("ok").await;
    assert!(answer.starts_with("HTTP/1.1 200 Fine\r\n"), "{answer}");
    for gone in ["x-hop", "keep-alive", "connection", "forged"] {
        assert!(!answer.contains(gone), "{answer}");
    }
    for there in ["x-stays: 1", "via: 1.1 toolgate", "content-length: 2"] {
        assert!(answer.contains(there), "{answer}");
    }
}

#[tokio::test]
async fn answers_that_two_readers_could_frame_differently_and_nonsense_are_refused() {
    for (answer, fault) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "Failed(Exchange(Malformed))",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "Failed(Exchange(Malformed))",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nabc",
            "Failed(Exchange(Malformed))",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            "Failed(Exchange(Malformed))",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "Failed(Exchange(Malformed))",
        ),
        (
            "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
            "Failed(Exchange(Malformed))",
        ),
        (
            "HTTP/1.1 200 OK\r\nx : a\r\n\r\n",
            "Failed(Exchange(Malformed))",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", "Failed(Exchange(Malformed))"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            "Failed(Exchange(Malformed))",
        ),
        ("HTTP/1.1 200 OK\r\nx: ", "Failed(Exchange(Closed))"),
    ] {
        let address = backend(move |_, mut wire| async move {
            wire.head().await;
            wire.send(answer).await;
        })
        .await;
        let mut agent = Gate::before(address).await.agent().await;
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let head = agent.head().await;
        assert!(
            head.contains(&format!("x-fault: {fault}\r\n")),
            "{answer:?} gave {head}"
        );
    }
}

#[tokio::test]
async fn chunks_and_announced_trailers_pass_in_both_directions() {
    let address = backend(|_, mut wire| async move {
        let request = wire.until("x-sum: 7\r\n\r\n").await;
        assert!(request.contains("transfer-encoding: chunked"), "{request}");
        assert!(request.contains("te: trailers"), "{request}");
        assert!(request.contains("5\r\nhello\r\n0\r\n"), "{request}");
        assert!(!request.contains("toolgate-intent") && !request.contains("x-forwarded-for: 6"), "{request}");
        wire.send(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n2\r\nok\r\n0\r\nx-end: 1\r\n\r\n",
        )
        .await;
        wire.rest().await;
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = gate.agent().await;
    agent
        .send(
            "POST / HTTP/1.1\r\nHost: g\r\nTE: trailers\r\nTrailer: X-Sum, Toolgate-Intent, X-Forwarded-For\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\ntoolgate-intent: a\r\nx-forwarded-for: 6\r\n\r\n",
        )
        .await;
    let answer = agent.until("x-end: 1\r\n\r\n").await;
    assert!(answer.contains("transfer-encoding: chunked"), "{answer}");
    assert_eq!((gate.meter().bytes_in(), gate.meter().bytes_out()), (5, 2));
}

#[tokio::test]
async fn answers_without_a_body_are_right_and_leave_the_connection_usable() {
    let address = backend(|n, mut wire| async move {
        assert_eq!(n, 0, "one connection for all");
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 55\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ] {
            wire.head().await;
            wire.send(answer).await;
        }
        wire.rest().await;
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    for (method, line, length) in [
        ("HEAD", "200 OK", Some("1234")),
        ("GET", "204 No Content", None),
        ("GET", "304 Not Modified", None),
        ("GET", "200 OK", Some("0")),
    ] {
        agent
            .send(&format!("{method} / HTTP/1.1\r\nHost: g\r\n\r\n"))
            .await;
        let answer = agent.head().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {line}")), "{answer}");
        let said = answer
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(said, length, "{answer}");
        assert!(!answer.contains("transfer-encoding"), "{answer}");
    }
}

#[tokio::test]
async fn an_agent_that_asks_is_told_to_go_on_by_the_forwarding_and_not_when_it_is_refused() {
    let address = backend(|_, mut wire| async move {
        let head = wire.head().await;
        assert!(!head.contains("expect"), "{head}");
        wire.until("hello").await;
        wire.send(OK).await;
        wire.rest().await;
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = gate.agent().await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert_eq!(agent.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    agent.send("hello").await;
    assert!(agent.head().await.starts_with("HTTP/1.1 200"));

    let mut agent = gate.agent().await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\nX-HTTP-Method-Override: DELETE\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert!(agent.head().await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn an_old_backend_that_closes_to_end_its_answer_is_relayed() {
    let address = backend(|_, mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.0 200 OK\r\n\r\nall of it").await;
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    for _ in 0..2 {
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let answer = agent.until("0\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("all of it"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn what_an_exchange_is_about_passes_as_it_is() {
    let request = "GET /a HTTP/1.1\r\nHost: g\r\nRange: bytes=1-2\r\nIf-Range: \"v1\"\r\nIf-None-Match: \"a\", \"b\"\r\n\
                   If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\nIf-Match: *\r\nAccept-Encoding: br, gzip\r\n\
                   Cookie: a=1; b=2\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n";
    let (head, _) = seen(|_| {}, request).await;
    for line in request.lines().skip(2).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        let expected = format!("\r\n{}: {value}\r\n", name.to_ascii_lowercase());
        assert!(head.contains(&expected), "{expected:?} in {head}");
    }
    let answer = "HTTP/1.1 206 Partial Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Range: bytes 1-2/9\r\n\
                  ETag: \"v1\"\r\nContent-Encoding: br\r\nVary: Accept-Encoding\r\nServer: old\r\n\
                  Set-Cookie: a=1; Path=/; Domain=crm.internal\r\nSet-Cookie: b=2\r\n\
                  Access-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nok";
    let mut agent = Gate::before(fixed(answer).await).await.agent().await;
    agent.send(request).await;
    let seen = agent.head().await;
    for line in answer.lines().take_while(|line| !line.is_empty()).skip(1) {
        let (name, value) = line.split_once(": ").unwrap();
        let expected = format!("\r\n{}: {value}\r\n", name.to_ascii_lowercase());
        assert!(seen.contains(&expected), "{expected:?} in {seen}");
    }
    assert_eq!(seen.matches("\r\ndate: ").count(), 1, "{seen}");
}

#[tokio::test]
async fn a_place_of_the_backends_own_is_told_as_the_agent_finds_it() {
    let address = fixed(
        "HTTP/1.1 302 Found\r\nlocation: http://crm.internal/v2/users/7?a#b\r\ncontent-location: /v2/users\r\n\
         link: </v2/next>; rel=next\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let mut described = tool(address);
    described.upstream.as_mut().unwrap().base_path = "/v2".into();
    let mut agent = Gate::with(described, SOON).await.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let answer = agent.head().await;
    for line in [
        "location: /crm/users/7?a#b",
        "content-location: /crm/users",
        "link: </v2/next>; rel=next",
    ] {
        assert!(
            answer.contains(&format!("\r\n{line}\r\n")),
            "{line} in {answer}"
        );
    }
}

#[tokio::test]
async fn what_comes_before_an_answer_is_said_cleaned_and_the_answer_is_the_last() {
    let address = fixed(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let gate = Gate::before(address).await;
    gate.line.open(true);
    let mut agent = gate.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert!(agent.until("ok").await.starts_with("HTTP/1.1 200 "));
    let said = "HTTP/1.1 102 Processing\r\nvia: 1.1 toolgate\r\n\r\n\
                HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nvia: 1.1 toolgate\r\n\r\n";
    assert_eq!(gate.line.heads(), said);
}
