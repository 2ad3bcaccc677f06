//! kill -9 at every durable step of the life of an approval, under strace: what was acknowledged holds, and nothing runs
//! twice.
//!
//! One story is told again and again; each time the gate is killed as it makes its N-th call of one kind to one file. A
//! call is not made any more when it is killed in it. Killed before a `write`, the disk does not know yet; killed before the
//! sync that follows, it does, and nobody was told.

use super::scene::{APPROVE, DENY, Scene, Shown, policy, setup, stage, waits};
use super::talk::{Order, try_send};
use crate::backend::Backend;
use crate::client::{Answer, try_call};
use crate::gate::{Gate, Minted, Setup, minted};
use crate::ledger;
use crate::wait::{PATIENCE, within};
use http::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A kind of system call to one file.
#[derive(Clone, Copy, Debug)]
struct Point {
    file: &'static str,
    calls: &'static str,
}

const STORE: &str = "data/toolgate.db-wal";
const LEDGER: &str = "data/ledger/0000000000000000.jsonl";
const SYNCS: &str = "fdatasync,fsync";

/// Ledger and store, each before it knows and before it promises.
const POINTS: [Point; 4] = [
    Point {
        file: STORE,
        calls: SYNCS,
    },
    Point {
        file: LEDGER,
        calls: SYNCS,
    },
    Point {
        file: STORE,
        calls: "pwrite64",
    },
    Point {
        file: LEDGER,
        calls: "write",
    },
];

/// Gates at the same time.
const LANES: usize = 3;

/// How far a step has come, as those know who took it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    NotTaken,
    /// And the gate died before it answered.
    Unanswered,
    Acknowledged,
}

/// All that was acknowledged.
#[derive(Clone, Debug, Default)]
struct Told {
    session: Option<Minted>,
    /// A call of two that runs.
    pair: Option<Shown>,
    first_word: Step,
    second_word: Step,
    run: Step,
    /// A call that is denied.
    denied: Option<Shown>,
    denial: Step,
    /// A call that is taken back.
    back: Option<Shown>,
    withdrawal: Step,
    /// A grant of two.
    wish: Option<Shown>,
    wish_agreed: Step,
    use_of_it: Step,
}

fn pair() -> Order {
    Order::post("/t/pair/1").body("of two")
}

fn denied() -> Order {
    Order::post("/t/act/denied")
}

fn back() -> Order {
    Order::post("/t/act/back")
}

fn export() -> Order {
    Order::post("/t/export/1")
}

fn wish() -> Order {
    let wish = json!({ "scope": "export", "resource": "item:1", "uses": 1, "ttl": "10m", "reason": "the report" });
    let order = Order::post("/.toolgate/grants").with("content-type", "application/json");
    order.body(wish.to_string())
}

/// A gate that may die at any moment.
struct Dying<'a> {
    setup: &'a Setup,
    gate: &'a Gate,
}

