//! Laws of approvals: what a person must agree to never passes without, and what they agreed to is worth one run of
//! exactly that, for as long as they may decide it.

use crate::builder::{Builder, at, ceiling, filled, grant, session};
use crate::decide;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use toolgate::policy::approval::{
    Approver, Approvers, Asked, AskedGrant, Chain, ChainIndex, Facts, HeldCall, RequestDigest,
    Stage, Vote, Word,
};
use toolgate::policy::decision::{Decision, GrantUse, Hold, Void};
use toolgate::policy::id::{ApprovalId, RequestId, SessionId};
use toolgate::policy::model::{GrantMode, Policy, PolicyHash};
use toolgate::policy::name::{
    ChainName, GroupName, PrincipalName, ProjectName, RouteId, ScopeName, ToolName,
};
use toolgate::policy::proofs::{self, Finding};
use toolgate::policy::resource::Resource;
use toolgate::policy::subject::{Grant, Session, Subject};
use toolgate::policy::target::Target;
use toolgate::policy::time::Timestamp;
use toolgate::policy::{AccessRequest, decide as decide_now, endorse, redeem};
use uuid::Uuid;

const GROUPS: [&str; 3] = ["leads", "finance", "others"];
const PEOPLE: [&str; 5] = ["ann", "bob", "cid", "dee", "orchestrator"];

fn name(text: &str) -> PrincipalName {
    PrincipalName::parse(text).unwrap()
}

/// A DELETE and a refund, both asked of `leads` and `finance`; the refund's scope wants a stored grant where `stored`.
fn policy(quorum: u32, stored: bool) -> Policy {
    let refund = match stored {
        true => GrantMode::OnRequest,
        false => GrantMode::OnUse,
    };
    Builder::new()
        .chain("default", &GROUPS[..2], quorum)
        .agent(
            "bot",
            &[
                ("users.delete", ceiling(GrantMode::OnUse, &["user:*"])),
                ("refunds.create", ceiling(refund, &[])),
                (
                    "crm.export",
                    ceiling(GrantMode::OnApproval(ChainIndex(0)), &["user:*"]),
                ),
            ],
        )
        .tool("/crm")
        .route("DELETE /users/{id}", "users.delete", Some("user:{id}"))
        .route("POST /refunds", "refunds.create", None)
        .asking()
        .build()
}

fn bot() -> Session {
    session("bot", &[])
}

/// What holds one call of a session.
fn held<'p>(
    policy: &'p Policy,
    session: &Session,
    grants: &[Grant],
    method: &str,
    path: &str,
) -> Hold<'p> {
    let target = Target::parse(&format!("/crm{path}"), "gate.example").unwrap();
    let matched = policy.table.find(method, &target).unwrap();
    let route = policy.route(matched.route);
    let resource = route.resource.as_ref();
    let resource = resource.and_then(|resource| filled(resource, &matched.captures, session));
    let access = AccessRequest { route, resource };
    match decide_now(policy, Subject { session, grants }, access, at(100)) {
        Decision::Hold(hold) => hold,
        other => panic!("{other:?}"),
    }
}

fn facts_of(
    session: &Session,
    scope: &ScopeName,
    resource: Option<Resource>,
    asked: Asked,
) -> Facts {
    Facts {
        id: ApprovalId::new(Uuid::from_u128(9)),
        project: session.project.clone(),
        policy: PolicyHash([0; 32]),
        chain: ChainName::parse("default").unwrap(),
        agent: session.agent.clone(),
        session: session.id,
        run: None,
        minted_by: session.minted_by.clone(),
        intent: None,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        request: RequestId::new(Uuid::from_u128(10)),
        scope: scope.clone(),
        resource,
        asked,
        digest: RequestDigest([7; 32]),
        created_at: Timestamp::from_micros(0),
        expires_at: Timestamp::from_micros(0),
        ends: at(3700).tick,
        denied_for: Duration::from_secs(600),
        quorum: 1,
    }
}

