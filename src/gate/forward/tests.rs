//! Real agents and backends on loopback sockets: backends that reset, stall, mis-frame, answer early and close early.

use super::super::body::Meter;
use super::*;
use crate::io::clock::SystemClock;
use crate::policy::model::{Credential, Mount, SessionHeader, Tool, Upstream};
use crate::policy::name::ToolName;
use crate::policy::time::Tick;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(5);

struct Switch(AtomicBool);

impl Liveness for Switch {
    fn live(&self, _now: Tick) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A gate without a policy: every request is checked for its fields and forwarded.
struct Gate {
    address: SocketAddr,
    session: Arc<Switch>,
    /// Of the last call.
    meter: Arc<Mutex<Arc<Meter>>>,
}

fn tool(backend: SocketAddr) -> Tool {
    Tool {
        name: ToolName::parse("crm").unwrap(),
        mount: Mount::Path("/crm".into()),
        upstream: Upstream {
            authority: backend.to_string().into(),
            host: "crm.internal".into(),
            base_path: "".into(),
            timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(2),
            credential: None,
        },
        preserve_host: false,
        session_header: SessionHeader::Authorization,
        allow_method_override: Box::default(),
        volatile_headers: Box::default(),
        mask_headers: Box::default(),
        record_query: Box::default(),
        body_limit: 1 << 20,
    }
}

impl Gate {
    async fn before(backend: SocketAddr) -> Self {
        Self::with(tool(backend), Duration::from_secs(20)).await
    }

