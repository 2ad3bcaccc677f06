//! Tools that are functions: what issuers are told would be decided, what agents are told is decided, and that the two
//! are one. The decisions of the AuthZEN interop scenario "todo" are written out here in our own words; where
//! `TOOLGATE_CORPORA` names a folder with the tables themselves, those are gone through as well.

use crate::scene::{Answer, Scene, key};
use http::Method;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;

/// Who may do what in the scenario: admins anything, editors what is their own, viewers look.
fn todo_policy(project: &str) -> String {
    format!(
        "version: 1
project: {project}
agents:
  admin:
    session: {{ ttl: 15m }}
    scopes: {{ users.read: on_use, todos.read: on_use, todos.create: on_use, todos.update: on_use, todos.delete: on_use }}
  editor:
    session: {{ ttl: 15m }}
    scopes:
      users.read: on_use
      todos.read: on_use
      todos.create: on_use
      todos.update: {{ grant: on_use, resources: ['todo:{{session.email}}'] }}
      todos.delete: {{ grant: on_use, resources: ['todo:{{session.email}}'] }}
  viewer:
    session: {{ ttl: 15m }}
    scopes: {{ users.read: on_use, todos.read: on_use }}
tools:
  todo:
    protocol: function
    routes:
      - {{ id: users.read,   match: call can_read_user,   scope: users.read, resource: 'user:{{resource.id}}' }}
      - {{ id: todos.read,   match: call can_read_todos,  scope: todos.read }}
      - {{ id: todos.create, match: call can_create_todo, scope: todos.create }}
      - {{ id: todos.update, match: call can_update_todo, scope: todos.update, resource: 'todo:{{resource.properties./ownerID}}' }}
      - {{ id: todos.delete, match: call can_delete_todo, scope: todos.delete, resource: 'todo:{{resource.properties./ownerID}}' }}
"
    )
}

/// The scenario's people: the id that its tables have, what they are, and their address.
const USERS: [(&str, &str, &str); 5] = [
    (
        "CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
        "admin",
        "rick@the-citadel.com",
    ),
    (
        "CiRmZDE2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
        "editor",
        "morty@the-citadel.com",
    ),
    (
        "CiRmZDI2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
        "editor",
        "summer@the-smiths.com",
    ),
    (
        "CiRmZDM2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
        "viewer",
        "beth@the-smiths.com",
    ),
    (
        "CiRmZDQ2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
        "viewer",
        "jerry@the-smiths.com",
    ),
];

/// One decision: whose, of what, on whose, and which.
type Decision = (usize, &'static str, &'static str, bool);

/// What the scenario decides: everybody looks; who edits makes new ones; a todo is changed and deleted by its owner where
/// that is an editor, and by the admin.
fn decisions() -> Vec<Decision> {
    let mut all = Vec::new();
    for (user, (_, role, own)) in USERS.iter().enumerate() {
        let (edits, admin) = (*role != "viewer", *role == "admin");
        for (_, _, other) in USERS {
            all.push((user, "can_read_user", other, true));
            for action in ["can_update_todo", "can_delete_todo"] {
                all.push((user, action, other, admin || (edits && other == *own)));
            }
        }
        all.push((user, "can_read_todos", "", true));
        all.push((user, "can_create_todo", "", edits));
    }
    all
}

fn request(user: usize, action: &str, owner: &str) -> Value {
    let resource = match action {
        "can_read_user" => json!({"type": "user", "id": owner}),
        "can_read_todos" | "can_create_todo" => json!({"type": "todo", "id": "todo-1"}),
        _ => json!({"type": "todo", "id": "7240d0db", "properties": {"ownerID": owner}}),
    };
    let subject = json!({"type": "user", "id": USERS[user].0});
    json!({"subject": subject, "action": {"name": action}, "resource": resource})
}

/// The scenario's users as agents: its ids become their kind, their address an attribute.
fn adapted(mut request: Value) -> Value {
    if let Some(subject) = request.get_mut("subject") {
        let (_, role, email) = USERS.iter().find(|user| subject["id"] == user.0).unwrap();
        *subject = json!({"type": "agent", "id": role, "properties": {"email": email}});
    }
    request
}

