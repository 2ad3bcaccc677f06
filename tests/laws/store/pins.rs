//! What servers are held to: durable before it counts, in force before it is durable where it takes, and bounded.

use super::world::*;
use std::sync::Arc;
use toolgate::policy::id::SessionId;
use toolgate::policy::name::{ProjectName, ToolName};
use toolgate::policy::pin::{Definition, PinDigest, Standing, path_of};
use toolgate::store::live::pins::{
    PinError, SERVER_BYTES_MAX, Shown, Sight, SightError, TURNS_MAX, ToolPins,
};
use toolgate::store::pin::PinRow;

fn said(name: &str, story: &str) -> Definition {
    let text = format!(r#"{{"description":"{story}","name":"{name}"}}"#);
    Definition {
        name: name.into(),
        digest: PinDigest::of(&text),
        text: text.into(),
    }
}

impl World {
    fn till(&self) -> Arc<ToolPins> {
        let tool = ToolName::parse("till").unwrap();
        self.sessions.pins(&self.policy.project, &tool)
    }

    async fn sees(&self, list: &[Definition], sight: Sight) -> Result<(), SightError> {
        let (till, wall) = (self.till(), self.now.wall);
        let session = SessionId::new(uuid::Uuid::nil());
        self.sessions.sight(&till, list, sight, session, wall).await
    }

    fn stands(&self, name: &str) -> Standing {
        self.till().standing(&path_of(name).unwrap())
    }

    fn pin(&self, name: &str) -> Option<PinRow> {
        let own = [self.policy.project.clone()];
        let found = self
            .sessions
            .list_pins(&own, None, 10, |row| &*row.name == name);
        found.into_iter().next()
    }

    async fn accepts(&self, name: &str, digest: PinDigest) -> Result<PinRow, PinError> {
        let (till, wall) = (self.till(), self.now.wall);
        let sessions = &self.sessions;
        sessions
            .accept_pin(&till, name, digest, &operator(), wall)
            .await
    }

    async fn forgets(&self, name: &str, digest: PinDigest) -> Result<PinRow, PinError> {
        let (till, wall) = (self.till(), self.now.wall);
        let sessions = &self.sessions;
        sessions
            .forget_pin(&till, name, digest, &operator(), wall)
            .await
    }
}

#[test]
fn what_the_store_does_not_take_is_not_held_to_and_what_changed_is_refused_all_the_same() {
    run(async {
        let world = World::new(None);
        let (good, bad) = (said("pay", "Pays."), said("pay", "Pays you."));
        // Given, where the disk fails before or after: nothing is shown or called on it.
        for when in [When::Before, When::After] {
            world.store.fail([(0, when)]);
            let seen = world.sees(std::slice::from_ref(&good), Sight::Fresh).await;
            assert!(matches!(seen, Err(SightError::Store(_))));
            assert_eq!(world.stands("pay"), Standing::Unseen);
        }
        world
            .sees(std::slice::from_ref(&good), Sight::Fresh)
            .await
            .unwrap();
        assert_eq!(world.stands("pay"), Standing::Accepted);
        // Taken: in force at once, and made durable by the next list that says so.
        world.store.fail([(0, When::Before)]);
        world
            .sees(std::slice::from_ref(&bad), Sight::Fresh)
            .await
            .unwrap_err();
        assert_eq!(world.stands("pay"), Standing::Changed);
        let path = path_of("pay").unwrap();
        assert_eq!(
            world.till().shown(&path, bad.digest, Sight::Fresh),
            Shown::News
        );
        world
            .sees(std::slice::from_ref(&bad), Sight::Fresh)
            .await
            .unwrap();
        let world = world.reopen();
        assert_eq!(world.stands("pay"), Standing::Changed);
        // A word that can't be kept is none.
        world.store.fail([(0, When::Before)]);
        assert!(matches!(
            world.accepts("pay", bad.digest).await,
            Err(PinError::Store(_))
        ));
        assert_eq!(world.stands("pay"), Standing::Changed);
        world.accepts("pay", bad.digest).await.unwrap();
        let world = world.reopen();
        assert_eq!(world.stands("pay"), Standing::Accepted);
        let row = world.pin("pay").unwrap();
        assert_eq!(
            (row.accepted, row.accepted_by),
            (bad.digest, Some(operator()))
        );
        assert_eq!(row.first_seen, world.now.wall);
    });
}

#[test]
fn without_a_ledger_nothing_new_is_held_to_and_what_changed_is_refused_all_the_same() {
    run(async {
        let world = World::new(None);
        let (good, bad) = (said("pay", "Pays."), said("pay", "Pays you."));
        world
            .sees(std::slice::from_ref(&good), Sight::Fresh)
            .await
            .unwrap();
        world.ledger.close().unwrap();
        let new = said("look", "Looks.");
        let seen = world.sees(std::slice::from_ref(&new), Sight::Fresh).await;
        assert!(matches!(seen, Err(SightError::Ledger(_))));
        assert_eq!(world.stands("look"), Standing::Unseen);
        world.forgets("pay", good.digest).await.unwrap_err();
        assert_eq!(world.stands("pay"), Standing::Accepted);
        world
            .sees(std::slice::from_ref(&bad), Sight::Fresh)
            .await
            .unwrap_err();
        assert_eq!(world.stands("pay"), Standing::Changed);
        assert!(matches!(
            world.accepts("pay", bad.digest).await,
            Err(PinError::Ledger(_))
        ));
        let world = world.reopen();
        // What nobody could write down was undone, and what takes stays.
        assert_eq!(world.stands("look"), Standing::Unseen);
        assert_eq!(world.stands("pay"), Standing::Changed);
    });
}

#[test]
fn lists_at_once_are_taken_in_one_after_another_and_only_one_story_is_the_first() {
    run(async {
        let world = World::new(None);
        let stories: Vec<_> = (0..8)
            .map(|n| [said("pay", &format!("Pays {n}."))])
            .collect();
        let seen = stories.iter().map(|story| world.sees(story, Sight::Fresh));
        for seen in futures_util::future::join_all(seen).await {
            seen.unwrap();
        }
        let row = world.pin("pay").unwrap();
        assert_eq!(row.accepted, stories[0][0].digest);
        assert_eq!(world.stands("pay"), Standing::Changed);
        assert_eq!(row.turns, 7);
    });
}

#[test]
fn only_a_list_as_it_is_given_now_brings_a_tool_back_and_not_for_ever() {
    run(async {
        let world = World::new(None);
        let good = [said("pay", "Pays.")];
        for sight in [Sight::Again, Sight::Kept] {
            world.sees(&good, sight).await.unwrap();
            assert_eq!(world.stands("pay"), Standing::Unseen, "{sight:?}");
        }
        world.sees(&good, Sight::Fresh).await.unwrap();
        for turn in 0..TURNS_MAX + 4 {
            let bad = [said("pay", &format!("Pays {turn}."))];
            world.sees(&bad, Sight::Again).await.unwrap();
            assert_eq!(world.stands("pay"), Standing::Changed);
            for sight in [Sight::Again, Sight::Kept] {
                world.sees(&good, sight).await.unwrap();
                assert_eq!(world.stands("pay"), Standing::Changed, "{sight:?}");
            }
            world.sees(&good, Sight::Fresh).await.unwrap();
            let back = turn + 1 < TURNS_MAX;
            assert_eq!(world.stands("pay") == Standing::Accepted, back, "{turn}");
        }
        assert_eq!(world.pin("pay").unwrap().turns, TURNS_MAX);
        world.accepts("pay", good[0].digest).await.unwrap();
        assert_eq!(world.stands("pay"), Standing::Accepted);
        // What is listed twice is what is worst of it.
        let both = [said("pay", "Pays."), said("pay", "Pays you.")];
        world.sees(&both, Sight::Fresh).await.unwrap();
        assert_eq!(world.stands("pay"), Standing::Changed);
        let two = [said("look", "Looks."), said("look", "Stares.")];
        world.sees(&two, Sight::Fresh).await.unwrap();
        assert_eq!(world.stands("look"), Standing::Unseen);
    });
}

#[test]
fn what_one_server_says_is_bounded_in_bytes_and_counts_for_no_other() {
    run(async {
        let world = World::new(None);
        let long = "x".repeat(60 * 1024);
        let list: Vec<_> = (0..200).map(|n| said(&format!("t{n:03}"), &long)).collect();
        world.sees(&list, Sight::Fresh).await.unwrap();
        let own = [world.policy.project.clone()];
        let rows = world.sessions.list_pins(&own, None, 1000, |_| true);
        let bytes: usize = rows.iter().map(PinRow::bytes).sum();
        assert!(
            bytes <= SERVER_BYTES_MAX && rows.len() > 100,
            "{bytes} in {}",
            rows.len()
        );
        // Another story of one of them finds no room: it has changed, and can't be accepted unseen.
        let other = [said("t000", &"y".repeat(60 * 1024))];
        world.sees(&other, Sight::Fresh).await.unwrap();
        assert_eq!(world.stands("t000"), Standing::Changed);
        assert!(matches!(
            world.accepts("t000", other[0].digest).await,
            Err(PinError::Unseen)
        ));
        // The same name elsewhere is nobody's.
        let elsewhere = ProjectName::parse("elsewhere").unwrap();
        let tool = ToolName::parse("till").unwrap();
        let pins = world.sessions.pins(&elsewhere, &tool);
        assert_eq!(pins.standing(&path_of("t001").unwrap()), Standing::Unseen);
    });
}
