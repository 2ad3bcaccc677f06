//! `toolgate replay` held to the truth: what it says another policy would have decided is what a second gate decides that
//! runs this other policy on the same calls.

use crate::backend::Backend;
use crate::client::{Connection, Payload, call, read};
use crate::crash::Dice;
use crate::gate::{Gate, Minted, Role, Setup};
use crate::ledger;
use crate::wait::run;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

fn before(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  support:
    session: {{ ttl: 1h, max_ttl: 4h }}
    scopes:
      users.read: {{ grant: on_use, resources: ['user:{{session.customer_id}}', 'user:public'] }}
      users.write: {{ grant: on_use, resources: ['user:{{session.customer_id}}'] }}
      users.delete: {{ grant: on_use, resources: ['user:{{session.customer_id}}'] }}
      refunds.create: {{ grant: on_request, uses: 2, ttl: 30m, grants: 50, resources: ['user:{{session.customer_id}}'] }}
      notes.write: {{ grant: on_request, uses: 3, ttl: 30m, grants: 50 }}
      tickets.write: on_use
      export: on_use
      search: on_use
  research:
    session: {{ ttl: 1h, max_ttl: 4h }}
    scopes: {{ search: on_use, export: on_use, users.read: {{ grant: on_use, resources: ['user:*'] }} }}
tools:
  crm:
    mount: /crm
    upstream: {{ url: 'http://{}' }}
    record_query: [kind]
    routes:
      - {{ id: users.read, match: 'GET /users/{{id}}', scope: users.read, resource: 'user:{{id}}' }}
      - {{ id: users.me, match: GET /me, scope: users.read, resource: 'user:{{session.customer_id}}' }}
      - {{ id: users.write, match: 'PUT /users/{{id}}', scope: users.write, resource: 'user:{{id}}' }}
      - {{ id: users.delete, match: 'DELETE /users/{{id}}', scope: users.delete, resource: 'user:{{id}}' }}
      - {{ id: refunds, match: 'POST /users/{{id}}/refunds', scope: refunds.create, resource: 'user:{{id}}' }}
      - {{ id: notes, match: POST /notes, scope: notes.write }}
      - {{ id: tickets, match: POST /tickets, scope: tickets.write }}
      - {{ id: export, match: GET /export, scope: export }}
      - {{ id: search, match: GET /search, scope: search }}
      - {{ id: reports, match: GET /reports, scope: search }}
      - {{ id: picks.small, match: GET /picks, where: {{ query.kind: {{ equals: small }} }}, scope: search }}
      - {{ id: picks, match: GET /picks, scope: export }}
      - {{ id: hidden, match: GET /hidden, where: {{ query.q: {{ equals: x }} }}, scope: search }}
      - {{ id: masked, match: GET /masked, where: {{ query.q: {{ equals: x }} }}, scope: search }}
limits:
  - {{ id: runaway, per: session, count: 90/1h }}
approvals:
  default: {{ approvers: [leads], hold: 0s, expires: 1h, pending: {{ per_session: 100, per_route: 100 }} }}
",
        backend.address
    )
}

/// Wider and narrower ceilings, other grants, a chain more and one less, a route renamed, one gone, an intent demanded.
fn after(before: &str) -> String {
    let edits = [
        (
            "resources: ['user:{session.customer_id}', 'user:public']",
            "resources: ['user:{session.customer_id}']",
        ),
        (
            "users.write: { grant: on_use, resources: ['user:{session.customer_id}'] }",
            "users.write: { grant: on_use, resources: ['user:*'] }",
        ),
        (
            "refunds.create: { grant: on_request, uses: 2, ttl: 30m, grants: 50,",
            "refunds.create: { grant: on_use,",
        ),
        (
            "notes.write: { grant: on_request, uses: 3,",
            "notes.write: { grant: on_request, uses: 1,",
        ),
        ("search: on_use, export: on_use,", "search: on_use,"),
        ("{ equals: small }", "{ one_of: [small, middle] }"),
        (
            "match: GET /masked, where: { query.q: { equals: x } }",
            "match: GET /masked, where: { query.q: { equals: y } }",
        ),
        (
            "scope: users.delete,",
            "scope: users.delete, approval: never,",
        ),
        ("scope: export }", "scope: export, approval: default }"),
        ("id: search,", "id: web.search,"),
        (
            "      - { id: reports, match: GET /reports, scope: search }\n",
            "",
        ),
        (
            "scope: tickets.write }",
            "scope: tickets.write, intent: required }",
        ),
    ];
    edits.iter().fold(before.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "`{from}` is in\n{text}");
        text.replacen(from, to, 1)
    })
}

