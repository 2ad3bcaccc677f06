//! Real agents and backends on loopback sockets: backends that reset, stall, mis-frame, answer early and close early.

mod connections;
mod messages;
mod streams;
mod upgrades;
mod upgrades_http2;
mod versions;

use super::super::body::{Meter, Tempo};
use super::*;
use crate::gate::Channel;
use crate::io::clock::SystemClock;
use crate::policy::model::{Credential, Http2, Mount, Protocol, SessionHeader, Tool, Upstream};
use crate::policy::name::ToolName;
use crate::policy::time::Tick;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
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
    /// Of the last tunnel.
    ended: Arc<Mutex<Option<upgrade::Ended>>>,
    stopping: tokio::sync::watch::Sender<bool>,
    /// Of all its connections.
    line: Arc<Line>,
}

fn tool(backend: SocketAddr) -> Tool {
    Tool {
        name: ToolName::parse("crm").unwrap(),
        protocol: Protocol::Http,
        mount: Mount::Path("/crm".into()),
        upstream: Some(Upstream {
            authority: backend.to_string().into(),
            host: "crm.internal".into(),
            base_path: "".into(),
            timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(2),
            credential: None,
            tls: None,
            http2: Http2::Auto,
        }),
        oauth: None,
        preserve_host: false,
        session_header: SessionHeader::Authorization,
        allow_method_override: Box::default(),
        record_query: Box::default(),
        body_limit: 1 << 20,
        volatile_headers: Box::default(),
        mask_headers: Box::default(),
        pin: false,
    }
}

impl Gate {
    async fn before(backend: SocketAddr) -> Self {
        Self::with(tool(backend), Duration::from_secs(20)).await
    }

    async fn with(tool: Tool, body_idle: Duration) -> Self {
        Self::bounded(tool, body_idle, SOON * 10).await
    }

