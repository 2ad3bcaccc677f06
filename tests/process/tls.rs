//! TLS on the gate's own listeners: sessions bound to certificates, renewed and broken files, many idle connections.

use crate::backend::Backend;
use crate::client::{Answer, Payload, read};
use crate::gate::{Gate, Minted, Setup, minted};
use crate::wait::{PATIENCE, until, within};
use http::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use toolgate::policy::certificate::Thumbprint;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A certificate and its key.
struct Own {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Own {
    fn thumbprint(&self) -> String {
        Thumbprint::of(&self.certificate).to_string()
    }
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issued(authority: &Authority, name: &str) -> Own {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap().der().clone();
    Own { certificate, key }
}

/// A configuration whose agents' and admin listeners speak TLS and ask for certificates, if there are any.
struct Scene {
    setup: Setup,
    backend: Backend,
    authority: Authority,
}

impl Scene {
    async fn new() -> Self {
        let backend = Backend::start("a").await;
        let setup = Setup::new(
            "demo",
            &format!(
                "version: 1
project: demo
agents: {{ bot: {{ scopes: {{ all: on_use }} }} }}
tools:
  echo:
    mount: /echo
    upstream: {{ url: 'http://{}' }}
    routes: [{{ id: all, match: 'GET /{{*rest}}', scope: all }}]
",
                backend.address
            ),
        );
        let scene = Self {
            setup,
            backend,
            authority: authority(),
        };
        std::fs::write(scene.path("ca.pem"), scene.authority.pem()).unwrap();
        scene.renew();
        let plain = "{ address: 127.0.0.1:0 }";
        // The test's folder is the gate's working directory.
        let tls = "{ address: 127.0.0.1:0, timeouts: { idle: 10m }, tls: { certificate: gate.pem, private_key: gate.key, client_ca: ca.pem, client_auth: optional } }";
        let config = std::fs::read_to_string(scene.setup.config()).unwrap();
        std::fs::write(scene.setup.config(), config.replacen(plain, tls, 2)).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.setup.config().with_file_name(name)
    }

    /// A new certificate and key for both listeners.
    fn renew(&self) -> CertificateDer<'static> {
        let own = issued(&self.authority, "localhost");
        for (name, text) in [
            ("gate.pem", pem(&own.certificate)),
            ("gate.key", own.key.serialize_pem()),
        ] {
            std::fs::write(self.path("next"), text).unwrap();
            std::fs::rename(self.path("next"), self.path(name)).unwrap();
        }
        own.certificate
    }

    fn client(&self, own: Option<&Own>, alpn: &[&[u8]]) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::try_from(own.key.serialize_der()).unwrap();
                builder
                    .with_client_auth_cert(vec![own.certificate.clone()], key)
                    .unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Client(TlsConnector::from(Arc::new(config)))
    }

