//! A gate for each way in, with a project for each way out, and the certificates of all.

use super::door::Door;
use super::pki::{Authority, Leaf, put};
use super::reference::Reference;
use super::side::{End, Side};
use crate::gate::{Gate, Role, Setup};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The certificates of a test.
pub struct Papers {
    pub authority: Authority,
    pub gate: Leaf,
    pub agent: Leaf,
    /// What the gate shows to backends.
    pub own: Leaf,
    pub backend: Leaf,
}

impl Papers {
    pub fn new() -> Self {
        let authority = Authority::new();
        Self {
            gate: authority.server(),
            agent: authority.client(),
            own: authority.client(),
            backend: authority.server(),
            authority,
        }
    }

    /// A backend of `side`.
    pub async fn backend(&self, side: Side) -> Reference {
        let mutual = side == Side::Mtls;
        let tls = side.is_encrypted().then(|| {
            self.authority
                .serving(&self.backend, mutual, side.alpn(End::Backend))
        });
        Reference::start(side, tls).await
    }

    /// Straight to a backend, as the gate would go.
    pub fn direct(&self, backend: &Reference) -> Door {
        Door {
            side: backend.side,
            end: End::Backend,
            address: backend.address,
            tls: self.client(backend.side, End::Backend, &self.own),
            mount: "",
            bearer: BACKENDS_BEARER.to_owned(),
        }
    }

    /// To the gate, as an agent of `side` goes.
    pub fn agent(&self, side: Side, gate: &Gate, token: &str) -> Door {
        Door {
            side,
            end: End::Agents,
            address: gate.agents,
            tls: self.client(side, End::Agents, &self.agent),
            mount: "/cells",
            bearer: token.to_owned(),
        }
    }

    fn client(&self, side: Side, end: End, own: &Leaf) -> Option<Arc<rustls::ClientConfig>> {
        let own = (side == Side::Mtls).then_some(own);
        side.is_encrypted()
            .then(|| Arc::new(self.authority.trusting(own, side.alpn(end))))
    }

    /// What a client program must know to go to a gate that listens so, as its environment.
    pub fn environment(&self, listening: Listening, folder: &Path) -> Vec<(&'static str, PathBuf)> {
        let mut known = Vec::new();
        if listening != Listening::Plain {
            known.push(("CA", folder.join("ca.pem")));
        }
        if listening == Listening::MutualTls {
            self.agent.write(folder, "agent");
            known.push(("CERTIFICATE", folder.join("agent.pem")));
            known.push(("KEY", folder.join("agent.key")));
        }
        known
    }

    /// Puts every certificate where the configuration names it.
    pub fn write(&self, folder: &Path) {
        put(&folder.join("ca.pem"), &self.authority.pem());
        self.gate.write(folder, "gate");
        self.own.write(folder, "own");
        self.backend.write(folder, "backend");
    }
}

/// The credential that the gate adds, and that a direct call brings itself.
pub const BACKENDS_BEARER: &str = "of-the-backend";

/// How a gate listens to agents; each serves the sides that differ only in what the agent says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    Plain,
    Tls,
    MutualTls,
}

impl Listening {
    pub const ALL: [Listening; 3] = [Listening::Plain, Listening::Tls, Listening::MutualTls];

    pub fn scheme(self) -> &'static str {
        match self {
            Listening::Plain => "http",
            Listening::Tls | Listening::MutualTls => "https",
        }
    }

    pub fn serves(self) -> &'static [Side] {
        match self {
            Listening::Plain => &[Side::H1, Side::H2c],
            Listening::Tls => &[Side::H1Tls, Side::H2Tls],
            Listening::MutualTls => &[Side::Mtls],
        }
    }

    fn keys(self, folder: &Path) -> String {
        let folder = folder.display();
        let pair = format!("certificate: {folder}/gate.pem, private_key: {folder}/gate.key");
        match self {
            Listening::Plain => String::new(),
            Listening::Tls => format!(", tls: {{ {pair} }}"),
            Listening::MutualTls => {
                format!(", tls: {{ {pair}, client_ca: {folder}/ca.pem, client_auth: required }}")
            }
        }
    }
}

/// A gate's folder: it listens so, and has one project for each of `backends`, named by its side.
pub fn setup(papers: &Papers, listening: Listening, backends: &[Reference]) -> Setup {
    let names: Vec<&str> = backends.iter().map(|it| it.side.name()).collect();
    setup_with(papers, listening, &names, |name, folder| {
        let backend = backends.iter().find(|it| it.side.name() == name).unwrap();
        project(backend, folder)
    })
}

/// A gate's folder with projects of the caller's, who is told their name and where the certificates are.
pub fn setup_with(
    papers: &Papers,
    listening: Listening,
    projects: &[&str],
    yaml: impl Fn(&str, &Path) -> String,
) -> Setup {
    let empty: Vec<(&str, &str)> = projects.iter().map(|name| (*name, "")).collect();
    let root = Role {
        name: "root",
        roles: "issuer, operator, auditor",
        projects: &projects.join(", "),
    };
    let setup = Setup::with(&empty, &[root]);
    let config = setup.config();
    let folder = config.parent().unwrap();
    papers.write(folder);
    for name in projects {
        setup.write_project(name, &yaml(name, folder));
    }
    let plain = "agents: { address: 127.0.0.1:0 }";
    let written = std::fs::read_to_string(&config).unwrap();
    assert!(written.contains(plain), "{written}");
    let keys = listening.keys(folder);
    let told = format!("agents: {{ address: 127.0.0.1:0{keys} }}");
    put(&config, &written.replace(plain, &told));
    setup
}

/// A project whose one tool is `backend`.
pub fn project(backend: &Reference, folder: &Path) -> String {
    format!(
        "version: 1
project: {side}
agents: {{ bot: {{ scopes: {{ cells: on_use }} }} }}
tools:
  cells:
    mount: /cells
    upstream:
      url: {url}
      timeout: 60s
      credential: {{ header: authorization, value: 'Bearer {BACKENDS_BEARER}' }}{transport}
    routes:
      - {{ id: cells, match: ['GET /{{*rest}}', 'POST /{{*rest}}'], scope: cells }}
",
        side = backend.side.name(),
        url = backend.url(),
        transport = transport(backend.side, folder),
    )
}

/// The lines of an upstream that say how it is reached.
fn transport(side: Side, folder: &Path) -> String {
    let folder = folder.display();
    match side {
        Side::H1 => String::new(),
        Side::H2c => "\n      http2: prior_knowledge".to_owned(),
        Side::H1Tls | Side::H2Tls => format!("\n      tls: {{ ca: {folder}/ca.pem }}"),
        Side::Mtls => format!(
            "\n      tls: {{ ca: {folder}/ca.pem, certificate: {folder}/own.pem, private_key: {folder}/own.key }}"
        ),
    }
}