/// What an issuer is told.
async fn told(scene: &Scene, request: &Value) -> Value {
    let answer = scene.post("issuer", "/access/v1/evaluation", request).await;
    answer.expect(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_todo_scenario_is_decided_as_its_table_has_it_for_issuers_and_for_sessions() {
    let scene = Scene::of(todo_policy);
    let mut tokens = Vec::new();
    for (_, role, email) in USERS {
        let order = json!({"project": "dev", "agent": role, "attributes": {"email": email}});
        tokens.push(scene.mint_with(order).await.1);
    }
    let decisions = decisions();
    assert_eq!(decisions.len(), 5 * (3 * 5 + 2));
    for (user, action, owner, expected) in decisions {
        let request = request(user, action, owner);
        let told = told(&scene, &adapted(request.clone())).await;
        assert_eq!(told["decision"], expected, "{request}: {told}");
        let mut own = request;
        own["subject"] = json!({"type": "session"});
        let said = asked(&scene, &tokens[user], &own).await;
        assert_eq!(said["decision"], expected, "{own}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_the_interop_scenario_pass_where_they_are_at_hand() {
    let Some(folder) = std::env::var_os("TOOLGATE_CORPORA") else {
        eprintln!("skipped: TOOLGATE_CORPORA names no folder with the tables");
        return;
    };
    let text = std::fs::read_to_string(Path::new(&folder).join("authzen_decisions.json")).unwrap();
    let tables: Value = serde_json::from_str(&text).unwrap();
    let scene = Scene::of(todo_policy);
    let mut gone_through = 0;
    for name in ["todo-1.0-01", "todo-1.0-02"] {
        let table = &tables["tables"][name];
        for row in table["evaluation"].as_array().unwrap() {
            let told = told(&scene, &adapted(row["request"].clone())).await;
            assert_eq!(told["decision"], row["expected"], "{name} {row}: {told}");
            gone_through += 1;
        }
        for row in table["evaluations"].as_array().into_iter().flatten() {
            let request = adapted(row["request"].clone());
            let answer = scene.post("issuer", "/access/v1/evaluations", &request);
            let told = answer.await.expect(200).json();
            let decision = |each: &Value| each["decision"].clone();
            let all = |list: &Value| list.as_array().unwrap().iter().map(decision).collect();
            let (got, expected): (Vec<_>, Vec<_>) =
                (all(&told["evaluations"]), all(&row["expected"]));
            assert_eq!(got, expected, "{name} {row}: {told}");
            gone_through += 1;
        }
    }
    assert_eq!(gone_through, 83);
}

/// Functions that need a grant, a person, an intent.
fn office_policy(project: &str) -> String {
    format!(
        "version: 1
project: {project}
agents:
  bot:
    session: {{ ttl: 15m }}
    scopes:
      users.read: on_use
      users.delete: {{ grant: on_use, resources: ['user:{{session.customer}}'] }}
      refunds.create: {{ grant: on_request, uses: 1, ttl: 5m, resources: any }}
      mail.send: on_use
tools:
  office:
    protocol: function
    routes:
      - {{ id: find,   match: call find_user,   scope: users.read, resource: 'user:{{resource.id}}' }}
      - {{ id: delete, match: call delete_user, scope: users.delete, resource: 'user:{{args./id}}', irreversible: true }}
      - {{ id: refund, match: call refund, scope: refunds.create, resource: 'user:{{args./id}}', where: {{ args./amount: {{ at_most: 100 }} }} }}
      - {{ id: mail,   match: call send_mail, scope: mail.send, intent: required }}
approvals:
  default: {{ approvers: [ops], hold: 20s, expires: 1h }}
limits:
  - {{ id: few, per: session, count: 100/1h }}
"
    )
}

fn question(action: &str, id: &str, args: Value) -> Value {
    json!({
        "subject": {"type": "session"},
        "action": {"name": action},
        "resource": {"type": "user", "id": id},
        "context": {"args": args},
    })
}

async fn answered(scene: &Scene, token: &str, question: &Value, prefer: &str) -> Answer {
    let fields = [("content-type", "application/json"), ("prefer", prefer)];
    let path = "/.toolgate/access/v1/evaluation";
    let body = question.to_string();
    scene
        .agent_sends(token, Method::POST, path, &fields, body)
        .await
}

/// What a session is told.
async fn asked(scene: &Scene, token: &str, question: &Value) -> Value {
    let answer = answered(scene, token, question, "respond-async").await;
    answer.expect(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_told_what_would_be_decided_and_nothing_is_spent_counted_or_asked() {
    let scene = Scene::of(office_policy);
    let order = json!({"project": "dev", "agent": "bot", "attributes": {"customer": "7"}});
    let (id, token) = scene.mint_with(order).await;
    let of_session = |mut question: Value| {
        question["subject"] = json!({"type": "session", "id": id});
        question
    };
    let reason = |told: Value| told["context"]["reason"].clone();
    let refund = question("refund", "7", json!({"id": "7", "amount": 5}));
    assert_eq!(
        reason(told(&scene, &of_session(refund.clone())).await),
        "grant_missing"
    );
    let wish =
        json!({"scope": "refunds.create", "resource": "user:7", "uses": 1, "reason": "a test"});
    let path = format!("/v1/sessions/{id}/grants");
    scene.post("issuer", &path, &wish).await.expect(201);
    let before = scene
        .get("issuer", &format!("/v1/sessions/{id}"))
        .await
        .json();
    for _ in 0..3 {
        assert_eq!(
            told(&scene, &of_session(refund.clone())).await["decision"],
            true
        );
    }
    let dear = question("refund", "7", json!({"id": "7", "amount": 500}));
    assert_eq!(
        reason(told(&scene, &of_session(dear)).await),
        "condition_unmet"
    );
    let delete = question("delete_user", "7", json!({"id": "7"}));
    let held = told(&scene, &of_session(delete)).await;
    assert_eq!(
        [&held["context"]["reason"], &held["context"]["resource"]],
        ["pending_approval", "user:7"]
    );
    let other = question("delete_user", "8", json!({"id": "8"}));
    assert_eq!(
        reason(told(&scene, &of_session(other)).await),
        "resource_outside_ceiling"
    );
    let mismatch = question("delete_user", "7", json!({"id": "8"}));
    assert_eq!(
        reason(told(&scene, &of_session(mismatch)).await),
        "unevaluable"
    );
    assert_eq!(
        reason(told(&scene, &of_session(question("fly", "7", json!({})))).await),
        "no_route"
    );
    let mail = question("send_mail", "7", json!({}));
    assert_eq!(
        reason(told(&scene, &of_session(mail.clone())).await),
        "intent_missing"
    );
    let mut with_intent = of_session(mail);
    with_intent["context"]["intent"] = "say hello".into();
    assert_eq!(told(&scene, &with_intent).await["decision"], true);
    let after = scene
        .get("issuer", &format!("/v1/sessions/{id}"))
        .await
        .json();
    assert_eq!(
        [&before["grants"], &before["limits"]],
        [&after["grants"], &after["limits"]]
    );
    let pending = scene
        .get("dana", "/v1/approvals?state=pending")
        .await
        .json();
    assert_eq!(pending["items"], json!([]));
    // And the session itself is told the same, and spends.
    assert_eq!(asked(&scene, &token, &refund).await["decision"], true);
    assert_eq!(
        reason(asked(&scene, &token, &refund).await),
        "grant_missing"
    );
    scene
        .post(
            "operator",
            &format!("/v1/sessions/{id}/quarantine"),
            &json!({"reason": "a test"}),
        )
        .await
        .expect(200);
    let find = question("find_user", "9", json!({}));
    assert_eq!(reason(told(&scene, &of_session(find)).await), "quarantined");
}

/// Only answers of status 200 had the name that a request has for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_an_issuer_gets_its_own_name_back_whatever_the_answer_is() {
    let scene = Scene::of(office_policy);
    let named = ("x-request-id", "mine-1");
    for (who, method, path, status) in [
        ("issuer", Method::POST, "/access/v1/evaluation", 400),
        ("issuer", Method::POST, "/access/v1/evaluations", 400),
        ("issuer", Method::GET, "/access/v1/evaluation", 405),
        ("auditor", Method::POST, "/access/v1/evaluation", 403),
        ("nobody", Method::POST, "/access/v1/evaluation", 401),
        (
            "issuer",
            Method::GET,
            "/.well-known/authzen-configuration",
            200,
        ),
    ] {
        let bearer = format!("Bearer {}", key(who));
        let fields = [("authorization", bearer.as_str()), named];
        let answer = scene.raw(method, path, &fields, "[]").await.expect(status);
        let own = answer.headers.get("x-request-id");
        assert_eq!(own.unwrap(), "mine-1", "{who} {path}");
    }
    let bearer = format!("Bearer {}", key("issuer"));
    let fields = [("authorization", bearer.as_str()), named];
    let other = scene.raw(Method::GET, "/v1/sessions", &fields, "").await;
    assert!(!other.expect(200).headers.contains_key("x-request-id"));
}

/// From inside a person is asked, from elsewhere nobody; or the other way round.
fn placed_policy(project: &str) -> String {
    format!(
        "version: 1
project: {project}
agents:
  bot: {{ scopes: {{ users.delete: on_use }} }}
tools:
  office:
    protocol: function
    routes:
      - {{ id: inside,  match: call delete_user, where: {{ client: {{ cidr: 10.0.0.0/8 }} }}, scope: users.delete, approval: default }}
      - {{ id: outside, match: call delete_user, scope: users.delete }}
      - {{ id: any,     match: call find_user, where: {{ client: {{ cidr: '::/0' }} }}, scope: users.delete }}
approvals:
  default: {{ approvers: [ops] }}
"
    )
}

/// Questions of issuers were judged as if the agent would ask from the address `::`, which lies in no network of a policy
/// but those that hold everything: what was asked fell through to the next route of its match.
#[tokio::test(flavor = "multi_thread")]
async fn where_an_agent_will_ask_from_is_not_known_to_an_issuer_and_decides_nothing() {
    let scene = Scene::of(placed_policy);
    let (id, _) = scene
        .mint_with(json!({"project": "dev", "agent": "bot"}))
        .await;
    for subject in [
        json!({"type": "session", "id": id}),
        json!({"type": "agent", "id": "bot"}),
    ] {
        for (action, route) in [("delete_user", "inside"), ("find_user", "any")] {
            let mut question = question(action, "7", json!({}));
            question["subject"] = subject.clone();
            let said = told(&scene, &question).await;
            assert_eq!(said["decision"], false, "{said}");
            let why = &said["context"];
            assert_eq!([&why["reason"], &why["route"]], ["unevaluable", route]);
            let detail = why["detail"].as_str().unwrap();
            assert!(detail.contains("`client`"), "{detail}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_asks_within_its_projects_and_in_the_words_of_the_standard() {
    let scene = Scene::of(office_policy);
    let (id, _) = scene
        .mint_with(json!({"project": "dev", "agent": "bot"}))
        .await;
    let find = |subject: Value, project: Option<&str>| {
        let mut question = question("find_user", "9", json!({}));
        question["subject"] = subject;
        if let Some(project) = project {
            question["context"]["project"] = project.into();
        }
        question
    };
    let path = "/access/v1/evaluation";
    let session = json!({"type": "session", "id": id});
    let agent = json!({"type": "agent", "id": "bot"});
    // Another project's session is no session, and its project no project of one's own.
    let foreign = scene
        .post("stranger", path, &find(session.clone(), None))
        .await;
    foreign.expect(404);
    let foreign = find(agent.clone(), Some("prod"));
    scene.post("issuer", path, &foreign).await.expect(400);
    let two = find(agent.clone(), None);
    scene.post("root", path, &two).await.expect(400);
    let one = find(agent.clone(), Some("prod"));
    assert_eq!(
        scene.post("root", path, &one).await.expect(200).json()["decision"],
        true
    );
    let nobody = find(json!({"type": "agent", "id": "bit"}), None);
    let nobody = told(&scene, &nobody).await;
    assert_eq!(nobody["context"]["reason"], "scope_outside_ceiling");
    assert!(
        nobody["context"]["detail"]
            .as_str()
            .unwrap()
            .contains("bot"),
        "{nobody}"
    );
    for wrong in [
        find(json!({"type": "user", "id": "bot"}), None),
        find(
            json!({"type": "agent", "id": "bot", "properties": {"customer": 7}}),
            None,
        ),
        find(json!("bot"), None),
        json!({"subject": agent, "action": {"name": "find_user"}}),
    ] {
        scene.post("issuer", path, &wrong).await.expect(400);
    }
    let twice = r#"{"subject":{"type":"agent","id":"bot"},"action":{"name":"fly"},"action":{"name":"find_user"},"resource":{"type":"user","id":"9"}}"#;
    scene
        .call("issuer", Method::POST, path, twice)
        .await
        .expect(400);
    // Auditors and operators look at what was decided, not at what would be.
    for role in ["auditor", "operator", "dana"] {
        scene
            .post(role, path, &find(session.clone(), None))
            .await
            .expect(403);
    }
    let bearer = format!("Bearer {}", crate::scene::key("issuer"));
    let fields = [
        ("authorization", bearer.as_str()),
        ("x-request-id", "mine-7"),
    ];
    let answer = scene
        .raw(Method::POST, path, &fields, find(session, None))
        .await
        .expect(200);
    assert_eq!(answer.headers["x-request-id"], "mine-7");
    let found = scene
        .get("issuer", "/.well-known/authzen-configuration")
        .await
        .expect(200)
        .json();
    let base = found["policy_decision_point"].as_str().unwrap();
    assert_eq!(found["access_evaluation_endpoint"], format!("{base}{path}"));
    assert_eq!(
        found["access_evaluations_endpoint"],
        format!("{base}{path}s")
    );
    let described = scene.get("issuer", "/openapi.json").await.json();
    assert!(described["paths"][path]["post"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_wait_for_one_word_one_is_told_yes_and_people_saw_what_was_asked() {
    let scene = Scene::of(office_policy);
    let order = json!({"project": "dev", "agent": "bot", "attributes": {"customer": "7"}});
    let (_, token) = scene.mint_with(order).await;
    for round in 0..3 {
        let delete = question(
            "delete_user",
            "7",
            json!({"id": "7", "why": format!("round {round}")}),
        );
        let first = asked(&scene, &token, &delete).await;
        let context = &first["context"];
        assert_eq!(
            [&first["decision"], &context["reason"]],
            [&json!(false), &json!("pending_approval")]
        );
        let id = context["approval"]["id"].as_str().unwrap().to_owned();
        let shown = scene.shown(&id).await;
        assert!(
            shown.to_string().contains(&format!("round {round}")),
            "{shown}"
        );
        let waiting = (0..12).map(|_| answered(&scene, &token, &delete, "wait=20"));
        let waiting = futures_util::future::join_all(waiting);
        let said = async {
            scene.says("dana", &id, "approve").await.expect(200);
        };
        let (answers, ()) = tokio::join!(waiting, said);
        let mut yes = 0;
        let mut reasons = HashSet::new();
        for answer in answers {
            let answer = answer.expect(200).json();
            if answer["decision"] == true {
                yes += 1;
            } else {
                let reason = answer["context"]["reason"].as_str().unwrap();
                reasons.insert(reason.to_owned());
            }
        }
        assert_eq!(yes, 1, "{reasons:?}");
        // Who came after it was given asks anew; that is another approval.
        let known = ["outcome_not_kept", "pending_approval"];
        assert!(
            reasons
                .iter()
                .all(|reason| known.contains(&reason.as_str())),
            "{reasons:?}"
        );
        for pending in scene
            .get("dana", "/v1/approvals?state=pending")
            .await
            .json()["items"]
            .as_array()
            .unwrap()
        {
            scene
                .says("dana", pending["id"].as_str().unwrap(), "deny")
                .await
                .expect(200);
        }
        assert_eq!(
            scene
                .get("dana", &format!("/v1/approvals/{id}"))
                .await
                .json()["state"],
            "executed"
        );
    }
    let allowed = scene.records().into_iter().filter(|record| {
        record["kind"] == "decision" && record["decision"] == "allow" && record["route"] == "delete"
    });
    assert_eq!(allowed.count(), 3);
}
