//! Nothing acknowledged is lost, nothing is given twice, and what takes power away holds even where the disk does not.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod approvals;
mod held;
mod model;
mod notices;
mod pins;
mod world;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use toolgate::ledger::record::Cause;
use toolgate::policy::attributes::Attributes;
use toolgate::policy::id::GrantId;
use toolgate::policy::model::LimitIndex;
use toolgate::policy::name::{AgentName, LimitId, ProjectName};
use toolgate::policy::subject::{Narrowed, Narrowing};
use toolgate::policy::time::Timestamp;
use toolgate::store::embedded::Embedded;
use toolgate::store::live::{
    Ask, ChangeError, GiveError, LiveSession, MintError, Order, Sessions, State,
};
use toolgate::store::{Applied, Change, CostRow, SessionRow, Snapshot, Store};
use uuid::Uuid;
use world::*;

#[test]
fn of_ten_thousand_concurrent_spends_of_a_one_use_grant_exactly_one_passes() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let grant = world
            .give(&session, ask("tickets.write", None, 1))
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            let (sessions, session, now) = (world.sessions.clone(), session.clone(), world.now);
            tasks.spawn(async move {
                let mut passed = 0;
                for _ in 0..157 {
                    passed += u32::from(sessions.spend(&session, grant, now).await.unwrap());
                }
                passed
            });
        }
        assert_eq!(tasks.join_all().await.into_iter().sum::<u32>(), 1);
        // The store alone holds the line too, should memory ever be wrong.
        let second = world
            .give(&session, ask("refunds.create", None, 1))
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            let store = world.store.clone();
            tasks.spawn(async move { store.apply(Change::Spend { grant: second }).await.unwrap() });
        }
        let answers = tasks.join_all().await;
        assert_eq!(
            answers
                .iter()
                .filter(|answer| **answer == Applied::Done)
                .count(),
            1
        );
        assert!(
            !world.spend(&session, second).await.unwrap(),
            "the lesser number is the true one"
        );
        let world = world.reopen();
        let session = world.sessions.by_id(session.facts.id).unwrap();
        assert!(!world.spend(&session, grant).await.unwrap());
    });
}

#[test]
fn of_many_concurrent_mints_as_many_pass_as_may_live_and_an_end_makes_room() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(Some(7));
        let shared = Arc::new(policy(Some(7)));
        let mut tasks = JoinSet::new();
        for number in 100..150 {
            let (sessions, policy, now) = (world.sessions.clone(), shared.clone(), world.now);
            tasks.spawn(async move {
                let minted = sessions
                    .mint(&policy, order(), session_id(number), token(number), now)
                    .await;
                match minted {
                    Ok(session) => Some(session),
                    Err(MintError::Full { max: 7, .. }) => None,
                    Err(other) => panic!("{other}"),
                }
            });
        }
        let minted: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(minted.len(), 7);
        world.revoke(&minted[0]).await.unwrap();
        let next = world.mint(order()).await.unwrap();
        assert!(matches!(
            world.mint(order()).await,
            Err(MintError::Full { .. })
        ));
        // What has expired sits no longer, swept or not; and after a restart the seats are counted again.
        let mut world = world.reopen();
        assert!(matches!(
            world.mint(order()).await,
            Err(MintError::Full { .. })
        ));
        world.pass(Duration::from_secs(901));
        assert!(
            world.sessions.by_id(next.facts.id).is_some(),
            "not swept yet"
        );
        world.mint(order()).await.unwrap();
    });
}

#[test]
fn a_session_dies_expires_and_is_quarantined_with_its_parent() {
    run(async {
        let mut world = World::new(None);
        let parent = world.mint(order()).await.unwrap();
        let under = |parent: &LiveSession| Order {
            parent: Some(parent.facts.id),
            ttl: Some(Duration::from_secs(3600)),
            ..order()
        };
        let child = world.mint(under(&parent)).await.unwrap();
        let grandchild = world.mint(under(&child)).await.unwrap();
        assert_eq!(
            grandchild.facts.ends, parent.facts.ends,
            "a child ends no later"
        );
        world.quarantine(&parent).await.unwrap();
        assert_eq!(world.state(&grandchild), State::Quarantined);
        let mut world = world.reopen();
        let again = |world: &World, one: &LiveSession| world.sessions.by_id(one.facts.id).unwrap();
        let (parent, child, grandchild) = (
            again(&world, &parent),
            again(&world, &child),
            again(&world, &grandchild),
        );
        assert_eq!(world.state(&grandchild), State::Quarantined);
        assert!(matches!(
            world.mint(under(&child)).await,
            Err(MintError::Parent { .. })
        ));
        world.release(&parent).await.unwrap();
        assert_eq!(world.state(&grandchild), State::Live);
        world.revoke(&child).await.unwrap();
        assert_eq!(world.state(&parent), State::Live);
        assert_eq!(world.state(&grandchild), State::Ended);
        assert!(world.sessions.by_id(grandchild.facts.id).is_none());
        let world = world.reopen();
        assert_eq!(world.dump().len(), 1);
        assert_eq!(
            world
                .records("session")
                .iter()
                .filter(|change| *change == "revoked")
                .count(),
            2
        );
    });
}

