//! The world of one case: a gate on loopback, backends, a stepped clock, a ledger in memory and a store in a temporary
//! folder that can both be made to fail.

use crate::case::{Ballot, Case, Minted, Step, span};
use crate::transcript::Transcript;
use crate::wire::{self, Answer};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use toolgate::config::{self, Cidr, LedgerSettings, Secrets};
use toolgate::gate::{Channel, Gate, GateParts, Peer, Settings};
use toolgate::io::clock::{self, Clock};
use toolgate::io::metrics::Metrics;
use toolgate::ledger::note::SigningKey;
use toolgate::ledger::record::{Cause, Event};
use toolgate::ledger::storage::{Segment, Storage};
use toolgate::ledger::{Ledger, Level};
use toolgate::policy::approval::{Approver, Approvers, Stage, Word};
use toolgate::policy::model::Policy;
use toolgate::policy::name::{AgentName, GroupName, PrincipalName, ProjectName, ScopeName};
use toolgate::policy::subject::{Narrowed, Narrowing};
use toolgate::policy::time::{Now, Tick, Timestamp};
use toolgate::policy::token::{Token, TokenKind};
use toolgate::store::embedded::Embedded;
use toolgate::store::live::{self, LiveSession, Order, Sessions};
use toolgate::store::{Applied, Change, Store, StoreFault, StoreFuture};

/// A call under way: what it is, and how it goes on.
struct Begun {
    call: String,
    task: tokio::task::JoinHandle<Answer>,
}

pub struct World {
    clock: Arc<Stepped>,
    metrics: Arc<Metrics>,
    ledger: Ledger,
    log: Log,
    store: Arc<Switched>,
    sessions: Sessions,
    gate: Gate,
    listener: TcpListener,
    address: SocketAddr,
    backends: Backends,
    folder: tempfile::TempDir,
    trusted: Vec<Cidr>,
    in_force: Vec<String>,
    minted: BTreeMap<String, (Arc<LiveSession>, Token)>,
    kept: BTreeMap<String, String>,
    /// Calls under way.
    begun: BTreeMap<String, Begun>,
    /// Calls that backends held back and were told to answer.
    answered: usize,
    /// Ledger bytes that the transcript has.
    read: usize,
}