/// What is done, in order, whatever comes of it.
enum Act {
    Call(usize, Method, &'static str, bool),
    /// Asks for a grant.
    Ask(usize, &'static str, Option<&'static str>),
    /// A person's word on what that call waits for, if it does.
    Decide(usize, &'static str),
}

const TARGETS: &[(&str, &str)] = &[
    ("GET", "/crm/users/7"),
    ("GET", "/crm/users/8"),
    ("GET", "/crm/users/public"),
    ("HEAD", "/crm/users/7?verbose=1&page=2"),
    ("GET", "/crm/me"),
    ("PUT", "/crm/users/7"),
    ("PUT", "/crm/users/9"),
    ("DELETE", "/crm/users/7"),
    ("DELETE", "/crm/users/8"),
    ("POST", "/crm/users/7/refunds"),
    ("POST", "/crm/users/8/refunds"),
    ("POST", "/crm/notes"),
    ("POST", "/crm/tickets"),
    ("GET", "/crm/export"),
    ("GET", "/crm/search?q=secret"),
    ("GET", "/crm/reports"),
    ("GET", "/crm/users/../export"),
    ("GET", "/elsewhere"),
    ("PATCH", "/crm/users/7"),
    ("GET", "/crm/picks?kind=small"),
    ("GET", "/crm/picks?kind=middle"),
    ("GET", "/crm/picks?kind=large&page=2"),
    ("GET", "/crm/picks"),
    ("GET", "/crm/hidden?q=x"),
    ("GET", "/crm/hidden?q=y"),
    ("GET", "/crm/masked?q=x"),
    ("GET", "/crm/masked?q=y"),
    ("GET", "/crm/masked"),
];
const SESSIONS: usize = 7;

fn script() -> Vec<Act> {
    let mut acts = Vec::new();
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut random = |below: usize| usize::try_from(dice.roll(below as u64)).unwrap();
    let call = |session, at: usize, intent| {
        let (method, target) = TARGETS[at];
        Act::Call(session, method.parse().unwrap(), target, intent)
    };
    // Each of every session once, then as it comes.
    for at in 0..TARGETS.len() {
        acts.extend((0..SESSIONS - 1).map(|session| call(session, at, session % 2 == 0)));
    }
    let note = |session| Act::Call(session, Method::POST, "/crm/notes", true);
    // A grant is used up, and given again; another is asked for while one is live.
    acts.extend([
        Act::Ask(0, "notes.write", None),
        note(0),
        note(0),
        note(0),
        note(0),
    ]);
    acts.extend([Act::Ask(0, "notes.write", None), note(0), note(0)]);
    acts.extend([
        Act::Ask(5, "notes.write", None),
        note(5),
        Act::Ask(5, "notes.write", None),
        note(5),
    ]);
    for _ in 0..160 {
        let session = random(SESSIONS - 1);
        match random(12) {
            0 => acts.push(Act::Ask(session, "notes.write", None)),
            1 => acts.push(Act::Ask(session, "refunds.create", Some("user:7"))),
            2 => {
                let (method, target) =
                    [("DELETE", "/crm/users/7"), ("GET", "/crm/export")][random(2)];
                let again = || Act::Call(session, method.parse().unwrap(), target, true);
                acts.push(again());
                let word = ["approve", "deny"][random(2)];
                acts.push(Act::Decide(acts.len() - 1, word));
                acts.push(again());
            }
            _ => acts.push(call(session, random(TARGETS.len()), random(2) == 0)),
        }
    }
    // One loops until its limit stops it.
    acts.extend((0..100).map(|_| call(SESSIONS - 1, 14, false)));
    acts
}

/// A gate under a policy, and everything done before it: the request's id for each call.
async fn played(yaml: &str) -> (Setup, Vec<Option<String>>) {
    let role = |name, roles| Role {
        name,
        roles,
        projects: "demo",
    };
    let roles = [
        role("root", "issuer, operator, auditor"),
        role("dana", "approver"),
    ];
    let setup = Setup::with(&[("demo", yaml)], &roles);
    setup.edit_server(|text| text.replace("name: dana, ", "name: dana, groups: [leads], "));
    let gate = setup.start().await;
    let sessions = sessions(&gate).await;
    let mut answers: Vec<Option<(String, Option<String>)>> = Vec::new();
    for act in script() {
        let answer = match act {
            Act::Call(session, method, target, intent) => {
                Some(sent(&gate, &sessions[session], method, target, intent).await)
            }
            Act::Ask(session, scope, resource) => {
                let mut wish = json!({"scope": scope, "reason": "a test"});
                if let Some(resource) = resource {
                    wish["resource"] = resource.into();
                }
                let token = &sessions[session].token;
                call(gate.agents, token, Method::POST, "/.toolgate/grants", &wish).await;
                None
            }
            Act::Decide(step, word) => {
                if let Some((_, Some(approval))) = &answers[step] {
                    decide(&setup, &gate, approval, word).await;
                }
                None
            }
        };
        answers.push(answer);
    }
    let mut gate = gate;
    gate.signal("TERM");
    gate.ended().await;
    let ids = answers.into_iter().map(|answer| answer.map(|(id, _)| id));
    (setup, ids.collect())
}

async fn sessions(gate: &Gate) -> Vec<Minted> {
    let support = |attributes: Value| json!({"project": "demo", "agent": "support", "attributes": attributes});
    let mut orders = vec![
        support(json!({"customer_id": "7"})),
        support(json!({"customer_id": "8", "plan": "gold"})),
        support(json!({"customer_id": "7"})),
        json!({"project": "demo", "agent": "research"}),
        support(json!({"customer_id": "7"})),
        support(json!({"customer_id": "9", "plan": "gold"})),
        support(json!({"customer_id": "7"})),
    ];
    orders[2]["scopes"] =
        json!({"users.read": {"resources": ["user:7"]}, "tickets.write": {}, "users.write": {}});
    let mut minted: Vec<Minted> = Vec::new();
    for (at, mut order) in orders.into_iter().enumerate() {
        if at == 4 {
            order["parent"] = minted[0].id.clone().into();
        }
        minted.push(gate.mint_with(order).await);
    }
    minted
}

/// The call's id, and what it waits for.
async fn sent(
    gate: &Gate,
    session: &Minted,
    method: Method,
    target: &str,
    intent: bool,
) -> (String, Option<String>) {
    let mut connection = Connection::open(gate.agents, &session.token).await.unwrap();
    let fields: &[(&str, &str)] = if intent {
        &[("toolgate-intent", "to see what comes of it")]
    } else {
        &[]
    };
    let answer = connection
        .start(method, target, fields, Payload::from(()))
        .await;
    let answer = read(answer.unwrap()).await.unwrap();
    let id = answer.header("toolgate-request-id").unwrap().to_owned();
    let waits =
        (answer.status == 202).then(|| answer.json()["approval"].as_str().unwrap().to_owned());
    (id, waits)
}

async fn decide(setup: &Setup, gate: &Gate, approval: &str, word: &str) {
    let (key, path) = (setup.key("dana"), format!("/v1/approvals/{approval}"));
    let shown = call(gate.admin, key, Method::GET, &path, ())
        .await
        .expect(200);
    let word = json!({"decision": word, "digest": shown.json()["digest"]});
    // Of an approval that is over, a second word is refused: as it is.
    call(
        gate.admin,
        key,
        Method::POST,
        &format!("{path}/decision"),
        &word,
    )
    .await;
}

/// Agent, route, decision and reason then, and the same three now.
type Change = (String, [String; 3], [String; 3]);

fn words(value: &Value) -> [String; 3] {
    ["route", "decision", "reason"].map(|name| value[name].as_str().unwrap_or("-").to_owned())
}

/// The first decision of each call.
fn decisions(setup: &Setup) -> BTreeMap<String, Value> {
    let mut first = BTreeMap::new();
    for record in ledger::verified(&setup.ledger()) {
        if record["kind"] == "decision" {
            let id = record["request"].as_str().unwrap().to_owned();
            first.entry(id).or_insert(record);
        }
    }
    first
}

fn of_the_policy(record: &Value) -> bool {
    let reasons = [
        "no_route",
        "scope_outside_ceiling",
        "resource_outside_ceiling",
        "grant_missing",
        "intent_missing",
        "unevaluable",
        "condition_unmet",
    ];
    record["reason"]
        .as_str()
        .is_none_or(|reason| reasons.contains(&reason))
}

/// `toolgate replay`, with the old policy at hand or without it.
async fn replayed(setup: &Setup, policy: &Path, at_hand: bool) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolgate"));
    command
        .arg("replay")
        .arg(setup.ledger())
        .arg("--policy")
        .arg(policy)
        .arg("--json");
    let config = if at_hand {
        setup.config()
    } else {
        setup.config().with_extension("none")
    };
    command.arg("--config").arg(config).env("NO_COLOR", "1");
    let ran = run(command).await;
    let code = ran.status.code().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    let report =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|fault| panic!("{fault}: {said}"));
    (code, report)
}

