//! Anchors: the ledger's newest checkpoint, kept where who can change the ledger can't, or is not the same person.
//!
//! A file (best on another volume, or one that can only be appended to) and a webhook. Each has a loop of its own beside the
//! journey, which nothing waits for. Only the newest checkpoint matters, since it covers all before it: one that could not
//! be handed over is superseded by the next, so nothing is queued and nothing is lost by a crash. They refuse to judge the
//! ledger: that is done when it is opened, by [`crate::ledger`], and by receivers.

mod file;
mod message;

use super::clock::{self, Clock};
use super::metrics::{AnchorKind, AnchorResult, Metrics};
use super::notify::send::{self, Attempt, Failure, Message};
use super::notify::target::Target;
use super::notify::{TargetError, locked};
use crate::config::LedgerSettings;
use crate::ledger::checkpoint::Checkpoint;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Hands checkpoints to whoever keeps them.
pub struct Anchors {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    newest: Newest,
    every: Duration,
    file: Option<Anchor>,
    webhook: Option<Anchor>,
}

/// The newest checkpoint there is: a signed note.
pub type Newest = Box<dyn Fn() -> Option<Arc<str>> + Send + Sync>;

/// One that keeps them, and what it has got.
struct Anchor {
    place: Place,
    got: Mutex<Got>,
}

enum Place {
    File(PathBuf),
    Webhook(Target),
}

#[derive(Default)]
struct Got {
    note: Option<Arc<str>>,
    /// The log hears of a fault once.
    failing: bool,
}

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handed {
    /// It has the newest.
    Over,
    /// There was no newer one than it has.
    Nothing,
    /// It does not have it; before when it does not want to be asked again.
    Failed(Option<Duration>),
    /// It has another one, or a larger one.
    Conflict,
    /// It wants none of this any more.
    Gone,
}

/// How often it is looked whether there is a new one, once one is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After the first attempt that failed; doubled by each that follows, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);
/// Longest that a receiver puts the next attempt off.
const AFTER_MAX: Duration = Duration::from_secs(3600);

impl Anchors {
    /// As the settings name them; perhaps none.
    ///
    /// # Errors
    /// [`TargetError`]: the webhook can't be sent to, as far as can be told without doing it.
    pub fn new(
        settings: &LedgerSettings,
        newest: Newest,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TargetError> {
        let file = settings.anchor_file.clone();
        let anchors = Anchors {
            clock,
            metrics,
            newest,
            every: settings.anchor_every,
            file: file.map(|path| Anchor::new(Place::File(path))),
            webhook: webhook(settings)?.map(|target| Anchor::new(Place::Webhook(target))),
        };
        anchors.metrics.anchors.expect(anchors.kinds());
        Ok(anchors)
    }

    /// Whether these settings' webhook could be sent to.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn check(settings: &LedgerSettings) -> Result<(), TargetError> {
        webhook(settings).map(drop)
    }

    /// Hands checkpoints over for as long as it is polled.
    pub async fn run(&self) {
        tokio::join!(
            self.keep(self.file.as_ref()),
            self.keep(self.webhook.as_ref())
        );
    }

    /// Once more, for the last checkpoint of a ledger that was closed; at most `bound`. What is missed here the next process
    /// hands over.
    pub async fn last(&self, bound: Duration) {
        let both = async {
            tokio::join!(
                self.once(self.file.as_ref()),
                self.once(self.webhook.as_ref())
            )
        };
        if timeout(bound, both).await.is_err() {
            tracing::warn!(
                "the last checkpoint did not reach its anchors; the next start hands it over"
            );
        }
    }

    async fn once(&self, anchor: Option<&Anchor>) {
        if let Some(anchor) = anchor {
            self.hand(anchor).await;
        }
    }

    async fn keep(&self, anchor: Option<&Anchor>) {
        let Some(anchor) = anchor else {
            return;
        };
        let mut failures = 0;
        loop {
            let handed = self.hand(anchor).await;
            failures = match handed {
                Handed::Failed(_) => failures + 1,
                _ => 0,
            };
            let pause = match handed {
                Handed::Over | Handed::Conflict => self.every,
                Handed::Nothing => self.every.min(LOOK_EVERY),
                Handed::Failed(after) => {
                    let chance = u32::from_ne_bytes(clock::random());
                    pause(failures, chance).max(after.unwrap_or_default().min(AFTER_MAX))
                }
                Handed::Gone => return,
            };
            sleep(pause).await;
        }
    }

    async fn hand(&self, anchor: &Anchor) -> Handed {
        let Some(note) = self.due(anchor) else {
            return Handed::Nothing;
        };
        match &anchor.place {
            Place::File(path) => self.append(path, anchor, note).await,
            Place::Webhook(target) => self.post(target, anchor, note).await,
        }
    }

