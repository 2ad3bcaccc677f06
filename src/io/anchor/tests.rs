//! Anchors over real files and real receivers. The newest checkpoint is what a test says it is.

use super::*;
use crate::config::AnchorWebhook;
use crate::io::clock::SystemClock;
use crate::io::notify::tests::receiver::{Answer, Arrival, Receiver};
use crate::io::notify::tests::{PATIENCE, SECRET};
use crate::ledger::checkpoint;
use crate::ledger::note::SigningKey;
use crate::policy::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde_json::Value;
use std::path::Path;
use tokio::task::JoinHandle;

const ORIGIN: &str = "gate-1";

/// Anchors that run.
struct World {
    newest: Arc<Mutex<Option<Arc<str>>>>,
    metrics: Arc<Metrics>,
    anchors: Arc<Anchors>,
    running: JoinHandle<()>,
}

fn note(size: u64) -> Arc<str> {
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size,
        root: [7; 32],
        time: Some(Timestamp::from_micros(1_700_000_000_000_000)),
        prev: None,
        key: None,
    };
    checkpoint
        .sign(&SigningKey::new(ORIGIN, [7; 32]).unwrap())
        .into()
}

impl World {
    fn new(file: Option<&Path>, receiver: Option<&Receiver>) -> Self {
        let mut settings = LedgerSettings::new("unused");
        settings.anchor_every = Duration::from_millis(20);
        settings.anchor_file = file.map(Path::to_owned);
        settings.anchor_webhook = receiver.map(|receiver| AnchorWebhook {
            url: SecretString::from(receiver.url()),
            secrets: vec![SecretString::from(SECRET)],
        });
        let newest: Arc<Mutex<Option<Arc<str>>>> = Arc::default();
        let metrics = Arc::new(Metrics::new());
        let shared = Arc::clone(&newest);
        let anchors = Anchors::new(
            &settings,
            Box::new(move || locked(&shared).clone()),
            Arc::new(SystemClock),
            Arc::clone(&metrics),
        );
        let anchors = Arc::new(anchors.unwrap());
        let run = Arc::clone(&anchors);
        World {
            newest,
            metrics,
            running: tokio::spawn(async move { run.run().await }),
            anchors,
        }
    }

    fn signed(&self, size: u64) {
        *locked(&self.newest) = Some(note(size));
    }

    fn counted(&self, kind: &str, result: &str) -> u64 {
        let series =
            format!("toolgate_ledger_anchors_total{{kind=\"{kind}\",result=\"{result}\"}} ");
        let text = self.metrics.encode();
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.map_or(0, |value| value.parse().unwrap())
    }

