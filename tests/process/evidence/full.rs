//! A disk that is full: the ledger's directory is a small file system of the gate's own, which is filled to its last page.
//!
//! It is mounted in a namespace that ends with the gate, so nothing is left behind, and is looked at through
//! `/proc/PID/root`. Where the system grants nobody such a namespace, the tests with a limit on the size of files
//! (`operations`, `approvals::change`) show the same, but for lines that are written in part.

use super::auditor;
use super::callers::{Callers, Heard, OnRecord};
use super::scene::{Held, setup};
use crate::backend::Backend;
use crate::client::get;
use crate::gate::Setup;
use crate::ledger;
use crate::wait::{run, until};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;

/// Becomes a gate whose ledger lies on a file system of one megabyte.
fn on_a_small_disk(setup: &Setup) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    command
        .arg(r#"mount -t tmpfs -o size=1m,mode=700 ledger "$0" && exec "$1" serve --config "$2""#);
    command
        .arg(setup.ledger())
        .arg(env!("CARGO_BIN_EXE_toolgate"))
        .arg(setup.config());
    command
}

/// Whether this system lets anybody mount such a thing.
async fn permitted() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    probe.arg("mount -t tmpfs probe /mnt");
    run(probe).await.status.success()
}

/// Takes the space that is left, to the last byte.
fn fill(path: &Path) {
    let mut ballast = File::create(path).unwrap();
    for bytes in [1 << 16, 1 << 12, 1] {
        let part = vec![b'x'; bytes];
        let fault = loop {
            if let Err(fault) = ballast.write_all(&part) {
                break fault;
            }
        };
        assert_eq!(fault.kind(), ErrorKind::StorageFull, "{fault}");
    }
}

fn copied(from: &Path, to: PathBuf) -> PathBuf {
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    to
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_filled_to_its_last_byte_forwards_nothing_unrecorded_and_takes_calls_once_there_is_space()
 {
    if !permitted().await {
        println!("no namespace with a file system of its own is granted here: not shown");
        return;
    }
    let backend = Backend::start("t").await;
    let setup = setup(&backend);
    std::fs::create_dir_all(setup.ledger()).unwrap();
    let gate = setup.started(on_a_small_disk(&setup)).await;
    let disk = PathBuf::from(format!(
        "/proc/{}/root{}",
        gate.id(),
        setup.ledger().display()
    ));
    let session = gate.mint("demo", "bot").await;
    let held = Held::open(&gate, &session, &setup).await;
    let callers = Callers::start(&gate, &session, 4);
    for _ in 0..3 {
        callers
            .hear(callers.answers(), 20, |call| call.status == 200)
            .await;
        let ballast = disk.join("ballast");
        fill(&ballast);
        callers.hear(callers.answers(), 1, Heard::unrecorded).await;
        // What a torn line gives back when it is cut off is a page, and that is good for a few calls more.
        until("not a page is left", || async {
            let heard = callers.hear(callers.answers(), 40, Heard::unrecorded).await;
            heard.iter().all(Heard::unrecorded).then_some(())
        })
        .await;
        assert_eq!(get(gate.metrics, "", "/readyz").await.status, 503);
        held.stays(&gate, &setup).await;
        std::fs::remove_file(&ballast).unwrap();
        let space = Instant::now();
        callers
            .hear(callers.answers(), 1, |call| call.status == 200)
            .await;
        let away = space.elapsed();
        println!("back after {away:?}");
        assert!(away < Duration::from_secs(5), "{away:?}");
    }
    held.runs(&gate, &setup, &backend).await;
    let heard = callers.stop().await;
    // The disk goes with the gate: what is on it is looked at while it lives, once the last outcome has come.
    let mut number = 0;
    let records = until("all ends are on record", || {
        number += 1;
        let copy = setup.config().with_file_name(format!("copy-{number}"));
        let copy = copied(&disk, copy);
        let served = heard
            .iter()
            .filter(|call| call.status == 200)
            .collect::<Vec<_>>();
        async move {
            let records = ledger::verified(&copy);
            let record = OnRecord::of(&records);
            let all = served.iter().all(|call| record.ended(&call.request));
            all.then_some((records, copy))
        }
    });
    let (records, copy) = records.await;
    OnRecord::of(&records).judge(&heard, &backend.all_seen());
    auditor::proven(&copy);
    gate.kill();
}
