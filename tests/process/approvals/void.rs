//! What was agreed to under one policy is looked at again under the one in force when it runs.

use super::scene::{Scene, edited, policy, waits};
use super::talk::Order;
use crate::backend::Backend;
use crate::gate::Minted;
use crate::wait::until;
use http::Method;
use serde_json::json;

/// The route, as [`policy`] has it, that all edits are about.
const ACT: &str = "id: act, match: ['POST /act/{item}', 'PUT /act/{item}', 'GET /act/{item}'], scope: act, resource: 'item:{item}', approval: default";

/// One session, one approved request, one edit; then the retry.
struct Edit<'a> {
    what: &'a str,
    from: &'a str,
    to: &'a str,
}

impl Edit<'_> {
    fn apply(&self, yaml: &str) -> String {
        edited(yaml, self.from, self.to)
    }
}

async fn approved(scene: &Scene, order: &Order) -> (Minted, String) {
    let session = scene.mint().await;
    let shown = scene.ask(&session, order).await;
    scene.approve("dana", &shown).await;
    (session, shown.id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_of_what_was_agreed_to_voids_it_and_any_other_edit_does_not() {
    let scene = Scene::open().await;
    let elsewhere = Backend::start("elsewhere").await;
    let base = policy(&scene.backend);
    let (here, there) = (
        scene.backend.address.to_string(),
        elsewhere.address.to_string(),
    );
    let act = |from: &str, to: &str| edited(ACT, from, to);
    let (renamed, rescoped) = (
        act("id: act", "id: act.two"),
        act("scope: act", "scope: acts"),
    );
    let (other_thing, other_chain) = (
        act("'item:", "'thing:"),
        act("approval: default", "approval: brief"),
    );
    let voiding = [
        Edit {
            what: "another route id",
            from: ACT,
            to: &renamed,
        },
        Edit {
            what: "another scope",
            from: ACT,
            to: &rescoped,
        },
        Edit {
            what: "another resource",
            from: ACT,
            to: &other_thing,
        },
        Edit {
            what: "another chain",
            from: ACT,
            to: &other_chain,
        },
        Edit {
            what: "another upstream",
            from: &here,
            to: &there,
        },
        Edit {
            what: "another path of the upstream",
            from: &format!("http://{here}"),
            to: &format!("http://{here}/deep"),
        },
    ];
    for (number, edit) in voiding.iter().enumerate() {
        let order = Order::post(format!("/t/act/{number}")).body("agreed");
        let (session, id) = approved(&scene, &order).await;
        scene.enact(&edit.apply(&base)).await;
        let answer = scene.send(&session, &order).await;
        assert_eq!(
            answer.reason().as_deref(),
            Some("approval_void"),
            "{}: {answer:?}",
            edit.what
        );
        answer.expect(403);
        assert_eq!(scene.stage(&id).await, "withdrawn", "{}", edit.what);
        // Asked anew, it is another approval, which nobody agreed to.
        let anew = waits(&scene.send(&session, &order.clone().at_once()).await);
        assert_ne!(anew, id, "{}", edit.what);
        scene.enact(&base).await;
        // Nor does it come back with the policy.
        let answer = scene.send(&session, &order.clone().at_once()).await;
        assert!(
            matches!(answer.status.as_u16(), 202 | 403),
            "{}: {answer:?}",
            edit.what
        );
        assert_eq!(
            (scene.backend.total(), elsewhere.total()),
            (0, 0),
            "{}",
            edit.what
        );
    }

    let wider = act(
        "approval: default",
        "approval: default, cost: { fixed: 0.01 }",
    );
    let harmless = [
        Edit {
            what: "another route",
            from: "    routes:\n",
            to: "    routes:\n      - { id: more, match: GET /more, scope: read }\n",
        },
        Edit {
            what: "a comment",
            from: "project: demo\n",
            to: "project: demo # as ever\n",
        },
        Edit {
            what: "a timeout",
            from: "timeout: 60s",
            to: "timeout: 61s",
        },
        Edit {
            what: "a limit",
            from: "approvals:\n",
            to: "limits: [ { id: all, per: session, rate: 6000/1m } ]\napprovals:\n",
        },
        Edit {
            what: "how long is held",
            from: "quorum: 1, hold: 30s",
            to: "quorum: 1, hold: 31s",
        },
        Edit {
            what: "a cost",
            from: ACT,
            to: &wider,
        },
        Edit {
            what: "one more approving group",
            from: "default: { approvers: [leads]",
            to: "default: { approvers: [leads, finance]",
        },
    ];
    for (number, edit) in harmless.iter().enumerate() {
        let order = Order::post(format!("/t/act/still-{number}")).body("agreed");
        let (session, id) = approved(&scene, &order).await;
        scene.enact(&edit.apply(&base)).await;
        let answer = scene.send(&session, &order).await;
        assert_eq!(answer.status, 200, "{}: {answer:?}", edit.what);
        assert_eq!(scene.stage(&id).await, "executed", "{}", edit.what);
        assert_eq!(
            scene.backend.seen(&format!("POST /act/still-{number}")),
            1,
            "{}",
            edit.what
        );
        scene.enact(&base).await;
    }
    assert_eq!(scene.backend.total(), harmless.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ceiling_that_no_longer_allows_it_stops_what_was_agreed_to() {
    let scene = Scene::open().await;
    let base = policy(&scene.backend);
    let act = "act: { grant: on_use, resources: ['item:*', 'thing:*'] }";
    let edits = [
        (
            "resource_outside_ceiling",
            edited(
                &base,
                act,
                "act: { grant: on_use, resources: ['item:else', 'thing:*'] }",
            ),
        ),
        (
            "grant_missing",
            edited(
                &base,
                act,
                "act: { grant: on_request, resources: ['item:*', 'thing:*'] }",
            ),
        ),
    ];
    for (number, (reason, yaml)) in edits.iter().enumerate() {
        let order = Order::post(format!("/t/act/{number}"));
        let (session, id) = approved(&scene, &order).await;
        scene.enact(yaml).await;
        let answer = scene.send(&session, &order).await.expect(403);
        let told = answer.reason().unwrap();
        assert!(told == *reason || told == "approval_void", "{answer:?}");
        assert_ne!(scene.stage(&id).await, "executed");
        assert_eq!(scene.backend.total(), 0);
        scene.enact(&base).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_request_is_judged_by_the_policy_in_force_when_it_is_approved() {
    let scene = Scene::open().await;
    let base = policy(&scene.backend);
    let session = scene.mint().await;
    let waiting = scene.sending(&session, &Order::post("/t/act/1"));
    let shown = scene.asked("/t/act/1").await;
    let narrowed = edited(
        &base,
        "resources: ['item:*', 'thing:*']",
        "resources: ['item:9', 'thing:*']",
    );
    scene.enact(&narrowed).await;
    // Whether the word is still taken or not, nothing runs.
    drop(scene.decide("dana", &shown, "approve").await);
    let answer = waiting.await.unwrap().expect(403);
    assert!(answer.reason().is_some());
    assert_eq!(scene.backend.total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_agreed_and_is_no_approver_any_more_agreed_to_nothing() {
    let gone: [(&str, &str, &str); 3] = [
        (
            "out of the group",
            "name: dana, groups: [leads]",
            "name: dana, groups: [others]",
        ),
        ("without the role", "roles: [approver]", "roles: [auditor]"),
        ("another name", "name: dana", "name: dora"),
    ];
    for (what, from, to) in gone {
        let scene = Scene::open().await;
        let order = Order::post("/t/act/1");
        let (session, id) = approved(&scene, &order).await;
        scene.setup.edit_server(|text| {
            // Only dana's own line.
            let (head, rest) = text.split_once("- { name: dana").unwrap();
            let (line, tail) = rest.split_once('\n').unwrap();
            let line = edited(&format!("- {{ name: dana{line}"), from, to);
            format!("{head}{line}\n{tail}")
        });
        scene.reload().await;
        let answer = scene
            .send(&session, &order)
            .await
            .refused(403, "approval_void");
        assert!(
            answer.json()["detail"]
                .as_str()
                .is_some_and(|it| it.len() > 20),
            "{what}"
        );
        assert_eq!(scene.backend.total(), 0, "{what}");
        // Another of the group agrees to the next, which runs.
        let anew = waits(&scene.send(&session, &order.clone().at_once()).await);
        assert_ne!(anew, id, "{what}");
        let path = format!("/v1/approvals/{anew}");
        let shown = scene
            .by("eli", Method::GET, &path, &json!(null))
            .await
            .expect(200)
            .json();
        let word = json!({ "decision": "approve", "digest": shown["digest"] });
        scene
            .by("eli", Method::POST, &format!("{path}/decision"), &word)
            .await
            .expect(200);
        scene.send(&session, &order).await.expect(200);
        assert_eq!(scene.backend.total(), 1, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_that_was_raised_meanwhile_has_to_be_met() {
    let scene = Scene::open().await;
    let base = policy(&scene.backend);
    let order = Order::post("/t/act/1");
    let (session, _) = approved(&scene, &order).await;
    scene
        .enact(&edited(
            &base,
            "quorum: 1, hold: 30s, expires: 10m",
            "quorum: 2, hold: 30s, expires: 10m",
        ))
        .await;
    scene
        .send(&session, &order)
        .await
        .refused(403, "approval_void");
    assert_eq!(scene.backend.total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_dies_with_its_session_and_does_not_come_back_from_quarantine() {
    let scene = Scene::open().await;
    let order = Order::post("/t/act/1");
    let reason = json!({ "reason": "to see what becomes of it" });

    let (revoked, id) = approved(&scene, &order).await;
    let path = format!("/v1/sessions/{}", revoked.id);
    scene
        .gate
        .admin(Method::DELETE, &path, ())
        .await
        .expect(200);
    scene
        .send(&revoked, &order)
        .await
        .refused(401, "credential_invalid");
    assert_eq!(scene.stage(&id).await, "withdrawn");

    let (suspect, id) = approved(&scene, &order).await;
    let path = format!("/v1/sessions/{}/quarantine", suspect.id);
    scene
        .gate
        .admin(Method::POST, &path, &reason)
        .await
        .expect(200);
    scene
        .send(&suspect, &order)
        .await
        .refused(403, "quarantined");
    assert_eq!(scene.stage(&id).await, "withdrawn");
    let path = format!("/v1/sessions/{}/release", suspect.id);
    scene
        .gate
        .admin(Method::POST, &path, &reason)
        .await
        .expect(200);
    let anew = waits(&scene.send(&suspect, &order.clone().at_once()).await);
    assert_ne!(anew, id);

    let brief = json!({ "project": "demo", "agent": "bot", "ttl": "2s" });
    let brief = scene.gate.mint_with(brief).await;
    let shown = scene.ask(&brief, &order).await;
    scene.approve("dana", &shown).await;
    until("the session has ended", || async {
        let read = scene
            .send(&brief, &Order::new(Method::GET, "/t/read/1"))
            .await;
        (read.status == 401).then_some(())
    })
    .await;
    scene
        .send(&brief, &order)
        .await
        .refused(401, "credential_invalid");
    let ended = until("its approval has ended", || async {
        let stage = scene.stage(&shown.id).await;
        (stage != "approved").then_some(stage)
    });
    assert!(["withdrawn", "expired"].contains(&ended.await.as_str()));
    let acted: u64 = scene
        .backend
        .all_seen()
        .iter()
        .filter(|it| it.0.starts_with("POST"))
        .map(|it| it.1)
        .sum();
    assert_eq!(acted, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_requests_are_answered_at_once_when_their_session_ends_or_is_quarantined() {
    let scene = Scene::open().await;
    let order = Order::post("/t/act/1");
    for quarantined in [false, true] {
        let session = scene.mint().await;
        let waiting = scene.sending(&session, &order);
        let shown = scene.asked("/t/act/1").await;
        let path = format!("/v1/sessions/{}", session.id);
        let begun = tokio::time::Instant::now();
        if quarantined {
            let reason = json!({ "reason": "it rambles" });
            scene
                .gate
                .admin(Method::POST, &format!("{path}/quarantine"), &reason)
                .await
                .expect(200);
        } else {
            scene
                .gate
                .admin(Method::DELETE, &path, ())
                .await
                .expect(200);
        }
        let answer = waiting.await.unwrap();
        // It would have been held for 30 s.
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
        let (status, reason) = if quarantined {
            (403, "quarantined")
        } else {
            (401, "credential_invalid")
        };
        answer.refused(status, reason);
        // Who agrees now is told that it is too late.
        scene
            .decide("dana", &shown, "approve")
            .await
            .refused(409, "conflict");
        assert_eq!(scene.stage(&shown.id).await, "withdrawn");
    }
    assert_eq!(scene.backend.total(), 0);
}
