//! Under a service manager.

use super::agents::Load;
use super::{policy, serves};
use crate::backend::Backend;
use crate::gate::{Gate, Setup};
use crate::wait::{run, signal, until};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

/// A gate on sockets that another process opened, started so many times.
async fn activated(setup: &Setup, times: usize) -> Gate {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/process/clients/activate.py"
    );
    let mut command = Command::new("python3");
    command.args([script, &times.to_string(), env!("CARGO_BIN_EXE_toolgate")]);
    command.args(["serve", "--config"]).arg(setup.config());
    setup.started(command).await
}

/// The process of the latest start, once there were so many.
async fn process(manager: &Gate, starts: usize) -> u32 {
    until("the gate is started", || async {
        let lines = manager.lines("started process ");
        let line = lines.get(starts - 1)?;
        line.rsplit(' ').next()?.parse().ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_on_sockets_that_a_service_manager_holds_fail_no_request() {
    const RESTARTS: usize = 5;
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let mut manager = activated(&setup, RESTARTS + 1).await;
    let session = manager.mint("demo", "bot").await;
    let load = Load::start(manager.agents, &session.token, 4);
    for turn in 1..=RESTARTS {
        load.answers(20).await;
        signal(process(&manager, turn).await, "TERM");
        process(&manager, turn + 1).await;
    }
    load.answers(100).await;
    load.end().await;
    serves(&manager, &session.token).await;
    signal(process(&manager, RESTARTS + 1).await, "TERM");
    assert!(manager.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_at_another_address_than_the_configured_is_refused_in_words() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    setup.edit_server(|text| text.replacen("127.0.0.1:0", "127.0.0.2:0", 1));
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/process/clients/activate.py"
    );
    let mut command = Command::new("python3");
    command.args([script, "1", env!("CARGO_BIN_EXE_toolgate")]);
    command.args(["serve", "--config"]).arg(setup.config());
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("`agents`") && said.contains("127.0.0.2:0"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_is_told_of_start_reload_and_stop() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let path = setup.config().with_file_name("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(crate::wait::PATIENCE))
        .unwrap();
    let heard = |what: &str| {
        let mut text = [0; 500];
        let length = manager.recv(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        assert!(text.starts_with(what), "{text} instead of {what}");
    };
    let mut command = setup.serve(&[]);
    command.env("NOTIFY_SOCKET", &path);
    let mut gate = setup.started(command).await;
    heard(&format!("READY=1\nMAINPID={}", gate.id()));
    gate.signal("HUP");
    heard("RELOADING=1\nMONOTONIC_USEC=");
    heard("READY=1");
    let mut command = setup.serve(&["--take-over"]);
    command.env("NOTIFY_SOCKET", &path);
    let mut next = setup.started(command).await;
    heard(&format!("READY=1\nMAINPID={}", next.id()));
    assert!(gate.ended().await.success());
    next.signal("TERM");
    heard("STOPPING=1");
    assert!(next.ended().await.success());
}
