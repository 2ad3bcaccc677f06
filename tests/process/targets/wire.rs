//! Clients that put any bytes at all on the wire as a target, which no library lets anybody do.

use crate::wait::{PATIENCE, within};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What every call is sent to.
pub const HOST: &str = "gate.example";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    H1,
    /// By prior knowledge.
    H2,
}

/// What calls have in common.
#[derive(Clone)]
pub struct Call {
    pub gate: SocketAddr,
    pub token: String,
    pub version: Version,
}

/// Sends a GET for each target, some at once, and gives the bodies of the answers; nothing where the connection was
/// closed instead.
pub async fn send_all(call: &Call, targets: Arc<[Vec<u8>]>) -> Vec<Vec<u8>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (call, targets, next) = (call.clone(), Arc::clone(&targets), Arc::clone(&next));
        tasks.push(tokio::spawn(async move {
            let (mut talk, mut answers) = (None, Vec::new());
            loop {
                let case = next.fetch_add(1, Ordering::Relaxed);
                let Some(target) = targets.get(case) else {
                    return answers;
                };
                let answered = answer(&mut talk, &call, case, target);
                let body = within(PATIENCE, "a target is answered", answered).await;
                answers.push((case, body));
            }
        }));
    }
    let mut bodies = vec![Vec::new(); targets.len()];
    for task in tasks {
        for (case, body) in task.await.unwrap() {
            bodies[case] = body;
        }
    }
    bodies
}

/// One answer's body. A connection that ends meanwhile has refused the target, unless it was to end anyway: then the
/// call is made once more, on a fresh one.
async fn answer(talk: &mut Option<Talk>, call: &Call, case: usize, target: &[u8]) -> Vec<u8> {
    let kept = talk.is_some();
    for _ in 0..=usize::from(kept) {
        let mut open = match talk.take() {
            Some(open) => open,
            None => Talk::open(call).await.unwrap(),
        };
        let body = match call.version {
            Version::H1 => open.ask_h1(call, case, target).await,
            Version::H2 => open.ask_h2(call, case, target).await,
        };
        if let Ok((body, goes_on)) = body {
            *talk = goes_on.then_some(open);
            return body;
        }
    }
    Vec::new()
}

/// An open connection.
struct Talk {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// The next one of HTTP/2.
    stream_id: u32,
}

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

impl Talk {
    async fn open(call: &Call) -> io::Result<Self> {
        let stream = TcpStream::connect(call.gate).await?;
        stream.set_nodelay(true)?;
        let mut talk = Self {
            stream,
            bytes: Vec::new(),
            stream_id: 1,
        };
        if call.version == Version::H2 {
            let mut start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            start.extend(frame(SETTINGS, 0, 0, &[]));
            // Room for all answers of this connection.
            start.extend(frame(WINDOW_UPDATE, 0, 0, &0x7f00_0000_u32.to_be_bytes()));
            talk.stream.write_all(&start).await?;
        }
        Ok(talk)
    }

    /// More bytes of what comes in.
    async fn more(&mut self) -> io::Result<()> {
        let mut part = [0; 8192];
        match self.stream.read(&mut part).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.bytes.extend_from_slice(&part[..count]);
                Ok(())
            }
        }
    }

    /// The first `count` bytes of what comes in.
    async fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.bytes.len() < count {
            self.more().await?;
        }
        Ok(self.bytes.drain(..count).collect())
    }

    /// What comes in until `end`, and that.
    async fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            let found = self.bytes.windows(end.len()).position(|it| it == end);
            match found {
                Some(at) => return self.take(at + end.len()).await,
                None => self.more().await?,
            }
        }
    }

    async fn ask_h1(
        &mut self,
        call: &Call,
        case: usize,
        target: &[u8],
    ) -> io::Result<(Vec<u8>, bool)> {
        let mut request = b"GET ".to_vec();
        request.extend_from_slice(target);
        let token = &call.token;
        let fields = format!(
            " HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\nX-Case: {case}\r\n\r\n"
        );
        request.extend_from_slice(fields.as_bytes());
        self.stream.write_all(&request).await?;
        let head = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let field = |name: &str| {
            let (_, value) = head.split_once(&format!("\r\n{name}: "))?;
            value.split("\r\n").next()
        };
        let goes_on = field("connection") != Some("close");
        if field("transfer-encoding").is_some() {
            return Ok((self.until(b"\r\n0\r\n\r\n").await?, goes_on));
        }
        let length = field("content-length").map_or(0, |length| length.parse().unwrap());
        Ok((self.take(length).await?, goes_on))
    }

    async fn ask_h2(
        &mut self,
        call: &Call,
        case: usize,
        target: &[u8],
    ) -> io::Result<(Vec<u8>, bool)> {
        let id = self.stream_id;
        self.stream_id += 2;
        let fields = head(&call.token, case, target);
        // END_STREAM and END_HEADERS.
        self.stream
            .write_all(&frame(HEADERS, 0x5, id, &fields))
            .await?;
        let mut body = Vec::new();
        loop {
            let start = self.take(9).await?;
            let length = u32::from_be_bytes([0, start[0], start[1], start[2]]);
            let payload = self.take(length as usize).await?;
            let (kind, flags) = (start[3], start[4]);
            let of = u32::from_be_bytes([start[5], start[6], start[7], start[8]]) & 0x7fff_ffff;
            match kind {
                SETTINGS if flags & 1 == 0 => {
                    self.stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?;
                }
                PING if flags & 1 == 0 => {
                    self.stream.write_all(&frame(PING, 1, 0, &payload)).await?;
                }
                GOAWAY => return Err(io::ErrorKind::ConnectionAborted.into()),
                RST_STREAM if of == id => return Ok((Vec::new(), true)),
                DATA if of == id => body.extend_from_slice(&payload),
                _ => {}
            }
            if of == id && matches!(kind, DATA | HEADERS) && flags & 1 != 0 {
                return Ok((body, true));
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A block of header fields, all of them literals (RFC 7541, 6.2.2), or whole from the static table.
fn head(token: &str, case: usize, target: &[u8]) -> Vec<u8> {
    // `:method: GET` and `:scheme: http`.
    let mut block = vec![0x82, 0x86];
    let mut text = |start: &[u8], value: &[u8]| {
        block.extend_from_slice(start);
        length(&mut block, value.len());
        block.extend_from_slice(value);
    };
    // The names `:authority`, `:path` and `authorization` have a number.
    text(&[0x01], HOST.as_bytes());
    text(&[0x04], target);
    text(&[0x0f, 0x08], format!("Bearer {token}").as_bytes());
    text(
        &[0x00, 0x06, b'x', b'-', b'c', b'a', b's', b'e'],
        case.to_string().as_bytes(),
    );
    block
}

/// An integer of a seven-bit prefix (RFC 7541, 5.1); no Huffman code.
fn length(block: &mut Vec<u8>, length: usize) {
    if let Some(short) = u8::try_from(length).ok().filter(|short| *short < 127) {
        block.push(short);
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}
