//! A disk that fails, fills up, dies or hangs under a gate that runs: strace puts its errors and its slowness between the
//! ledger's two threads and the kernel, for as long as a test wants them there.

use super::auditor;
use super::callers::{Callers, Heard, OnRecord};
use super::scene::{Held, setup};
use crate::backend::Backend;
use crate::client::{Answer, get};
use crate::gate::{Gate, Minted, Setup};
use crate::ledger;
use crate::wait::{PATIENCE, signal, until, within};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What the disk does, as strace's `inject`.
struct Trouble {
    name: &'static str,
    inject: &'static str,
}

/// Each of them ends with the ledger refusing, and the calls with it.
const ERRORS: [Trouble; 4] = [
    Trouble {
        name: "writes fail",
        inject: "write:error=EIO",
    },
    Trouble {
        name: "no space is left",
        inject: "write:error=ENOSPC",
    },
    Trouble {
        name: "syncs fail",
        inject: "fdatasync,fsync:error=EIO",
    },
    Trouble {
        name: "nothing works",
        inject: "write,pwrite64,fdatasync,fsync,ftruncate,openat,rename,unlink:error=EIO",
    },
];

const SLOW: Trouble = Trouble {
    name: "each sync takes five seconds",
    inject: "fdatasync,fsync:delay_exit=5000000",
};

/// How long service may be away once the disk answers.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// What a refusal may take, where machines that test are busy.
const PROMPT: Duration = Duration::from_secs(3);
/// What an answer may take while the disk hangs: the gate waits for it five seconds.
const BOUNDED: Duration = Duration::from_secs(9);

/// strace on the ledger's threads.
struct Injected(Child);

impl Injected {
    async fn begin(gate: &Gate, setup: &Setup, trouble: &Trouble) -> Self {
        let directory = setup.ledger();
        let next = ledger::lines(&directory).len();
        let names = std::fs::read_dir(&directory).unwrap();
        let mut paths: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
        // Segments that may be begun meanwhile; strace knows no patterns.
        paths.extend((next..next + 2000).map(|seq| directory.join(format!("{seq:016}.jsonl"))));
        paths.extend(["checkpoints", "roots"].map(|name| directory.join(name)));
        paths.push(directory);
        let (calls, _) = trouble.inject.split_once(':').unwrap();
        let mut command = Command::new("strace");
        command.args(["-o", "/dev/null", "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={}", trouble.inject)]);
        let threads = threads(gate.id());
        for thread in &threads {
            command.args(["-p", thread]);
        }
        for path in paths {
            command.arg("-P").arg(path);
        }
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let status = |thread: &str| format!("/proc/{}/task/{thread}/status", gate.id());
        until("strace holds both threads", || async {
            let mut all = threads.iter().map(|thread| status(thread));
            all.all(|path| {
                let text = std::fs::read_to_string(path).unwrap();
                text.contains(&format!("TracerPid:\t{}\n", child.id()))
            })
            .then_some(())
        })
        .await;
        Self(child)
    }

    /// The disk answers again.
    fn end(mut self) {
        signal(self.0.id(), "TERM");
        self.0.wait().unwrap();
    }
}

/// The threads through which the ledger speaks to the disk.
fn threads(process: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let named = tasks.filter_map(|task| {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let id = path.file_name().unwrap().to_str().unwrap().to_owned();
        name.starts_with("ledger").then_some(id)
    });
    let threads: Vec<String> = named.collect();
    assert_eq!(threads.len(), 2, "a writer, and one that syncs");
    threads
}

/// A gate under load, with a call that is under way at the backend and one that waits for a person.
struct Scene {
    backend: Backend,
    setup: Setup,
    gate: Gate,
    session: Minted,
    callers: Callers,
    held: Held,
}

impl Scene {
    async fn open() -> Self {
        let backend = Backend::start("t").await;
        let setup = setup(&backend);
        let gate = setup.start().await;
        let session = gate.mint("demo", "bot").await;
        let held = Held::open(&gate, &session, &setup).await;
        let callers = Callers::start(&gate, &session, 4);
        Self {
            backend,
            setup,
            gate,
            session,
            callers,
            held,
        }
    }

    /// A call that is at the backend when this returns, to be answered when the backend is told to.
    async fn under_way(&self) -> JoinHandle<Answer> {
        let before = self.backend.seen("GET /held");
        let (agents, token) = (self.gate.agents, self.session.token.clone());
        let answer = tokio::spawn(async move { get(agents, &token, "/t/held").await });
        until("the backend has it", || async {
            (self.backend.seen("GET /held") > before).then_some(())
        })
        .await;
        answer
    }

    async fn ready(&self) -> bool {
        get(self.gate.metrics, "", "/readyz").await.status == 200
    }

    async fn failures(&self) -> f64 {
        self.gate
            .metric("toolgate_ledger_failures_total", &[])
            .await
    }

