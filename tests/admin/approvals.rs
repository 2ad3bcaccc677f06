//! Approvals: what people are shown, whose word counts, and what comes of it.

use crate::scene::{Scene, asking_policy};
use http::Method;
use serde_json::{Value, json};
use std::io::Read as _;

const ORDER: &str = "{\"amount\": 7, \"amount\": 70, \"for\": \"a\u{202e}b\"}";

/// A session and a held order of it, for which two must agree.
async fn order(scene: &Scene) -> (String, String) {
    let (_, token) = scene.mint().await;
    let id = scene
        .held(&token, Method::POST, "/shop/orders", ORDER)
        .await;
    (token, id)
}

fn decision(id: &str) -> String {
    format!("/v1/approvals/{id}/decision")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_is_shown_exactly_what_would_run() {
    let scene = Scene::asking();
    let (session, token) = scene
        .mint_with(json!({ "project": "dev", "agent": "bot", "run": "r7", "intent": "tidy up" }))
        .await;
    let fields = [
        ("content-type", "application/json; charset=utf-8"),
        ("x-secret", "hush"),
        ("x-plain", "seen"),
        ("toolgate-intent", "order a lamp"),
    ];
    let answer = scene
        .agent_sends(
            &token,
            Method::POST,
            "/shop/orders?q=1&r=%20",
            &fields,
            ORDER,
        )
        .await
        .expect(202)
        .json();
    let id = answer["approval"].as_str().unwrap();
    let shown = scene.shown(id).await;
    assert_eq!(shown["id"], id);
    assert_eq!(
        (&shown["state"], &shown["asked"]),
        (&json!("pending"), &json!("call"))
    );
    assert_eq!(
        (&shown["project"], &shown["agent"]),
        (&json!("dev"), &json!("bot"))
    );
    assert_eq!(
        (&shown["session"], &shown["run"]),
        (&json!(session), &json!("r7"))
    );
    assert_eq!(
        shown["intent"],
        json!({ "claimed_by": "agent", "text": "order a lamp" })
    );
    assert_eq!(
        (&shown["minted_by"], &shown["client"]),
        (&json!("root"), &json!("127.0.0.1"))
    );
    assert_eq!(
        (&shown["chain"], &shown["approvers"]),
        (&json!("pair"), &json!(["ops"]))
    );
    assert_eq!(
        (&shown["quorum"], &shown["agreeing"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(shown["irreversible"], false);
    assert_eq!(shown["you"], json!({ "may_decide": true, "because": null }));
    assert_eq!(shown["digest"].as_str().unwrap().len(), 64);
    let call = &shown["call"];
    assert_eq!(
        (&call["tool"], &call["route"]),
        (&json!("shop"), &json!("orders.create"))
    );
    assert_eq!(
        (&call["method"], &call["grant"]),
        (&json!("POST"), &json!("on_use"))
    );
    // The query's values, which records mask, are shown.
    assert_eq!(call["target"], "/shop/orders?q=1&r=%20");
    let agents = scene.running.addresses.agents.to_string();
    assert_eq!(call["authority"], agents);
    let field = |name: &str| {
        let fields = call["fields"].as_array().unwrap();
        fields.iter().find(|field| field["name"] == name).cloned()
    };
    assert_eq!(field("x-plain").unwrap()["value"], "seen");
    let masked = &field("x-secret").unwrap()["masked"];
    assert_eq!(masked["bytes"], 4);
    // printf hush | sha256sum
    let sha256 = "dc8331bcb2283e89d275a1c2fe66f7bf5ac3163ec1967f149dd7e27906365f0c";
    assert_eq!(masked["sha256"], sha256);
    assert!(!shown.to_string().contains("hush"));
    assert!(!shown.to_string().contains("tgs_"));
    assert!(field("authorization").is_none() && field("toolgate-intent").is_none());
    let body = &call["body"];
    assert_eq!(body["content_type"], "application/json; charset=utf-8");
    assert_eq!(
        (&body["text"], &body["bytes"]),
        (&json!(ORDER), &json!(ORDER.len()))
    );

    // In lists the large parts are left out; what can't be read as text is shown as the bytes it is.
    let listed = scene
        .get("dana", "/v1/approvals?state=pending")
        .await
        .expect(200)
        .json();
    assert_eq!(
        listed["items"][0]["call"]["target"],
        "/shop/orders?q=1&r=%20"
    );
    assert!(listed["items"][0]["call"].get("body").is_none());
    assert!(listed["items"][0]["call"].get("fields").is_none());
    let answer = scene
        .agent_sends(&token, Method::POST, "/shop/orders", &[], &b"\xff\x00A"[..])
        .await
        .expect(202)
        .json();
    let raw = scene.shown(answer["approval"].as_str().unwrap()).await;
    assert_eq!(raw["call"]["body"]["hex"], "ff0041");
    assert!(raw["call"]["body"].get("text").is_none());

    // Who may see sessions sees of them what people were asked.
    let seen = scene
        .get("auditor", &format!("/v1/sessions/{session}"))
        .await
        .expect(200)
        .json();
    let asked = seen["approvals"].as_array().unwrap();
    assert_eq!(asked.len(), 2);
    assert_eq!(
        (&asked[0]["id"], &asked[0]["route"]),
        (&json!(id), &json!("orders.create"))
    );
    assert!(asked[0].get("call").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_are_listed_oldest_first_by_state_and_project_and_page() {
    let scene = Scene::asking();
    let (_, token) = scene.mint().await;
    let mut ids = Vec::new();
    for item in ["1", "2", "3"] {
        let path = format!("/shop/items/{item}");
        ids.push(scene.held(&token, Method::DELETE, &path, "").await);
    }
    scene.says("dana", &ids[1], "deny").await.expect(200);
    let list = async |query: &str| {
        let page = scene
            .get("dana", &format!("/v1/approvals?{query}"))
            .await
            .expect(200)
            .json();
        let items = page["items"].as_array().unwrap().clone();
        let ids: Vec<String> = items
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect();
        (ids, page["next"].clone())
    };
    assert_eq!(list("").await.0, ids);
    assert_eq!(
        list("state=pending").await.0,
        [ids[0].clone(), ids[2].clone()]
    );
    assert_eq!(
        list("state=denied,expired&project=dev").await.0,
        [ids[1].clone()]
    );
    let (first, next) = list("limit=2").await;
    assert_eq!(first, ids[..2]);
    assert_eq!(
        list(&format!("after={}", next.as_str().unwrap())).await,
        (vec![ids[2].clone()], Value::Null)
    );
    for wrong in [
        "state=open",
        "limit=0",
        "after=x",
        "project=A%20B",
        "colour=red",
    ] {
        scene
            .get("dana", &format!("/v1/approvals?{wrong}"))
            .await
            .refused(400, "invalid_input");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_projects_approvals_do_not_exist() {
    let scene = Scene::asking();
    let (_, id) = order(&scene).await;
    let digest = scene.shown(&id).await["digest"].clone();
    let word = json!({ "decision": "approve", "digest": digest });
    for id in [
        id.as_str(),
        "apr_00000000000000000000000000000000",
        "nonsense",
    ] {
        let path = format!("/v1/approvals/{id}");
        let mut details = Vec::new();
        details.push(scene.get("foreign", &path).await.refused(404, "not_found"));
        details.push(
            scene
                .get("foreign", &format!("{path}/history"))
                .await
                .refused(404, "not_found"),
        );
        details.push(
            scene
                .post("foreign", &decision(id), &word)
                .await
                .refused(404, "not_found"),
        );
        let found = json!({ "ran": true, "note": "seen" });
        details.push(
            scene
                .post("foreign", &format!("{path}/resolve"), &found)
                .await
                .refused(404, "not_found"),
        );
        assert!(details.iter().all(|detail| *detail == details[0]));
    }
    for query in ["", "?project=dev", "?state=pending"] {
        let list = scene
            .get("foreign", &format!("/v1/approvals{query}"))
            .await
            .expect(200)
            .json();
        assert_eq!(list, json!({ "items": [], "next": null }));
    }
    assert_eq!(scene.shown(&id).await["votes"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_about_approvals_asks_for_its_role() {
    let scene = Scene::asking();
    let (_, id) = order(&scene).await;
    let one = format!("/v1/approvals/{id}");
    let cases = [
        (Method::GET, "/v1/approvals".to_owned(), "approver"),
        (Method::GET, one.clone(), "approver"),
        (Method::GET, format!("{one}/history"), "approver"),
        (Method::POST, format!("{one}/decision"), "approver"),
        (Method::POST, format!("{one}/resolve"), "operator"),
    ];
    for (method, path, role) in cases {
        for principal in ["issuer", "operator", "auditor", "approver"] {
            let answer = scene.call(principal, method.clone(), &path, "").await;
            assert_eq!(
                answer.status == 403,
                principal != role,
                "{principal} {method} {path}"
            );
            if answer.status == 403 {
                assert!(answer.refused(403, "role_missing").contains(role));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_minted_the_session_or_is_in_no_group_of_the_chain_can_not_decide() {
    let scene = Scene::asking();
    let minted = scene
        .post(
            "maker",
            "/v1/sessions",
            &json!({ "project": "dev", "agent": "bot" }),
        )
        .await
        .expect(201)
        .json();
    let token = minted["token"].as_str().unwrap();
    let id = scene.held(token, Method::DELETE, "/shop/items/1", "").await;
    for (principal, why) in [
        ("maker", "minted"),
        ("clerk", "members of ops"),
        ("approver", "members of ops"),
    ] {
        let seen = scene
            .get(principal, &format!("/v1/approvals/{id}"))
            .await
            .expect(200)
            .json();
        assert_eq!(seen["you"]["may_decide"], false);
        assert!(
            seen["you"]["because"].as_str().unwrap().contains(why),
            "{seen}"
        );
        for word in ["approve", "deny"] {
            let detail = scene
                .says(principal, &id, word)
                .await
                .refused(403, "role_missing");
            assert!(detail.contains(why), "{detail}");
        }
    }
    let shown = scene.shown(&id).await;
    assert_eq!(
        (&shown["state"], &shown["votes"]),
        (&json!("pending"), &json!([]))
    );
    scene.says("dana", &id, "approve").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_of_two_is_two_people_and_the_same_word_twice_is_one() {
    let scene = Scene::asking();
    let (_, id) = order(&scene).await;
    for _ in 0..2 {
        let after = scene.says("dana", &id, "approve").await.expect(200).json();
        assert_eq!(
            (&after["state"], &after["agreeing"]),
            (&json!("pending"), &json!(1))
        );
        assert_eq!(after["votes"].as_array().unwrap().len(), 1);
        assert_eq!(after["you"]["may_decide"], false);
    }
    let digest = scene.shown(&id).await["digest"].clone();
    let word = json!({ "decision": "approve", "digest": digest, "note": "fits the budget" });
    let after = scene
        .post("erin", &decision(&id), &word)
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&after["state"], &after["agreeing"]),
        (&json!("approved"), &json!(2))
    );
    assert_eq!(after["votes"][1]["note"], "fits the budget");
    // Said again after it was decided: what was said is what is in force.
    scene.post("erin", &decision(&id), &word).await.expect(200);
    scene.says("dana", &id, "approve").await.expect(200);
    assert_eq!(scene.shown(&id).await["votes"].as_array().unwrap().len(), 2);
    let votes = scene.recorded("approval", "voted");
    let people: Vec<_> = votes
        .iter()
        .map(|record| record["principal"].clone())
        .collect();
    assert_eq!(people, [json!("dana"), json!("erin")], "{votes:?}");
    assert_eq!(votes[0]["digest"], digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_late_or_on_something_else_or_against_ones_own_changes_nothing() {
    let scene = Scene::asking();
    let (_, id) = order(&scene).await;
    let path = decision(&id);
    let digest = scene.shown(&id).await["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut other = digest.clone().into_bytes();
    other[0] = if other[0] == b'0' { b'1' } else { b'0' };
    let other = String::from_utf8(other).unwrap();
    for other in [other, digest.to_uppercase(), digest[1..].to_owned()] {
        let decision = json!({ "decision": "approve", "digest": other });
        let detail = scene
            .post("dana", &path, &decision)
            .await
            .refused(409, "conflict");
        assert!(detail.contains("look at it again"), "{detail}");
    }
    for wrong in [
        json!({ "decision": "approve" }),
        json!({ "decision": "maybe", "digest": digest }),
        json!({ "decision": "approve", "digest": digest, "nota": "x" }),
        json!({ "decision": "approve", "digest": digest, "note": "x".repeat(1025) }),
        json!({}),
    ] {
        scene
            .post("dana", &path, &wrong)
            .await
            .refused(400, "invalid_input");
    }
    assert_eq!(scene.shown(&id).await["votes"], json!([]));
    scene.says("dana", &id, "approve").await.expect(200);
    let detail = scene
        .says("dana", &id, "deny")
        .await
        .refused(409, "conflict");
    assert!(detail.contains("opposite"), "{detail}");
    let denied = scene.says("erin", &id, "deny").await.expect(200).json();
    assert_eq!(
        (&denied["state"], &denied["ending"]["by"]),
        (&json!("denied"), &json!("erin"))
    );
    let detail = scene
        .says("maker", &id, "approve")
        .await
        .refused(409, "conflict");
    assert!(
        detail.contains("denied already") && detail.contains("by erin"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_people_who_decide_at_once_both_are_heard_and_it_is_decided_once() {
    let scene = Scene::asking();
    let (_, token) = scene.mint().await;
    for round in 0..8 {
        let path = format!("/shop/items/{round}");
        let id = scene.held(&token, Method::DELETE, &path, "").await;
        let (one, other) = tokio::join!(
            scene.says("dana", &id, "approve"),
            scene.says("erin", &id, "deny")
        );
        // A deny that meets an agreement which is not durable yet ends it; then both words are taken.
        let state = match [one.status.as_u16(), other.status.as_u16()] {
            [200, 409] => "approved",
            [200 | 409, 200] => "denied",
            statuses => panic!("{statuses:?}"),
        };
        assert_eq!(scene.shown(&id).await["state"], state);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_denied_is_denied_to_the_agent_with_the_note() {
    let scene = Scene::asking();
    let (_, token) = scene.mint().await;
    let id = scene
        .held(&token, Method::DELETE, "/shop/items/1", "")
        .await;
    let digest = scene.shown(&id).await["digest"].clone();
    let word = json!({ "decision": "deny", "digest": digest, "note": "archive it instead" });
    scene.post("dana", &decision(&id), &word).await.expect(200);
    let fields = [("content-type", "application/json")];
    let detail = scene
        .agent_sends(&token, Method::DELETE, "/shop/items/1", &fields, "")
        .await
        .refused(403, "approval_denied");
    assert!(detail.contains("archive it instead"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_whose_chain_is_gone_can_not_be_decided() {
    let scene = Scene::asking();
    let (_, id) = order(&scene).await;
    let other = asking_policy("dev", "http://127.0.0.1:9").replace("pair", "trio");
    std::fs::write(scene.project("dev"), other).unwrap();
    scene
        .post("operator", "/v1/policy/reload", &json!({}))
        .await
        .expect(200);
    let shown = scene.shown(&id).await;
    assert_eq!(
        (&shown["approvers"], &shown["you"]["may_decide"]),
        (&Value::Null, &json!(false))
    );
    let detail = scene
        .says("dana", &id, "approve")
        .await
        .refused(409, "conflict");
    assert!(detail.contains("no chain `pair`"), "{detail}");
}

/// A backend that takes one request, reads of it what there is, and goes away without a word.
fn forgetful() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().read(&mut [0; 1024]);
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_says_how_a_run_ended_that_nobody_knows_of() {
    let scene = Scene::asking_before(&forgetful());
    let (_, token) = scene.mint().await;
    let delete = async |item: &str| {
        let fields = [("content-type", "application/json")];
        let path = format!("/shop/items/{item}");
        scene
            .agent_sends(&token, Method::DELETE, &path, &fields, "")
            .await
    };
    let mut ids = Vec::new();
    for item in ["1", "2"] {
        let id = scene
            .held(&token, Method::DELETE, &format!("/shop/items/{item}"), "")
            .await;
        scene.says("dana", &id, "approve").await.expect(200);
        delete(item).await.refused(409, "outcome_unknown");
        assert_eq!(scene.shown(&id).await["state"], "unknown");
        delete(item).await.refused(409, "outcome_unknown");
        ids.push(id);
    }
    let resolve = |id: &str| format!("/v1/approvals/{id}/resolve");
    for wrong in [
        json!({ "ran": true }),
        json!({ "ran": true, "note": " " }),
        json!({ "note": "x" }),
    ] {
        scene
            .post("operator", &resolve(&ids[0]), &wrong)
            .await
            .refused(400, "invalid_input");
    }
    let found = json!({ "ran": true, "note": "the backend's log has it" });
    let resolved = scene
        .post("operator", &resolve(&ids[0]), &found)
        .await
        .expect(200)
        .json();
    assert_eq!(resolved["state"], "executed");
    // An operator is not shown what only approvers see.
    assert!(resolved["call"].get("fields").is_none() && resolved["call"].get("body").is_none());
    scene
        .post("operator", &resolve(&ids[0]), &found)
        .await
        .refused(409, "conflict");
    let found = json!({ "ran": false, "note": "the backend's log has no such call" });
    let resolved = scene
        .post("operator", &resolve(&ids[1]), &found)
        .await
        .expect(200)
        .json();
    assert_eq!(resolved["state"], "approved");
    // It runs again, and again nobody knows.
    delete("2").await.refused(409, "outcome_unknown");
    assert_eq!(scene.shown(&ids[1]).await["state"], "unknown");
    let called = scene.recorded("principal", "called");
    let resolves = called
        .iter()
        .filter(|record| record["detail"].as_str().unwrap().contains("resolve"));
    assert_eq!(resolves.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_needs_a_person_is_asked_for_by_an_issuer_and_given_at_their_word() {
    let scene = Scene::asking();
    let (session, token) = scene.mint().await;
    let path = format!("/v1/sessions/{session}/grants");
    let wish = json!({ "scope": "vault.open", "uses": 1, "reason": "audit day" });
    let asked = scene.post("issuer", &path, &wish).await.expect(202);
    let location = asked.headers["location"].to_str().unwrap().to_owned();
    let asked = asked.json();
    let id = asked["approval"].as_str().unwrap();
    assert_eq!(
        (&asked["status"], location),
        (&json!("PENDING_APPROVAL"), format!("/v1/approvals/{id}"))
    );
    // The same wish joins; another reason is another.
    let again = scene.post("issuer", &path, &wish).await.expect(202).json();
    assert_eq!(again["approval"], id);
    let shown = scene.shown(id).await;
    assert_eq!(
        (&shown["asked"], &shown["call"]),
        (&json!("grant"), &Value::Null)
    );
    assert_eq!(
        shown["grant"],
        json!({ "uses": 1, "ttl_seconds": 300, "reason": "audit day" })
    );
    let open = async || scene.agent(&token, Method::POST, "/shop/vault").await;
    open().await.refused(403, "grant_missing");
    scene.says("dana", id, "approve").await.expect(200);
    let shown = scene.shown(id).await;
    assert_eq!(shown["state"], "executed", "{shown}");
    let grant = shown["outcome"]["grant"].as_str().unwrap().to_owned();
    let seen = scene
        .get("issuer", &format!("/v1/sessions/{session}"))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&seen["grants"][0]["id"], &seen["grants"][0]["uses_left"]),
        (&json!(grant), &json!(1))
    );
    open().await.refused(502, "upstream_failed");
    open().await.refused(403, "grant_missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_session_did_before_is_shown_as_the_ledger_has_it() {
    let scene = Scene::asking();
    let (_, other) = scene.mint().await;
    let (_, token) = scene.mint().await;
    scene
        .agent(&other, Method::GET, "/shop/items/9")
        .await
        .refused(502, "upstream_failed");
    scene
        .agent(&token, Method::GET, "/shop/items/1?q=private")
        .await
        .refused(502, "upstream_failed");
    scene
        .agent(&token, Method::PUT, "/shop/items/2")
        .await
        .refused(403, "grant_missing");
    let id = scene
        .held(&token, Method::DELETE, "/shop/items/3", "")
        .await;
    let history = scene
        .get("dana", &format!("/v1/approvals/{id}/history"))
        .await
        .expect(200)
        .json();
    let items = history["items"].as_array().unwrap();
    let told: Vec<_> = items
        .iter()
        .map(|item| {
            (
                item["target"].as_str().unwrap(),
                item["decision"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("/shop/items/1?q=*", "allow"),
            ("/shop/items/2", "deny"),
            ("/shop/items/3", "hold")
        ]
    );
    assert_eq!(
        (&items[0]["status"], &items[1]["reason"]),
        (&json!(502), &json!("grant_missing"))
    );
    assert_eq!(history["complete"], true);
}
