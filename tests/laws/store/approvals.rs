//! An approval runs once, on the word of enough people, and never after what it waited for has gone; acknowledged is durable.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

use super::world::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use toolgate::ledger::record::Cause;
use toolgate::policy::approval::{NOTE_BYTES_MAX, Stage, Word};
use toolgate::policy::name::PrincipalName;
use toolgate::store::live::approvals::{
    Ballot, Held, HoldError, LiveApproval, Outcome, VIEWED_FOR, VoteError,
};
use toolgate::store::live::{LiveSession, Order};
use toolgate::store::news::What;

fn threads() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(4).enable_all().build().unwrap()
}

#[test]
fn an_approval_is_asked_agreed_run_and_delivered_once_and_all_of_it_is_on_record() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let approval = world.made(&session, "/a", None).await;
        assert_eq!(approval.stage(), Stage::Pending);
        assert!(
            matches!(world.hold(&session, "/a", None).await, Ok(Held::Joined(same)) if Arc::ptr_eq(&same, &approval))
        );
        assert_eq!(
            world.vote(&approval, "ann", Word::Approve).await.unwrap(),
            Stage::Pending
        );
        assert_eq!(
            world.vote(&approval, "ann", Word::Approve).await.unwrap(),
            Stage::Pending
        );
        assert_eq!(
            world.vote(&approval, "bob", Word::Approve).await.unwrap(),
            Stage::Approved
        );
        assert_eq!(approval.votes().len(), 2);
        let run = world.sessions.begin(&approval, world.now).await.unwrap();
        let again = world.sessions.begin(&approval, world.now).await;
        assert!(matches!(again, Err(VoteError::Late(Stage::Executing))));
        let outcome = Outcome {
            status: Some(204),
            body: Some(b"gone".as_slice().into()),
            ..Outcome::default()
        };
        world
            .sessions
            .finish(run, outcome.clone(), world.now)
            .await
            .unwrap();
        assert_eq!(
            (approval.stage(), approval.outcome()),
            (Stage::Executed, Some(outcome.clone()))
        );
        let world = world.reopen();
        let session = world.sessions.by_id(session.facts.id).unwrap();
        let standing = world.standing(&session, "/a").unwrap();
        assert_eq!(
            (standing.stage(), standing.outcome()),
            (Stage::Executed, Some(outcome))
        );
        world.sessions.delivered(&standing);
        assert!(world.standing(&session, "/a").is_none());
        assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
        let mut world = world.reopen();
        let session = world.sessions.by_id(session.facts.id).unwrap();
        assert!(world.standing(&session, "/a").is_none());
        let kept = world.sessions.approval(approval.facts.id).unwrap();
        assert_eq!(kept.outcome().unwrap().body, None);
        assert!(matches!(
            world.hold(&session, "/a", None).await,
            Ok(Held::Made(_))
        ));
        assert_eq!(
            world.records("approval"),
            [
                "requested",
                "voted",
                "voted",
                "approved",
                "executing",
                "executed",
                "requested"
            ]
        );
    });
}

