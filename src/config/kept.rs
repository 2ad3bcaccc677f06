//! Whether a policy keeps the promises of its project's `tests`: each is explained as `toolgate explain` would, and what
//! comes of it held against what is expected.
//!
//! Asked of what is valid alone, at every check, start and reload. What is not known of a call decides nothing: a test that
//! does not say it fails, and says what it lacks.

use super::error::{Place, Reports};
use super::explained::{Explainer, Explanation};
use super::lower::Promise;
use super::places::Lines;
use crate::policy::approval::Approvers;
use crate::policy::model::Policy;

/// Reports each promise that is not kept.
pub(super) fn report_broken(
    promises: &[Promise],
    (policy, lines): (&Policy, &Lines),
    approvers: &Approvers,
    reports: &mut Reports,
) {
    let explainer = Explainer {
        policy,
        lines: Some(lines),
        approvers: Some(approvers),
    };
    // What the policy keeps, and the gate does not.
    let mut passing = Vec::new();
    for promise in promises {
        let explained = explainer.explain(promise.caller.subject(), &promise.request, promise.now);
        reports.enter(promise.subject.clone());
        match explained {
            Ok(explanation) => {
                if let Some((place, message)) = broken(promise, &explanation) {
                    reports.error(place, message, help(&explanation));
                } else if explanation.shadow && promise.expects("shadow").is_none() {
                    passing.push((promise, explanation));
                }
            }
            Err(message) => reports.error(
                promise.place,
                message,
                "a test tells of one call as it would be made",
            ),
        }
        reports.leave();
    }
    if let Some((promise, explanation)) = passing.first() {
        warn_of_passing(promise, explanation, passing.len() - 1, reports);
    }
}

/// One warning for all of a project: it may be in shadow as a whole.
fn warn_of_passing(
    promise: &Promise,
    explanation: &Explanation,
    more: usize,
    reports: &mut Reports,
) {
    let Some(decision) = promise.expects("decision") else {
        return;
    };
    let others = match more {
        0 => String::new(),
        1 => ", and so for another test".to_owned(),
        more => format!(", and so for {more} other tests"),
    };
    let route = explanation.route.as_deref().unwrap_or("its route");
    let message = format!(
        "the policy decides `{}`, and the gate lets the call pass: {route} is in shadow{others}",
        decision.value
    );
    reports.enter(promise.subject.clone());
    let help = "a test is about the policy; write `shadow: true` into `expect` where that is meant, or take the route out of shadow";
    reports.warn(decision.place, message, help);
    reports.leave();
}

/// What is otherwise than expected: the decision before its reason, and that before all else.
fn broken(promise: &Promise, got: &Explanation) -> Option<(Place, String)> {
    let (name, expected) = promise
        .expected
        .iter()
        .find(|(name, expected)| member(got, name) != Some(&expected.value))?;
    let reason = promise.expects("reason");
    let reason = reason.map_or("", |reason| &reason.value);
    let message = match *name {
        "decision" => {
            let expected = format!("{} {reason}", expected.value);
            let decided = format!("{} {}", got.decision, got.reason.unwrap_or_default());
            format!(
                "expected `{}`, got `{}`",
                expected.trim_end(),
                decided.trim_end()
            )
        }
        "shadow" => {
            let message = match got.shadow {
                true => "expected that it does not pass, and it does: its route is in shadow",
                false => "expected that it passes because its route is in shadow, and it does not",
            };
            message.to_owned()
        }
        name => {
            let (expected, got) = (&expected.value, member(got, name).unwrap_or("none"));
            format!("expected the {name} `{expected}`, got `{got}`")
        }
    };
    Some((expected.place, message))
}

fn member<'e>(explanation: &'e Explanation, name: &str) -> Option<&'e str> {
    match name {
        "decision" => Some(explanation.decision),
        "shadow" => Some(if explanation.shadow { "true" } else { "false" }),
        "reason" => explanation.reason,
        "route" => explanation.route.as_deref(),
        "scope" => explanation.scope.as_deref(),
        "resource" => explanation.resource.as_deref(),
        "chain" => explanation.chain.as_deref(),
        _ => None,
    }
}

/// What decided, and where it stands.
fn help(explanation: &Explanation) -> String {
    let Some(step) = explanation.deciding() else {
        return "`toolgate explain` tells each step".to_owned();
    };
    let at = step.at.as_ref();
    let at = at.map_or_else(String::new, |at| format!(" ({at})"));
    let give = explanation.unknown.as_deref().map(|unknown| {
        let key = match unknown.split('.').next().unwrap_or(unknown) {
            "header" => "headers",
            "time" => "at",
            key => key,
        };
        format!("; say `{key}` of the call")
    });
    format!(
        "{}: {}{at}{}",
        step.step,
        step.says,
        give.unwrap_or_default()
    )
}
