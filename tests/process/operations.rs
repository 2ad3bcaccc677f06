//! Running it: metrics that Prometheus accepts, a drain that finishes what it began, a disk that is full.

use crate::backend::Backend;
use crate::client::{Connection, call, get};
use crate::gate::Setup;
use crate::ledger;
use crate::wait::{run, run_with_input, until, within};
use http::Method;
use serde_json::json;
use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;
use tokio::net::TcpStream;

fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot: {{ scopes: {{ read: on_use, once: {{ grant: on_request }} }} }}
tools:
  t:
    mount: /t
    upstream: {{ url: 'http://{}', timeout: 60s }}
    routes:
      - {{ id: held, match: GET /held, scope: read }}
      - {{ id: broken, match: GET /broken, scope: read }}
      - {{ id: items, match: 'GET /items/{{item}}', scope: read, resource: 'item:{{item}}', cost: {{ fixed: 0.01 }} }}
      - {{ id: once, match: POST /once, scope: once }}
limits:
  - {{ id: busy, per: session, rate: 100000/1m }}
",
        backend.address
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_accepts_the_metrics() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    // One of each kind, so that every series is there.
    get(gate.agents, &session.token, "/t/items/1")
        .await
        .expect(200);
    get(gate.agents, &session.token, "/t/nowhere")
        .await
        .refused(403, "no_route");
    get(gate.agents, &session.token, "/t/broken")
        .await
        .refused(502, "upstream_failed");
    get(gate.agents, "", "/t/items/1")
        .await
        .refused(401, "credential_missing");
    call(gate.agents, &session.token, Method::POST, "/t/once", ())
        .await
        .refused(403, "grant_missing");
    let text = gate.metrics().await;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    let verdict = run_with_input(promtool, text.clone().into_bytes()).await;
    assert!(
        verdict.status.success() && verdict.stdout.is_empty() && verdict.stderr.is_empty(),
        "{}{}\n{text}",
        String::from_utf8_lossy(&verdict.stdout),
        String::from_utf8_lossy(&verdict.stderr)
    );
    for id in [session.id.as_str(), "tgs_", "tgk_", "item:1", "items/1"] {
        assert!(!text.contains(id), "{id} is no label");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_gate_finishes_what_is_in_flight_and_takes_no_more() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let mut gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    get(gate.metrics, "", "/readyz").await.expect(200);
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::open(gate.agents, &session.token).await.unwrap();
        tasks.push(tokio::spawn(async move {
            connection.call(Method::GET, "/t/held", ()).await
        }));
    }
    until("the backend has all eight", || async {
        (backend.seen("GET /held") == 8).then_some(())
    })
    .await;

    gate.signal("TERM");
    let agents = gate.agents;
    until("no new connection is taken", || async {
        TcpStream::connect(agents).await.is_err().then_some(())
    })
    .await;
    backend.release(8);
    for task in tasks {
        let answer = within(Duration::from_secs(60), "the answer", task)
            .await
            .unwrap();
        assert_eq!(
            answer
                .expect("finishes, drain or no drain")
                .expect(200)
                .json(),
            json!({ "released": true })
        );
    }
    let status = gate.ended().await;
    assert!(status.success(), "{status}");
    let records = ledger::verified(&setup.ledger());
    assert_eq!(
        ledger::of_kind(&records, "outcome").len(),
        8,
        "each call's end is on record"
    );
    let last = records.last().unwrap();
    assert_eq!(
        (last["kind"].as_str(), last["change"].as_str()),
        (Some("gate"), Some("stopped")),
        "{last}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_nothing_is_forwarded_unrecorded_and_service_returns_with_space() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let gate = setup.start_for_a_full_disk().await;
    let session = gate.mint("demo", "bot").await;
    let item =
        async |number: u64| get(gate.agents, &session.token, &format!("/t/items/{number}")).await;
    for number in 0..20 {
        item(number).await.expect(200);
    }
    limit_file_size(gate.id(), "0:").await;
    let (mut served, mut refused) = (0, 0);
    for number in 100..200 {
        let answer = item(number).await;
        if answer.status == 200 {
            served += 1;
        } else {
            let answer = answer.refused(503, "ledger_unavailable");
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            refused += 1;
        }
    }
    assert_eq!((served, refused), (0, 100));
    assert_eq!(
        get(gate.metrics, "", "/readyz").await.status,
        503,
        "and says so to who balances load"
    );
    assert!(gate.metric("toolgate_ledger_failures_total", &[]).await > 0.0);
    assert!(
        (100..200).all(|number| backend.seen(&format!("GET /items/{number}")) == 0),
        "nothing arrived unrecorded"
    );

    limit_file_size(gate.id(), "unlimited:").await;
    until("service returns with the space", || async {
        (item(300).await.status == 200).then_some(())
    })
    .await;
    item(301).await.expect(200);
    gate.kill();
    let records = ledger::verified(&setup.ledger());
    let recorded: HashSet<&str> = ledger::of_kind(&records, "decision")
        .iter()
        .filter_map(|record| record["target"].as_str())
        .collect();
    for (line, _) in backend.all_seen() {
        let target = format!("/t{}", line.strip_prefix("GET ").unwrap());
        assert!(
            recorded.contains(target.as_str()),
            "{target} reached the backend and is not on record"
        );
    }
}