#[test]
fn of_many_who_ask_the_same_at_once_one_is_asked_about_and_of_many_who_run_it_one_does() {
    threads().block_on(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        for round in 0..20_u128 {
            let target = format!("/r{round}/x");
            let mut tasks = JoinSet::new();
            for number in 0..32 {
                let (sessions, session, now) = (world.sessions.clone(), session.clone(), world.now);
                let facts = facts(
                    approval_id(round * 100 + number),
                    &session,
                    &target,
                    None,
                    now,
                );
                tasks.spawn(async move {
                    let held = sessions
                        .hold(&session, &chain(), facts, Cause::Agent, now)
                        .await;
                    match held.unwrap() {
                        Held::Made(approval) => (1, approval),
                        Held::Joined(approval) => (0, approval),
                    }
                });
            }
            let held = tasks.join_all().await;
            assert_eq!(held.iter().map(|one| one.0).sum::<u32>(), 1);
            let approval = &held[0].1;
            assert!(held.iter().all(|one| Arc::ptr_eq(&one.1, approval)));
            world.vote(approval, "ann", Word::Approve).await.unwrap();
            let mut tasks = JoinSet::new();
            for _ in 0..32 {
                let (sessions, approval, now) =
                    (world.sessions.clone(), approval.clone(), world.now);
                tasks.spawn(async move {
                    let mut seen = approval.watch();
                    seen.wait_for(|stage| *stage != Stage::Pending)
                        .await
                        .unwrap();
                    sessions.begin(&approval, now).await.ok()
                });
            }
            world.vote(approval, "bob", Word::Approve).await.unwrap();
            let runs: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
            assert_eq!(runs.len(), 1);
            for run in runs {
                world
                    .sessions
                    .finish(run, Outcome::default(), world.now)
                    .await
                    .unwrap();
            }
        }
    });
}

#[test]
fn one_word_of_denial_beats_every_agreement_it_races_with() {
    threads().block_on(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let mut denials = 0;
        for round in 0..100 {
            let target = format!("/r{round}/x");
            let approval = world.made(&session, &target, None).await;
            let mut tasks = JoinSet::new();
            for (who, word) in [
                ("ann", Word::Approve),
                ("bob", Word::Approve),
                ("cho", Word::Deny),
            ] {
                let (sessions, approval, now) =
                    (world.sessions.clone(), approval.clone(), world.now);
                tasks.spawn(async move {
                    let principal = PrincipalName::parse(who).unwrap();
                    let digest = approval.facts.digest;
                    let ballot = Ballot {
                        principal: &principal,
                        word,
                        digest,
                        note: None,
                    };
                    let said = sessions
                        .vote(&approval, ballot, &chain(), &approvers(), now)
                        .await;
                    (word, said)
                });
            }
            let said = tasks.join_all().await;
            let denied = said
                .iter()
                .any(|(word, said)| *word == Word::Deny && said.is_ok());
            let stage = approval.stage();
            assert_eq!(stage == Stage::Denied, denied, "{said:?}");
            assert!(denied || stage == Stage::Approved, "{said:?}");
            if denied {
                denials += 1;
                assert!(world.sessions.begin(&approval, world.now).await.is_err());
            } else {
                world
                    .sessions
                    .withdraw(&approval, "enough", Cause::Gate, world.now)
                    .await
                    .unwrap();
            }
            // What came too late for the store must not be what a restart believes.
            if round % 25 == 24 {
                world = world.reopen();
                assert_eq!(world.again(&approval).stage(), approval.stage());
            }
        }
        assert!(denials > 0);
    });
}

#[test]
fn as_many_wait_as_may_of_a_session_and_of_a_route_and_what_is_decided_makes_room() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        for name in ["/a/1", "/a/2", "/a/3", "/b/1", "grant x"] {
            world.made(&session, name, None).await;
        }
        let full = world.hold(&session, "/a/4", None).await.unwrap_err();
        assert!(
            matches!(
                full,
                HoldError::TooManyPending {
                    max: 3,
                    of_route: true
                }
            ),
            "{full}"
        );
        let full = world.hold(&session, "/c/1", None).await.unwrap_err();
        assert!(
            matches!(
                full,
                HoldError::TooManyPending {
                    max: 5,
                    of_route: false
                }
            ),
            "{full}"
        );
        let one = world.standing(&session, "/a/2").unwrap();
        world.vote(&one, "ann", Word::Deny).await.unwrap();
        world.made(&session, "/c/1", None).await;
    });
}

