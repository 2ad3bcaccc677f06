//! Calls whose bodies say what they act on, from outside: each of a list is judged, what was judged is what arrives, and
//! people see each of what they agree to.

use super::scene::{Scene, edited};
use super::talk::Order;
use crate::ledger;
use crate::wait::run;
use serde_json::{Value, json};
use std::process::Command;

/// A ceiling of a few items.
async fn scene() -> Scene {
    Scene::open_with(|yaml| {
        let yaml = edited(
            &yaml,
            "      plain: on_use\n",
            "      plain: on_use\n      few: { grant: on_use, resources: ['item:7', 'item:8', 'item:a%20b', 'item:%C3%A9'] }\n",
        );
        edited(
            &yaml,
            "    routes:\n",
            "    routes:
      - { id: merge, match: POST /merge, scope: few, resource: 'item:{body./ids}' }
      - { id: purge, match: POST /purge, scope: few, resource: 'item:{body./ids}', approval: default }
",
        )
    })
    .await
}

fn order(path: &str, body: &str) -> Order {
    Order::post(path)
        .with("content-type", "application/json")
        .body(body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_list_in_a_body_is_judged_and_what_was_judged_arrives_byte_for_byte() {
    let scene = scene().await;
    let session = scene.mint().await;
    for body in [
        r#"{"ids":7}"#,
        "\r\n{ \"ids\" : [ \"7\" ,\t8, 7 ], \"n\": 1.50, \"e\": 1E2, \"u\": \"\\u00e9\" } \n",
        r#"{"ids":["\u0037","a b","é"],"\u0069":null}"#,
        r#"{"z":{"ids":[9]},"ids":["8"]}"#,
    ] {
        let answer = scene.send(&session, &order("/t/merge", body)).await;
        assert_eq!(answer.expect(200).json()["body"], body);
    }
    let form = "ids=a+b&x=%e9%zz"; // What can't be decoded may be the name that is asked for, but no value is.
    let answer = Order::post("/t/merge")
        .with("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let answer = scene.send(&session, &answer).await.expect(200);
    assert_eq!(answer.json()["body"], form);
    let before = scene.backend.total();
    for (body, status, reason) in [
        (r#"{"ids":[7,9]}"#, 403, "resource_outside_ceiling"),
        (r#"{"ids":["7 item:8"]}"#, 403, "resource_outside_ceiling"),
        (r#"{"ids":["*"]}"#, 403, "resource_outside_ceiling"),
        (r#"{"ids":[7,[8]]}"#, 400, "unevaluable"),
        (r#"{"ids":[]}"#, 400, "unevaluable"),
        (r#"{"ids":7e0}"#, 400, "unevaluable"),
        (r#"{"ids":7,"Ids":9}"#, 400, "unevaluable"),
        (r#"{"ids":7,"ids":9}"#, 400, "body_unreadable"),
        (r#"{"ids":7,"\u0069ds":9}"#, 400, "body_unreadable"),
        ("\u{feff}{\"ids\":7}", 400, "body_unreadable"),
    ] {
        let answer = scene.send(&session, &order("/t/merge", body)).await;
        answer.refused(status, reason);
    }
    let plain = Order::post("/t/merge").body(r#"{"ids":7}"#);
    let answer = scene.send(&session, &plain).await;
    answer.refused(415, "body_unreadable");
    assert_eq!(scene.backend.total(), before, "nothing of it was forwarded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_each_of_several_and_all_of_them_are_found_afterwards_also_by_a_gate_that_was_killed()
 {
    let scene = scene().await;
    let session = scene.mint().await;
    let body = r#"{"ids": [7, "a b", 7]}"#;
    let purge = order("/t/purge", body);
    let shown = scene.ask(&session, &purge).await;
    assert_eq!(scene.all(&shown.id).await["resource"], "item:7 item:a%20b");
    let other = scene
        .ask(&session, &order("/t/purge", r#"{"ids": ["a b", 7]}"#))
        .await;
    assert_ne!((&other.id, &other.digest), (&shown.id, &shown.digest));
    let Scene {
        backend,
        setup,
        gate,
    } = scene;
    gate.kill();
    let gate = setup.start().await;
    let scene = Scene {
        backend,
        setup,
        gate,
    };
    let again = scene.all(&shown.id).await;
    assert_eq!(again["resource"], "item:7 item:a%20b");
    let mut show = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    show.args(["approvals", "show", &shown.id, "--admin"])
        .arg(format!("http://{}", scene.gate.admin))
        .env("TOOLGATE_KEY", scene.setup.key("dana"));
    let said = String::from_utf8(run(show).await.stdout).unwrap();
    let rows: Vec<_> = said
        .lines()
        .filter_map(|line| line.strip_prefix("resource"))
        .map(str::trim)
        .collect();
    assert_eq!(rows, ["item:7", "item:a%20b"], "{said}");
    scene.approve("dana", &shown).await;
    let answer = scene.send(&session, &purge).await.expect(200);
    assert_eq!(answer.json()["body"], body);
    for resource in ["item:7", "item:a%20b"] {
        let found = queried(&scene, resource).await;
        let acted = found.iter().find(|record| record["decision"] == "allow");
        assert_eq!(acted.unwrap()["resource"], "item:7 item:a%20b");
    }
    assert_eq!(queried(&scene, "item:").await, [] as [Value; 0]);
    ledger::verified(&scene.setup.ledger());
}

/// What the ledger has of calls on it.
async fn queried(scene: &Scene, resource: &str) -> Vec<Value> {
    let mut query = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    query
        .args(["ledger", "query"])
        .arg(scene.setup.ledger())
        .args(["--kind", "decision", "--json", "--resource", resource]);
    let output = run(query).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let records: Vec<Value> = records.collect();
    assert!(
        records
            .iter()
            .all(|record| record["kind"] == json!("decision"))
    );
    records
}
