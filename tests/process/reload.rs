//! Changing the policy while it is used: nothing fails, and each call is decided by one version, whole.

use crate::backend::Backend;
use crate::client::{Connection, call, get};
use crate::gate::Setup;
use crate::ledger;
use crate::wait::{until, within};
use http::Method;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const RELOADS: usize = 200;

/// Two versions: other backend, and `/swing/late` is a route in one of them only.
fn policy(backend: &Backend, late: bool) -> String {
    let route = if late {
        "      - { id: late, match: GET /late, scope: read }\n"
    } else {
        ""
    };
    format!(
        "version: 1
project: demo
agents: {{ bot: {{ scopes: {{ read: on_use }} }} }}
tools:
  swing:
    mount: /swing
    upstream: {{ url: 'http://{}' }}
    routes:
      - {{ id: early, match: GET /early, scope: read }}
{route}limits:
  - {{ id: generous, per: session, rate: 1000000/1m }}
",
        backend.address
    )
}

/// Calls without a pause until told to stop: request id, path, status, backend.
async fn pound(
    mut connection: Connection,
    stop: Arc<AtomicBool>,
) -> Vec<(String, &'static str, u16, Option<String>)> {
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for path in ["/swing/early", "/swing/late"] {
            let answer = connection
                .call(Method::GET, path, ())
                .await
                .expect("no connection breaks over a reload");
            let id = answer.header("toolgate-request-id").unwrap().to_owned();
            answers.push((
                id,
                path,
                answer.status.as_u16(),
                answer.backend().map(str::to_owned),
            ));
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_load_fail_no_request_and_each_is_decided_by_one_version() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let versions = [policy(&a, false), policy(&b, true)];
    let setup = Setup::new("demo", &versions[0]);
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let connection = Connection::open(gate.agents, &token).await.unwrap();
        tasks.push(tokio::spawn(pound(connection, Arc::clone(&stop))));
    }
    for turn in 1..=RELOADS {
        setup.write_project("demo", &versions[turn % 2]);
        gate.signal("HUP");
        gate.runs(&setup.project_file("demo")).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut answers = Vec::new();
    for task in tasks {
        answers.extend(
            within(Duration::from_secs(60), "the load ends", task)
                .await
                .unwrap(),
        );
    }
    assert!(
        gate.metric("toolgate_policy_reloads_total", &["result=\"applied\""])
            .await
            >= RELOADS as f64
    );
    gate.kill();

    let [first, second] = versions.map(|yaml| ledger::sha256(yaml.as_bytes()));
    let records = ledger::verified(&setup.ledger());
    let decided: HashMap<&str, (&str, &str)> = ledger::of_kind(&records, "decision")
        .into_iter()
        .map(|record| {
            (
                record["request"].as_str().unwrap(),
                (
                    record["policy"].as_str().unwrap(),
                    record["decision"].as_str().unwrap(),
                ),
            )
        })
        .collect();
    let mut by_version = [0, 0];
    for (id, path, status, backend) in &answers {
        let (policy, decision) = decided[id.as_str()];
        let expected = if policy == first {
            by_version[0] += 1;
            if *path == "/swing/early" {
                (200, Some("a"), "allow")
            } else {
                (403, None, "deny")
            }
        } else {
            assert_eq!(policy, second, "{id}");
            by_version[1] += 1;
            (200, Some("b"), "allow")
        };
        assert_eq!(
            (*status, backend.as_deref(), decision),
            expected,
            "{id} {path}"
        );
    }
    assert!(
        by_version.iter().all(|&calls| calls > 50),
        "both versions were under load: {by_version:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_breaks_a_promise_of_its_tests_never_comes_into_force() {
    let backend = Backend::start("a").await;
    let promise = "tests:
  - { name: nobody comes late, session: { agent: bot }, request: GET /swing/late, expect: { decision: deny, reason: no_route } }
";
    let kept = format!("{}{promise}", policy(&backend, false));
    let setup = Setup::new("demo", &kept);
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    let late = || call(gate.agents, &token, Method::GET, "/swing/late", ());
    late().await.expect(403);
    setup.write_project("demo", &format!("{}{promise}", policy(&backend, true)));
    let answer = gate.admin(Method::POST, "/v1/policy/reload", ()).await;
    let answer = answer.expect(409).json();
    let error = &answer["errors"][0];
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("nobody comes late"),
        "{answer:#}"
    );
    assert_eq!(error["line"], 14, "{answer:#}");
    late().await.expect(403);
    // Without the promise the same rules are as good as any.
    setup.write_project("demo", &policy(&backend, true));
    gate.signal("HUP");
    gate.runs(&setup.project_file("demo")).await;
    late().await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_in_force_without_a_signal() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let setup = Setup::new("demo", &policy(&a, false));
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    setup.write_project("demo", &policy(&b, true));
    gate.runs(&setup.project_file("demo")).await;
    assert_eq!(
        get(gate.agents, &token, "/swing/late")
            .await
            .expect(200)
            .backend(),
        Some("b")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_changes_nothing_and_is_counted_as_rejected() {
    let backend = Backend::start("a").await;
    let good = policy(&backend, true);
    let setup = Setup::new("demo", &good);
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    let label = [format!("hash=\"{}\"", ledger::sha256(good.as_bytes()))];
    let label: Vec<&str> = label.iter().map(String::as_str).collect();
    for broken in [
        good.replace("scope: read", "scoep: read"),
        good.replace("version: 1", "version: ["),
        String::new(),
    ] {
        let rejected = gate
            .metric("toolgate_policy_reloads_total", &["result=\"rejected\""])
            .await;
        setup.write_project("demo", &broken);
        gate.signal("HUP");
        until("the broken file is counted", || async {
            let now = gate
                .metric("toolgate_policy_reloads_total", &["result=\"rejected\""])
                .await;
            (now > rejected).then_some(())
        })
        .await;
        assert_eq!(
            gate.metric("toolgate_policy_info", &label).await,
            1.0,
            "the good policy is in force"
        );
        get(gate.agents, &token, "/swing/late").await.expect(200);
    }
    setup.write_project("demo", &policy(&backend, false));
    gate.runs(&setup.project_file("demo")).await;
    get(gate.agents, &token, "/swing/late")
        .await
        .refused(403, "no_route");
    gate.kill();
    let records = ledger::verified(&setup.ledger());
    assert!(
        ledger::of_kind(&records, "policy")
            .iter()
            .any(|record| record["change"] == "rejected"),
        "the rejected reload is on record"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_outlive_a_reload_that_leaves_their_numbers_alone() {
    let backend = Backend::start("a").await;
    let policy = |late: bool, count: u32| {
        policy(&backend, late).replace("rate: 1000000/1m", &format!("count: {count}/1h"))
    };
    let setup = Setup::new("demo", &policy(false, 3));
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    let early = async || get(gate.agents, &token, "/swing/early").await;
    early().await.expect(200);
    early().await.expect(200);

    setup.write_project("demo", &policy(true, 3));
    gate.signal("HUP");
    gate.runs(&setup.project_file("demo")).await;
    early().await.expect(200);
    early().await.refused(429, "limit_exceeded");

    // Other numbers are another limit, which begins at nothing.
    setup.write_project("demo", &policy(true, 4));
    gate.signal("HUP");
    gate.runs(&setup.project_file("demo")).await;
    for _ in 0..4 {
        early().await.expect(200);
    }
    early().await.refused(429, "limit_exceeded");
}
