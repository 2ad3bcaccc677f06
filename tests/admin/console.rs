//! The console without a browser: what it says to one, who is let in, and what ends a visit.

use crate::scene::{Answer, Scene, key};
use http::Method;
use std::time::Duration;

/// What a browser sends with a form of the console's own page.
const OWN: (&str, &str) = ("sec-fetch-site", "same-origin");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

pub async fn post(scene: &Scene, path: &str, cookie: &str, form: &str) -> Answer {
    scene
        .raw(Method::POST, path, &[OWN, FORM, ("cookie", cookie)], form)
        .await
}

pub async fn page(scene: &Scene, path: &str, cookie: &str) -> Answer {
    scene
        .raw(Method::GET, path, &[("cookie", cookie)], "")
        .await
}

/// The cookie of a principal who signs in.
pub async fn sign_in(scene: &Scene, principal: &str) -> String {
    let form = format!("to=%2F&key={}", key(principal));
    let answer = post(scene, "/sign-in", "", &form).await.expect(303);
    let set = answer.headers["set-cookie"].to_str().unwrap();
    let (pair, attributes) = set.split_once(';').unwrap();
    assert_eq!(attributes, " Path=/; Secure; HttpOnly; SameSite=Strict");
    assert!(pair.starts_with("__Host-toolgate="), "{set}");
    pair.to_owned()
}

pub fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

/// What the forms of a page carry.
pub fn token(answer: &Answer) -> String {
    let (_, rest) = text(answer).split_once("name=\"csrf\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn every_page_tells_the_browser_to_run_frame_keep_and_tell_nothing() {
    let scene = Scene::start();
    let cookie = sign_in(&scene, "operator").await;
    for path in [
        "/",
        "/sessions",
        "/policy",
        "/approvals/x",
        "/console/script.js",
        "/console/style.css",
        "/favicon.ico",
    ] {
        for cookie in ["", &cookie] {
            let answer = page(&scene, path, cookie).await;
            let said = |name: &str| answer.headers[name].to_str().unwrap();
            assert_eq!(
                said("content-security-policy"),
                "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
            );
            assert_eq!(said("x-content-type-options"), "nosniff");
            assert_eq!(said("referrer-policy"), "no-referrer");
            assert_eq!(said("cache-control"), "no-store");
            assert_eq!(said("cross-origin-opener-policy"), "same-origin");
            assert_eq!(said("cross-origin-resource-policy"), "same-origin");
            let inline = ["<style", " style=", " onclick=", "javascript:", "<script>"];
            if path.starts_with("/console") {
                continue;
            }
            for found in inline {
                assert!(!text(&answer).contains(found), "{path}: {found}");
            }
        }
    }
}

#[tokio::test]
async fn who_is_not_signed_in_sees_the_way_in_and_nothing_else() {
    let scene = Scene::start();
    let (session, _) = scene.mint().await;
    let path = format!("/sessions/{session}");
    for cookie in ["", "__Host-toolgate=x", "__Host-toolgate="] {
        let answer = page(&scene, &path, cookie).await.expect(200);
        assert!(text(&answer).contains("<h1>Sign in</h1>"));
        assert!(text(&answer).contains(&format!("name=\"to\" value=\"{path}\"")));
        assert!(!text(&answer).contains("bot"), "{}", text(&answer));
    }
    // The key of the API is not one of the console's cookies, nor the other way round.
    let bearer = format!("Bearer {}", key("operator"));
    let answer = scene
        .raw(Method::GET, "/sessions", &[("authorization", &bearer)], "")
        .await;
    assert!(text(&answer).contains("<h1>Sign in</h1>"));
    let cookie = sign_in(&scene, "operator").await;
    page(&scene, "/v1/sessions", &cookie)
        .await
        .refused(401, "credential_missing");
    let seen = page(&scene, &path, &cookie).await.expect(200);
    assert!(text(&seen).contains("Session of bot"));
    // By a link of another site the browser brings no cookie; it is led on by a page of the console's own.
    let linked = scene
        .raw(Method::GET, &path, &[("sec-fetch-site", "cross-site")], "")
        .await
        .expect(200);
    assert!(text(&linked).contains(&format!("content=\"0; url={path}\"")));
    // From a page that was open too long: no doubt is left that nothing happened.
    let late = post(&scene, &format!("{path}/quarantine"), "", "reason=x")
        .await
        .expect(403);
    assert!(
        text(&late).contains("nothing was done")
            && text(&late).contains(&format!("value=\"{path}\""))
    );
}

#[tokio::test]
async fn wrong_keys_are_summed_up_and_after_ten_an_address_has_to_wait() {
    let scene = Scene::start();
    let wrong = format!("key={}", key("nobody"));
    for _ in 0..10 {
        let answer = post(&scene, "/sign-in", "", &wrong).await.expect(403);
        assert!(text(&answer).contains("not the key"));
        assert!(answer.headers.get("set-cookie").is_none());
    }
    let good = format!("key={}", key("operator"));
    let answer = post(&scene, "/sign-in", "", &good).await.expect(429);
    assert!(text(&answer).contains("Too many attempts"));
    let failed = || scene.recorded("principal", "failed");
    let written = async {
        while failed().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), written)
        .await
        .expect("failures are written down within seconds");
    let counted: u64 = failed()
        .iter()
        .filter_map(|record| record["count"].as_u64())
        .sum();
    assert!((1..=11).contains(&counted), "{counted}");
}