impl Dying<'_> {
    async fn agent(&self, session: &Minted, order: &Order) -> Option<Answer> {
        let answer = try_send(self.gate.agents, &session.token, order);
        within(PATIENCE, "an answer, or its end", answer).await.ok()
    }

    async fn by(&self, who: &str, method: Method, path: &str, body: &Value) -> Option<Answer> {
        let answer = try_call(self.gate.admin, self.setup.key(who), method, path, body);
        within(PATIENCE, "an answer, or its end", answer).await.ok()
    }

    async fn ask(&self, session: &Minted, order: &Order) -> Option<Shown> {
        let id = waits(&self.agent(session, &order.clone().at_once()).await?);
        let path = format!("/v1/approvals/{id}");
        let shown = self
            .by("dana", Method::GET, &path, &Value::Null)
            .await?
            .expect(200)
            .json();
        let digest = shown["digest"].as_str().unwrap().to_owned();
        Some(Shown { id, digest })
    }

    async fn decide(&self, who: &str, shown: &Shown, word: &str) -> Option<()> {
        let path = format!("/v1/approvals/{}/decision", shown.id);
        let body = json!({ "decision": word, "digest": shown.digest });
        self.by(who, Method::POST, &path, &body).await?.expect(200);
        Some(())
    }

    /// The story. `None`: the gate died in it.
    async fn live(&self, told: &mut Told) -> Option<()> {
        let asked = json!({ "project": "demo", "agent": "bot" });
        let session = minted(
            &self
                .by("root", Method::POST, "/v1/sessions", &asked)
                .await?
                .expect(201),
        );
        told.session = Some(session.clone());
        let shown = self.ask(&session, &pair()).await?;
        told.pair = Some(shown.clone());
        told.first_word = Step::Unanswered;
        self.decide("dana", &shown, APPROVE).await?;
        told.first_word = Step::Acknowledged;
        told.second_word = Step::Unanswered;
        self.decide("finn", &shown, APPROVE).await?;
        told.second_word = Step::Acknowledged;
        told.run = Step::Unanswered;
        self.agent(&session, &pair()).await?.expect(200);
        told.run = Step::Acknowledged;

        let shown = self.ask(&session, &denied()).await?;
        told.denied = Some(shown.clone());
        told.denial = Step::Unanswered;
        self.decide("dana", &shown, DENY).await?;
        told.denial = Step::Acknowledged;

        let shown = self.ask(&session, &back()).await?;
        told.back = Some(shown.clone());
        told.withdrawal = Step::Unanswered;
        let place = format!("/.toolgate/approvals/{}", shown.id);
        let taken = self
            .agent(&session, &Order::new(Method::DELETE, place))
            .await?;
        assert!(taken.status.is_success(), "{taken:?}");
        told.withdrawal = Step::Acknowledged;

        let shown = self.ask(&session, &wish()).await?;
        told.wish = Some(shown.clone());
        self.decide("dana", &shown, APPROVE).await?;
        told.wish_agreed = Step::Unanswered;
        self.decide("finn", &shown, APPROVE).await?;
        told.wish_agreed = Step::Acknowledged;
        told.use_of_it = Step::Unanswered;
        self.agent(&session, &export()).await?.expect(200);
        told.use_of_it = Step::Acknowledged;
        Some(())
    }
}

/// `toolgate serve` under strace, which is no parent of it; killed in the N-th call of this kind.
fn traced(setup: &Setup, point: Point, kill: Option<usize>) -> (Command, PathBuf) {
    let folder = setup.config().parent().unwrap().to_owned();
    let log = folder.join("strace.log");
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o"]).arg(&log);
    command.arg("-P").arg(folder.join(point.file));
    // Where the syncs are is of interest for all.
    command.args(["-e", &format!("trace={SYNCS},{}", point.calls)]);
    if let Some(number) = kill {
        command.args([
            "-e",
            &format!("inject={}:signal=KILL:when={number}", point.calls),
        ]);
    }
    let serve = setup.serve(&[]);
    command.arg(serve.get_program()).args(serve.get_args());
    (command, log)
}

/// Requests that are denied before the story: strace counts the calls of each thread by itself, and those of the story's
/// must not be taken for those of the start.
const BEFORE: usize = 8;

async fn warm_up(dying: &Dying<'_>) -> Option<()> {
    let session = dying.gate.mint("demo", "bot").await;
    for number in 0..BEFORE {
        let order = Order::post(format!("/t/act/before-{number}"));
        let shown = dying.ask(&session, &order).await?;
        dying.decide("dana", &shown, DENY).await?;
    }
    Some(())
}

/// The numbers of the calls of this kind that the story makes, behind each of which something else would be on the disk.
async fn steps(point: Point) -> Vec<usize> {
    let backend = Backend::start("t").await;
    let setup = setup(&policy(&backend));
    let (command, log) = traced(&setup, point, None);
    let gate = setup.started(command).await;
    let dying = Dying {
        setup: &setup,
        gate: &gate,
    };
    warm_up(&dying).await.expect("nobody kills it");
    let before = calls(&log, point);
    let mut told = Told::default();
    dying.live(&mut told).await.expect("nobody kills it");
    gate.kill();
    let all = calls(&log, point);
    let behind = &all[before.len()..];
    let of = |thread: &str| behind.iter().filter(|call| call.thread == thread).count();
    let most = behind.iter().max_by_key(|call| of(&call.thread));
    let thread = &most.expect("the story writes").thread;
    let story: Vec<&Call> = behind
        .iter()
        .filter(|call| call.thread == *thread)
        .collect();
    // What is done each second, whoever asks for nothing, may fall into the story.
    let others = all.iter().filter(|call| call.thread != *thread);
    let others = others.map(|call| call.number).max().unwrap_or(0);
    assert!(
        others < story[0].number,
        "{point:?}: {BEFORE} are too few: {others} by others, {} here",
        story[0].number
    );
    // Of a commit's writes the first is enough: until the last of them, there is no commit.
    let first = story.into_iter().filter(|call| call.first);
    first.map(|call| call.number).collect()
}

