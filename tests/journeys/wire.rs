//! An agent that writes its requests byte by byte, so that it can also write bad ones.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer as it stood on the wire, chunks joined.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Sends one request on a connection of its own and reads until it is closed.
pub async fn exchange(mut stream: TcpStream, request: &[u8], method: &str) -> Answer {
    stream
        .write_all(request)
        .await
        .expect("the request can be written");
    let mut bytes = Vec::new();
    // A reset after the answer is as good as its end.
    let _ = stream.read_to_end(&mut bytes).await;
    parse(&bytes, method)
}

fn parse(bytes: &[u8], method: &str) -> Answer {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let end = find(bytes, b"\r\n\r\n").unwrap_or_else(|| panic!("no head in {:?}", text(bytes)));
    let head = text(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .expect("a status line");
    let fields: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').expect("a field");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    let rest = &bytes[end + 4..];
    let chunked = fields
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = match (method, chunked) {
        ("HEAD", _) => {
            assert!(rest.is_empty(), "an answer to HEAD has no body");
            Vec::new()
        }
        (_, true) => join(rest),
        (_, false) => rest.to_vec(),
    };
    Answer {
        status: status.parse().expect("a status"),
        fields,
        body,
    }
}

fn join(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = find(bytes, b"\r\n").expect("a chunk's size");
        let size = std::str::from_utf8(&bytes[..end]).expect("ascii");
        let size = usize::from_str_radix(size.split(';').next().expect("a size"), 16).expect("hex");
        bytes = &bytes[end + 2..];
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&bytes[..size]);
        bytes = &bytes[size + 2..];
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