impl World {
    pub async fn new(case: &Case, transcript: &mut Transcript) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = Arc::new(Stepped::default());
        let log = Log::default();
        let settings = LedgerSettings {
            segment_bytes_max: 1 << 30,
            segment_age_max: Duration::from_secs(86_400 * 365),
            ..LedgerSettings::new(folder.path().join("ledger"))
        };
        let wall = clock.now().wall;
        let key = SigningKey::new("test", [7; 32]).expect("a key");
        let ledger = Ledger::open_on(Box::new(log.clone()), |_| Ok(key), &settings, move || wall)
            .expect("a ledger");
        let backends = Backends::start(transcript).await;
        let (store, sessions, costs) = open(folder.path(), &ledger, clock.now());
        let trusted: Vec<Cidr> = case.trusted_proxies.iter().map(|text| cidr(text)).collect();
        let metrics = Arc::new(Metrics::new());
        let gate = gate(&metrics, &clock, &sessions, &ledger, &trusted, costs);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut world = Self {
            clock,
            metrics,
            ledger,
            log,
            store,
            sessions,
            gate,
            listener,
            address,
            backends,
            folder,
            trusted,
            in_force: Vec::new(),
            minted: BTreeMap::new(),
            kept: BTreeMap::new(),
            begun: BTreeMap::new(),
            answered: 0,
            read: 0,
        };
        let policies = if case.policies.is_empty() {
            vec!["support".to_owned()]
        } else {
            case.policies.clone()
        };
        world.install(&policies);
        let unknown = Token::mint(TokenKind::Session, &[255; 32]);
        world
            .kept
            .insert("unknown".to_owned(), unknown.reveal().to_owned());
        // Parents before children: a parent's name sorts before its child's.
        for (position, (name, minted)) in case.sessions.iter().enumerate() {
            world
                .mint(
                    name,
                    minted,
                    u8::try_from(position).expect("few sessions"),
                    transcript,
                )
                .await;
        }
        world.read_ledger().await;
        world
    }

    fn install(&mut self, names: &[String]) {
        self.in_force = names.to_vec();
        let policies = names.iter().flat_map(|name| self.policy(name)).collect();
        self.gate.install(policies);
    }

    /// One policy, through the configuration's own door. `trial~shadow` is `trial` in that mode.
    fn policy(&self, name: &str) -> Vec<Policy> {
        let (name, mode) = name.split_once('~').unwrap_or((name, "enforce"));
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/journeys/policies/{name}.yaml"));
        let text = std::fs::read_to_string(from).expect("the policy can be read");
        let mut text = text.replace("\nmode: enforce\n", &format!("\nmode: {mode}\n"));
        for (host, address) in &self.backends.addresses {
            text = text.replace(&format!("http://{host}"), &format!("http://{address}"));
        }
        let folder = self.folder.path();
        std::fs::write(folder.join("project.yaml"), &text).expect("written");
        let server = SERVER.replace("[demo]", &format!("[{}]", project_of(&text)));
        std::fs::write(folder.join("toolgate.yaml"), server).expect("written");
        match config::load(&folder.join("toolgate.yaml"), Secrets::Optional) {
            Ok(loaded) => {
                self.gate.appoint(loaded.server.approvers());
                loaded.projects
            }
            Err(errors) => panic!("{name}.yaml: {errors}"),
        }
    }

    async fn mint(&mut self, name: &str, minted: &Minted, seed: u8, transcript: &mut Transcript) {
        let project =
            ProjectName::parse(minted.project.as_deref().unwrap_or("demo")).expect("a name");
        let ruleset = self
            .gate
            .ruleset(&project)
            .expect("the project is in force");
        let token = Token::mint(TokenKind::Session, &[seed; 32]);
        let texts = |(name, value)| (String::as_str(name), String::as_str(value));
        let narrowing = minted.scopes.as_ref().map(|scopes| Narrowing {
            scopes: scopes
                .iter()
                .map(|scope| {
                    (
                        ScopeName::parse(scope).expect("a name"),
                        Narrowed::default(),
                    )
                })
                .collect(),
        });
        let order = Order {
            agent: AgentName::parse(minted.agent.as_deref().unwrap_or("support-bot"))
                .expect("a name"),
            ttl: minted.ttl.as_deref().map(span),
            attributes: minted.attributes.iter().map(texts).collect(),
            scopes: narrowing,
            intent: minted.intent.clone(),
            run: minted.run.clone(),
            parent: minted
                .parent
                .as_ref()
                .map(|parent| self.minted[parent].0.facts.id),
            bound_to: None,
            minted_by: principal(),
        };
        let now = self.clock.now();
        let session = self
            .sessions
            .mint(
                &ruleset.policy,
                order,
                clock::session_id(now),
                token.digest(),
                now,
            )
            .await
            .expect("the session can be minted");
        transcript.name(session.facts.id.to_string(), format!("ses_{name}"));
        transcript.name(token.reveal(), format!("tgs_{name}"));
        self.minted.insert(name.to_owned(), (session, token));
    }

    pub async fn step(&mut self, step: &Step, transcript: &mut Transcript) {
        if let (Some(call), Some(name)) = (&step.call, &step.start) {
            self.start(name, call, step, transcript).await;
        } else if let Some(call) = &step.call {
            self.call(call, step, transcript).await;
        } else if let Some(name) = &step.finish {
            self.finish(name, step, transcript).await;
        } else {
            transcript.happened(&self.act(step).await);
        }
        // What goes on beside the steps is told once it is over, in one piece.
        if self.begun.is_empty() && self.backends.held.get() == self.answered {
            self.gate.errands_over().await;
            transcript.recorded(&self.read_ledger().await);
        }
    }

    async fn act(&mut self, step: &Step) -> String {
        let now = self.clock.now();
        let by = principal();
        let cause = || Cause::Principal(&by);
        if let Some(name) = &step.leave {
            let begun = self.begun.remove(name).expect("a call under way");
            // It leaves while the backend has the call, where that is to hold it back.
            while begun.call.contains("held=1") && self.backends.held.get() == self.answered {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            begun.task.abort();
            let _ = begun.task.await;
            return format!("{name} leaves");
        }
        for (ballot, word) in [(&step.approve, Word::Approve), (&step.deny, Word::Deny)] {
            if let Some(ballot) = ballot {
                return self.vote(ballot, word).await;
            }
        }
        if step.answer {
            while self.backends.held.get() == self.answered {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.answered = self.backends.held.get();
            self.backends.go.notify_waiters();
            return "the backends answer".to_owned();
        }
        if let Some(appointed) = &step.appoint {
            self.appoint(appointed);
            return format!("appoint {appointed:?}");
        }
        if step.sweep {
            self.sessions.sweep(now).await;
            return "sweep".to_owned();
        }
        if let Some(time) = &step.wait {
            self.clock.0.fetch_add(
                u64::try_from(span(time).as_micros()).expect("short"),
                Ordering::Relaxed,
            );
            return format!("wait {time}");
        }
        if let Some(name) = &step.revoke {
            self.sessions
                .revoke(&self.minted[name].0, cause(), now)
                .await
                .expect("revoked");
            return format!("revoke {name}");
        }
        if let Some(name) = &step.quarantine {
            self.sessions
                .quarantine(&self.minted[name].0, "looked odd", cause(), now)
                .await
                .expect("done");
            return format!("quarantine {name}");
        }
        if let Some(name) = &step.release {
            self.sessions
                .release(&self.minted[name].0, "looked at", cause(), now)
                .await
                .expect("released");
            return format!("release {name}");
        }
        if let Some(names) = &step.install {
            self.install(names);
            return format!("install {}", names.join(", "));
        }
        if let Some(state) = &step.ledger {
            self.log.fails.store(state == "fails", Ordering::Relaxed);
            if state == "works" {
                self.healed().await;
            }
            return format!("the ledger {state}");
        }
        if let Some(state) = &step.store {
            self.store.fails.store(state == "fails", Ordering::Relaxed);
            return format!("the store {state}");
        }
        if step.flush {
            self.gate.flush_strangers().await;
            self.gate.flush_costs().await;
            return "flush".to_owned();
        }
        if !step.metrics.is_empty() {
            let text = self.metrics.encode();
            for line in &step.metrics {
                assert!(
                    text.lines().any(|have| have == line),
                    "no metric {line} in\n{text}"
                );
            }
            return format!("metrics\n  {}", step.metrics.join("\n  "));
        }
        assert!(step.restart, "a step does something");
        self.restart();
        "restart".to_owned()
    }

    /// Agrees or not, as the admin API does.
    async fn vote(&self, ballot: &Ballot, word: Word) -> String {
        let approval = match &ballot.of {
            Some(name) => {
                let id = self.kept[name].parse().expect("an approval's id");
                self.sessions.approval(id).expect("an approval")
            }
            None => {
                let projects = [ProjectName::parse("demo").expect("a name")];
                let mut waiting = self
                    .sessions
                    .approvals(&projects, &[Stage::Pending], None, 2);
                assert_eq!(waiting.len(), 1, "one approval waits");
                waiting.remove(0)
            }
        };
        let facts = &approval.facts;
        let ruleset = self.gate.ruleset(&facts.project).expect("in force");
        let mut chains = ruleset.policy.chains.iter();
        let chain = chains.find(|chain| chain.name == facts.chain);
        let chain = chain.expect("its chain");
        let by = PrincipalName::parse(&ballot.by).expect("a name");
        let cast = live::approvals::Ballot {
            principal: &by,
            word,
            digest: facts.digest,
            note: ballot.note.as_deref(),
        };
        let approvers = self.gate.approvers();
        let now = self.clock.now();
        let voted = self
            .sessions
            .vote(&approval, cast, chain, &approvers, now)
            .await;
        if let Ok(Stage::Approved) = voted {
            self.gate.fulfil(&approval).await;
        }
        let then = match voted {
            Ok(stage) => stage.as_str().to_owned(),
            Err(why) => why.to_string(),
        };
        if let Some(expected) = &ballot.then {
            assert_eq!(*expected, then);
        }
        let note = ballot.note.as_ref();
        let note = note.map(|note| format!(" ({note})")).unwrap_or_default();
        format!("{} by {by}{note}: {then}", word.as_str())
    }

    fn appoint(&self, appointed: &BTreeMap<String, Vec<String>>) {
        let project = ProjectName::parse("demo").expect("a name");
        self.gate
            .appoint(Approvers::new(appointed.iter().map(|(name, groups)| {
                let groups = groups
                    .iter()
                    .map(|group| GroupName::parse(group).expect("a name"));
                (
                    PrincipalName::parse(name).expect("a name"),
                    Approver {
                        groups: groups.collect(),
                        projects: [project.clone()].into(),
                    },
                )
            })));
    }

    /// How many requests wait for people.
    fn held(&self) -> usize {
        let text = self.metrics.encode();
        let held = text
            .lines()
            .filter(|line| line.starts_with("toolgate_held_requests{"));
        held.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
            .sum()
    }

    /// Goes on once the call is held, or over.
    async fn start(&mut self, name: &str, call: &str, step: &Step, transcript: &mut Transcript) {
        self.announce(call, step, transcript);
        let (method, target) = call.split_once(' ').expect("a method and a target");
        let request = self.request(method, target, step);
        let before = self.held();
        let exchange = self.exchange(request, method.to_owned()).await;
        let task = spawn_local(exchange);
        // What a backend holds back is held too.
        let reached = self.backends.held.get();
        while self.held() == before && !task.is_finished() && self.backends.held.get() == reached {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let call = call.to_owned();
        self.begun.insert(name.to_owned(), Begun { call, task });
    }

    async fn finish(&mut self, name: &str, step: &Step, transcript: &mut Transcript) {
        transcript.happened(&format!("finish {name}"));
        let Begun { call, task } = self.begun.remove(name).expect("a call under way");
        let answer = task.await.expect("an answer");
        self.judge(&call, step, &answer);
        transcript.answered(&answer, 1);
        self.keep(step, &answer);
        self.tell_seen(transcript);
    }

    /// A new gate on the same ledger and store; sessions keep their tokens.
    fn restart(&mut self) {
        let now = self.clock.now();
        // The file has one owner: the old one goes first.
        self.store.close();
        let (store, sessions, costs) = open(self.folder.path(), &self.ledger, now);
        self.gate = gate(
            &self.metrics,
            &self.clock,
            &sessions,
            &self.ledger,
            &self.trusted,
            costs,
        );
        for (session, token) in self.minted.values_mut() {
            if let Some(restored) = sessions.find(&token.digest()) {
                *session = restored;
            }
        }
        (self.store, self.sessions) = (store, sessions);
        let names = self.in_force.clone();
        self.install(&names);
    }

    /// Until the writer has noticed that its disk answers again.
    async fn healed(&self) {
        while !self.ledger.healthy() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn announce(&self, call: &str, step: &Step, transcript: &mut Transcript) {
        let by = step
            .by
            .as_ref()
            .map(|name| format!(" as {name}"))
            .unwrap_or_default();
        let fields = step
            .fields
            .iter()
            .map(|field| format!(" [{field}]"))
            .collect::<String>();
        let host = step
            .host
            .as_ref()
            .map(|host| format!(" [host: {host}]"))
            .unwrap_or_default();
        let started = step
            .start
            .as_ref()
            .map(|name| format!(" ({name})"))
            .unwrap_or_default();
        transcript.happened(&format!("{call}{by}{host}{fields}{started}"));
    }

    async fn call(&mut self, call: &str, step: &Step, transcript: &mut Transcript) {
        self.announce(call, step, transcript);
        let (method, target) = call.split_once(' ').expect("a method and a target");
        let request = self.request(method, target, step);
        let times = step.times.unwrap_or(1);
        let mut last = None;
        for _ in 0..times {
            let answer = self.exchange(request.clone(), method.to_owned()).await;
            let answer = answer.await;
            self.judge(call, step, &answer);
            last = Some(answer);
        }
        let answer = last.expect("at least one call");
        transcript.answered(&answer, times);
        self.keep(step, &answer);
        self.tell_seen(transcript);
    }

    fn keep(&mut self, step: &Step, answer: &Answer) {
        for (name, member) in &step.keep {
            let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            let pointer = match member.starts_with('/') {
                true => member.clone(),
                false => format!("/{member}"),
            };
            let value = json.pointer(&pointer).and_then(|value| value.as_str());
            let value = value.expect("a string").to_owned();
            self.kept.insert(name.clone(), value);
        }
    }

    fn tell_seen(&self, transcript: &mut Transcript) {
        let seen: Vec<String> = self.backends.seen.borrow_mut().drain(..).collect();
        for (at, line) in seen.iter().enumerate() {
            if at == 0 || seen[at - 1] != *line {
                transcript.backend_saw(line);
            }
        }
    }

    fn request(&self, method: &str, target: &str, step: &Step) -> Vec<u8> {
        let mut head = format!("{method} {} HTTP/1.1\r\n", self.filled(target));
        match step.host.as_deref() {
            Some("") => {}
            host => head.push_str(&format!("host: {}\r\n", host.unwrap_or("gate.test"))),
        }
        if let Some(name) = &step.by {
            head.push_str(&format!(
                "authorization: Bearer {}\r\n",
                self.minted[name].1.reveal()
            ));
        }
        for field in &step.fields {
            head.push_str(&format!("{}\r\n", self.filled(field)));
        }
        if !step
            .fields
            .iter()
            .any(|field| field.starts_with("connection:"))
        {
            head.push_str("connection: close\r\n");
        }
        let body = step.body.as_deref().map(|body| self.filled(body));
        if let Some(body) = &body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default().as_bytes());
        bytes
    }

    /// `$name` replaced by a token or by what was kept.
    fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.kept {
            text = text.replace(&format!("${name}"), value);
        }
        for (name, (_, token)) in &self.minted {
            text = text.replace(&format!("${name}"), token.reveal());
        }
        text
    }

    /// One connection of its own. When this returns the gate is done with it, the record included.
    async fn exchange(
        &self,
        request: Vec<u8>,
        method: String,
    ) -> impl Future<Output = Answer> + use<> {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let (accepted, peer) = self.listener.accept().await.expect("accepted");
        let gate = self.gate.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let gate = gate.clone();
            async move {
                Ok::<_, Infallible>(
                    gate.handle(
                        request,
                        Peer {
                            address: peer,
                            channel: Channel::Plain,
                            line: None,
                            familiar: Default::default(),
                        },
                    )
                    .await,
                )
            }
        });
        let serving = async {
            // A client that closes early is the client's affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(accepted), service)
                .await;
        };
        async move {
            let exchange =
                async { tokio::join!(wire::exchange(stream, &request, &method), serving) };
            // Only so that a fault of gate or test ends with words.
            let (answer, ()) = tokio::time::timeout(Duration::from_secs(20), exchange)
                .await
                .expect("an answer, and the end of the connection");
            answer
        }
    }

    fn judge(&self, call: &str, step: &Step, answer: &Answer) {
        let body = String::from_utf8_lossy(&answer.body);
        assert!(
            answer
                .field("toolgate-request-id")
                .is_some_and(|id| id.starts_with("req_")),
            "{call}: no request id"
        );
        let Some(expected) = &step.expect else {
            return;
        };
        let problem = answer.field("content-type") == Some("application/problem+json");
        let reason = serde_json::from_slice::<serde_json::Value>(&answer.body)
            .ok()
            .and_then(|json| match json.get("decision") {
                Some(decision) if decision == true => Some("true".to_owned()),
                Some(_) => Some(json.pointer("/context/reason")?.as_str()?.to_owned()),
                None => Some(json.get("reason").filter(|_| problem)?.as_str()?.to_owned()),
            });
        let got = match reason {
            Some(reason) => format!("{} {reason}", answer.status),
            None => answer.status.to_string(),
        };
        assert_eq!(
            *expected,
            got,
            "{call} as {:?} at {:?}: {body}",
            step.by,
            self.clock.now()
        );
    }

    /// What was written since the last time.
    async fn read_ledger(&mut self) -> Vec<String> {
        if self.log.fails.load(Ordering::Relaxed) {
            return Vec::new();
        }
        // A cost that trips does so in a task of its own.
        tokio::task::yield_now().await;
        let mark = Event::Gate {
            change: "fault",
            version: MARK,
            detail: "",
        };
        // Records keep their order: once the mark is written, so is everything before it.
        let marked = self
            .ledger
            .append(&mark, self.clock.now().wall, Level::Written)
            .await;
        assert!(marked.is_ok(), "the ledger takes records");
        let log = self.log.bytes.lock().expect("not poisoned");
        let new = String::from_utf8(log[self.read..].to_vec()).expect("UTF-8");
        self.read = log.len();
        let own = |line: &&str| !line.contains(MARK) && !line.contains("\"kind\":\"gate\"");
        new.lines().filter(own).map(str::to_owned).collect()
    }
}

