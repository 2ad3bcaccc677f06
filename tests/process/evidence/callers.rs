//! Agents that go on calling whatever they are told, and remember every answer.

use crate::client::Connection;
use crate::gate::{Gate, Minted};
use http::Method;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What a caller was told.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Differs from call to call; as the backend would see it.
    pub line: String,
    pub request: String,
    /// Absent where the backend answered.
    pub reason: Option<String>,
    pub status: u16,
    pub took: Duration,
    pub retry_after: bool,
}

impl Heard {
    pub fn unrecorded(&self) -> bool {
        self.status == 503 && self.reason.as_deref() == Some("ledger_unavailable")
    }
}

/// Callers under way.
pub struct Callers {
    heard: Arc<watch::Sender<Vec<Heard>>>,
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Callers {
    /// So many of them; each fourth call is one that can't be undone.
    pub fn start(gate: &Gate, session: &Minted, count: usize) -> Self {
        Self::with(gate, session, count, "mixed", |number| number % 4 == 3)
    }

    /// So many of them, all of whose calls are ordinary ones.
    pub fn reading(gate: &Gate, session: &Minted, count: usize) -> Self {
        Self::with(gate, session, count, "reading", |_| false)
    }

    fn with(
        gate: &Gate,
        session: &Minted,
        count: usize,
        name: &'static str,
        lasting: fn(u64) -> bool,
    ) -> Self {
        let heard = Arc::new(watch::Sender::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let tasks = (0..count).map(|caller| {
            let (heard, over) = (Arc::clone(&heard), Arc::clone(&over));
            tokio::spawn(call_on(
                gate.agents,
                session.token.clone(),
                format!("{name}-{caller}"),
                lasting,
                heard,
                over,
            ))
        });
        let tasks = tasks.collect();
        Self { heard, over, tasks }
    }

    /// How many answers there are so far.
    pub fn answers(&self) -> usize {
        self.heard.borrow().len()
    }

    /// Waits for `count` answers of this kind after the first `from`, and gives all after those.
    pub async fn hear(&self, from: usize, count: usize, kind: fn(&Heard) -> bool) -> Vec<Heard> {
        let mut heard = self.heard.subscribe();
        let enough =
            heard.wait_for(|heard| heard[from..].iter().filter(|it| kind(it)).count() >= count);
        let waited = tokio::time::timeout(crate::wait::PATIENCE, enough).await;
        // What it gives is a lock, which must not be held while another is taken.
        let waited = waited.is_ok_and(|heard| heard.is_ok());
        let all = self.heard.borrow()[from..].to_vec();
        assert!(waited, "not heard: {count} of {all:#?}");
        all
    }

    /// Lets the calls under way end, and gives all that was heard.
    pub async fn stop(self) -> Vec<Heard> {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            crate::wait::within(
                crate::wait::PATIENCE,
                "a caller hears its last answer",
                task,
            )
            .await
            .unwrap();
        }
        self.heard.send_replace(Vec::new())
    }
}

async fn call_on(
    agents: SocketAddr,
    token: String,
    caller: String,
    lasting: fn(u64) -> bool,
    heard: Arc<watch::Sender<Vec<Heard>>>,
    over: Arc<AtomicBool>,
) {
    let mut connection = Connection::open(agents, &token).await.unwrap();
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let (method, path) = match lasting(number) {
            true => (Method::DELETE, format!("/items/{caller}-{number}")),
            false => (Method::GET, format!("/read/{caller}-{number}")),
        };
        let line = format!("{method} {path}");
        let begun = Instant::now();
        let answer = connection.call(method, &format!("/t{path}"), ()).await;
        let answer =
            answer.unwrap_or_else(|it| panic!("{line}: the gate lives, and answers: {it}"));
        let entry = Heard {
            line,
            request: answer.header("toolgate-request-id").unwrap().to_owned(),
            reason: answer.reason(),
            status: answer.status.as_u16(),
            took: begun.elapsed(),
            retry_after: answer.header("retry-after").is_some(),
        };
        heard.send_modify(|heard| heard.push(entry));
        // Refused, an agent comes back a little later. Served, it need not hurry either.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Of all records: the decision and the outcome of each request, by its id.
pub struct OnRecord {
    /// Targets of allowed calls.
    allowed: HashMap<String, String>,
    outcomes: HashMap<String, serde_json::Value>,
}

impl OnRecord {
    pub fn of(records: &[serde_json::Value]) -> Self {
        let text =
            |record: &serde_json::Value, name: &str| record[name].as_str().unwrap().to_owned();
        let (mut allowed, mut outcomes) = (HashMap::new(), HashMap::new());
        for record in records {
            if record["kind"] == "decision" && record["decision"] == "allow" {
                allowed.insert(text(record, "target"), text(record, "request"));
            } else if record["kind"] == "outcome" {
                outcomes.insert(text(record, "request"), record.clone());
            }
        }
        Self { allowed, outcomes }
    }

    /// What reached the backend was allowed on record; what was answered has its decision and its end; what was refused
    /// reached nobody, and where its decision got into the record after all, its end says so.
    pub fn judge(&self, heard: &[Heard], seen: &HashMap<String, u64>) {
        for (line, times) in seen {
            let (_, path) = line.split_once(' ').unwrap();
            let known = self.allowed.contains_key(&format!("/t{path}"));
            assert!(known, "forwarded {times} times, not on record: {line}");
        }
        for call in heard {
            let (_, path) = call.line.split_once(' ').unwrap();
            let decided = self.allowed.get(&format!("/t{path}"));
            match call.status {
                200 => {
                    assert_eq!(decided, Some(&call.request), "{call:?}");
                    let outcome = &self.outcomes[&call.request];
                    assert_eq!(outcome["status"], 200, "{outcome}");
                }
                _ => {
                    assert!(call.unrecorded() && call.retry_after, "{call:?}");
                    assert_eq!(seen.get(&call.line), None, "{call:?}");
                    if decided.is_some() {
                        let outcome = &self.outcomes[&call.request];
                        assert_eq!(outcome["fault"], "ledger_late", "{outcome}");
                    }
                }
            }
        }
    }

    /// A call that was allowed and answered, whatever was the matter with the disk by then.
    pub fn ended(&self, request: &str) -> bool {
        self.outcomes.contains_key(request)
    }
}
