//! One POST on a connection of its own: what webhooks and traces are sent with. Beside the journey, and never in it.
//!
//! It refuses to follow redirects, to keep connections and to bound itself in time: who calls it has the deadline.

use crate::io::tls::client::{Connector, Offer};
use crate::ledger::record::TlsFault;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostFault {
    /// No connection.
    Unreachable,
    /// A connection, and no TLS on it.
    Tls(TlsFault),
    /// It broke off, or what came is not HTTP.
    Broken,
}

/// An answer's head; its body is still on the way.
pub(super) struct Answer {
    pub status: StatusCode,
    pub fields: HeaderMap,
    body: Incoming,
    connection: Connection,
}

type Connection = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// Sends `request` to `authority`, `host:port`; without `tls` in plain text.
pub(super) async fn post(
    authority: &str,
    tls: Option<&Connector>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, PostFault> {
    let stream = TcpStream::connect(authority)
        .await
        .map_err(|_| PostFault::Unreachable)?;
    match tls {
        None => exchange(stream, request).await,
        Some(tls) => {
            let stream = tls.connect(stream, Offer::Http1).await;
            exchange(stream.map_err(PostFault::Tls)?, request).await
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, PostFault> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|_| PostFault::Broken)?;
    // Driven here, beside its only request: there is nothing to spawn and nothing to leave behind.
    let mut connection: Connection = Box::pin(connection);
    let mut answering = pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut answering => answer,
        _ = &mut connection => answering.await,
    };
    let (head, body) = answer.map_err(|_| PostFault::Broken)?.into_parts();
    Ok(Answer {
        status: head.status,
        fields: head.headers,
        body,
        connection,
    })
}

impl Answer {
    /// The body, where it is whole within its bounds. Also so that the receiver is not cut off while it writes.
    pub async fn read(self) -> Option<Bytes> {
        let reading = timeout(
            READ_MAX,
            Limited::new(self.body, ANSWER_BYTES_MAX).collect(),
        );
        let mut reading = pin!(reading);
        let read = tokio::select! {
            read = &mut reading => read,
            _ = self.connection => reading.await,
        };
        Some(read.ok()?.ok()?.to_bytes())
    }
}

/// Most of an answer's body that is read, and for how long.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const READ_MAX: Duration = Duration::from_secs(1);