fn gate(
    metrics: &Arc<Metrics>,
    clock: &Arc<Stepped>,
    sessions: &Sessions,
    ledger: &Ledger,
    trusted: &[Cidr],
    costs: Vec<toolgate::store::CostRow>,
) -> Gate {
    Gate::new(GateParts {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        sessions: sessions.clone(),
        ledger: ledger.clone(),
        metrics: Arc::clone(metrics),
        settings: Settings {
            trusted_proxies: trusted.to_vec(),
            costs,
            ..Settings::default()
        },
    })
}

fn open(
    folder: &Path,
    ledger: &Ledger,
    now: Now,
) -> (Arc<Switched>, Sessions, Vec<toolgate::store::CostRow>) {
    let (embedded, snapshot) = Embedded::open(&folder.join("store.db"), now.wall).expect("a store");
    let costs = snapshot.costs.clone();
    let store = Arc::new(Switched {
        inner: Mutex::new(Some(embedded)),
        fails: AtomicBool::new(false),
    });
    let sessions = Sessions::new(
        Arc::clone(&store) as Arc<dyn Store>,
        snapshot,
        ledger.clone(),
        now,
    );
    (store, sessions, costs)
}

fn principal() -> PrincipalName {
    PrincipalName::parse("orchestrator").expect("a name")
}

