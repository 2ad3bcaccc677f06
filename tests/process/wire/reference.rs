//! The reference backend: a loopback server of one side, which does what the path says and keeps what it saw.

use super::call::{CALL, Call, Calls, Seen};
use super::content::{Content, Intake, Received, fields, pattern};
use super::side::{End, Side};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Events of one stream, pieces of a slow body.
pub const PIECES: usize = 5;
/// Bytes of one piece of a slow body.
pub const PIECE: usize = 1000;
/// What of an upload the backend reads before it refuses the rest.
pub const TASTED: usize = 32 * 1024;

/// A running backend; it ends with the test's runtime.
#[derive(Clone)]
pub struct Reference {
    pub side: Side,
    pub address: SocketAddr,
    pub calls: Calls,
    tls: Arc<RwLock<Option<Arc<ServerConfig>>>>,
}

impl Reference {
    /// Starts one of `side`; `tls` is what it shows where the side is encrypted.
    pub async fn start(side: Side, tls: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self {
            side,
            address: listener.local_addr().unwrap(),
            calls: Calls::default(),
            tls: Arc::new(RwLock::new(tls.map(Arc::new))),
        };
        let own = backend.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream.set_nodelay(true));
                // A connection that breaks is what some cells are about.
                tokio::spawn(own.clone().serve(stream));
            }
        });
        backend
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.side.scheme(), self.address)
    }

    /// Shows another certificate to whoever connects from now on.
    pub fn show(&self, tls: ServerConfig) {
        *self.tls.write().unwrap() = Some(Arc::new(tls));
    }

    async fn serve(self, stream: TcpStream) {
        let tls = self.tls.read().unwrap().clone();
        let Some(tls) = tls else {
            return self.speak(stream, None).await;
        };
        if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
            let (_, session) = stream.get_ref();
            let certificate = session.peer_certificates().map(|chain| chain[0].to_vec());
            self.speak(stream, certificate).await;
        }
    }

    async fn speak<S>(self, stream: S, certificate: Option<Vec<u8>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = auto::Builder::new(TokioExecutor::new());
        let builder = match self.side.version(End::Backend) {
            Version::HTTP_2 => builder.http2_only(),
            _ => builder.http1_only(),
        };
        let service =
            service_fn(move |request| answer(self.calls.clone(), certificate.clone(), request));
        drop(
            builder
                .serve_connection(TokioIo::new(stream), service)
                .await,
        );
    }
}

/// No content, whose end comes behind the head over HTTP/2, as some servers send it.
fn nothing() -> Content {
    let (end, content) = Content::fed(None);
    tokio::spawn(async move {
        tokio::time::sleep(BREATH).await;
        drop(end);
    });
    content
}

const BREATH: Duration = Duration::from_millis(20);

async fn answer(
    calls: Calls,
    certificate: Option<Vec<u8>>,
    request: Request<Incoming>,
) -> io::Result<Response<Content>> {
    let (head, body) = request.into_parts();
    let name = head
        .headers
        .get(CALL)
        .map_or("", |name| name.to_str().unwrap());
    let call = calls.of(name);
    let authority = match head.uri.authority() {
        Some(authority) => authority.to_string(),
        None => said(&head.headers, header::HOST),
    };
    let mut headers = head.headers.clone();
    headers.remove(header::HOST);
    let seen = Seen {
        version: head.version,
        method: head.method.to_string(),
        authority,
        target: head.uri.path_and_query().unwrap().to_string(),
        fields: fields(&headers),
        certificate,
        body: None,
    };
    let mut response = reply(&head, body, &call, seen).await?;
    if head.method == Method::HEAD {
        let length = response.body().size_hint().exact().unwrap();
        *response.body_mut() = nothing();
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.into());
    }
    let headers = response.headers_mut();
    // Fixed, so that it can be compared.
    headers.insert(
        header::DATE,
        HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"),
    );
    headers.insert(header::SERVER, HeaderValue::from_static("reference"));
    Ok(response)
}

