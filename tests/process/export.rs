//! What `toolgate ledger export` writes, read by the parts that its readers are made of.

use crate::backend::Backend;
use crate::client::{call, get};
use crate::clients::{policy, said};
use crate::gate::Setup;
use crate::program::python;
use crate::wait::{run, until};
use http::Method;
use std::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_are_ocsf_cloudevents_and_otlp_to_their_own_libraries() {
    let backend = Backend::start("crm").await;
    let setup = Setup::new("demo", &policy(&backend));
    let mut gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    get(gate.agents, &session.token, "/crm/users/7")
        .await
        .expect(200);
    get(gate.agents, &session.token, "/crm/nowhere?q=1")
        .await
        .refused(403, "no_route");
    call(
        gate.agents,
        &session.token,
        Method::DELETE,
        "/crm/users/7",
        (),
    )
    .await
    .refused(403, "scope_outside_ceiling");
    call(
        gate.agents,
        &session.token,
        Method::from_bytes(b"BREW").unwrap(),
        "/crm/pot",
        (),
    )
    .await
    .refused(403, "no_route");
    get(gate.agents, "nonsense", "/crm/users/7")
        .await
        .refused(401, "credential_invalid");
    let outcomes = || {
        let records = crate::ledger::verified(&setup.ledger());
        crate::ledger::of_kind(&records, "outcome").len() >= 4
    };
    until("the outcomes are written", async || {
        outcomes().then_some(())
    })
    .await;
    gate.signal("TERM");
    gate.ended().await;
    let file = |name: &str| setup.ledger().join("..").join(name);
    let toolgate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
        command
            .args(["ledger", arguments[0]])
            .arg(setup.ledger())
            .args(&arguments[1..]);
        command
    };
    let lines = run(toolgate(&["query", "--json"])).await;
    std::fs::write(file("lines"), lines.stdout).unwrap();
    for format in ["ocsf", "cloudevents", "otel"] {
        let mut export = toolgate(&["export", "--format", format, "--output"]);
        export.arg(file(format));
        let output = run(export).await;
        assert!(output.status.success(), "{output:?}");
    }
    let mut check = python("ledger_export.py");
    check.args(["lines", "ocsf", "cloudevents", "otel"].map(file));
    let found = said(check).await;
    for class in [
        "ApiActivity",
        "Authentication",
        "ApplicationLifecycle",
        "EntityManagement",
    ] {
        assert!(found["ocsf"][class].as_u64().is_some(), "{class}: {found}");
    }
    assert_eq!(found["cloudevents"]["toolgate.decision"], 4, "{found}");
}