fn cidr(text: &str) -> Cidr {
    let (network, bits) = text.split_once('/').expect("a range");
    Cidr {
        network: network.parse().expect("an address"),
        prefix_bits: bits.parse().expect("bits"),
    }
}

fn project_of(policy: &str) -> &str {
    let mut lines = policy.lines();
    lines
        .find_map(|line| line.strip_prefix("project: "))
        .expect("a project's name")
}

const MARK: &str = "mark-of-the-test";
const SERVER: &str = "version: 1
listeners:
  agents:  { address: 127.0.0.1:0 }
  admin:   { address: 127.0.0.1:0 }
  metrics: { address: 127.0.0.1:0 }
principals:
  - name: orchestrator
    key: { sha256: 0000000000000000000000000000000000000000000000000000000000000001 }
    roles: [issuer, approver]
    groups: [support-leads]
    projects: [demo]
  - name: dana
    key: { sha256: 0000000000000000000000000000000000000000000000000000000000000002 }
    roles: [approver]
    groups: [support-leads, finance]
    projects: [demo]
  - name: erin
    key: { sha256: 0000000000000000000000000000000000000000000000000000000000000003 }
    roles: [approver]
    groups: [finance]
    projects: [demo]
store: { embedded: { path: store.db } }
ledger: { directory: ledger }
projects: [project.yaml]
";

