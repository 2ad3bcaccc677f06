//! Development certificates: `certs/dev.sh`, and the demo that makes its own.

use crate::backend::Backend;
use crate::gate::Setup;
use crate::wait::run;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

async fn make(arguments: &[&str], folder: &Path) -> Output {
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/certs/dev.sh"));
    script.args(arguments).arg(folder);
    run(script).await
}

fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot: {{ scopes: {{ read: on_use }} }}
tools:
  t:
    mount: /t
    upstream: {{ url: 'http://{}' }}
    routes: [{{ id: items, match: 'GET /items/{{item}}', scope: read }}]
",
        backend.address
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn development_certificates_are_private_replace_nothing_unasked_and_serve() {
    let backend = Backend::start("t").await;
    let setup = Setup::new("demo", &policy(&backend));
    let folder = setup.config().with_file_name("certs");
    let output = make(&[], &folder).await;
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in ["ca", "server", "agent", "backend"] {
        assert!(said.contains(&format!("{name}.pem")), "{said}");
        let key = std::fs::metadata(folder.join(format!("{name}.key"))).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        8,
        "nothing else is left behind"
    );

    let before = std::fs::read(folder.join("ca.pem")).unwrap();
    assert_eq!(make(&[], &folder).await.status.code(), Some(1));
    assert_eq!(std::fs::read(folder.join("ca.pem")).unwrap(), before);
    assert!(make(&["--force"], &folder).await.status.success());
    assert_ne!(std::fs::read(folder.join("ca.pem")).unwrap(), before);

    let tls = format!(
        "agents: {{ tls: {{ certificate: {0}/server.pem, private_key: {0}/server.key, client_ca: {0}/ca.pem }}, ",
        folder.display()
    );
    setup.edit_server(|text| text.replacen("agents: { ", &tls, 1));
    let mut check = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    check
        .args(["check", "--strict", "--config"])
        .arg(setup.config());
    let output = run(check).await;
    assert!(output.status.success(), "{output:?}");

    let gate = setup.start().await;
    let session = gate.mint("demo", "bot").await;
    let curl = |with_certificate: bool| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--noproxy", "*", "--max-time", "30", "--cacert"]);
        curl.arg(folder.join("ca.pem"));
        if with_certificate {
            curl.arg("--cert").arg(folder.join("agent.pem"));
            curl.arg("--key").arg(folder.join("agent.key"));
        }
        curl.arg("-H")
            .arg(format!("authorization: Bearer {}", session.token));
        curl.arg(format!(
            "https://localhost:{}/t/items/1",
            gate.agents.port()
        ));
        run(curl)
    };
    let output = curl(true).await;
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("/items/1"),
        "{output:?}"
    );
    assert!(!curl(false).await.status.success(), "mTLS is required");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_keeps_its_promises_over_tls_too() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    demo.args(["demo", "--tls", "--check"]);
    let output = run(demo).await;
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("--cacert") && said.contains("--cert "),
        "{said}"
    );
    assert!(said.contains("answered as promised"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_of_the_readme_turn_tls_on() {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("### TLS\n").unwrap();
    let lines: Vec<&str> = section
        .lines()
        .skip_while(|it| *it != "```sh")
        .skip(1)
        .collect();
    assert!(
        lines[0].starts_with("certs/dev.sh") && lines[1].starts_with("sed "),
        "{lines:?}"
    );
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["config/projects", "certs"] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    for name in [
        "config/toolgate.yaml",
        "config/projects/demo.yaml",
        "certs/dev.sh",
    ] {
        std::fs::copy(root.join(name), folder.path().join(name)).unwrap();
    }
    for line in &lines[..2] {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(folder.path());
        let output = run(shell).await;
        assert!(output.status.success(), "{line}: {output:?}");
    }
    let mut check = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    check.arg("check").current_dir(folder.path());
    let output = run(check).await;
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(folder.path().join("config/toolgate.yaml")).unwrap();
    for key in [
        "tls:",
        "certificate:",
        "private_key:",
        "client_ca:",
        "client_auth:",
    ] {
        let written = text.lines().any(|line| line.trim_start().starts_with(key));
        assert!(written, "{key} in\n{text}");
    }
}
