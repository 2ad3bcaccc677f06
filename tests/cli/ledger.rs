//! `toolgate ledger keygen` and `rotate`: keys, as who keeps them meets them.

use super::{NO, OK, UNAVAILABLE, USAGE, toolgate};
use crate::scene::Scene;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use toolgate::ledger::checkpoint::{Checkpoint, notes};
use toolgate::ledger::note::{Note, VerifierKey};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A gate ran on this folder, and ended.
async fn ran() -> TempDir {
    ended(Scene::start()).await
}

async fn ended(scene: Scene) -> TempDir {
    let Scene { folder, running } = scene;
    assert!(running.drain(Duration::from_secs(10)).await);
    folder
}

fn ledger(folder: &TempDir) -> PathBuf {
    folder.path().join("ledger")
}

/// The keys that the checkpoints name, in order; each note is checked with the key that was named before it.
fn signers(directory: &Path) -> Vec<VerifierKey> {
    let file = fs::read(directory.join("checkpoints")).unwrap();
    let mut signers: Vec<VerifierKey> = Vec::new();
    for (note, _) in notes(&file) {
        let note = Note::parse(note).unwrap();
        let checkpoint = Checkpoint::of(&note).unwrap();
        let named = checkpoint.key.into_iter().collect::<Vec<_>>();
        note.by(signers
            .last()
            .map_or(&named, |last| std::slice::from_ref(last)))
            .unwrap();
        if !named.is_empty() {
            // The new one has signed, too.
            note.by(&named).unwrap();
        }
        signers.extend(named);
    }
    signers
}

#[test]
fn a_made_key_is_its_owners_alone_and_only_its_public_half_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.key");
    let made = toolgate(&[
        "ledger",
        "keygen",
        "--name",
        "gate.example",
        "--out",
        text(&file),
    ])
    .ends(OK);
    let vkey = made.stdout.lines().next().unwrap();
    assert_eq!(VerifierKey::parse(vkey).unwrap().name(), "gate.example");
    let yaml = format!("  signing_key: {{ file: \"{}\" }}\n", text(&file));
    assert!(made.stdout.ends_with(&yaml), "{made:?}");
    let private = fs::read_to_string(&file).unwrap();
    assert!(private.starts_with("PRIVATE+KEY+gate.example+"));
    let secret = private.trim_end().rsplit('+').next().unwrap();
    assert!(!made.stdout.contains(secret) && !made.stderr.contains(secret));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let refused = toolgate(&["ledger", "keygen", "--out", text(&file)]);
    refused.ends(NO).complains("no key is ever overwritten");
    assert_eq!(fs::read_to_string(&file).unwrap(), private);
    let refused = toolgate(&["ledger", "keygen", "--name", "a b", "--out", "unused"]);
    refused.ends(USAGE).complains("white space");
    let other = folder.path().join("other.key");
    let shown = toolgate(&["ledger", "keygen", "--json", "--out", text(&other)])
        .ends(OK)
        .json();
    assert!(
        VerifierKey::parse(shown["vkey"].as_str().unwrap())
            .unwrap()
            .name()
            .starts_with("gate-")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledgers_own_key_is_rotated_while_no_gate_runs() {
    let scene = Scene::start();
    let directory = ledger(&scene.folder);
    toolgate(&["ledger", "rotate", text(&directory)])
        .ends(UNAVAILABLE)
        .complains(&format!("process {}", std::process::id()));
    let folder = ended(scene).await;
    let before = signers(&directory);
    let ran = toolgate(&["ledger", "rotate", text(&directory)]).ends(OK);
    let new = VerifierKey::parse(ran.stdout.lines().next().unwrap()).unwrap();
    assert_ne!(before[0], new);
    assert_eq!(signers(&directory), [before[0].clone(), new.clone()]);
    assert!(!directory.join("key.next").exists());
    let records = crate::scene::records_of(&folder);
    let rotated = records
        .iter()
        .find(|record| record["change"] == "key_rotated")
        .unwrap();
    assert_eq!(rotated["old_key"], before[0].to_string());
    assert_eq!(rotated["new_key"], new.to_string());

    // The gate goes on with it, and the next rotation with that.
    let folder = ended(Scene::start_in(folder)).await;
    assert_eq!(signers(&directory).last(), Some(&new));
    let config = folder.path().join("toolgate.yaml");
    let shown = toolgate(&["ledger", "rotate", "--json", "--config", text(&config)])
        .ends(OK)
        .json();
    assert_eq!(shown["old"], new.to_string());
    assert_eq!(signers(&directory).len(), 3);
    ended(Scene::start_in(folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_of_ones_own_the_new_one_goes_where_it_is_said_and_the_line_to_change_is_named()
{
    let folder = ran().await;
    let (directory, config) = (ledger(&folder), folder.path().join("toolgate.yaml"));
    let (first, second) = (
        folder.path().join("first.key"),
        folder.path().join("second.key"),
    );
    let rotate = |more: &[&str]| {
        let all = ["ledger", "rotate", "--config", text(&config)];
        toolgate(&[&all[..], more].concat())
    };
    // From the directory's own key to a file.
    let ran = rotate(&["--new", text(&first)]).ends(OK);
    let line = format!("  signing_key: {{ file: \"{}\" }}", text(&first));
    assert!(ran.stdout.contains(&line), "{ran:?}");
    // The line was not changed: the gate does not start, and says what is wrong.
    let refused = toolgate(&["serve", "--config", text(&config)]);
    refused.ends(UNAVAILABLE).complains("ledger.signing_key");
    let written = fs::read_to_string(&config).unwrap();
    let named = written.replace("/ledger' }", &format!("/ledger',{line} }}"));
    assert_ne!(named, written);
    fs::write(&config, &named).unwrap();
    let folder = ended(Scene::start_in(folder)).await;
    assert_eq!(signers(&directory).len(), 2);

    // And to the next file.
    rotate(&[]).ends(USAGE).complains("--new FILE");
    rotate(&["--new", text(&first)])
        .ends(NO)
        .complains("signs already");
    // A key that was made elsewhere is taken; one that others can read is not.
    toolgate(&["ledger", "keygen", "--out", text(&second)]).ends(OK);
    fs::set_permissions(&second, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = rotate(&["--new", text(&second)]).ends(UNAVAILABLE);
    refused.complains(&format!("chmod 600 {}", text(&second)));
    fs::set_permissions(&second, fs::Permissions::from_mode(0o600)).unwrap();
    rotate(&["--new", text(&second)]).ends(OK);
    fs::write(&config, named.replace("first.key", "second.key")).unwrap();
    let shown = toolgate(&["check", "--config", text(&config)]).ends(OK);
    let last = signers(&directory).pop().unwrap();
    assert!(
        shown.stdout.contains(&format!("key     {last}")),
        "{shown:?}"
    );
    ended(Scene::start_in(folder)).await;
}

#[test]
fn what_is_no_ledger_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let refused = toolgate(&["ledger", "rotate", text(folder.path())]);
    refused.ends(NO).complains("there is no ledger in");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