/// A clock that moves when a case says so. Microseconds.
#[derive(Default)]
struct Stepped(AtomicU64);

impl Clock for Stepped {
    fn now(&self) -> Now {
        let micros = self.0.load(Ordering::Relaxed);
        Now {
            // 2026-01-01T00:00:00Z.
            wall: Timestamp::from_micros(
                1_767_225_600_000_000 + i64::try_from(micros).expect("short"),
            ),
            tick: Tick::from_nanos(3_600_000_000_000 + micros * 1000),
        }
    }
}

/// The embedded store, unless it fails.
struct Switched {
    inner: Mutex<Option<Embedded>>,
    fails: AtomicBool,
}

impl Switched {
    fn close(&self) {
        drop(self.inner.lock().expect("not poisoned").take());
    }
}

impl Store for Switched {
    fn apply(&self, change: Change) -> StoreFuture<Applied> {
        let inner = self.inner.lock().expect("not poisoned");
        match &*inner {
            Some(store) if !self.fails.load(Ordering::Relaxed) => store.apply(change),
            Some(_) | None => Box::pin(async { Err(StoreFault("as the case says".to_owned())) }),
        }
    }
}

/// A ledger in memory, unless it fails.
#[derive(Clone, Debug, Default)]
struct Log {
    bytes: Arc<Mutex<Vec<u8>>>,
    fails: Arc<AtomicBool>,
}