#[test]
fn a_use_of_a_grant_is_reserved_for_what_waits_taken_by_its_run_and_given_back_by_its_end() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let grant = world
            .give(&session, ask("tickets.write", None, 2))
            .await
            .unwrap();
        let first = world.agreed(&session, "/a", Some(grant)).await;
        let second = world.made(&session, "/b", Some(grant)).await;
        assert!(matches!(
            world.hold(&session, "/c", Some(grant)).await,
            Err(HoldError::GrantMissing)
        ));
        assert!(
            !world.spend(&session, grant).await.unwrap(),
            "both are reserved"
        );
        let world = world.reopen();
        let session = world.sessions.by_id(session.facts.id).unwrap();
        let uses =
            |session: &LiveSession| session.with_grants(|all| (all[0].uses_left, all[0].reserved));
        assert_eq!(uses(&session), (2, 2));
        let (first, second) = (world.again(&first), world.again(&second));
        world.vote(&second, "ann", Word::Deny).await.unwrap();
        assert_eq!(uses(&session), (2, 1));
        assert!(world.spend(&session, grant).await.unwrap());
        let run = world.sessions.begin(&first, world.now).await.unwrap();
        assert_eq!(uses(&session), (0, 0));
        world.sessions.unsent(run, world.now).await.unwrap();
        assert_eq!((first.stage(), uses(&session)), (Stage::Approved, (1, 1)));
        assert!(!world.spend(&session, grant).await.unwrap());
        let run = world.sessions.begin(&first, world.now).await.unwrap();
        world
            .sessions
            .finish(run, Outcome::default(), world.now)
            .await
            .unwrap();
        let mut world = world.reopen();
        let session = world.sessions.by_id(session.facts.id).unwrap();
        assert_eq!(uses(&session), (0, 0));
        // Taken away, it takes with it what waits for it.
        let third = world
            .give(&session, ask("refunds.create", None, 1))
            .await
            .unwrap();
        let waits = world.agreed(&session, "/d", Some(third)).await;
        world
            .sessions
            .revoke_grant(&session, third, Cause::Agent, world.now)
            .await
            .unwrap();
        assert_eq!(waits.stage(), Stage::Withdrawn);
        assert_eq!(world.reopen().again(&waits).stage(), Stage::Withdrawn);
    });
}

#[test]
fn what_waits_is_withdrawn_at_once_with_its_session_and_what_runs_is_learnt_all_the_same() {
    run(async {
        for kill in ["revoke", "quarantine", "parent"] {
            let mut world = World::new(None);
            let parent = world.mint(order()).await.unwrap();
            let under = Order {
                parent: Some(parent.facts.id),
                ..order()
            };
            let session = world.mint(under).await.unwrap();
            let waiting = world.made(&session, "/a", None).await;
            let agreed = world.agreed(&session, "/b", None).await;
            let runs = world.agreed(&session, "/c", None).await;
            let back = world.agreed(&session, "/d", None).await;
            let run = world.sessions.begin(&runs, world.now).await.unwrap();
            let unsent = world.sessions.begin(&back, world.now).await.unwrap();
            let mut seen = waiting.watch();
            {
                let killed = match kill {
                    "revoke" => Box::pin(world.revoke(&session))
                        as std::pin::Pin<Box<dyn Future<Output = _>>>,
                    "quarantine" => Box::pin(world.quarantine(&session)),
                    _ => Box::pin(world.quarantine(&parent)),
                };
                let mut killed = killed;
                std::future::poll_fn(|context| {
                    let _ = killed.as_mut().poll(context);
                    std::task::Poll::Ready(())
                })
                .await;
                assert_eq!(
                    *seen.borrow_and_update(),
                    Stage::Withdrawn,
                    "at once, durable or not"
                );
                assert_eq!(agreed.stage(), Stage::Withdrawn);
                killed.await.unwrap();
            }
            assert!(matches!(
                world.sessions.begin(&agreed, world.now).await,
                Err(VoteError::Late(Stage::Withdrawn))
            ));
            assert!(matches!(
                world.vote(&waiting, "ann", Word::Approve).await,
                Err(VoteError::Late(Stage::Withdrawn))
            ));
            assert!(matches!(
                world.hold(&session, "/e", None).await,
                Err(HoldError::Ended | HoldError::Quarantined)
            ));
            world
                .sessions
                .finish(
                    run,
                    Outcome {
                        status: Some(200),
                        ..Outcome::default()
                    },
                    world.now,
                )
                .await
                .unwrap();
            world.sessions.unsent(unsent, world.now).await.unwrap();
            assert_eq!(
                (runs.stage(), back.stage()),
                (Stage::Executed, Stage::Withdrawn)
            );
            let world = world.reopen();
            for (approval, stage) in [
                (&waiting, Stage::Withdrawn),
                (&agreed, Stage::Withdrawn),
                (&runs, Stage::Executed),
                (&back, Stage::Withdrawn),
            ] {
                assert_eq!(world.again(approval).stage(), stage);
            }
            assert_eq!(world.again(&runs).outcome().unwrap().status, Some(200));
        }
    });
}

