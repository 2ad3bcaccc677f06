//! Where the demo plays: a folder of its own with the example configuration, fitted to this run, gone at the end.
//!
//! The files are those of `config/`, changed only where they name an address, a secret or a data folder, so that what
//! the demo shows is what the examples do.

use super::certificates::Certificates;
use crate::cli::Failure;
use crate::io::clock;
use crate::policy::token::{Token, TokenKind};
use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const SERVER: &str = include_str!("../../../config/toolgate.yaml");
const PROJECT: &str = include_str!("../../../config/projects/demo.yaml");

/// The folder and what was put into the files. Dropping it removes the folder.
pub struct Stage {
    folder: PathBuf,
    /// The orchestrator's key to the admin API.
    pub key: Token,
    /// Dana's, who is asked.
    pub approver: Token,
    /// `None`: everything is plain HTTP.
    pub certificates: Option<Certificates>,
}

/// Whether the demo is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Plain HTTP.
    Plain,
    /// TLS, from agents and to the backend.
    Tls,
}

/// Loopback ports; 0 is any that is free.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// Agents' listener.
    pub agents: u16,
    /// Admin listener.
    pub admin: u16,
    /// Metrics listener.
    pub metrics: u16,
    /// The sample backend.
    pub backend: u16,
}

impl Ports {
    /// Four in a row.
    pub const fn from(first: u16) -> Self {
        Self {
            agents: first,
            admin: first + 1,
            metrics: first + 2,
            backend: first + 3,
        }
    }
}

impl Stage {
    /// Makes the folder and writes the files.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] where the temporary folder can't be written, [`Failure::Ours`] where the examples have
    /// changed so that they can't be fitted.
    pub fn build(
        ports: Ports,
        backend: SocketAddr,
        credential: &str,
        wire: Wire,
    ) -> Result<Self, Failure> {
        let name: String = clock::random::<8>()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut stage = Stage {
            folder: std::env::temp_dir().join(format!("toolgate-demo-{name}")),
            key: Token::mint(TokenKind::Principal, &clock::random()),
            approver: Token::mint(TokenKind::Principal, &clock::random()),
            certificates: None,
        };
        let place = stage.folder.clone();
        let fault = |error: std::io::Error| {
            Failure::Unavailable(format!(
                "the demo's folder {} can't be written: {error}; TMPDIR names another place",
                place.display()
            ))
        };
        // Only its owner reads it: the files hold the backend's credential.
        let mut maker = DirBuilder::new();
        maker.mode(0o700);
        for folder in [
            stage.folder.clone(),
            stage.folder.join("projects"),
            stage.folder.join("data"),
        ] {
            maker.create(folder).map_err(fault)?;
        }
        if wire == Wire::Tls {
            stage.certificates = Some(Certificates::make(&stage.folder.join("tls"))?);
        }
        fs::write(stage.config(), server(&stage, ports)?).map_err(fault)?;
        fs::write(
            stage.folder.join("projects/demo.yaml"),
            project(&stage, backend, credential)?,
        )
        .map_err(fault)?;
        Ok(stage)
    }

    /// Of agents' and of the backend's URL.
    pub const fn scheme(&self) -> &'static str {
        match self.certificates {
            Some(_) => "https",
            None => "http",
        }
    }

    /// Everything is in here.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("toolgate.yaml")
    }

    /// The ledger's directory.
    pub fn ledger(&self) -> PathBuf {
        self.folder.join("data/ledger")
    }

    fn store(&self) -> PathBuf {
        self.folder.join("data/toolgate.db")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            anstream::eprintln!("{} could not be removed: {error}", self.folder.display());
        }
    }
}