#[test]
fn an_expired_session_has_ended_at_once_and_leaves_with_the_sweep() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let grant = world
            .give(&session, ask("tickets.write", None, 2))
            .await
            .unwrap();
        world.pass(Duration::from_secs(899));
        assert_eq!(world.state(&session), State::Live);
        // The grant ended before; a wall clock that is set back gives nobody more time.
        world.now.wall = Timestamp::from_micros(0);
        assert!(!world.spend(&session, grant).await.unwrap());
        assert_eq!(world.sessions.sweep(world.now).await.grants, 1);
        world.pass(Duration::from_secs(1));
        assert_eq!(world.state(&session), State::Ended);
        assert_eq!(world.sessions.sweep(world.now).await.sessions, 1);
        assert!(world.sessions.find(&token(1)).is_none());
        assert_eq!(
            world.sessions.holder(grant).map(|holder| holder.facts.id),
            None
        );
        assert_eq!(world.records("session"), ["minted", "expired"]);
        assert_eq!(world.records("grant"), ["given", "expired"]);
        assert!(world.reopen().dump().is_empty());
    });
}

#[test]
fn a_scope_is_granted_once_at_a_time_for_a_resource_and_so_often_in_a_life() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let one = ask("refunds.create", Some("user:7"), 2);
        let first = world.give(&session, one.clone()).await.unwrap();
        let conflict = world.give(&session, one.clone()).await;
        assert!(matches!(conflict, Err(GiveError::Conflict { held, .. }) if held == first));
        world
            .give(&session, ask("refunds.create", Some("user:8"), 1))
            .await
            .unwrap();
        let revoked = world
            .sessions
            .revoke_grant(&session, first, Cause::Agent, world.now)
            .await;
        assert!(revoked.unwrap());
        assert!(!world.spend(&session, first).await.unwrap());
        world.give(&session, one.clone()).await.unwrap();
        // The life's count outlives grants and gate.
        let mut world = world.reopen();
        let session = world.sessions.by_id(session.facts.id).unwrap();
        let more = world
            .give(&session, ask("refunds.create", Some("user:9"), 1))
            .await;
        assert!(matches!(more, Err(GiveError::Exhausted { max: 3, .. })));
        let refused = world
            .give(&session, ask("web.search", None, 1))
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("make the call"), "{refused}");
        for (wish, text) in [
            (
                ask("nothing.known", None, 1),
                "may never hold nothing.known",
            ),
            (
                ask("refunds.create", Some("order:1"), 1),
                "never hold refunds.create on order:1",
            ),
            (ask("tickets.write", None, 0), "1 to 5 uses"),
            (ask("tickets.write", None, 6), "1 to 5 uses"),
        ] {
            let refused = world.give(&session, wish).await.unwrap_err().to_string();
            assert!(refused.contains(text), "{refused}");
        }
        let long = Ask {
            ttl: Some(Duration::from_secs(601)),
            ..ask("tickets.write", None, 1)
        };
        assert!(matches!(
            world.give(&session, long).await,
            Err(GiveError::Ttl { .. })
        ));
    });
}

#[test]
fn of_many_who_ask_at_once_for_one_scope_and_resource_one_is_given_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let shared = Arc::new(policy(None));
        let mut tasks = JoinSet::new();
        for number in 0..100 {
            let (sessions, session, policy, now) = (
                world.sessions.clone(),
                session.clone(),
                shared.clone(),
                world.now,
            );
            let id = GrantId::new(Uuid::from_u128(1000 + number));
            // Thirty in a row want the same; the ceiling has `grants: 3`.
            let wish = ask("refunds.create", Some(&format!("user:{}", number / 30)), 1);
            tasks.spawn(async move {
                sessions
                    .give(&policy, &session, wish, id, Cause::Agent, now)
                    .await
                    .is_ok()
            });
        }
        let given = tasks
            .join_all()
            .await
            .into_iter()
            .filter(|given| *given)
            .count();
        assert!((1..=3).contains(&given), "{given}");
        let mut resources = session.with_grants(|all| {
            all.iter()
                .map(|one| one.resource.clone())
                .collect::<Vec<_>>()
        });
        resources.sort();
        resources.dedup();
        assert_eq!(resources.len(), given, "no resource twice");
    });
}

