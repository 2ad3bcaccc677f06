//! What stands in each kind of record, field by field, and what is kept out of it.

use super::{Call, NOW, facts, held_call, lines, settings, wait};
use serde_json::{Value, json};
use std::path::Path;
use toolgate::config::{IntentRecord, LedgerSettings};
use toolgate::ledger::record::{BodyDigest, Cause, DecisionRecord, Event, OutcomeRecord, Verdict};
use toolgate::ledger::{Ledger, Level};
use toolgate::policy::approval::Stage;
use toolgate::policy::decision::{GrantUse, Reason};
use toolgate::policy::id::{ApprovalId, GrantId, SessionId};
use toolgate::policy::model::PolicyHash;
use toolgate::policy::name::{LimitId, PrincipalName, ProjectName, RouteId, ScopeName, ToolName};
use toolgate::policy::pin::PinDigest;
use toolgate::policy::resource::Resource;
use toolgate::policy::token::{Token, TokenKind};
use uuid::Uuid;

fn opened(directory: &Path, intent: IntentRecord) -> Ledger {
    let settings = LedgerSettings {
        intent,
        ..settings(directory)
    };
    Ledger::open(&settings, || NOW).unwrap()
}

/// The records that `write` has made, without what every record has; that is looked at here.
fn recorded(intent: IntentRecord, write: impl FnOnce(&Ledger)) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("ledger");
    let ledger = opened(&directory, intent);
    write(&ledger);
    ledger.close().unwrap();
    let instance = std::fs::read_to_string(directory.join("instance")).unwrap();
    let mut records = lines(&directory);
    for (seq, record) in records.iter_mut().enumerate() {
        let record = record.as_object_mut().unwrap();
        assert_eq!(record.remove("seq"), Some(json!(seq)));
        assert_eq!(
            record.remove("time"),
            Some(json!("2023-11-14T22:13:20.000000Z"))
        );
        assert_eq!(record.remove("instance"), Some(json!(instance.trim())));
        assert_eq!(record.remove("prev").unwrap().as_str().unwrap().len(), 64);
    }
    records
}

fn decide(ledger: &Ledger, record: &DecisionRecord<'_>) {
    wait(ledger.reserve().unwrap().decide(record, Level::Written)).unwrap();
}

/// A record's event.
fn append(ledger: &Ledger, event: &Event<'_>) {
    wait(ledger.append(event, NOW, Level::Written)).unwrap();
}

#[test]
fn a_decision_says_everything_that_is_known_of_the_call_and_nothing_that_is_not() {
    let call = Call::new(2);
    let (tool, route) = (
        ToolName::parse("crm").unwrap(),
        RouteId::parse("users.delete").unwrap(),
    );
    let (scope, resource) = (
        ScopeName::parse("users.delete").unwrap(),
        Resource::parse("user:7").unwrap(),
    );
    let limit = LimitId::parse("per-session").unwrap();
    let grant = GrantId::new(Uuid::from_u128(4));
    let approval = ApprovalId::new(Uuid::from_u128(3));
    let listed: [Box<str>; 1] = ["page".into()];
    let full = DecisionRecord {
        trace: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
        run: Some("run-42"),
        tool: Some(&tool),
        route: Some(&route),
        method: "DELETE",
        target: "/crm/users/7?page=2&key=s3cret&bare",
        call: None,
        protocol: false,
        record_query: &listed,
        scope: Some(&scope),
        resource: Some(&resource),
        decision: Verdict::Deny,
        reason: Some(Reason::LimitExceeded),
        grant: Some(GrantUse::Stored(grant)),
        shadow: None,
        approval: Some(approval),
        limit: Some(&limit),
        client: "::ffff:192.0.2.1".parse().unwrap(),
        body: Some(BodyDigest {
            bytes: 12,
            sha256: [0xab; 32],
        }),
        ..call.decision("", Some("tidy up"))
    };
    let records = recorded(IntentRecord::Full, |ledger| {
        decide(ledger, &full);
        decide(ledger, &call.decision("/", None));
    });
    assert_eq!(
        records[0],
        json!({
            "kind": "decision", "request": call.request.to_string(),
            "trace": "4bf92f3577b34da6a3ce929d0e0e4736", "project": "demo", "policy": "07".repeat(32),
            "agent": "bot", "session": call.session.to_string(), "run": "run-42", "intent": "tidy up",
            "tool": "crm", "route": "users.delete", "method": "DELETE",
            "target": "/crm/users/7?page=2&key=*&*", "scope": "users.delete", "resource": "user:7",
            "decision": "deny", "reason": "limit_exceeded", "grant": grant.to_string(),
            "approval": approval.to_string(), "limit": "per-session", "client": "192.0.2.1",
            "body_bytes": 12, "body_sha256": "ab".repeat(32),
        })
    );
    assert_eq!(
        records[1],
        json!({
            "kind": "decision", "request": call.request.to_string(), "project": "demo",
            "policy": "07".repeat(32), "agent": "bot", "session": call.session.to_string(),
            "method": "GET", "target": "/", "decision": "allow", "client": "127.0.0.1",
        }),
        "what does not apply is absent"
    );
}

