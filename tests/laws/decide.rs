//! Laws of decisions and of what is proven of a policy, on small policies, against the contract read word by word.

use crate::builder::{
    Builder, NarrowedTo, at, ceiling, child_of, filled, grant, narrowed, pattern, session,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use toolgate::policy::decision::{Decision, GrantUse, Reason};
use toolgate::policy::model::{Ceiling, GrantMode, Policy, Resources};
use toolgate::policy::name::ProjectName;
use toolgate::policy::proofs::{self, Finding};
use toolgate::policy::resource::Resource;
use toolgate::policy::subject::{Grant, Session, Subject};
use toolgate::policy::target::Target;
use toolgate::policy::{AccessRequest, ceiling as effective, decide};

const SCOPES: [&str; 2] = ["s0", "s1"];
const PATTERNS: &[&str] = &[
    "user:7",
    "user:8",
    "user:*",
    "user:{session.id}",
    "org:*",
    "org:{session.id}",
    "user:{session.missing}",
];
const LITERALS: &[&str] = &["user:7", "user:8", "user:*", "org:*", "user:%2A"];
/// Method, template, scope, resource.
pub const ROUTES: &[(&str, &str, Option<&str>)] = &[
    ("GET /users/{id}", "s0", Some("user:{id}")),
    ("DELETE /users/{id}", "s1", Some("user:{id}")),
    ("GET /all", "s0", None),
    ("GET /org", "s1", Some("org:{session.id}")),
    ("GET /unheld/{id}", "s2", Some("user:{id}")),
];
pub const IDS: &[&str] = &["7", "8", "9", "*", "%2A"];

/// One scope of one agent: mode, patterns, uses, ttl, grants.
type Rule = (bool, Vec<&'static str>, u32, u64, u32);
/// Per agent, per scope.
pub type Ceilings = Vec<Vec<Option<Rule>>>;
/// Scopes left: patterns and uses.
type Left = BTreeMap<&'static str, (Option<Vec<&'static str>>, Option<u32>)>;

/// One generation of a session.
#[derive(Clone, Debug)]
pub struct Run {
    agent: usize,
    id: Option<&'static str>,
    left: Option<Left>,
}

pub fn ceilings() -> impl Strategy<Value = Ceilings> {
    let patterns = prop::sample::subsequence(PATTERNS.to_vec(), 0..3);
    let rule = (any::<bool>(), patterns, 1..5u32, 1..5u64, 1..5u32);
    prop::collection::vec(
        prop::collection::vec(prop::option::weighted(0.8, rule), 2),
        2,
    )
}

fn left() -> impl Strategy<Value = Left> {
    let patterns = prop::sample::subsequence(LITERALS.to_vec(), 1..3);
    let one = (prop::option::of(patterns), prop::option::of(1..6u32));
    prop::collection::btree_map(prop::sample::select(SCOPES.to_vec()), one, 0..3)
}

pub fn run() -> impl Strategy<Value = Run> {
    let id = prop::option::weighted(0.8, prop::sample::select(vec!["7", "8", "*"]));
    let agent = prop_oneof![10 => 0..2usize, 1 => Just(2usize)];
    (agent, id, prop::option::weighted(0.4, left())).prop_map(|(agent, id, left)| Run {
        agent,
        id,
        left,
    })
}

pub fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let resource = prop::option::of(prop::sample::select(vec![
        "user:7", "user:8", "user:%2A", "org:7",
    ]));
    let one = (
        prop::sample::select(SCOPES.to_vec()),
        resource,
        0..3u32,
        99..103u64,
    );
    prop::collection::vec(one, 0..5).prop_map(|all| {
        let numbered = (1u128..).zip(all);
        numbered
            .map(|(number, (scope, resource, uses, ends))| {
                grant(number, scope, resource, uses, at(ends).tick)
            })
            .collect()
    })
}

fn policy(ceilings: &Ceilings) -> Policy {
    parts(ceilings).build()
}

