//! An approval runs once, on the word of enough people, and never after what it waited for has gone; acknowledged is durable.

#![allow(clippy::unwrap_used, reason = "a test that can't go on says where")]

use super::world::*;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use toolgate::ledger::record::Cause;
use toolgate::policy::approval::{NOTE_BYTES_MAX, Stage, Word};
use toolgate::policy::id::GrantId;
use toolgate::policy::time::Timestamp;
use toolgate::store::approval::Notice;
use toolgate::store::live::approvals::{Held, HoldError, LiveApproval, Outcome, VoteError};
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