fn server(stage: &Stage, ports: Ports) -> Result<String, Failure> {
    let known = |key: &Token| {
        let digest = key.digest();
        let digest = digest.as_bytes().iter();
        let hex: String = digest.map(|byte| format!("{byte:02x}")).collect();
        format!("{{ sha256: \"{hex}\" }}")
    };
    let mut changes = vec![
        // First, while its port is not that of another listener.
        (
            "http://127.0.0.1:9080/",
            "the URL that the demo prints".to_owned(),
        ),
        ("127.0.0.1:8080", format!("127.0.0.1:{}", ports.agents)),
        (
            "127.0.0.1:9080",
            format!(
                "127.0.0.1:{}, caps: {{ connections: 100, per_address: 100 }}",
                ports.admin
            ),
        ),
        // What a machine with usual limits can keep, so that no warning of them greets who tries it out.
        (
            "connections: 20000, per_address: 16384",
            "connections: 400, per_address: 400".to_owned(),
        ),
        ("127.0.0.1:9464", format!("127.0.0.1:{}", ports.metrics)),
        ("{ env: TOOLGATE_ISSUER_KEY }", known(&stage.key)),
        ("{ env: TOOLGATE_APPROVER_KEY }", known(&stage.approver)),
        ("data/toolgate.db", quoted(&stage.store())),
        ("data/ledger", quoted(&stage.ledger())),
    ];
    if let Some(certificates) = &stage.certificates {
        changes.push(("    # tls: ", "    tls:   ".to_owned()));
        changes.push(("    #   client_auth:", "      client_auth:".to_owned()));
        for (line, key, file) in [
            (
                "    #   certificate: certs/dev/server.pem",
                "certificate",
                "server.pem",
            ),
            (
                "    #   private_key: certs/dev/server.key",
                "private_key",
                "server.key",
            ),
            ("    #   client_ca: certs/dev/ca.pem", "client_ca", "ca.pem"),
        ] {
            let path = quoted(&certificates.path(file));
            changes.push((line, format!("      {key}: {path}")));
        }
    }
    fit(SERVER, &changes)
}

fn project(stage: &Stage, backend: SocketAddr, credential: &str) -> Result<String, Failure> {
    let url = format!("{}://{backend}", stage.scheme());
    let mut changes = vec![
        ("http://127.0.0.1:9001\n", format!("{url}\n")),
        ("http://127.0.0.1:9001/mcp", format!("{url}/mcp")),
    ];
    for (value, rest) in [
        ("${CRM_API_KEY}\" } # the agent", "the agent"),
        ("${CRM_API_KEY}\" } # as", "as"),
    ] {
        changes.push((value, format!("{credential}\" }} # {rest}")));
    }
    if let Some(certificates) = &stage.certificates {
        let authority = quoted(&certificates.path("ca.pem"));
        for (tls, rest) in [
            (
                "# tls: { ca: certs/dev/ca.pem }         # with https",
                "with https",
            ),
            (
                "# tls: { ca: certs/dev/ca.pem }         # as above",
                "as above",
            ),
        ] {
            changes.push((tls, format!("tls: {{ ca: {authority} }} # {rest}")));
        }
    }
    fit(PROJECT, &changes)
}

/// Each text exactly once: an example that has drifted must not half fit.
fn fit(example: &str, changes: &[(&str, String)]) -> Result<String, Failure> {
    changes
        .iter()
        .try_fold(example.to_owned(), |text, (from, to)| {
            if text.matches(from).count() == 1 {
                Ok(text.replacen(from, to, 1))
            } else {
                Err(Failure::Ours(format!(
                    "the example configuration does not have `{from}` exactly once"
                )))
            }
        })
}

/// A path as a YAML text; JSON's quoting is YAML's.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Secrets};

    fn stage(wire: Wire) -> Stage {
        let backend = SocketAddr::from(([127, 0, 0, 1], 4711));
        Stage::build(Ports::default(), backend, "crm_secret", wire).unwrap()
    }

    #[test]
    fn the_example_configuration_fits_and_loads_without_a_warning_and_its_folder_goes_at_the_end() {
        for wire in [Wire::Plain, Wire::Tls] {
            let stage = stage(wire);
            let loaded = config::load(&stage.config(), Secrets::Required).unwrap();
            assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
            assert_eq!(loaded.server.store, stage.store());
            assert_eq!(loaded.server.ledger.directory, stage.ledger());
            assert_eq!(
                &*loaded.projects[0].tools[0]
                    .upstream
                    .as_ref()
                    .unwrap()
                    .authority,
                "127.0.0.1:4711"
            );
            assert_eq!(loaded.server.principals[0].key, stage.key.digest());
            assert_eq!(loaded.server.principals[1].key, stage.approver.digest());
            assert_eq!(loaded.server.agents.tls.is_some(), wire == Wire::Tls);
            crate::app::App::check(&loaded).unwrap();
            let folder = stage.folder().to_owned();
            drop(stage);
            assert!(!folder.exists());
        }
    }

    #[test]
    fn keys_are_read_by_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let stage = stage(Wire::Tls);
        for name in ["server.key", "agent.key", "backend.key"] {
            let path = stage.certificates.as_ref().unwrap().path(name);
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn an_example_that_drifted_is_not_half_fitted() {
        assert!(fit("a b a", &[("a", "x".to_owned())]).is_err());
        assert!(fit("b", &[("a", "x".to_owned())]).is_err());
        assert_eq!(fit("a b", &[("a", "x".to_owned())]).unwrap(), "x b");
    }
}