#[test]
fn nothing_counts_after_the_end_swept_or_not_and_a_wall_clock_set_back_gives_no_more_time() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let waiting = world.made(&session, "/a", None).await;
        let agreed = world.agreed(&session, "/b", None).await;
        let unswept = world.made(&session, "/c", None).await;
        world.pass(Duration::from_secs(600));
        world.now.wall = toolgate::policy::time::Timestamp::from_micros(0);
        let late = world.vote(&waiting, "ann", Word::Approve).await;
        assert!(
            matches!(late, Err(VoteError::Late(Stage::Expired))),
            "{late:?}"
        );
        let late = world.sessions.begin(&agreed, world.now).await;
        assert!(
            matches!(late, Err(VoteError::Late(Stage::Expired))),
            "{late:?}"
        );
        let late = world
            .sessions
            .withdraw(&unswept, "", Cause::Agent, world.now)
            .await;
        assert!(
            matches!(late, Err(VoteError::Late(Stage::Expired))),
            "{late:?}"
        );
        let again = world.made(&session, "/a", None).await;
        assert_ne!(again.facts.id, waiting.facts.id);
        assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
        // It ends no later than its session.
        assert_eq!(again.facts.ends, session.facts.ends);
        world.pass(Duration::from_secs(300));
        world.sessions.sweep(world.now).await;
        assert_eq!(again.stage(), Stage::Expired);
        assert!(again.ending().unwrap().note.unwrap().contains("in time"));
        let world = world.reopen();
        assert_eq!(world.again(&unswept).stage(), Stage::Expired);
        assert_eq!(world.again(&again).stage(), Stage::Expired);
    });
}

#[test]
fn a_denied_request_is_denied_again_for_as_long_as_its_chain_says_and_then_asked_anew() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let denied = world.made(&session, "/a", None).await;
        world.vote(&denied, "cho", Word::Deny).await.unwrap();
        assert!(
            matches!(world.hold(&session, "/a", None).await, Ok(Held::Joined(same)) if same.stage() == Stage::Denied)
        );
        world.pass(Duration::from_secs(30));
        let mut world = world.reopen();
        let session = world.sessions.by_id(session.facts.id).unwrap();
        let standing = world.standing(&session, "/a").unwrap();
        let ending = standing.ending().unwrap();
        assert_eq!(
            (ending.by.unwrap().as_str(), ending.note.as_deref()),
            ("cho", Some("seen"))
        );
        world.pass(Duration::from_secs(29));
        assert!(world.standing(&session, "/a").is_some());
        world.pass(Duration::from_secs(1));
        assert!(world.standing(&session, "/a").is_none());
        world.made(&session, "/a", None).await;
    });
}

