//! Fields by which an agent could pretend, hide or have something done otherwise than it was checked: over two hundred of
//! them, each sent to the real binary, and what of it stands on the wire towards the backend.

use super::scene::{Scene, scene};
use std::sync::Arc;
use tokio::task::JoinSet;

/// What becomes of a request with such a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// 400 `field_forbidden`; the backend hears of nothing.
    Forbidden,
    /// Another refusal of the gate.
    Refused(u16),
    /// It passes, and none of the field's names or values reaches the backend.
    Stripped,
    /// It passes as it is.
    Passed,
}

struct Case {
    lines: String,
    fate: Fate,
}

/// What every spoofed value holds.
const MARK: &str = "spoof-{N}";

/// Names of fields that the gate sets, checks or strips; in these spellings they are no plain fields.
const PROTECTED: [&str; 29] = [
    "Authorization",
    "CF-Connecting-IP",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Expect",
    "Forwarded",
    "Host",
    "Idempotency-Key",
    "Keep-Alive",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Toolgate-Intent",
    "Toolgate-Session",
    "Trailer",
    "Transfer-Encoding",
    "True-Client-IP",
    "Upgrade",
    "X-Api-Key",
    "X-Client-IP",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Original-URL",
    "X-Real-IP",
    "X-Rewrite-URL",
];

/// Of those, the ones whose letters alone, without any punctuation, are the very name.
fn is_one_word(name: &str) -> bool {
    !name.contains('-')
}

/// A name in ways that CGI, WSGI and kin read as the same one.
fn aliases(name: &str) -> Vec<String> {
    let mut spelt = vec![
        format!("{name}_"),
        format!("_{name}"),
        format!("{}_{}", &name[..2], &name[2..]),
        format!("{}.{}", &name[..3], &name[3..]),
        format!("{}!{}", &name[..1], &name[1..]),
        format!("{name}-"),
    ];
    if !is_one_word(name) {
        spelt.push(name.replace('-', "_"));
        spelt.push(name.replace('-', "").to_uppercase());
        spelt.push(name.replacen('-', ".", 1));
        spelt.push(name.replace('-', "--"));
    }
    spelt
}