fn unrecorded(report: &Value) -> BTreeMap<String, u64> {
    let all = report["not_recorded"].as_array().unwrap().iter();
    all.map(|one| {
        (
            one["subject"].as_str().unwrap().to_owned(),
            one["calls"].as_u64().unwrap(),
        )
    })
    .collect()
}

fn reported(report: &Value) -> BTreeMap<Change, u64> {
    let mut found = BTreeMap::new();
    for change in report["changes"].as_array().unwrap() {
        let agent = change["agent"].as_str().unwrap().to_owned();
        *found
            .entry((agent, words(&change["old"]), words(&change["new"])))
            .or_default() += change["calls"].as_u64().unwrap();
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replay_says_another_policy_would_decide_is_what_a_gate_decides_that_runs_it() {
    let backend = Backend::start("crm").await;
    let yaml = before(&backend);
    let changed = after(&yaml);
    let (old, ids) = played(&yaml).await;
    let (new, others) = played(&changed).await;
    let (then, now) = (decisions(&old), decisions(&new));
    let mut truth: BTreeMap<Change, u64> = BTreeMap::new();
    let mut own = 0;
    for (id, other) in ids.iter().zip(&others) {
        let (Some(id), Some(other)) = (id, other) else {
            continue;
        };
        let (then, now) = (&then[id], &now[other]);
        if !of_the_policy(then) || !of_the_policy(now) {
            continue;
        }
        own += 1;
        if words(then) != words(now) {
            let agent = then["agent"].as_str().unwrap().to_owned();
            *truth.entry((agent, words(then), words(now))).or_default() += 1;
        }
    }

    // Under the policy that decided, nothing differs, and with it at hand nothing is missing.
    let (code, same) = replayed(&old, &old.project_file("demo"), true).await;
    assert_eq!((code, reported(&same)), (0, BTreeMap::new()), "{same:#}");
    assert_eq!(unrecorded(&same), BTreeMap::new(), "{same:#}");
    assert_eq!(same["decided"], own, "{same:#}");
    assert_eq!(same["damaged_lines"], 0);
    let beside = &same["not_the_policys"];
    let unclear = then
        .values()
        .filter(|record| record["reason"] == "target_ambiguous");
    assert_eq!(beside["target_ambiguous"], unclear.count(), "{beside}");
    assert_eq!(beside["limit_exceeded"], 10, "{beside}");

    // Under another, what is said to differ differs, and what differs is said or known to be missing.
    let file = new.project_file("demo");
    for at_hand in [true, false] {
        let (code, report) = replayed(&old, &file, at_hand).await;
        let (said, missing) = (reported(&report), unrecorded(&report));
        assert_eq!(code, 1, "{report:#}");
        for (change, calls) in &said {
            let real = truth.get(change).copied().unwrap_or(0);
            assert!(
                *calls <= real,
                "{change:?}: {calls} said, {real} are so\n{report:#}"
            );
        }
        let unsaid = truth.values().sum::<u64>() - said.values().sum::<u64>();
        let gaps: u64 = missing.values().sum();
        assert!(
            unsaid <= gaps,
            "{unsaid} differ unsaid, {missing:?} are missing\n{truth:#?}\n{report:#}"
        );
        assert_eq!(
            report["decided"].as_u64().unwrap() + gaps,
            own,
            "{report:#}"
        );
        for subject in missing.keys() {
            let honest = ["session.customer_id", "intent", "grants", "query.q"];
            let honest = honest.contains(&&**subject);
            assert!(honest, "{missing:?}");
        }
        // Each edit is seen.
        for new in [
            ["users.delete", "allow", "-"],
            ["users.write", "allow", "-"],
            ["refunds", "allow", "-"],
            ["export", "hold", "-"],
            ["export", "deny", "scope_outside_ceiling"],
            ["web.search", "allow", "-"],
            ["-", "deny", "no_route"],
            ["notes", "deny", "grant_missing"],
        ] {
            let seen = said
                .keys()
                .any(|(_, _, now)| now.each_ref().map(|it| &**it) == new);
            assert!(seen, "{new:?} in {said:#?}, missing {missing:?}");
        }
    }
}
