//! Notifiers over a real store and real receivers, on a clock that is stepped.

pub(in crate::io) mod receiver;

use super::queue::AT_ONCE;
use super::schedule::PAUSES;
use super::*;
use crate::policy::attributes::Attributes;
use crate::policy::id::SessionId;
use crate::policy::model::{Notify, Parts, Policy, PolicyHash};
use crate::policy::name::{AgentName, NotifyName, PrincipalName};
use crate::policy::time::{Now, Tick};
use crate::policy::token::TokenDigest;
use crate::store::outbox::NoticeRow;
use crate::store::{Change, SessionRow, Store as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use receiver::{Answer, Arrival, Receiver};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(in crate::io) const PATIENCE: Duration = Duration::from_secs(20);
pub(in crate::io) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Stands still until it is stepped.
struct Stepped(AtomicI64);

impl Clock for Stepped {
    fn now(&self) -> Now {
        let micros = self.0.load(Ordering::SeqCst);
        Now {
            wall: Timestamp::from_micros(1_700_000_000_000_000 + micros),
            tick: Tick::from_nanos(1_000_000_000 + micros.unsigned_abs() * 1000),
        }
    }
}

/// A notifier that runs, and what it stands on.
struct World {
    folder: TempDir,
    clock: Arc<Stepped>,
    metrics: Arc<Metrics>,
    store: Arc<Embedded>,
    notifier: Notifier,
    running: JoinHandle<()>,
    sessions: u128,
}

fn target(name: &str, receiver: &Receiver) -> Notify {
    Notify {
        name: NotifyName::parse(name).unwrap(),
        url: SecretString::from(receiver.url()),
        secrets: vec![SecretString::from(SECRET)],
    }
}

fn policy(project: &str, notify: Vec<Notify>) -> Policy {
    Policy::assemble(Parts {
        project: ProjectName::parse(project).unwrap(),
        hash: PolicyHash([0; 32]),
        agents: Vec::new(),
        tools: Vec::new(),
        routes: Vec::new(),
        limits: Vec::new(),
        chains: Vec::new(),
        notify,
    })
    .unwrap()
}

impl World {
    /// With the targets of project `demo`.
    fn new(targets: Vec<Notify>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Stepped(AtomicI64::new(0)));
        Self::on(folder, clock, &[policy("demo", targets)])
    }

    fn on(folder: TempDir, clock: Arc<Stepped>, policies: &[Policy]) -> Self {
        let (store, snapshot) =
            Embedded::open(&folder.path().join("toolgate.db"), clock.now().wall).unwrap();
        let (store, metrics) = (Arc::new(store), Arc::new(Metrics::new()));
        let notifier = Notifier::new(NotifierParts {
            clock: Arc::<Stepped>::clone(&clock),
            store: Arc::clone(&store),
            deliveries: snapshot.deliveries,
            metrics: Arc::clone(&metrics),
        });
        notifier.install(Targets::of(policies).unwrap());
        notifier.link_to("https://gate.example");
        Self {
            running: tokio::spawn(notifier.clone().run()),
            folder,
            clock,
            metrics,
            store,
            notifier,
            sessions: 0,
        }
    }

    /// Another process on the same files, after this one was killed.
    async fn killed_and_started(self, policies: &[Policy]) -> Self {
        self.running.abort();
        drop(self.running.await);
        self.store.close();
        Self::on(self.folder, self.clock, policies)
    }

    fn step(&self, span: Duration) {
        let micros = i64::try_from(span.as_micros()).unwrap();
        self.clock.0.fetch_add(micros, Ordering::SeqCst);
        self.notifier.0.roused.notify_one();
    }

    /// A session of `project` comes into quarantine: the plainest thing that is told.
    async fn quarantine(&mut self, project: &str, reason: &str) {
        self.sessions += 1;
        let session = SessionId::new(Uuid::from_u128(self.sessions));
        let row = SessionRow {
            id: session,
            token: TokenDigest::from_bytes([u8::try_from(self.sessions).unwrap(); 32]),
            project: ProjectName::parse(project).unwrap(),
            agent: AgentName::parse("bot").unwrap(),
            attributes: Attributes::default(),
            narrowing: None,
            parent: None,
            run: None,
            bound_to: None,
            intent: None,
            minted_by: PrincipalName::parse("root").unwrap(),
            minted_at: self.clock.now().wall,
            expires_at: self.clock.now().wall,
            quarantined: None,
        };
        self.store.apply(Change::Mint(Box::new(row))).await.unwrap();
        let quarantine = Change::Quarantine {
            session,
            at: self.clock.now().wall,
            reason: reason.to_owned(),
            notice: Some(Box::new(NoticeRow {
                id: session.to_string().into(),
                at: self.clock.now().wall,
                project: ProjectName::parse(project).unwrap(),
                chain: None,
                kind: "session.quarantined".into(),
                data: json!({"project": project, "session": session.to_string(), "reason": reason})
                    .to_string()
                    .into(),
            })),
        };
        self.store.apply(quarantine).await.unwrap();
    }

    /// Waits until the metrics have this line.
    async fn shows(&self, line: &str) {
        let waiting = async {
            while !self.metrics.encode().lines().any(|it| it == line) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let shown = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(shown.is_ok(), "{line} is missing in\n{}", self.webhooks());
    }

    /// Waits until so many attempts at `target` have come to `result`, and all that follows from them is done.
    async fn counts(&self, target: &str, result: &str, count: usize) {
        let name = "toolgate_webhook_deliveries_total";
        let labels = format!("project=\"demo\",result=\"{result}\",target=\"{target}\"");
        self.shows(&format!("{name}{{{labels}}} {count}")).await;
    }

    /// Waits until the queue holds so many in this state.
    async fn holds(&self, state: &str, count: usize) {
        self.shows(&format!(
            "toolgate_webhook_queue{{state=\"{state}\"}} {count}"
        ))
        .await;
    }

    fn webhooks(&self) -> String {
        let text = self.metrics.encode();
        let lines = text.lines().filter(|line| line.contains("webhook"));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// What a next process would find.
    async fn at_rest(self) -> Vec<DeliveryRow> {
        self.notifier.rest(PATIENCE).await;
        self.running.await.unwrap();
        self.store.close();
        let path = self.folder.path().join("toolgate.db");
        let (_, snapshot) = Embedded::open(&path, self.clock.now().wall).unwrap();
        snapshot.deliveries
    }
}

fn verify(arrival: &Arrival) -> Value {
    let signed = [
        arrival.field("webhook-id"),
        arrival.field("webhook-timestamp"),
    ];
    let secret = STANDARD
        .decode(SECRET.strip_prefix("whsec_").unwrap())
        .unwrap();
    let expected = sign::signatures(
        signed[0],
        signed[1].parse().unwrap(),
        &arrival.body,
        [secret.as_slice()],
    );
    assert_eq!(arrival.field("webhook-signature"), expected);
    serde_json::from_str(&arrival.body).unwrap()
}

#[tokio::test]
async fn what_happens_is_told_once_signed_to_every_target_of_its_project() {
    let (mut ops, mut audit, mut other) = (
        Receiver::new().await,
        Receiver::new().await,
        Receiver::new().await,
    );
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Stepped(AtomicI64::new(0)));
    let policies = [
        policy("demo", vec![target("ops", &ops), target("audit", &audit)]),
        policy("prod", vec![target("ops", &other)]),
    ];
    let mut world = World::on(folder, clock, &policies);
    world.quarantine("demo", "too fast").await;
    let (first, second) = (ops.next().await, audit.next().await);
    assert_eq!(first.line, "POST /hook?key=T0KEN HTTP/1.1");
    assert_eq!(first.field("content-type"), "application/json");
    assert_eq!(first.field("webhook-timestamp"), "1700000000");
    let (said, again) = (verify(&first), verify(&second));
    assert_eq!(said, again);
    assert_eq!(first.field("webhook-id"), second.field("webhook-id"));
    assert_eq!(said["type"], "session.quarantined");
    assert_eq!(said["data"]["reason"], "too fast");
    let url = said["data"]["url"].as_str().unwrap();
    assert!(
        url.starts_with("https://gate.example/sessions/ses_"),
        "{url}"
    );
    world.quarantine("prod", "of another project").await;
    assert_eq!(verify(&other.next().await)["data"]["project"], "prod");
    world.holds("waiting", 0).await;
    world.counts("ops", "delivered", 1).await;
    assert!(world.at_rest().await.is_empty());
    assert!(ops.is_quiet() && audit.is_quiet() && other.is_quiet());
}

#[tokio::test]
async fn what_no_target_wants_is_gone_and_keeps_nothing_waiting() {
    let mut ops = Receiver::new().await;
    let mut world = World::new(vec![target("ops", &ops)]);
    world.quarantine("elsewhere", "nobody is told").await;
    world.quarantine("demo", "somebody is").await;
    assert_eq!(verify(&ops.next().await)["data"]["reason"], "somebody is");
    let store = Arc::clone(&world.store);
    assert!(store.notices(10).await.unwrap().is_empty());
    assert!(world.at_rest().await.is_empty());
}

#[tokio::test]
async fn what_failed_comes_again_with_its_id_and_a_signature_of_that_moment() {
    let mut ops = Receiver::new().await;
    let mut world = World::new(vec![target("ops", &ops)]);
    ops.answers(&[Answer::Status(500), Answer::Close]);
    world.quarantine("demo", "x").await;
    let first = ops.next().await;
    world.counts("ops", "failed", 1).await;
    world.step(PAUSES[0]);
    let second = ops.next().await;
    world.counts("ops", "failed", 2).await;
    world.step(PAUSES[1]);
    let third = ops.next().await;
    for arrival in [&second, &third] {
        verify(arrival);
        assert_eq!(arrival.field("webhook-id"), first.field("webhook-id"));
        assert_eq!(arrival.body, first.body);
    }
    assert_eq!(first.field("webhook-timestamp"), "1700000000");
    assert_eq!(second.field("webhook-timestamp"), "1700000005");
    world.counts("ops", "failed", 2).await;
    assert!(world.at_rest().await.is_empty());
}

#[tokio::test]
async fn a_receiver_that_never_takes_it_is_given_up_after_three_days_and_that_is_seen() {
    let mut ops = Receiver::new().await;
    ops.otherwise(Answer::Status(503));
    let mut world = World::new(vec![target("ops", &ops)]);
    world.quarantine("demo", "x").await;
    for (failed, pause) in (1..).zip(PAUSES) {
        verify(&ops.next().await);
        world.counts("ops", "failed", failed).await;
        world.step(pause);
    }
    verify(&ops.next().await);
    world.holds("dead", 1).await;
    world.holds("waiting", 0).await;
    world.counts("ops", "dead", 1).await;
    let demo = ProjectName::parse("demo").unwrap();
    let dead = world.notifier.dead(std::slice::from_ref(&demo));
    assert_eq!((dead.len(), dead[0].attempts), (1, 12));
    assert_eq!(&*dead[0].why, "it answered 503");
    assert!(
        world
            .notifier
            .dead(&[ProjectName::parse("prod").unwrap()])
            .is_empty()
    );

    // It is there after a restart, and goes when it is a week old.
    let world = world
        .killed_and_started(&[policy("demo", vec![target("ops", &ops)])])
        .await;
    world.holds("dead", 1).await;
    assert_eq!(world.notifier.dead(&[demo])[0].why, dead[0].why);
    world.step(queue::DEAD_FOR);
    world.notifier.0.prune().await;
    world.holds("dead", 0).await;
    assert!(world.at_rest().await.is_empty());
    assert!(ops.is_quiet());
}

#[tokio::test]
async fn a_receiver_that_says_gone_is_left_alone_until_the_next_reload() {
    let mut ops = Receiver::new().await;
    ops.answers(&[Answer::Status(410)]);
    let mut world = World::new(vec![target("ops", &ops)]);
    world.quarantine("demo", "first").await;
    ops.next().await;
    world.holds("dead", 1).await;
    world.quarantine("demo", "second").await;
    world.holds("dead", 2).await;
    assert!(ops.is_quiet(), "it was not asked again");
    let policies = [policy("demo", vec![target("ops", &ops)])];
    world.notifier.install(Targets::of(&policies).unwrap());
    world.quarantine("demo", "third").await;
    assert_eq!(verify(&ops.next().await)["data"]["reason"], "third");
    assert_eq!(world.at_rest().await.len(), 2);
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let (mut ops, elsewhere) = (Receiver::new().await, Receiver::new().await);
    ops.answers(&[Answer::Redirect(elsewhere.url())]);
    let mut world = World::new(vec![target("ops", &ops)]);
    world.quarantine("demo", "x").await;
    ops.next().await;
    world.counts("ops", "failed", 1).await;
    world.step(PAUSES[0]);
    ops.next().await;
    assert!(world.at_rest().await.is_empty());
    assert!(elsewhere.is_quiet());
}

#[tokio::test]
async fn retry_after_is_respected() {
    let mut ops = Receiver::new().await;
    ops.answers(&[Answer::NotBefore(3600)]);
    let mut world = World::new(vec![target("ops", &ops)]);
    world.quarantine("demo", "x").await;
    ops.next().await;
    world.counts("ops", "failed", 1).await;
    world.step(PAUSES[0]);
    // Another delivery shows that the notifier has looked at what is due meanwhile.
    world.quarantine("demo", "y").await;
    assert_eq!(verify(&ops.next().await)["data"]["reason"], "y");
    world.step(Duration::from_secs(3600));
    assert_eq!(verify(&ops.next().await)["data"]["reason"], "x");
    assert!(world.at_rest().await.is_empty());
}

#[tokio::test]
async fn a_receiver_that_stalls_holds_up_neither_the_others_nor_the_stop() {
    let (mut slow, mut quick) = (Receiver::new().await, Receiver::new().await);
    slow.otherwise(Answer::Stall);
    let mut world = World::new(vec![target("slow", &slow), target("quick", &quick)]);
    let most = 3 * AT_ONCE;
    for _ in 0..most {
        world.quarantine("demo", "x").await;
        quick.next().await;
    }
    for _ in 0..AT_ONCE {
        slow.next().await;
    }
    world.counts("quick", "delivered", most).await;
    assert!(slow.is_quiet(), "at most {AT_ONCE} at a time");
    let stopping = world.notifier.rest(Duration::from_millis(50));
    tokio::time::timeout(PATIENCE, stopping).await.unwrap();
    let policies = [policy("demo", vec![target("slow", &slow)])];
    slow.otherwise(Answer::Status(204));
    let world = world.killed_and_started(&policies).await;
    for _ in 0..most {
        verify(&slow.next().await);
    }
    world.holds("waiting", 0).await;
    assert!(world.at_rest().await.is_empty());
}

#[tokio::test]
async fn an_answer_without_end_is_neither_read_nor_waited_for() {
    let mut ops = Receiver::new().await;
    ops.answers(&[Answer::Endless]);
    let mut world = World::new(vec![target("ops", &ops)]);
    world.quarantine("demo", "x").await;
    ops.next().await;
    world.counts("ops", "delivered", 1).await;
    assert!(world.at_rest().await.is_empty());
}

#[tokio::test]
async fn killed_in_the_middle_of_an_attempt_the_next_process_sends_the_same_message() {
    let mut ops = Receiver::new().await;
    ops.answers(&[Answer::Stall]);
    let mut world = World::new(vec![target("ops", &ops)]);
    world.quarantine("demo", "x").await;
    let first = ops.next().await;
    let policies = [policy("demo", vec![target("ops", &ops)])];
    let world = world.killed_and_started(&policies).await;
    let second = ops.next().await;
    verify(&second);
    assert_eq!(first.field("webhook-id"), second.field("webhook-id"));
    assert!(world.at_rest().await.is_empty());
}

#[tokio::test]
async fn what_waits_for_a_target_that_the_policy_no_longer_has_is_dead() {
    let mut ops = Receiver::new().await;
    ops.answers(&[Answer::Status(500)]);
    let mut world = World::new(vec![target("ops", &ops)]);
    world.quarantine("demo", "x").await;
    ops.next().await;
    world.counts("ops", "failed", 1).await;
    world.notifier.install(Targets::default());
    world.step(PAUSES[0]);
    world.holds("dead", 1).await;
    let dead = world.at_rest().await.remove(0).progress.dead.unwrap();
    assert_eq!(&*dead.1, "the policy has no such target any more");
    assert!(ops.is_quiet());
}

#[tokio::test]
async fn while_a_secret_is_rotated_each_of_the_two_verifies() {
    let mut ops = Receiver::new().await;
    let mut both = target("ops", &ops);
    both.secrets
        .insert(0, SecretString::from("whsec_bmV3IHNlY3JldA=="));
    let mut world = World::new(vec![both]);
    world.quarantine("demo", "x").await;
    let mut arrival = ops.next().await;
    let signatures = arrival.field("webhook-signature").to_owned();
    let (new, old) = signatures.split_once(' ').unwrap();
    assert_ne!(new, old);
    arrival
        .fields
        .insert("webhook-signature".into(), old.into());
    verify(&arrival);
    assert!(world.at_rest().await.is_empty());
}
