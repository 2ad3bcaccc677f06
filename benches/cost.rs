//! What each level of the ledger adds to a request: latency and processor time, against a gate whose ledger goes nowhere.
//!
//! Four gates run at the same time, each in a process of its own, with the same policy before the same backend on loopback:
//! - `nowhere`: its records are made, chained and handed to storage that drops them. What a level adds to this is what the
//!   file and the disk cost. (There is no gate without a ledger to compare with; the column `ledger` has the processor time
//!   of the ledger's own threads, of which a gate without one would be spared.)
//! - `batched`, `written`, `sync`: the ledger on the disk, at that level.
//!
//! In each round every gate gets the same calls, in turn: first on one connection, one after the other, which gives the
//! latency; then on many at once, which gives the throughput and, measured by the system over the whole process, the
//! processor time. What is printed are the medians over all rounds. Nothing is asserted: a disk is as fast as it is.
//!
//! `cargo bench --bench cost`; `COST_ROUNDS=30` for more rounds, `TMPDIR=/somewhere` for another disk.

#![allow(clippy::unwrap_used, reason = "a benchmark is a test")]

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io::{self, BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use toolgate::config::{self, LedgerLevel, LedgerSettings, Secrets};
use toolgate::gate::{Channel, Gate, GateParts, Peer, Settings};
use toolgate::io::clock::{self, Clock, SystemClock};
use toolgate::io::metrics::Metrics;
use toolgate::ledger::Ledger;
use toolgate::ledger::note::SigningKey;
use toolgate::ledger::storage::{Segment, Storage};
use toolgate::policy::name::{AgentName, PrincipalName, ProjectName};
use toolgate::policy::token::{Token, TokenKind};
use toolgate::store::embedded::Embedded;
use toolgate::store::live::{Order, Sessions};

const LEVELS: [&str; 4] = ["nowhere", "batched", "written", "sync"];
/// Calls one after the other, in each round.
const ALONE: usize = 300;
/// Connections at once, and the calls of each, in each round.
const CROWD: usize = 32;
const OF_EACH: usize = 50;
const ROUNDS: usize = 15;
/// Names what a process is to be: the level, and where its backend is.
const LEVEL: &str = "COST_LEVEL";
const BACKEND: &str = "COST_BACKEND";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    match std::env::var(LEVEL) {
        Ok(level) => runtime.block_on(gate(&level)),
        Err(_) => runtime.block_on(measure()),
    }
}