fn all() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |lines: String, fate| all.push(Case { lines, fate });
    for name in PROTECTED {
        for alias in aliases(name) {
            // A prefix of the gate's own, however it goes on, is the gate's: it is dropped.
            let own = alias.to_lowercase().starts_with("toolgate-");
            let origin = alias.to_lowercase().starts_with("x-forwarded-");
            let fate = if own || origin {
                Fate::Stripped
            } else {
                Fate::Forbidden
            };
            add(format!("{alias}: {MARK}\r\n"), fate);
        }
    }
    // Taken away on the way to the backend, or on the way to the gate's own checks.
    for name in [
        "authorization",
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "toolgate-session",
        "toolgate-intent",
        "x-api-key",
        "x-forwarded-for",
        "x-forwarded-host",
        "forwarded",
        "x-real-ip",
        "via",
        "idempotency-key",
        "prefer",
        "traceparent",
        "expect",
        "x-http-method-override",
        "x-original-url",
        "X_Api_Key",
        "x_forwarded_for",
        "Content_Length",
        "toolgate_session",
        "x-forwarded-anything",
    ] {
        add(
            format!("Connection: {name}\r\nX-M: {MARK}\r\n"),
            Fate::Forbidden,
        );
        add(
            format!(
                "Connection: close, {}\r\nX-M: {MARK}\r\n",
                name.to_uppercase()
            ),
            Fate::Forbidden,
        );
        add(
            format!("Connection: x-m\r\nConnection: ,\t{name} ,\r\n"),
            Fate::Forbidden,
        );
    }
    add(
        format!("Connection: {}\r\nX-M: {MARK}\r\n", "a,".repeat(40)),
        Fate::Forbidden,
    );
    // What belongs to the agent's connection, or what it takes with it.
    for lines in [
        "Connection: x-mine\r\nX-Mine: {M}",
        "Connection: X-MINE, close\r\nx-mine: {M}",
        "Keep-Alive: {M}",
        "Proxy-Connection: {M}",
        "Proxy-Authorization: Basic {M}",
        "Proxy-Authenticate: {M}",
        "Connection: Upgrade\r\nUpgrade: {M}",
        "Upgrade: h2c\r\nHTTP2-Settings: {M}\r\nConnection: Upgrade, HTTP2-Settings",
        "HTTP2-Settings: {M}",
        "TE: {M}",
        "TE: gzip;q={M}, deflate",
        "Trailer: {M}",
        "Toolgate-Intent: {M}",
        "Toolgate-Anything: {M}",
        "TOOLGATE-REQUEST-ID: {M}",
        "Toolgate-Replayed: {M}",
        // Who it comes from.
        "X-Forwarded-For: {M}",
        "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: {M}",
        "x-forwarded-host: {M}",
        "X-FORWARDED-PROTO: {M}",
        "X-Forwarded-Port: {M}",
        "X-Forwarded-Prefix: {M}",
        "X-Forwarded-Server: {M}",
        "X-Forwarded-User: {M}",
        "X-Forwarded-Email: {M}",
        "X-Forwarded-Client-Cert: {M}",
        "X-Forwarded-Method: {M}",
        "X-Forwarded-Uri: {M}",
        "X-Forwarded: {M}",
        "Forwarded: for={M};host={M};proto=https",
        "Forwarded: for=1\r\nForwarded: by={M}",
        "X-Real-IP: {M}",
        "X-Client-IP: {M}",
        "True-Client-IP: {M}",
        "CF-Connecting-IP: {M}",
        // The backend's credential, which the gate puts in.
        "X-Api-Key: {M}",
        "x-api-key: {M}\r\nX-API-KEY: {M}",
    ] {
        add(
            format!("{}\r\n", lines.replace("{M}", MARK)),
            Fate::Stripped,
        );
    }
    // Another method or path than was checked.
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-Method",
        "X-Original-URL",
        "X-Original-URI",
        "X-Rewrite-URL",
        "X-Override-URL",
        "x-http-method-OVERRIDE",
    ] {
        add(format!("{name}: {MARK}\r\n"), Fate::Forbidden);
    }
    // Credentials.
    add(format!("Authorization: Bearer {MARK}\r\n"), Fate::Forbidden);
    add(
        format!("Toolgate-Session: {{T}}\r\nX-M: {MARK}\r\n"),
        Fate::Forbidden,
    );
    add(format!("Toolgate-Session: {MARK}\r\n"), Fate::Refused(401));
    add("X-Mine: {T}\r\n".to_owned(), Fate::Forbidden);
    add("Cookie: a={T}\r\n".to_owned(), Fate::Forbidden);
    add("X-Mine: abc tgs_{N}\r\n".to_owned(), Fate::Forbidden);
    // Expectations that can't be met, and hosts.
    for value in [
        "200-ok",
        "100-continue, x",
        "x",
        "100-continue;a",
        "",
        "\"100-continue\"",
    ] {
        add(
            format!("Expect: {value}\r\nX-M: {MARK}\r\n"),
            Fate::Refused(417),
        );
    }
    add(
        format!("Expect: 100-continue\r\nExpect: {MARK}\r\n"),
        Fate::Refused(417),
    );
    add(format!("Host: {MARK}\r\n"), Fate::Refused(400));
    add(
        format!("Host: {{H}}\r\nX-M: {MARK}\r\n"),
        Fate::Refused(400),
    );
    add(format!("HOST: a, {MARK}\r\n"), Fate::Refused(400));
    // Plain fields are nobody's business but the backend's.
    for name in [
        "Accept",
        "Accept-Language",
        "Cookie",
        "X-Request-Id",
        "X-Mine",
        "X-User",
        "Origin",
        "Referer",
        "User-Agent",
        "X_Mine",
        "X.Mine",
        "Hosts",
        "X-Host",
        "Content-Types",
        "X-Authorization-Id",
        "Upgrade-Insecure-Requests",
        "Sec-Fetch-Mode",
        "If-None-Match",
        "DPoP",
        "Baggage",
    ] {
        add(format!("{name}: {MARK}\r\n"), Fate::Passed);
    }
    all
}

