//! The server file's ledger: where it lies, how sure it is, who signs it, and who else keeps what it signed.

use super::notify::webhook;
use super::or;
use crate::config::error::{Place, Reports};
use crate::config::leaf::Text;
use crate::config::raw;
use crate::config::read::At;
use crate::config::secrets::Vault;
use crate::config::{AnchorWebhook, IntentRecord, LedgerLevel, LedgerSettings};
use std::path::{Component, Path, PathBuf};

pub fn ledger(
    raw: &raw::Ledger,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<LedgerSettings> {
    let signing_key = raw.signing_key.as_ref();
    let signing_key = signing_key.and_then(|at| at.value.file.as_ref());
    let signing_key = signing_key.and_then(|file| key_file(file, reports));
    let anchor = raw.anchor.as_ref().map(|at| &at.value);
    let anchor_webhook = anchor.and_then(|raw| anchor_webhook(raw, vault, reports));
    let directory = PathBuf::from(&raw.directory.as_ref()?.value.0);
    let anchor_file = anchor.and_then(|raw| raw.file.as_ref());
    if let Some(file) = anchor_file {
        warn_of_anchor_within(Path::new(&*file.value.0), &directory, file.place, reports);
    }
    let segment = raw.segment.as_ref().map(|at| &at.value);
    let default = LedgerSettings::new(directory);
    Some(LedgerSettings {
        intent: match raw.intent.as_ref().map(|at| at.value) {
            Some(raw::Intent::Full) | None => IntentRecord::Full,
            Some(raw::Intent::Digest) => IntentRecord::Digest,
            Some(raw::Intent::Omit) => IntentRecord::Omit,
        },
        segment_bytes_max: or(
            segment.and_then(|raw| raw.size.as_ref()),
            |size| size.0,
            default.segment_bytes_max,
        ),
        segment_age_max: or(
            segment.and_then(|raw| raw.age.as_ref()),
            |span| span.0,
            default.segment_age_max,
        ),
        level: match raw.level.as_ref().map(|at| at.value) {
            Some(raw::Level::Sync) => LedgerLevel::Sync,
            Some(raw::Level::Written) | None => LedgerLevel::Written,
            Some(raw::Level::Batched) => LedgerLevel::Batched,
        },
        signing_key,
        retain: or(raw.retain.as_ref(), |span| span.0, default.retain),
        anchor_file: anchor_file.map(|at| PathBuf::from(&at.value.0)),
        anchor_webhook,
        anchor_every: or(
            anchor.and_then(|raw| raw.every.as_ref()),
            |span| span.0,
            default.anchor_every,
        ),
        ..default
    })
}

/// `None`: reported.
fn key_file(file: &At<Text>, reports: &mut Reports) -> Option<PathBuf> {
    if file.value.0.starts_with(PRIVATE) {
        reports.error(
            file.place,
            "this is a private key, not the name of a file that holds one",
            "it was in a file that many may have read: make a new one, `toolgate ledger keygen --out FILE`, and write \
             `file: FILE`",
        );
        return None;
    }
    Some(PathBuf::from(&file.value.0))
}

/// Who has the gate's key but not this place can't change what was told to it.
fn anchor_webhook(
    raw: &raw::Anchor,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<AnchorWebhook> {
    let raw = &raw.webhook.as_ref()?.value;
    reports.enter("the ledger's anchor".to_owned());
    let (url, secrets) = webhook(raw, "checkpoints are", vault, reports);
    reports.leave();
    Some(AnchorWebhook { url, secrets })
}

fn warn_of_anchor_within(file: &Path, directory: &Path, place: Place, reports: &mut Reports) {
    if plain(file).starts_with(plain(directory)) {
        reports.warn(
            place,
            "the anchor's file is in the ledger's own directory, where it proves nothing",
            "whoever could change the ledger could change it, too: put it on another volume, best one that others keep",
        );
    }
}

/// A path as the working directory has it, without `.` and `..`; links are not followed.
fn plain(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            _ => plain.push(part),
        }
    }
    plain
}

/// What a private key's text begins with.
const PRIVATE: &str = "PRIVATE+KEY+";
