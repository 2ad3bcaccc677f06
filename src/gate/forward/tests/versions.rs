//! Backends over HTTP/2 and TLS: the form of what they are sent, what comes back, what is sent again, and what ends a call.

use super::*;
use crate::io::upstream::tests::backends::{
    self, Ca, Clients, HEADERS, Raw, http2, listen, server, upstream, with_tls,
};
use crate::ledger::record::{Fault, TlsFault};
use h2::Reason;
use h2::server::{Builder, SendResponse};
use std::sync::atomic::AtomicUsize;

/// A tool whose backend speaks HTTP/2 in the clear.
fn tool_at(address: SocketAddr) -> Tool {
    let mut tool = tool(address);
    tool.upstream.as_mut().unwrap().http2 = Http2::PriorKnowledge;
    tool
}

async fn gate(backend: &backends::Backend) -> Gate {
    Gate::with(tool_at(backend.address), SOON).await
}

/// The head of the request that a backend gets, as text.
async fn sent(change: impl FnOnce(&mut Tool), request: &str) -> String {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let backend = http2(None, Builder::new(), move |request, mut respond| {
        let tell = tell.clone();
        async move {
            let (head, mut body) = request.into_parts();
            let mut bytes = 0;
            while let Some(Ok(chunk)) = body.data().await {
                bytes += chunk.len();
                let _ = body.flow_control().release_capacity(chunk.len());
            }
            let trailers = body.trailers().await.unwrap();
            let mut text = format!("{} {}\n", head.method, head.uri);
            for (name, value) in &head.headers {
                text += &format!("{name}: {}\n", value.to_str().unwrap());
            }
            tell.send(format!("{text}{bytes} bytes, trailers {trailers:?}"))
                .await
                .unwrap();
            respond.send_response(Response::new(()), true).unwrap();
        }
    })
    .await;
    let mut tool = tool_at(backend.address);
    change(&mut tool);
    let mut agent = Gate::with(tool, SOON).await.agent().await;
    agent.send(request).await;
    assert!(agent.head().await.starts_with("HTTP/1.1 200"));
    told.recv().await.unwrap()
}

#[tokio::test]
async fn a_request_has_the_form_of_http2_and_nothing_of_a_connection() {
    let head = sent(
        |_| {},
        "POST /a%20b?q=1&r HTTP/1.1\r\nHost: gate.example\r\nConnection: keep-alive, te, x-hop\r\nX-Hop: 1\r\n\
         TE: trailers\r\nKeep-Alive: timeout=5\r\nContent-Length: 3\r\nX-Stays: 1\r\n\r\nabc",
    )
    .await;
    assert!(
        head.starts_with("POST http://crm.internal/a%20b?q=1&r\n"),
        "{head}"
    );
    for there in [
        "te: trailers\n",
        "content-length: 3\n",
        "x-stays: 1\n",
        "via: 1.1 toolgate\n",
        "3 bytes",
    ] {
        assert!(head.contains(there), "{there:?} in {head}");
    }
    for gone in [
        "\nhost:",
        "connection",
        "x-hop",
        "keep-alive",
        "transfer-encoding",
    ] {
        assert!(!head.contains(gone), "{gone:?} in {head}");
    }
}

#[tokio::test]
async fn the_agents_host_is_the_authority_where_the_tool_keeps_it() {
    let head = sent(
        |tool| tool.preserve_host = true,
        "GET / HTTP/1.1\r\nHost: gate.example:8443\r\n\r\n",
    )
    .await;
    assert!(
        head.starts_with("GET http://gate.example:8443/\n"),
        "{head}"
    );
    assert!(!head.contains("content-length"), "{head}");
}

#[tokio::test]
async fn what_may_not_be_a_field_may_not_be_a_trailer() {
    let credential = Credential {
        header: "x-api-key".into(),
        value: "s3cret".into(),
    };
    let head = sent(
        |tool| tool.upstream.as_mut().unwrap().credential = Some(credential),
        "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\n\
         x-sum: 7\r\nx-api-key: mine\r\nX_Api_Key: mine\r\nauthorization: Basic abc\r\nx-forwarded-for: 1.2.3.4\r\n\
         toolgate-session: x\r\ncontent-length: 9\r\n\r\n",
    )
    .await;
    assert!(
        head.contains("3 bytes, trailers Some({\"x-sum\": \"7\"})"),
        "{head}"
    );
    assert!(head.contains("x-api-key: s3cret"), "{head}");
}