/// A call that strace saw.
struct Call {
    thread: String,
    /// Of its thread.
    number: usize,
    /// Whether it is the first after a sync.
    first: bool,
}

fn calls(log: &std::path::Path, point: Point) -> Vec<Call> {
    let text = std::fs::read_to_string(log).unwrap();
    let mut found: Vec<Call> = Vec::new();
    let mut synced = true;
    for line in text.lines().filter(|line| !line.contains("resumed>")) {
        let named = |names: &str| {
            let mut names = names.split(',');
            names.any(|name| line.contains(&format!(" {name}(")))
        };
        if named(point.calls) {
            let thread = line.split_whitespace().next().unwrap();
            let before = found.iter().filter(|call| call.thread == thread).count();
            found.push(Call {
                thread: thread.to_owned(),
                number: before + 1,
                first: synced || point.calls == SYNCS,
            });
            synced = false;
        }
        synced |= named(SYNCS);
    }
    found
}

/// The story until the kill, the start after it, and what must be so then.
async fn killed(point: Point, number: usize) -> (Told, bool) {
    let backend = Backend::start("t").await;
    let setup = setup(&policy(&backend));
    let (command, _) = traced(&setup, point, Some(number));
    let gate = setup.started(command).await;
    let dying = Dying {
        setup: &setup,
        gate: &gate,
    };
    let mut told = Told::default();
    // How many commits there are before the story is a matter of a few: killed before it began, there is nothing to judge.
    let begun = warm_up(&dying).await.is_some();
    let died = begun && dying.live(&mut told).await.is_none();
    gate.kill();
    let gate = setup.start().await;
    let scene = Scene {
        backend,
        setup,
        gate,
    };
    let story = format!("killed in {point:?} number {number}: {told:?}");
    judge(&scene, &told, &story).await;
    scene.gate.kill();
    drop(ledger::verified(&scene.setup.ledger()));
    (told, died)
}

async fn judge(scene: &Scene, told: &Told, story: &str) {
    let Some(session) = &told.session else { return };
    if let Some(shown) = &told.pair {
        judge_pair(scene, session, shown, told, story).await;
    } else {
        assert_eq!(scene.backend.total(), 0, "{story}");
    }
    if let Some(shown) = &told.denied {
        let end = scene.stage(&shown.id).await;
        let may = told.denial != Step::Acknowledged && end == "pending";
        assert!(may || end == "denied", "{end}: {story}");
        let again = scene.send(session, &denied().at_once()).await;
        let reason = again.reason();
        assert_eq!(
            reason.as_deref() == Some("approval_denied"),
            end == "denied",
            "{story}"
        );
    }
    if let Some(shown) = &told.back {
        let end = scene.stage(&shown.id).await;
        let may = told.withdrawal != Step::Acknowledged && end == "pending";
        assert!(may || end == "withdrawn", "{end}: {story}");
    }
    if let Some(shown) = &told.wish {
        judge_wish(scene, session, shown, told, story).await;
    }
    for line in ["POST /act/denied", "POST /act/back"] {
        assert_eq!(scene.backend.seen(line), 0, "{story}");
    }
}