/// The same before it is put together.
pub fn parts(ceilings: &Ceilings) -> Builder {
    let agents = ceilings
        .iter()
        .enumerate()
        .fold(Builder::new(), |builder, (number, scopes)| {
            let held: Vec<(&str, Ceiling)> = SCOPES
                .iter()
                .zip(scopes)
                .filter_map(|(scope, rule)| {
                    let (asks, patterns, uses, ttl, grants) = rule.as_ref()?;
                    let mode = if *asks {
                        GrantMode::OnRequest
                    } else {
                        GrantMode::OnUse
                    };
                    let held = Ceiling {
                        uses: *uses,
                        ttl: Duration::from_secs(*ttl),
                        grants: *grants,
                        ..ceiling(mode, patterns)
                    };
                    Some((*scope, held))
                })
                .collect();
            builder.agent(&format!("a{number}"), &held)
        });
    ROUTES
        .iter()
        .fold(agents.tool("/t"), |builder, (matching, scope, resource)| {
            builder.route(matching, scope, *resource)
        })
}

/// The last is the session, the others are its parents, eldest first.
pub fn descent(runs: &[Run]) -> Session {
    let made = runs.iter().map(|run| {
        let attributes: Vec<(&str, &str)> = run.id.iter().map(|id| ("id", *id)).collect();
        let whole = session(&format!("a{}", run.agent), &attributes);
        let Some(left) = &run.left else { return whole };
        let scopes: Vec<NarrowedTo<'_>> = left
            .iter()
            .map(|(scope, (patterns, uses))| {
                let patterns = patterns
                    .as_ref()
                    .map(|all| all.iter().map(|text| pattern(text)).collect());
                (*scope, patterns, *uses)
            })
            .collect();
        narrowed(whole, &scopes)
    });
    made.reduce(|parent, child| child_of(child, parent))
        .unwrap()
}

/// What the contract says of one part of a ceiling: what it bounds, by text.
fn covers(patterns: &[&str], id: Option<&str>, resource: Option<&str>) -> bool {
    let Some(resource) = resource else {
        return false;
    };
    patterns.iter().any(|pattern| {
        if let Some(kind) = pattern.strip_suffix('*') {
            return resource.len() > kind.len() && resource.starts_with(kind);
        }
        match (pattern.contains('{'), id) {
            (false, _) => resource == *pattern,
            (true, None) => false,
            (true, Some(id)) => {
                !pattern.contains("missing")
                    && resource == pattern.replace("{session.id}", &id.replace('*', "%2A"))
            }
        }
    })
}

/// `Ok`: whether a stored grant is needed.
fn expected(
    ceilings: &Ceilings,
    runs: &[Run],
    scope: &str,
    named: bool,
    resource: Option<&str>,
) -> Result<bool, Reason> {
    let at = SCOPES.iter().position(|it| *it == scope);
    let mut parts = Vec::new();
    for run in runs {
        let rule = at.and_then(|at| ceilings.get(run.agent)?.get(at)?.as_ref());
        let rule = rule.ok_or(Reason::ScopeOutsideCeiling)?;
        let left = match &run.left {
            None => None,
            Some(left) => Some(left.get(scope).ok_or(Reason::ScopeOutsideCeiling)?),
        };
        parts.push((run, rule, left));
    }
    let held = parts.iter().all(|(run, rule, left)| {
        (rule.1.is_empty() || covers(&rule.1, run.id, resource))
            && left
                .and_then(|(patterns, _)| patterns.as_ref())
                .is_none_or(|patterns| covers(patterns, run.id, resource))
    });
    if !held || (named && resource.is_none()) {
        return Err(Reason::ResourceOutsideCeiling);
    }
    Ok(parts.iter().any(|(_, rule, _)| rule.0))
}

/// One call of a session, from its target on.
pub fn call<'p>(
    policy: &'p Policy,
    session: &Session,
    grants: &[Grant],
    route: usize,
    id: &str,
) -> (Decision<'p>, Option<Resource>) {
    let (method, path) = ROUTES[route].0.split_once(' ').unwrap();
    let target = Target::parse(&format!("/t{}", path.replace("{id}", id)), "gate.example").unwrap();
    let matched = policy.table.find(method, &target).unwrap();
    assert_eq!(matched.route.0 as usize, route);
    let found = policy.route(matched.route);
    let resource = found
        .resource
        .as_ref()
        .and_then(|resource| filled(resource, &matched.captures, session));
    let access = AccessRequest {
        route: found,
        resource: resource.clone(),
    };
    (
        decide(policy, Subject { session, grants }, access, at(100)),
        resource,
    )
}