#[test]
fn a_word_counts_only_of_an_approver_on_what_was_shown_once_and_in_time() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let approval = world.made(&session, "/a", None).await;
        assert!(matches!(
            world.vote(&approval, "orchestrator", Word::Approve).await,
            Err(VoteError::Minter)
        ));
        for who in ["eve", "fay", "nobody"] {
            for word in [Word::Approve, Word::Deny] {
                assert!(matches!(
                    world.vote(&approval, who, word).await,
                    Err(VoteError::NotApprover)
                ));
            }
        }
        let ann = PrincipalName::parse("ann").unwrap();
        let ballot = |digest, note| Ballot {
            principal: &ann,
            word: Word::Approve,
            digest,
            note,
        };
        let say = async |ballot| {
            world
                .sessions
                .vote(&approval, ballot, &chain(), &approvers(), world.now)
                .await
        };
        assert!(matches!(
            say(ballot(digest("/b"), None)).await,
            Err(VoteError::Changed)
        ));
        let long = "x".repeat(NOTE_BYTES_MAX + 1);
        assert!(matches!(
            say(ballot(digest("/a"), Some(&long))).await,
            Err(VoteError::Note)
        ));
        assert_eq!(
            say(ballot(digest("/a"), None)).await.unwrap(),
            Stage::Pending
        );
        assert!(matches!(
            world.vote(&approval, "ann", Word::Deny).await,
            Err(VoteError::OtherWord)
        ));
        assert_eq!(
            world.vote(&approval, "bob", Word::Approve).await.unwrap(),
            Stage::Approved
        );
        assert_eq!(
            world.vote(&approval, "bob", Word::Approve).await.unwrap(),
            Stage::Approved
        );
        assert!(matches!(
            world.vote(&approval, "cho", Word::Deny).await,
            Err(VoteError::Late(Stage::Approved))
        ));
        let voted = world
            .records("approval")
            .iter()
            .filter(|change| *change == "voted")
            .count();
        assert_eq!(voted, 2);
    });
}

#[test]
fn a_run_that_nobody_ended_is_unknown_until_an_operator_says_or_its_time_is_over() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let grant = world
            .give(&session, ask("tickets.write", None, 1))
            .await
            .unwrap();
        let left =
            |session: &LiveSession| session.with_grants(|all| (all[0].uses_left, all[0].reserved));
        let dropped = world.agreed(&session, "/a", None).await;
        let killed = world.agreed(&session, "/b", Some(grant)).await;
        let expires = world.agreed(&session, "/c", None).await;
        drop(world.sessions.begin(&dropped, world.now).await.unwrap());
        assert_eq!(dropped.stage(), Stage::Unknown);
        let run = world.sessions.begin(&killed, world.now).await.unwrap();
        let other = world.sessions.begin(&expires, world.now).await.unwrap();
        // The gate is killed: nothing of the run is told any more.
        std::mem::forget((run, other));
        let mut world = world.reopen();
        let session = world.sessions.by_id(session.facts.id).unwrap();
        let [dropped, killed, expires] = [&dropped, &killed, &expires].map(|one| world.again(one));
        for approval in [&dropped, &killed, &expires] {
            assert_eq!(approval.stage(), Stage::Unknown);
            assert!(matches!(
                world.sessions.begin(approval, world.now).await,
                Err(VoteError::Late(Stage::Unknown))
            ));
        }
        assert_eq!(left(&session), (0, 0));
        world.sessions.sweep(world.now).await;
        assert_eq!(
            world
                .records("approval")
                .iter()
                .filter(|change| *change == "unknown")
                .count(),
            3
        );
        let operator = operator();
        world
            .sessions
            .resolve(&dropped, true, "saw it", &operator, world.now)
            .await
            .unwrap();
        world
            .sessions
            .resolve(&killed, false, "not there", &operator, world.now)
            .await
            .unwrap();
        let again = world
            .sessions
            .resolve(&killed, true, "", &operator, world.now)
            .await;
        assert!(matches!(again, Err(VoteError::Late(Stage::Approved))));
        assert_eq!(
            (dropped.stage(), killed.stage()),
            (Stage::Executed, Stage::Approved)
        );
        assert_eq!(left(&session), (1, 1));
        world.pass(Duration::from_secs(600));
        world.sessions.sweep(world.now).await;
        assert_eq!(
            (expires.stage(), killed.stage()),
            (Stage::Expired, Stage::Expired)
        );
        let world = world.reopen();
        assert_eq!(world.again(&dropped).stage(), Stage::Executed);
        assert_eq!(
            world.again(&dropped).ending().unwrap().note.as_deref(),
            Some("saw it")
        );
        assert_eq!(world.again(&expires).stage(), Stage::Expired);
    });
}

