//! A receiver that reads what arrives and answers as it is told.

use super::PATIENCE;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Listens until the test is over.
pub(in crate::io) struct Receiver {
    address: SocketAddr,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    script: Arc<Mutex<Script>>,
}

/// What is answered: the next of a list, and then always the same.
struct Script {
    next: VecDeque<Answer>,
    otherwise: Answer,
}

/// What arrived.
#[derive(Clone, Debug)]
pub(in crate::io) struct Arrival {
    pub line: String,
    pub fields: HashMap<String, String>,
    pub body: String,
}

#[derive(Clone, Debug)]
pub(in crate::io) enum Answer {
    Status(u16),
    Redirect(String),
    NotBefore(u64),
    /// 200, and a body that never ends.
    Endless,
    Stall,
    Close,
}

impl Receiver {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrivals) = mpsc::unbounded_channel();
        let script = Arc::new(Mutex::new(Script {
            next: VecDeque::new(),
            otherwise: Answer::Status(204),
        }));
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, script) = (sender.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    // A connection that breaks is what some tests are about.
                    drop(serve(stream, sender, &script).await);
                });
            }
        });
        Self {
            address,
            arrivals,
            script,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook?key=T0KEN", self.address)
    }

    pub fn answers(&self, next: &[Answer]) {
        self.script
            .lock()
            .unwrap()
            .next
            .extend(next.iter().cloned());
    }

    pub fn otherwise(&self, answer: Answer) {
        self.script.lock().unwrap().otherwise = answer;
    }

    pub async fn next(&mut self) -> Arrival {
        let arrival = tokio::time::timeout(PATIENCE, self.arrivals.recv()).await;
        arrival.expect("something arrives").expect("it listens")
    }

    /// Nothing has arrived that was not looked at.
    pub fn is_quiet(&self) -> bool {
        self.arrivals.is_empty()
    }
}

async fn serve(
    stream: TcpStream,
    arrivals: mpsc::UnboundedSender<Arrival>,
    script: &Mutex<Script>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let arrival = read(&mut stream).await?;
    let answer = {
        let mut script = script.lock().unwrap();
        let next = script.next.pop_front();
        next.unwrap_or_else(|| script.otherwise.clone())
    };
    drop(arrivals.send(arrival));
    let text = match &answer {
        Answer::Status(status) => format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n"),
        Answer::Redirect(to) => {
            format!("HTTP/1.1 307 x\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
        }
        Answer::NotBefore(seconds) => {
            format!("HTTP/1.1 429 x\r\nretry-after: {seconds}\r\ncontent-length: 0\r\n\r\n")
        }
        Answer::Endless => "HTTP/1.1 200 x\r\ncontent-type: text/plain\r\n\r\n".to_owned(),
        Answer::Stall => return std::future::pending().await,
        Answer::Close => return Ok(()),
    };
    stream.write_all(text.as_bytes()).await?;
    if matches!(answer, Answer::Endless) {
        loop {
            stream.write_all(&[b'x'; 4096]).await?;
        }
    }
    stream.shutdown().await
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Arrival> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut fields = HashMap::new();
    loop {
        let mut field = String::new();
        stream.read_line(&mut field).await?;
        let Some((name, value)) = field.trim_end().split_once(": ") else {
            break;
        };
        fields.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = fields
        .get("content-length")
        .map_or(0, |it| it.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Arrival {
        line: line.trim_end().to_owned(),
        fields,
        body: String::from_utf8(body).unwrap(),
    })
}

impl Arrival {
    pub fn field(&self, name: &str) -> &str {
        self.fields
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {self:?}"))
    }
}