#[tokio::test]
async fn a_form_counts_with_its_visits_token_from_its_own_page_and_not_otherwise() {
    let scene = Scene::start();
    let (session, _) = scene.mint().await;
    let (cookie, other) = (
        sign_in(&scene, "operator").await,
        sign_in(&scene, "operator").await,
    );
    let path = format!("/sessions/{session}/quarantine");
    let page_of = |cookie: String| {
        let path = format!("/sessions/{session}");
        let scene = &scene;
        async move { page(scene, &path, &cookie).await.expect(200) }
    };
    let csrf = token(&page_of(cookie.clone()).await);
    let foreign = token(&page_of(other.clone()).await);
    assert_ne!(csrf, foreign);
    let form = |csrf: &str| format!("reason=odd&csrf={csrf}");
    for wrong in [form(""), form(&foreign), "reason=odd".to_owned()] {
        post(&scene, &path, &cookie, &wrong).await.expect(403);
    }
    for site in ["cross-site", "same-site", "none"] {
        let fields = [("sec-fetch-site", site), FORM, ("cookie", &cookie)];
        let answer = scene
            .raw(Method::POST, &path, &fields, form(&csrf))
            .await
            .expect(403);
        assert!(text(&answer).contains("Nothing was done"));
    }
    for fields in [
        &[][..],
        &[("origin", "null")],
        &[("origin", "https://evil.example")],
    ] {
        let fields: Vec<_> = fields
            .iter()
            .copied()
            .chain([FORM, ("cookie", cookie.as_str())])
            .collect();
        scene
            .raw(Method::POST, &path, &fields, form(&csrf))
            .await
            .expect(403);
    }
    // Neither as JSON, nor twice over, nor by GET, nor without end.
    let fields = [
        OWN,
        ("content-type", "text/plain"),
        ("cookie", cookie.as_str()),
    ];
    scene
        .raw(Method::POST, &path, &fields, form(&csrf))
        .await
        .expect(400);
    post(&scene, &path, &cookie, &(form(&csrf) + "&reason=other"))
        .await
        .expect(400);
    page(&scene, &format!("{path}?{}", form(&csrf)), &cookie)
        .await
        .expect(303);
    post(&scene, &path, &cookie, &(form(&csrf) + &"x".repeat(20_000)))
        .await
        .expect(400);
    let state = |answer: &Answer| answer.json()["state"].clone();
    let api = format!("/v1/sessions/{session}");
    assert_eq!(state(&scene.get("operator", &api).await), "live");

    post(&scene, &path, &cookie, &form(&csrf)).await.expect(303);
    assert_eq!(state(&scene.get("operator", &api).await), "quarantined");
    let called = scene.recorded("principal", "called");
    assert!(called.iter().any(|record| record["principal"] == "operator"
        && record["detail"].as_str().unwrap().ends_with("/quarantine")));
}

/// Who signs in has shown nothing yet: what the form may cost is bounded as anything that the admin API reads.
#[tokio::test]
async fn a_form_is_read_no_further_than_anything_that_the_admin_api_reads() {
    let scene = Scene::start();
    let form = format!("key={}", "x".repeat(256 * 1024));
    post(&scene, "/sign-in", "", &form).await.expect(413);
}

