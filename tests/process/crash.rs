//! kill -9, again and again, in the middle of everything: what was acknowledged holds, and a spent grant stays spent.

use crate::backend::Backend;
use crate::client::{get, try_call};
use crate::gate::{Gate, Minted, Setup, minted};
use crate::ledger;
use crate::wait::within;
use http::Method;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROUNDS: u64 = 50;

fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot:
    session: {{ ttl: 1h, max_ttl: 4h }}
    scopes:
      read: on_use
      once: {{ grant: on_request, uses: 1, ttl: 1h }}
tools:
  t:
    mount: /t
    upstream: {{ url: 'http://{}' }}
    routes:
      - {{ id: read, match: GET /read, scope: read }}
      - {{ id: once, match: 'POST /once/{{key}}', scope: once, resource: 'key:{{key}}' }}
",
        backend.address
    )
}

/// How far one session's life has certainly come, and how far it may have come.
#[derive(Clone, Debug)]
struct Life {
    session: Minted,
    /// Names its one-use grant's resource, and so what the backend counts.
    key: String,
    grant: Step,
    used: Step,
    revoked: Step,
    quarantined: Step,
}

/// A change that the gate may have been killed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    NotAsked,
    /// Asked, and the gate died before it answered.
    Unknown,
    Done,
}

/// Everything known of all lives, and the requests that were answered.
#[derive(Default)]
struct Known {
    lives: Vec<Life>,
    answered: Vec<String>,
}

/// A small generator: which moment is killed must differ from round to round and be the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Where one worker speaks to.
#[derive(Clone)]
struct Doors {
    agents: SocketAddr,
    admin: SocketAddr,
    root: String,
}

impl Doors {
    async fn admin(&self, method: Method, path: &str, body: &Value) -> Option<Value> {
        let answer = try_call(self.admin, &self.root, method, path, body)
            .await
            .ok()?;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        Some(answer.json())
    }
}

/// Lives one session after the other until the gate is gone.
async fn live(doors: Doors, worker: String, known: Arc<Mutex<Known>>) {
    for number in 0.. {
        let key = format!("{worker}-{number}");
        if live_once(&doors, key, number, &known).await.is_none() {
            return;
        }
    }
}

async fn live_once(doors: &Doors, key: String, number: u64, known: &Mutex<Known>) -> Option<()> {
    let order = json!({ "project": "demo", "agent": "bot" });
    let answer = try_call(
        doors.admin,
        &doors.root,
        Method::POST,
        "/v1/sessions",
        &order,
    )
    .await
    .ok()?;
    let session = minted(&answer.expect(201));
    let place = {
        let mut known = known.lock().unwrap();
        known.lives.push(Life {
            session: session.clone(),
            key: key.clone(),
            grant: Step::NotAsked,
            used: Step::NotAsked,
            revoked: Step::NotAsked,
            quarantined: Step::NotAsked,
        });
        known.lives.len() - 1
    };
    let note = |change: &dyn Fn(&mut Life)| change(&mut known.lock().unwrap().lives[place]);

    note(&|life| life.grant = Step::Unknown);
    let give =
        json!({ "scope": "once", "resource": format!("key:{key}"), "reason": "to use it once" });
    doors
        .admin(
            Method::POST,
            &format!("/v1/sessions/{}/grants", session.id),
            &give,
        )
        .await?;
    note(&|life| life.grant = Step::Done);
    if number % 4 == 3 {
        return Some(()); // leaves its grant for after the crash
    }

    note(&|life| life.used = Step::Unknown);
    let used = try_call(
        doors.agents,
        &session.token,
        Method::POST,
        &format!("/t/once/{key}"),
        (),
    )
    .await
    .ok()?;
    assert_eq!(used.status, 200, "{used:?}");
    let request = used.header("toolgate-request-id").unwrap().to_owned();
    note(&|life| life.used = Step::Done);
    known.lock().unwrap().answered.push(request);

    if number % 4 == 1 {
        note(&|life| life.revoked = Step::Unknown);
        doors
            .admin(
                Method::DELETE,
                &format!("/v1/sessions/{}", session.id),
                &json!({}),
            )
            .await?;
        note(&|life| life.revoked = Step::Done);
    } else if number % 4 == 2 {
        note(&|life| life.quarantined = Step::Unknown);
        let path = format!("/v1/sessions/{}/quarantine", session.id);
        doors
            .admin(Method::POST, &path, &json!({ "reason": "to see it last" }))
            .await?;
        note(&|life| life.quarantined = Step::Done);
    }
    Some(())
}