    async fn with(tool: Tool, body_idle: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = Self {
            address: listener.local_addr().unwrap(),
            session: Arc::new(Switch(AtomicBool::new(true))),
            meter: Arc::default(),
        };
        let outfit = Arc::new(Outfit::new(&tool).unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (session, last) = (gate.session.clone(), gate.meter.clone());
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (outfit, clock, session, last) = (outfit.clone(), clock.clone(), session.clone(), last.clone());
                let service = service_fn(move |request| {
                    let (outfit, clock, session, last) = (outfit.clone(), clock.clone(), session.clone(), last.clone());
                    async move {
                        let meter = Arc::<Meter>::default();
                        *last.lock().unwrap() = meter.clone();
                        Ok::<_, std::convert::Infallible>(
                            relay(request, &outfit, session, &clock, peer, meter, body_idle).await,
                        )
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        gate
    }

    async fn agent(&self) -> Wire {
        Wire::to(self.address).await
    }

    fn end_session(&self) {
        self.session.0.store(false, Ordering::Relaxed);
    }

    fn meter(&self) -> Arc<Meter> {
        self.meter.lock().unwrap().clone()
    }
}

async fn relay(
    request: Request<Incoming>,
    outfit: &Outfit,
    session: Arc<Switch>,
    clock: &Arc<dyn Clock>,
    peer: SocketAddr,
    meter: Arc<Meter>,
    body_idle: Duration,
) -> Response<BoxBody<Bytes, StreamFault>> {
    let (head, incoming) = request.into_parts();
    let refuse = |status: u16, text: String| {
        Response::builder()
            .status(status)
            .header("x-fault", text)
            .body(Empty::new().map_err(|never| match never {}).boxed())
            .unwrap()
    };
    let body = RequestBody::new(incoming, &head.headers, meter, body_idle, clock);
    let target = head.uri.path_and_query().unwrap().as_str();
    if let Err(fault) = fields::check_request(&head.headers, target, outfit.rules()) {
        return refuse(400, fault.to_string());
    }
    let call = Outbound {
        outfit,
        method: &head.method,
        headers: &head.headers,
        path: head.uri.path(),
        query: head.uri.query(),
        authority: "gate.example",
        peer: peer.ip(),
        trust: Trust::Agent,
        session,
        clock,
    };
    let again = Again::of(call.method, &body, GrantUse::OnUse);
    match exchange(call, body, again).await {
        Ok(response) => response.map(BodyExt::boxed),
        Err(fault) => refuse(if matches!(fault, SendFault::Timeout(_)) { 504 } else { 502 }, format!("{fault:?}")),
    }
}

/// One raw connection, either end.
struct Wire(TcpStream, Vec<u8>);

impl Wire {
    async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream, Vec::new())
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything up to and with `mark`.
    async fn until(&mut self, mark: &str) -> String {
        let found = timeout(SOON, async {
            loop {
                if let Some(at) = self.1.windows(mark.len()).position(|window| window == mark.as_bytes()) {
                    let rest = self.1.split_off(at + mark.len());
                    return String::from_utf8(std::mem::replace(&mut self.1, rest)).unwrap();
                }
                let read = self.0.read_buf(&mut self.1).await.unwrap();
                assert_ne!(read, 0, "closed before {mark:?}, after {:?}", String::from_utf8_lossy(&self.1));
            }
        });
        found.await.unwrap_or_else(|_| panic!("waiting for {mark:?}, have {:?}", String::from_utf8_lossy(&self.1)))
    }

    async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Everything up to the other side's close, however it closes.
    async fn rest(&mut self) -> String {
        timeout(SOON, async {
            while let Ok(1..) = self.0.read_buf(&mut self.1).await {}
        })
        .await
        .expect("the other side closes");
        String::from_utf8_lossy(&std::mem::take(&mut self.1)).into_owned()
    }

    /// Closes with a reset instead of a FIN.
    fn reset(self) {
        #[allow(deprecated, reason = "a zero linger is what makes a reset")]
        self.0.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A backend that treats its n-th connection (from 0) as `act` says.
async fn backend<F>(act: impl Fn(usize, Wire) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for n in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(act(n, Wire(stream, Vec::new())));
        }
    });
    address
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A backend that answers every request, which has no body, with `answer`, and keeps its connections.
async fn fixed(answer: &'static str) -> SocketAddr {
    backend(move |_, mut wire| async move {
        loop {
            wire.head().await;
            wire.send(answer).await;
        }
    })
    .await
}

/// What a backend saw of one request, and the answer's head.
async fn seen(tool: impl FnOnce(&mut Tool), request: &str) -> (String, String) {
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
    let mut described = super::tests::tool(address);
    tool(&mut described);
    let gate = Gate::with(described, SOON).await;
    let mut agent = gate.agent().await;
    agent.send(request).await;
    let answer = agent.head().await;
    (heard.await.unwrap(), answer)
}

#[tokio::test]
async fn the_backend_sees_the_canonical_request_with_its_own_credential_and_nothing_of_the_session() {
    let (head, _) = seen(
        |tool| {
            tool.upstream.base_path = "/v2".into();
            tool.upstream.credential = Some(Credential {
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
    let request = "GET / HTTP/1.1\r\nHost: g\r\nToolgate-Session: tgs_x\r\nAuthorization: Basic abc\r\n\r\n";
    let (head, _) = seen(|tool| tool.session_header = SessionHeader::ToolgateSession, request).await;
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
async fn a_connection_is_used_again_once_its_answer_was_read_to_the_end() {
    let address = backend(|n, mut wire| async move {
        loop {
            wire.head().await;
            wire.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{n}")).await;
        }
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    for _ in 0..3 {
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        agent.head().await;
        agent.until("0").await;
    }
}

/// First connection: one good answer, then closed at the second request without a byte.
async fn closes_kept_connections() -> (SocketAddr, Arc<AtomicU64>) {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = requests.clone();
    let address = backend(move |_, mut wire| {
        let counted = counted.clone();
        async move {
            wire.head().await;
            counted.fetch_add(1, Ordering::Relaxed);
            wire.send(OK).await;
            wire.head().await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    (address, requests)
}

#[tokio::test]
async fn a_get_is_sent_once_more_when_a_kept_connection_closed_without_an_answer() {
    let (address, requests) = closes_kept_connections().await;
    let mut agent = Gate::before(address).await.agent().await;
    for _ in 0..2 {
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert!(agent.until("ok").await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(requests.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let (address, requests) = closes_kept_connections().await;
    let mut agent = Gate::before(address).await.agent().await;
    agent.send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 0\r\n\r\n").await;
    agent.until("ok").await;
    agent.send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 0\r\n\r\n").await;
    let answer = agent.head().await;
    assert!(answer.contains("x-fault: Failed(Exchange("), "{answer}");
    assert_eq!(requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_get_on_a_fresh_connection_that_closes_is_not_sent_again() {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = requests.clone();
    let address = backend(move |_, mut wire| {
        let counted = counted.clone();
        async move {
            wire.head().await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert!(agent.head().await.contains("x-fault: Failed(Exchange(Closed))"));
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_backend_that_closed_its_idle_connection_is_dialled_anew_even_for_a_post() {
    let address = backend(|_, mut wire| async move {
        wire.head().await;
        wire.send(OK).await;
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = gate.agent().await;
    for _ in 0..20 {
        agent.send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 0\r\n\r\n").await;
        assert!(agent.until("ok").await.starts_with("HTTP/1.1 200"));
        // The FIN is on its way; the agent's next request takes at least as long.
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_never_become_the_next_ones() {
    let address = backend(|n, mut wire| async move {
        wire.head().await;
        wire.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{n}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")).await;
        wire.rest().await;
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    for n in 0..3 {
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        agent.head().await;
        agent.until(&n.to_string()).await;
    }
}

#[tokio::test]
async fn answers_that_two_readers_could_frame_differently_and_nonsense_are_refused() {
    for (answer, fault) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "Failed(Framing)"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "Failed(Framing)"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nabc", "Failed(Framing)"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "Failed(Exchange(Malformed))"),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "Failed(Exchange(Malformed))"),
        ("HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n", "Failed(Exchange(Malformed))"),
        ("HTTP/1.1 200 OK\r\nx : a\r\n\r\n", "Failed(Exchange(Malformed))"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "Failed(Exchange(Malformed))"),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", "Failed(Upgrade)"),
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
        assert!(head.contains(&format!("x-fault: {fault}\r\n")), "{answer:?} gave {head}");
    }
}

#[tokio::test]
async fn refused_reset_and_slow_backends_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let resets = backend(|_, mut wire| async move {
        wire.head().await;
        wire.reset();
    })
    .await;
    let stalls = backend(|_, mut wire| async move {
        wire.head().await;
        wire.rest().await;
    })
    .await;
    for (address, fault) in [
        (nobody, "Failed(Dial(Unreachable))"),
        (resets, "Failed(Exchange(Broke))"),
        (stalls, "Timeout(Answer)"),
    ] {
        let mut tool = tool(address);
        tool.upstream.timeout = Duration::from_millis(100);
        let mut agent = Gate::with(tool, SOON).await.agent().await;
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let head = agent.head().await;
        assert!(head.contains(&format!("x-fault: {fault}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn an_open_stream_is_cut_within_a_second_of_its_sessions_end_and_the_backend_sees_it() {
    let (closed, seen) = tokio::sync::mpsc::channel(1);
    let address = backend(move |_, mut wire| {
        let closed = closed.clone();
        async move {
            wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n").await;
            wire.rest().await;
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = gate.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    agent.until("data: 1\n\n").await;
    gate.end_session();
    let mut seen = seen;
    timeout(Duration::from_secs(1), seen.recv()).await.expect("within a second");
    let rest = timeout(Duration::from_secs(1), agent.rest()).await.expect("the agent is cut as well");
    assert!(!rest.contains("0\r\n\r\n"), "cut, not ended: {rest:?}");
}

#[tokio::test]
async fn a_call_that_waits_for_its_answer_is_cut_when_its_session_ends() {
    let address = backend(|_, mut wire| async move {
        wire.head().await;
        wire.rest().await;
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = gate.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.end_session();
    let head = timeout(Duration::from_secs(1), agent.head()).await.unwrap();
    assert!(head.contains("x-fault: SessionEnded"), "{head}");
}

#[tokio::test]
async fn an_event_arrives_before_the_next_is_sent() {
    let (go, wait) = tokio::sync::mpsc::channel::<()>(1);
    let wait = Arc::new(tokio::sync::Mutex::new(wait));
    let address = backend(move |_, mut wire| {
        let wait = wait.clone();
        async move {
            wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for n in 0..3 {
                let event = format!("data: {n}\n\n");
                wire.send(&format!("{:x}\r\n{event}\r\n", event.len())).await;
                wait.lock().await.recv().await.unwrap();
            }
            wire.send("0\r\n\r\n").await;
            wire.rest().await;
        }
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    for n in 0..3 {
        agent.until(&format!("data: {n}\n\n")).await;
        go.send(()).await.unwrap();
    }
    agent.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn an_agent_that_leaves_cancels_the_call_at_the_backend_before_and_during_the_answer() {
    for begun in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"] {
        let (closed, mut seen) = tokio::sync::mpsc::channel(4);
        let address = backend(move |_, mut wire| {
            let closed = closed.clone();
            async move {
                wire.head().await;
                closed.send("asked").await.unwrap();
                wire.send(begun).await;
                wire.rest().await;
                closed.send("closed").await.unwrap();
            }
        })
        .await;
        let gate = Gate::before(address).await;
        let mut agent = gate.agent().await;
        agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!(seen.recv().await, Some("asked"));
        if !begun.is_empty() {
            agent.until("half").await;
        }
        drop(agent);
        assert_eq!(timeout(SOON, seen.recv()).await.unwrap(), Some("closed"));
    }
}

#[tokio::test]
async fn an_early_refusal_reaches_an_agent_that_still_uploads() {
    let address = backend(|_, mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\n\r\nless").await;
        // Closed with most of the upload unread: a reset.
    })
    .await;
    let gate = Gate::before(address).await;
    for _ in 0..10 {
        let agent = gate.agent().await;
        let (read, mut write) = agent.0.into_split();
        let upload = tokio::spawn(async move {
            write.write_all(b"POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 700000\r\n\r\n").await.unwrap();
            for _ in 0..70 {
                let _ = write.write_all(&[b'x'; 10_000]).await;
            }
            write
        });
        let mut read = read;
        let mut answer = Vec::new();
        timeout(SOON, async {
            while !answer.ends_with(b"less") {
                assert_ne!(read.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
            }
        })
        .await
        .unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 413"));
        upload.await.unwrap();
    }
}

#[tokio::test]
async fn an_agent_that_fails_within_its_body_fails_the_call_and_closes_the_backend() {
    let (closed, mut seen) = tokio::sync::mpsc::channel(4);
    let address = backend(move |_, mut wire| {
        let closed = closed.clone();
        async move {
            wire.head().await;
            wire.until("half").await;
            closed.send("half").await.unwrap();
            wire.rest().await;
            closed.send("closed").await.unwrap();
        }
    })
    .await;
    let gate = Gate::with(tool(address), Duration::from_millis(100)).await;
    // Malformed.
    let mut agent = gate.agent().await;
    agent.send("POST / HTTP/1.1\r\nHost: g\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n").await;
    let answer = agent.head().await;
    assert!(answer.contains("AgentFailed(Broken)"), "{answer}");
    assert_eq!((seen.recv().await, seen.recv().await), (Some("half"), Some("closed")));
    // Idle.
    let mut agent = gate.agent().await;
    agent.send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 8\r\n\r\nhalf").await;
    let answer = agent.head().await;
    assert!(answer.contains("AgentFailed(Idle)"), "{answer}");
    assert_eq!((seen.recv().await, seen.recv().await), (Some("half"), Some("closed")));
    // Gone.
    let mut agent = gate.agent().await;
    agent.send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 8\r\n\r\nhalf").await;
    assert_eq!(seen.recv().await, Some("half"));
    drop(agent);
    assert_eq!(timeout(SOON, seen.recv()).await.unwrap(), Some("closed"));
}

#[tokio::test]
async fn the_answers_deadline_stands_still_while_the_agent_is_waited_for() {
    let address = backend(|_, mut wire| async move {
        wire.until("last").await;
        wire.send(OK).await;
        wire.rest().await;
    })
    .await;
    let mut tool = tool(address);
    tool.upstream.timeout = Duration::from_millis(200);
    let mut agent = Gate::with(tool, SOON).await.agent().await;
    agent.send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 9\r\n\r\nfirst").await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    agent.send("last").await;
    assert!(agent.head().await.starts_with("HTTP/1.1 200"));
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
        agent.send(&format!("{method} / HTTP/1.1\r\nHost: g\r\n\r\n")).await;
        let answer = agent.head().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {line}")), "{answer}");
        let said = answer.lines().find_map(|line| line.strip_prefix("content-length: "));
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
    agent.send("POST / HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
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
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("all of it"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_passed_as_whole() {
    let address = backend(|_, mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    })
    .await;
    let mut agent = Gate::before(address).await.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let answer = agent.rest().await;
    assert!(answer.contains("half") && !answer.contains("0\r\n\r\n"), "{answer}");
}

/// How much a writer gets rid of while nobody reads at the far end.
async fn pressed_in(mut stream: TcpStream) -> usize {
    let chunk = [b'x'; 65536];
    let mut written = 0;
    while let Ok(wrote) = timeout(Duration::from_millis(500), stream.write(&chunk)).await {
        written += wrote.unwrap();
        assert!(written < 64 << 20, "no back-pressure after {written} bytes");
    }
    std::mem::forget(stream);
    written
}

#[tokio::test]
async fn a_side_that_does_not_read_holds_the_other_back() {
    let (tell, mut heard) = tokio::sync::mpsc::channel(1);
    let address = backend(move |_, mut wire| {
        let tell = tell.clone();
        async move {
            if wire.head().await.starts_with("POST") {
                std::future::pending::<()>().await;
            }
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await;
            tell.send(pressed_in(wire.0).await).await.unwrap();
        }
    })
    .await;
    let gate = Gate::before(address).await;
    let mut agent = gate.agent().await;
    agent.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    heard.recv().await.unwrap();

    let mut agent = gate.agent().await;
    agent.send("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: 1073741824\r\n\r\n").await;
    pressed_in(agent.0).await;
}

#[tokio::test]
async fn a_long_stream_passes_whole_in_both_directions() {
    const BYTES: usize = 24 << 20;
    let address = backend(|_, wire| async move {
        let mut wire = wire;
        wire.head().await;
        let (mut read, mut write) = wire.0.into_split();
        let mut got = wire.1.len();
        write.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes()).await.unwrap();
        // The answer goes on while the upload does: neither waits for the other.
        let mut buffer = vec![0; 1 << 16];
        while got < BYTES {
            let n = read.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0);
            write.write_all(&buffer[..n]).await.unwrap();
            got += n;
        }
        write.write_all(&vec![b'.'; wire.1.len()]).await.unwrap();
    })
    .await;
    let gate = Gate::before(address).await;
    let agent = gate.agent().await;
    let (mut read, mut write) = agent.0.into_split();
    let upload = tokio::spawn(async move {
        write.write_all(format!("POST / HTTP/1.1\r\nHost: g\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes()).await.unwrap();
        for _ in 0..BYTES / 65536 {
            write.write_all(&[b'x'; 65536]).await.unwrap();
        }
        write
    });
    let mut buffer = vec![0; 1 << 16];
    let mut got = 0;
    timeout(Duration::from_secs(30), async {
        while got < BYTES {
            let n = read.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "after {got} bytes");
            got += n;
        }
    })
    .await
    .unwrap();
    upload.await.unwrap();
    assert_eq!(gate.meter().bytes_in(), BYTES as u64);
    assert_eq!(gate.meter().bytes_out(), BYTES as u64);
}
