//! Tools that are functions, in a program that knows of the gate no more than a URL and a token: each asks before it acts.

use super::scene::{DENY, Scene, edited};
use crate::clients::script_path;
use crate::ledger;
use crate::wait::within;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;

/// A program that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the program may do, beside what is written there for others.
fn with_functions(yaml: String) -> String {
    let yaml = edited(
        &yaml,
        "tools:\n",
        "tools:
  office:
    protocol: function
    routes:
      - { id: office.find, match: call find_user, scope: office.find, resource: 'user:{args./user_id}' }
      - { id: office.delete, match: call delete_user, scope: office.delete, resource: 'user:{args./user_id}', irreversible: true, intent: optional }
",
    );
    edited(
        &yaml,
        "    scopes:\n",
        "    scopes:
      office.find: on_use
      office.delete: { grant: on_use, resources: ['user:7', 'user:7x'] }
",
    )
}

#[tokio::test]
async fn a_python_function_asks_before_it_acts_and_acts_on_what_people_agreed_to_once() {
    let scene = Scene::open_with(with_functions).await;
    let session = scene.mint().await;
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/bin/python");
    let mut program = Command::new(python);
    program
        .arg(script_path("function_client.py"))
        .env("GATE_URL", format!("http://{}", scene.gate.agents))
        .env("TOKEN", &session.token)
        .env("PYTHONIOENCODING", "utf-8")
        .stdout(Stdio::piped());
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        program.env_remove(proxy);
    }
    let child = program.spawn();
    let mut child = Running(child.expect("the Python clients are there; ./test installs them"));
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let (says, mut hears) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .try_for_each(|line| says.send(line))
    });
    let mut line = async || -> Value {
        let line = within(
            Duration::from_secs(60),
            "a line of the program",
            hears.recv(),
        );
        serde_json::from_str(&line.await.expect("it goes on")).unwrap()
    };
    assert_eq!(line().await["ready"], true);

    // It waits while a person looks, and acts.
    let shown = scene.asked("/call/delete_user").await;
    let all = scene.all(&shown.id).await;
    assert_eq!(all["call"]["method"], "CALL");
    assert!(all.to_string().contains("hard"), "{all}");
    scene.approve("dana", &shown).await;
    // The same with another argument is another call, and a person does not like it.
    let other = scene.asked("/call/delete_user").await;
    assert_ne!(other.id, shown.id);
    scene.decide("dana", &other, DENY).await.expect(200);
    // The third is asked about as the profile has it.
    let task = line().await;
    assert_eq!(task["submitted"], 202);
    let shown = scene.shown(task["task"].as_str().unwrap()).await;
    scene.approve("dana", &shown).await;

    let said = line().await;
    assert_eq!(said["found"]["id"], "9");
    let outside = said["outside"].as_str().unwrap();
    assert!(
        outside.starts_with("resource_outside_ceiling: this session may not use"),
        "{outside}"
    );
    assert_eq!(said["waited"], "deleted");
    let denied = said["denied"].as_str().unwrap();
    assert!(
        denied.starts_with("approval_denied: a person looked at this very call"),
        "{denied}"
    );
    assert_eq!(said["requested"], serde_json::json!([true, false, "none"]));
    assert_eq!(
        said["acted"],
        serde_json::json!([["find", "9"], ["delete", "7", false]])
    );
    assert!(child.0.wait().unwrap().success());
    scene.comes_to(&shown.id, "executed").await;

    let records = ledger::verified(&scene.setup.ledger());
    let of_office = |decision: &str| {
        let found = records.iter().filter(|record| {
            record["kind"] == "decision"
                && record["tool"] == "office"
                && record["decision"] == decision
        });
        found.count()
    };
    assert_eq!([of_office("allow"), of_office("hold")], [3, 4]);
    assert!(
        records
            .iter()
            .any(|record| record["intent"] == "tidy up the accounts")
    );
}