fn allowed(decision: &Decision<'_>) -> bool {
    matches!(decision, Decision::Allow(_))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_decision_is_what_the_contract_says(
        ceilings in ceilings(), runs in prop::collection::vec(run(), 1..4), grants in grants(),
        route in 0..ROUTES.len(), id in prop::sample::select(IDS),
    ) {
        let policy = policy(&ceilings);
        let session = descent(&runs);
        let (decision, resource) = call(&policy, &session, &grants, route, id);
        let (_, scope, named) = ROUTES[route];
        let resource = resource.as_ref().map(Resource::as_str);
        let held = |wanted: Option<&str>| grants.iter().find(|grant| {
            grant.scope.as_str() == scope && grant.uses_left > 0 && at(100).tick < grant.ends
                && grant.resource.as_ref().map(Resource::as_str) == wanted
        });
        let stored = resource.and_then(|resource| held(Some(resource))).or_else(|| held(None));
        match (expected(&ceilings, &runs, scope, named.is_some(), resource), decision) {
            (Ok(false), Decision::Allow(permit)) => prop_assert_eq!(permit.grant(), GrantUse::OnUse),
            (Ok(true), Decision::Allow(permit)) => {
                prop_assert_eq!(Some(permit.grant()), stored.map(|grant| GrantUse::Stored(grant.id)));
            }
            (Ok(needed), Decision::Deny(denial)) => {
                prop_assert!(needed && stored.is_none());
                prop_assert_eq!(denial.reason, Reason::GrantMissing);
            }
            (Err(reason), Decision::Deny(denial)) => {
                prop_assert_eq!(denial.reason, reason);
                prop_assert_eq!(denial.scope.as_ref().map(|scope| scope.as_str()), Some(scope));
            }
            (_, Decision::Hold(hold)) => prop_assert!(false, "{hold:?} on a route that asks nobody"),
            (Err(reason), Decision::Allow(permit)) => prop_assert!(false, "{permit:?} in spite of {reason:?}"),
        }
    }

    #[test]
    fn an_empty_policy_an_unknown_agent_and_an_empty_narrowing_are_denied_everything(
        ceilings in ceilings(), run in run(), grants in grants(), route in 0..ROUTES.len(), id in prop::sample::select(IDS),
    ) {
        let nothing = policy(&vec![vec![None, None], vec![None, None]]);
        let some = policy(&ceilings);
        let unknown = Run { agent: 9, ..run.clone() };
        let emptied = Run { left: Some(Left::new()), ..run.clone() };
        for (policy, run) in [(&nothing, &run), (&some, &unknown), (&some, &emptied)] {
            let (decision, _) = call(policy, &descent(std::slice::from_ref(run)), &grants, route, id);
            prop_assert!(matches!(decision, Decision::Deny(denial) if denial.reason == Reason::ScopeOutsideCeiling));
        }
        // Of another project, though the agent has the name.
        let mut stranger = descent(&[run]);
        stranger.project = ProjectName::parse("other").unwrap();
        prop_assert!(!allowed(&call(&some, &stranger, &grants, route, id).0));
        let target = Target::parse("/t/users/7", "gate.example").unwrap();
        let bare = Builder::new().build();
        prop_assert!(bare.table.find("GET", &target).is_err());
    }

    #[test]
    fn removing_a_grant_never_turns_deny_into_allow(
        ceilings in ceilings(), runs in prop::collection::vec(run(), 1..3), grants in grants(),
        removed in any::<prop::sample::Index>(), route in 0..ROUTES.len(), id in prop::sample::select(IDS),
    ) {
        if grants.is_empty() {
            return Ok(());
        }
        let (policy, session) = (policy(&ceilings), descent(&runs));
        let mut fewer = grants.clone();
        fewer.remove(removed.index(grants.len()));
        if allowed(&call(&policy, &session, &fewer, route, id).0) {
            prop_assert!(allowed(&call(&policy, &session, &grants, route, id).0));
        }
    }

    #[test]
    fn narrowing_never_widens_and_a_child_never_exceeds_its_parent(
        ceilings in ceilings(), runs in prop::collection::vec(run(), 1..3), left in left(), child in run(), grants in grants(),
        route in 0..ROUTES.len(), id in prop::sample::select(IDS),
    ) {
        let policy = policy(&ceilings);
        let mut runs = runs;
        let last = runs.len() - 1;
        runs[last].left = None;
        let whole = descent(&runs);
        let mut less = runs.clone();
        less[last].left = Some(left);
        // A child reads its own attributes; with its parent's it asks for the same things.
        let mut born = runs.clone();
        born.push(Run { id: runs[last].id, ..child });
        for lesser in [descent(&less), descent(&born)] {
            if allowed(&call(&policy, &lesser, &grants, route, id).0) {
                prop_assert!(allowed(&call(&policy, &whole, &grants, route, id).0));
            }
            for scope in SCOPES {
                let Some(small) = effective(&policy, &lesser, scope) else { continue };
                let large = effective(&policy, &whole, scope);
                prop_assert!(large.is_some());
                let large = large.unwrap();
                prop_assert!(small.uses() <= large.uses() && small.ttl() <= large.ttl() && small.grants() <= large.grants());
                prop_assert!(small.is_bounded() || !large.is_bounded());
                prop_assert!(small.grant() == GrantMode::OnRequest || large.grant() == GrantMode::OnUse);
                for resource in ["user:7", "user:8", "user:9", "user:%2A", "org:7"] {
                    let resource = Resource::parse(resource).unwrap();
                    prop_assert!(!small.allows(Some(&resource)) || large.allows(Some(&resource)));
                }
                prop_assert!(!small.allows(None) || large.allows(None));
            }
        }
    }

    #[test]
    fn what_is_proven_of_a_policy_is_so(ceilings in ceilings()) {
        let policy = policy(&ceilings);
        let held = |agent: usize, scope: &str| SCOPES.iter().position(|it| *it == scope).and_then(|at| ceilings[agent][at].as_ref());
        let mut wrong = Vec::new();
        let mut odd = Vec::new();
        for (route, (_, scope, resource)) in ROUTES.iter().enumerate() {
            for agent in 0..2 {
                if resource.is_none() && held(agent, scope).is_some_and(|rule| !rule.1.is_empty()) {
                    wrong.push((route, format!("a{agent}")));
                }
            }
            if (0..2).all(|agent| held(agent, scope).is_none()) {
                odd.push(route);
            }
        }
        let mut found: Vec<(usize, String)> = proofs::errors(&policy).into_iter().map(|finding| match finding {
            Finding::ResourceMissing { route, agent } => (route.0 as usize, agent.to_string()),
            other => panic!("{other:?} is a warning"),
        }).collect();
        found.sort();
        prop_assert_eq!(found, wrong);
        let warnings = proofs::warnings(&policy);
        let unheld: Vec<usize> = warnings.iter().filter_map(|finding| match finding {
            Finding::ScopeUnheld { route } => Some(route.0 as usize),
            _ => None,
        }).collect();
        prop_assert_eq!(unheld, odd);
        for agent in 0..2 {
            let name = format!("a{agent}");
            // Only the DELETE is irreversible, and it needs the second scope.
            let any = held(agent, "s1").is_some_and(|rule| rule.1.is_empty());
            let destroys = warnings.iter().any(|it| matches!(it, Finding::DestroysAny { agent, route, .. } if agent.as_str() == name && route.0 == 1));
            prop_assert_eq!(any, destroys);
            for scope in SCOPES {
                let Some((_, patterns, ..)) = held(agent, scope) else { continue };
                for (at, text) in patterns.iter().enumerate() {
                    let dead = warnings.iter().any(|it| matches!(it, Finding::PatternUnproducible { agent, scope: have, position }
                        if agent.as_str() == name && have.as_str() == scope && *position == at));
                    // Routes of the first scope make users, those of the second users and organisations.
                    prop_assert_eq!(dead, scope == "s0" && text.starts_with("org:"), "{} of {}", text, scope);
                }
            }
        }
    }

    #[test]
    fn a_pattern_said_to_be_unproducible_is_never_produced(
        template in "user:(a|b|\\{id\\}|-){1,3}", written in "user:(a|b|\\{session\\.x\\}|-){1,3}|user:\\*",
        ids in prop::collection::vec("[ab-]{1,3}", 8), values in prop::collection::vec("[ab-]{1,3}", 8),
    ) {
        let policy = Builder::new()
            .tool("/t")
            .route("GET /{id}", "s", Some(&template))
            .agent("bot", &[("s", ceiling(GrantMode::OnUse, &[&written]))])
            .build();
        let findings = proofs::warnings(&policy);
        if findings.is_empty() {
            return Ok(());
        }
        let only = matches!(findings[..], [Finding::PatternUnproducible { position: 0, .. }]);
        prop_assert!(only);
        let read = pattern(&written);
        for id in &ids {
            let target = Target::parse(&format!("/t/{id}"), "gate.example").unwrap();
            let matched = policy.table.find("GET", &target).unwrap();
            for value in &values {
                let session = session("bot", &[("x", value)]);
                let resource = filled(policy.routes[0].resource.as_ref().unwrap(), &matched.captures, &session).unwrap();
                prop_assert!(!read.matches(&resource, &session.attributes), "{template} makes {resource} of {written}");
            }
        }
    }
}

