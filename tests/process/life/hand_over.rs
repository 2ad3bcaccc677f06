//! Hand-overs.

use super::agents::{Agent, Habit, Load, Wire, connector, encrypt};
use super::{policy, serves, takes_no_more};
use crate::backend::Backend;
use crate::client::{Connection, call, get};
use crate::gate::{Gate, Minted, Setup};
use crate::ledger;
use crate::wait::{PATIENCE, rounds, run, until, within};
use http::Method;
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;

const TAKE_OVER: &[&str] = &["--take-over"];

/// A gate with a call in flight, which holds a hand-over up until the backend releases it.
struct Held {
    backend: Backend,
    setup: Setup,
    gate: Gate,
    session: Minted,
    call: JoinHandle<Result<crate::client::Answer, hyper::Error>>,
}

impl Held {
    async fn start() -> Self {
        let backend = Backend::start("t").await;
        let setup = Setup::new("demo", &policy(&backend));
        let gate = setup.start().await;
        let session = gate.mint("demo", "bot").await;
        let mut connection = Connection::open(gate.agents, &session.token).await.unwrap();
        let call = tokio::spawn(async move { connection.call(Method::GET, "/t/held", ()).await });
        let held = Self {
            backend,
            setup,
            gate,
            session,
            call,
        };
        until("the call is in flight", || async {
            (held.backend.seen("GET /held") == 1).then_some(())
        })
        .await;
        held
    }

