//! Real clients over each of the agents' protocols, unchanged but for base URL, token and whom to trust.
//!
//! The curl of Debian speaks no WebSocket (it is built without it), so those have clients of their own.

use super::scene::{Listening, Papers, setup_with};
use crate::backend::Backend;
use crate::clients::{arrived, policy, refused, said, script_path};
use crate::gate::{Gate, Setup};
use crate::wait::run;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

/// A gate before the backend that all real clients know.
struct Scene {
    gate: Gate,
    listening: Listening,
    token: String,
    /// Whom a client trusts and what it shows.
    known: Vec<(&'static str, PathBuf)>,
    setup: Setup,
}

impl Scene {
    async fn open(listening: Listening) -> Self {
        let papers = Papers::new();
        let backend = Backend::start("crm").await;
        let setup = setup_with(&papers, listening, &["demo"], |_, _| policy(&backend));
        let gate = setup.start().await;
        let config = setup.config();
        Self {
            token: gate.mint("demo", "bot").await.token,
            known: papers.environment(listening, config.parent().unwrap()),
            gate,
            listening,
            setup,
        }
    }

    fn base(&self) -> String {
        format!("{}://{}/crm", self.listening.scheme(), self.gate.agents)
    }

    fn known(&self, name: &str) -> Option<&PathBuf> {
        let found = self.known.iter().find(|(known, _)| *known == name);
        found.map(|(_, path)| path)
    }

    /// curl in one version; `-w` tells which one it was.
    fn curl(&self, version: &str, arguments: &[&str], path: &str) -> Command {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--noproxy", "*", "--max-time", "60", version, "-H"])
            .arg(format!("Authorization: Bearer {}", self.token))
            .args(arguments)
            .arg(self.base() + path);
        for (name, flag) in [
            ("CA", "--cacert"),
            ("CERTIFICATE", "--cert"),
            ("KEY", "--key"),
        ] {
            if let Some(path) = self.known(name) {
                command.arg(flag).arg(path);
            }
        }
        command
    }
}

/// A Python client of ours, with what it is told in its environment.
pub fn python(script: &str, told: &[(&str, PathBuf)]) -> Command {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/bin/python");
    assert!(
        std::path::Path::new(python).exists(),
        "the Python clients are missing; ./test installs them"
    );
    let mut command = Command::new(python);
    command
        .arg(script_path(script))
        .env("PYTHONIOENCODING", "utf-8")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "grpc_proxy"] {
        command.env_remove(proxy).env_remove(proxy.to_uppercase());
    }
    for (name, path) in told {
        command.env(name, path);
    }
    command
}

async fn curl_does_it_all(listening: Listening, version: &str, spoken: &str) {
    let scene = Scene::open(listening).await;
    let curl = |arguments: &[&str], path: &str| scene.curl(version, arguments, path);
    arrived(
        &said(curl(&[], "/users?q=ada%20lovelace&page=2")).await,
        "GET",
        "/users?q=ada%20lovelace&page=2",
        "",
    );
    arrived(
        &said(curl(&["-d", "text=hello"], "/users/7/notes")).await,
        "POST",
        "/users/7/notes",
        "text=hello",
    );
    let spoke = [
        "-w",
        "%{http_version} %{http_code} %{size_download}",
        "-o",
        "/dev/null",
    ];
    let spoke = run(curl(&spoke, "/big?bytes=3000000")).await;
    let expected = format!("{spoken} 200 3000000");
    assert_eq!(
        String::from_utf8_lossy(&spoke.stdout),
        expected,
        "{spoke:?}"
    );
    let head = run(curl(&["-I"], "/users")).await;
    let line = format!("HTTP/{spoken} 200");
    assert!(head.stdout.starts_with(line.as_bytes()), "{head:?}");

    // A file of a known length, which asks first whether it may come (over HTTP/1.1); and one of an unknown length.
    let zeros = scene.setup.config().with_file_name("zeros");
    std::fs::write(&zeros, vec![0; 5_000_000]).unwrap();
    let zeros = zeros.to_str().unwrap();
    for upload in [
        &["-T", zeros][..],
        &["-T", zeros, "-H", "Transfer-Encoding: chunked"],
    ] {
        assert_eq!(
            said(curl(upload, "/sink")).await,
            json!({ "bytes": 5_000_000 })
        );
    }
    let gone = run(curl(&["-X", "DELETE", "-w", "\n%{http_code}"], "/users/8")).await;
    let gone = String::from_utf8(gone.stdout).unwrap();
    let (document, status) = gone.rsplit_once('\n').unwrap();
    let document: Value = serde_json::from_str(document).unwrap();
    refused(&json!([status.parse::<u16>().unwrap(), document]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_works_over_http2_by_prior_knowledge() {
    curl_does_it_all(Listening::Plain, "--http2-prior-knowledge", "2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_that_asks_to_upgrade_to_http2_is_answered_in_http1() {
    // `Upgrade: h2c` is obsolete (RFC 9113 section 3.1) and is not taken up; the call is made all the same.
    curl_does_it_all(Listening::Plain, "--http2", "1.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_works_over_tls_in_both_versions() {
    curl_does_it_all(Listening::Tls, "--http1.1", "1.1").await;
    curl_does_it_all(Listening::Tls, "--http2", "2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_works_with_a_client_certificate_and_gets_nowhere_without_one() {
    curl_does_it_all(Listening::MutualTls, "--http1.1", "1.1").await;
    curl_does_it_all(Listening::MutualTls, "--http2", "2").await;
    let mut scene = Scene::open(Listening::MutualTls).await;
    scene.known.retain(|(name, _)| *name == "CA");
    for version in ["--http1.1", "--http2"] {
        let bare = run(scene.curl(version, &[], "/users")).await;
        assert!(!bare.status.success(), "{bare:?}");
        assert_eq!(bare.stdout, b"", "nothing is said to a stranger");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_httpx_works_over_http2_in_clear_over_tls_and_with_a_client_certificate() {
    for listening in Listening::ALL {
        let scene = Scene::open(listening).await;
        let mut command = python("httpx_http2_client.py", &scene.known);
        command
            .env("BASE_URL", scene.base())
            .env("TOKEN", &scene.token);
        let told = said(command).await;
        assert_eq!(told["version"], "HTTP/2", "{listening:?}");
        let target = told["found"]["target"].as_str().unwrap().to_owned();
        arrived(&told["found"], "GET", &target, "");
        let note = told["made"]["body"].as_str().unwrap();
        arrived(&told["made"], "POST", "/users/7/notes", note);
        arrived(&told["piped"], "POST", "/users/7/notes", "one two three");
        assert_eq!(told["head"], json!([200, 0]));
        refused(&told["gone"]);
        let crowd: Vec<String> = (0..100).map(|number| format!("/users/{number}")).collect();
        assert_eq!(
            told["crowd"],
            json!(crowd),
            "each stream has its own answer"
        );
        assert_eq!(told["size"], 3_000_000);
    }
}