#[test]
fn an_outcome_says_how_it_ended_and_an_unread_one_says_less() {
    let call = Call::new(2);
    let records = recorded(IntentRecord::Full, |ledger| {
        for outcome in [
            OutcomeRecord {
                hold_micros: Some(9),
                ..call.outcome()
            },
            OutcomeRecord {
                status: None,
                upstream_micros: None,
                cost_micros: None,
                fault: None,
                frames: None,
                ..call.outcome()
            },
        ] {
            let mut slot = ledger.reserve().unwrap();
            wait(slot.decide(&call.decision("/", None), Level::Written)).unwrap();
            slot.settle(&outcome);
        }
    });
    let ids = [call.request.to_string(), call.session.to_string()];
    assert_eq!(
        records[1],
        json!({
            "kind": "outcome", "request": ids[0], "project": "demo", "session": ids[1], "status": 200,
            "bytes_in": 1, "bytes_out": 9_007_199_254_740_991_u64, "decision_micros": 2, "hold_micros": 9,
            "upstream_micros": 3, "total_micros": 4, "cost": "0.01", "fault": "agent_left",
            "frames": { "received": 5, "sent": 6 },
        })
    );
    assert_eq!(
        records[3],
        json!({
            "kind": "outcome", "request": ids[0], "project": "demo", "session": ids[1],
            "bytes_in": 1, "bytes_out": 9_007_199_254_740_991_u64, "decision_micros": 2, "total_micros": 4,
        })
    );
}

#[test]
fn an_intent_is_recorded_whole_as_a_digest_or_not_at_all_as_configured_wherever_one_is() {
    let call = Call::new(2);
    let key = Token::mint(TokenKind::Principal, &[5; 32]);
    let intent = format!("tidy up with {}, please", key.reveal());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, intent.as_bytes());
    let digest: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let facts = facts(held_call(), &intent);
    let write = |ledger: &Ledger| {
        decide(ledger, &call.decision("/", Some(&intent)));
        append(
            ledger,
            &Event::Session {
                change: "intent",
                project: &call.project,
                agent: &call.agent,
                session: call.session,
                run: None,
                parent: None,
                expires: NOW,
                intent: Some(&intent),
                attributes: None,
                narrowing: None,
                cause: Cause::Agent,
            },
        );
        append(
            ledger,
            &Event::Approval {
                change: "requested",
                facts: &facts,
                stage: Stage::Pending,
                word: None,
                note: None,
                status: None,
                given: None,
                cause: Cause::Agent,
            },
        );
    };
    for (mode, whole, digested) in [
        (
            IntentRecord::Full,
            json!("tidy up with tgk_*, please"),
            Value::Null,
        ),
        (IntentRecord::Digest, Value::Null, json!(digest)),
        (IntentRecord::Omit, Value::Null, Value::Null),
    ] {
        for record in recorded(mode, write) {
            let said = (&record["intent"], &record["intent_sha256"]);
            assert_eq!(said, (&whole, &digested), "{mode:?} {}", record["kind"]);
            assert!(!record.to_string().contains(&key.reveal()[4..]), "{record}");
        }
    }
}

