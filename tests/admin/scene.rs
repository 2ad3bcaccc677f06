//! A gate in a temporary folder, on free ports, and a client that hides nothing.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::net::TcpStream;
use toolgate::app::{App, Options, Running, StartError};
use toolgate::config::{self, Secrets};
use toolgate::policy::token::{Token, TokenKind};

/// Principals of every scene: name, roles, projects.
pub const PRINCIPALS: &[(&str, &str, &str)] = &[
    ("issuer", "issuer", "dev"),
    ("operator", "operator", "dev"),
    ("auditor", "auditor", "dev"),
    ("approver", "approver", "dev"),
    ("stranger", "issuer, operator, auditor", "prod"),
    ("root", "issuer, operator, auditor", "dev, prod"),
];
/// More of them where people are asked, and their groups.
const PEOPLE: &[(&str, &str, &str)] = &[
    ("dana", "approver", "dev"),
    ("erin", "approver", "dev"),
    ("clerk", "approver", "dev"),
    ("maker", "issuer, approver, operator", "dev"),
    ("foreign", "approver, operator", "prod"),
];
const GROUPS: &[(&str, &str)] = &[
    ("dana", "ops"),
    ("erin", "ops"),
    ("maker", "ops"),
    ("foreign", "ops"),
    ("clerk", "desk"),
];

pub struct Scene {
    pub folder: TempDir,
    pub running: Running,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

fn token(principal: &str) -> Token {
    let mut random = [0; 32];
    random[..principal.len()].copy_from_slice(principal.as_bytes());
    Token::mint(TokenKind::Principal, &random)
}

/// The key of a principal: made from its name, so that tests need not carry it.
pub fn key(principal: &str) -> String {
    token(principal).reveal().to_owned()
}

/// `dev`'s policy; `prod` has the same under its own name.
pub fn policy(project: &str) -> String {
    format!(
        "version: 1
project: {project}
agents:
  bot:
    session: {{ ttl: 15m, max_ttl: 1h }}
    scopes:
      items.read: on_use
      items.write: {{ grant: on_request, uses: 5, ttl: 10m, resources: ['item:*'] }}
tools:
  shop:
    mount: /shop
    upstream: {{ url: 'http://127.0.0.1:9' }}
    routes:
      - {{ id: items.read, match: 'GET /items/{{item}}', scope: items.read, resource: 'item:{{item}}' }}
      - {{ id: items.write, match: 'PUT /items/{{item}}', scope: items.write, resource: 'item:{{item}}' }}
limits:
  - {{ id: pace, per: session, rate: 600/1m, burst: 60 }}
  - {{ id: spend, per: session, cost: 5.00/1h }}
"
    )
}

/// The same, and people are asked: of `DELETE` one, of orders two, of the vault's grant one.
pub fn asking_policy(project: &str, upstream: &str) -> String {
    policy(project)
        .replace("http://127.0.0.1:9", upstream)
        .replace(
            "tools:\n",
            "      items.delete: on_use
      orders.create: on_use
      vault.open: { grant: on_approval, uses: 2, ttl: 5m }
approvals:
  default: { approvers: [ops], hold: 0s, expires: 1h }
  pair: { approvers: [ops], quorum: 2, hold: 0s, expires: 1h }
tools:\n",
        )
        .replace("    routes:\n", "    mask_headers: [x-secret]\n    routes:\n")
        .replace(
            "limits:\n",
            "      - { id: items.delete, match: 'DELETE /items/{item}', scope: items.delete, resource: 'item:{item}' }
      - { id: orders.create, match: 'POST /orders', scope: orders.create, approval: pair }
      - { id: vault.open, match: 'POST /vault', scope: vault.open }
limits:\n",
        )
}

impl Scene {
    pub fn start() -> Self {
        Self::start_with(PRINCIPALS, policy)
    }

    /// One where people are asked, with nobody behind the gate.
    pub fn asking() -> Self {
        Self::asking_before("http://127.0.0.1:9")
    }

    /// One where people are asked, before this backend.
    pub fn asking_before(upstream: &str) -> Self {
        Self::start_with(&Self::people(), |project| asking_policy(project, upstream))
    }

    /// One with people, on these policies.
    pub fn of(policy: impl Fn(&str) -> String) -> Self {
        Self::start_with(&Self::people(), policy)
    }

    pub fn start_with(principals: &[(&str, &str, &str)], policy: impl Fn(&str) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup(&folder);
        setup.write_server("127.0.0.1:0", principals);
        for project in ["dev", "prod"] {
            std::fs::write(setup.project(project), policy(project)).unwrap();
        }
        Self::start_in(folder)
    }

    /// The principals of a scene where people are asked.
    pub fn people() -> Vec<(&'static str, &'static str, &'static str)> {
        [PRINCIPALS, PEOPLE].concat()
    }

    /// On files that are there.
    pub fn start_in(folder: TempDir) -> Self {
        let running = Setup(&folder).start().unwrap();
        Self { folder, running }
    }

    /// A second gate beside this one.
    pub fn start_again(&self) -> Result<Running, StartError> {
        Setup(&self.folder).start()
    }

    /// Rewrites the server file with these principals, and agents at this address.
    pub fn write_server(&self, agents: &str, principals: &[(&str, &str, &str)]) {
        Setup(&self.folder).write_server(agents, principals);
    }

    pub fn principals() -> Vec<(&'static str, &'static str, &'static str)> {
        PRINCIPALS.to_vec()
    }

    pub fn project(&self, name: &str) -> PathBuf {
        Setup(&self.folder).project(name)
    }

    /// A call with a principal's key.
    pub async fn call(
        &self,
        principal: &str,
        method: Method,
        path: &str,
        body: impl ToString,
    ) -> Answer {
        let bearer = format!("Bearer {}", key(principal));
        self.raw(method, path, &[("authorization", &bearer)], body)
            .await
    }

