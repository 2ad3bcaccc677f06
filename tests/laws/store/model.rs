//! The table against a model that has no disk, no queue and no locks.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

use proptest::prelude::*;
use std::time::Duration;
use toolgate::ledger::record::Cause;
use toolgate::policy::id::{GrantId, SessionId};
use toolgate::policy::resource::ResourcePattern;
use toolgate::policy::subject::{Narrowed, Narrowing};
use toolgate::store::live::{GiveError, MintError, Order, State};

use super::world::*;
#[derive(Clone, Debug)]
enum Step {
    Mint {
        parent: Option<usize>,
        narrowed: bool,
    },
    Revoke(usize),
    Quarantine(usize),
    Release(usize),
    Give {
        session: usize,
        resource: Option<u8>,
        uses: u32,
    },
    Take(usize),
    Spend(usize),
    Intent(usize, String),
    Pass(u64),
    Sweep,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (proptest::option::of(0..20_usize), any::<bool>())
            .prop_map(|(parent, narrowed)| Step::Mint { parent, narrowed }),
        1 => (0..20_usize).prop_map(Step::Revoke),
        2 => (0..20_usize).prop_map(Step::Quarantine),
        2 => (0..20_usize).prop_map(Step::Release),
        5 => (0..20_usize, proptest::option::of(0..3_u8), 1..4_u32)
            .prop_map(|(session, resource, uses)| Step::Give { session, resource, uses }),
        1 => (0..20_usize).prop_map(Step::Take),
        5 => (0..20_usize).prop_map(Step::Spend),
        1 => (0..20_usize, "\\PC{1,12}").prop_map(|(session, text)| Step::Intent(session, text)),
        1 => (0..400_u64).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        1 => Just(Step::Reopen),
    ]
}

/// What the table ought to say, in the plainest form.
#[derive(Default)]
struct Model {
    sessions: Vec<Modelled>,
    grants: Vec<(GrantId, usize, u32)>,
}

struct Modelled {
    id: SessionId,
    parent: Option<usize>,
    quarantined: bool,
    ended: bool,
}

impl Model {
    fn state(&self, at: usize) -> State {
        let one = &self.sessions[at];
        let own = match (one.ended, one.quarantined) {
            (true, _) => State::Ended,
            (false, true) => State::Quarantined,
            (false, false) => State::Live,
        };
        one.parent.map_or(own, |parent| own.max(self.state(parent)))
    }
}

