//! What is told of a decision is the decision: the steps lead to the very word that `decide` gives.

use crate::builder::{at, filled, grant};
use crate::decide::{ceilings, descent, grants, parts, run};
use proptest::prelude::*;
use toolgate::policy::decision::Decision;
use toolgate::policy::model::Policy;
use toolgate::policy::name::ProjectName;
use toolgate::policy::subject::{Grant, Session, Subject};
use toolgate::policy::target::Target;
use toolgate::policy::trace::{Answer, Asked, Outcome, Step, answer, trace};
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
        let told_of = trace(&policy, subject, Asked { method, host: "gate.example", target }, at(100));
        if let Ok(canonical) = Target::parse(target, "gate.example") {
            prop_assert_eq!(&told_of.answer, &answer(&policy, subject, method, &canonical, at(100)));
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
        Step::Project(_) | Step::Agent(_) | Step::Limits(_) => return None,
        Step::Target(target) => target.is_ok(),
        Step::Tool(tool) => tool.is_some(),
        Step::Route(route) => route.is_ok(),
        Step::Unfilled(_) => false,
        Step::Scope(_, held) => *held == toolgate::policy::trace::Held::Yes,
        Step::Resource(_, bounds) => bounds.iter().all(|each| each.holds()),
        Step::Grant(_, grant) => grant.is_some(),
        Step::Approval(_) => true,
    })
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
    let asked = |target| Asked {
        method: "GET",
        host: "gate.example",
        target,
    };
    let of = |target| trace(&policy, subject, asked(target), at(100)).answer;
    assert_eq!(of("/t/users/7").outcome, Outcome::Allow);
    assert_eq!(
        of("/t/users/8").outcome.reason().map(|it| it.as_str()),
        Some("grant_missing")
    );
}
