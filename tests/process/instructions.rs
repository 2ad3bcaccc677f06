//! What a call costs, in instructions of the gate under callgrind: a figure that neither other work on the machine nor its speed
//! changes, held against the one in `instructions.txt`.
//!
//! Two gates serve the same calls one after the other, the second of them [`CALLS`] more of one kind: what it executed more is
//! theirs. These are instructions of a build for tests, unoptimised, and of every thread: they show what was added, and are no
//! measure of the gate that users run. `benches/` measures that one.
//!
//! `UPDATE=1` writes the figures anew: after a change of the compiler, or for a cost that is meant.

use crate::backend::Backend;
use crate::client::Connection;
use crate::gate::Setup;
use crate::wait::within;
use http::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Calls of each kind that both gates serve: rooms, connections and caches are there afterwards.
const WARM: u32 = 30;
/// Calls that one gate serves more.
const CALLS: u32 = 300;
/// Most that a call may cost above what is known, in hundredths.
const SLACK: u64 = 5;

const FIGURES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/process/instructions.txt"
);

/// A kind of call.
struct Kind {
    name: &'static str,
    method: Method,
    path: &'static str,
    status: u16,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "allowed",
        method: Method::GET,
        path: "/crm/users/7",
        status: 200,
    },
    Kind {
        name: "judged",
        method: Method::POST,
        path: "/crm/refunds",
        status: 200,
    },
    Kind {
        name: "refused",
        method: Method::GET,
        path: "/crm/accounts",
        status: 403,
    },
];

impl Kind {
    fn body(&self) -> Value {
        let notes: Vec<String> = (0..16)
            .map(|line| format!("{line}: the parcel was late and the box was wet"))
            .collect();
        match self.method {
            Method::POST => {
                json!({ "user": "7", "amount": 12.5, "currency": "EUR", "notes": notes })
            }
            _ => Value::Null,
        }
    }
}

fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot:
    session: {{ ttl: 15m }}
    scopes:
      users.read: {{ grant: on_use, resources: ['user:*'] }}
      refunds.create: {{ grant: on_use, resources: ['user:*'] }}
tools:
  crm:
    mount: /crm
    upstream: {{ url: 'http://{}' }}
    routes:
      - {{ id: users.read, match: 'GET /users/{{user_id}}', scope: users.read, resource: 'user:{{user_id}}' }}
      - id: refunds.create
        match: POST /refunds
        where: {{ body./amount: {{ at_most: 50 }}, body./currency: {{ one_of: [EUR, USD] }} }}
        scope: refunds.create
        resource: 'user:{{body./user}}'
limits:
  - {{ id: calls, per: session, rate: 100000/1m, burst: 100000 }}
",
        backend.address
    )
}

/// Instructions that a gate executes which serves so many calls of each kind, from its start to its end.
async fn executed(backend: &Backend, counts: [u32; KINDS.len()]) -> u64 {
    let setup = Setup::new("demo", &policy(backend));
    setup.edit_server(|text| text.replace("workers: 2", "workers: 1"));
    let counted = setup.config().with_file_name("counted");
    let gate = setup.serve(&[]);
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind", "--combine-dumps=yes"])
        .arg(format!("--callgrind-out-file={}", counted.display()))
        .arg(gate.get_program())
        .args(gate.get_args());
    let mut gate = setup.started(command).await;
    let session = gate.mint("demo", "bot").await;
    let mut connection = Connection::open(gate.agents, &session.token).await.unwrap();
    for (kind, count) in KINDS.iter().zip(counts) {
        let body = kind.body();
        for _ in 0..count {
            let answer = match body {
                Value::Null => connection.call(kind.method.clone(), kind.path, ()).await,
                _ => connection.call(kind.method.clone(), kind.path, &body).await,
            };
            answer.unwrap().expect(kind.status);
        }
    }
    drop(connection);
    gate.signal("TERM");
    assert!(gate.ended().await.success());
    total(&std::fs::read_to_string(counted).unwrap())
}

/// What callgrind's file says of all threads together.
fn total(text: &str) -> u64 {
    let totals = text
        .lines()
        .filter_map(|line| line.strip_prefix("totals: "));
    let totals: Vec<u64> = totals.map(|total| total.trim().parse().unwrap()).collect();
    assert!(!totals.is_empty(), "callgrind counted nothing");
    totals.iter().sum()
}

/// The figures as they are written down.
fn written(figures: &[(&str, u64)]) -> String {
    let lines = figures
        .iter()
        .map(|(name, count)| format!("{name} {count}\n"));
    lines.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_executes_no_more_instructions_than_are_known_of_it() {
    let backend = Backend::start("crm").await;
    let patience = Duration::from_secs(400);
    let base = within(
        patience,
        "the gate under callgrind",
        executed(&backend, [WARM; KINDS.len()]),
    )
    .await;
    let mut figures = Vec::new();
    for (at, kind) in KINDS.iter().enumerate() {
        let mut counts = [WARM; KINDS.len()];
        counts[at] += CALLS;
        let more = within(patience, kind.name, executed(&backend, counts)).await;
        figures.push((kind.name, more.saturating_sub(base) / u64::from(CALLS)));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(FIGURES, written(&figures)).unwrap();
    }
    let known = std::fs::read_to_string(Path::new(FIGURES)).unwrap();
    println!("known:\n{known}now:\n{}", written(&figures));
    for (name, count) in figures {
        let line = known
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let most = line.expect("a known figure") * (100 + SLACK) / 100;
        assert!(count > 1000, "{name}: {count} instructions can't be a call");
        assert!(
            count <= most,
            "{name}: {count} instructions a call, of which {most} are known and allowed: find what was added; UPDATE=1 writes it anew"
        );
    }
}
