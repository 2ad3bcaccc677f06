//! The command line as a user meets it: the real binary, its output and its exit codes. What needs a gate as a process of
//! its own is in the process ring.
#![allow(clippy::unwrap_used, reason = "every function here serves a test")]

mod approvals;
mod explain;
mod import;
mod ledger;
mod reading;
#[allow(dead_code, reason = "the admin ring uses all of it")]
#[path = "../admin/scene.rs"]
mod scene;

use clap::{Command as Definition, CommandFactory};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use toolgate::cli::Cli;
use toolgate::config::{self, Secrets};
use toolgate::policy::token::{TokenKind, parse};

const OK: i32 = 0;
const NO: i32 = 1;
const USAGE: i32 = 2;
const UNAVAILABLE: i32 = 69;
const CONFIGURATION: i32 = 78;

/// Runs the binary with nothing of the environment that it reads.
fn toolgate(arguments: &[&str]) -> Ran {
    toolgate_with(arguments, &[])
}

fn toolgate_with(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    for name in [
        "TOOLGATE_CONFIG",
        "TOOLGATE_ADMIN",
        "TOOLGATE_KEY",
        "TOOLGATE_LOG",
        "TOOLGATE_ISSUER_KEY",
        "TOOLGATE_APPROVER_KEY",
        "CRM_API_KEY",
    ] {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    Ran {
        code: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    #[track_caller]
    fn complains(self, of: &str) -> Self {
        assert!(self.stderr.contains(of), "{of:?} in {self:#?}");
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// A valid configuration in a folder of its own; `principals` and `routes` are what the test is about.
fn configuration(principals: &str, route: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("projects")).unwrap();
    let server = format!(
        "version: 1\nlisteners:\n  agents: {{ address: 127.0.0.1:0 }}\n  admin: {{ address: 127.0.0.1:0 }}\n  metrics: {{ address: 127.0.0.1:0 }}\nprincipals:\n{principals}store: {{ embedded: {{ path: toolgate.db }} }}\nledger: {{ directory: ledger }}\nprojects: [projects/*.yaml]\n"
    );
    let project = format!(
        "version: 1\nproject: demo\nagents:\n  bot:\n    scopes: {{ users.read: on_use }}\ntools:\n  crm:\n    mount: /crm\n    upstream: {{ url: http://127.0.0.1:9001 }}\n    routes:\n      - {{ id: users.read, match: GET /users, scope: {route} }}\n"
    );
    fs::write(folder.path().join("toolgate.yaml"), server).unwrap();
    fs::write(folder.path().join("projects/demo.yaml"), project).unwrap();
    folder
}

fn server_file(folder: &TempDir) -> String {
    path(&folder.path().join("toolgate.yaml"))
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

const PRINCIPAL: &str = "  - name: orchestrator\n    key: { sha256: \"0000000000000000000000000000000000000000000000000000000000000001\" }\n    roles: [issuer]\n    projects: [demo]\n";

#[test]
fn the_help_of_every_command_shows_an_example() {
    fn walk(definition: &Definition, path: &[&str]) {
        let mut arguments = path.to_vec();
        arguments.push("--help");
        let ran = toolgate(&arguments).ends(OK);
        assert!(ran.stdout.contains("Example"), "{path:?}");
        let line = format!(
            "\n  {}",
            ["toolgate"]
                .iter()
                .chain(path)
                .copied()
                .collect::<Vec<_>>()
                .join(" ")
        );
        let example = ran.stdout.split("Example").nth(1).unwrap();
        // The command itself stands in its example, perhaps after a variable or within a substitution.
        assert!(example.contains(line.trim_start()), "{path:?}: {example}");
        for inner in definition
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help")
        {
            walk(inner, &[path, &[inner.get_name()]].concat());
        }
    }
    walk(&Cli::command(), &[]);
}

#[test]
fn the_definitions_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn what_the_command_line_does_not_know_is_a_usage_error() {
    toolgate(&["serve", "--unknown"])
        .ends(USAGE)
        .complains("--unknown");
    toolgate(&["surve"]).ends(USAGE).complains("serve");
    toolgate(&[]).ends(USAGE).complains("Usage");
    toolgate(&["session", "show", "7"])
        .ends(USAGE)
        .complains("ses_");
    toolgate(&["grants", "revoke", "ses_00000000000000000000000000000001"])
        .ends(USAGE)
        .complains("grt_");
    toolgate(&[
        "session",
        "mint",
        "--project",
        "demo",
        "--agent",
        "bot",
        "--attribute",
        "x",
    ])
    .ends(USAGE)
    .complains("NAME=VALUE");
    toolgate(&["demo", "--port", "65535"])
        .ends(USAGE)
        .complains("65535");
    toolgate(&["schema", "other"])
        .ends(USAGE)
        .complains("project");
    toolgate(&[
        "key",
        "new",
        "bad name",
        "--roles",
        "issuer",
        "--projects",
        "demo",
    ])
    .ends(USAGE)
    .complains("a name");
    toolgate(&["key", "new", "x", "--projects", "demo"])
        .ends(USAGE)
        .complains("--roles");
}

#[test]
fn json_is_refused_where_it_would_change_nothing() {
    for command in [
        ["serve", "--json"].as_slice(),
        &["demo", "--json"],
        &["completions", "bash", "--json"],
    ] {
        toolgate(command).ends(USAGE).complains("no --json");
    }
}

#[test]
fn version_goes_to_standard_output() {
    let ran = toolgate(&["--version"]).ends(OK);
    assert_eq!(
        ran.stdout,
        format!("toolgate {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_key_is_needed_for_the_admin_api_and_never_repeated() {
    toolgate(&["session", "list"])
        .ends(USAGE)
        .complains("TOOLGATE_KEY");
    let ran =
        toolgate_with(&["session", "list"], &[("TOOLGATE_KEY", "sk-live-secret")]).ends(USAGE);
    assert!(!ran.stderr.contains("sk-live-secret"), "{ran:?}");
    toolgate(&["session", "list", "--key-file", "/nonexistent"])
        .ends(USAGE)
        .complains("/nonexistent");
}

#[test]
fn an_admin_api_that_is_not_there_is_unavailable() {
    let key = new_key()["key"].as_str().unwrap().to_owned();
    // A port that was just free, and that nobody listens on.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    toolgate_with(
        &["session", "list", "--admin", &admin],
        &[("TOOLGATE_KEY", &key)],
    )
    .ends(UNAVAILABLE)
    .complains(&admin);
    toolgate_with(
        &["session", "list"],
        &[
            ("TOOLGATE_KEY", &key),
            ("TOOLGATE_ADMIN", "ftp://gate.example"),
        ],
    )
    .ends(USAGE)
    .complains("http:// or https://");
    toolgate_with(
        &["session", "list", "--ca", "absent.pem"],
        &[
            ("TOOLGATE_KEY", &key),
            ("TOOLGATE_ADMIN", "https://gate.example"),
        ],
    )
    .ends(USAGE)
    .complains("`absent.pem` can't be read");
}

#[test]
fn a_valid_configuration_is_summed_up_by_project() {
    let folder = configuration(PRINCIPAL, "users.read");
    let ran = toolgate(&["check", "--strict", "--config", &server_file(&folder)]).ends(OK);
    for words in [
        "project demo",
        "agents",
        "bot",
        "crm at /crm -> http://127.0.0.1:9001",
        "users.read",
        "valid: 1 project",
    ] {
        assert!(ran.stdout.contains(words), "{words} in {ran:?}");
    }
    // The option may stand before the command, and the environment may say it.
    toolgate(&["--config", &server_file(&folder), "check"]).ends(OK);
    toolgate_with(&["check"], &[("TOOLGATE_CONFIG", &server_file(&folder))]).ends(OK);
    let json = toolgate(&["check", "--json", "--config", &server_file(&folder)])
        .ends(OK)
        .json();
    assert_eq!(json["valid"], true);
    assert_eq!(json["projects"][0]["tools"][0]["mount"], "/crm");
    assert_eq!(json["projects"][0]["agents"][0], "bot");
}

#[test]
fn the_shipped_examples_are_valid() {
    let secrets = [
        (
            "TOOLGATE_ISSUER_KEY",
            new_key()["key"].as_str().unwrap().to_owned(),
        ),
        (
            "TOOLGATE_APPROVER_KEY",
            new_key()["key"].as_str().unwrap().to_owned(),
        ),
        ("CRM_API_KEY", "x".to_owned()),
    ];
    let environment: Vec<_> = secrets
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    toolgate_with(&["check", "--strict"], &environment).ends(OK);
}

#[test]
fn an_invalid_configuration_is_named_with_its_place_and_exits_78() {
    let folder = configuration(PRINCIPAL, "users.read, scoope: x");
    let ran = toolgate(&["check", "--config", &server_file(&folder)]).ends(CONFIGURATION);
    assert!(ran.stderr.contains("demo.yaml:11:"), "{ran:#?}");
    assert!(
        !ran.stderr.contains('\u{1b}'),
        "colours only on a terminal: {ran:?}"
    );
    assert_eq!(ran.stdout, "");
    let json = toolgate(&["check", "--json", "--config", &server_file(&folder)])
        .ends(CONFIGURATION)
        .json();
    assert_eq!(json["valid"], false);
    assert_eq!(json["errors"][0]["line"], 11);
    toolgate(&["serve", "--config", &server_file(&folder)])
        .ends(CONFIGURATION)
        .complains("demo.yaml:11:");
    toolgate(&["check", "--config", "/nonexistent.yaml"])
        .ends(CONFIGURATION)
        .complains("/nonexistent.yaml");
}

#[test]
fn a_warning_is_an_error_only_under_strict() {
    // A scope that no agent may hold.
    let folder = configuration(PRINCIPAL, "users.list");
    let file = server_file(&folder);
    let ran = toolgate(&["check", "--config", &file]).ends(OK);
    assert!(ran.stderr.contains("users.list"), "{ran:#?}");
    toolgate(&["check", "--strict", "--config", &file])
        .ends(NO)
        .complains("--strict");
}

fn new_key() -> Value {
    toolgate(&[
        "key",
        "new",
        "dana",
        "--roles",
        "issuer,operator",
        "--projects",
        "demo",
        "--json",
    ])
    .ends(OK)
    .json()
}

#[test]
fn a_new_key_works_with_the_yaml_that_was_printed_beside_it() {
    let ran = toolgate(&[
        "key",
        "new",
        "dana",
        "--roles",
        "issuer,operator",
        "--projects",
        "demo",
    ])
    .ends(OK);
    let (key, yaml) = ran.stdout.split_once("\n\n").unwrap();
    let digest = parse(TokenKind::Principal, key).unwrap();
    let folder = configuration(yaml, "users.read");
    let loaded = config::load(&folder.path().join("toolgate.yaml"), Secrets::Required).unwrap();
    let principal = &loaded.server.principals[0];
    assert_eq!(principal.name.as_str(), "dana");
    assert_eq!(principal.key, digest);
    assert_eq!(
        principal.roles,
        [config::Role::Issuer, config::Role::Operator]
    );
    assert_eq!(principal.projects[0].as_str(), "demo");
    // Two calls, two keys.
    assert_ne!(new_key()["key"], new_key()["key"]);
}

#[test]
fn a_name_that_yaml_would_take_for_a_number_stays_a_name() {
    let ran = toolgate(&[
        "key",
        "new",
        "1e3",
        "--roles",
        "auditor",
        "--projects",
        "demo",
    ])
    .ends(OK);
    let (_, yaml) = ran.stdout.split_once("\n\n").unwrap();
    let folder = configuration(yaml, "users.read");
    let loaded = config::load(&folder.path().join("toolgate.yaml"), Secrets::Required).unwrap();
    assert_eq!(loaded.server.principals[0].name.as_str(), "1e3");
}

#[test]
fn schemas_are_json() {
    for kind in ["server", "project"] {
        let schema = toolgate(&["schema", kind]).ends(OK).json();
        assert!(schema["properties"]["version"].is_object(), "{kind}");
    }
}

#[test]
fn completions_know_the_commands_of_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = toolgate(&["completions", shell]).ends(OK);
        for word in ["quarantine", "completions", "key-file"] {
            assert!(ran.stdout.contains(word), "{word} for {shell}");
        }
    }
}