#[test]
fn a_scope_that_no_route_needs_is_told_and_findings_come_in_one_order() {
    let scopes = ["z", "m", "a", "k", "b"].map(|scope| (scope, ceiling(GrantMode::OnUse, &[])));
    let build = || {
        Builder::new()
            .agent("two", &scopes)
            .agent("one", &scopes)
            .build()
    };
    let unneeded = |policy: &Policy| -> Vec<String> {
        let findings = proofs::warnings(policy);
        let named = findings.iter().map(|finding| match finding {
            Finding::ScopeUnneeded { agent, scope } => format!("{agent} {scope}"),
            other => panic!("{other:?}"),
        });
        named.collect()
    };
    let first = unneeded(&build());
    assert_eq!(first.len(), 10);
    assert!(first.is_sorted(), "{first:?}");
}

#[test]
fn a_resource_that_is_any_on_purpose_is_no_finding() {
    let meant = Ceiling {
        resources: Resources::AnyMeant,
        ..ceiling(GrantMode::OnUse, &[])
    };
    let policy = Builder::new()
        .tool("/t")
        .route("DELETE /users/{id}", "s", Some("user:{id}"))
        .agent("bot", &[("s", meant)])
        .build();
    assert_eq!(proofs::warnings(&policy), []);
    assert_eq!(proofs::errors(&policy), []);
}