#[test]
fn what_store_or_ledger_do_not_take_gives_nothing_and_what_takes_holds_all_the_same() {
    run(async {
        for when in [When::Before, When::After] {
            let mut world = World::new(None);
            let session = world.mint(order()).await.unwrap();
            let grant = world
                .give(&session, ask("tickets.write", None, 1))
                .await
                .unwrap();
            let left = |session: &LiveSession| {
                session.with_grants(|all| (all[0].uses_left, all[0].reserved))
            };
            let fail = |world: &World| world.store.fail([(0, when)]);
            fail(&world);
            assert!(matches!(
                world.hold(&session, "/a", Some(grant)).await,
                Err(HoldError::Store(_))
            ));
            assert!(world.standing(&session, "/a").is_none());
            assert_eq!(left(&session), (1, 0));
            let approval = world.made(&session, "/a", Some(grant)).await;
            fail(&world);
            assert!(matches!(
                world.vote(&approval, "ann", Word::Approve).await,
                Err(VoteError::Store(_))
            ));
            assert!(approval.votes().is_empty());
            world.vote(&approval, "ann", Word::Approve).await.unwrap();
            // The word is taken, the step to `approved` is not: it is there for the saying.
            world.store.fail([(1, when)]);
            assert!(matches!(
                world.vote(&approval, "bob", Word::Approve).await,
                Err(VoteError::Store(_))
            ));
            assert_eq!(approval.stage(), Stage::Pending);
            assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
            assert_eq!(approval.stage(), Stage::Pending);
            assert_eq!(
                world.vote(&approval, "bob", Word::Approve).await.unwrap(),
                Stage::Approved
            );
            fail(&world);
            assert!(matches!(
                world.sessions.begin(&approval, world.now).await,
                Err(VoteError::Store(_))
            ));
            assert!(world.sessions.begin(&approval, world.now).await.is_err());
            assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
            assert_eq!(
                (approval.stage(), left(&session)),
                (Stage::Approved, (1, 1))
            );
            let run = world.sessions.begin(&approval, world.now).await.unwrap();
            fail(&world);
            assert!(world.sessions.unsent(run, world.now).await.is_err());
            assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
            assert_eq!(
                (approval.stage(), left(&session)),
                (Stage::Approved, (1, 1))
            );
            let run = world.sessions.begin(&approval, world.now).await.unwrap();
            fail(&world);
            let outcome = Outcome {
                status: Some(200),
                ..Outcome::default()
            };
            assert!(
                world
                    .sessions
                    .finish(run, outcome, world.now)
                    .await
                    .is_err()
            );
            assert_eq!(
                approval.outcome().unwrap().status,
                Some(200),
                "it is known all the same"
            );
            let denied = world.made(&session, "/b", None).await;
            fail(&world);
            assert!(world.vote(&denied, "ann", Word::Deny).await.is_err());
            assert_eq!(denied.stage(), Stage::Denied);
            let withdrawn = world.made(&session, "/c", None).await;
            fail(&world);
            assert!(
                world
                    .sessions
                    .withdraw(&withdrawn, "", Cause::Agent, world.now)
                    .await
                    .is_err()
            );
            assert_eq!(withdrawn.stage(), Stage::Withdrawn);
            assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
            assert_eq!(
                world.sessions.sweep(world.now).await,
                Default::default(),
                "nothing is owed"
            );
            let before = world.dump();
            let world = world.reopen();
            assert_eq!(world.dump(), before);
            assert_eq!(world.again(&denied).votes().len(), 1);
            assert_eq!(world.again(&approval).outcome().unwrap().status, Some(200));
        }
    });
}

