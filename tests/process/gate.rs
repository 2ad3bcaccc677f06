//! Starts the real binary on a configuration of the test's own, and speaks to its three listeners.

use crate::client::{self, Answer, Payload};
use crate::wait::{self, PATIENCE, until, within};
use http::Method;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use toolgate::policy::token::{Token, TokenKind};

/// A folder with a configuration; gates are started on it one after the other.
pub struct Setup {
    folder: TempDir,
    keys: Vec<(String, String)>,
}

/// A principal of a setup.
pub struct Role<'a> {
    pub name: &'a str,
    pub roles: &'a str,
    pub projects: &'a str,
}

impl Setup {
    /// One project, and one principal `root` with every role there is for it.
    pub fn new(project: &str, yaml: &str) -> Self {
        let root = Role {
            name: "root",
            roles: "issuer, operator, auditor",
            projects: project,
        };
        Self::with(&[(project, yaml)], &[root])
    }

    pub fn with(projects: &[(&str, &str)], principals: &[Role<'_>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("projects")).unwrap();
        let mut server = String::from(
            "version: 1\nworkers: 2\nlisteners:\n  agents: { address: 127.0.0.1:0 }\n  admin: { address: 127.0.0.1:0 }\n  metrics: { address: 127.0.0.1:0 }\nprincipals:\n",
        );
        let mut keys = Vec::new();
        for Role {
            name,
            roles,
            projects,
        } in principals
        {
            let key = Token::mint(TokenKind::Principal, &toolgate::io::clock::random());
            let digest = crate::ledger::sha256(key.reveal().as_bytes());
            writeln!(server, "  - {{ name: {name}, key: {{ sha256: {digest} }}, roles: [{roles}], projects: [{projects}] }}").unwrap();
            keys.push(((*name).to_owned(), key.reveal().to_owned()));
        }
        let data = folder.path().join("data");
        writeln!(server, "store: {{ embedded: {{ path: {0}/toolgate.db }} }}\nledger: {{ directory: {0}/ledger }}", data.display()).unwrap();
        server.push_str("projects: [projects/*.yaml]\n");
        std::fs::write(folder.path().join("toolgate.yaml"), server).unwrap();
        let setup = Self { folder, keys };
        for (name, yaml) in projects {
            setup.write_project(name, yaml);
        }
        setup
    }

    /// Replaces a project's file as an editor or a deployment does: whole, by renaming.
    pub fn write_project(&self, name: &str, yaml: &str) {
        let beside = self.folder.path().join("next");
        std::fs::write(&beside, yaml).unwrap();
        std::fs::rename(beside, self.project_file(name)).unwrap();
    }

    pub fn project_file(&self, name: &str) -> PathBuf {
        self.folder
            .path()
            .join("projects")
            .join(format!("{name}.yaml"))
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("toolgate.yaml")
    }

    pub fn ledger(&self) -> PathBuf {
        self.folder.path().join("data/ledger")
    }

    pub fn key(&self, principal: &str) -> &str {
        let (_, key) = self
            .keys
            .iter()
            .find(|(name, _)| name == principal)
            .unwrap();
        key
    }

    /// Starts a gate and waits until it says where it listens.
    pub async fn start(&self) -> Gate {
        self.start_with(&[]).await
    }

    /// As [`Setup::start`], with more arguments.
    pub async fn start_with(&self, arguments: &[&str]) -> Gate {
        self.started(self.serve(arguments)).await
    }

    /// `toolgate serve` with these arguments.
    pub fn serve(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
        command.args(["serve", "--config"]).arg(self.config());
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// Rewrites the server file.
    pub fn edit_server(&self, edit: impl FnOnce(String) -> String) {
        let text = edit(std::fs::read_to_string(self.config()).unwrap());
        std::fs::write(self.config(), text).unwrap();
    }

    /// As [`Setup::start`], with the signal of an exceeded file size ignored, so that writes fail as on a full disk.
    pub async fn start_for_a_full_disk(&self) -> Gate {
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                r#"trap "" XFSZ; exec "$0" serve --config "$1""#,
                env!("CARGO_BIN_EXE_toolgate"),
            ])
            .arg(self.config());
        self.started(command).await
    }