#[tokio::test]
async fn another_host_gets_no_page_and_no_cookie_helps() {
    let scene = Scene::start();
    let cookie = sign_in(&scene, "operator").await;
    for path in ["/", "/sessions", "/console/script.js", "/events"] {
        let fields = [("host", "rebound.example"), ("cookie", cookie.as_str())];
        let answer = scene.raw(Method::GET, path, &fields, "").await.expect(421);
        assert!(text(&answer).contains("Not under this name"));
    }
    let fields = [("host", "rebound.example"), OWN, FORM];
    let form = format!("key={}", key("operator"));
    scene
        .raw(Method::POST, "/sign-in", &fields, form)
        .await
        .expect(421);
}

#[tokio::test]
async fn the_console_shows_what_a_role_may_see_and_another_project_not_at_all() {
    let scene = Scene::start();
    let (session, _) = scene.mint().await;
    let path = format!("/sessions/{session}");
    let status = |cookie: String, path: String| {
        let scene = &scene;
        async move { page(scene, &path, &cookie).await.status.as_u16() }
    };
    for (who, sessions, policy, inbox) in [
        ("operator", 200, 200, 200),
        ("issuer", 200, 403, 303),
        ("auditor", 200, 403, 303),
        ("approver", 403, 403, 200),
        ("stranger", 404, 200, 200),
    ] {
        let cookie = sign_in(&scene, who).await;
        let seen = [
            status(cookie.clone(), path.clone()).await,
            status(cookie.clone(), "/policy".to_owned()).await,
            status(cookie.clone(), "/".to_owned()).await,
        ];
        assert_eq!(seen, [sessions, policy, inbox], "{who}");
    }
    let issuer = sign_in(&scene, "issuer").await;
    let shown = page(&scene, &path, &issuer).await;
    assert!(
        !text(&shown).contains("/quarantine\""),
        "only operators step in"
    );
    let csrf = token(&shown);
    let form = format!("reason=x&csrf={csrf}");
    post(&scene, &format!("{path}/quarantine"), &issuer, &form)
        .await
        .expect(403);
    let prod = page(&scene, "/policy", &sign_in(&scene, "stranger").await).await;
    assert!(text(&prod).contains("Project prod") && !text(&prod).contains("Project dev"));
}

#[tokio::test]
async fn a_key_that_is_taken_away_or_changed_ends_its_visits_at_once_and_roles_are_those_of_now() {
    let scene = Scene::start();
    let (kept, gone) = (
        sign_in(&scene, "issuer").await,
        sign_in(&scene, "operator").await,
    );
    let principals = |wanted: &dyn Fn(&str) -> Option<&'static str>| -> Vec<_> {
        Scene::principals()
            .into_iter()
            .map(|(name, roles, projects)| (name, wanted(name).unwrap_or(roles), projects))
            .filter(|(_, roles, _)| !roles.is_empty())
            .collect()
    };
    let reload = |list: Vec<(&'static str, &'static str, &'static str)>| {
        let scene = &scene;
        async move {
            let agents = "127.0.0.1:0";
            scene.write_server(agents, &list);
            scene
                .post("root", "/v1/policy/reload", &serde_json::json!({}))
                .await
                .expect(200);
        }
    };
    page(&scene, "/policy", &kept).await.expect(403);
    reload(principals(&|name| match name {
        "operator" => Some(""),
        "issuer" => Some("operator"),
        _ => None,
    }))
    .await;
    let answer = page(&scene, "/sessions", &gone).await;
    assert!(text(&answer).contains("<h1>Sign in</h1>"));
    page(&scene, "/policy", &kept).await.expect(200);
    // Back again: the key is good, and the visit is over all the same.
    reload(Scene::principals()).await;
    let answer = page(&scene, "/sessions", &gone).await;
    assert!(text(&answer).contains("<h1>Sign in</h1>"));
    page(&scene, "/policy", &kept).await.expect(403);

    let csrf = token(&page(&scene, "/sessions", &kept).await);
    let out = post(&scene, "/sign-out", &kept, &format!("csrf={csrf}"))
        .await
        .expect(303);
    assert!(
        out.headers["set-cookie"]
            .to_str()
            .unwrap()
            .ends_with("Max-Age=0")
    );
    let answer = page(&scene, "/sessions", &kept).await;
    assert!(text(&answer).contains("<h1>Sign in</h1>"));
}
