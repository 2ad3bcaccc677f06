//! Laws of what is forwarded: no reader takes it for anything else than what was decided, and ordinary targets go on as
//! they came. The models of readers have a table of their own each: they judge the gate, so they are judged first.

use crate::builder::{Builder, ceiling};
use crate::models::{READERS, escapes, reaching};
use crate::{hostile, ordinary};
use std::collections::{BTreeMap, BTreeSet};
use toolgate::policy::model::{GrantMode, Policy};
use toolgate::policy::target::Target;

const HOST: &str = "gate.example";

/// What each model reads in a target; `-`: it refuses that.
const TABLE: [(&str, &[(&str, &str)]); 24] = [
    ("plain", &[("/a/%2e./b?c", "/a/%2e./b"), ("/a;x", "/a;x")]),
    (
        "decodes once",
        &[("/%61%2F%252e", "/a/%2e"), ("/%zz", "/%zz")],
    ),
    (
        "decodes twice",
        &[("/%252e%252E/b", "/../b"), ("/%%32%65", "/.")],
    ),
    (
        "decodes, then resolves dots",
        &[("/a/%2e%2e%2fb", "/b"), ("/a/b/..", "/a/")],
    ),
    (
        "resolves dots, then decodes",
        &[("/a/../b/%2e%2e/c", "/b/../c")],
    ),
    (
        "decodes twice, then resolves dots",
        &[("/a/%252e%252e/b", "/b"), ("/a/%%32%65./b", "/b")],
    ),
    (
        "merges slashes",
        &[("/a//../b", "/b"), ("//a%2f/b", "/a/b")],
    ),
    ("takes a backslash for a slash", &[("/a\\..%5cb", "/b")]),
    (
        "Tomcat",
        &[
            ("/a/..;x=1/b", "/b"),
            ("/a/..%3B/b", "/a/..;/b"),
            ("/a/b;/c", "/a/b/c"),
            ("/a%00", "-"),
        ],
    ),
    ("Jetty", &[("/a/..%3B/b", "/b"), ("/a/%2e%2e%3fx/b", "/")]),
    ("ignores case", &[("/A/%2E./AdMin", "/admin")]),
    (
        "Windows files",
        &[
            ("/a/..%20/B. /c", "/b/c"),
            ("/a/.../b", "/b"),
            ("/x::$DATA", "/x"),
            ("/a./b", "/a/b"),
        ],
    ),
    (
        "ends at NUL",
        &[("/a/../b%00.html", "/b"), ("/a%0a/b", "/a")],
    ),
    (
        "IIS",
        &[
            ("/a/%u002e%uff0e/b", "/b"),
            ("/a%c0%af..%c1%9cb", "/b"),
            ("/a/b+/c", "/a/b/c"),
        ],
    ),
    (
        "takes overlong UTF-8",
        &[("/a/%c0%ae%e0%80%ae%c0%afb", "/b"), ("/%C3%A9", "/\u{e9}")],
    ),
    (
        "folds compatible letters",
        &[
            ("/a/%EF%BC%8E.%ef%bc%8f%EF%BD%82", "/b"),
            ("/a/.%e2%80%8b./b", "/b"),
        ],
    ),
    (
        "nginx",
        &[
            ("/a//%2e%2e/b%3fc", "/b?c"),
            ("/a#/b", "/a"),
            ("/../a", "-"),
            ("/%00", "-"),
            ("/%4", "-"),
        ],
    ),
    (
        "Apache httpd",
        &[
            ("/a%2fb", "-"),
            ("/a/%2e%2e/b", "/b"),
            ("/../a", "-"),
            ("/a//b", "/a/b"),
        ],
    ),
    (
        "Rails",
        &[
            ("//a/b.json", "/a/b"),
            ("/a/b/", "/a/b"),
            ("/a/.b", "/a/.b"),
            ("/a.b/c", "/a.b/c"),
        ],
    ),
    ("WSGI", &[("//%2fa/b", "/a/b"), ("/a/../b", "/a/../b")]),
    ("Go", &[("/a/%2e%2e//b/", "/b/"), ("/%zz", "-")]),
    (
        "WHATWG URL",
        &[("/a/.\t%2E\\b#c", "/b"), ("/a%2f..", "/a/..")],
    ),
    (
        "reads an authority",
        &[
            ("//x/admin", "/admin"),
            ("http://x/a/../b", "/b"),
            ("http://x", "/"),
            ("/a//b", "/a//b"),
        ],
    ),
    (
        "all at once, over and over",
        &[
            ("/a/%25252e%u002E;x/B%20.", "/b"),
            ("/a/%25u002e.%2523/b", "/"),
            ("/a/%e2%80%a6/b", "/b"),
        ],
    ),
];

