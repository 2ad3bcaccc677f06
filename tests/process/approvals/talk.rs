//! A client that can be told everything about a request, byte for byte, and can leave in the middle of one.

use crate::client::{Answer, read};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// What agents call the gate by, wherever it is: it is part of what people agree to.
pub const HOST: &str = "gate.example";

/// A request that can be made again, and changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub method: Method,
    pub path: String,
    pub host: Option<String>,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Bytes,
}

impl Order {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            host: None,
            fields: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// To be called by the name of another host.
    pub fn to(mut self, host: impl ToString) -> Self {
        self.host = Some(host.to_string());
        self
    }

    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Not to be held: 202 at once.
    pub fn at_once(self) -> Self {
        self.with("prefer", "respond-async")
    }

    /// To be held for so many seconds at most.
    pub fn wait(self, seconds: u32) -> Self {
        self.with("prefer", format!("wait={seconds}"))
    }

    fn request(&self, token: &str) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.parse().unwrap();
        let headers = request.headers_mut();
        let host = self.host.as_deref().unwrap_or(HOST);
        headers.insert("host", HeaderValue::from_str(host).unwrap());
        for (name, value) in &self.fields {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        if !token.is_empty() {
            let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
            headers.append("authorization", bearer);
        }
        request
    }
}

/// An answer to come.
pub type Answering = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

/// A connection. Dropped, it is closed, whatever is under way on it.
pub struct Talk {
    sender: Sender,
    task: JoinHandle<()>,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Talk {
    pub async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        Ok(Self {
            sender: Sender::One(sender),
            task: tokio::spawn(async move { drop(connection.await) }),
        })
    }

    /// HTTP/2 by prior knowledge.
    pub async fn open_http2(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        Ok(Self {
            sender: Sender::Two(sender),
            task: tokio::spawn(async move { drop(connection.await) }),
        })
    }

    /// Makes the request as `token`'s, and reads the answer to its end.
    pub async fn send(&mut self, token: &str, order: &Order) -> Result<Answer, hyper::Error> {
        read(self.start(token, order).await?).await
    }

    /// Makes the request as `token`'s, and gives the answer as soon as its head is there.
    pub async fn start(
        &mut self,
        token: &str,
        order: &Order,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.begin(token, order).await?.await
    }

    /// Sends the request; the answer is awaited when wanted. Over HTTP/2, others may be made meanwhile.
    pub async fn begin(&mut self, token: &str, order: &Order) -> Result<Answering, hyper::Error> {
        let request = order.request(token);
        match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await?;
                Ok(Box::pin(sender.send_request(request)))
            }
            Sender::Two(sender) => {
                let mut request = request;
                let host = order.host.as_deref().unwrap_or(HOST);
                let uri = format!("http://{host}{}", order.path);
                *request.uri_mut() = uri.parse().unwrap();
                request.headers_mut().remove("host");
                sender.ready().await?;
                Ok(Box::pin(sender.send_request(request)))
            }
        }
    }
}

/// The request on a connection of its own.
pub async fn send(address: SocketAddr, token: &str, order: &Order) -> Answer {
    try_send(address, token, order)
        .await
        .unwrap_or_else(|fault| panic!("{} {}: {fault}", order.method, order.path))
}

/// As [`send`], where the gate may be dying.
pub async fn try_send(address: SocketAddr, token: &str, order: &Order) -> std::io::Result<Answer> {
    let mut talk = Talk::open(address).await?;
    talk.send(token, order).await.map_err(std::io::Error::other)
}

/// Bytes on a connection of their own; all that comes back until it is closed.
pub async fn raw(address: SocketAddr, request: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    crate::wait::within(crate::wait::PATIENCE, "an answer", reading)
        .await
        .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