    /// As the only principal there is, over TLS.
    async fn mint(&self, gate: &Gate, order: serde_json::Value) -> Minted {
        let key = self.setup.key("root");
        let client = self.client(None, &[]);
        let answer = client
            .call(gate.admin, key, Method::POST, "/v1/sessions", &order)
            .await;
        minted(&answer.expect(201))
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

struct Client(TlsConnector);

impl Client {
    async fn open(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        self.0.connect(name, stream).await
    }

    /// One HTTP/1.1 call on a connection of its own.
    async fn call(
        &self,
        address: SocketAddr,
        token: &str,
        method: Method,
        path: &str,
        body: impl Into<Payload>,
    ) -> Answer {
        let stream = self.open(address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(body.into());
        read(sender.send_request(request.unwrap()).await.unwrap())
            .await
            .unwrap()
    }

    async fn get(&self, address: SocketAddr, token: &str, path: &str) -> Answer {
        self.call(address, token, Method::GET, path, ()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_session_passes_on_connections_with_its_certificate_and_on_no_other() {
    let scene = Scene::new().await;
    let mut gate = scene.setup.start().await;
    let (own, other) = (
        issued(&scene.authority, "agent"),
        issued(&scene.authority, "agent"),
    );
    let clients = [Some(&own), Some(&other), None].map(|own| scene.client(own, &[]));
    let bind = json!({ "certificate": own.thumbprint() });
    let parent = scene
        .mint(
            &gate,
            json!({ "project": "demo", "agent": "bot", "bind": bind }),
        )
        .await;
    let child = scene
        .mint(
            &gate,
            json!({ "project": "demo", "agent": "bot", "parent": parent.id }),
        )
        .await;
    let free = scene
        .mint(&gate, json!({ "project": "demo", "agent": "bot" }))
        .await;
    // The second time after a restart: the bond is kept with the session.
    for _ in 0..2 {
        for path in ["/echo/x", "/.toolgate/session"] {
            for session in [&parent, &child] {
                clients[0]
                    .get(gate.agents, &session.token, path)
                    .await
                    .expect(200);
                for wrong in &clients[1..] {
                    let answer = wrong.get(gate.agents, &session.token, path).await;
                    let unknown = wrong.get(gate.agents, "tgs_nonsense", path).await;
                    let answer = answer.refused(401, "credential_invalid");
                    assert_eq!(
                        without_instance(&answer),
                        without_instance(&unknown.refused(401, "credential_invalid"))
                    );
                }
            }
            for client in &clients {
                client.get(gate.agents, &free.token, path).await.expect(200);
            }
        }
        gate.signal("TERM");
        gate.ended().await;
        gate = scene.setup.start().await;
    }
    let key = scene.setup.key("root");
    let path = format!("/v1/sessions/{}", child.id);
    let shown = clients[2].get(gate.admin, key, &path).await.expect(200);
    assert_eq!(shown.json()["bind"], bind);
}

/// What an answer says, but for the request's own id.
fn without_instance(answer: &Answer) -> serde_json::Value {
    let mut json = answer.json();
    json.as_object_mut().unwrap().remove("instance");
    json
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_mints_may_bind_to_the_certificate_it_comes_with() {
    let scene = Scene::new().await;
    let gate = scene.setup.start().await;
    let own = issued(&scene.authority, "orchestrator");
    let key = scene.setup.key("root");
    let mint = |bind: serde_json::Value| json!({ "project": "demo", "agent": "bot", "bind": bind });
    let with = scene.client(Some(&own), &[]);
    let answer = with
        .call(
            gate.admin,
            key,
            Method::POST,
            "/v1/sessions",
            &mint(json!("certificate")),
        )
        .await;
    let session = minted(&answer.expect(201));
    with.get(gate.agents, &session.token, "/echo/x")
        .await
        .expect(200);
    let without = scene.client(None, &[]);
    without
        .get(gate.agents, &session.token, "/echo/x")
        .await
        .refused(401, "credential_invalid");
    for wrong in [
        json!("certificate"),
        json!("token"),
        json!({}),
        json!([own.thumbprint()]),
        json!({ "certificate": "abc" }),
        json!({ "certificate": own.thumbprint(), "other": 1 }),
    ] {
        without
            .call(gate.admin, key, Method::POST, "/v1/sessions", &mint(wrong))
            .await
            .refused(400, "invalid_input");
    }
    let another = issued(&scene.authority, "agent").thumbprint();
    let mut child = mint(json!({ "certificate": another }));
    child["parent"] = json!(session.id);
    with.call(gate.admin, key, Method::POST, "/v1/sessions", &child)
        .await
        .refused(400, "invalid_input");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_over_tls_reaches_the_backend_with_the_authority_it_named() {
    let scene = Scene::new().await;
    let gate = scene.setup.start().await;
    let session = scene
        .mint(&gate, json!({ "project": "demo", "agent": "bot" }))
        .await;
    let stream = scene
        .client(None, &[b"h2"])
        .open(gate.agents)
        .await
        .unwrap();
    let io = TokioIo::new(stream);
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Payload>(TokioExecutor::new(), io)
            .await
            .unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let get = |fields: &[(&str, &str)]| {
        let mut request = Request::builder()
            .uri(format!("https://{}/echo/headers?a=b", gate.agents))
            .header("authorization", format!("Bearer {}", session.token));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut sender = sender.clone();
        async move {
            let answer = sender.send_request(request.body(().into()).unwrap()).await;
            read(answer.unwrap()).await.unwrap()
        }
    };
    let cookies = [("cookie", "a=1"), ("cookie", "b=2")];
    let answer = get(&cookies).await.expect(200);
    let said = answer.json();
    let field = |name: &str| -> Vec<&str> {
        let fields = said["fields"].as_array().unwrap().iter();
        let named = fields.filter(|field| field[0] == name);
        named.map(|field| field[1].as_str().unwrap()).collect()
    };
    assert_eq!(field("x-forwarded-proto"), ["https"]);
    assert_eq!(field("x-forwarded-host"), [gate.agents.to_string()]);
    assert_eq!(field("cookie"), ["a=1; b=2"]);
    get(&[("host", &gate.agents.to_string())]).await.expect(200);
    get(&[("host", "elsewhere.example")])
        .await
        .refused(400, "request_malformed");
    // Many at once on one connection.
    let many = (0..50).map(|_| get(&[]));
    for answer in futures_all(many).await {
        answer.expect(200);
    }
    let mut sender = sender.clone();
    let connect = Request::builder()
        .method(Method::CONNECT)
        .uri("elsewhere.example:443");
    let answer = sender
        .send_request(connect.body(().into()).unwrap())
        .await
        .unwrap();
    read(answer)
        .await
        .unwrap()
        .refused(501, "request_malformed");
    // The connection has survived all of it.
    get(&[]).await.expect(200);
}

/// All of them, at the same time.
async fn futures_all<T: Send + 'static>(
    all: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = all.map(tokio::spawn).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(within(PATIENCE, "a call", task).await.unwrap());
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificates_serve_new_handshakes_and_broken_ones_change_nothing() {
    let scene = Scene::new().await;
    let gate = scene.setup.start().await;
    let session = scene
        .mint(&gate, json!({ "project": "demo", "agent": "bot" }))
        .await;
    let client = scene.client(None, &[]);
    let shown = || async {
        let stream = client.open(gate.agents).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let rejections = || gate.metric("toolgate_policy_reloads_total", &["result=\"rejected\""]);
    let mut kept = client.open(gate.agents).await.unwrap();
    let request = format!(
        "GET /echo/x HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
        session.token
    );
    for _ in 0..10 {
        let renewed = scene.renew();
        until("the new certificate is shown", || async {
            (shown().await == renewed).then_some(())
        })
        .await;
        kept.write_all(request.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        kept.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        drain(&mut kept).await;
    }
    let before = shown().await;
    for (name, text) in [
        ("gate.key", KeyPair::generate().unwrap().serialize_pem()),
        ("gate.pem", "nothing of use".to_owned()),
    ] {
        let rejected = rejections().await;
        std::fs::write(scene.path(name), text).unwrap();
        until("the broken file is rejected", || async {
            (rejections().await > rejected).then_some(())
        })
        .await;
        assert_eq!(shown().await, before);
        client
            .get(gate.agents, &session.token, "/echo/x")
            .await
            .expect(200);
    }
    let renewed = scene.renew();
    until("the cure is taken up", || async {
        (shown().await == renewed).then_some(())
    })
    .await;
    // A listener that spoke TLS does not begin to speak plain text.
    let config = std::fs::read_to_string(scene.setup.config()).unwrap();
    let rejected = rejections().await;
    let plain = config.replacen(", tls: { certificate: gate.pem, private_key: gate.key, client_ca: ca.pem, client_auth: optional }", "", 1);
    assert_ne!(plain, config);
    std::fs::write(scene.setup.config(), plain).unwrap();
    until("the change is rejected", || async {
        (rejections().await > rejected).then_some(())
    })
    .await;
    assert_eq!(shown().await, renewed);
    assert!(scene.backend.total() >= 12);
}

/// Reads what is there of an answer that is short.
async fn drain(stream: &mut TlsStream<TcpStream>) {
    let mut text = Vec::new();
    loop {
        let mut byte = [0; 4096];
        let read = stream.read(&mut byte).await.unwrap();
        assert!(read > 0);
        text.extend_from_slice(&byte[..read]);
        let text = String::from_utf8_lossy(&text);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| body.len() >= length.parse().unwrap())
                || body.ends_with("0\r\n\r\n")
            {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_speaks_to_an_admin_api_over_tls_and_binds_sessions() {
    let scene = Scene::new().await;
    let gate = scene.setup.start().await;
    let own = issued(&scene.authority, "agent");
    std::fs::write(scene.path("agent.pem"), pem(&own.certificate)).unwrap();
    std::fs::write(scene.path("agent.key"), own.key.serialize_pem()).unwrap();
    std::fs::write(scene.path("other.pem"), authority().pem()).unwrap();
    let run = async |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_toolgate"));
        command
            .current_dir(scene.setup.config().parent().unwrap())
            .env("TOOLGATE_KEY", scene.setup.key("root"))
            .env(
                "TOOLGATE_ADMIN",
                format!("https://localhost:{}", gate.admin.port()),
            )
            .args(arguments);
        crate::wait::run(command).await
    };
    let mint = [
        "session",
        "mint",
        "--project",
        "demo",
        "--agent",
        "bot",
        "--quiet",
        "--bind-certificate",
        "agent.pem",
    ];
    let minted = run(&[
        &mint[..],
        &[
            "--ca",
            "ca.pem",
            "--certificate",
            "agent.pem",
            "--private-key",
            "agent.key",
        ],
    ]
    .concat())
    .await;
    assert!(minted.status.success(), "{minted:?}");
    let token = String::from_utf8(minted.stdout).unwrap();
    let (with, without) = (scene.client(Some(&own), &[]), scene.client(None, &[]));
    with.get(gate.agents, token.trim(), "/echo/x")
        .await
        .expect(200);
    without
        .get(gate.agents, token.trim(), "/echo/x")
        .await
        .refused(401, "credential_invalid");
    let listed = run(&["session", "list", "--json", "--ca", "ca.pem"]).await;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["bind"]["certificate"], own.thumbprint());
    let distrusted = run(&["session", "list", "--ca", "other.pem"]).await;
    assert_eq!(distrusted.status.code(), Some(69), "{distrusted:?}");
}

/// Idle connections, and those that warm the gate up beforehand.
const IDLE: usize = 10_000;
const WARM: usize = 200;
const KIB_EACH_MAX: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_tls_connections_take_no_more_than_40_kib_each() {
    let scene = Scene::new().await;
    let gate = scene.setup.start().await;
    let needed = (IDLE + WARM + 1000) as u64;
    if raise_descriptors(gate.id(), needed).min(raise_descriptors(std::process::id(), needed))
        < needed
    {
        println!("too few file descriptors for {needed} connections: nothing is measured");
        return;
    }
    let session = scene
        .mint(&gate, json!({ "project": "demo", "agent": "bot" }))
        .await;
    let client = Arc::new(scene.client(None, &[]));
    let call = format!(
        "GET /echo/x HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
        session.token
    );
    // Each has made a call: its buffers and keys are there.
    let open = |count: usize| {
        let (client, call, address) = (Arc::clone(&client), call.clone(), gate.agents);
        async move {
            let mut held = Vec::with_capacity(count);
            for _ in 0..count {
                let mut stream = client.open(address).await.unwrap();
                stream.write_all(call.as_bytes()).await.unwrap();
                drain(&mut stream).await;
                // The gate's end stays as it is; the test needs no more than the socket.
                held.push(stream.into_inner().0);
            }
            held
        }
    };
    let _warm = open(WARM).await;
    let before = gate.memory_kib("VmRSS");
    let mut held = Vec::new();
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(open(IDLE / 8))).collect();
    for task in tasks {
        held.extend(task.await.unwrap());
    }
    let grown = gate.memory_kib("VmRSS").saturating_sub(before);
    let each = grown as f64 / held.len() as f64;
    println!(
        "{} idle TLS connections: {grown} KiB resident, {each:.1} KiB each",
        held.len()
    );
    assert_eq!(held.len(), IDLE);
    assert!(each <= KIB_EACH_MAX as f64, "{each:.1} KiB each");
    client
        .get(gate.agents, &session.token, "/echo/x")
        .await
        .expect(200);
}

/// Raises the soft limit of a process as far as its hard limit goes; what it is then.
pub fn raise_descriptors(process: u32, needed: u64) -> u64 {
    let limit = || {
        let text = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("Max open files"))
            .unwrap();
        let numbers: Vec<u64> = line
            .split_whitespace()
            .skip(3)
            .take(2)
            .map(|word| word.parse().unwrap_or(u64::MAX))
            .collect();
        (numbers[0], numbers[1])
    };
    let (soft, hard) = limit();
    if soft < needed {
        let wanted = needed.min(hard);
        // Where there is no such program the limit stays, and the caller sees it.
        let _ = std::process::Command::new("prlimit")
            .args([
                format!("--pid={process}"),
                format!("--nofile={wanted}:{hard}"),
            ])
            .status();
    }
    limit().0
}