/// What was acknowledged before the crash is so after it.
async fn judge(gate: &Gate, backend: &Backend, life: &Life) {
    let line = format!("POST /once/{}", life.key);
    let read = get(gate.agents, &life.session.token, "/t/read").await;
    match (life.revoked, life.quarantined) {
        (Step::Done, _) => drop(read.refused(401, "credential_invalid")),
        (_, Step::Done) => drop(read.refused(403, "quarantined")),
        (Step::NotAsked, Step::NotAsked) => {
            drop(read.expect(200));
            let again = crate::client::call(
                gate.agents,
                &life.session.token,
                Method::POST,
                &format!("/t/once/{}", life.key),
                (),
            )
            .await;
            match (life.grant, life.used) {
                // Given, and never tried: it must work, once.
                (Step::Done, Step::NotAsked) => drop(again.expect(200)),
                (_, Step::Done) | (Step::NotAsked, _) => drop(again.refused(403, "grant_missing")),
                (Step::Unknown, _) | (Step::Done, Step::Unknown) => {
                    assert!(
                        matches!(again.status.as_u16(), 200 | 403),
                        "{life:?}: {again:?}"
                    );
                }
            }
        }
        (Step::Unknown, _) | (_, Step::Unknown) => {
            assert!(
                matches!(read.status.as_u16(), 200 | 401 | 403),
                "{life:?}: {read:?}"
            );
        }
    }
    assert!(
        backend.seen(&line) <= 1,
        "{life:?}: a one-use grant worked {} times",
        backend.seen(&line)
    );
    if life.used == Step::Done {
        assert_eq!(backend.seen(&line), 1, "{life:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_times_killed_the_gate_loses_nothing_acknowledged_and_no_one_use_grant_works_twice() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let mut dice = Dice(0x7001_6a7e);
    let mut answered = HashSet::new();
    let mut before: Vec<Life> = Vec::new();
    let mut lives = 0;
    for round in 0..ROUNDS {
        let gate = setup.start().await;
        for life in &before {
            judge(&gate, &backend, life).await;
        }
        let known = Arc::new(Mutex::new(Known::default()));
        let doors = Doors {
            agents: gate.agents,
            admin: gate.admin,
            root: setup.key("root").to_owned(),
        };
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                tokio::spawn(live(
                    doors.clone(),
                    format!("{round}-{worker}"),
                    Arc::clone(&known),
                ))
            })
            .collect();
        // Chance chooses the moment: this is not a wait for anything.
        tokio::time::sleep(Duration::from_millis(20 + dice.roll(180))).await;
        gate.kill();
        for worker in workers {
            within(
                Duration::from_secs(60),
                "a worker sees the gate die",
                worker,
            )
            .await
            .unwrap();
        }
        let known = std::mem::take(&mut *known.lock().unwrap());
        lives += known.lives.len();
        answered.extend(known.answered);
        before = known.lives;
    }
    assert!(lives > 100, "the rounds were lively ({lives} sessions)");
    let gate = setup.start().await;
    for life in &before {
        judge(&gate, &backend, life).await;
    }
    gate.kill();

    let records = ledger::verified(&setup.ledger());
    let recorded: HashSet<&str> = ledger::of_kind(&records, "decision")
        .iter()
        .filter_map(|record| record["request"].as_str())
        .collect();
    for request in &answered {
        assert!(
            recorded.contains(request.as_str()),
            "request {request} was answered, and is not on record"
        );
    }
    for (line, times) in backend.all_seen() {
        assert!(
            times == 1 || !line.starts_with("POST /once/"),
            "{line}: {times} times"
        );
    }
}
