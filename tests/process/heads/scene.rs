//! One gate before one raw backend, and talks of raw bytes with it.

use crate::gate::{Gate, Setup};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Longest talk of one case.
const TALK_MAX: Duration = Duration::from_secs(30);

pub struct Scene {
    pub gate: Gate,
    pub backend: Raw,
    pub token: String,
    /// Of a gate that is dropped only with the scene.
    _setup: Setup,
}

/// `more` is what the tool's upstream has beside its address.
pub async fn scene(more: &str) -> Scene {
    let backend = Raw::start().await;
    let mut routes = String::new();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let id = method.to_lowercase();
        routes.push_str(&format!(
            "      - {{ id: x.{id}, match: '{method} /x/{{x}}', scope: x, approval: never }}\n"
        ));
    }
    let yaml = format!(
        "version: 1
project: demo
agents:
  bot:
    scopes: {{ x: on_use, ws: on_use }}
tools:
  crm:
    mount: /crm
    upstream: {{ url: 'http://{}'{more} }}
    routes:
{routes}      - {{ id: ws, match: 'GET /ws/{{x}}', scope: ws, upgrade: websocket }}
",
        backend.address
    );
    let setup = Setup::new("demo", &yaml);
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    Scene {
        gate,
        backend,
        token,
        _setup: setup,
    }
}

impl Scene {
    /// The case's bytes: `{T}` is the token, `{H}` the gate's host and port, `{N}` the case's number.
    pub fn bytes(&self, text: &[u8], number: usize) -> Vec<u8> {
        let host = self.gate.agents.to_string();
        let number = number.to_string();
        let names: [(&[u8], &[u8]); 3] = [
            (b"{T}", self.token.as_bytes()),
            (b"{H}", host.as_bytes()),
            (b"{N}", number.as_bytes()),
        ];
        let mut bytes = Vec::with_capacity(text.len() + 128);
        let mut rest = text;
        while let Some(&first) = rest.first() {
            match names.iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, value)) => {
                    bytes.extend_from_slice(value);
                    rest = &rest[name.len()..];
                }
                None => {
                    bytes.push(first);
                    rest = &rest[1..];
                }
            }
        }
        bytes
    }

    /// Sends each piece in a write of its own, and reads until the gate closes. A connection that it does not close has an
    /// answer of status 0 behind all others.
    pub async fn talk(&self, pieces: &[Vec<u8>], what: &str) -> Vec<Told> {
        let mut stream = TcpStream::connect(self.gate.agents).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut from, mut to) = stream.split();
        let writing = async {
            for piece in pieces {
                // It may have answered and closed already.
                if to.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let mut answer = Vec::new();
        // A reset behind the answer is an end, too.
        let reading = async { drop(from.read_to_end(&mut answer).await) };
        let talk = async { tokio::join!(writing, reading) };
        let over = tokio::time::timeout(TALK_MAX, talk).await.is_ok();
        let mut all = told(&answer).unwrap_or_else(|| {
            panic!("{what}: no answers: {:?}", String::from_utf8_lossy(&answer))
        });
        if !over {
            all.push(Told {
                status: 0,
                head: String::new(),
                body: String::new(),
            });
        }
        all
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Told {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Told {
    /// The gate's own reason.
    pub fn reason(&self) -> Option<String> {
        let document: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        Some(document["reason"].as_str()?.to_owned())
    }
}

/// Answers in their order; the gate's are framed by a length or by the end of chunks. 1xx are passed over.
fn told(bytes: &[u8]) -> Option<Vec<Told>> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = find(rest, b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
        rest = &rest[end..];
        let status: u16 = head.strip_prefix("http/1.")?.get(2..5)?.parse().ok()?;
        if status / 100 == 1 && status != 101 {
            continue;
        }
        let length = head
            .split("content-length: ")
            .nth(1)
            .map(|it| it.split('\r').next().unwrap().parse::<usize>().unwrap());
        let length = match length {
            // The answer to HEAD says a length, and has none.
            Some(_) if rest.starts_with(b"HTTP/1.") => 0,
            Some(length) => length.min(rest.len()),
            None if head.contains("transfer-encoding: chunked") => find(rest, b"0\r\n\r\n")? + 5,
            None => 0,
        };
        let (body, behind) = rest.split_at(length);
        all.push(Told {
            status,
            head,
            body: String::from_utf8_lossy(body).into_owned(),
        });
        rest = behind;
    }
    Some(all)
}

pub fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// A backend that keeps what each connection brought, byte for byte, and answers each whole request with 200.
pub struct Raw {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Arc<Mutex<Line>>>>>,
    open: Arc<AtomicUsize>,
}

/// One connection.
#[derive(Default)]
struct Line {
    /// All that came.
    bytes: Vec<u8>,
    /// Where each whole request ended.
    ends: Vec<usize>,
    /// It was asked for a WebSocket, and waited before it agreed: how much had come by then.
    before_switch: Option<usize>,
    closed: bool,
}

/// The answer to the key of RFC 6455's own example.
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// How long a backend waits for what must not come.
const SILENCE: Duration = Duration::from_millis(200);

impl Raw {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::new(AtomicUsize::new(0));
        let lines = Arc::clone(&seen);
        let count = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let line = Arc::<Mutex<Line>>::default();
                lines.lock().unwrap().push(Arc::clone(&line));
                let count = Arc::clone(&count);
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    serve(stream, &line).await;
                    line.lock().unwrap().closed = true;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            seen,
            open,
        }
    }

    /// Connections that the gate has not closed.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The whole requests whose bytes hold `text`.
    pub fn whole(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for line in self.seen.lock().unwrap().iter() {
            let line = line.lock().unwrap();
            let mut from = 0;
            for &end in &line.ends {
                let request = String::from_utf8_lossy(&line.bytes[from..end]);
                if request.contains(text) {
                    found.push(request.into_owned());
                }
                from = end;
            }
        }
        found
    }

    /// Whether `text` stands in anything that came, whole or not.
    pub fn saw(&self, text: &str) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .any(|line| find(&line.lock().unwrap().bytes, text.as_bytes()).is_some())
    }

    /// Of the connection that brought `text`: all its bytes, how many had come when it switched, and whether it is closed.
    pub fn line(&self, text: &str) -> Option<(Vec<u8>, Option<usize>, bool)> {
        let seen = self.seen.lock().unwrap();
        let mut lines = seen.iter().map(|line| line.lock().unwrap());
        let line = lines.find(|line| find(&line.bytes, text.as_bytes()).is_some())?;
        Some((line.bytes.clone(), line.before_switch, line.closed))
    }

    /// All requests that came whole, as they stood on the wire.
    pub fn all(&self) -> Vec<String> {
        self.whole("")
    }
}

