//! kill -9, again and again, in the middle of everything: what was acknowledged holds, and a spent grant stays spent.

use crate::backend::Backend;
use crate::client::{call, get, try_call};
use crate::gate::{Gate, Minted, Setup, minted};
use crate::ledger;
use crate::wait::{PATIENCE, within};
use http::Method;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

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

/// Everything known of one round's lives, and the requests that were answered.
#[derive(Default)]
struct Known {
    lives: Vec<Life>,
    answered: Vec<String>,
    /// Changes that were acknowledged; the round is watched by it.
    acknowledged: u64,
}

/// A small generator: what is chosen must differ from round to round and be the same in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
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
async fn live(doors: Doors, round: u64, worker: u64, known: Arc<watch::Sender<Known>>) {
    for number in 0.. {
        let key = format!("{round}-{worker}-{number}");
        let kind = (round + worker + number) % 4;
        if live_once(&doors, key, kind, &known).await.is_none() {
            return;
        }
    }
}

async fn live_once(
    doors: &Doors,
    key: String,
    kind: u64,
    known: &watch::Sender<Known>,
) -> Option<()> {
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
    let mut place = 0;
    known.send_modify(|known| {
        place = known.lives.len();
        known.acknowledged += 1;
        known.lives.push(Life {
            session: session.clone(),
            key: key.clone(),
            grant: Step::NotAsked,
            used: Step::NotAsked,
            revoked: Step::NotAsked,
            quarantined: Step::NotAsked,
        });
    });
    let asked =
        |change: &dyn Fn(&mut Life)| known.send_modify(|known| change(&mut known.lives[place]));
    let done = |change: &dyn Fn(&mut Life)| {
        known.send_modify(|known| {
            change(&mut known.lives[place]);
            known.acknowledged += 1;
        });
    };

    asked(&|life| life.grant = Step::Unknown);
    let give =
        json!({ "scope": "once", "resource": format!("key:{key}"), "reason": "to use it once" });
    doors
        .admin(
            Method::POST,
            &format!("/v1/sessions/{}/grants", session.id),
            &give,
        )
        .await?;
    done(&|life| life.grant = Step::Done);
    if kind == 3 {
        return Some(()); // leaves its grant for after the crash
    }

    asked(&|life| life.used = Step::Unknown);
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
    done(&|life| life.used = Step::Done);
    known.send_modify(|known| known.answered.push(request));

    if kind == 1 {
        asked(&|life| life.revoked = Step::Unknown);
        doors
            .admin(
                Method::DELETE,
                &format!("/v1/sessions/{}", session.id),
                &json!({}),
            )
            .await?;
        done(&|life| life.revoked = Step::Done);
    } else if kind == 2 {
        asked(&|life| life.quarantined = Step::Unknown);
        let path = format!("/v1/sessions/{}/quarantine", session.id);
        doors
            .admin(Method::POST, &path, &json!({ "reason": "to see it last" }))
            .await?;
        done(&|life| life.quarantined = Step::Done);
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
            let again = call(
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

/// What can't come back however often the gate starts: a revoked session, a quarantine, a spent use.
async fn still_ended(gate: &Gate, life: &Life) {
    let once = format!("/t/once/{}", life.key);
    let again = call(gate.agents, &life.session.token, Method::POST, &once, ()).await;
    match life {
        Life {
            revoked: Step::Done,
            ..
        } => drop(again.refused(401, "credential_invalid")),
        Life {
            quarantined: Step::Done,
            ..
        } => drop(again.refused(403, "quarantined")),
        Life {
            revoked: Step::NotAsked,
            quarantined: Step::NotAsked,
            used: Step::Done,
            ..
        } => {
            drop(again.refused(403, "grant_missing"));
        }
        Life { .. } => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_times_killed_the_gate_loses_nothing_acknowledged_and_no_one_use_grant_works_twice() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let mut dice = Dice(0x7001_6a7e);
    let mut answered = HashSet::new();
    let mut before: Vec<Life> = Vec::new();
    let mut lives: Vec<Life> = Vec::new();
    for round in 0..ROUNDS {
        let gate = setup.start().await;
        for life in &before {
            judge(&gate, &backend, life).await;
        }
        let known = Arc::new(watch::Sender::new(Known::default()));
        let doors = Doors {
            agents: gate.agents,
            admin: gate.admin,
            root: setup.key("root").to_owned(),
        };
        let workers: Vec<_> = (0..4)
            .map(|worker| tokio::spawn(live(doors.clone(), round, worker, Arc::clone(&known))))
            .collect();
        let enough = 8 + dice.roll(24);
        let mut watched = known.subscribe();
        let lively = watched.wait_for(|known| known.acknowledged >= enough);
        drop(
            within(PATIENCE, "the round is lively", lively)
                .await
                .unwrap(),
        );
        // Chance chooses the moment within the changes under way: this is not a wait for anything.
        tokio::time::sleep(Duration::from_micros(dice.roll(8_000))).await;
        gate.kill();
        for worker in workers {
            within(PATIENCE, "a worker sees the gate die", worker)
                .await
                .unwrap();
        }
        let known = known.send_replace(Known::default());
        lives.extend(known.lives.iter().cloned());
        answered.extend(known.answered);
        before = known.lives;
    }
    assert!(
        lives.len() > 100,
        "the rounds were lively ({} sessions)",
        lives.len()
    );
    let gate = setup.start().await;
    for life in &before {
        judge(&gate, &backend, life).await;
    }
    // Fifty crashes later, what ended in the first is as ended as ever.
    for life in &lives {
        still_ended(&gate, life).await;
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
