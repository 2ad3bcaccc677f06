//! What is told of a decision is the decision: the steps lead to the very word that `decide` gives.

use crate::builder::{Builder, at, ceiling, filled, grant};
use crate::decide::{ceilings, descent, grants, parts, run};
use proptest::prelude::*;
use toolgate::policy::call::Call;
use toolgate::policy::choice::{Unfit, Vague, acts_on, choose};
use toolgate::policy::condition::{Literal, Pointer, Subject as Looked, Test};
use toolgate::policy::decimal::Decimal;
use toolgate::policy::decision::{Decision, Reason};
use toolgate::policy::model::{GrantMode, Policy};
use toolgate::policy::name::ProjectName;
use toolgate::policy::subject::{Grant, Session, Subject};
use toolgate::policy::target::Target;
use toolgate::policy::trace::{
    Answer, Asked, Fit, Outcome, Step, Told, ToldBody, Wanted, answer, trace,
};
use toolgate::policy::{AccessRequest, decide};

const TARGETS: &[&str] = &[
    "/t/users/7",
    "/t/users/8",
    "/t/users/%2A",
    "/t/users/7?page=2",
    "/t/all",
    "/t/org",
    "/t/unheld/7",
    "/t/users",
    "/elsewhere",
    "/t/users/../all",
    "/.toolgate/session",
];
const METHODS: &[&str] = &["GET", "HEAD", "DELETE", "POST"];

/// The word of `decide` itself on what was matched, without the function under test.
fn decided(
    policy: &Policy,
    session: &Session,
    grants: &[Grant],
    method: &str,
    target: &str,
) -> Option<(Outcome, Option<String>, Option<String>)> {
    let target = Target::parse(target, "gate.example").ok()?;
    let matched = policy.table.find(method, &target).ok()?;
    let route = policy.route(matched.route);
    let filled = route
        .resource
        .as_ref()
        .map(|it| filled(it, &matched.captures, session));
    // What can't be computed is refused before anything is decided.
    let resource = match filled {
        Some(None) => return None,
        Some(filled) => filled,
        None => None,
    };
    let shown = resource.as_ref().map(ToString::to_string);
    let access = AccessRequest { route, resource };
    let decision = decide(policy, Subject { session, grants }, access, at(100));
    let (outcome, grant) = match decision {
        Decision::Allow(permit) => (Outcome::Allow, Some(format!("{:?}", permit.grant()))),
        Decision::Hold(hold) => (Outcome::Hold, Some(format!("{:?}", hold.grant()))),
        Decision::Deny(denial) => (Outcome::Deny(denial.reason), None),
    };
    Some((outcome, shown, grant))
}

fn told(answer: &Answer) -> (Outcome, Option<String>, Option<String>) {
    let resource = answer.resource.as_ref().map(ToString::to_string);
    let grant = answer.grant.map(|grant| format!("{grant:?}"));
    (answer.outcome, resource, grant)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn what_is_told_of_a_decision_is_what_is_decided(
        ceilings in ceilings(), runs in prop::collection::vec(run(), 1..4), grants in grants(),
        asking in any::<bool>(), stranger in prop::bool::weighted(0.1),
        target in prop::sample::select(TARGETS), method in prop::sample::select(METHODS),
    ) {
        let policy = parts(&ceilings);
        let policy = if asking { policy.chain("default", &["leads"], 1).asking() } else { policy };
        let policy = policy.build();
        let mut session = descent(&runs);
        if stranger {
            session.project = ProjectName::parse("other").unwrap();
        }
        let subject = Subject { session: &session, grants: &grants };
        let call = silent(&session);
        let told_of = trace(&policy, subject, http(method, target), &call, at(100));
        if let Ok(canonical) = Target::parse(target, "gate.example") {
            let wanted = Wanted::Http(method, &canonical);
            prop_assert_eq!(&told_of.answer, &answer(&policy, subject, wanted, &call, at(100)));
        } else {
            prop_assert!(told_of.answer.outcome.reason().is_some() && told_of.answer.route.is_none());
        }
        if let Some(decided) = decided(&policy, &session, &grants, method, target) {
            prop_assert_eq!(told(&told_of.answer), decided);
        } else {
            prop_assert!(told_of.answer.outcome.reason().is_some());
        }
        // Exactly the last step that is judged may say no, and only where the answer does.
        let judged: Vec<bool> = told_of.steps.iter().filter_map(passes).collect();
        let (last, before) = judged.split_last().unwrap();
        prop_assert!(before.iter().all(|passes| *passes), "{:?}", told_of.steps);
        prop_assert_eq!(*last, told_of.answer.outcome.reason().is_none());
        prop_assert!(matches!(told_of.steps.last(), Some(Step::Limits(_))));
    }
}

