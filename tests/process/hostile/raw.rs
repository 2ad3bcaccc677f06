//! A backend that says whatever it is told to, and what an agent got of it, byte by byte.

use crate::gate::{Gate, Setup};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// What a backend does with one request.
pub enum Act {
    /// Writes these, one after the other, and goes on reading.
    Say(Vec<Vec<u8>>),
    /// The same, and closes.
    SayAndClose(Vec<Vec<u8>>),
    /// The same, and resets.
    SayAndReset(Vec<Vec<u8>>),
    /// The same, and then again and again one byte, until nobody listens.
    SayAndTrickle(Vec<Vec<u8>>),
}

/// A backend of raw bytes; it ends with the test's runtime.
#[derive(Clone)]
pub struct Raw {
    pub address: SocketAddr,
    seen: Arc<Mutex<HashMap<usize, Vec<String>>>>,
}

impl Raw {
    /// `act` is told the head of each request and its body.
    pub async fn start(act: impl Fn(&str, &[u8]) -> Act + Send + Sync + 'static) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // A crowd may come at once.
        let listener = socket.listen(4096).unwrap();
        let backend = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let (seen, act) = (Arc::clone(&backend.seen), Arc::new(act));
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, act) = (Arc::clone(&seen), Arc::clone(&act));
                tokio::spawn(async move { drop(serve(stream, number, &seen, &*act).await) });
                number += 1;
            }
        });
        backend
    }

    /// The request lines of each connection, in order.
    pub fn seen(&self) -> Vec<Vec<String>> {
        self.seen.lock().unwrap().values().cloned().collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    number: usize,
    seen: &Mutex<HashMap<usize, Vec<String>>>,
    act: &(dyn Fn(&str, &[u8]) -> Act + Send + Sync),
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    loop {
        let Some((head, body)) = request(&mut stream, &mut read).await? else {
            return Ok(());
        };
        let line = head.lines().next().unwrap_or_default().to_owned();
        seen.lock().unwrap().entry(number).or_default().push(line);
        let (pieces, end) = match act(&head, &body) {
            Act::Say(pieces) => (pieces, None),
            Act::SayAndClose(pieces) => (pieces, Some(false)),
            Act::SayAndReset(pieces) => (pieces, Some(true)),
            Act::SayAndTrickle(pieces) => {
                say(&mut stream, pieces).await?;
                loop {
                    stream.write_all(b"x").await?;
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        };
        say(&mut stream, pieces).await?;
        match end {
            None => {}
            Some(false) => return stream.shutdown().await,
            Some(true) => {
                return socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
            }
        }
    }
}

async fn say(stream: &mut TcpStream, pieces: Vec<Vec<u8>>) -> std::io::Result<()> {
    for piece in pieces {
        stream.write_all(&piece).await?;
        // Others get their turn, so that pieces mostly arrive as such; nothing depends on it.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Head and body of the next request. Bodies have lengths here.
async fn request(
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = find(read, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length = field(&head, "content-length").map_or(0, |it| it.parse().unwrap());
            if read.len() >= end + 4 + length {
                let body = read[end + 4..end + 4 + length].to_vec();
                read.drain(..end + 4 + length);
                return Ok(Some((head, body)));
            }
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(None),
            some => read.extend_from_slice(&buffer[..some]),
        }
    }
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|it| it == what)
}

fn field(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

/// Everything that came until the gate closed.
pub struct Got(pub Vec<u8>);

impl Got {
    pub fn status(&self) -> u16 {
        let code = self
            .0
            .get(9..12)
            .and_then(|it| std::str::from_utf8(it).ok());
        code.and_then(|it| it.parse().ok()).unwrap_or(0)
    }

    /// The body, if it came to the end that the head says it has.
    pub fn whole(&self) -> Option<Vec<u8>> {
        let end = find(&self.0, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.0[..end]);
        let body = &self.0[end + 4..];
        if let Some(length) = field(&head, "content-length") {
            return (length == body.len().to_string()).then(|| body.to_vec());
        }
        field(&head, "transfer-encoding")?;
        unchunked(body)
    }
}

fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = find(body, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?, 16).ok()?;
        body = &body[end + 2..];
        if size == 0 {
            return body.ends_with(b"\r\n").then_some(whole);
        }
        whole.extend_from_slice(body.get(..size)?);
        body = body.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// One call on a connection of its own, until the gate closes it.
pub async fn ask(gate: &Gate, token: &str, method: &str, path: &str, body: &str) -> Got {
    let mut stream = TcpStream::connect(gate.agents).await.unwrap();
    let length = match body.len() {
        0 => String::new(),
        bytes => format!("Content-Length: {bytes}\r\n"),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n{length}Connection: close\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    // A reset is an end as well.
    drop(stream.read_to_end(&mut got).await);
    Got(got)
}

/// A gate with one thread, so that all calls share one pool, and a tool for each of `tools`: its name and where it is,
/// with what else its upstream says.
pub fn setup(tools: &[(&str, SocketAddr, &str)]) -> Setup {
    let mut yaml = String::from(
        "version: 1\nproject: demo\nagents: { bot: { scopes: { all: on_use } } }\ntools:\n",
    );
    for (name, address, more) in tools {
        // Who has the patience to connect has it for the answer.
        let timeout = if more.contains("60s") { "60s" } else { "5s" };
        write!(
            yaml,
            "  {name}:\n    mount: /{name}\n    upstream: {{ url: 'http://{address}', timeout: {timeout}{more} }}\n    routes:\n      - {{ id: {name}.all, match: ['GET /{{*rest}}', 'POST /{{*rest}}'], scope: all }}\n"
        )
        .unwrap();
    }
    let setup = Setup::new("demo", &yaml);
    setup.edit_server(|text| text.replace("workers: 2", "workers: 1"));
    setup
}

/// An answer as it should be.
pub fn good(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
