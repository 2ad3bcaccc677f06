//! A plain HTTP/1.1 client, for what the real ones can't be asked to do.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// A body of a test: whole bytes, zeros by the gigabyte, or whatever a channel brings.
pub enum Payload {
    Whole(Full<Bytes>),
    Json(Full<Bytes>),
    Zeros(u64),
    Fed(tokio::sync::mpsc::Receiver<Bytes>),
}

/// What [`Payload::Zeros`] is cut from.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Payload::Whole(full) | Payload::Json(full) => Pin::new(full).poll_frame(context),
            Payload::Zeros(0) => Poll::Ready(None),
            Payload::Zeros(left) => {
                let part = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(ZEROS.len());
                *left -= part as u64;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS[..part])))))
            }
            Payload::Fed(feed) => feed
                .poll_recv(context)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Whole(full) | Payload::Json(full) => full.size_hint(),
            Payload::Zeros(left) => SizeHint::with_exact(*left),
            Payload::Fed(_) => SizeHint::default(),
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl From<()> for Payload {
    fn from((): ()) -> Self {
        Self::Whole(Full::default())
    }
}

impl From<&Value> for Payload {
    fn from(value: &Value) -> Self {
        Self::Json(Full::from(value.to_string()))
    }
}

/// An answer read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|fault| panic!("{fault}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The gate's own reason, if it is the gate that answers; a backend has none.
    pub fn reason(&self) -> Option<String> {
        (self.header("content-type") == Some("application/problem+json"))
            .then(|| self.json()["reason"].as_str().unwrap().to_owned())
    }

    /// Which backend answered.
    pub fn backend(&self) -> Option<&str> {
        self.header("x-backend")
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn refused(self, status: u16, reason: &str) -> Self {
        assert_eq!(
            (self.status.as_u16(), self.reason().as_deref()),
            (status, Some(reason)),
            "{self:?}"
        );
        self
    }
}

/// One kept connection.
pub struct Connection {
    sender: SendRequest<Payload>,
    host: String,
    bearer: Option<String>,
}

impl Connection {
    /// Connects; every call carries `token`.
    pub async fn open(address: SocketAddr, token: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(async move { drop(connection.await) });
        let bearer = (!token.is_empty()).then(|| format!("Bearer {token}"));
        Ok(Self {
            sender,
            host: address.to_string(),
            bearer,
        })
    }

    /// Sends a request and gives the answer as soon as its head is there.
    pub async fn start(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: Payload,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut request = Request::builder().method(method).uri(path);
        if !fields.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", &self.host);
        }
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        if matches!(body, Payload::Json(_)) {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.sender.ready().await?;
        self.sender.send_request(request.body(body).unwrap()).await
    }

    /// Sends a request and reads its answer whole.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Payload>,
    ) -> Result<Answer, hyper::Error> {
        read(self.start(method, path, &[], body.into()).await?).await
    }
}

/// Reads an answer to its end.
pub async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// One call on a connection of its own, which must succeed as a transport.
pub async fn call(
    address: SocketAddr,
    token: &str,
    method: Method,
    path: &str,
    body: impl Into<Payload>,
) -> Answer {
    try_call(address, token, method, path, body)
        .await
        .unwrap_or_else(|fault| panic!("{path} on {address}: {fault}"))
}

/// One call on a connection of its own; the gate may be dying.
pub async fn try_call(
    address: SocketAddr,
    token: &str,
    method: Method,
    path: &str,
    body: impl Into<Payload>,
) -> std::io::Result<Answer> {
    let mut connection = Connection::open(address, token).await?;
    connection
        .call(method, path, body)
        .await
        .map_err(std::io::Error::other)
}

/// `GET`.
pub async fn get(address: SocketAddr, token: &str, path: &str) -> Answer {
    call(address, token, Method::GET, path, ()).await
}