/// What a step says; `None`: nothing follows from it alone.
fn passes(step: &Step) -> Option<bool> {
    Some(match step {
        Step::Project(_) | Step::Agent(_) | Step::Shadow | Step::Limits(_) => return None,
        Step::Target(target) => target.as_ref().is_none_or(Result::is_ok),
        Step::Tool(tool) => tool.is_some(),
        Step::Route(route) => route.is_ok(),
        Step::Exempt => true,
        Step::Arm(arm) => match arm.fit {
            Fit::Taken | Fit::Next => true,
            Fit::Refused(_) | Fit::RefusedBody(_) | Fit::Unknown(_) => false,
        },
        Step::Intent(said) => *said == Some(true),
        Step::Field(_) | Step::Vague(_) => false,
        Step::Scope(_, held) => *held == toolgate::policy::trace::Held::Yes,
        Step::Resource(_, bounds) => bounds.iter().all(|each| each.holds()),
        Step::Grant(_, grant) => grant.is_some(),
        Step::Approval(_) => true,
    })
}

fn http<'a>(method: &'a str, target: &'a str) -> Asked<'a> {
    Asked::Http {
        method,
        host: "gate.example",
        target,
    }
}

/// A call of which nothing is said.
fn silent(session: &Session) -> Told<'_> {
    Told {
        session,
        intended: None,
        query: None,
        fields: &[],
        all_fields: false,
        body: None,
        args: None,
        client: None,
        now: None,
    }
}

const BODIES: &[&str] = &[
    r#"{"amount": 5}"#,
    r#"{"amount": 500, "ids": [1, 2]}"#,
    r#"{"amount": "5"}"#,
    r#"{"amount": 5, "amount": 6}"#,
    "amount=5",
    "",
];
const TYPES: &[&str] = &[
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain",
];
const RESOURCES: &[&str] = &["u:{id}", "u:{body./ids}", "u:{header.x-tenant}"];
type Fields = Vec<(String, String)>;

fn fields(media: &str, tenant: Option<&str>) -> Fields {
    let tenant = tenant.map(|tenant| ("x-tenant".to_owned(), tenant.to_owned()));
    let media = ("content-type".to_owned(), media.to_owned());
    tenant.into_iter().chain([media]).collect()
}

/// Arms of one match: by body, by field, and perhaps one that takes what is left; what they act on may stand in the body.
fn arms(last: bool, resource: &str) -> Policy {
    let at_most = Test::AtMost(Decimal::read("100").unwrap());
    let acme = Test::OneOf([Literal::Text("acme".into())].into());
    let pointer = Pointer::parse("/amount").unwrap();
    let any = ceiling(GrantMode::OnUse, &[]);
    let scopes = [("s0", any.clone()), ("s1", any.clone()), ("s2", any)];
    let policy = Builder::new().tool("/t").agent("a0", &scopes);
    let policy = policy
        .route("POST /q/{id}", "s0", Some(resource))
        .when(Looked::Body(pointer), at_most)
        .route("POST /q/{id}", "s1", None)
        .when(Looked::Header("x-tenant".into()), acme);
    match last {
        true => policy.route("POST /q/{id}", "s2", None).build(),
        false => policy.build(),
    }
}