/// It stands where it was acknowledged to stand; with all that is missing, it has run once in the end.
async fn judge_pair(scene: &Scene, session: &Minted, shown: &Shown, told: &Told, story: &str) {
    let all = scene.all(&shown.id).await;
    let votes: Vec<&str> = all["votes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["principal"].as_str().unwrap())
        .collect();
    for (step, who) in [(told.first_word, "dana"), (told.second_word, "finn")] {
        let counted = votes.iter().filter(|it| **it == who).count();
        let may = match step {
            Step::NotTaken => counted == 0,
            Step::Unanswered => counted <= 1,
            Step::Acknowledged => counted == 1,
        };
        assert!(may, "{who} in {all}: {story}");
    }
    let end = stage(&all);
    let may: &[&str] = match (told.second_word, told.run) {
        (Step::NotTaken, _) => &["pending"],
        (Step::Unanswered, _) => &["pending", "approved"],
        (_, Step::NotTaken) => &["approved"],
        (_, Step::Unanswered) => &["approved", "unknown", "executed"],
        // The answer may be faster than the word that it was given.
        (_, Step::Acknowledged) => &["executed", "unknown"],
    };
    assert!(may.contains(&end.as_str()), "{end}: {story}");
    let line = "POST /pair/1";
    let before = scene.backend.seen(line);
    assert!(before <= 1, "{story}");
    match end.as_str() {
        "pending" | "approved" => {
            assert_eq!(before, 0, "{end}: {story}");
            if end == "pending" {
                scene.approve("dana", shown).await;
                scene.approve("finn", shown).await;
            }
            scene.send(session, &pair()).await.expect(200);
        }
        "unknown" => {
            for _ in 0..2 {
                scene
                    .send(session, &pair())
                    .await
                    .refused(409, "outcome_unknown");
            }
            assert_eq!(scene.backend.seen(line), before, "{story}");
            let path = format!("/v1/approvals/{}/resolve", shown.id);
            let said = json!({ "ran": before == 1, "note": "the backend's own log says so" });
            scene
                .by("root", Method::POST, &path, &said)
                .await
                .expect(200);
            if before == 0 {
                scene.send(session, &pair()).await.expect(200);
            }
        }
        _ => {
            let again = scene.send(session, &pair().at_once()).await;
            assert!(
                matches!(again.status.as_u16(), 200 | 202 | 409),
                "{again:?}: {story}"
            );
        }
    }
    assert_eq!(scene.backend.seen(line), 1, "{end}: {story}");
}

/// Given at most once, and if it was acknowledged, given.
async fn judge_wish(scene: &Scene, session: &Minted, shown: &Shown, told: &Told, story: &str) {
    let end = scene.stage(&shown.id).await;
    if told.wish_agreed == Step::NotTaken {
        assert_eq!(end, "pending", "{story}");
    }
    let line = "POST /export/1";
    // Whoever finds it agreed to and not given, gives it.
    let place = Order::new(Method::GET, format!("/.toolgate/approvals/{}", shown.id));
    scene.send(session, &place).await.expect(200);
    let uses = [
        scene.send(session, &export()).await,
        scene.send(session, &export()).await,
    ];
    let passed = uses.iter().filter(|it| it.status == 200).count();
    let seen = scene.backend.seen(line);
    assert!(seen <= 1, "{end}: {story}");
    match (told.wish_agreed, told.use_of_it) {
        (Step::Acknowledged, Step::NotTaken) => {
            assert_eq!((passed, seen), (1, 1), "{end}: {story}")
        }
        (Step::Acknowledged, Step::Acknowledged) => {
            assert_eq!((passed, seen), (0, 1), "{end}: {story}")
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_durable_step_of_an_approval_nothing_acknowledged_is_lost_and_nothing_runs_twice()
 {
    let room = Arc::new(Semaphore::new(LANES));
    let mut runs = JoinSet::new();
    for point in POINTS {
        let steps = steps(point).await;
        println!("{} of {}: {} steps", point.calls, point.file, steps.len());
        assert!(steps.len() >= 10, "{point:?}: {steps:?}");
        for number in steps {
            let room = Arc::clone(&room);
            runs.spawn(async move {
                let _place = room.acquire().await.unwrap();
                killed(point, number).await
            });
        }
    }
    let mut stories = Vec::new();
    let mut survived = 0;
    while let Some(ended) = runs.join_next().await {
        let (told, died) = ended.unwrap();
        stories.push(told);
        survived += usize::from(!died);
    }
    // For the same reason some come before the story or behind it.
    assert!(
        survived <= stories.len() / 4,
        "{survived} stories were not cut"
    );
    let cut = |taken: fn(&Told) -> Step| {
        stories
            .iter()
            .filter(|told| taken(told) == Step::Unanswered)
            .count()
    };
    println!(
        "{} kills, {survived} of them outside of the story; during the first word {}, the second {}, the run {}, a denial {}, a withdrawal {}, a grant {}, its use {}",
        stories.len(),
        cut(|it| it.first_word),
        cut(|it| it.second_word),
        cut(|it| it.run),
        cut(|it| it.denial),
        cut(|it| it.withdrawal),
        cut(|it| it.wish_agreed),
        cut(|it| it.use_of_it)
    );
    for taken in [
        |it: &Told| it.first_word,
        |it: &Told| it.second_word,
        |it: &Told| it.run,
        |it: &Told| it.denial,
        |it: &Told| it.wish_agreed,
    ] {
        assert!(cut(taken) > 0, "each step was cut in");
    }
}