async fn reply(
    head: &http::request::Parts,
    body: Incoming,
    call: &Arc<Call>,
    mut seen: Seen,
) -> io::Result<Response<Content>> {
    if head.uri.path() == "/refuse" {
        taste(body).await?;
        call.note(seen);
        let answer = Response::builder().status(StatusCode::PAYLOAD_TOO_LARGE);
        return Ok(answer
            .header(header::RETRY_AFTER, "7")
            .body(Content::whole("this is more than enough"))
            .unwrap());
    }
    let (kept, received) = read(body, call).await?;
    seen.body = Some(received.clone());
    call.note(seen);
    let ok = Response::builder();
    let answer = match head.uri.path() {
        "/page" => page(&head.headers),
        "/echo" => ok
            .status(StatusCode::CREATED)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(Content::whole(kept)),
        "/sink" => {
            let said = json!({ "bytes": received.bytes, "sha256": received.sha256 });
            ok.header(header::CONTENT_TYPE, "application/json")
                .body(Content::whole(said.to_string()))
        }
        "/events" => ok
            .header(header::CONTENT_TYPE, "text/event-stream")
            .header(header::CACHE_CONTROL, "no-store")
            .body(events(Arc::clone(call))),
        "/trailers" => ok
            .header(header::TRAILER, "x-sum, x-count")
            .body(trailed(&received)),
        _ => ok.status(StatusCode::NOT_FOUND).body(Content::Empty),
    };
    Ok(answer.unwrap())
}

/// A page as servers have them: cookies, validators, a language, odd values; whole, in part, or unchanged.
fn page(asked: &HeaderMap) -> http::Result<Response<Content>> {
    let answer = Response::builder()
        .header(header::ETAG, "\"v1\"")
        .header(header::VARY, "accept-encoding")
        .header(header::VARY, "accept-language")
        .header(header::CACHE_CONTROL, "private, max-age=60");
    if said(asked, header::IF_NONE_MATCH) == "\"v1\"" {
        return answer.status(StatusCode::NOT_MODIFIED).body(nothing());
    }
    let answer = answer
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT")
        .header(header::SET_COOKIE, "a=1; Path=/; HttpOnly")
        .header(header::SET_COOKIE, "b=2; Path=/; Secure")
        .header(header::CONTENT_LANGUAGE, "de, en")
        .header("server-timing", "db;dur=53")
        .header("x-latin", HeaderValue::from_bytes(b"gr\xfc\xdfe").unwrap())
        .header("x-empty", "");
    let whole = pattern(7, PAGE);
    match said(asked, header::RANGE).as_str() {
        "bytes=100-299" => answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes 100-299/{PAGE}"))
            .body(Content::whole(whole.slice(100..300))),
        _ => answer
            // Coded or not is between the two ends; the bytes are theirs.
            .header(header::CONTENT_ENCODING, "x-noise")
            .body(Content::whole(whole)),
    }
}

const PAGE: usize = 5000;

/// Sends an event for each permit, and notes when nobody listens any longer.
fn events(call: Arc<Call>) -> Content {
    let (sender, content) = Content::fed(None);
    tokio::spawn(async move {
        for number in 0..PIECES {
            tokio::select! {
                permit = call.go.acquire() => permit.unwrap().forget(),
                () = sender.closed() => return call.left.notify_one(),
            }
            let event = Bytes::from(format!("id: {number}\nevent: tick\ndata: {number}\n\n"));
            if sender.send(Frame::data(event)).await.is_err() {
                return;
            }
        }
    });
    content
}

/// A body with trailers behind it.
fn trailed(received: &Received) -> Content {
    let (sender, content) = Content::fed(None);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", received.sha256.parse().unwrap());
    trailers.insert("x-count", received.bytes.to_string().parse().unwrap());
    tokio::spawn(async move {
        for number in 0..3 {
            drop(sender.send(Frame::data(pattern(number, 700))).await);
        }
        drop(sender.send(Frame::trailers(trailers)).await);
    });
    content
}

/// Reads the beginning of an upload, and not a byte of it is left in the socket.
async fn taste(mut body: Incoming) -> io::Result<()> {
    let mut bytes = 0;
    while bytes < TASTED {
        let frame = body
            .frame()
            .await
            .ok_or_else(|| io::Error::other("it ended"))?;
        bytes += frame
            .map_err(io::Error::other)?
            .data_ref()
            .map_or(0, Bytes::len);
    }
    Ok(())
}

/// Reads a body to its end and says of each piece that it came; small ones are kept.
async fn read(mut body: Incoming, call: &Call) -> io::Result<(Bytes, Received)> {
    let mut intake = Intake::new();
    let mut kept = Vec::new();
    let mut told = 0;
    while let Some(frame) = body.frame().await {
        let data = intake.take(frame.map_err(io::Error::other)?);
        if kept.len() + data.len() <= KEPT_BYTES_MAX {
            kept.extend_from_slice(&data);
        }
        let pieces = intake.bytes() / PIECE as u64;
        call.came.add_permits((pieces - told) as usize);
        told = pieces;
    }
    Ok((kept.into(), intake.end()))
}

const KEPT_BYTES_MAX: usize = 64 * 1024;

fn said(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers
        .get(name)
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default()
}