    async fn append(&self, path: &Path, anchor: &Anchor, note: Arc<str>) -> Handed {
        let (path, text) = (path.to_owned(), Arc::clone(&note));
        let appended = tokio::task::spawn_blocking(move || {
            file::append(&path, &text).map_err(|error| format!("{}: {error}", path.display()))
        });
        match appended
            .await
            .unwrap_or_else(|error| Err(error.to_string()))
        {
            Ok(()) => self.has(anchor, note),
            Err(why) => self.failed(anchor, &why, None),
        }
    }

    async fn post(&self, target: &Target, anchor: &Anchor, note: Arc<str>) -> Handed {
        let now = self.clock.now().wall;
        let Some((id, payload)) = message::of(&note, now) else {
            return self.failed(anchor, &"the checkpoint can't be read", None);
        };
        let message = Message {
            id: &id,
            payload: &payload,
        };
        match send::attempt(target, message, now).await {
            Attempt::Delivered => self.has(anchor, note),
            Attempt::Gone => {
                tracing::error!(
                    "the ledger's anchor answered 410 Gone; it is told no more until a restart"
                );
                self.count(anchor, AnchorResult::Failed);
                Handed::Gone
            }
            Attempt::Failed {
                why: Failure::Status(409),
                ..
            } => self.conflict(anchor),
            Attempt::Failed { why, after } => self.failed(anchor, &why, after),
        }
    }

    /// The newest, where it is not what the anchor has.
    fn due(&self, anchor: &Anchor) -> Option<Arc<str>> {
        let newest = (self.newest)()?;
        let had = &locked(&anchor.got).note;
        had.as_ref()
            .is_none_or(|had| *had != newest)
            .then_some(newest)
    }

    fn has(&self, anchor: &Anchor, note: Arc<str>) -> Handed {
        let kind = anchor.kind();
        let time = Checkpoint::read(note.as_bytes()).and_then(|checkpoint| checkpoint.time);
        {
            let mut got = locked(&anchor.got);
            got.note = Some(note);
            if std::mem::take(&mut got.failing) {
                tracing::info!(%kind, "the ledger's anchor has the newest checkpoint again");
            }
        }
        if let Some(time) = time {
            self.metrics.anchors.anchored(kind, time);
        }
        // Last: who reads the counter finds the rest done.
        self.count(anchor, AnchorResult::Anchored);
        Handed::Over
    }

    fn failed(&self, anchor: &Anchor, why: &dyn fmt::Display, after: Option<Duration>) -> Handed {
        let kind = anchor.kind();
        if std::mem::replace(&mut locked(&anchor.got).failing, true) {
            tracing::debug!(%kind, %why, "the ledger's anchor did not take a checkpoint");
        } else {
            tracing::warn!(%kind, %why, "the ledger's anchor does not take checkpoints; the newest is tried again");
        }
        self.count(anchor, AnchorResult::Failed);
        Handed::Failed(after)
    }

    fn conflict(&self, anchor: &Anchor) -> Handed {
        locked(&anchor.got).failing = true;
        tracing::error!(
            "the ledger's anchor holds another or a larger checkpoint of this log (409): was the ledger restored from an \
             older copy, or does another gate write under its name? compare them: `toolgate ledger verify --checkpoint FILE`"
        );
        self.count(anchor, AnchorResult::Conflict);
        Handed::Conflict
    }

    fn count(&self, anchor: &Anchor, result: AnchorResult) {
        self.metrics.anchors.count(anchor.kind(), result);
    }

    fn kinds(&self) -> impl Iterator<Item = AnchorKind> {
        self.file.iter().chain(&self.webhook).map(Anchor::kind)
    }
}

impl Anchor {
    fn new(place: Place) -> Self {
        Anchor {
            place,
            got: Mutex::default(),
        }
    }

    fn kind(&self) -> AnchorKind {
        match &self.place {
            Place::File(_) => AnchorKind::File,
            Place::Webhook(_) => AnchorKind::Webhook,
        }
    }
}

fn webhook(settings: &LedgerSettings) -> Result<Option<Target>, TargetError> {
    let webhook = settings.anchor_webhook.as_ref();
    webhook
        .map(|webhook| Target::of_anchor(&webhook.url, &webhook.secrets))
        .transpose()
}

/// After so many failures one behind the other: between half of the step and all of it, by `chance`.
fn pause(failures: u32, chance: u32) -> Duration {
    let doubled = PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let half = doubled.min(PAUSE_MAX) / 2;
    half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds()).finish()
    }
}

#[cfg(test)]
mod tests;