    pub async fn get(&self, principal: &str, path: &str) -> Answer {
        self.call(principal, Method::GET, path, "").await
    }

    pub async fn post(&self, principal: &str, path: &str, body: &Value) -> Answer {
        self.call(principal, Method::POST, path, body).await
    }

    pub async fn delete(&self, principal: &str, path: &str) -> Answer {
        self.call(principal, Method::DELETE, path, "").await
    }

    /// A call to the admin listener with just these header fields, and `Host` if it is not among them.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: impl ToString,
    ) -> Answer {
        exchange(
            self.running.addresses.admin,
            method,
            path,
            fields,
            body.to_string(),
        )
        .await
    }

    /// What an agent with this token is answered.
    pub async fn agent(&self, token: &str, method: Method, path: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let fields = [("authorization", bearer.as_str())];
        exchange(
            self.running.addresses.agents,
            method,
            path,
            &fields,
            String::new(),
        )
        .await
    }

    /// The same with more header fields and a body.
    pub async fn agent_sends(
        &self,
        token: &str,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let fields = [&[("authorization", bearer.as_str())], fields].concat();
        exchange(self.running.addresses.agents, method, path, &fields, body).await
    }

    /// A call that a person is asked about; the approval's id.
    pub async fn held(&self, token: &str, method: Method, path: &str, body: &str) -> String {
        let fields = [("content-type", "application/json")];
        let answer = self
            .agent_sends(token, method, path, &fields, body.to_owned())
            .await
            .expect(202)
            .json();
        assert_eq!(answer["status"], "PENDING_APPROVAL", "{answer}");
        answer["approval"].as_str().unwrap().to_owned()
    }

    /// What the approver is shown.
    pub async fn shown(&self, id: &str) -> Value {
        let path = format!("/v1/approvals/{id}");
        self.get("dana", &path).await.expect(200).json()
    }

    /// A person's word on what is shown to them.
    pub async fn says(&self, principal: &str, id: &str, decision: &str) -> Answer {
        let digest = self.shown(id).await["digest"].clone();
        let word = json!({ "decision": decision, "digest": digest });
        let path = format!("/v1/approvals/{id}/decision");
        self.post(principal, &path, &word).await
    }

    pub async fn metrics(&self) -> String {
        let answer = exchange(
            self.running.addresses.metrics,
            Method::GET,
            "/metrics",
            &[],
            String::new(),
        )
        .await;
        String::from_utf8(answer.expect(200).body.to_vec()).unwrap()
    }

    /// A session of `dev`'s bot: id and token.
    pub async fn mint(&self) -> (String, String) {
        self.mint_with(json!({ "project": "dev", "agent": "bot" }))
            .await
    }

    pub async fn mint_with(&self, order: Value) -> (String, String) {
        let minted = self
            .post("root", "/v1/sessions", &order)
            .await
            .expect(201)
            .json();
        let text = |name: &str| minted[name].as_str().unwrap().to_owned();
        (text("id"), text("token"))
    }

    /// Every record of the ledger so far.
    pub fn records(&self) -> Vec<Value> {
        records_of(&self.folder)
    }

    /// Records of a kind and change.
    pub fn recorded(&self, kind: &str, change: &str) -> Vec<Value> {
        let mut records = self.records();
        records.retain(|record| record["kind"] == kind && record["change"] == change);
        records
    }
}

/// Every record of the ledger in a scene's folder.
pub fn records_of(folder: &TempDir) -> Vec<Value> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.path().join("ledger"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    files.sort();
    let mut records = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).unwrap();
        // A line that is being written is not one yet.
        records.extend(
            text.lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok()),
        );
    }
    records
}

struct Setup<'a>(&'a TempDir);

impl Setup<'_> {
    fn start(&self) -> Result<Running, StartError> {
        let loaded = config::load(&self.server(), Secrets::Required)
            .unwrap_or_else(|errors| panic!("{errors}"));
        App::start(loaded, Options::default())
    }

    fn server(&self) -> PathBuf {
        self.0.path().join("toolgate.yaml")
    }

    fn project(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.project.yaml"))
    }

    fn write_server(&self, agents: &str, principals: &[(&str, &str, &str)]) {
        let root = self.0.path().display();
        let mut text = format!(
            "version: 1
workers: 1
listeners:
  agents: {{ address: '{agents}' }}
  admin: {{ address: '127.0.0.1:0' }}
  metrics: {{ address: '127.0.0.1:0' }}
store: {{ embedded: {{ path: '{root}/toolgate.db' }} }}
ledger: {{ directory: '{root}/ledger' }}
projects: ['*.project.yaml']
principals:
"
        );
        for (name, roles, projects) in principals {
            let digest = token(name).digest();
            let hex: String = digest
                .as_bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let group = GROUPS.iter().find(|(of, _)| of == name);
            let group = group.filter(|_| roles.contains("approver"));
            let groups =
                group.map_or_else(String::new, |(_, group)| format!(", groups: [{group}]"));
            writeln!(
                text,
                "  - {{ name: {name}, key: {{ sha256: '{hex}' }}, roles: [{roles}], projects: [{projects}]{groups} }}"
            )
            .unwrap();
        }
        std::fs::write(self.server(), text).unwrap();
    }
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status.as_u16(),
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    /// A problem document with this status and reason; its detail.
    #[track_caller]
    pub fn refused(self, status: u16, reason: &str) -> String {
        let answer = self.expect(status);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["reason"], reason, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["type", "title", "detail", "instance"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{problem}"
            );
        }
        problem["detail"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One request on a connection of its own.
pub async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
    fields: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    if !fields.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let (head, body) = response.into_parts();
    Answer {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}
