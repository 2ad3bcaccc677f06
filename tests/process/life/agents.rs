//! Agents that call without a pause, over what the gate speaks, and count what came of it.

use crate::client::Payload;
use crate::gate::Setup;
use crate::wait::{PATIENCE, run, until, within};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// Agents under way.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub sums: Arc<Sums>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
pub struct Sums {
    pub answered: AtomicUsize,
    /// Kept connections that closed between two calls.
    reopened: AtomicUsize,
    /// Calls on a kept connection that closed under them, made again.
    retried: AtomicUsize,
    failed: AtomicUsize,
    /// In milliseconds, of one call, its connection included.
    slowest: AtomicU64,
}

/// One kind of agent.
#[derive(Clone)]
pub struct Agent {
    pub address: SocketAddr,
    pub token: String,
    pub wire: Wire,
    pub habit: Habit,
}

#[derive(Clone)]
pub enum Wire {
    Plain,
    /// Trusting an authority, HTTP/1.1.
    Tls1(TlsConnector),
    /// HTTP/2.
    Tls2(TlsConnector),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// One connection for as long as it lasts. As real clients do, a GET on a connection that was used before and closes
    /// without a byte of answer is made again, once, on a new one.
    Keep,
    /// A connection for each call, which is a POST and never made again.
    Connect,
}

enum Sender {
    One(http1::SendRequest<Payload>),
    Two(http2::SendRequest<Payload>),
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

impl Load {
    /// `count` plain agents that keep their connection, and as many that connect anew for each call.
    pub fn start(address: SocketAddr, token: &str, count: usize) -> Self {
        let agent = |habit| Agent {
            address,
            token: token.to_owned(),
            wire: Wire::Plain,
            habit,
        };
        let kinds = [agent(Habit::Keep), agent(Habit::Connect)];
        Self::of(kinds.iter().cycle().take(2 * count).cloned())
    }

    pub fn of(agents: impl Iterator<Item = Agent>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sums = Arc::new(Sums::default());
        let tasks = agents.map(|agent| {
            let (stop, sums) = (Arc::clone(&stop), Arc::clone(&sums));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    agent.work(&stop, &sums).await;
                }
            })
        });
        Self {
            tasks: tasks.collect(),
            stop,
            sums,
        }
    }

    /// Waits until so many more calls have been answered.
    pub async fn answers(&self, more: usize) {
        let goal = self.sums.answered.load(Ordering::Relaxed) + more;
        until("calls are answered", || async {
            (self.sums.answered.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    }

    /// Ends, and fails unless every call was answered.
    pub async fn end(self) -> Arc<Sums> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            within(PATIENCE, "an agent ends", task).await.unwrap();
        }
        eprintln!("{:?}", self.sums);
        let failed = self.sums.failed.load(Ordering::Relaxed);
        assert_eq!(failed, 0, "{:?}", self.sums);
        self.sums
    }
}

impl Sums {
    fn count(&self, made: Result<(), Fault>) {
        let sum = match &made {
            Ok(()) => &self.answered,
            Err(fault) => {
                eprintln!("failed: {fault:?}");
                &self.failed
            }
        };
        sum.fetch_add(1, Ordering::Relaxed);
    }
}

impl Agent {
    async fn work(&self, stop: &AtomicBool, sums: &Sums) {
        if self.habit == Habit::Connect {
            let begun = Instant::now();
            sums.count(self.once(Method::POST, "/t/make").await);
            let took = u64::try_from(begun.elapsed().as_millis()).unwrap();
            sums.slowest.fetch_max(took, Ordering::Relaxed);
            return;
        }
        let mut sender = match self.open().await {
            Ok(sender) => sender,
            Err(fault) => return sums.count(Err(fault)),
        };
        let mut used = false;
        while !stop.load(Ordering::Relaxed) {
            match self.call(&mut sender, Method::GET, "/t/items/1").await {
                Err(fault) if used => {
                    let unsent = fault
                        .downcast_ref::<hyper::Error>()
                        .is_some_and(|fault| fault.is_canceled() || fault.is_closed());
                    if !unsent {
                        eprintln!("made again: {fault:?}");
                        sums.retried.fetch_add(1, Ordering::Relaxed);
                    }
                    sums.reopened.fetch_add(1, Ordering::Relaxed);
                    return sums.count(self.once(Method::GET, "/t/items/1").await);
                }
                made => sums.count(made),
            }
            used = true;
        }
    }

    async fn once(&self, method: Method, path: &str) -> Result<(), Fault> {
        let mut sender = self.open().await?;
        self.call(&mut sender, method, path).await
    }

    async fn open(&self) -> Result<Sender, Fault> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        match &self.wire {
            Wire::Plain => one(stream).await,
            Wire::Tls1(tls) => one(tls.connect(name, stream).await?).await,
            Wire::Tls2(tls) => {
                let stream = TokioIo::new(tls.connect(name, stream).await?);
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(Sender::Two(sender))
            }
        }
    }

    async fn call(&self, sender: &mut Sender, method: Method, path: &str) -> Result<(), Fault> {
        let request = Request::builder()
            .method(method)
            .header("authorization", format!("Bearer {}", self.token));
        let response: Response<Incoming> = match sender {
            Sender::One(sender) => {
                sender.ready().await?;
                let request = request.uri(path).header("host", "localhost");
                sender.send_request(request.body(().into())?).await?
            }
            Sender::Two(sender) => {
                sender.ready().await?;
                let request = request.uri(format!("https://localhost{path}"));
                sender.send_request(request.body(().into())?).await?
            }
        };
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status == 200 {
            Ok(())
        } else {
            Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into())
        }
    }
}

async fn one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Sender, Fault> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(Sender::One(sender))
}

/// Has the agents' listener of a setup speak TLS, with certificates of `certs/dev.sh`; gives their folder.
pub async fn encrypt(setup: &Setup) -> PathBuf {
    let folder = setup.config().with_file_name("certs");
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/certs/dev.sh"));
    script.arg(&folder);
    let output = run(script).await;
    assert!(output.status.success(), "{output:?}");
    let tls = format!(
        "agents: {{ tls: {{ certificate: {0}/server.pem, private_key: {0}/server.key }}, ",
        folder.display()
    );
    setup.edit_server(|text| text.replacen("agents: { ", &tls, 1));
    folder
}

/// What agents connect with who trust that authority.
pub fn connector(folder: &Path, protocol: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(folder.join("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}