/// What people are asked about a call that is held.
fn facts(hold: &Hold<'_>, session: &Session, policy: &Policy) -> Facts {
    let route = hold.route();
    let tool = policy.tool(route.tool);
    let call = HeldCall {
        tool: tool.name.clone(),
        route: route.id.clone(),
        upstream: tool.backend(),
        method: "DELETE".into(),
        authority: "gate.example".into(),
        target: "/crm/users/7".into(),
        fields: Vec::new(),
        body: Arc::default(),
        grant: hold.grant(),
    };
    let asked = Asked::Call(Box::new(call));
    let mut facts = facts_of(session, &route.scope, hold.resource().cloned(), asked);
    facts.quorum = hold.chain().quorum;
    facts
}

fn said(principal: &str, word: Word) -> Vote {
    Vote {
        principal: name(principal),
        word,
        note: None,
        at: Timestamp::from_micros(0),
    }
}

/// People of the project, and the groups each is in.
fn people(groups: &[(&str, &[&str])]) -> Approvers {
    Approvers::new(groups.iter().map(|(who, groups)| {
        let groups = groups.iter().map(|group| GroupName::parse(group).unwrap());
        let approver = Approver {
            groups: groups.collect(),
            projects: [ProjectName::parse(crate::builder::PROJECT).unwrap()].into(),
        };
        (name(who), approver)
    }))
}

fn void(result: Result<toolgate::policy::decision::Permit<'_>, Void>) -> Option<Void> {
    result.err()
}

#[test]
fn what_was_agreed_to_is_redeemed_once_it_is_all_the_same() {
    let (policy, session) = (policy(1, false), bot());
    let hold = || held(&policy, &session, &[], "DELETE", "/users/7");
    let approvers = people(&[("ann", &["leads"])]);
    let facts = facts(&hold(), &session, &policy);
    let permit = redeem(hold(), &facts, &[said("ann", Word::Approve)], &approvers).unwrap();
    assert_eq!(permit.approval(), Some(facts.id));
    assert_eq!(permit.grant(), GrantUse::OnUse);
    assert_eq!(permit.resource().unwrap().as_str(), "user:7");
    assert_eq!(permit.route().id.as_str(), "r0");
}

