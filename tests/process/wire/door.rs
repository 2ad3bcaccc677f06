//! The reference client: one way to a server, the backend itself or the gate before it.

use super::content::Content;
use super::side::{End, Side};
use http::{HeaderValue, Method, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where to knock and how.
#[derive(Clone)]
pub struct Door {
    pub side: Side,
    /// Which of a side's versions is spoken there.
    pub end: End,
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
    /// Before every path.
    pub mount: &'static str,
    /// Sent as `Authorization: Bearer`.
    pub bearer: String,
}

/// An open connection.
pub struct Talk {
    sender: Sender,
    door: Door,
    /// The server's certificate, where there is one.
    pub certificate: Option<Vec<u8>>,
}

enum Sender {
    H1(http1::SendRequest<Content>),
    H2(http2::SendRequest<Content>),
}

impl Door {
    pub async fn open(&self) -> io::Result<Talk> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            let sender = self.shake_hands(stream).await?;
            return Ok(self.talk(sender, None));
        };
        let name = ServerName::from(self.address.ip());
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await?;
        let (_, session) = stream.get_ref();
        let alpn = self.side.alpn(self.end);
        if session.alpn_protocol() != Some(alpn[0].as_slice()) {
            let got = session
                .alpn_protocol()
                .map(|name| name.escape_ascii().to_string());
            return Err(io::Error::other(format!(
                "the server chose {got:?} in ALPN"
            )));
        }
        let certificate = session.peer_certificates().map(|chain| chain[0].to_vec());
        let sender = self.shake_hands(stream).await?;
        Ok(self.talk(sender, certificate))
    }

    fn talk(&self, sender: Sender, certificate: Option<Vec<u8>>) -> Talk {
        Talk {
            sender,
            door: self.clone(),
            certificate,
        }
    }

    async fn shake_hands<S>(&self, stream: S) -> io::Result<Sender>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        if self.side.version(self.end) == Version::HTTP_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
                .await
                .map_err(io::Error::other)?;
            tokio::spawn(async move { drop(connection.await) });
            Ok(Sender::H2(sender))
        } else {
            let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
            tokio::spawn(async move { drop(connection.await) });
            Ok(Sender::H1(sender))
        }
    }
}

impl Talk {
    pub fn version(&self) -> Version {
        self.door.side.version(self.door.end)
    }

    /// The same connection once more, for a call at the same time. HTTP/2 alone can do that.
    pub fn beside(&self) -> Self {
        let Sender::H2(sender) = &self.sender else {
            panic!("one call at a time over HTTP/1.1");
        };
        Self {
            sender: Sender::H2(sender.clone()),
            door: self.door.clone(),
            certificate: self.certificate.clone(),
        }
    }

    /// From now on another session speaks on this connection.
    pub fn speak_for(&mut self, bearer: &str) {
        bearer.clone_into(&mut self.door.bearer);
    }

    /// Sends a request and gives the answer as soon as its head is there.
    pub async fn start(
        &mut self,
        method: Method,
        target: &str,
        fields: &[(&'static str, &str)],
        body: Content,
    ) -> hyper::Result<Response<Incoming>> {
        let Door {
            mount,
            address,
            bearer,
            side,
            ..
        } = &self.door;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        for (name, value) in fields {
            request
                .headers_mut()
                .append(*name, HeaderValue::from_str(value).unwrap());
        }
        let bearer = HeaderValue::from_str(&format!("Bearer {bearer}")).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        let path = format!("{mount}{target}");
        match &mut self.sender {
            Sender::H1(sender) => {
                *request.uri_mut() = path.parse().unwrap();
                let host = HeaderValue::from_str(&address.to_string()).unwrap();
                request.headers_mut().insert(header::HOST, host);
                if request.headers().contains_key(header::TE) {
                    // RFC 9110 section 10.1.4; HTTP/2 has no such field.
                    request
                        .headers_mut()
                        .insert(header::CONNECTION, HeaderValue::from_static("te"));
                }
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::H2(sender) => {
                let uri = format!("{}://{address}{path}", side.scheme());
                *request.uri_mut() = uri.parse().unwrap();
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}
