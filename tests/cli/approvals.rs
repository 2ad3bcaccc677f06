//! `toolgate approvals` and `toolgate grants` against a gate that runs.

use crate::scene::{Scene, key};
use crate::{NO, OK, Ran, UNAVAILABLE, USAGE, toolgate, toolgate_with};
use http::Method;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

const ID: &str = "apr_00000000000000000000000000000000";

impl Scene {
    fn admin(&self) -> String {
        format!("http://{}", self.running.addresses.admin)
    }

    /// The command with a principal's key, off the runtime's threads.
    fn run(&self, principal: &str, arguments: &[&str]) -> Ran {
        let (admin, key) = (self.admin(), key(principal));
        let environment = [("TOOLGATE_ADMIN", admin.as_str()), ("TOOLGATE_KEY", &key)];
        tokio::task::block_in_place(|| toolgate_with(arguments, &environment))
    }

    /// A held DELETE whose every text is hostile.
    async fn hostile(&self) -> (String, String) {
        let (_, token) = self.mint().await;
        let fields = [
            ("content-type", "text/plain"),
            ("toolgate-intent", "tidy up%E2%80%AEevil"),
        ];
        let body = "\u{1b}[2Jup \u{202e}gnp.exe\u{200b}\nnext      forged";
        let answer = self
            .agent_sends(&token, Method::DELETE, "/shop/items/7?q=%1B", &fields, body)
            .await
            .expect(202)
            .json();
        (token, answer["approval"].as_str().unwrap().to_owned())
    }
}

/// No order to a terminal, and nothing that hides or turns around.
#[track_caller]
fn tame(text: &str) {
    let wild = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{200b}".contains(c);
    assert!(!text.chars().any(wild), "{text:?}");
}

#[test]
fn what_an_approval_is_called_and_what_is_needed_is_said_before_anything_is_asked() {
    toolgate(&["approvals", "show", "7"])
        .ends(USAGE)
        .complains("apr_");
    toolgate(&["approvals", "list", "--state", "open"])
        .ends(USAGE)
        .complains("pending");
    toolgate(&["approvals", "approve", ID, "--digest", "AB"])
        .ends(USAGE)
        .complains("64 lower-case");
    toolgate(&["approvals", "resolve", ID, "--note", "x"])
        .ends(USAGE)
        .complains("--did-not-run");
    // Nobody is there to be asked, and nothing was shown.
    toolgate(&["approvals", "approve", ID])
        .ends(USAGE)
        .complains("--digest");
    toolgate(&["approvals", "list"])
        .ends(USAGE)
        .complains("TOOLGATE_KEY");
}