/// What the parts say of it that the gate asks.
fn by_parts(policy: &Policy, session: &Session, target: &Target, call: &dyn Call) -> Outcome {
    let first = policy.table.find("POST", target).unwrap();
    let matched = match choose(policy, first, call) {
        Ok(matched) => matched,
        Err(Unfit::Unread(route)) => {
            let refused = call.refused_body(policy.route(route).body_limit);
            return Outcome::Deny(refused.unwrap().reason());
        }
        Err(Unfit::Unevaluable { .. }) => return Outcome::Deny(Reason::Unevaluable),
        Err(Unfit::Unmet { .. }) => return Outcome::Deny(Reason::ConditionUnmet),
    };
    let route = policy.route(matched.route);
    let resource = match acts_on(route, &matched.captures, call) {
        Ok(resource) => resource,
        Err(Vague::Unfilled(unfilled)) => return Outcome::Deny(unfilled.reason()),
        Err(Vague::Unread) => panic!("all of the call is known"),
    };
    let grants = &[];
    let access = AccessRequest { route, resource };
    match decide(policy, Subject { session, grants }, access, at(100)) {
        Decision::Allow(_) => Outcome::Allow,
        Decision::Hold(_) => Outcome::Hold,
        Decision::Deny(denial) => Outcome::Deny(denial.reason),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_not_known_of_a_call_is_never_guessed_and_what_is_known_is_decided_as_the_gate_would(
        last in any::<bool>(), resource in prop::sample::select(RESOURCES),
        body in prop::sample::select(BODIES), media in prop::sample::select(TYPES),
        tenant in prop::option::of(prop::sample::select(&["acme", "other"][..])),
        knows_body in any::<bool>(), knows_fields in any::<bool>(),
    ) {
        let policy = arms(last, resource);
        let session = crate::builder::session("a0", &[]);
        let subject = Subject { session: &session, grants: &[] };
        let fields = fields(media, tenant);
        let whole = Told {
            fields: &fields,
            all_fields: true,
            body: Some(ToldBody::read(body.as_bytes(), &fields)),
            ..silent(&session)
        };
        let mut part = whole.clone();
        if !knows_body {
            part.body = None;
        }
        part.all_fields = knows_fields;
        let target = Target::parse("/t/q/7", "gate.example").unwrap();
        let of = |call| answer(&policy, subject, Wanted::Http("POST", &target), call, at(100));
        let (of_whole, of_part) = (of(&whole), of(&part));
        prop_assert_eq!(of_whole.outcome, by_parts(&policy, &session, &target, &whole));
        prop_assert_eq!(of_part.outcome == Outcome::Unknown, of_part.unknown.is_some());
        if of_part.outcome != Outcome::Unknown {
            prop_assert_eq!(&of_part, &of_whole);
        }
        for (call, answered) in [(&whole, &of_whole), (&part, &of_part)] {
            let told_of = trace(&policy, subject, http("POST", "/t/q/7"), call, at(100));
            prop_assert_eq!(&told_of.answer, answered);
            let judged: Vec<bool> = told_of.steps.iter().filter_map(passes).collect();
            let (last, before) = judged.split_last().unwrap();
            prop_assert!(before.iter().all(|passes| *passes), "{:?}", told_of.steps);
            prop_assert_eq!(*last, answered.outcome.passes());
        }
    }
}

#[test]
fn a_stored_grant_that_would_be_used_is_named() {
    let ceilings = vec![
        vec![Some((true, vec!["user:*"], 1, 1, 1)), None],
        vec![None, None],
    ];
    let policy = parts(&ceilings).build();
    let session = crate::builder::session("a0", &[]);
    let held = [grant(7, "s0", Some("user:7"), 1, at(200).tick)];
    let subject = Subject {
        session: &session,
        grants: &held,
    };
    let call = silent(&session);
    let of = |target| trace(&policy, subject, http("GET", target), &call, at(100)).answer;
    assert_eq!(of("/t/users/7").outcome, Outcome::Allow);
    assert_eq!(
        of("/t/users/8").outcome.reason().map(|it| it.as_str()),
        Some("grant_missing")
    );
}