#[test]
fn each_model_of_a_reader_reads_as_its_kind_does() {
    for ((name, reader), (of, table)) in READERS.into_iter().zip(TABLE) {
        assert_eq!(name, of);
        for (target, expected) in table {
            let path = reader(target.as_bytes());
            let path = path.map_or("-".to_owned(), |path| String::from_utf8(path).unwrap());
            assert_eq!(path, *expected, "{name} reads {target:?}");
        }
        assert_eq!(reader(b"/public/a/b").unwrap(), b"/public/a/b", "{name}");
    }
}

#[test]
fn the_table_of_hostile_targets_would_get_past_a_proxy_that_forwards_as_it_came() {
    let all = hostile::targets("", "public");
    assert!(all.len() >= 3000, "{}", all.len());
    let mut by: BTreeMap<&str, usize> = BTreeMap::new();
    let mut dangerous = 0;
    for target in all.iter().filter(|it| it.starts_with(b"/public/")) {
        let found = reaching(target, "/admin");
        dangerous += usize::from(!found.is_empty());
        for name in found {
            *by.entry(name).or_default() += 1;
        }
    }
    assert!(dangerous >= 3000, "{dangerous}");
    // What only compares bytes is not fooled, and every other reader is.
    let fooled: Vec<&str> = READERS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| by.contains_key(name))
        .collect();
    assert!(fooled.len() >= 18, "{by:?}");
}

/// `/public` and what is below it may be read, `/admin` may not.
fn side_by_side() -> Policy {
    let read = [("read", ceiling(GrantMode::OnUse, &[]))];
    Builder::new()
        .tool("/tool")
        .route("GET /public/{*rest}", "read", None)
        .route("GET /admin/{*rest}", "admin", None)
        .agent("bot", &read)
        .build()
}

/// What a gate with this policy decides on, by the first route, and forwards.
fn forwarded(policy: &Policy, raw: &[u8]) -> Option<String> {
    let target = Target::parse(std::str::from_utf8(raw).ok()?, HOST).ok()?;
    let matched = policy.table.find("GET", &target).ok()?;
    let query = target.query().map(|query| format!("?{query}"));
    let forwarded = format!("{}{}", matched.path, query.unwrap_or_default());
    (matched.route.0 == 0).then_some(forwarded)
}

#[test]
fn no_reader_takes_what_is_forwarded_for_anything_but_what_was_decided() {
    let policy = side_by_side();
    let (mut passed, mut bypasses) = (BTreeSet::new(), Vec::new());
    for raw in hostile::targets("/tool", "public") {
        let Some(forwarded) = forwarded(&policy, &raw) else {
            continue;
        };
        for (name, read) in escapes(forwarded.as_bytes(), "/public/") {
            bypasses.push(format!("{name} reads {read} in {forwarded}"));
        }
        passed.insert(forwarded);
    }
    assert!(
        bypasses.is_empty(),
        "{}:\n{}",
        bypasses.len(),
        bypasses.join("\n")
    );
    // Refusing all would be no answer either.
    assert!(passed.len() > 50, "{passed:?}");
}

/// All but `/admin` and what is below it may be read: the protected place lies within the public one.
fn nested() -> Policy {
    let read = [("read", ceiling(GrantMode::OnUse, &[]))];
    Builder::new()
        .tool("/tool")
        .route("GET /{*rest}", "read", None)
        .route("GET /admin", "admin", None)
        .route("GET /admin/{*rest}", "admin", None)
        .route("GET /admin/keys", "admin", None)
        .agent("bot", &read)
        .build()
}