impl Log {
    fn check(&self) -> io::Result<()> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("as the case says"));
        }
        Ok(())
    }
}

// One growing text behind however many segments there are: the transcript reads it in one piece.
impl Storage for Log {
    fn instance(&self) -> &str {
        "test"
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

    fn append(&mut self, name: &str, _keep: u64) -> io::Result<Box<dyn Segment>> {
        self.check()?;
        // What stands beside the segments is not the transcript's.
        let log = Self {
            fails: Arc::clone(&self.fails),
            bytes: match name.ends_with(".jsonl") {
                true => Arc::clone(&self.bytes),
                false => Arc::default(),
            },
        };
        Ok(Box::new(log))
    }

    fn cut(&mut self, _name: &str, _keep: u64) -> io::Result<()> {
        self.check()
    }

    fn remove(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn redo(&mut self, _name: &str, _from: u64, _to: u64) -> io::Result<()> {
        self.check()
    }

    fn replace(&mut self, _draft: &str, _name: &str) -> io::Result<()> {
        Ok(())
    }
}

impl Segment for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.bytes
            .lock()
            .expect("not poisoned")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.check()
    }

    fn twin(&self) -> io::Result<Box<dyn Segment>> {
        self.check()?;
        Ok(Box::new(self.clone()))
    }
}

