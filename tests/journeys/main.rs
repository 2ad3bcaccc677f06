//! The journeys' ring: YAML cases (a policy, timed steps, what is expected) driven through the gate over real loopback
//! sockets, with a stepped clock and real backends. Each file of `cases/` has a golden transcript beside it: every
//! answer, what the backend saw, and every ledger line. `UPDATE=1` rewrites the goldens; read their diff.

mod case;
mod transcript;
mod wire;
mod world;

use case::Case;
use std::fs;
use std::path::PathBuf;
use transcript::Transcript;
use world::World;

/// Runs all cases of one file and compares the transcript with its golden.
fn check(name: &str) {
    let cases: Vec<Case> = case::load(&place(&format!("{name}.yaml")));
    let mut whole = String::new();
    for case in cases {
        whole.push_str(&alone(case));
    }
    compare(&place(&format!("{name}.golden")), &whole);
}

async fn run(case: Case) -> String {
    let mut transcript = Transcript::new(&case.case);
    let mut world = World::new(&case, &mut transcript).await;
    for step in &case.steps {
        world.step(step, &mut transcript).await;
    }
    transcript.finish()
}

fn place(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/journeys/cases")
        .join(file)
}

fn compare(golden: &PathBuf, got: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(golden, got).expect("the golden can be written");
        return;
    }
    let expected = fs::read_to_string(golden).unwrap_or_default();
    let mut lines = expected.lines().zip(got.lines()).zip(1..);
    if let Some(((expected, got), line)) = lines.find(|((expected, got), _)| expected != got) {
        panic!(
            "{}:{line} differs\n expected {expected}\n      got {got}\nUPDATE=1 rewrites it",
            golden.display()
        );
    }
    assert_eq!(
        expected.lines().count(),
        got.lines().count(),
        "{} has another length; UPDATE=1 rewrites it",
        golden.display()
    );
}

#[test]
fn calls_without_a_good_credential_are_refused_and_say_nothing() {
    check("credentials");
}

#[test]
fn heads_and_targets_that_could_be_read_twice_are_refused() {
    check("targets");
}

#[test]
fn only_what_a_route_upgrades_is_upgraded_and_only_if_it_is_asked_for_properly() {
    check("upgrades");
}

#[test]
fn a_call_passes_on_a_grant_within_the_ceiling_and_on_nothing_else() {
    check("decisions");
}

#[test]
fn grants_are_asked_for_used_up_given_back_and_outlived() {
    check("grants");
}

#[test]
fn a_function_asks_before_it_acts_and_is_answered_as_any_call_would_be() {
    check("functions");
}

#[test]
fn limits_of_every_kind_and_holder_throttle_or_quarantine() {
    check("limits");
}

#[test]
fn costs_are_spent_before_and_charged_after() {
    check("costs");
}

#[test]
fn the_order_of_checks_is_the_order_of_the_journey() {
    check("order");
}

#[test]
fn two_projects_share_nothing() {
    check("projects");
}

#[test]
fn what_can_not_be_recorded_is_not_forwarded() {
    check("failures");
}

#[test]
fn the_gates_own_paths_serve_the_caller_alone() {
    check("own");
}

#[test]
fn a_call_that_a_person_must_agree_to_waits_and_runs_once_as_it_was_shown() {
    check("approvals");
}

#[test]
fn in_shadow_every_denial_of_the_policy_passes_and_is_recorded_and_nothing_else_passes() {
    check("shadow");
}

/// The law of shadow: what is recorded there as denied is what is denied once the mode is changed, call by call, and
/// nothing else is.
#[test]
fn enforcing_what_was_in_shadow_denies_exactly_what_shadow_recorded_as_denied() {
    for case in case::load(&place("switched.yaml")) {
        let decided = |mode: &str| {
            let mut case = case.clone();
            for name in &mut case.policies {
                name.push('~');
                name.push_str(mode);
            }
            decisions(&alone(case))
        };
        let (shadow, enforced) = (decided("shadow"), decided("enforce"));
        assert!(
            enforced.iter().any(|(_, word)| word.starts_with("deny")),
            "{}: nothing is denied",
            case.case
        );
        assert_eq!(shadow, enforced, "{}", case.case);
    }
}

fn alone(case: Case) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, run(case))
}

/// What was decided of each call, or would have been: method and target, and the word with its reason.
fn decisions(transcript: &str) -> Vec<(String, String)> {
    let lines = transcript
        .lines()
        .filter_map(|line| line.strip_prefix("# "));
    let mut decisions = Vec::new();
    for line in lines {
        let (line, often) = match line.rsplit_once("} x") {
            Some((line, often)) => (format!("{line}}}"), often.parse().expect("a count")),
            None => (line.to_owned(), 1),
        };
        let record: serde_json::Value = serde_json::from_str(&line).expect("a record");
        if record["kind"] != "decision" {
            continue;
        }
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (word, reason) = match &record["shadow"] {
            serde_json::Value::Null => (text(&record["decision"]), text(&record["reason"])),
            would => (text(&would["would"]), text(&would["reason"])),
        };
        // A call that is held has no reason: it is why it waits.
        let reason = if word == "hold" {
            String::new()
        } else {
            reason
        };
        let call = format!("{} {}", text(&record["method"]), text(&record["target"]));
        let word = format!("{word} {reason} {}", text(&record["limit"]));
        decisions.extend(std::iter::repeat_n((call, word), often));
    }
    decisions
}

#[test]
fn what_a_call_acts_on_is_read_from_it_once_and_each_of_several_is_judged() {
    check("resources");
}

#[test]
fn what_a_call_says_chooses_the_route_that_judges_it() {
    check("conditions");
}
