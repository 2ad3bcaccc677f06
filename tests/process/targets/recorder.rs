//! A backend that reads as little as can be: it keeps the target of each request as its bytes are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Targets by the number of the case.
type Seen = HashMap<usize, Vec<Vec<u8>>>;

/// A running one; it ends with the test's runtime.
pub struct Recorder {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Recorder {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let all = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&all)));
            }
        });
        Self { address, seen }
    }

    /// What arrived since the last time this was asked.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        while let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            let head: Vec<u8> = bytes.drain(..end + 4).collect();
            let (case, target) = read(&head).expect("a request of this test");
            seen.lock().unwrap().entry(case).or_default().push(target);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\nplace=recorder.";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
        }
    }
}

/// The number of the case, and the target: all between the first space and the last of the first line.
fn read(head: &[u8]) -> Option<(usize, Vec<u8>)> {
    let line = &head[..head.windows(2).position(|it| it == b"\r\n")?];
    let from = line.iter().position(|byte| *byte == b' ')? + 1;
    let to = line.iter().rposition(|byte| *byte == b' ')?;
    let fields = String::from_utf8_lossy(head).to_ascii_lowercase();
    let (_, case) = fields.split_once("\r\nx-case: ")?;
    let case = case.split("\r\n").next()?.parse().ok()?;
    Some((case, line.get(from..to)?.to_vec()))
}
