//! The console's pages of the ledger, of outcomes that nobody knows, and of what could not be delivered, without a browser.

use crate::console::{page, post, sign_in, text, token};
use crate::scene::Scene;
use http::Method;
use serde_json::json;
use std::io::Read as _;

/// A backend that takes a request and closes without an answer.
fn forgetful() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            drop(stream.read(&mut [0; 65536]));
        }
    });
    url
}

/// What is between two texts of a page.
fn between<'p>(page: &'p str, from: &str, to: &str) -> &'p str {
    let (_, rest) = page
        .split_once(from)
        .unwrap_or_else(|| panic!("no {from} in {page}"));
    rest.split(to).next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_finds_a_record_by_what_it_acted_on_and_the_story_it_belongs_to() {
    let scene = Scene::asking();
    let order = json!({ "project": "dev", "agent": "bot", "intent": "tidy <b>up</b> \u{202e}evil", "run": "run-42" });
    let (id, bot) = scene.mint_with(order).await;
    let held = scene.held(&bot, Method::DELETE, "/shop/items/7", "").await;
    let digest = scene.shown(&held).await["digest"].clone();
    let word = json!({ "decision": "deny", "digest": digest, "note": "item 7 <i>stays</i>" });
    let path = format!("/v1/approvals/{held}/decision");
    scene.post("dana", &path, &word).await.expect(200);
    scene
        .agent(&bot, Method::GET, "/shop/items/8?key=s3cret")
        .await
        .refused(502, "upstream_failed");
    scene
        .agent(&bot, Method::GET, "/shop/nowhere")
        .await
        .refused(403, "no_route");

    let auditor = sign_in(&scene, "auditor").await;
    let first = page(&scene, "/", &auditor).await.expect(303);
    assert_eq!(first.headers["location"], "/sessions");
    let found = page(
        &scene,
        "/ledger?resource=item%3A7&agent=&session=",
        &auditor,
    )
    .await
    .expect(200);
    let found = text(&found);
    for part in [
        "people asked",
        "held for people",
        "said no",
        "dana says:",
        "item 7 &#60;i&#62;stays&#60;/i&#62;",
        "/shop/items/7",
        "The agent claims:",
        "href=\"/ledger?resource=item:7\"",
        "value=\"item:7\"",
    ] {
        assert!(found.contains(part), "{part} in {found}");
    }
    assert!(!found.contains("/shop/items/8"), "{found}");
    let story = format!("/ledger/sessions/{id}");
    assert!(found.contains(&format!("href=\"{story}\"")), "{found}");

    let told = page(&scene, &story, &auditor).await.expect(200);
    let told = text(&told);
    let claim = between(told, "nobody has checked:", "</blockquote>");
    assert!(
        claim.contains("tidy &#60;b&#62;up&#60;/b&#62; <span class=\"mark\""),
        "{claim}"
    );
    assert!(
        !told.contains('\u{202e}') && !told.contains("s3cret"),
        "{told}"
    );
    let totals = between(told, "<dl class=\"totals\">", "</dl>");
    let total = |name: &str| {
        between(
            between(totals, &format!("<dt>{name}</dt>"), "</div>"),
            "<dd>",
            "</dd>",
        )
        .to_owned()
    };
    let totals = [
        "Calls",
        "Allowed",
        "Refused",
        "Waited for people",
        "Outcome unknown",
    ]
    .map(total);
    assert_eq!(totals, ["3", "1", "1", "1", "0"], "{told}");
    let line = between(told, "<ol class=\"story\">", "</ol>");
    let mut at = 0;
    for part in [
        "session minted",
        "by root",
        "people asked",
        "held for people",
        "answered 202",
        "said no",
        "by dana",
        "dana says:",
        "denied",
        "allowed",
        "item:8",
        "answered 502, upstream_failed",
        "refused",
        "no_route",
    ] {
        let next = line[at..].find(part);
        at += next.unwrap_or_else(|| panic!("{part} behind {} of {line}", &line[..at]));
    }
    assert!(
        told.contains("run-42") && told.contains("The session as it is now"),
        "{told}"
    );
    // An auditor is no approver: the approval's own page is not for them, the ledger's words on it are.
    assert!(!told.contains("href=\"/approvals/"), "{told}");
    assert!(
        told.contains(&format!("href=\"/ledger?approval={held}\"")),
        "{told}"
    );

    let session = page(&scene, &format!("/sessions/{id}"), &auditor)
        .await
        .expect(200);
    assert!(text(&session).contains(&format!("href=\"{story}\"")));
    let issuer = sign_in(&scene, "issuer").await;
    let session = page(&scene, &format!("/sessions/{id}"), &issuer)
        .await
        .expect(200);
    assert!(
        !text(&session).contains("/ledger"),
        "the ledger is the auditor's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_pages_are_for_auditors_and_for_each_its_own_projects() {
    let scene = Scene::asking();
    let (id, bot) = scene.mint().await;
    scene
        .agent(&bot, Method::GET, "/shop/items/8")
        .await
        .expect(502);
    let story = format!("/ledger/sessions/{id}");
    for (who, ledger, told) in [
        ("auditor", 200, 200),
        ("root", 200, 200),
        ("stranger", 200, 404),
        ("operator", 403, 403),
        ("issuer", 403, 403),
        ("dana", 403, 403),
    ] {
        let cookie = sign_in(&scene, who).await;
        let list = page(&scene, "/ledger", &cookie).await.expect(ledger);
        page(&scene, &story, &cookie).await.expect(told);
        let linked = text(&list).contains("href=\"/ledger\"");
        assert_eq!(linked, ledger == 200, "{who}");
        let sees = text(&list).contains("/shop/items/8");
        assert_eq!(sees, told == 200, "{who}: {}", text(&list));
    }
    let stranger = sign_in(&scene, "stranger").await;
    for path in [
        "/ledger?project=dev".to_owned(),
        format!("/ledger?session={id}"),
        "/ledger?text=items".to_owned(),
    ] {
        let list = page(&scene, &path, &stranger).await.expect(200);
        assert!(
            text(&list).contains("Nothing of your projects fits"),
            "{path}: {}",
            text(&list)
        );
    }
    let auditor = sign_in(&scene, "auditor").await;
    for path in [
        "/ledger/sessions/x",
        "/ledger/sessions/ses_00000000000000000000000000000000",
    ] {
        page(&scene, path, &auditor).await.expect(404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_asked_is_said_and_pages_go_back_to_the_beginning() {
    let scene = Scene::asking();
    let (id, bot) = scene.mint().await;
    for item in 0..60 {
        let path = format!("/shop/items/i{item}");
        scene.agent(&bot, Method::PATCH, &path).await.expect(403);
    }
    let auditor = sign_in(&scene, "auditor").await;
    for (query, part) in [
        ("since=yesterday", "`since` is"),
        ("decision=maybe", "`decision` is one of"),
        ("session=7", "`session` is"),
        ("colour=red", "`colour` is none of the filters"),
    ] {
        let answer = page(&scene, &format!("/ledger?{query}"), &auditor)
            .await
            .expect(400);
        assert!(text(&answer).contains(part), "{}", text(&answer));
        let kept = query.split_once('=').unwrap().1;
        let shown = text(&answer).contains(&format!("value=\"{kept}\""));
        let is_text = !query.starts_with("colour") && !query.starts_with("decision");
        assert!(shown || !is_text, "{query} stays in the form");
    }
    let mut path = format!("/ledger?session={id}&decision=deny");
    let mut items = Vec::new();
    for _ in 0..10 {
        let shown = page(&scene, &path, &auditor).await.expect(200);
        let shown = text(&shown);
        items.extend(shown.match_indices("/shop/items/i").map(|(at, found)| {
            let rest = &shown[at + found.len()..];
            rest.split(|c: char| !c.is_ascii_digit())
                .next()
                .unwrap()
                .parse::<u32>()
                .unwrap()
        }));
        let Some((before, _)) = shown.split_once("\" rel=\"next\"") else {
            break;
        };
        let (_, link) = before.rsplit_once("href=\"").unwrap();
        path = link.replace("&#38;", "&").replace("&amp;", "&");
    }
    let expected: Vec<u32> = (0..60).rev().collect();
    assert_eq!(items, expected, "each once, newest first");
    let proof = page(&scene, "/ledger", &auditor).await;
    let proof = between(text(&proof), "id=\"proof\"", "</section>").to_owned();
    assert!(proof.contains("toolgate ledger verify"), "{proof}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_checkpoint_and_its_key_stand_on_the_ledgers_page() {
    let scene = Scene::asking();
    let auditor = sign_in(&scene, "auditor").await;
    let shown = async {
        loop {
            let shown = page(&scene, "/ledger", &auditor).await.expect(200);
            if text(&shown).contains("Newest checkpoint") {
                return text(&shown).to_owned();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let shown = tokio::time::timeout(std::time::Duration::from_secs(30), shown);
    let shown = shown.await.expect("a checkpoint is signed within seconds");
    let file = scene.folder.path().join("ledger/checkpoints");
    let notes = std::fs::read_to_string(file).unwrap();
    let key = notes
        .lines()
        .find_map(|line| line.strip_prefix("key "))
        .unwrap();
    assert!(
        shown.contains(&key.replace('+', "&#43;")) || shown.contains(key),
        "{shown}"
    );
    assert!(between(&shown, "Newest checkpoint</dt><dd>", "</dd>").contains("records, signed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_says_in_the_console_how_a_run_ended_that_nobody_knows_of() {
    let scene = Scene::asking_before(&forgetful());
    let (_, bot) = scene.mint().await;
    let mut ids = Vec::new();
    for item in ["1", "2"] {
        let path = format!("/shop/items/{item}");
        let id = scene.held(&bot, Method::DELETE, &path, "").await;
        scene.says("dana", &id, "approve").await.expect(200);
        let fields = [("content-type", "application/json")];
        let ran = scene
            .agent_sends(&bot, Method::DELETE, &path, &fields, "")
            .await;
        ran.refused(409, "outcome_unknown");
        ids.push(id);
    }
    let (operator, approver) = (
        sign_in(&scene, "operator").await,
        sign_in(&scene, "dana").await,
    );
    // Both see in the inbox that there are such; only the operator is asked.
    for cookie in [&operator, &approver] {
        let inbox = page(&scene, "/", cookie).await.expect(200);
        let unknown = between(text(&inbox), "id=\"unknown\"", "</section>");
        assert!(
            ids.iter()
                .all(|id| unknown.contains(&format!("/approvals/{id}"))),
            "{unknown}"
        );
    }
    let path = format!("/approvals/{}", ids[0]);
    let shown = page(&scene, &path, &approver).await.expect(200);
    assert!(
        !text(&shown).contains(&format!("action=\"{path}/resolve\"")),
        "{}",
        text(&shown)
    );
    let csrf = token(&shown);
    let form = |csrf: &str, ran: &str, note: &str| format!("ran={ran}&note={note}&csrf={csrf}");
    let resolve = format!("{path}/resolve");
    post(&scene, &resolve, &approver, &form(&csrf, "yes", "x"))
        .await
        .expect(403);

    let shown = page(&scene, &path, &operator).await.expect(200);
    for part in [
        "What happened?",
        &format!("action=\"{resolve}\""),
        "It ran",
        "It did not run",
        "Not shown to your role",
    ] {
        assert!(text(&shown).contains(part), "{part}: {}", text(&shown));
    }
    let csrf = token(&shown);
    // Not without saying how one knows, nor with an answer that is none; nor by somebody else's form.
    let empty = post(&scene, &resolve, &operator, &form(&csrf, "yes", "+"))
        .await
        .expect(400);
    assert!(
        text(&empty).contains("say how you know"),
        "{}",
        text(&empty)
    );
    post(&scene, &resolve, &operator, &form(&csrf, "perhaps", "x"))
        .await
        .expect(400);
    post(&scene, &resolve, &operator, &form("x", "yes", "x"))
        .await
        .expect(403);
    assert_eq!(scene.shown(&ids[0]).await["state"], "unknown");

    let done = post(
        &scene,
        &resolve,
        &operator,
        &form(&csrf, "yes", "its+log+has+it"),
    )
    .await
    .expect(303);
    assert_eq!(done.headers["location"], "/");
    assert_eq!(scene.shown(&ids[0]).await["state"], "executed");
    let late = post(&scene, &resolve, &operator, &form(&csrf, "no", "x")).await;
    assert!(late.status == 409 || late.status == 403, "{}", text(&late));
    assert_eq!(scene.shown(&ids[0]).await["state"], "executed");
    let resolve = format!("/approvals/{}/resolve", ids[1]);
    post(
        &scene,
        &resolve,
        &operator,
        &form(&csrf, "no", "its+log+has+no+such+call"),
    )
    .await
    .expect(303);
    assert_eq!(scene.shown(&ids[1]).await["state"], "approved");
    let inbox = page(&scene, "/", &operator).await.expect(200);
    assert!(
        text(&inbox).contains("id=\"unknown\" data-live aria-labelledby=\"unknown-title\" hidden")
    );
    // And the ledger says who found out what.
    let auditor = sign_in(&scene, "auditor").await;
    let list = page(&scene, "/ledger?principal=operator&kind=approval", &auditor)
        .await
        .expect(200);
    for part in [
        "outcome found out",
        "operator says:",
        "its log has it",
        "its log has no such call",
    ] {
        assert!(text(&list).contains(part), "{part}: {}", text(&list));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_a_visitor_says_which_of_its_projects_are_in_shadow_and_what_passed_there() {
    let scene = Scene::asking();
    let (_, bot) = scene.mint().await;
    let auditor = sign_in(&scene, "auditor").await;
    let before = page(&scene, "/ledger", &auditor).await.expect(200);
    assert!(!text(&before).contains("in shadow:"), "{}", text(&before));
    for project in ["dev", "prod"] {
        let file = scene.project(project);
        let yaml = std::fs::read_to_string(&file).unwrap();
        std::fs::write(
            &file,
            yaml.replacen("version: 1\n", "version: 1\nmode: shadow\n", 1),
        )
        .unwrap();
    }
    scene
        .post("operator", "/v1/policy/reload", &json!({}))
        .await
        .expect(200);
    scene
        .agent(&bot, Method::POST, "/shop/vault")
        .await
        .refused(502, "upstream_failed");
    let said =
        "Project dev is in shadow: what the policy denies there is recorded and let through.";
    for path in [
        "/ledger",
        "/ledger?shadow=deny&reason=grant_missing",
        "/sessions",
    ] {
        let shown = page(&scene, path, &auditor).await.expect(200);
        let shown = text(&shown);
        assert!(shown.contains(said), "{path}: {shown}");
        assert!(!shown.contains("Project prod"), "{path}: {shown}");
    }
    let found = page(&scene, "/ledger?shadow=deny", &auditor)
        .await
        .expect(200);
    let found = text(&found);
    for part in ["let through in shadow", "would be refused: grant_missing"] {
        assert!(found.contains(part), "{part}: {found}");
    }
}
