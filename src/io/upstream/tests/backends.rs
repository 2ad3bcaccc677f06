//! Backends over TLS and HTTP/2 for tests, and the certificates that they and the gate show each other.

use crate::policy::certificate::{Certificates, Identity};
use crate::policy::model::{Http2, Upstream, UpstreamTls, Verify};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response, Version};
use rcgen::{BasicConstraints, CertificateParams, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

/// An authority of the test's own.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Self { issuer, der }
    }

    pub(crate) fn certificates(&self) -> Certificates {
        Certificates::new(vec![self.der.as_ref().into()]).unwrap()
    }

    /// A certificate for `name`, valid in the years `from..to`.
    pub(crate) fn issue_within(&self, name: &str, from: i32, to: i32) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = Certificates::new(vec![certificate.der().as_ref().into()]).unwrap();
        Identity::new(chain, Zeroizing::new(key.serialize_der()))
    }

    pub(crate) fn issue(&self, name: &str) -> Identity {
        self.issue_within(name, 2020, 4000)
    }
}

/// What a backend asks of its clients.
pub(crate) enum Clients<'a> {
    Anybody,
    CertifiedBy(&'a Ca),
}

pub(crate) fn server(own: &Identity, clients: &Clients<'_>, alpn: &[&str]) -> Arc<ServerConfig> {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Clients::Anybody => builder.with_no_client_auth(),
        Clients::CertifiedBy(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(ca.der.clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let chain = own
        .chain
        .ders()
        .map(|der| CertificateDer::from(der).into_owned());
    let key = PrivateKeyDer::try_from(own.reveal_key()).unwrap();
    let mut config = builder
        .with_single_cert(chain.collect(), key.clone_key())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A backend at `address`, trusted through `ca`.
pub(crate) fn upstream(address: SocketAddr, ca: Option<&Ca>, http2: Http2) -> Upstream {
    Upstream {
        authority: address.to_string().into(),
        host: address.to_string().into(),
        base_path: "".into(),
        timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(5),
        credential: None,
        tls: ca.map(|ca| {
            Arc::new(UpstreamTls {
                server_name: "127.0.0.1".into(),
                authorities: Some(ca.certificates()),
                identity: None,
                verify: Verify::Full,
            })
        }),
        http2,
    }
}

/// `upstream`, with its TLS changed.
pub(crate) fn with_tls(mut upstream: Upstream, change: impl FnOnce(&mut UpstreamTls)) -> Upstream {
    let mut tls = (**upstream.tls.as_ref().unwrap()).clone();
    change(&mut tls);
    upstream.tls = Some(Arc::new(tls));
    upstream
}

/// A backend that hands each of its connections, numbered from 0, to `act`: after TLS, where it has any.
pub(crate) async fn listen<F>(
    tls: Option<Arc<ServerConfig>>,
    act: impl Fn(usize, Box<dyn Io>) -> F + Send + Sync + 'static,
) -> Backend
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (counted, act) = (connections.clone(), Arc::new(act));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let n = counted.fetch_add(1, Ordering::Relaxed);
            stream.set_nodelay(true).unwrap();
            let (act, tls) = (act.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => act(n, Box::new(stream)).await,
                    Some(config) => {
                        // A client that refuses the certificate is what some tests are about.
                        if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                            act(n, Box::new(stream)).await;
                        }
                    }
                }
            });
        }
    });
    Backend {
        address,
        connections,
    }
}

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Where a backend listens, and how many connections it has accepted.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Backend {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A backend that speaks HTTP/2 and treats each call as `act` says.
pub(crate) async fn http2<F>(
    tls: Option<Arc<ServerConfig>>,
    builder: h2::server::Builder,
    act: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
) -> Backend
where
    F: Future<Output = ()> + Send + 'static,
{
    let act = Arc::new(act);
    listen(tls, move |_, io| {
        let (builder, act) = (builder.clone(), act.clone());
        async move {
            // One that leaves during the handshake is what some tests are about.
            let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(act(request, respond));
            }
        }
    })
    .await
}

/// A backend that answers every request, in whichever version it comes, with that version.
pub(crate) async fn either(tls: Option<Arc<ServerConfig>>) -> Backend {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    listen(tls, |_, io| async move {
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
            let version = match request.version() {
                Version::HTTP_2 => "2",
                _ => "1",
            };
            let body = http_body_util::Full::new(Bytes::from_static(version.as_bytes()));
            std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(body)))
        });
        let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(io), service)
            .await;
    })
    .await
}

/// HTTP/2 by hand: frames that no library would send.
pub(crate) struct Raw(Box<dyn Io>);

impl Raw {
    /// After both prefaces.
    pub(crate) async fn accept(mut io: Box<dyn Io>) -> Self {
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut raw = Self(io);
        raw.send(SETTINGS, 0, 0, &[]).await;
        raw
    }

    /// The number of the next request's stream; frames between are passed over.
    pub(crate) async fn request(&mut self) -> u32 {
        self.another().await.expect("a request")
    }

    /// The same; `None` where the other side closed.
    pub(crate) async fn another(&mut self) -> Option<u32> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            if head[3] == HEADERS {
                return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            }
            if head[3] == SETTINGS && head[4] == 0 {
                self.send(SETTINGS, ACK, 0, &[]).await;
            }
        }
    }

    /// `200` without a body.
    pub(crate) async fn answer(&mut self, stream: u32) {
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88])
            .await;
    }

    /// Says that nothing behind `last` was or will be looked at.
    pub(crate) async fn go_away(&mut self, last: u32) {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend([0; 4]);
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    pub(crate) async fn reset(&mut self, stream: u32, reason: h2::Reason) {
        let reason = u32::from(reason).to_be_bytes();
        self.send(RST_STREAM, 0, stream, &reason).await;
    }

    /// Everything up to the other side's close.
    pub(crate) async fn rest(mut self) {
        while self.0.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // A client that has left is what some tests are about.
        let _ = self.0.write_all(&frame).await;
    }
}

pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