#[test]
fn each_route_knows_the_limits_that_cover_it() {
    use toolgate::policy::limit::{Bound, Exceeded, Per, Select};
    use toolgate::policy::model::LimitIndex;
    use toolgate::policy::name::{RouteId, ScopeName, ToolName};
    let count = Bound::Count {
        count: 1,
        window: Duration::from_secs(1),
    };
    let repeats = Bound::Repeats {
        count: 1,
        window: Duration::from_secs(1),
    };
    let cost = Bound::Cost {
        micros: 1,
        window: Duration::from_secs(1),
    };
    let select = |scope: Option<&str>, tool: Option<&str>, route: Option<&str>| Select {
        scope: scope.map(|it| ScopeName::parse(it).unwrap()),
        tool: tool.map(|it| ToolName::parse(it).unwrap()),
        route: route.map(|it| RouteId::parse(it).unwrap()),
    };
    let limits = [
        ("wide", Per::Session, Select::default(), count),
        ("again", Per::Session, Select::default(), repeats),
        ("scope", Per::Session, select(Some("s0"), None, None), count),
        ("tool", Per::Agent, select(None, Some("t1"), None), count),
        ("route", Per::Project, select(None, None, Some("r0")), count),
        (
            "both",
            Per::Session,
            select(Some("s0"), Some("t1"), None),
            count,
        ),
        ("cost", Per::Project, select(None, Some("t0"), None), cost),
    ];
    let routes = Builder::new()
        .tool("/a")
        .route("GET /", "s0", None)
        .tool("/b")
        .route("GET /", "s1", None)
        .route("GET /x", "s0", None);
    let policy = limits
        .into_iter()
        .fold(routes, |builder, (id, per, select, bound)| {
            builder.limit_of(id, per, select, bound, Exceeded::Throttle)
        })
        .build();
    let of = |list: &[LimitIndex]| {
        list.iter()
            .map(|it| policy.limit(*it).id.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(of(&policy.session_wide), "wide");
    let lists: Vec<[String; 3]> = policy
        .routes
        .iter()
        .map(|it| {
            [
                of(&it.session_limits),
                of(&it.shared_limits),
                of(&it.cost_limits),
            ]
        })
        .collect();
    assert_eq!(
        lists,
        [
            ["again scope", "route", "cost"],
            ["again", "tool", ""],
            ["again scope both", "tool", ""]
        ]
    );
}
