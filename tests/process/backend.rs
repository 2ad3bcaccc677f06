//! A tool's backend on a loopback socket, which does what the path says and counts what reached it.

use crate::client::Payload;
use bytes::Bytes;
use http::{Method, Request, Response, response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

/// A running backend; it ends with the test's runtime.
#[derive(Clone)]
pub struct Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    /// Requests by method and target.
    seen: Mutex<HashMap<String, u64>>,
    /// Numbers the answers, in `x-serial`.
    serial: AtomicU64,
    /// What `/held` waits for, one permit an answer.
    release: Semaphore,
    /// What the next `/events` streams.
    events: Mutex<Option<mpsc::Receiver<Bytes>>>,
}

impl Backend {
    /// Starts one that answers with `x-backend: NAME`.
    pub async fn start(name: &str) -> Self {
        Self::on(name, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// As [`Backend::start`], on a socket that is bound and did not listen until now.
    pub fn open(name: &str, socket: socket2::Socket) -> Self {
        socket.listen(1024).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self::on(name, TcpListener::from_std(socket.into()).unwrap())
    }

    fn on(name: &str, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            seen: Mutex::default(),
            serial: AtomicU64::new(0),
            release: Semaphore::new(0),
            events: Mutex::default(),
        });
        let backend = Self {
            address,
            shared: Arc::clone(&shared),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                drop(stream.set_nodelay(true));
                let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                // A connection that breaks is what some tests are about.
                tokio::spawn(async move {
                    drop(
                        http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    )
                });
            }
        });
        backend
    }

    /// How often `METHOD TARGET` arrived here.
    pub fn seen(&self, line: &str) -> u64 {
        self.shared
            .seen
            .lock()
            .unwrap()
            .get(line)
            .copied()
            .unwrap_or(0)
    }

    /// Everything that arrived, with how often.
    pub fn all_seen(&self) -> HashMap<String, u64> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many requests arrived.
    pub fn total(&self) -> u64 {
        self.shared.seen.lock().unwrap().values().sum()
    }

    /// Counts anew.
    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }

    /// Lets `count` requests to `/held` be answered.
    pub fn release(&self, count: usize) {
        self.shared.release.add_permits(count);
    }

    /// The far end of the next `GET /events`: what is sent here is streamed at once; dropping it ends the answer.
    pub fn events(&self) -> mpsc::Sender<Bytes> {
        let (sender, receiver) = mpsc::channel(1);
        *self.shared.events.lock().unwrap() = Some(receiver);
        sender
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> io::Result<Response<Payload>> {
    let target = request.uri().path_and_query().unwrap().to_string();
    let line = format!("{} {target}", request.method());
    *shared.seen.lock().unwrap().entry(line).or_default() += 1;
    let serial = shared.serial.fetch_add(1, Ordering::Relaxed);
    let reply = || {
        Response::builder()
            .header("x-backend", &shared.name)
            .header("x-serial", serial)
    };
    let reply = match request.uri().path() {
        "/big" => reply().body(Payload::Zeros(number(&target, "bytes="))),
        "/sink" => {
            let bytes = drain(request.into_body()).await?;
            reply().body(Payload::from(&json!({ "bytes": bytes })))
        }
        "/events" => {
            let feed = shared.events.lock().unwrap().take();
            let feed = feed.ok_or_else(|| io::Error::other("no events are prepared"))?;
            reply()
                .header("content-type", "text/event-stream")
                .body(Payload::Fed(feed))
        }
        "/held" => {
            shared.release.acquire().await.unwrap().forget();
            reply().body(Payload::from(&json!({ "released": true })))
        }
        mirror if mirror.starts_with("/mirror/") => {
            let body = request.into_body().collect().await;
            reply().body(body.map_err(io::Error::other)?.to_bytes().into())
        }
        "/stall" => std::future::pending().await,
        // A tenth of what it says it is.
        "/cut" => {
            let (sender, fed) = mpsc::channel(1);
            drop(sender.try_send(Bytes::from_static(&[b'x'; 100])));
            reply()
                .header("content-length", 1000)
                .body(Payload::Fed(fed))
        }
        "/broken" => return Err(io::Error::other("closes without an answer")),
        _ => return echo(&shared.name, reply(), request).await,
    };
    Ok(reply.unwrap())
}

/// Says what arrived.
async fn echo(
    name: &str,
    reply: response::Builder,
    request: Request<Incoming>,
) -> io::Result<Response<Payload>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let fields: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let said = json!({
        "backend": name,
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "fields": fields,
        "body": String::from_utf8_lossy(&body),
    });
    let reply = reply.header("content-type", "application/json");
    let payload = if head.method == Method::HEAD {
        Payload::from(())
    } else {
        Payload::from(&said)
    };
    Ok(reply.body(payload).unwrap())
}

async fn drain(mut body: Incoming) -> io::Result<u64> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame
            .map_err(io::Error::other)?
            .data_ref()
            .map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

/// The number after `key` in a target.
fn number(target: &str, key: &str) -> u64 {
    let (_, value) = target.split_once(key).unwrap();
    value.parse().unwrap()
}