#[test]
fn without_a_ledger_nothing_is_asked_agreed_or_begun_and_denials_hold() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let waits = world.made(&session, "/a", None).await;
        let half = world.made(&session, "/b", None).await;
        world.vote(&half, "ann", Word::Approve).await.unwrap();
        let agreed = world.agreed(&session, "/c", None).await;
        let runs = world.agreed(&session, "/d", None).await;
        let run = world.sessions.begin(&runs, world.now).await.unwrap();
        world.ledger.close().unwrap();
        assert!(matches!(
            world.hold(&session, "/e", None).await,
            Err(HoldError::Ledger(_))
        ));
        assert!(matches!(
            world.vote(&half, "bob", Word::Approve).await,
            Err(VoteError::Ledger(_))
        ));
        assert!(matches!(
            world.sessions.begin(&agreed, world.now).await,
            Err(VoteError::Ledger(_))
        ));
        assert!(matches!(
            world.vote(&waits, "ann", Word::Deny).await,
            Err(VoteError::Ledger(_))
        ));
        assert!(
            world
                .sessions
                .finish(run, Outcome::default(), world.now)
                .await
                .is_err()
        );
        assert_eq!(
            (waits.stage(), half.stage(), runs.stage()),
            (Stage::Denied, Stage::Pending, Stage::Executed)
        );
        assert_eq!(half.votes().len(), 1);
        assert!(world.sessions.sweep(world.now).await.failed > 0);
        let world = world.reopen();
        let stage = |one: &LiveApproval| world.again(one).stage();
        assert_eq!(stage(&waits), Stage::Denied);
        assert_eq!(stage(&half), Stage::Pending);
        assert_eq!(world.again(&half).votes().len(), 1);
        // It was not acknowledged whether it began: nothing was sent, but the restart can't know.
        assert!(matches!(stage(&agreed), Stage::Approved | Stage::Unknown));
        assert_eq!(stage(&runs), Stage::Executed);
    });
}

#[test]
fn who_leaves_while_asking_agreeing_or_beginning_leaves_nothing_half_done() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        super::once(world.hold(&session, "/a", None)).await;
        assert!(world.standing(&session, "/a").is_none());
        let approval = world.made(&session, "/a", None).await;
        super::once(world.vote(&approval, "ann", Word::Approve)).await;
        world.vote(&approval, "ann", Word::Approve).await.unwrap();
        assert_eq!(
            world.vote(&approval, "bob", Word::Approve).await.unwrap(),
            Stage::Approved
        );
        super::once(world.sessions.begin(&approval, world.now)).await;
        assert!(
            world.sessions.begin(&approval, world.now).await.is_err(),
            "the first may have it"
        );
        assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
        assert_eq!(approval.stage(), Stage::Approved);
        let run = world.sessions.begin(&approval, world.now).await.unwrap();
        super::once(world.sessions.finish(run, Outcome::default(), world.now)).await;
        assert_eq!(approval.stage(), Stage::Executed);
        let other = world.agreed(&session, "/b", None).await;
        let run = world.sessions.begin(&other, world.now).await.unwrap();
        super::once(world.sessions.unsent(run, world.now)).await;
        assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
        assert_eq!(other.stage(), Stage::Approved);
        assert_eq!(world.sessions.sweep(world.now).await, Default::default());
        let before = world.dump();
        assert_eq!(world.reopen().dump(), before);
    });
}

#[test]
fn all_were_heard_before_a_kill_so_the_restart_takes_the_step_that_was_left() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let approval = world.made(&session, "/a", None).await;
        world.vote(&approval, "ann", Word::Approve).await.unwrap();
        world.store.fail([(1, When::Before), (2, When::Before)]);
        world
            .vote(&approval, "bob", Word::Approve)
            .await
            .unwrap_err();
        let world = world.reopen();
        let approval = world.again(&approval);
        assert_eq!(approval.stage(), Stage::Pending);
        assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
        assert_eq!(approval.stage(), Stage::Approved);
        assert_eq!(approval.ending().unwrap().by.unwrap().as_str(), "bob");
    });
}