#[test]
fn an_order_that_does_not_fit_is_refused_with_its_place() {
    let narrowed = |name: &str, left: Narrowed| {
        Some(Narrowing {
            scopes: BTreeMap::from([(scope(name), left)]),
        })
    };
    let none = || Narrowed::default();
    let attribute = |name: &str, value: &str| Attributes::from([(name, value)]);
    let cases = [
        (
            Order {
                agent: AgentName::parse("ghost").unwrap(),
                ..order()
            },
            "`agent`",
        ),
        (
            Order {
                ttl: Some(Duration::ZERO),
                ..order()
            },
            "`ttl`",
        ),
        (
            Order {
                ttl: Some(Duration::from_secs(3601)),
                ..order()
            },
            "max_ttl, 3600s",
        ),
        (
            Order {
                attributes: attribute("a", ""),
                ..order()
            },
            "`attributes.a`",
        ),
        (
            Order {
                attributes: attribute("a", &"x".repeat(257)),
                ..order()
            },
            "`attributes.a`",
        ),
        (
            Order {
                attributes: attribute("a b", "x"),
                ..order()
            },
            "no attribute name",
        ),
        (
            Order {
                attributes: (0..33).map(|n| (format!("a{n}"), "x")).collect(),
                ..order()
            },
            "at most 32",
        ),
        (
            Order {
                scopes: Some(Narrowing {
                    scopes: BTreeMap::new(),
                }),
                ..order()
            },
            "`scopes`",
        ),
        (
            Order {
                scopes: narrowed("users.read", none()),
                ..order()
            },
            "`scopes.users.read`",
        ),
        (
            Order {
                scopes: narrowed(
                    "web.search",
                    Narrowed {
                        resources: Some([].into()),
                        uses: None,
                    },
                ),
                ..order()
            },
            "`scopes.web.search.resources`",
        ),
        (
            Order {
                scopes: narrowed(
                    "web.search",
                    Narrowed {
                        resources: None,
                        uses: Some(0),
                    },
                ),
                ..order()
            },
            "`scopes.web.search.uses`",
        ),
        (
            Order {
                run: Some(String::new()),
                ..order()
            },
            "`run`",
        ),
        (
            Order {
                parent: Some(session_id(99)),
                ..order()
            },
            "`parent`",
        ),
    ];
    run(async {
        let mut world = World::new(None);
        for (order, text) in cases {
            let refused = world.mint(order).await.unwrap_err().to_string();
            assert!(refused.contains(text), "{refused}");
        }
        let narrow = Order {
            scopes: narrowed(
                "tickets.write",
                Narrowed {
                    resources: None,
                    uses: Some(2),
                },
            ),
            ..order()
        };
        let parent = world.mint(narrow).await.unwrap();
        let wide = Order {
            parent: Some(parent.facts.id),
            scopes: narrowed("web.search", none()),
            ..order()
        };
        let refused = world.mint(wide).await.unwrap_err();
        assert!(
            matches!(refused, MintError::ScopeOutsideParent { .. }),
            "{refused}"
        );
        let refused = world
            .give(&parent, ask("tickets.write", None, 3))
            .await
            .unwrap_err();
        assert!(
            matches!(refused, GiveError::Uses { max: 2, .. }),
            "{refused}"
        );
    });
}

#[test]
fn a_kill_holds_in_memory_though_the_store_fails_and_the_sweep_makes_it_last() {
    run(async {
        for when in [When::Before, When::After] {
            let mut world = World::new(None);
            let revoked = world.mint(order()).await.unwrap();
            let quarantined = world.mint(order()).await.unwrap();
            let holder = world.mint(order()).await.unwrap();
            let grant = world
                .give(&holder, ask("tickets.write", None, 5))
                .await
                .unwrap();
            world.store.fail([(0, when), (1, when), (2, when)]);
            assert!(matches!(
                world.revoke(&revoked).await,
                Err(ChangeError::Store(_))
            ));
            assert!(matches!(
                world.quarantine(&quarantined).await,
                Err(ChangeError::Store(_))
            ));
            let taken = world
                .sessions
                .revoke_grant(&holder, grant, Cause::Agent, world.now)
                .await;
            assert!(matches!(taken, Err(ChangeError::Store(_))));
            assert_eq!(world.state(&revoked), State::Ended);
            assert_eq!(world.state(&quarantined), State::Quarantined);
            assert!(!world.spend(&holder, grant).await.unwrap());
            assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
            assert_eq!(
                world.sessions.sweep(world.now).await,
                Default::default(),
                "nothing is owed"
            );
            let world = world.reopen();
            assert!(world.sessions.by_id(revoked.facts.id).is_none());
            let quarantined = world.sessions.by_id(quarantined.facts.id).unwrap();
            assert_eq!(world.state(&quarantined), State::Quarantined);
            assert_eq!(quarantined.quarantine_reason().as_deref(), Some("strange"));
            let holder = world.sessions.by_id(holder.facts.id).unwrap();
            assert!(!world.spend(&holder, grant).await.unwrap());
        }
    });
}