/// A backend whose answers are made by `act` alone.
async fn answering(
    act: impl Fn(&mut SendResponse<Bytes>) + Send + Sync + 'static,
) -> backends::Backend {
    let act = Arc::new(act);
    http2(None, Builder::new(), move |request, mut respond| {
        let act = act.clone();
        async move {
            act(&mut respond);
            drop(request);
        }
    })
    .await
}

fn head(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let mut head = Response::builder().status(status);
    for (name, value) in fields {
        head = head.header(*name, *value);
    }
    head.body(()).unwrap()
}

#[tokio::test]
async fn answers_arrive_as_over_http1_with_their_length_and_their_trailers() {
    let backend = answering(|respond| {
        let answer = head(
            200,
            &[("content-length", "2"), ("toolgate-request-id", "forged")],
        );
        let mut stream = respond.send_response(answer, false).unwrap();
        stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
    })
    .await;
    let gate = gate(&backend).await;
    let mut agent = gate.agent().await;
    for _ in 0..3 {
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let answer = agent.until("ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-length: 2\r\n"), "{answer}");
        assert!(!answer.contains("forged"), "{answer}");
    }
    assert_eq!(backend.connections(), 1);

    let backend = answering(|respond| {
        let answer = head(200, &[("trailer", "grpc-status")]);
        let mut stream = respond.send_response(answer, false).unwrap();
        stream.send_data(Bytes::from_static(b"ok"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        stream.send_trailers(trailers).unwrap();
    })
    .await;
    let mut agent = self::gate(&backend).await.agent().await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\nTE: trailers\r\nContent-Length: 0\r\n\r\n")
        .await;
    let answer = agent.until("grpc-status: 0\r\n\r\n").await;
    assert!(answer.contains("\r\nok\r\n0\r\n"), "{answer}");
}

#[tokio::test]
async fn answers_without_a_body_are_right_over_http2() {
    let backend = answering(|respond| {
        respond
            .send_response(head(200, &[("content-length", "12")]), true)
            .unwrap();
    })
    .await;
    let mut agent = gate(&backend).await.agent().await;
    for _ in 0..2 {
        agent.send("HEAD / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let answer = agent.head().await;
        assert!(answer.contains("content-length: 12\r\n"), "{answer}");
    }
    for status in [204, 304] {
        let backend = answering(move |respond| {
            respond.send_response(head(status, &[]), true).unwrap();
        })
        .await;
        let mut agent = gate(&backend).await.agent().await;
        for _ in 0..2 {
            agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
            let answer = agent.head().await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_too_short_is_not_passed_as_whole() {
    for (length, end) in [(None, false), (Some("9"), false), (Some("9"), true)] {
        let (go_on, wait) = tokio::sync::watch::channel(false);
        let backend = http2(None, Builder::new(), move |_, mut respond| {
            let mut wait = wait.clone();
            async move {
                let fields: Vec<_> = length
                    .map(|length| ("content-length", length))
                    .into_iter()
                    .collect();
                let mut stream = respond.send_response(head(200, &fields), false).unwrap();
                stream
                    .send_data(Bytes::from_static(b"half"), false)
                    .unwrap();
                wait.wait_for(|go_on| *go_on).await.unwrap();
                if end {
                    stream.send_data(Bytes::new(), true).unwrap();
                } else {
                    stream.send_reset(Reason::INTERNAL_ERROR);
                }
            }
        })
        .await;
        let mut agent = gate(&backend).await.agent().await;
        agent.send(GET).await;
        agent.until("half").await;
        go_on.send(true).unwrap();
        // Chunks without the last, or fewer bytes than were announced: closed.
        let rest = agent.rest().await;
        assert!(!rest.contains("0\r\n\r\n"), "{rest}");
    }
}

/// A backend whose first connection answers, does `act` to the second request, and answers again if that leaves it open;
/// the next connections answer once.
async fn turning_away<F>(
    act: impl Fn(Raw, u32) -> F + Send + Sync + Copy + 'static,
) -> (backends::Backend, Arc<AtomicUsize>)
where
    F: Future<Output = Option<Raw>> + Send + 'static,
{
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let backend = listen(None, move |n, io| {
        let counted = counted.clone();
        async move {
            let mut raw = Raw::accept(io).await;
            let stream = raw.request().await;
            counted.fetch_add(1, Ordering::Relaxed);
            raw.answer(stream).await;
            if n > 0 {
                return raw.rest().await;
            }
            let stream = raw.request().await;
            counted.fetch_add(1, Ordering::Relaxed);
            let Some(mut raw) = act(raw, stream).await else {
                return;
            };
            if let Some(stream) = raw.another().await {
                counted.fetch_add(1, Ordering::Relaxed);
                raw.answer(stream).await;
                raw.rest().await;
            }
        }
    })
    .await;
    (backend, requests)
}

const POST: &str = "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n";
const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\r\nabc";
const GET: &str = "GET / HTTP/1.1\r\nHost: g\r\n\r\n";

async fn refuse(mut raw: Raw, stream: u32) -> Option<Raw> {
    raw.reset(stream, Reason::REFUSED_STREAM).await;
    Some(raw)
}

async fn go_away(mut raw: Raw, stream: u32) -> Option<Raw> {
    raw.go_away(stream - 2).await;
    Some(raw)
}

async fn leave(_raw: Raw, _stream: u32) -> Option<Raw> {
    None
}

async fn cancel(mut raw: Raw, stream: u32) -> Option<Raw> {
    raw.reset(stream, Reason::INTERNAL_ERROR).await;
    Some(raw)
}

async fn nonsense(mut raw: Raw, stream: u32) -> Option<Raw> {
    // No such entry in the table of field names.
    raw.send(HEADERS, 5, stream, &[0xff, 0xff]).await;
    Some(raw)
}

#[tokio::test]
async fn what_a_backend_did_nothing_with_is_sent_once_more_unless_its_body_is_gone() {
    macro_rules! check {
        ($act:ident, $request:ident, $expected:literal, $requests:literal) => {
            let (backend, requests) = turning_away($act).await;
            let mut agent = gate(&backend).await.agent().await;
            agent.send(GET).await;
            assert!(agent.head().await.starts_with("HTTP/1.1 200"));
            agent.send($request).await;
            let answer = agent.head().await;
            let what = concat!(stringify!($act), " ", stringify!($request));
            assert!(answer.contains($expected), "{what}: {answer}");
            assert_eq!(requests.load(Ordering::Relaxed), $requests, "{what}");
        };
    }
    // Refused and passed over: nothing was done with it, whatever the method.
    check!(refuse, GET, "HTTP/1.1 200", 3);
    check!(refuse, POST, "HTTP/1.1 200", 3);
    check!(refuse, UPLOAD, "Exchange(Refused)", 2);
    check!(go_away, GET, "HTTP/1.1 200", 3);
    check!(go_away, POST, "HTTP/1.1 200", 3);
    check!(go_away, UPLOAD, "Exchange(Refused)", 2);
    // Gone without a word: it may have been done.
    check!(leave, GET, "HTTP/1.1 200", 3);
    check!(leave, POST, "Exchange(Closed)", 2);
    check!(leave, UPLOAD, "Exchange(Closed)", 2);
    // An answer, if a bad one.
    check!(cancel, GET, "Exchange(Reset)", 2);
    check!(cancel, POST, "Exchange(Reset)", 2);
    check!(nonsense, GET, "Exchange(Malformed)", 2);
}

#[tokio::test]
async fn a_backend_that_is_leaving_gets_no_new_calls_and_finishes_the_old() {
    let backend = listen(None, |_, io| async move {
        let mut raw = Raw::accept(io).await;
        let stream = raw.request().await;
        raw.go_away(stream).await;
        raw.answer(stream).await;
        raw.rest().await;
    })
    .await;
    let mut agent = gate(&backend).await.agent().await;
    for _ in 0..3 {
        agent.send(POST).await;
        assert!(agent.head().await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(backend.connections(), 3);
}

#[tokio::test]
async fn a_sessions_end_and_an_agent_that_leaves_cut_their_stream_and_not_the_connection() {
    for ended in [true, false] {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let backend = http2(None, Builder::new(), move |request, mut respond| {
            let tell = tell.clone();
            async move {
                if request.uri().path() == "/well" {
                    respond.send_response(Response::new(()), true).unwrap();
                    return;
                }
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream
                    .send_data(Bytes::from_static(b"begun"), false)
                    .unwrap();
                let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                tell.send(reason.unwrap()).await.unwrap();
            }
        })
        .await;
        let cut = gate(&backend).await;
        let mut agent = cut.agent().await;
        agent.send(GET).await;
        agent.until("begun").await;
        if ended {
            cut.end_session();
        } else {
            drop(agent);
        }
        let reason = timeout(Duration::from_secs(1), told.recv()).await;
        assert_eq!(reason.unwrap(), Some(Reason::CANCEL));
        // Another gate on this thread: another session, the same connection.
        let mut other = gate(&backend).await.agent().await;
        other.send("GET /well HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert!(other.head().await.starts_with("HTTP/1.1 200"));
        assert_eq!(backend.connections(), 1);
    }
}

#[tokio::test]
async fn a_deadline_resets_the_stream_and_not_the_connection() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let backend = http2(None, Builder::new(), move |_, mut respond| {
        let tell = tell.clone();
        async move {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            tell.send(reason.unwrap()).await.unwrap();
        }
    })
    .await;
    let mut tool = tool_at(backend.address);
    tool.upstream.as_mut().unwrap().timeout = Duration::from_millis(100);
    let mut agent = Gate::with(tool, SOON).await.agent().await;
    for _ in 0..2 {
        agent.send(GET).await;
        let answer = agent.head().await;
        assert!(answer.contains("Timeout(Answer)"), "{answer}");
        let reason = timeout(SOON, told.recv()).await.unwrap();
        assert_eq!(reason, Some(Reason::CANCEL));
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_not_taken_for_whole() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let backend = http2(None, Builder::new(), move |request, _respond| {
        let tell = tell.clone();
        async move {
            let mut body = request.into_body();
            while let Some(chunk) = body.data().await {
                if chunk.is_err() {
                    tell.send("broken").await.unwrap();
                    return;
                }
            }
            tell.send("whole").await.unwrap();
        }
    })
    .await;
    let gate = gate(&backend).await;
    let mut agent = gate.agent().await;
    agent
        .send("POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n")
        .await;
    assert_eq!(timeout(SOON, told.recv()).await.unwrap(), Some("broken"));
}

#[tokio::test]
async fn a_certificate_that_fails_its_check_is_recorded_as_such_and_no_call_is_made() {
    let ca = Ca::new();
    let own = ca.issue_within("127.0.0.1", 2001, 2002);
    let backend = backends::either(Some(server(&own, &Clients::Anybody, &["h2"]))).await;
    let mut tool = tool(backend.address);
    tool.upstream = Some(upstream(backend.address, Some(&ca), Http2::Auto));
    let mut agent = Gate::with(tool, SOON).await.agent().await;
    agent.send(GET).await;
    let answer = agent.head().await;
    assert!(answer.contains("Failed(Dial(Tls(Expired)))"), "{answer}");
    let fault = SendFault::Failed(UpstreamFault::Dial(DialFault::Tls(TlsFault::Expired)));
    assert_eq!(fault.record(), Fault::UpstreamTls(TlsFault::Expired));
    assert_eq!(fault.record().as_str(), "upstream_tls_expired");
}

#[tokio::test]
async fn a_call_over_tls_names_https_and_the_urls_host() {
    let ca = Ca::new();
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let config = server(&ca.issue("crm.example"), &Clients::Anybody, &["h2"]);
    let backend = http2(Some(config), Builder::new(), move |request, mut respond| {
        let tell = tell.clone();
        async move {
            tell.send(request.uri().to_string()).await.unwrap();
            respond.send_response(Response::new(()), true).unwrap();
        }
    })
    .await;
    let mut tool = tool(backend.address);
    let mut place = with_tls(upstream(backend.address, Some(&ca), Http2::Auto), |tls| {
        tls.server_name = "crm.example".into();
    });
    place.host = "crm.example".into();
    tool.upstream = Some(place);
    let mut agent = Gate::with(tool, SOON).await.agent().await;
    agent.send(GET).await;
    assert!(agent.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(told.recv().await.unwrap(), "https://crm.example/");
}