#[test]
fn each_change_of_state_says_what_changed_and_who_caused_it() {
    let call = Call::new(2);
    let who = PrincipalName::parse("orchestrator").unwrap();
    let limit = LimitId::parse("same-call").unwrap();
    let (parent, grant) = (
        SessionId::new(Uuid::from_u128(9)),
        GrantId::new(Uuid::from_u128(4)),
    );
    let (scope, resource) = (
        ScopeName::parse("users.delete").unwrap(),
        Resource::parse("user:7").unwrap(),
    );
    let records = recorded(IntentRecord::Full, |ledger| {
        append(
            ledger,
            &Event::Session {
                change: "minted",
                project: &call.project,
                agent: &call.agent,
                session: call.session,
                run: Some("run-42"),
                parent: Some(parent),
                expires: NOW,
                intent: None,
                attributes: Some([0xcd; 32]),
                narrowing: None,
                cause: Cause::Principal(&who),
            },
        );
        append(
            ledger,
            &Event::Grant {
                change: "given",
                project: &call.project,
                session: call.session,
                grant,
                scope: &scope,
                resource: Some(&resource),
                uses: 3,
                expires: NOW,
                why: "asked for",
                cause: Cause::Agent,
            },
        );
        for cause in [Cause::Limit(&limit), Cause::Gate] {
            append(
                ledger,
                &Event::Quarantine {
                    change: "quarantined",
                    project: &call.project,
                    session: call.session,
                    reason: "too often",
                    cause,
                },
            );
        }
        append(
            ledger,
            &Event::Pin {
                change: "changed",
                project: &call.project,
                tool: &ToolName::parse("till").unwrap(),
                name: "pay\u{1b}",
                digest: PinDigest([0xab; 32]),
                accepted: Some(PinDigest([0xcd; 32])),
                session: Some(call.session),
                why: None,
                cause: Cause::Gate,
            },
        );
    });
    let session = call.session.to_string();
    let now = "2023-11-14T22:13:20.000000Z";
    assert_eq!(
        records[0],
        json!({
            "kind": "session", "change": "minted", "cause": "principal", "principal": "orchestrator",
            "project": "demo", "agent": "bot", "session": session, "run": "run-42", "parent": parent.to_string(),
            "expires": now, "attributes_sha256": "cd".repeat(32),
        })
    );
    assert_eq!(
        records[1],
        json!({
            "kind": "grant", "change": "given", "cause": "agent", "project": "demo", "session": session,
            "grant": grant.to_string(), "scope": "users.delete", "resource": "user:7", "uses": 3,
            "expires": now, "why": "asked for",
        })
    );
    let quarantine = |cause: Value| {
        let mut record = json!({
            "kind": "quarantine", "change": "quarantined", "project": "demo", "session": session,
            "reason": "too often",
        });
        for (name, value) in cause.as_object().unwrap() {
            record[name] = value.clone();
        }
        record
    };
    assert_eq!(
        records[2..],
        [
            quarantine(json!({ "cause": "limit", "limit": "same-call" })),
            quarantine(json!({ "cause": "gate" })),
            json!({
                "kind": "pin", "change": "changed", "cause": "gate", "project": "demo", "tool": "till", "name": "pay\u{1b}",
                "digest": "ab".repeat(32), "accepted": "cd".repeat(32), "session": session,
            }),
        ]
    );
}

#[test]
fn what_is_not_of_a_session_says_who_or_what_did_it() {
    let who = PrincipalName::parse("olga").unwrap();
    let hashes = [
        (ProjectName::parse("prod").unwrap(), PolicyHash([2; 32])),
        (ProjectName::parse("dev").unwrap(), PolicyHash([1; 32])),
    ];
    let client = "192.0.2.1".parse().ok();
    let records = recorded(IntentRecord::Full, |ledger| {
        for event in [
            Event::Policy {
                change: "reloaded",
                server: &[3; 32],
                hashes: &hashes,
                trigger: "principal:olga",
                detail: "",
            },
            Event::Principal {
                change: "called",
                principal: Some(&who),
                client,
                count: 1,
                detail: "POST /v1/policy/reload",
            },
            Event::Strangers { client, count: 7 },
            Event::Strangers {
                client: None,
                count: 8,
            },
            Event::Gate {
                change: "started",
                version: "1.2.3",
                detail: "took over from process 1",
            },
        ] {
            append(ledger, &event);
        }
    });
    assert_eq!(
        records,
        [
            json!({
                "kind": "policy", "change": "reloaded", "server_sha256": "03".repeat(32), "detail": "",
                "hashes": { "dev": "01".repeat(32), "prod": "02".repeat(32) }, "trigger": "principal:olga",
            }),
            json!({
                "kind": "principal", "change": "called", "principal": "olga", "client": "192.0.2.1", "count": 1,
                "detail": "POST /v1/policy/reload",
            }),
            json!({ "kind": "principal", "change": "strangers", "client": "192.0.2.1", "count": 7, "detail": "" }),
            json!({ "kind": "principal", "change": "strangers", "count": 8, "detail": "" }),
            json!({ "kind": "gate", "change": "started", "version": "1.2.3", "detail": "took over from process 1" }),
        ]
    );
}
