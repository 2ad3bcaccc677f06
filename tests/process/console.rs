//! The console in a real browser (Debian's Chromium, driven by Selenium) against the real binary.
//!
//! What happens in the browser is in `clients/console_browser.py`; what reached the backend is counted here.

use crate::backend::Backend;
use crate::clients::{said, script_path};
use crate::gate::{Gate, Minted, Role, Setup};
use serde_json::{Value, json};
use std::process::Command;

fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot: {{ scopes: {{ users: on_use, users.delete: on_use, notes: on_use, payments: on_use }} }}
tools:
  crm:
    mount: /crm
    upstream: {{ url: 'http://{}' }}
    routes:
      - {{ id: users.read, match: 'GET /users/{{user_id}}', scope: users, resource: 'user:{{user_id}}' }}
      - {{ id: users.delete, match: 'DELETE /users/{{user_id}}', scope: users.delete, resource: 'user:{{user_id}}' }}
      - {{ id: notes.add, match: 'POST /users/{{user_id}}/notes', scope: notes, approval: default }}
      - {{ id: payments, match: POST /payments, scope: payments, approval: payments }}
approvals:
  default: {{ approvers: [leads] }}
  payments: {{ approvers: [leads], quorum: 2 }}
",
        backend.address
    )
}

struct Scene {
    gate: Gate,
    backend: Backend,
    session: Minted,
    setup: Setup,
}

impl Scene {
    async fn open() -> Self {
        let backend = Backend::start("crm").await;
        let role = |name, roles| Role {
            name,
            roles,
            projects: "demo",
        };
        let setup = Setup::with(
            &[("demo", &policy(&backend))],
            &[
                role("root", "issuer, operator, auditor"),
                role("dana", "approver"),
                role("erin", "approver"),
                role("olga", "operator"),
                role("ada", "auditor"),
            ],
        );
        setup.edit_server(|text| {
            text.replace("roles: [approver],", "roles: [approver], groups: [leads],")
        });
        let gate = setup.start().await;
        let session = gate.mint("demo", "bot").await;
        Self {
            gate,
            backend,
            session,
            setup,
        }
    }

    /// What a scenario says that it saw.
    async fn browse(&self, scenario: &str) -> Value {
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/bin/python");
        let keys: Value = ["dana", "erin", "olga", "ada"]
            .iter()
            .map(|name| ((*name).to_owned(), json!(self.setup.key(name))))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let mut command = Command::new(python);
        command
            .arg(script_path("console_browser.py"))
            .arg(scenario)
            .env("ADMIN", format!("http://{}", self.gate.admin))
            .env("AGENTS", format!("http://{}", self.gate.agents))
            .env("KEYS", keys.to_string())
            .env("TOKEN", &self.session.token)
            .env("SESSION", &self.session.id)
            .env("PYTHONIOENCODING", "utf-8")
            .env("NO_PROXY", "*");
        said(command).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_decide_in_a_browser_and_what_they_agree_to_runs_once() {
    let scene = Scene::open().await;
    let told = scene.browse("decide").await;
    assert_eq!(told["approved"], 200, "{told}");
    assert_eq!(
        (&told["denied"], &told["note"]),
        (&json!(403), &json!(true)),
        "{told}"
    );
    assert_eq!(told["quorum"], 200, "{told}");
    assert_eq!(
        (&told["quarantined"], &told["released"]),
        (&json!(403), &json!(200)),
        "{told}"
    );
    assert_eq!(
        told["complaints"],
        json!([]),
        "the browser objects to nothing"
    );
    let seen = |line| scene.backend.seen(line);
    assert_eq!(seen("DELETE /users/7"), 1);
    assert_eq!(seen("DELETE /users/8"), 0);
    assert_eq!(seen("POST /payments"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_writes_is_shown_in_the_browser_and_not_run() {
    let scene = Scene::open().await;
    let told = scene.browse("hostile").await;
    let text = |name: &str| told[name].as_str().unwrap();
    for name in ["inbox", "page"] {
        assert!(
            text(name).contains("<script>document.title='run'</script>"),
            "{told}"
        );
        assert!(
            text(name).contains("</blockquote><h1>Approved</h1>"),
            "{told}"
        );
    }
    assert!(!text("title").contains("run"), "{told}");
    assert!(text("exact").contains("onerror="), "{told}");
    assert!(text("read").contains("payU+200BpalU+202E"), "{told}");
    let marks: Vec<&str> = told["marks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(marks, ["U+00A0", "U+200B", "U+202E"], "{told}");
    assert_eq!(
        told["hex"], 65536,
        "a mebibyte of bytes that are no text is there whole"
    );
    assert_eq!(
        told["complaints"],
        json!([]),
        "the browser objects to nothing"
    );
    assert_eq!(scene.backend.total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_of_other_origins_frames_and_other_names_are_refused() {
    let scene = Scene::open().await;
    let told = scene.browse("foreign").await;
    // Of another site the cookie is not even sent along.
    assert_eq!(
        told["forms"],
        json!(["Sign in", "Nothing was done"]),
        "{told}"
    );
    assert_eq!(told["framed"], false, "{told}");
    assert_eq!(told["rebound"], "Not under this name", "{told}");
    assert_eq!(told["followed"], true, "{told}");
    assert_eq!(told["cookie"], "", "scripts can't read it: {told}");
    assert_eq!(
        (&told["first"], &told["still"]),
        (&json!(202), &json!(202)),
        "{told}"
    );
    assert_eq!(told["signed_out"], true, "{told}");
    assert_eq!(scene.backend.total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_javascript_people_decide_all_the_same() {
    let scene = Scene::open().await;
    let told = scene.browse("no_script").await;
    assert_eq!(
        (&told["approved"], &told["denied"]),
        (&json!(200), &json!(403)),
        "{told}"
    );
    assert_eq!(scene.backend.seen("DELETE /users/7"), 1);
    assert_eq!(scene.backend.seen("DELETE /users/8"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_auditor_is_told_a_sessions_story_in_the_browser_on_a_phone_and_without_javascript() {
    let scene = Scene::open().await;
    let told = scene.browse("ledger").await;
    assert_eq!(
        (&told["approved"], &told["refused"]),
        (&json!(200), &json!(403)),
        "{told}"
    );
    let story = told["story"].as_str().unwrap();
    let mut rest = story;
    for part in [
        "customer 7 asked to be forgotten",
        "session minted",
        "by root",
        "held for people",
        "DELETE /crm/users/7",
        "said yes",
        "by dana",
        "seen ticket 12",
        "allowed",
        "answered 200",
        "refused",
        "no_route",
    ] {
        let at = rest.find(part);
        rest = &rest[at.unwrap_or_else(|| panic!("{part} is not next in {story}"))..];
    }
    assert!(
        story.contains("<script>document.title='run'</script>"),
        "{told}"
    );
    assert!(!told["title"].as_str().unwrap().contains("run"), "{told}");
    assert_eq!(told["marks"], json!(["U+200B", "U+202E"]), "{told}");
    assert_eq!(told["same_without_script"], true, "{told}");
    assert_eq!(told["wider"], json!([]), "nothing is wider than a phone");
    assert_eq!(
        told["complaints"],
        json!([]),
        "the browser objects to nothing"
    );
    assert_eq!(scene.backend.seen("DELETE /users/7"), 1);
}