#[test]
fn watching_a_gate_that_is_not_there_ends_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let key = key("dana");
    let environment = [("TOOLGATE_KEY", key.as_str()), ("TOOLGATE_ADMIN", &admin)];
    toolgate_with(&["approvals", "watch"], &environment)
        .ends(UNAVAILABLE)
        .complains(&admin);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_listed_shown_and_approved_by_the_digest_that_was_shown() {
    let scene = Scene::asking();
    let ran = scene.run("dana", &["approvals", "list"]).ends(OK);
    assert_eq!(ran.stdout, "nothing waits for a person\n");
    let (_, id) = scene.hostile().await;
    let ran = scene.run("dana", &["approvals", "list"]).ends(OK);
    tame(&ran.stdout);
    for words in [
        "DELETE",
        "/shop/items/7?q=%1B",
        "item:7",
        "0 of 1",
        &id[..10],
    ] {
        assert!(ran.stdout.contains(words), "{words} in {ran:#?}");
    }
    let listed = scene
        .run("dana", &["approvals", "list", "--json"])
        .ends(OK)
        .json();
    assert_eq!(listed[0]["id"], id);
    let ran = scene.run("dana", &["approvals", "show", &id]).ends(OK);
    tame(&ran.stdout);
    for words in [
        "can't be undone",
        "the agent claims: tidy up[U+202E]evil",
        "  | [U+001B][2Jup [U+202E]gnp.exe[U+200B]\n  | next      forged\n",
        "content-type: text/plain",
        "chain      default: 0 of 1 agree; decided by ops",
        "what this session did",
    ] {
        assert!(ran.stdout.contains(words), "{words} in {}", ran.stdout);
    }
    let shown = scene
        .run("dana", &["approvals", "show", &id, "--json"])
        .ends(OK)
        .json();
    let digest = shown["digest"].as_str().unwrap();
    assert!(shown["history"]["items"].is_array());

    let other = "0".repeat(64);
    scene
        .run("dana", &["approvals", "approve", &id, "--digest", &other])
        .ends(NO)
        .complains("look at it again");
    scene
        .run("clerk", &["approvals", "approve", &id, "--digest", digest])
        .ends(NO)
        .complains("members of ops");
    let ran = scene
        .run(
            "dana",
            &[
                "approvals",
                "approve",
                &id,
                "--digest",
                digest,
                "--note",
                "go",
            ],
        )
        .ends(OK);
    assert!(ran.stdout.contains("approved: it runs once"), "{ran:#?}");
    assert_eq!(scene.shown(&id).await["votes"][0]["note"], "go");
    scene
        .run("erin", &["approvals", "deny", &id])
        .ends(NO)
        .complains("approved already");
    scene
        .run("dana", &["approvals", "show", ID])
        .ends(NO)
        .complains("no approval");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_approved_with_yes_is_shown_all_the_same_and_a_deny_says_why() {
    let scene = Scene::asking();
    let (token, id) = scene.hostile().await;
    let ran = scene
        .run("dana", &["approvals", "approve", &id, "--yes"])
        .ends(OK);
    assert!(
        ran.stdout.contains("header fields that will be forwarded"),
        "{ran:#?}"
    );
    tame(&ran.stdout);
    let id = scene.held(&token, Method::POST, "/shop/orders", "{}").await;
    let json = scene
        .run("dana", &["approvals", "approve", &id, "--yes", "--json"])
        .ends(OK)
        .json();
    assert_eq!(
        (&json["state"], &json["agreeing"]),
        (&json!("pending"), &json!(1))
    );
    let ran = scene
        .run("erin", &["approvals", "deny", &id, "--note", "too dear"])
        .ends(OK);
    assert_eq!(ran.stdout, format!("{id}: denied\n"));
    assert_eq!(scene.shown(&id).await["ending"]["note"], "too dear");
    let ran = scene
        .run("dana", &["approvals", "list", "--state", "denied"])
        .ends(OK);
    assert!(ran.stdout.contains("denied"), "{ran:#?}");
    scene
        .run(
            "operator",
            &["approvals", "resolve", &id, "--ran", "--note", "x"],
        )
        .ends(NO)
        .complains("not unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_given_listed_and_revoked_and_one_that_needs_a_person_is_said_to_wait() {
    let scene = Scene::asking();
    let (session, _) = scene.mint().await;
    let give = |scope: &str, more: &[&str]| {
        let base = [
            "grants",
            "give",
            "--session",
            &session,
            "--scope",
            scope,
            "--reason",
            "r",
        ];
        scene.run("issuer", &[&base[..], more].concat())
    };
    let given = give(
        "items.write",
        &[
            "--resource",
            "item:1",
            "--uses",
            "2",
            "--ttl",
            "1m",
            "--json",
        ],
    );
    let grant = given.ends(OK).json()["id"].as_str().unwrap().to_owned();
    let ran = scene
        .run("issuer", &["grants", "list", "--session", &session])
        .ends(OK);
    assert!(
        ran.stdout.contains("items.write") && ran.stdout.contains("item:1"),
        "{ran:#?}"
    );
    let ran = scene.run("issuer", &["grants", "revoke", &grant]).ends(OK);
    assert_eq!(ran.stdout, format!("revoked {grant}\n"));
    give("items.read", &[]).ends(NO);
    let ran = give("vault.open", &[]).ends(OK);
    assert!(
        ran.stdout
            .contains("not given yet: a person must agree (apr_"),
        "{ran:#?}"
    );
    let listed = scene
        .run("dana", &["approvals", "list", "--json"])
        .ends(OK)
        .json();
    let id = listed[0]["id"].as_str().unwrap();
    let ran = scene
        .run("dana", &["approvals", "approve", id, "--yes"])
        .ends(OK);
    assert!(ran.stdout.contains("grant vault.open"), "{ran:#?}");
    let ran = scene
        .run("issuer", &["grants", "list", "--session", &session])
        .ends(OK);
    assert!(ran.stdout.contains("vault.open"), "{ran:#?}");
}

/// A command that goes on until it is ended.
struct Watching {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(scene: &Scene, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_toolgate"))
            .args(["approvals", "watch"])
            .args(arguments)
            .env("TOOLGATE_ADMIN", scene.admin())
            .env("TOOLGATE_KEY", key("dana"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line, whenever it comes.
    fn line(&mut self) -> String {
        tokio::task::block_in_place(|| self.lines.next().unwrap().unwrap())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_watch_prints_a_line_for_each_event() {
    let scene = Scene::asking();
    let (token, first) = scene.hostile().await;
    let mut text = Watching::start(&scene, &[]);
    let mut json = Watching::start(&scene, &["--json"]);
    let parsed = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    // What waits already comes first.
    let line = text.line();
    tame(&line);
    assert!(line.contains("waiting") && line.contains(&first), "{line}");
    assert!(
        line.contains("dev/bot  DELETE /shop/items/7?q=%1B"),
        "{line}"
    );
    let line = parsed(&json.line());
    assert_eq!(
        (&line["event"], &line["approval"]["id"]),
        (&json!("waiting"), &json!(first))
    );
    let second = scene
        .held(&token, Method::DELETE, "/shop/items/2", "")
        .await;
    let line = text.line();
    assert!(
        line.contains("requested") && line.contains(&second),
        "{line}"
    );
    let line = parsed(&json.line());
    assert_eq!(
        (&line["event"], &line["data"]["change"]),
        (&json!("approval"), &json!("requested"))
    );
    assert_eq!(line["approval"]["call"]["target"], "/shop/items/2");
    scene.says("erin", &second, "deny").await.expect(200);
    let mut line = json.line();
    while !line.contains("\"denied\"") {
        line = json.line();
    }
    assert_eq!(parsed(&line)["approval"]["state"], "denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_ends_with_no_when_its_key_is_taken_away() {
    let scene = Scene::asking();
    scene.hostile().await;
    let mut watching = Watching::start(&scene, &[]);
    watching.line();
    let mut people = Scene::people();
    people.retain(|(name, ..)| *name != "dana");
    scene.write_server("127.0.0.1:0", &people);
    scene
        .post("operator", "/v1/policy/reload", &json!({}))
        .await
        .expect(200);
    let code = tokio::task::block_in_place(|| watching.child.wait().unwrap().code());
    assert_eq!(code, Some(NO));
}

/// What a person does at a terminal, and what became of it.
fn at_a_terminal(scene: &Scene, steps: &Value, arguments: &[&str]) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/terminal.py");
    let mut command = Command::new("python3");
    command
        .args([script, &steps.to_string(), env!("CARGO_BIN_EXE_toolgate")])
        .args(arguments)
        .env("TOOLGATE_ADMIN", scene.admin())
        .env("TOOLGATE_KEY", key("dana"))
        .env("TERM", "xterm-256color");
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let played: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(played["left"], json!([]), "{played:#}");
    assert_eq!(played["restored"], true, "{played:#}");
    // Nothing of what the agent wrote is among the orders.
    let written = played["written"].as_str().unwrap();
    assert!(
        !written.contains("\u{1b}[2Jup") && !written.contains('\u{202e}'),
        "{written:?}"
    );
    played
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_approve_shows_the_request_and_asks() {
    let scene = Scene::asking();
    let (_, id) = scene.hostile().await;
    let steps = json!([["Approve exactly this\\?", "n\r"]]);
    let played = at_a_terminal(&scene, &steps, &["approvals", "approve", &id]);
    assert_eq!(played["code"], NO, "{played:#}");
    assert_eq!(scene.shown(&id).await["state"], "pending");
    let steps = json!([["Approve exactly this\\?", "y\r"]]);
    let played = at_a_terminal(&scene, &steps, &["approvals", "approve", &id]);
    assert_eq!(played["code"], OK, "{played:#}");
    assert_eq!(scene.shown(&id).await["state"], "approved");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_inbox_decides_what_it_shows_and_gives_the_terminal_back() {
    let scene = Scene::asking();
    let (token, first) = scene.hostile().await;
    let second = scene
        .held(&token, Method::DELETE, "/shop/items/2", "")
        .await;
    let steps = json!([
        ["2 wait for a person", "a"],
        ["header fields that will be forwarded", "a"],
        ["Approve: a note", "go\r"],
        ["Approve exactly this \\(digest", "y"],
        ["1 waits for a person", "\r"],
        ["resource   item:2", "d"],
        ["Deny: a note", "\r"],
        ["Deny exactly this \\(digest", "y"],
        ["nothing waits for a person", "q"],
    ]);
    let played = at_a_terminal(&scene, &steps, &["approvals", "watch"]);
    assert_eq!(played["code"], OK, "{played:#}");
    let written = played["written"].as_str().unwrap();
    assert!(
        written.contains("\u{1b}[?1049h") && written.contains("\u{1b}[?1049l"),
        "{written:?}"
    );
    let shown = scene.shown(&first).await;
    assert_eq!(
        (&shown["state"], &shown["votes"][0]["note"]),
        (&json!("approved"), &json!("go"))
    );
    assert_eq!(scene.shown(&second).await["state"], "denied");
    // Ctrl-C, and a key that is no good, give it back too.
    let played = at_a_terminal(
        &scene,
        &json!([["nothing waits", "\u{3}"]]),
        &["approvals", "watch"],
    );
    assert_eq!(played["code"], OK, "{played:#}");
}
