//! Ledgers that the gate's own writer made: opened and closed several times, rolled, rotated, with segments dropped.

use super::forge::{Chance, Forge, Log, key, read};
use secrecy::ExposeSecret as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use toolgate::config::LedgerSettings;
use toolgate::ledger::record::Event;
use toolgate::ledger::{Ledger, Level};
use toolgate::policy::time::Timestamp;

/// One of some shape.
pub fn any(seed: u64, folder: &Path) -> Forge {
    let mut chance = Chance(seed);
    let directory = folder.join(format!("genuine-{seed}"));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("instance"), "gate-1\n").unwrap();
    let mut forge = Forge::new(seed);
    (forge.past, forge.genuine) = (Vec::new(), true);
    let time = Arc::new(AtomicI64::new(1_700_000_000_000_000));
    for _ in 0..2 + chance.below(4) {
        session(&mut forge, &mut chance, &directory, &time);
        forge.log = Log::read(&directory);
        forge.last = forge.log.notes().last().map(|note| read(note));
        forge.remember();
        time.fetch_add(chance.below(60) as i64 * DAY, Ordering::Relaxed);
    }
    // States from before a segment was dropped can't be compared with those behind it.
    let first = *forge.log.segments.keys().next().unwrap();
    forge.past.retain(|past| {
        past.log.segments.contains_key(&first) && *past.log.segments.keys().next().unwrap() == first
    });
    forge
}

fn session(forge: &mut Forge, chance: &mut Chance, directory: &Path, time: &Arc<AtomicI64>) {
    let signer = *forge.keys.last().unwrap();
    let file = directory.with_extension("key");
    std::fs::write(&file, key(signer).to_text().expose_secret()).unwrap();
    let mut only_ours = std::fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut only_ours, 0o600);
    std::fs::set_permissions(&file, only_ours).unwrap();
    let settings = LedgerSettings {
        segment_bytes_max: 1500,
        signing_key: Some(file),
        retain: Duration::from_secs(60 * 24 * 3600),
        ..LedgerSettings::new(directory)
    };
    let clock = Arc::clone(time);
    let now = move || Timestamp::from_micros(clock.load(Ordering::Relaxed));
    let ledger = Ledger::open(&settings, now).unwrap();
    let wait = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for number in 0..chance.below(16) {
        let detail = format!("intent {number} \"ü\"\n");
        let event = Event::Gate {
            change: "note",
            version: "0",
            detail: &detail,
        };
        let at = Timestamp::from_micros(time.fetch_add(1_000_000, Ordering::Relaxed));
        let level = if chance.one_in(3) {
            Level::Sync
        } else {
            Level::Written
        };
        wait.block_on(ledger.append(&event, at, level)).unwrap();
    }
    if chance.one_in(4) && forge.keys.len() < 4 {
        let next = forge.keys.len() as u8 + 1;
        ledger.rotate(key(next)).unwrap();
        forge.keys.push(next);
    }
    ledger.close().unwrap();
}

const DAY: i64 = 86_400_000_000;