#[test]
fn what_the_store_does_not_take_is_not_given() {
    run(async {
        for when in [When::Before, When::After] {
            let mut world = World::new(None);
            let session = world.mint(order()).await.unwrap();
            let grant = world
                .give(&session, ask("tickets.write", None, 2))
                .await
                .unwrap();
            world.quarantine(&session).await.unwrap();
            world.store.fail([(0, when)]);
            assert!(matches!(
                world.release(&session).await,
                Err(ChangeError::Store(_))
            ));
            assert_eq!(world.state(&session), State::Quarantined);
            world.sessions.sweep(world.now).await;
            let mut world = world.reopen();
            let session = world.sessions.by_id(session.facts.id).unwrap();
            assert_eq!(
                world.state(&session),
                State::Quarantined,
                "the store agrees again"
            );
            world.release(&session).await.unwrap();
            world.store.fail([(0, when), (1, When::Before)]);
            world.spend(&session, grant).await.unwrap_err();
            let left = |world: &World, session: &Arc<LiveSession>| {
                let _ = world;
                session.with_grants(|grants| grants[0].uses_left)
            };
            assert_eq!(left(&world, &session), 1, "a use is never given back");
            let before = world.dump().len();
            world.store.fail([(0, when)]);
            assert!(matches!(
                world.mint(order()).await,
                Err(MintError::Store(_))
            ));
            world.store.fail([(0, when)]);
            let given = world.give(&session, ask("refunds.create", None, 1)).await;
            assert!(matches!(given, Err(GiveError::Store(_))));
            world.sessions.sweep(world.now).await;
            let world = world.reopen();
            assert_eq!(world.dump().len(), before);
            let session = world.sessions.by_id(session.facts.id).unwrap();
            assert_eq!(session.with_grants(<[_]>::len), 1);
        }
    });
}

#[test]
fn what_the_ledger_does_not_take_is_not_given_and_kills_hold_all_the_same() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let quarantined = world.mint(order()).await.unwrap();
        let revoked = world.mint(order()).await.unwrap();
        let released = world.mint(order()).await.unwrap();
        world.quarantine(&released).await.unwrap();
        world.ledger.close().unwrap();
        assert!(matches!(
            world.mint(order()).await,
            Err(MintError::Ledger(_))
        ));
        let given = world.give(&session, ask("tickets.write", None, 1)).await;
        assert!(matches!(given, Err(GiveError::Ledger(_))));
        assert!(matches!(
            world.release(&released).await,
            Err(ChangeError::Ledger(_))
        ));
        assert!(matches!(
            world.quarantine(&quarantined).await,
            Err(ChangeError::Ledger(_))
        ));
        assert!(matches!(
            world.revoke(&revoked).await,
            Err(ChangeError::Ledger(_))
        ));
        assert_eq!(world.state(&released), State::Quarantined);
        assert_eq!(world.state(&quarantined), State::Quarantined);
        assert_eq!(world.state(&revoked), State::Ended);
        world.sessions.sweep(world.now).await;
        let world = world.reopen();
        assert_eq!(world.dump().len(), 3);
        let again = |one: &LiveSession| world.sessions.by_id(one.facts.id);
        assert!(again(&revoked).is_none());
        assert_eq!(
            world.state(&again(&quarantined).unwrap()),
            State::Quarantined
        );
        assert_eq!(world.state(&again(&released).unwrap()), State::Quarantined);
        assert_eq!(again(&session).unwrap().with_grants(<[_]>::len), 0);
    });
}

#[test]
fn a_caller_that_leaves_while_it_is_given_something_leaves_nothing_behind() {
    run(async {
        let mut world = World::new(Some(2));
        let session = world.mint(order()).await.unwrap();
        {
            let wish = ask("tickets.write", None, 1);
            let give = world.give(&session, wish);
            once(give).await;
        }
        once(world.mint(order())).await;
        world.sessions.sweep(world.now).await;
        let mut world = world.reopen();
        assert_eq!(world.dump().len(), 1);
        let session = world.sessions.by_id(session.facts.id).unwrap();
        assert_eq!(session.with_grants(<[_]>::len), 0);
        world
            .give(&session, ask("tickets.write", None, 1))
            .await
            .unwrap();
        world.mint(order()).await.expect("the seat was given back");
    });
}