    async fn bounded(tool: Tool, body_idle: Duration, idle: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = Self {
            address: listener.local_addr().unwrap(),
            session: Arc::new(Switch(AtomicBool::new(true))),
            meter: Arc::default(),
            ended: Arc::default(),
            stopping: tokio::sync::watch::Sender::new(false),
            line: Arc::default(),
        };
        let tunnels = Tunnels {
            bounds: upgrade::Bounds {
                idle,
                stall: body_idle,
            },
            ended: gate.ended.clone(),
            stopping: gate.stopping.clone(),
            line: gate.line.clone(),
        };
        let outfit = Arc::new(Outfit::new(&tool, tool.upstream.as_ref().unwrap()).unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (session, last) = (gate.session.clone(), gate.meter.clone());
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (outfit, clock, session, last) =
                    (outfit.clone(), clock.clone(), session.clone(), last.clone());
                let tunnels = tunnels.clone();
                let service = service_fn(move |request| {
                    let (outfit, clock, session, last) =
                        (outfit.clone(), clock.clone(), session.clone(), last.clone());
                    let tunnels = tunnels.clone();
                    async move {
                        let meter = Arc::<Meter>::default();
                        *last.lock().unwrap() = meter.clone();
                        Ok::<_, std::convert::Infallible>(
                            relay(request, &outfit, session, &clock, peer, meter, tunnels).await,
                        )
                    }
                });
                tokio::spawn(async move {
                    let mut http =
                        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    http.http1().timer(TokioTimer::new());
                    http.http2().enable_connect_protocol();
                    let serving =
                        http.serve_connection_with_upgrades(TokioIo::new(stream), service);
                    drop(serving.await);
                });
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

    /// The end of the last tunnel, once it has one.
    async fn ended(&self) -> upgrade::Ended {
        timeout(SOON, async {
            loop {
                if let Some(ended) = self.ended.lock().unwrap().take() {
                    return ended;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the tunnel ends")
    }

    fn meter(&self) -> Arc<Meter> {
        self.meter.lock().unwrap().clone()
    }
}

/// How tunnels are driven.
#[derive(Clone)]
struct Tunnels {
    bounds: upgrade::Bounds,
    ended: Arc<Mutex<Option<upgrade::Ended>>>,
    stopping: tokio::sync::watch::Sender<bool>,
    line: Arc<Line>,
}

async fn relay(
    request: Request<Incoming>,
    outfit: &Outfit,
    session: Arc<Switch>,
    clock: &Arc<dyn Clock>,
    peer: SocketAddr,
    meter: Arc<Meter>,
    tunnels: Tunnels,
) -> Response<BoxBody<Bytes, StreamFault>> {
    let (mut head, incoming) = request.into_parts();
    upgrade::read_as_get(&mut head);
    let refuse = |status: u16, text: String| {
        Response::builder()
            .status(status)
            .header("x-fault", text)
            .body(Empty::new().map_err(|never| match never {}).boxed())
            .unwrap()
    };
    let tempo = Tempo {
        idle: tunnels.bounds.stall,
        bytes_per_second_min: 1,
    };
    let body = RequestBody::new(incoming, &head.headers, meter.clone(), tempo, clock);
    let target = head.uri.path_and_query().unwrap().as_str();
    if let Err(fault) = fields::check_request(&head.headers, target, outfit.rules()) {
        return refuse(400, fault.to_string());
    }
    let handshake = match Handshake::asked(&head, body.is_end_stream()) {
        Ok(handshake) => handshake,
        Err(fault) => return refuse(400, fault.to_string()),
    };
    let call = Outbound {
        outfit,
        method: &head.method,
        headers: &head.headers,
        path: head.uri.path(),
        query: head.uri.query(),
        authority: "gate.example",
        peer: peer.ip(),
        channel: Channel::Plain,
        trust: Trust::Agent,
        session,
        owner: crate::io::upstream::tests::OWNER,
        clock,
        trace: None,
        line: Some(&tunnels.line),
    };
    let answer = match handshake {
        Some(handshake) => upgrade::exchange(call, handshake, meter).await,
        None => exchange(call, body, Some(GrantUse::OnUse))
            .await
            .map(|answer| answer.map(Passage::Body)),
    };
    match answer {
        Ok(response) => response.map(|passage| match passage {
            Passage::Body(body) => body.boxed(),
            Passage::Tunnel(tunnel) => {
                let (ended, stopping) = (tunnels.ended, tunnels.stopping.subscribe());
                tokio::spawn(tunnel.run(tunnels.bounds, stopping, move |end| {
                    *ended.lock().unwrap() = Some(end);
                }));
                Empty::new().map_err(|never| match never {}).boxed()
            }
        }),
        Err(fault) => refuse(
            if matches!(fault, SendFault::Timeout(_)) {
                504
            } else {
                502
            },
            format!("{fault:?}"),
        ),
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
        self.send_bytes(text.as_bytes()).await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next bytes, exactly so many.
    async fn take(&mut self, bytes: usize) -> Vec<u8> {
        timeout(SOON, async {
            while self.1.len() < bytes {
                assert_ne!(self.0.read_buf(&mut self.1).await.unwrap(), 0, "closed");
            }
        })
        .await
        .expect("bytes that come");
        let rest = self.1.split_off(bytes);
        std::mem::replace(&mut self.1, rest)
    }

    /// Everything up to the other side's close, as bytes.
    async fn rest_bytes(&mut self) -> Vec<u8> {
        timeout(SOON, async {
            while let Ok(1..) = self.0.read_buf(&mut self.1).await {}
        })
        .await
        .expect("the other side closes");
        std::mem::take(&mut self.1)
    }

    /// Everything up to and with `mark`.
    async fn until(&mut self, mark: &str) -> String {
        let found = timeout(SOON, async {
            loop {
                if let Some(at) = self
                    .1
                    .windows(mark.len())
                    .position(|window| window == mark.as_bytes())
                {
                    let rest = self.1.split_off(at + mark.len());
                    return String::from_utf8(std::mem::replace(&mut self.1, rest)).unwrap();
                }
                let read = self.0.read_buf(&mut self.1).await.unwrap();
                assert_ne!(
                    read,
                    0,
                    "closed before {mark:?}, after {:?}",
                    String::from_utf8_lossy(&self.1)
                );
            }
        });
        found.await.unwrap_or_else(|_| {
            panic!(
                "waiting for {mark:?}, have {:?}",
                String::from_utf8_lossy(&self.1)
            )
        })
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