/// Real servers that do what the query asks of them: `?status=404`, `?cost=0.5`.
struct Backends {
    addresses: Vec<(&'static str, SocketAddr)>,
    seen: Rc<RefCell<Vec<String>>>,
    /// Calls that came with `?held=1`, and what they wait for.
    held: Rc<Cell<usize>>,
    go: Rc<Notify>,
}

impl Backends {
    async fn start(transcript: &mut Transcript) -> Self {
        let seen = Rc::default();
        let (held, go) = (Rc::default(), Rc::default());
        let mut addresses = Vec::new();
        for name in ["CRM", "SEARCH"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            addresses.push((name, listener.local_addr().expect("bound")));
            let holds = (Rc::clone(&held), Rc::clone(&go));
            spawn_local(serve(name, listener, Rc::clone(&seen), holds));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        addresses.push(("NONSENSE", listener.local_addr().expect("bound")));
        spawn_local(speak_nonsense(listener));
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        addresses.push(("CLOSED", closed.local_addr().expect("bound")));
        drop(closed);
        for (name, address) in &addresses {
            transcript.name(address.to_string(), *name);
        }
        Self {
            addresses,
            seen,
            held,
            go,
        }
    }
}

/// What is held back, and until when.
type Holds = (Rc<Cell<usize>>, Rc<Notify>);

async fn serve(
    name: &'static str,
    listener: TcpListener,
    seen: Rc<RefCell<Vec<String>>>,
    holds: Holds,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = Rc::clone(&seen);
        let holds = holds.clone();
        let service =
            service_fn(move |request| answer(name, Rc::clone(&seen), holds.clone(), request));
        spawn_local(async move {
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            let _ = serving.await;
        });
    }
}

async fn answer(
    name: &'static str,
    seen: Rc<RefCell<Vec<String>>>,
    (held, go): Holds,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let mut line = format!("{name} saw {} {}", head.method, head.uri);
    let mut fields: Vec<_> = head.headers.iter().collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in fields {
        line.push_str(&format!(
            " {name}={:?}",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    if !body.is_empty() {
        line.push_str(&format!(" +{} bytes", body.len()));
    }
    seen.borrow_mut().push(line);
    let asked = |key: &str| {
        let query = head.uri.query().unwrap_or_default();
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
            .map(str::to_owned)
    };
    if asked("held").is_some() {
        held.set(held.get() + 1);
        go.notified().await;
    }
    let mut response = Response::builder().status(asked("status").as_deref().unwrap_or("200"));
    if let Some(cost) = asked("cost") {
        response = response.header("x-cost", cost);
    }
    let response = response
        .header("content-type", "application/json")
        .body(Full::new(match asked("bytes") {
            Some(bytes) => vec![b'x'; bytes.parse().expect("a number")].into(),
            None => Bytes::from_static(b"{\"ok\":true}"),
        }));
    Ok(response.expect("a response"))
}

async fn speak_nonsense(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.write_all(b"SMTP ready\r\n\r\n").await;
    }
}