async fn serve(mut stream: TcpStream, line: &Mutex<Line>) {
    let mut from = 0;
    let mut buffer = [0; 16 * 1024];
    loop {
        while let Some(end) = whole(line, from) {
            line.lock().unwrap().ends.push(end);
            let is_switch = find(&line.lock().unwrap().bytes[from..end], b"/ws/yes").is_some();
            let began = from;
            from = end;
            if is_switch {
                if let Ok(Ok(read)) = tokio::time::timeout(SILENCE, stream.read(&mut buffer)).await
                {
                    line.lock()
                        .unwrap()
                        .bytes
                        .extend_from_slice(&buffer[..read]);
                }
                {
                    let mut line = line.lock().unwrap();
                    line.before_switch = Some(line.bytes.len());
                }
                if stream.write_all(SWITCH).await.is_err() {
                    return;
                }
                continue;
            }
            let is_head = line.lock().unwrap().bytes[began..].starts_with(b"HEAD ");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-from: backend\r\n\r\nok";
            let bytes = answer.len() - if is_head { 2 } else { 0 };
            if stream.write_all(&answer[..bytes]).await.is_err() {
                return;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => line
                .lock()
                .unwrap()
                .bytes
                .extend_from_slice(&buffer[..read]),
        }
    }
}

/// Where the request that begins at `from` ends, as a plain backend reads it.
fn whole(line: &Mutex<Line>, from: usize) -> Option<usize> {
    let line = line.lock().unwrap();
    let rest = &line.bytes[from..];
    let head_end = find(rest, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&rest[..head_end]).to_lowercase();
    if head.contains("\r\ntransfer-encoding: chunked\r\n") {
        let mut at = head_end;
        loop {
            let size_end = at + find(&rest[at..], b"\r\n")?;
            let size = std::str::from_utf8(&rest[at..size_end]).ok()?;
            let size = usize::from_str_radix(size, 16).ok()?;
            at = size_end + 2;
            if size == 0 {
                // Trailers, up to an empty line.
                loop {
                    let end = find(&rest[at..], b"\r\n")?;
                    at += end + 2;
                    if end == 0 {
                        return Some(from + at);
                    }
                }
            }
            at += size + 2;
            if at > rest.len() {
                return None;
            }
        }
    }
    let length = head.split("\r\ncontent-length: ").nth(1);
    let length = length.map_or(0, |it| it.split('\r').next().unwrap().parse().unwrap());
    (head_end + length <= rest.len()).then_some(from + head_end + length)
}