/// Sets the soft limit on the size of files a running process writes: what a full disk is to it.
pub async fn limit_file_size(id: u32, limit: &str) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &id.to_string(), &format!("--fsize={limit}")]);
    let output = run(prlimit).await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_keeps_every_promise_it_prints() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    demo.args(["demo", "--check"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = run(demo).await;
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8_lossy(&output.stdout);
    let lines = said.lines().filter(|line| line.contains("curl -s")).count();
    assert!(
        lines >= 15 && said.contains("answered as promised"),
        "{lines} lines: {said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_configuration_is_valid() {
    let mut check = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    check
        .args(["check", "--config", "config/toolgate.yaml"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = run(check).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_gate_on_the_same_files_refuses_to_start_and_says_why() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    let mut second = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    second.args(["serve", "--config"]).arg(setup.config());
    let output = run(second).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("toolgate.db") || said.contains("ledger"),
        "names the file: {said}"
    );
    get(gate.agents, &session.token, "/t/items/1")
        .await
        .expect(200);
}

/// What a ledger's key looks like.
const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_that_the_readme_names_is_one_the_binary_knows() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let lines = readme
        .lines()
        .filter(|line| line.starts_with("toolgate "))
        .flat_map(|line| line.split(" && "))
        .filter_map(|line| line.strip_prefix("toolgate "));
    let mut known = 0;
    for line in lines {
        // An id stands for any of its shape.
        let id = if line.starts_with("approvals") {
            "apr_0198c0de000070008000000000000000"
        } else {
            "ses_0198c0de000070008000000000000000"
        };
        let call = line
            .split(['#', '|', '>'])
            .next()
            .unwrap()
            .replace(" ID", &format!(" {id}"));
        // Words are what the shell makes of them.
        let mut command = Command::new("sh");
        // `--help` comes last: everything before it has been understood by then, and nothing is done.
        command.args(["-c", &format!("exec \"$0\" {call} --help")]);
        command.arg(env!("CARGO_BIN_EXE_toolgate"));
        command.env("VKEY", VKEY);
        let output = run(command).await;
        assert!(
            output.status.success(),
            "toolgate {line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        known += 1;
    }
    assert!(known >= 5, "the README shows how to operate the gate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_that_the_readme_shows_is_valid() {
    let readme = include_str!("../../README.md");
    let (_, yaml) = readme.split_once("```yaml\n").unwrap();
    let (yaml, _) = yaml.split_once("```").unwrap();
    let setup = Setup::new("demo", yaml);
    let mut check = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    check.args(["check", "--config"]).arg(setup.config());
    let output = run(check).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