    /// Calls are refused as long as this trouble lasts, and no longer. What was under way ends, and its end is on record: its
    /// request's id.
    async fn suffer(&self, trouble: &Trouble) -> String {
        let failures = self.failures().await;
        let under_way = self.under_way().await;
        let from = self.callers.answers();
        let injected = Injected::begin(&self.gate, &self.setup, trouble).await;
        self.callers.hear(from, 1, Heard::unrecorded).await;
        assert!(!self.ready().await, "{}", trouble.name);
        assert!(self.failures().await > failures, "{}", trouble.name);
        self.backend.release(1);
        let answer = within(PATIENCE, "what was sent is answered", under_way).await;
        let answer = answer.unwrap().expect(200);
        self.held.stays(&self.gate, &self.setup).await;
        let from = self.callers.answers();
        let heard = self.callers.hear(from, 40, Heard::unrecorded).await;
        for call in heard {
            assert!(call.unrecorded(), "{}: {call:?}", trouble.name);
            assert!(call.took < PROMPT, "{}: {call:?}", trouble.name);
        }
        injected.end();
        self.back(trouble).await;
        answer.header("toolgate-request-id").unwrap().to_owned()
    }

    /// Service returns in time.
    async fn back(&self, trouble: &Trouble) {
        let answers = Instant::now();
        let from = self.callers.answers();
        self.callers.hear(from, 1, |call| call.status == 200).await;
        let away = answers.elapsed();
        println!("{}: back after {away:?}", trouble.name);
        assert!(away < BACK_WITHIN, "{}: {away:?}", trouble.name);
        assert!(self.ready().await, "{}", trouble.name);
    }

    /// What was held runs, once; the gate stops; everything is on record.
    async fn close(mut self, under_way: &[String]) -> Vec<Heard> {
        self.held.runs(&self.gate, &self.setup, &self.backend).await;
        let heard = self.callers.stop().await;
        self.gate.signal("TERM");
        assert!(self.gate.ended().await.success());
        let directory = self.setup.ledger();
        let records = ledger::verified(&directory);
        auditor::sealed(&directory);
        let record = OnRecord::of(&records);
        record.judge(&heard, &self.backend.all_seen());
        for request in under_way {
            assert!(record.ended(request), "{request} has its end on record");
        }
        heard
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_error_the_disk_has_nothing_is_forwarded_unrecorded_and_service_is_back_with_it() {
    let scene = Scene::open().await;
    let mut under_way = Vec::new();
    for trouble in &ERRORS {
        under_way.push(scene.suffer(trouble).await);
    }
    let heard = scene.close(&under_way).await;
    let refused = heard.iter().filter(|call| call.unrecorded()).count();
    println!("{} calls, {refused} refused", heard.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_each_sync_takes_five_seconds_nobody_hangs_and_nothing_is_forwarded_unrecorded() {
    let scene = Scene::open().await;
    let from = scene.callers.answers();
    let injected = Injected::begin(&scene.gate, &scene.setup, &SLOW).await;
    scene.callers.hear(from, 1, Heard::unrecorded).await;
    // Five seconds are also what it waits, so it may be over at once; the next sync comes.
    until("the gate says that it is not ready", || async {
        (!scene.ready().await).then_some(())
    })
    .await;
    injected.end();
    scene.back(&SLOW).await;
    let heard = scene.close(&[]).await;
    let slowest = heard.iter().map(|call| call.took).max().unwrap();
    println!("{} calls, the slowest took {slowest:?}", heard.len());
    assert!(slowest < BOUNDED, "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_each_sync_takes_five_seconds_calls_that_need_none_go_on_as_ever() {
    let backend = Backend::start("t").await;
    let setup = setup(&backend);
    // A new segment is begun on the disk, and that is waited for.
    setup.edit_server(|text| text.replace(", segment: { size: 64KiB }", ""));
    let mut gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    let callers = Callers::reading(&gate, &session, 4);
    callers.hear(0, 20, |call| call.status == 200).await;
    let injected = Injected::begin(&gate, &setup, &SLOW).await;
    let begun = Instant::now();
    let from = callers.answers();
    // Longer than a sync that was begun meanwhile takes.
    let mut heard = Vec::new();
    while begun.elapsed() < Duration::from_secs(6) {
        heard = callers.hear(from, heard.len() + 20, |_| true).await;
    }
    assert_eq!(get(gate.metrics, "", "/readyz").await.status, 200);
    injected.end();
    let slowest = heard.iter().map(|call| call.took).max().unwrap();
    println!("{} calls, the slowest took {slowest:?}", heard.len());
    assert!(heard.iter().all(|call| call.status == 200), "{heard:#?}");
    assert!(slowest < PROMPT, "{slowest:?}");
    let heard = callers.stop().await;
    gate.signal("TERM");
    assert!(gate.ended().await.success());
    auditor::sealed(&setup.ledger());
    let records = ledger::verified(&setup.ledger());
    OnRecord::of(&records).judge(&heard, &backend.all_seen());
}