#[test]
fn every_decision_and_quarantine_is_to_be_told_once_and_news_come_when_it_can_be_seen() {
    run(async {
        let mut world = World::new(None);
        let mut news = world.sessions.news().after(None).rest;
        let session = world.mint(order()).await.unwrap();
        let agreed = world.agreed(&session, "/a", None).await;
        let run = world.sessions.begin(&agreed, world.now).await.unwrap();
        world.sessions.unsent(run, world.now).await.unwrap();
        let denied = world.made(&session, "/b", None).await;
        world.store.fail([(0, When::After)]);
        world.vote(&denied, "ann", Word::Deny).await.unwrap_err();
        world.sessions.sweep(world.now).await;
        world.quarantine(&session).await.unwrap();
        world.quarantine(&session).await.unwrap();
        world.release(&session).await.unwrap();
        let mut changes = Vec::new();
        while let Ok(item) = news.try_recv() {
            changes.push(match item.what {
                What::Approval { change, .. } | What::Quarantine { change, .. } => change,
                What::Policy { .. } => "policy",
                What::Pins { .. } => "pins",
            });
        }
        assert_eq!(
            changes,
            [
                "requested",
                "voted",
                "voted",
                "approved",
                "executing",
                "approved",
                "requested",
                "denied",
                "quarantined",
                "withdrawn",
                "released"
            ]
        );
        let (one, other) = (agreed.facts.id, denied.facts.id);
        let mut expected = [
            format!("{one}.pending"),
            format!("{one}.approved"),
            format!("{one}.withdrawn"),
            format!("{other}.pending"),
            format!("{other}.denied"),
            format!(
                "{}.quarantined.{}",
                session.facts.id,
                world.now.wall.micros()
            ),
        ];
        expected.sort();
        let told = async |world: &World| {
            let notices = world.store.store.notices(100).await.unwrap();
            let mut all: Vec<_> = notices.into_iter().map(|one| one.id.to_string()).collect();
            all.sort();
            all
        };
        assert_eq!(told(&world).await, expected);
        let world = world.reopen();
        assert_eq!(told(&world).await, expected);
    });
}

#[test]
fn what_is_over_is_shown_for_a_day_and_then_gone_from_memory_and_store() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let approval = world.made(&session, "/a", None).await;
        world
            .sessions
            .withdraw(&approval, "changed its mind", Cause::Agent, world.now)
            .await
            .unwrap();
        world.revoke(&session).await.unwrap();
        world.pass(VIEWED_FOR - Duration::from_secs(1));
        world.sessions.sweep(world.now).await;
        let mut world = world.reopen();
        world.sessions.sweep(world.now).await;
        assert_eq!(world.again(&approval).stage(), Stage::Withdrawn);
        world.pass(Duration::from_secs(1));
        world.sessions.sweep(world.now).await;
        assert!(world.sessions.approval(approval.facts.id).is_none());
        assert!(
            world
                .reopen()
                .sessions
                .approval(approval.facts.id)
                .is_none()
        );
    });
}

#[test]
fn two_thousand_that_wait_take_little_more_than_what_they_carry() {
    run(async {
        let mut world = World::new(None);
        let mut sessions = Vec::new();
        for _ in 0..1000 {
            sessions.push(world.mint(order()).await.unwrap());
        }
        let before = super::resident();
        for session in &sessions {
            for target in ["/a/1", "/b/1"] {
                world.made(session, target, None).await;
            }
        }
        let each = super::resident().saturating_sub(before) / 2000;
        println!("{each} bytes an approval");
        assert!(each < 8192, "{each} bytes an approval");
    });
}