    /// Runs what ends up as a gate, and waits until it says where it listens.
    pub async fn started(&self, mut command: Command) -> Gate {
        let mut child = command
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let (sender, lines) = mpsc::channel();
        let log = Log::default();
        follow(child.stdout.take().unwrap(), sender.clone(), log.clone());
        follow(child.stderr.take().unwrap(), sender, log.clone());
        let (agents, admin, metrics) = tokio::task::spawn_blocking(move || addresses(&lines))
            .await
            .unwrap()
            .unwrap_or_else(|| {
                drop(child.kill());
                panic!("the gate does not say where it listens:\n{}", log.tail())
            });
        Gate {
            child,
            agents,
            admin,
            metrics,
            root: self.keys[0].1.clone(),
            log,
        }
    }
}

/// What a gate printed.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn tail(&self) -> String {
        let lines = self.0.lock().unwrap();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

fn follow(stream: impl Read + Send + 'static, lines: mpsc::Sender<String>, log: Log) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            log.0.lock().unwrap().push(line.clone());
            drop(lines.send(line));
        }
    });
}

/// Agents', admin's and metrics' address, as the start lines give them.
fn addresses(lines: &mpsc::Receiver<String>) -> Option<(SocketAddr, SocketAddr, SocketAddr)> {
    let mut found: [Option<SocketAddr>; 3] = [None; 3];
    loop {
        if let [Some(agents), Some(admin), Some(metrics)] = found {
            return Some((agents, admin, metrics));
        }
        let line = lines.recv_timeout(PATIENCE).ok()?;
        for (slot, name) in found.iter_mut().zip(["agents", "admin", "metrics"]) {
            if line.contains(name) && slot.is_none() {
                *slot = address(&line);
            }
        }
    }
}

fn address(line: &str) -> Option<SocketAddr> {
    let from = line.find("127.0.0.1:")?;
    let text: String = line[from..]
        .chars()
        .take_while(|it| it.is_ascii_digit() || matches!(it, '.' | ':'))
        .collect();
    text.parse()
        .ok()
        .filter(|address: &SocketAddr| address.port() != 0)
}

/// A running gate. Dropped, it is killed.
pub struct Gate {
    child: Child,
    pub agents: SocketAddr,
    pub admin: SocketAddr,
    pub metrics: SocketAddr,
    root: String,
    log: Log,
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("-- the gate's last lines:\n{}", self.log.tail());
        }
    }
}

/// A session of a test.
#[derive(Clone, Debug)]
pub struct Minted {
    pub id: String,
    pub token: String,
}

impl Gate {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether a line that it printed holds `text`.
    pub fn said(&self, text: &str) -> bool {
        let lines = self.log.0.lock().unwrap();
        lines.iter().any(|line| line.contains(text))
    }

    /// The lines that it printed which begin so.
    pub fn lines(&self, beginning: &str) -> Vec<String> {
        let lines = self.log.0.lock().unwrap();
        let found = lines.iter().filter(|line| line.starts_with(beginning));
        found.cloned().collect()
    }

    /// `kill -9`, and its funeral: the files are free when this returns.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        wait::signal(self.child.id(), name);
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        within(PATIENCE, "the gate ends", async {
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// An admin call as `root`.
    pub async fn admin(&self, method: Method, path: &str, body: impl Into<Payload>) -> Answer {
        client::call(self.admin, &self.root, method, path, body).await
    }

    /// A session of `agent`.
    pub async fn mint(&self, project: &str, agent: &str) -> Minted {
        self.mint_with(json!({ "project": project, "agent": agent }))
            .await
    }

    pub async fn mint_with(&self, order: Value) -> Minted {
        minted(
            &self
                .admin(Method::POST, "/v1/sessions", &order)
                .await
                .expect(201),
        )
    }

    pub async fn metrics(&self) -> String {
        client::get(self.metrics, "", "/metrics")
            .await
            .expect(200)
            .text()
            .to_owned()
    }

    /// The sum of all series whose line begins with `name` and holds every one of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.metrics()
            .await
            .lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until the policy of `project` in force is the one of this file.
    pub async fn runs(&self, file: &Path) {
        let hash = crate::ledger::sha256(&std::fs::read(file).unwrap());
        let label = format!("hash=\"{hash}\"");
        until("the new policy is in force", || async {
            (self.metric("toolgate_policy_info", &[&label]).await > 0.0).then_some(())
        })
        .await;
    }

    /// A line of `/proc/PID/status`, in KiB.
    pub fn memory_kib(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let found = status.lines().find_map(|it| it.strip_prefix(line)).unwrap();
        found
            .trim_start_matches(':')
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    }
}

/// A session from the answer to `POST /v1/sessions`.
pub fn minted(answer: &Answer) -> Minted {
    let json = answer.json();
    Minted {
        id: json["id"].as_str().unwrap().to_owned(),
        token: json["token"].as_str().unwrap().to_owned(),
    }
}
