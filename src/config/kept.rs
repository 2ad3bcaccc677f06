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
    for promise in promises {
        let explained = explainer.explain(promise.caller.subject(), &promise.request, promise.now);
        reports.enter(promise.subject.clone());
        match explained {
            Ok(explanation) => {
                if let Some((place, message)) = broken(promise, &explanation) {
                    reports.error(place, message, help(&explanation));
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
}

/// What is otherwise than expected: the decision before its reason, and that before all else.
fn broken(promise: &Promise, got: &Explanation) -> Option<(Place, String)> {
    let (name, expected) = promise
        .expected
        .iter()
        .find(|(name, expected)| member(got, name) != Some(&expected.value))?;
    let all = |name: &str| promise.expected.iter().find(|(have, _)| *have == name);
    let reason = all("reason").map_or("", |(_, reason)| &reason.value);
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