/// Polls once and drops: the caller has left.
async fn once<F: Future>(future: F) {
    let mut future = Box::pin(future);
    std::future::poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
}

#[test]
fn costs_come_back_absolute_and_end_with_their_holder() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let row = |holder: String, micros| CostRow {
            project: world.policy.project.clone(),
            limit: LimitId::parse("spend").unwrap(),
            holder,
            bucket: world.now.wall,
            micros,
        };
        let (own, shared) = (row(session.facts.id.to_string(), 5), row("bot".into(), 7));
        for row in [&own, &shared] {
            world.sessions.save_cost(row.clone()).await.unwrap();
            let more = CostRow {
                micros: row.micros + 1,
                ..row.clone()
            };
            world.sessions.save_cost(more).await.unwrap();
        }
        let costs = |world: World| {
            let World {
                folder,
                ledger,
                store,
                sessions,
                now,
                ..
            } = world;
            drop((sessions, store, ledger));
            let opened = Embedded::open(&folder.path().join("toolgate.db"), now.wall).unwrap();
            let mut micros: Vec<_> = opened.1.costs.iter().map(|row| row.micros).collect();
            micros.sort_unstable();
            micros
        };
        world.revoke(&session).await.unwrap();
        // One that was on its way when the session ended has no holder any more.
        world.sessions.save_cost(own.clone()).await.unwrap();
        assert_eq!(costs(world), [8]);
    });
}

#[test]
fn what_a_session_has_spent_comes_back_with_it_and_goes_with_its_release() {
    run(async {
        let mut world = World::new(None);
        world.policy = policy_with(None, vec![spend_limit()]);
        let session = world.mint(order()).await.unwrap();
        let limits = [LimitIndex(0)];
        let cells = session.cells(&world.policy);
        assert_eq!(cells.charge(&limits, world.now.tick, 4), None);
        for (bucket, micros) in cells.cost_buckets(LimitIndex(0), world.now) {
            let row = CostRow {
                project: world.policy.project.clone(),
                limit: LimitId::parse("spend").unwrap(),
                holder: session.facts.id.to_string(),
                bucket,
                micros,
            };
            world.sessions.save_cost(row).await.unwrap();
        }
        let left = |world: &World, session: &LiveSession| {
            let cells = session.cells(&world.policy);
            cells
                .standings(&limits, world.now.tick)
                .next()
                .unwrap()
                .remaining
        };
        assert_eq!(left(&world, &session), 6);
        let world = world.reopen();
        let session = world.sessions.by_id(session.facts.id).unwrap();
        assert_eq!(left(&world, &session), 6);
        world.quarantine(&session).await.unwrap();
        world.release(&session).await.unwrap();
        assert_eq!(left(&world, &session), 10);
        let world = world.reopen();
        let session = world.sessions.by_id(session.facts.id).unwrap();
        assert_eq!(left(&world, &session), 10);
    });
}

/// What the process holds, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_live_session_takes_less_than_a_kibibyte() {
    const COUNT: u128 = 100_000;
    let world = World::new(None);
    // Names are shared, as they are among sessions that were minted.
    let (order, project) = (order(), world.policy.project.clone());
    let before = resident();
    let snapshot = Snapshot {
        sessions: (0..COUNT)
            .map(|number| row(number, &order, &project))
            .collect(),
        ..Snapshot::default()
    };
    let seam: Arc<dyn Store> = Arc::clone(&world.store) as _;
    let sessions = Sessions::new(seam, snapshot, world.ledger.clone(), world.now);
    let each = resident().saturating_sub(before) / COUNT as usize;
    assert_eq!(sessions.counts()[0].sessions, COUNT as u64);
    println!("{each} bytes a session");
    assert!(each < 1024, "{each} bytes a session");
}

/// A session as an orchestrator would mint it, at rest.
fn row(number: u128, order: &Order, project: &ProjectName) -> SessionRow {
    SessionRow {
        id: session_id(number),
        token: token(number),
        project: project.clone(),
        agent: order.agent.clone(),
        attributes: order.attributes.clone(),
        narrowing: None,
        parent: None,
        run: order.run.clone(),
        intent: None,
        bound_to: None,
        minted_by: order.minted_by.clone(),
        minted_at: Timestamp::from_micros(1_700_000_000_000_000),
        expires_at: Timestamp::from_micros(1_700_000_900_000_000),
        quarantined: None,
    }
}