/// One thing that may differ between what people saw and what would run.
type Change = (&'static str, fn(&mut Facts));

#[test]
fn each_thing_that_was_agreed_to_voids_the_approval_when_it_differs() {
    let (policy, session) = (policy(1, false), bot());
    let hold = || held(&policy, &session, &[], "DELETE", "/users/7");
    let approvers = people(&[("ann", &["leads"])]);
    let votes = [said("ann", Word::Approve)];
    fn call(facts: &mut Facts, change: impl FnOnce(&mut HeldCall)) {
        match &mut facts.asked {
            Asked::Call(call) => change(call),
            Asked::Grant(_) => panic!("a call was asked for"),
        }
    }
    let changes: [Change; 10] = [
        ("session", |facts| {
            facts.session = SessionId::new(Uuid::from_u128(2))
        }),
        ("route", |facts| {
            call(facts, |call| call.route = RouteId::parse("r1").unwrap())
        }),
        ("tool", |facts| {
            call(facts, |call| call.tool = ToolName::parse("t1").unwrap())
        }),
        ("scope", |facts| {
            facts.scope = ScopeName::parse("users.read").unwrap()
        }),
        ("resource", |facts| {
            facts.resource = Some(Resource::parse("user:8").unwrap())
        }),
        ("resource", |facts| facts.resource = None),
        ("backend", |facts| {
            call(facts, |call| call.upstream[31] ^= 1)
        }),
        ("chain", |facts| {
            facts.chain = ChainName::parse("payments").unwrap()
        }),
        ("request", |facts| {
            facts.asked = Asked::Grant(AskedGrant {
                uses: 1,
                ttl: Duration::from_secs(1),
                why: "".into(),
            });
        }),
        ("quorum", |facts| facts.quorum = 2),
    ];
    for (what, change) in changes {
        let mut facts = facts(&hold(), &session, &policy);
        change(&mut facts);
        let expected = match what {
            "quorum" => Void::Quorum,
            what => Void::Changed(what),
        };
        assert_eq!(
            void(redeem(hold(), &facts, &votes, &approvers)),
            Some(expected)
        );
    }
}

#[test]
fn an_approval_of_a_call_on_no_stored_grant_is_void_where_one_has_come_to_be_needed() {
    let session = bot();
    let (before, after) = (policy(1, false), policy(1, true));
    let first = held(&before, &session, &[], "POST", "/refunds");
    let facts = facts(&first, &session, &before);
    let votes = [said("ann", Word::Approve)];
    let approvers = people(&[("ann", &["leads"])]);
    let grants = [grant(1, "refunds.create", None, 1, at(200).tick)];
    let now = held(&after, &session, &grants, "POST", "/refunds");
    assert_eq!(
        void(redeem(now, &facts, &votes, &approvers)),
        Some(Void::Changed("grant"))
    );
    // The other way round it goes on the grant that was reserved for it.
    let first = held(&after, &session, &grants, "POST", "/refunds");
    let facts = self::facts(&first, &session, &after);
    let now = held(&before, &session, &grants, "POST", "/refunds");
    let permit = redeem(now, &facts, &votes, &approvers).unwrap();
    assert_eq!(permit.grant(), GrantUse::Stored(grants[0].id));
}

#[test]
fn a_call_is_held_on_a_grant_with_a_free_use_before_one_that_others_wait_on() {
    let (policy, session) = (policy(1, true), bot());
    let reserved = |number, reserved| Grant {
        reserved,
        ..grant(number, "refunds.create", None, 1, at(200).tick)
    };
    let on = |grants: &[Grant]| held(&policy, &session, grants, "POST", "/refunds").grant();
    let [taken, free] = [reserved(1, 1), reserved(2, 0)];
    assert_eq!(
        on(&[taken.clone(), free.clone()]),
        GrantUse::Stored(free.id)
    );
    // Its own reservation may be what it waits on.
    assert_eq!(on(std::slice::from_ref(&taken)), GrantUse::Stored(taken.id));
}

#[test]
fn one_word_against_it_outweighs_any_number_for_it() {
    let (policy, session) = (policy(1, false), bot());
    let hold = || held(&policy, &session, &[], "DELETE", "/users/7");
    let facts = facts(&hold(), &session, &policy);
    let approvers = people(&[("ann", &["leads"]), ("bob", &["finance"])]);
    let votes = [
        said("ann", Word::Approve),
        said("bob", Word::Approve),
        said("cid", Word::Deny),
    ];
    assert_eq!(
        void(redeem(hold(), &facts, &votes, &approvers)),
        Some(Void::Quorum)
    );
}

/// A wish for a grant of `crm.export` that people agreed to.
fn wished(session: &Session, resource: Option<&str>, uses: u32, ttl: u64) -> Facts {
    let asked = Asked::Grant(AskedGrant {
        uses,
        ttl: Duration::from_secs(ttl),
        why: "the quarter's figures".into(),
    });
    let resource = resource.map(|text| Resource::parse(text).unwrap());
    facts_of(
        session,
        &ScopeName::parse("crm.export").unwrap(),
        resource,
        asked,
    )
}

#[test]
fn a_grant_that_was_agreed_to_is_endorsed_only_within_the_ceiling_and_by_the_chain_of_now() {
    let (now, session) = (policy(1, false), bot());
    let approvers = people(&[("ann", &["leads"]), ("orchestrator", &["leads"])]);
    let by = |who: &str, policy: &Policy, session: &Session, facts: &Facts| {
        endorse(
            policy,
            session,
            facts,
            &[said(who, Word::Approve)],
            &approvers,
        )
        .map(|asked| asked.uses)
    };
    let wish = wished(&session, Some("user:7"), 5, 300);
    assert_eq!(by("ann", &now, &session, &wish), Ok(5));
    assert_eq!(
        by("ann", &now, &session, &wished(&session, None, 1, 1)),
        Ok(1)
    );
    // Who minted the session, and who is nobody, have no say.
    assert_eq!(by("orchestrator", &now, &session, &wish), Err(Void::Quorum));
    assert_eq!(by("bob", &now, &session, &wish), Err(Void::Quorum));
    assert_eq!(
        by("ann", &policy(2, false), &session, &wish),
        Err(Void::Quorum)
    );
    let changed = |facts: &Facts| by("ann", &now, &session, facts).unwrap_err();
    for (what, facts) in [
        ("resource", wished(&session, Some("org:7"), 1, 1)),
        ("number of uses", wished(&session, None, 6, 1)),
        ("life", wished(&session, None, 1, 301)),
        (
            "scope",
            Facts {
                scope: ScopeName::parse("crm.import").unwrap(),
                ..wish.clone()
            },
        ),
        (
            "chain",
            Facts {
                scope: ScopeName::parse("users.delete").unwrap(),
                ..wish.clone()
            },
        ),
        (
            "chain",
            Facts {
                chain: ChainName::parse("payments").unwrap(),
                ..wish.clone()
            },
        ),
        (
            "session",
            Facts {
                session: SessionId::new(Uuid::from_u128(2)),
                ..wish.clone()
            },
        ),
        (
            "session",
            Facts {
                project: ProjectName::parse("other").unwrap(),
                ..wish.clone()
            },
        ),
    ] {
        assert_eq!(changed(&facts), Void::Changed(what));
    }
    let hold = held(&now, &session, &[], "DELETE", "/users/7");
    assert_eq!(
        changed(&facts(&hold, &session, &now)),
        Void::Changed("request")
    );
}

fn groups() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(GROUPS.to_vec(), 0..=GROUPS.len())
}