    async fn counts(&self, kind: &str, result: &str, least: u64) {
        let counting = async {
            while self.counted(kind, result) < least {
                tokio::task::yield_now().await;
            }
        };
        let counted = timeout(PATIENCE, counting).await;
        assert!(
            counted.is_ok(),
            "{kind} {result}: {}",
            self.metrics.encode()
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn said(arrival: &Arrival) -> Value {
    serde_json::from_str(&arrival.body).unwrap()
}

fn sizes(path: &Path) -> Vec<u64> {
    let file = std::fs::read(path).unwrap();
    let notes = checkpoint::notes(&file);
    let size = |(note, _)| Checkpoint::read(note).unwrap().size;
    notes.map(size).collect()
}

#[tokio::test]
async fn each_new_checkpoint_reaches_file_and_webhook_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anchor");
    let mut receiver = Receiver::new().await;
    let world = World::new(Some(&path), Some(&receiver));
    for (round, size) in (1..).zip([3, 7]) {
        world.signed(size);
        let arrival = receiver.next().await;
        let said = said(&arrival);
        assert_eq!(said["type"], "ledger.checkpoint");
        assert_eq!(said["timestamp"], "2023-11-14T22:13:20.000000Z");
        assert_eq!(said["data"]["origin"], ORIGIN);
        assert_eq!(said["data"]["size"], size);
        assert_eq!(said["data"]["note"].as_str(), Some(&*note(size)));
        let (id, seconds) = (
            arrival.field("webhook-id"),
            arrival.field("webhook-timestamp"),
        );
        assert!(id.starts_with("chk_"), "{id}");
        let signed = format!("{id}.{seconds}.{}", arrival.body);
        let secret = STANDARD.decode(&SECRET[6..]).unwrap();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(tag));
        assert_eq!(arrival.field("webhook-signature"), signature);
        world.counts("file", "anchored", round).await;
        world.counts("webhook", "anchored", round).await;
    }
    assert_eq!(sizes(&path), [3, 7]);
    assert!(receiver.is_quiet());
    let text = world.metrics.encode();
    let series = "toolgate_ledger_anchored_timestamp_seconds{kind=\"webhook\"} 1700000000\n";
    assert!(text.contains(series), "{text}");
}

#[tokio::test]
async fn one_that_failed_is_superseded_by_the_next() {
    let mut receiver = Receiver::new().await;
    receiver.answers(&[Answer::Status(500), Answer::Close]);
    let world = World::new(None, Some(&receiver));
    world.signed(3);
    receiver.next().await;
    world.signed(4);
    let same = receiver.next().await;
    assert_eq!(said(&same)["data"]["size"], 4);
    let again = receiver.next().await;
    assert_eq!(again.field("webhook-id"), same.field("webhook-id"));
    world.counts("webhook", "anchored", 1).await;
    assert_eq!(world.counted("webhook", "failed"), 2);
    assert!(receiver.is_quiet());
}

#[tokio::test]
async fn a_receiver_that_holds_another_checkpoint_is_a_conflict_and_is_told_the_next() {
    let mut receiver = Receiver::new().await;
    receiver.otherwise(Answer::Status(409));
    let world = World::new(None, Some(&receiver));
    world.signed(3);
    world.counts("webhook", "conflict", 2).await;
    receiver.otherwise(Answer::Status(204));
    world.signed(9);
    world.counts("webhook", "anchored", 1).await;
    let mut last = receiver.next().await;
    while !receiver.is_quiet() {
        last = receiver.next().await;
    }
    assert_eq!(said(&last)["data"]["size"], 9);
    assert_eq!(world.counted("webhook", "failed"), 0);
}

#[tokio::test]
async fn a_file_that_could_not_be_written_gets_the_newest_once_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    let world = World::new(Some(&volume.join("anchor")), None);
    world.signed(3);
    world.counts("file", "failed", 1).await;
    world.signed(5);
    std::fs::create_dir(&volume).unwrap();
    world.counts("file", "anchored", 1).await;
    assert_eq!(sizes(&volume.join("anchor")), [5]);
}

#[tokio::test]
async fn the_last_one_is_handed_over_at_the_end_and_nobody_who_stalls_holds_it_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anchor");
    let mut receiver = Receiver::new().await;
    receiver.otherwise(Answer::Stall);
    let world = World::new(Some(&path), Some(&receiver));
    world.running.abort();
    world.signed(8);
    world.anchors.last(Duration::from_millis(200)).await;
    assert_eq!(sizes(&path), [8]);
    assert_eq!(said(&receiver.next().await)["data"]["size"], 8);
}

#[tokio::test]
async fn who_wants_no_more_is_told_no_more() {
    let mut receiver = Receiver::new().await;
    receiver.otherwise(Answer::Status(410));
    let world = World::new(None, Some(&receiver));
    world.signed(3);
    receiver.next().await;
    world.counts("webhook", "failed", 1).await;
    world.signed(4);
    let over = async {
        while !world.running.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, over).await.is_ok());
    assert!(receiver.is_quiet());
}

#[test]
fn pauses_grow_to_minutes_and_no_further() {
    assert_eq!(pause(1, u32::MAX), Duration::from_secs(1));
    assert_eq!(pause(3, 0), Duration::from_secs(2));
    assert_eq!(pause(50, u32::MAX), PAUSE_MAX);
    assert_eq!(pause(u32::MAX, 0), PAUSE_MAX / 2);
}
