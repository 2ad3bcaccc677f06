//! What targets are to be told: made with the change it tells of and never twice, and without what an agent sends.

use super::world::*;
use serde_json::{Value, json};
use toolgate::policy::approval::Word;
use toolgate::store::outbox::NoticeRow;

async fn told(world: &World) -> Vec<NoticeRow> {
    world.store.store.notices(100).await.unwrap()
}

fn kinds(notices: &[NoticeRow]) -> Vec<String> {
    let stage = |data: &Value| data["stage"].as_str().unwrap_or_default().to_owned();
    let kind = |one: &NoticeRow| format!("{} {}", one.kind, stage(&data(one)));
    notices
        .iter()
        .map(|one| kind(one).trim_end().to_owned())
        .collect()
}

fn data(notice: &NoticeRow) -> Value {
    serde_json::from_str(&notice.data).unwrap()
}

#[test]
fn a_notice_says_who_wants_what_until_when_and_nothing_that_the_agent_sent() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let approval = world.made(&session, "/a-place", None).await;
        world.vote(&approval, "ann", Word::Approve).await.unwrap();
        world.vote(&approval, "bob", Word::Approve).await.unwrap();
        let notices = told(&world).await;
        assert_eq!(
            kinds(&notices),
            ["approval.requested pending", "approval.decided approved"]
        );
        for notice in &notices {
            assert!(!notice.data.contains("/a-place"), "{}", notice.data);
            assert_eq!(notice.chain.as_ref(), Some(&approval.facts.chain));
            let said = data(notice);
            for (name, value) in [
                ("approval", approval.facts.id.to_string()),
                ("session", session.facts.id.to_string()),
                ("agent", session.facts.agent.to_string()),
                ("scope", approval.facts.scope.to_string()),
            ] {
                assert_eq!(said[name], value, "{said}");
            }
            for name in ["route", "method", "expires_at"] {
                assert!(said[name].is_string(), "{name}: {said}");
            }
        }
        assert_eq!(data(&notices[1])["decided_by"], json!("bob"));
    });
}

#[test]
fn a_change_that_is_repeated_tells_nobody_again() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        // The store makes it, and does not say so: the sweep makes it once more.
        world.store.fail([(0, When::After)]);
        assert!(world.quarantine(&session).await.is_err());
        assert_eq!(kinds(&told(&world).await), ["session.quarantined"]);
        let gone: Vec<_> = told(&world).await.into_iter().map(|one| one.id).collect();
        let fan_out = toolgate::store::Change::FanOut {
            notices: gone,
            deliveries: Vec::new(),
        };
        toolgate::store::Store::apply(&world.store.store, fan_out)
            .await
            .unwrap();
        assert_eq!(world.sessions.sweep(world.now).await.failed, 0);
        assert!(told(&world).await.is_empty());
        // Another quarantine is another event.
        world.release(&session).await.unwrap();
        world.quarantine(&session).await.unwrap();
        assert_eq!(kinds(&told(&world).await), ["session.quarantined"]);
    });
}

#[test]
fn what_is_told_outlives_what_it_tells_of() {
    run(async {
        let mut world = World::new(None);
        let session = world.mint(order()).await.unwrap();
        let approval = world.made(&session, "/a", None).await;
        world.revoke(&session).await.unwrap();
        let world = world.reopen();
        assert!(world.sessions.by_id(session.facts.id).is_none());
        let notices = told(&world).await;
        assert_eq!(
            kinds(&notices),
            ["approval.requested pending", "approval.decided withdrawn"]
        );
        assert_eq!(data(&notices[1])["approval"], approval.facts.id.to_string());
    });
}