    /// A process that takes over and has to wait for the call.
    async fn successor(&self) -> Dying {
        let mut command = self.setup.serve(&["--take-over", "--take-over-wait", "60"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = Dying(command.spawn().unwrap());
        until("the gate hands over", || async {
            self.gate.said("handing over").then_some(())
        })
        .await;
        child
    }

    /// The call in flight is answered, and the first gate serves again.
    async fn goes_on(&mut self) {
        self.backend.release(1);
        let answer = within(PATIENCE, "the call in flight", &mut self.call).await;
        answer.unwrap().unwrap().expect(200);
        until("it has noticed", || async {
            self.gate.said("ended before it served").then_some(())
        })
        .await;
        serves(&self.gate, &self.session.token).await;
        self.gate.mint("demo", "bot").await;
        get(self.gate.metrics, "", "/readyz").await.expect(200);
    }
}

/// Killed when dropped.
struct Dying(Child);

impl Drop for Dying {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_hand_overs_under_load_fail_no_request() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let mut gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    let load = Load::start(gate.agents, &session.token, 6);
    let hand_overs = rounds(50);
    for turn in 0..hand_overs {
        // More threads than sockets, fewer, and as many.
        let workers = format!("workers: {}", 1 + turn % 4);
        setup.edit_server(|text| {
            let (before, rest) = text.split_once("workers: ").unwrap();
            let (_, after) = rest.split_once('\n').unwrap();
            format!("{before}{workers}\n{after}")
        });
        load.answers(20).await;
        let next = setup.start_with(TAKE_OVER).await;
        assert_eq!(
            (next.agents, next.admin, next.metrics),
            (gate.agents, gate.admin, gate.metrics)
        );
        let mut last = std::mem::replace(&mut gate, next);
        assert!(last.ended().await.success());
    }
    load.answers(100).await;
    let sums = load.end().await;
    gate.signal("TERM");
    assert!(gate.ended().await.success());
    let records = ledger::verified(&setup.ledger());
    let calls = backend.total() as usize;
    println!("{hand_overs} hand-overs: {calls} calls, none failed");
    assert_eq!(ledger::of_kind(&records, "decision").len(), calls);
    assert_eq!(ledger::of_kind(&records, "outcome").len(), calls);
    assert!(sums.answered.load(Ordering::Relaxed) <= calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hand_overs_of_encrypted_listeners_fail_no_request_of_either_http() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let folder = encrypt(&setup).await;
    let mut gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    let wires = [
        Wire::Tls1(connector(&folder, b"http/1.1")),
        Wire::Tls2(connector(&folder, b"h2")),
    ];
    let kinds = wires.into_iter().flat_map(|wire| {
        [Habit::Keep, Habit::Connect, Habit::Keep].map(|habit| Agent {
            address: gate.agents,
            token: session.token.clone(),
            wire: wire.clone(),
            habit,
        })
    });
    let load = Load::of(kinds);
    for _ in 0..10 {
        load.answers(20).await;
        let next = setup.start_with(TAKE_OVER).await;
        let mut last = std::mem::replace(&mut gate, next);
        assert!(last.ended().await.success());
    }
    load.answers(100).await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_during_a_hand_over_waits_and_is_answered() {
    let mut held = Held::start().await;
    let (agents, admin) = (held.gate.agents, held.gate.admin);
    let token = held.session.token.clone();
    let next = {
        let setup = &held.setup;
        let starting = setup.start_with(&["--take-over", "--take-over-wait", "60"]);
        let backend = held.backend.clone();
        let gate = &held.gate;
        let waiting = async {
            until("the gate hands over", || async {
                gate.said("handing over").then_some(())
            })
            .await;
            // Some of these come while the old one still accepts, others when nobody does.
            let calls: Vec<_> = (0..8)
                .map(|_| {
                    let token = token.clone();
                    tokio::spawn(async move { get(agents, &token, "/t/items/1").await })
                })
                .collect();
            let readiness = get(gate.metrics, "", "/readyz").await;
            readiness.expect(200);
            // With this answer the old gate is through with all it has.
            backend.release(1);
            for call in calls {
                within(PATIENCE, "an answer", call)
                    .await
                    .unwrap()
                    .expect(200);
            }
        };
        tokio::join!(starting, waiting).0
    };
    assert!(held.gate.ended().await.success());
    held.call.await.unwrap().unwrap().expect(200);
    serves(&next, &held.session.token).await;
    // What was acknowledged before is known after: the session by its token, and to those who administer it.
    let path = format!("/v1/sessions/{}", held.session.id);
    assert_eq!(next.admin, admin);
    next.admin(Method::DELETE, &path, ()).await.expect(200);
    get(next.agents, &held.session.token, "/t/items/1")
        .await
        .refused(401, "credential_invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outlives_the_wait_is_cut_and_recorded() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let mut gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    let events = backend.events();
    let mut connection = Connection::open(gate.agents, &session.token).await.unwrap();
    let stream = connection
        .start(Method::GET, "/t/events", &[], ().into())
        .await
        .unwrap();
    let mut next = setup
        .start_with(&["--take-over", "--take-over-wait", "1"])
        .await;
    assert!(gate.ended().await.success());
    let cut = within(PATIENCE, "the stream ends", crate::client::read(stream)).await;
    assert!(
        cut.is_err(),
        "an answer that was cut does not look complete"
    );
    drop(events);
    serves(&next, &session.token).await;
    // In order, so that what it served last is on record too.
    next.signal("TERM");
    assert!(next.ended().await.success());
    let records = ledger::verified(&setup.ledger());
    assert_eq!(ledger::of_kind(&records, "outcome").len(), 2);
    let said = |text: &str| {
        records
            .iter()
            .any(|record| record.to_string().contains(text))
    };
    assert!(said("calls in flight were cut; handed over to process"));
    assert!(said("took over from process"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_not_take_over_changes_nothing() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    let mut kept = Connection::open(gate.agents, &session.token).await.unwrap();
    kept.call(Method::GET, "/t/items/1", ())
        .await
        .unwrap()
        .expect(200);
    let whole = std::fs::read_to_string(setup.config()).unwrap();
    // An invalid configuration: the running gate is not even asked.
    setup.edit_server(|text| text.replace("workers", "wrokers"));
    let output = run(setup.serve(TAKE_OVER)).await;
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    // An address that somebody else has: it is asked, and never told to let go.
    let taken = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(setup.config(), &whole).unwrap();
    setup.edit_server(|text| text.replacen("127.0.0.1:0", &address, 1));
    let output = run(setup.serve(TAKE_OVER)).await;
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&address), "{said}");
    until("it has heard that nothing came of it", || async {
        gate.said("came to nothing").then_some(())
    })
    .await;
    assert!(!gate.said("handing over"));
    let answer = kept.call(Method::GET, "/t/items/1", ()).await.unwrap();
    assert_eq!(answer.expect(200).header("connection"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_changes_is_bound_anew_and_the_others_are_taken_over() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let mut gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    // Found by asking: it is free now, and who takes it meanwhile would have to mean to.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    setup.edit_server(|text| {
        let agents = text.replacen("127.0.0.1:0", &gate.agents.to_string(), 1);
        agents.replacen("127.0.0.1:0", &address, 1)
    });
    let next = setup.start_with(TAKE_OVER).await;
    assert!(gate.ended().await.success());
    assert_eq!(next.agents, gate.agents);
    assert!(next.said(&address));
    assert!(tokio::net::TcpStream::connect(gate.admin).await.is_err());
    serves(&next, &session.token).await;
    let path = format!("/v1/sessions/{}", session.id);
    let key = setup.key("root");
    call(address.parse().unwrap(), key, Method::GET, &path, ())
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_is_killed_half_way_leaves_the_old_gate_serving() {
    let mut held = Held::start().await;
    drop(held.successor().await);
    held.goes_on().await;
    // And it can be taken over from as before.
    let next = held.setup.start_with(TAKE_OVER).await;
    assert!(held.gate.ended().await.success());
    serves(&next, &held.session.token).await;
    let records = ledger::verified(&held.setup.ledger());
    let said = |text: &str| {
        records
            .iter()
            .any(|record| record.to_string().contains(text))
    };
    assert!(said("took over and did not serve"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_is_told_to_stop_leaves_the_old_gate_serving() {
    let mut held = Held::start().await;
    let mut successor = held.successor().await;
    crate::wait::signal(successor.0.id(), "TERM");
    let status = tokio::task::spawn_blocking(move || successor.0.wait().unwrap());
    let status = within(PATIENCE, "it ends", status).await.unwrap();
    assert_eq!(status.code(), Some(1));
    held.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_can_not_open_its_store_leaves_the_old_gate_serving() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    let load = Load::start(gate.agents, &session.token, 2);
    load.answers(20).await;
    let elsewhere = setup.config().with_file_name("nonsense.db");
    std::fs::write(&elsewhere, "no database ".repeat(1000)).unwrap();
    setup.edit_server(|text| {
        let (before, rest) = text.split_once("path: ").unwrap();
        let (_, after) = rest.split_once(" }").unwrap();
        format!("{before}path: {} }}{after}", elsewhere.display())
    });
    let output = run(setup.serve(TAKE_OVER)).await;
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    load.answers(50).await;
    load.end().await;
    assert!(gate.said("ended before it served"));
    gate.mint("demo", "bot").await;
    // Under the policy that was in force.
    assert_eq!(gate.metric("toolgate_policy_info", &["demo"]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_dies_while_it_hands_over_is_succeeded_all_the_same() {
    let held = Held::start().await;
    let starting = held
        .setup
        .start_with(&["--take-over", "--take-over-wait", "60"]);
    let dying = async {
        until("the gate hands over", || async {
            held.gate.said("handing over").then_some(())
        })
        .await;
        crate::wait::signal(held.gate.id(), "KILL");
    };
    let (next, ()) = within(2 * PATIENCE, "the successor serves", async {
        tokio::join!(starting, dying)
    })
    .await;
    assert!(next.said("has ended; going on without it"));
    serves(&next, &held.session.token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_is_just_stopping_is_waited_for() {
    let mut held = Held::start().await;
    held.gate.signal("TERM");
    let agents = held.gate.agents;
    takes_no_more(agents).await;
    let starting = held
        .setup
        .start_with(&["--take-over", "--take-over-wait", "60"]);
    held.backend.release(1);
    let next = starting.await;
    assert!(held.gate.ended().await.success());
    held.call.await.unwrap().unwrap().expect(200);
    serves(&next, &held.session.token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_of_the_machine_is_handed_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    let ledger = setup.ledger();
    let socket = ledger.join("hand-over");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&ledger), mode(&socket)), (0o700, 0o600));
    // Where this may run as somebody else, the modes are taken out of the way: the gate looks at who asks.
    let script = "
import os, socket, sys
if os.getuid() != 0:
    sys.exit('not root')
os.setgid(65534)
os.setuid(65534)
asking = socket.socket(socket.AF_UNIX)
asking.connect(sys.argv[1])
try:
    asking.sendall(b'{\"ask\":{\"version\":1,\"wait_ms\":0}}\\n')
    print('heard', asking.recv(100))
except (BrokenPipeError, ConnectionResetError):
    print('heard', b'')
";
    for path in [
        ledger.parent().unwrap().parent().unwrap(),
        ledger.parent().unwrap(),
        &ledger,
        &socket,
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut stranger = std::process::Command::new("python3");
    stranger.args(["-c", script]).arg(&socket);
    let output = run(stranger).await;
    if !String::from_utf8_lossy(&output.stderr).contains("not root") {
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "heard b''\n",
            "{output:?}"
        );
        until("the gate says who it was", || async {
            gate.said("belongs to user 65534").then_some(())
        })
        .await;
    }
    serves(&gate, &session.token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_gate_runs_there_is_nothing_to_take_over_and_the_gate_starts() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let gate = setup.start_with(TAKE_OVER).await;
    let session = gate.mint("demo", "bot").await;
    serves(&gate, &session.token).await;
    gate.kill();
    // What the killed one left behind is in nobody's way.
    let next = within(
        Duration::from_secs(60),
        "it starts",
        setup.start_with(TAKE_OVER),
    )
    .await;
    serves(&next, &session.token).await;
}