/// What is wrong, if anything.
async fn wrong(scene: &Scene, number: usize, case: &Case) -> Option<String> {
    let text = format!(
        "GET /crm/x/case-{{N}} HTTP/1.1\r\nHost: {{H}}\r\nAuthorization: Bearer {{T}}\r\n{}\r\n\
         GET /crm/x/last-{{N}} HTTP/1.1\r\nHost: {{H}}\r\nConnection: close\r\nAuthorization: Bearer {{T}}\r\n\r\n",
        case.lines
    );
    let name = format!("{number} {:?}", case.lines);
    let told = scene
        .talk(&[scene.bytes(text.as_bytes(), number)], &name)
        .await;
    let first = &told[0];
    let seen = scene.backend.whole(&format!("case-{number} "));
    let spoofed = scene.backend.saw(&format!("spoof-{number}\r"))
        || scene.backend.saw(&format!("spoof-{number};"))
        || scene.backend.saw(&format!("spoof-{number},"))
        || scene.backend.saw(&scene.token);
    let right = match case.fate {
        Fate::Forbidden => {
            (first.status, first.reason().as_deref()) == (400, Some("field_forbidden"))
                && seen.is_empty()
                && !spoofed
        }
        Fate::Refused(status) => first.status == status && seen.is_empty() && !spoofed,
        Fate::Stripped => first.status == 200 && is_set(scene, &seen) && !spoofed,
        Fate::Passed => first.status == 200 && is_set(scene, &seen) && spoofed,
    };
    let reason = first.reason();
    (!right).then(|| {
        format!(
            "{name}: {:?}, but {} {reason:?}, spoofed: {spoofed}, seen: {seen:?}",
            case.fate, first.status
        )
    })
}

/// Whether a request came once, with all that the gate sets, and once each.
fn is_set(scene: &Scene, seen: &[String]) -> bool {
    let [only] = seen else {
        return false;
    };
    let only = only.to_lowercase();
    let has = |line: &str| only.matches(&format!("\r\n{line}\r\n")).count() == 1;
    let once = |name: &str| only.matches(&format!("\r\n{name}: ")).count() == 1;
    has(&format!("host: {}", scene.backend.address))
        && has(&format!("x-forwarded-host: {}", scene.gate.agents))
        && has("x-forwarded-for: 127.0.0.1")
        && has("x-forwarded-proto: http")
        && has("via: 1.1 toolgate")
        && has("x-api-key: the-backends-own")
        && [
            "host",
            "x-forwarded-host",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-api-key",
        ]
        .iter()
        .all(|name| once(name))
        && !only.contains("\r\nauthorization:")
        && !only.contains("toolgate-")
        && !only.contains("\r\ntransfer-encoding:")
        && !only.contains("\r\nupgrade:")
        && !only.contains("\r\nforwarded:")
}

/// The backend's credential.
const CREDENTIAL: &str = ", credential: { header: x-api-key, value: the-backends-own }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_field_of_an_agent_pretends_hides_or_takes_away_anything() {
    let scene = Arc::new(scene(CREDENTIAL).await);
    let cases = all();
    assert!(cases.len() >= 350, "{}", cases.len());
    let mut running = JoinSet::new();
    let mut found = Vec::new();
    for (number, case) in cases.into_iter().enumerate() {
        if running.len() >= 16 {
            found.extend(running.join_next().await.unwrap().unwrap());
        }
        let scene = Arc::clone(&scene);
        running.spawn(async move { wrong(&scene, 10_000 + number, &case).await });
    }
    while let Some(one) = running.join_next().await {
        found.extend(one.unwrap());
    }
    found.sort();
    assert!(found.is_empty(), "{}:\n{}", found.len(), found.join("\n"));
}