/// Who is in which groups: some of the people, in some project.
fn members() -> impl Strategy<Value = Vec<(&'static str, Vec<&'static str>, bool)>> {
    let one = (
        prop::sample::select(PEOPLE.to_vec()),
        groups(),
        prop::bool::weighted(0.9),
    );
    prop::collection::vec(one, 0..6)
}

fn votes() -> impl Strategy<Value = Vec<Vote>> {
    let one = (
        prop::sample::select(PEOPLE.to_vec()),
        prop::bool::weighted(0.95),
    );
    let one = one.prop_map(|(who, yes)| said(who, if yes { Word::Approve } else { Word::Deny }));
    prop::collection::vec(one, 0..6)
}

fn approvers(members: &[(&str, Vec<&str>, bool)]) -> Approvers {
    Approvers::new(members.iter().map(|(who, groups, here)| {
        let project = if *here {
            crate::builder::PROJECT
        } else {
            "other"
        };
        let groups = groups.iter().map(|group| GroupName::parse(group).unwrap());
        let approver = Approver {
            groups: groups.collect(),
            projects: [ProjectName::parse(project).unwrap()].into(),
        };
        (name(who), approver)
    }))
}

/// Whether a redemption succeeds, with these votes and people.
fn passes(quorum: u32, asked: u32, votes: &[Vote], approvers: &Approvers) -> bool {
    let (policy, session) = (policy(quorum, false), bot());
    let hold = held(&policy, &session, &[], "DELETE", "/users/7");
    let mut facts = facts(&hold, &session, &policy);
    facts.quorum = asked;
    redeem(hold, &facts, votes, approvers).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_route_that_asks_people_never_allows_and_holds_exactly_what_would_be_allowed(
        ceilings in decide::ceilings(), runs in prop::collection::vec(decide::run(), 1..4), grants in decide::grants(),
        route in 0..decide::ROUTES.len(), id in prop::sample::select(decide::IDS),
    ) {
        let free = decide::parts(&ceilings).build();
        let asking = decide::parts(&ceilings).chain("default", &["leads"], 1).asking().build();
        let session = decide::descent(&runs);
        let (without, resource) = decide::call(&free, &session, &grants, route, id);
        let (with, _) = decide::call(&asking, &session, &grants, route, id);
        match (without, with) {
            (Decision::Allow(permit), Decision::Hold(hold)) => {
                prop_assert_eq!(permit.grant(), hold.grant());
                prop_assert_eq!(hold.resource(), resource.as_ref());
                prop_assert_eq!(&permit.route().id, &hold.route().id);
                prop_assert_eq!(hold.chain().name.as_str(), "default");
            }
            (Decision::Deny(one), Decision::Deny(other)) => prop_assert_eq!(one, other),
            (without, with) => prop_assert!(false, "{without:?}, but asked {with:?}"),
        }
    }

    #[test]
    fn a_quorum_is_of_distinct_people_of_the_project_in_the_chains_groups_and_never_of_the_minter(
        quorum in 1..4u32, asked in 1..4u32, votes in votes(), members in members(),
    ) {
        // Of two entries of one name the later is in force, as in any table.
        let in_force = |who: &str| members.iter().rev().find(|(name, ..)| *name == who);
        let counts = |who: &&&str| {
            **who != "orchestrator"
                && votes.iter().any(|vote| vote.principal.as_str() == **who && vote.word == Word::Approve)
                && in_force(who).is_some_and(|(_, groups, here)| {
                    *here && groups.iter().any(|group| GROUPS[..2].contains(group))
                })
        };
        let agree = PEOPLE.iter().filter(counts).count();
        let denied = votes.iter().any(|vote| vote.word == Word::Deny);
        let expected = !denied && agree >= quorum.max(asked) as usize;
        prop_assert_eq!(passes(quorum, asked, &votes, &approvers(&members)), expected);
    }

    #[test]
    fn taking_away_a_yes_a_person_or_a_group_or_asking_for_more_never_makes_a_permit(
        quorum in 1..4u32, votes in votes(), members in members(), which in any::<prop::sample::Index>(), group in 0..GROUPS.len(),
    ) {
        let all = approvers(&members);
        if passes(quorum, quorum, &votes, &all) {
            return Ok(());
        }
        prop_assert!(!passes(quorum + 1, quorum, &votes, &all));
        prop_assert!(!passes(quorum, quorum + 1, &votes, &all));
        let yes: Vec<usize> = (0..votes.len()).filter(|at| votes[*at].word == Word::Approve).collect();
        if !yes.is_empty() {
            let mut fewer = votes.clone();
            fewer.remove(yes[which.index(yes.len())]);
            prop_assert!(!passes(quorum, quorum, &fewer, &all));
        }
        if !members.is_empty() {
            let at = which.index(members.len());
            let mut left = members.clone();
            left[at].1.retain(|name| *name != GROUPS[group]);
            prop_assert!(!passes(quorum, quorum, &votes, &approvers(&left)));
            let gone = members[at].0;
            left.retain(|(who, ..)| *who != gone);
            prop_assert!(!passes(quorum, quorum, &votes, &approvers(&left)));
        }
    }

    #[test]
    fn voting_twice_counts_once_and_the_order_of_votes_is_no_matter(
        quorum in 1..4u32, votes in votes(), members in members(), which in any::<prop::sample::Index>(),
    ) {
        let all = approvers(&members);
        let before = passes(quorum, quorum, &votes, &all);
        let mut more = votes.clone();
        more.extend(votes.get(which.index(votes.len().max(1))).cloned());
        more.reverse();
        prop_assert_eq!(passes(quorum, quorum, &more, &all), before);
    }

    #[test]
    fn whatever_happens_an_approval_has_one_run_that_was_not_given_back(
        wishes in prop::collection::vec(0..Stage::ALL.len(), 0..40),
    ) {
        let (mut stage, mut runs, mut agreed) = (Stage::Pending, 0, false);
        for next in wishes.into_iter().map(|at| Stage::ALL[at]) {
            if !stage.may_become(next) {
                continue;
            }
            prop_assert!(!stage.is_over());
            match (stage, next) {
                (_, Stage::Executing) => runs += 1,
                // Not a byte was written, or an operator found out that it did not run.
                (Stage::Executing | Stage::Unknown, Stage::Approved) => runs -= 1,
                _ => {}
            }
            agreed |= next == Stage::Approved;
            prop_assert!(runs == 0 || agreed);
            prop_assert!((0..=1).contains(&runs));
            stage = next;
        }
        prop_assert!(stage != Stage::Executed || runs == 1);
    }

    #[test]
    fn a_chain_is_said_to_be_unmet_exactly_if_no_session_could_ever_be_agreed_to(
        quorum in 1..4u32, members in members(), minters in prop::sample::subsequence(PEOPLE.to_vec(), 0..3),
    ) {
        let (policy, all) = (policy(quorum, false), approvers(&members));
        let minters: Vec<PrincipalName> = minters.into_iter().map(name).collect();
        let found = proofs::unmet(&policy, &all, &minters.iter().collect::<Vec<_>>());
        let unmet = found.iter().any(|finding| matches!(finding, Finding::ChainUnmet { .. }));
        let votes: Vec<Vote> = PEOPLE.iter().map(|who| said(who, Word::Approve)).collect();
        let hold = held(&policy, &bot(), &[], "DELETE", "/users/7");
        // Where nobody mints, somebody outside may.
        let nobody = [name("nobody")];
        let minted = if minters.is_empty() { &nobody[..] } else { &minters };
        let met = minted.iter().any(|minter| {
            let session = Session { minted_by: minter.clone(), ..bot() };
            let facts = facts(&hold, &session, &policy);
            all.agree(&votes, &facts, &policy.chains[0])
        });
        prop_assert_eq!(unmet, !met);
    }

    #[test]
    fn a_digest_is_read_as_it_is_written_and_no_other_way(bytes in any::<[u8; 32]>(), at in 0..64usize) {
        let written = RequestDigest(bytes).to_string();
        prop_assert_eq!(RequestDigest::parse(&written), Some(RequestDigest(bytes)));
        prop_assert_eq!(RequestDigest::parse(&written[1..]), None);
        let mut other = written.clone();
        other.replace_range(at..=at, "g");
        prop_assert_eq!(RequestDigest::parse(&other), None);
        let upper = written.to_uppercase();
        prop_assert!(upper == written || RequestDigest::parse(&upper).is_none());
    }
}

#[test]
fn nothing_follows_a_stage_that_is_over_and_something_follows_every_other() {
    for stage in Stage::ALL {
        let follows = Stage::ALL.iter().any(|next| stage.may_become(*next));
        assert_eq!(follows, !stage.is_over(), "{stage:?}");
        assert!(!stage.may_become(stage), "{stage:?}");
        assert!(!stage.may_become(Stage::Pending), "{stage:?}");
        assert_eq!(Stage::parse(stage.as_str()), Some(stage));
    }
    // Nobody's word, no run.
    assert!(!Stage::Pending.may_become(Stage::Executing));
    assert!(!Stage::Pending.may_become(Stage::Executed));
}

#[test]
fn a_chain_that_asks_for_nobody_is_met_by_nobody() {
    let chain = Chain {
        quorum: 0,
        ..policy(1, false).chains[0].clone()
    };
    let session = bot();
    let mut facts = wished(&session, None, 1, 1);
    facts.quorum = 0;
    assert!(!people(&[("ann", &["leads"])]).agree(&[], &facts, &chain));
}