/// Drives all gates and prints what they took.
async fn measure() {
    let rounds = std::env::var("COST_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |text| text.parse().unwrap());
    let backend = backend().await;
    let gates: Vec<Subject> = LEVELS.map(|level| Subject::start(level, backend)).into();
    for gate in &gates {
        gate.alone().await;
        gate.crowd().await;
    }
    let mut taken: Vec<Vec<Round>> = vec![Vec::new(); gates.len()];
    for round in 0..rounds {
        // Nobody is always first.
        for turn in 0..gates.len() {
            let which = (round + turn) % gates.len();
            taken[which].push(gates[which].round().await);
        }
    }
    println!(
        "medians of {rounds} rounds; {ALONE} calls on one connection (latency), {} on {CROWD} (processor, throughput)",
        CROWD * OF_EACH
    );
    println!("level     p50 µs   added    p99 µs   added  cpu µs/call   added  ledger  calls/s");
    let base = Figures::of(&taken[0]);
    for (level, rounds) in LEVELS.iter().zip(&taken) {
        let it = Figures::of(rounds);
        println!(
            "{level:8} {:7.0} {:+7.0} {:9.0} {:+7.0} {:12.1} {:+7.1} {:7.1} {:8.0}",
            it.p50,
            it.p50 - base.p50,
            it.p99,
            it.p99 - base.p99,
            it.cpu,
            it.cpu - base.cpu,
            it.ledger,
            it.rate
        );
    }
}

/// What one gate took in one round: microseconds.
#[derive(Clone, Copy)]
struct Round {
    p50: f64,
    p99: f64,
    /// Processor time of a call.
    cpu: f64,
    /// Of it, on the ledger's threads.
    ledger: f64,
    /// Calls a second.
    rate: f64,
}

struct Figures {
    p50: f64,
    p99: f64,
    cpu: f64,
    ledger: f64,
    rate: f64,
}

impl Figures {
    fn of(rounds: &[Round]) -> Self {
        let median = |what: fn(&Round) -> f64| middle(rounds.iter().map(what).collect(), 0.5);
        let mean =
            |what: fn(&Round) -> f64| rounds.iter().map(what).sum::<f64>() / rounds.len() as f64;
        Self {
            p50: median(|it| it.p50),
            p99: median(|it| it.p99),
            // The system counts in hundredths of a second: too coarse for a round, fine enough for all.
            cpu: mean(|it| it.cpu),
            ledger: mean(|it| it.ledger),
            rate: median(|it| it.rate),
        }
    }
}

fn middle(mut all: Vec<f64>, part: f64) -> f64 {
    all.sort_by(f64::total_cmp);
    all[((all.len() - 1) as f64 * part) as usize]
}

/// A gate in a process of its own, as the one that drives it knows it.
struct Subject {
    child: Child,
    address: SocketAddr,
    request: Arc<str>,
}

impl Drop for Subject {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Subject {
    fn start(level: &str, backend: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(LEVEL, level)
            .env(BACKEND, backend.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let (address, token) = line.trim_end().split_once(' ').unwrap();
        let request = format!(
            "GET /t/items/7 HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {token}\r\ntoolgate-intent: look at the item\r\n\r\n"
        );
        Self {
            child,
            address: address.parse().unwrap(),
            request: request.into(),
        }
    }

    async fn round(&self) -> Round {
        let times = self.alone().await;
        let (before, of_ledger) = self.processor();
        let begun = Instant::now();
        self.crowd().await;
        let took = begun.elapsed().as_secs_f64();
        let (after, after_ledger) = self.processor();
        let calls = (CROWD * OF_EACH) as f64;
        Round {
            p50: middle(times.clone(), 0.5),
            p99: middle(times, 0.99),
            cpu: (after - before) / calls,
            ledger: (after_ledger - of_ledger) / calls,
            rate: calls / took,
        }
    }

    /// One call after the other; how long each took.
    async fn alone(&self) -> Vec<f64> {
        call_on(self.address, Arc::clone(&self.request), ALONE).await
    }

    async fn crowd(&self) {
        let calls: Vec<_> = (0..CROWD)
            .map(|_| tokio::spawn(call_on(self.address, Arc::clone(&self.request), OF_EACH)))
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    }

    /// Microseconds of processor time so far: of the process, and of the ledger's threads in it.
    fn processor(&self) -> (f64, f64) {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let tasks = std::fs::read_dir(process.join("task")).unwrap();
        let tasks = tasks.map(|task| task.unwrap().path());
        let named = |path: &PathBuf| {
            let name = std::fs::read_to_string(path.join("comm"));
            name.is_ok_and(|name| name.starts_with("ledger"))
        };
        let ledger = tasks.filter(named).map(|path| spent(&path)).sum();
        (spent(&process), ledger)
    }
}

/// User and system time of a process or a thread, which the system gives in hundredths of a second.
fn spent(path: &Path) -> f64 {
    let text = std::fs::read_to_string(path.join("stat")).unwrap();
    let (_, fields) = text.rsplit_once(')').unwrap();
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next().unwrap().parse::<f64>().unwrap();
    (ticks() + ticks()) * 10_000.0
}

/// Calls on one connection, one after the other; microseconds of each.
async fn call_on(address: SocketAddr, request: Arc<str>, calls: usize) -> Vec<f64> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times = Vec::with_capacity(calls);
    let mut answer = Vec::new();
    for _ in 0..calls {
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        answer.clear();
        while !answer.ends_with(b"\r\n\r\nok") {
            let read = stream.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        }
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
    times
}

/// A backend that answers as fast as can be.
async fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.set_nodelay(true));
            tokio::spawn(async move {
                let mut request = Vec::new();
                while stream
                    .read_buf(&mut request)
                    .await
                    .is_ok_and(|read| read > 0)
                {
                    if request.ends_with(b"\r\n\r\n") {
                        request.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// Becomes a gate; ends with whoever started it.
async fn gate(level: &str) {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = clock.now();
    let ledger = ledger(level, &folder.path().join("ledger"));
    let (store, snapshot) = Embedded::open(&folder.path().join("store.db"), now.wall).unwrap();
    let sessions = Sessions::new(Arc::new(store), snapshot, ledger.clone(), now);
    let gate = Gate::new(GateParts {
        clock: Arc::clone(&clock),
        sessions: sessions.clone(),
        ledger,
        metrics: Arc::new(Metrics::new()),
        settings: Settings::default(),
    });
    install(&gate, folder.path());
    let token = mint(&gate, &sessions, clock.as_ref()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{} {}", listener.local_addr().unwrap(), token.reveal());
    // Its end is the end of the one who reads the line above.
    std::thread::spawn(|| {
        drop(io::stdin().read_to_end(&mut Vec::new()));
        std::process::exit(0);
    });
    while let Ok((stream, address)) = listener.accept().await {
        drop(stream.set_nodelay(true));
        let gate = gate.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let gate = gate.clone();
            let peer = Peer {
                address,
                channel: Channel::Plain,
                line: None,
                familiar: Default::default(),
            };
            async move { Ok::<_, Infallible>(gate.handle(request, peer).await) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move { drop(serving.await) });
    }
}

fn ledger(level: &str, directory: &Path) -> Ledger {
    let level = match level {
        "nowhere" => {
            let settings = LedgerSettings::new(directory);
            let key = SigningKey::new("nowhere", [7; 32]).unwrap();
            let wall = || SystemClock.now().wall;
            return Ledger::open_on(Box::new(Nowhere), |_| Ok(key), &settings, wall).unwrap();
        }
        "batched" => LedgerLevel::Batched,
        "written" => LedgerLevel::Written,
        _ => LedgerLevel::Sync,
    };
    let settings = LedgerSettings {
        level,
        ..LedgerSettings::new(directory)
    };
    Ledger::open(&settings, || SystemClock.now().wall).unwrap()
}

/// One tool with one route, whose calls are ordinary ones.
fn install(gate: &Gate, folder: &Path) {
    let backend = std::env::var(BACKEND).unwrap();
    let digest = "0".repeat(63) + "1";
    let server = format!(
        "version: 1
listeners:
  agents:  {{ address: 127.0.0.1:0 }}
  admin:   {{ address: 127.0.0.1:0 }}
  metrics: {{ address: 127.0.0.1:0 }}
principals: [ {{ name: root, key: {{ sha256: {digest} }}, roles: [issuer], projects: [demo] }} ]
store: {{ embedded: {{ path: store.db }} }}
ledger: {{ directory: ledger }}
projects: [project.yaml]
"
    );
    let project = format!(
        "version: 1
project: demo
agents:
  bot: {{ scopes: {{ read: on_use }} }}
tools:
  t:
    mount: /t
    upstream: {{ url: 'http://{backend}' }}
    routes:
      - {{ id: read, match: 'GET /items/{{item}}', scope: read, resource: 'item:{{item}}' }}
"
    );
    std::fs::write(folder.join("toolgate.yaml"), server).unwrap();
    std::fs::write(folder.join("project.yaml"), project).unwrap();
    let loaded = config::load(&folder.join("toolgate.yaml"), Secrets::Optional);
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    gate.install(loaded.projects);
}

async fn mint(gate: &Gate, sessions: &Sessions, clock: &dyn Clock) -> Token {
    let ruleset = gate.ruleset(&ProjectName::parse("demo").unwrap()).unwrap();
    let token = Token::mint(TokenKind::Session, &clock::random());
    let order = Order {
        agent: AgentName::parse("bot").unwrap(),
        ttl: Some(Duration::from_secs(3600)),
        attributes: std::iter::empty::<(&str, &str)>().collect(),
        scopes: None,
        intent: None,
        run: None,
        parent: None,
        bound_to: None,
        minted_by: PrincipalName::parse("root").unwrap(),
    };
    let (now, policy) = (clock.now(), &ruleset.policy);
    let id = clock::session_id(now);
    let session = sessions.mint(policy, order, id, token.digest(), now).await;
    session.unwrap();
    token
}

/// Storage that keeps nothing.
#[derive(Debug)]
struct Nowhere;

impl Storage for Nowhere {
    fn instance(&self) -> &str {
        "nowhere"
    }

    fn place(&self, name: &str) -> PathBuf {
        name.into()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn bytes(&self, _name: &str) -> io::Result<u64> {
        Ok(0)
    }

    fn read(&self, _name: &str, _from: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::empty()))
    }

    fn append(&mut self, _name: &str, _keep: u64) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(Nowhere))
    }

    fn cut(&mut self, _name: &str, _keep: u64) -> io::Result<()> {
        Ok(())
    }

    fn redo(&mut self, _name: &str, _from: u64, _to: u64) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn replace(&mut self, _draft: &str, _name: &str) -> io::Result<()> {
        Ok(())
    }
}

impl Segment for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn twin(&self) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(Nowhere))
    }
}
