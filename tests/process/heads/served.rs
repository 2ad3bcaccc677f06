//! What is read and not served: methods, forms of the target, hosts.

use super::scene::scene;

const GOOD: &str = "Host: {H}\r\nAuthorization: Bearer {T}\r\n";

/// Heads that can be read in one way, and ask for what nobody gets; the gate itself says so, once it knows who asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_forms_and_hosts_that_are_not_served_are_refused_and_reach_nobody() {
    let scene = scene("").await;
    let x = "/crm/x/case";
    let line = |line: &str| format!("{line} HTTP/1.1\r\n{GOOD}");
    let host = |lines: &str| format!("GET {x} HTTP/1.1\r\n{lines}Authorization: Bearer {{T}}\r\n");
    let malformed = Some("request_malformed");
    let ambiguous = Some("target_ambiguous");
    let cases = [
        (line(&format!("TRACE {x}")), 501, malformed),
        (line("CONNECT {H}"), 501, malformed),
        (line("CONNECT a:443"), 501, malformed),
        (line(&format!("CONNECT {x}")), 501, malformed),
        (line(&format!("get {x}")), 403, Some("no_route")),
        (line(&format!("Get {x}")), 403, Some("no_route")),
        (line(&format!("GETT {x}")), 403, Some("no_route")),
        (line(&format!("GE {x}")), 403, Some("no_route")),
        (line(&format!("PROPFIND {x}")), 403, Some("no_route")),
        (line(&format!("!#$%&'*+-.^_`|~ {x}")), 403, Some("no_route")),
        (line("OPTIONS *"), 400, ambiguous),
        (line("GET *"), 400, ambiguous),
        (line("GET {H}"), 400, ambiguous),
        (line("GET a:80"), 400, ambiguous),
        (line("GET a"), 400, ambiguous),
        (line("GET http://other/crm/x/case"), 400, malformed),
        (line("GET http://{H}@other/crm/x/case"), 400, malformed),
        (line("GET http://other@{H}/crm/x/case"), 400, malformed),
        (line("GET ftp://{H}/crm/x/case"), 400, ambiguous),
        (host(""), 400, malformed),
        (host("Host:\r\n"), 400, malformed),
        (host("Host: {H}\r\nHost: {H}\r\n"), 400, malformed),
        (host("Host: {H}\r\nhost: other\r\n"), 400, malformed),
        (host("Host: {H}, other\r\n"), 400, malformed),
        (host("Host: {H} other\r\n"), 400, malformed),
        (host("Host: {H}/crm\r\n"), 400, malformed),
        (host("Host: {H}?a\r\n"), 400, malformed),
        (host("Host: {H}#a\r\n"), 400, malformed),
        (host("Host: user@{H}\r\n"), 400, malformed),
        (host("Host: http://{H}\r\n"), 400, malformed),
        (host("Host: a:b\r\n"), 400, malformed),
        (host("Host: a:99999\r\n"), 400, malformed),
        (host("Host: a\\b\r\n"), 400, malformed),
        (host("Host: [::1\r\n"), 400, malformed),
        (host("Host: caf\u{e9}\r\n"), 400, malformed),
        (host("Host: a%00b\r\n"), 400, malformed),
        (
            "GET http://{H}/crm/x/case HTTP/1.1\r\nAuthorization: Bearer {T}\r\n".to_owned(),
            400,
            malformed,
        ),
        (
            format!("GET {x} HTTP/1.0\r\nAuthorization: Bearer {{T}}\r\n"),
            400,
            malformed,
        ),
    ];
    let mut found = Vec::new();
    for (number, (text, status, reason)) in cases.iter().enumerate() {
        let bytes = scene.bytes(
            format!("{text}Connection: close\r\n\r\n").as_bytes(),
            number,
        );
        let told = scene.talk(&[bytes], text).await;
        let short: Vec<_> = told.iter().map(|it| (it.status, it.reason())).collect();
        if short != [(*status, reason.map(str::to_owned))] {
            found.push(format!("{text:?}: {short:?}"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(scene.backend.all().is_empty(), "{:?}", scene.backend.all());
}