#[test]
fn no_reader_takes_what_a_wider_route_forwards_for_what_a_more_specific_one_protects() {
    let policy = nested();
    let (mut passed, mut bypasses) = (BTreeSet::new(), Vec::new());
    for raw in hostile::targets("/tool", "public") {
        let Some(forwarded) = forwarded(&policy, &raw) else {
            continue;
        };
        let by = reaching(forwarded.as_bytes(), "/admin");
        if !by.is_empty() {
            bypasses.push(format!("{by:?} in {forwarded}"));
        }
        passed.insert(forwarded);
    }
    assert!(
        bypasses.is_empty(),
        "{}:\n{}",
        bypasses.len(),
        bypasses.join("\n")
    );
    assert!(passed.len() > 50, "{passed:?}");
}

#[test]
fn a_path_that_some_take_for_a_more_specific_routes_matches_nothing() {
    let policy = Builder::new()
        .tool("/t")
        .route("GET /users/{id}", "wide", None)
        .route("GET /users/me", "me", None)
        .route("GET /users/{id}/keys", "keys", None)
        .route("GET /users/{id}.pdf", "print", None)
        .route("GET /Logs/{name}", "logs", None)
        .route("GET /Logs/", "list", None)
        .route("GET /models/{model}:run", "run", None)
        .route("GET /any/{*rest}", "any", None)
        .route("GET /openapi", "any", None)
        .route("GET /openapi.json", "any", None)
        .build();
    let found = |path: &str| {
        let target = Target::parse(&format!("/t{path}"), HOST).unwrap();
        let matched = policy.table.find("GET", &target);
        matched.ok().map(|matched| matched.route.0)
    };
    for (path, route) in [
        ("/users/7", 0),
        ("/users/Ada%20L.", 0),
        ("/users/C%23", 0),
        ("/users/ada.json", 0),
        ("/users/me2", 0),
        ("/users/you+me", 0),
        ("/users/me", 1),
        ("/users/Ada/keys", 2),
        ("/users/ada.PDF.pdf", 3),
        ("/Logs/2026-11-23T10:00:00Z", 4),
        ("/Logs/", 5),
        ("/models/Gemini-2.5:run", 6),
        ("/any/%23general/x", 7),
        ("/any/a/b%3F/x", 7),
        ("/openapi", 8),
        ("/openapi.json", 9),
    ] {
        assert_eq!(found(path), Some(route), "{path}");
    }
    for path in [
        "/users/ME",
        "/users/me.",
        "/users/me%20",
        "/users/me+",
        "/users/me%3Bx",
        "/users/me%3Fx",
        "/users/me%23x",
        "/users/me::$DATA",
        "/users/me:x",
        "/users/me.json",
        "/users/me.anything",
        "/users/me.pdf",
        "/users/me.a%252eb",
        "/OpenAPI.json",
        "/users/m%2565",
        "/users/%EF%BD%8De",
        "/users/m%E2%80%8Be",
        "/users/ada.PDF",
        "/users/7%3Fx/keys",
        "/users/7%23/keys",
    ] {
        assert_eq!(found(path), None, "{path}");
    }
}

#[test]
fn ordinary_targets_go_on_as_they_came() {
    let all = ordinary::targets();
    assert!(all.len() >= 2000, "{}", all.len());
    let mut changed = Vec::new();
    for raw in &all {
        let said = match Target::parse(raw, HOST) {
            Ok(target) if target.as_str() == raw => continue,
            Ok(target) => format!("goes on as {}", target.as_str()),
            Err(why) => why.to_string(),
        };
        match ordinary::EXPLAINED.iter().any(|(it, _)| it == raw) {
            true => changed.push(raw),
            false => panic!("{raw}: {said}, and nobody says why that is right"),
        }
    }
    assert_eq!(changed.len(), ordinary::EXPLAINED.len(), "{changed:?}");
    assert!(
        changed.len() * 1000 <= all.len() * 5,
        "{} of {}",
        changed.len(),
        all.len()
    );
}
