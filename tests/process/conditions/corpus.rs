//! The public collection of texts that JSON's readers are compared by (JSONTestSuite), where `TOOLGATE_CORPORA` names a
//! folder with it: what must be accepted is forwarded as it came, what must be refused is refused, and of the rest each
//! text is one or the other.

use super::{End, Scene, UNREADABLE, json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;

/// What the collection accepts and a judge can't: a name twice in one object.
const JUDGED_OTHERWISE: [&str; 2] = [
    "y_object_duplicated_key.json",
    "y_object_duplicated_key_and_value.json",
];

/// Two texts are too long for the collection's table.
fn generated(name: &str) -> Vec<u8> {
    match name {
        "n_structure_100000_opening_arrays.json" => b"[".repeat(100_000),
        "n_structure_open_array_object.json" => b"[{\"\":".repeat(50_000),
        other => panic!("{other} is not in the table"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_collection_of_json_texts_is_judged_as_it_says() {
    let Some(folder) = std::env::var_os("TOOLGATE_CORPORA") else {
        eprintln!("skipped: TOOLGATE_CORPORA names no folder with json_testsuite.tsv");
        return;
    };
    let table = std::fs::read_to_string(Path::new(&folder).join("json_testsuite.tsv")).unwrap();
    let scene = Scene::open().await;
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for row in table.lines().filter(|row| !row.starts_with('#')) {
        let cells: Vec<&str> = row.split('\t').collect();
        let [name, class, bytes, content, ..] = cells[..] else {
            panic!("{row}");
        };
        let mut body = STANDARD.decode(content).unwrap_or_default();
        if body.len() != bytes.parse::<usize>().unwrap() {
            body = generated(name);
        }
        asked += 1;
        let order = json("/t/mirror/json", body);
        let refused = scene.differs(name, &order, UNREADABLE).await;
        let accepted = match refused {
            None => false,
            Some(_) => match scene.differs(name, &order, End::By("json")).await {
                None => true,
                Some(neither) => {
                    wrong.push(neither);
                    continue;
                }
            },
        };
        let must = match class {
            "y" => Some(!JUDGED_OTHERWISE.contains(&name)),
            "n" => Some(false),
            _ => None,
        };
        if must.is_some_and(|must| must != accepted) {
            wrong.push(format!("{name}: accepted is {accepted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked > 300, "{asked} texts");
}