/// One step in both worlds; they must agree on what came of it.
async fn act(world: &mut World, model: &mut Model, step: Step) {
    let pick =
        |model: &Model, at: usize| (!model.sessions.is_empty()).then(|| at % model.sessions.len());
    let expire = |world: &World, model: &mut Model| {
        for at in 0..model.sessions.len() {
            let found = world.sessions.by_id(model.sessions[at].id);
            // Ends by time are the clock's affair; the model learns of them.
            if found.is_none_or(|one| world.now.tick >= one.facts.ends) {
                model.sessions[at].ended = true;
            }
        }
    };
    match step {
        Step::Mint { parent, narrowed } => {
            let parent = parent.and_then(|at| pick(model, at));
            let left = Narrowed {
                resources: Some([ResourcePattern::parse_literal("user:*").unwrap()].into()),
                uses: Some(4),
            };
            let scopes =
                ["refunds.create", "tickets.write"].map(|name| (scope(name), left.clone()));
            let wish = Order {
                parent: parent.map(|at| model.sessions[at].id),
                scopes: narrowed.then(|| Narrowing {
                    scopes: scopes.into(),
                }),
                ..order()
            };
            let minted = world.mint(wish).await;
            let fits = parent.is_none_or(|at| model.state(at) == State::Live);
            match minted {
                Ok(session) => {
                    assert!(fits);
                    model.sessions.push(Modelled {
                        id: session.facts.id,
                        parent,
                        quarantined: false,
                        ended: false,
                    });
                }
                Err(MintError::Parent { .. }) => assert!(!fits),
                Err(MintError::Depth { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        Step::Revoke(at) => {
            let Some(at) = pick(model, at) else { return };
            if let Some(session) = world.sessions.by_id(model.sessions[at].id) {
                world.revoke(&session).await.unwrap();
                model.sessions[at].ended = true;
            }
        }
        Step::Quarantine(at) => {
            let Some(at) = pick(model, at) else { return };
            if let Some(session) = world.sessions.by_id(model.sessions[at].id) {
                world.quarantine(&session).await.unwrap();
                model.sessions[at].quarantined = true;
            }
        }
        Step::Release(at) => {
            let Some(at) = pick(model, at) else { return };
            if let Some(session) = world.sessions.by_id(model.sessions[at].id) {
                let released = world.release(&session).await;
                assert_eq!(released.is_ok(), model.sessions[at].quarantined);
                model.sessions[at].quarantined = false;
            }
        }
        Step::Give {
            session,
            resource,
            uses,
        } => {
            let Some(at) = pick(model, session) else {
                return;
            };
            let Some(session) = world.sessions.by_id(model.sessions[at].id) else {
                return;
            };
            let resource = resource.map(|number| format!("user:{number}"));
            match world
                .give(&session, ask("refunds.create", resource.as_deref(), uses))
                .await
            {
                Ok(id) => {
                    assert_eq!(model.state(at), State::Live);
                    model.grants.push((id, at, uses));
                }
                Err(GiveError::Quarantined | GiveError::Ended) => {
                    assert_ne!(model.state(at), State::Live);
                }
                Err(GiveError::Conflict { .. } | GiveError::Exhausted { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        Step::Take(at) => {
            let Some(at) = at.checked_rem(model.grants.len()) else {
                return;
            };
            let (id, holder, _) = model.grants[at];
            if let Some(session) = world.sessions.by_id(model.sessions[holder].id) {
                world
                    .sessions
                    .revoke_grant(&session, id, Cause::Agent, world.now)
                    .await
                    .unwrap();
                model.grants[at].2 = 0;
            }
        }
        Step::Spend(at) => {
            let Some(at) = at.checked_rem(model.grants.len()) else {
                return;
            };
            let (id, holder, left) = model.grants[at];
            if let Some(session) = world.sessions.by_id(model.sessions[holder].id)
                && world.spend(&session, id).await.unwrap()
            {
                assert_eq!(model.state(holder), State::Live);
                assert!(left > 0, "a use that was not there");
                model.grants[at].2 -= 1;
            }
        }
        Step::Intent(at, text) => {
            let Some(at) = pick(model, at) else { return };
            if let Some(session) = world.sessions.by_id(model.sessions[at].id) {
                world
                    .sessions
                    .set_intent(&session, &text, Cause::Agent, world.now)
                    .await
                    .unwrap();
                assert_eq!(session.intent().as_deref(), Some(&*text));
            }
        }
        Step::Pass(seconds) => {
            world.pass(Duration::from_secs(seconds));
            world.sessions.sweep(world.now).await;
            expire(world, model);
        }
        Step::Sweep => {
            assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
        }
        Step::Reopen => {}
    }
    for (at, one) in model.sessions.iter().enumerate() {
        let state = world
            .sessions
            .by_id(one.id)
            .map_or(State::Ended, |one| world.state(&one));
        assert_eq!(state, model.state(at));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The law of the store: any sequence of changes, then a restart, is the same state; and at every step the table
    /// agrees with a model that has no disk, no queue and no locks.
    #[test]
    fn a_restart_changes_nothing(steps in proptest::collection::vec(step(), 1..60)) {
        run(async {
            let mut world = World::new(None);
            let mut model = Model::default();
            for step in steps {
                let reopen = matches!(step, Step::Reopen);
                act(&mut world, &mut model, step).await;
                if reopen {
                    let before = world.dump();
                    world = world.reopen();
                    assert_eq!(world.dump(), before);
                }
            }
            let before = world.dump();
            let world = world.reopen();
            assert_eq!(world.dump(), before);
        });
    }
}
