//! The newest checkpoint, as an auditor fetches it; and a ledger that is older than what its anchor has seen.

use crate::scene::{Scene, key};
use http::Method;
use std::path::Path;
use std::time::Duration;
use toolgate::app::{App, Options};
use toolgate::config::{self, Secrets};
use toolgate::ledger::checkpoint::{Checkpoint, notes};
use toolgate::ledger::note::{Note, VerifierKey};

/// What the note of these bytes says, if this key signed it.
fn said(note: &[u8], key: &VerifierKey) -> Checkpoint {
    let note = Note::parse(note).unwrap();
    note.by(std::slice::from_ref(key)).unwrap();
    Checkpoint::of(&note).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_gets_the_signed_note_or_what_it_says_and_others_are_told_why_not() {
    let scene = Scene::start();
    scene.mint().await;
    let path = "/v1/ledger/checkpoint";
    let bearer = format!("Bearer {}", key("auditor"));
    let accepting = async |accept: &str| {
        let fields = [("authorization", bearer.as_str()), ("accept", accept)];
        scene.raw(Method::GET, path, &fields, "").await.expect(200)
    };
    let shown = accepting("application/json").await;
    assert_eq!(shown.headers["content-type"], "application/json");
    let shown = shown.json();
    let vkey = VerifierKey::parse(shown["key"].as_str().unwrap()).unwrap();
    let note = shown["note"].as_str().unwrap();
    let checkpoint = said(note.as_bytes(), &vkey);
    assert_eq!(shown["origin"], &*checkpoint.origin);
    assert_eq!(shown["size"], checkpoint.size);
    let root: String = checkpoint
        .root
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(shown["root"], root);
    assert!(shown["time"].as_str().unwrap().ends_with('Z'), "{shown}");

    for accept in ["*/*", "text/plain", "text/plain, application/json"] {
        let answer = accepting(accept).await;
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(answer.headers["vary"], "accept");
        let note = said(&answer.body, &vkey);
        assert!(note.size >= checkpoint.size);
    }
    scene.get("issuer", path).await.refused(403, "role_missing");
    scene
        .raw(Method::GET, path, &[], "")
        .await
        .refused(401, "credential_missing");
    let metrics = scene.metrics().await;
    assert!(
        metrics.contains("\ntoolgate_ledger_checkpoint_size "),
        "{metrics}"
    );
}

fn anchored(anchor: &Path) -> u64 {
    let file = std::fs::read(anchor).unwrap();
    let (last, _) = notes(&file).last().unwrap();
    Checkpoint::of(&Note::parse(last).unwrap()).unwrap().size
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_restored_from_an_older_copy_is_not_gone_on_with_where_an_anchor_knows_better() {
    let scene = Scene::start();
    let Scene { folder, running } = scene;
    assert!(running.drain(Duration::from_secs(10)).await);
    let (ledger, anchor) = (folder.path().join("ledger"), folder.path().join("anchor"));
    let server = folder.path().join("toolgate.yaml");
    let text = std::fs::read_to_string(&server).unwrap();
    let with = format!("/ledger', anchor: {{ file: '{}' }} }}", anchor.display());
    std::fs::write(&server, text.replace("/ledger' }", &with)).unwrap();

    let scene = Scene::start_in(folder);
    let Scene { folder, running } = scene;
    assert!(running.drain(Duration::from_secs(10)).await);
    let before = anchored(&anchor);
    assert_eq!(before, crate::scene::records_of(&folder).len() as u64);
    let backup = folder.path().join("backup");
    copy(&ledger, &backup);

    let scene = Scene::start_in(folder);
    scene.mint().await;
    let Scene { folder, running } = scene;
    assert!(running.drain(Duration::from_secs(10)).await);
    assert!(anchored(&anchor) > before);

    let lost = folder.path().join("lost");
    std::fs::rename(&ledger, &lost).unwrap();
    copy(&backup, &ledger);
    let loaded = config::load(&server, Secrets::Required).unwrap();
    let refused = App::start(loaded, Options::default())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("anchor"), "{refused}");
    // Nothing was changed: with what was lost put back, it goes on.
    std::fs::remove_dir_all(&ledger).unwrap();
    std::fs::rename(&lost, &ledger).unwrap();
    Scene::start_in(folder).mint().await;
}
