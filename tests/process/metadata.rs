//! Protected-resource metadata (RFC 9728), as curl sees it: where the YAML publishes it, and that nothing else is told to
//! those who have no token.

use crate::backend::Backend;
use crate::client::{Answer, Payload, call, get};
use crate::gate::{Gate, Role, Setup};
use crate::wait::run;
use http::Method;
use serde_json::{Value, json};
use std::process::Command;

const RESOURCE: &str = "https://gate.example/mcp/github";
const METADATA: &str = "https://gate.example/.well-known/oauth-protected-resource/mcp/github";
const PATH: &str = "/.well-known/oauth-protected-resource/mcp/github";

/// One tool that publishes metadata, one below it and one beside it that do not.
fn policy(project: &str, backend: &Backend, oauth: &str) -> String {
    let upstream = format!("{{ url: 'http://{}' }}", backend.address);
    format!(
        "version: 1
project: {project}
agents:
  bot: {{ scopes: {{ issues.read: on_use }} }}
tools:
  github:
    mount: /mcp/github
    protocol: mcp
    upstream: {upstream}
{oauth}    routes:
      - {{ id: issues.list, match: tools/call list_issues, scope: issues.read }}
  inner:
    mount: /mcp/github/inner
    protocol: mcp
    upstream: {upstream}
    routes:
      - {{ id: inner.list, match: tools/call list_issues, scope: issues.read }}
  plain:
    mount: /plain
    upstream: {upstream}
    routes:
      - {{ id: plain.read, match: GET /plain, scope: issues.read }}
"
    )
}

fn published() -> String {
    format!(
        "    oauth: {{ resource: {RESOURCE}, authorization_servers: [https://login.example], scopes: [tools] }}\n"
    )
}

fn challenge(answer: &Answer) -> &str {
    answer.header("www-authenticate").unwrap()
}

/// What curl is answered, with this credential.
async fn curl(gate: &Gate, path: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command
        .args(["-sS", "-i", "--noproxy", "*", "--max-time", "60"])
        .args(arguments)
        .arg(format!("http://{}{path}", gate.agents));
    let output = run(command).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_is_told_without_a_token_and_the_401_of_its_mount_says_where_it_is() {
    let backend = Backend::start("github").await;
    let setup = Setup::new("demo", &policy("demo", &backend, &published()));
    let gate = setup.start().await;

    // Whatever a stranger claims in Host, what is told is what the file says.
    let told = curl(&gate, PATH, &["-H", "Host: evil.example"]).await;
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{told}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/json"), "{told}");
    assert!(head.contains("cache-control: no-store"), "{told}");
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap(),
        json!({
            "resource": RESOURCE,
            "authorization_servers": ["https://login.example"],
            "scopes_supported": ["tools"],
            "bearer_methods_supported": ["header"],
        })
    );
    let head = curl(&gate, PATH, &["-I"]).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");

    let bare = curl(&gate, "/mcp/github", &["-d", "{}"]).await;
    let field = format!(
        "www-authenticate: Bearer realm=\"toolgate\", resource_metadata=\"{METADATA}\"\r\n"
    );
    assert!(bare.starts_with("HTTP/1.1 401"), "{bare}");
    assert!(bare.contains(&field), "{bare}");
    let wrong = call(gate.agents, "tgs_wrong", Method::POST, "/mcp/github", ()).await;
    let wrong = wrong.refused(401, "credential_invalid");
    assert_eq!(
        challenge(&wrong),
        format!(
            "Bearer realm=\"toolgate\", error=\"invalid_token\", resource_metadata=\"{METADATA}\""
        )
    );
    assert_eq!(backend.total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_learn_of_no_other_place_from_metadata_and_challenges() {
    let backend = Backend::start("github").await;
    let setup = Setup::new("demo", &policy("demo", &backend, &published()));
    let gate = setup.start().await;
    // Mounted or not, with metadata above it or not: one answer. Only what names the request itself differs.
    let plain = |answer: &Answer| {
        (
            answer.status,
            challenge(answer).to_owned(),
            answer.body.len(),
        )
    };
    let nowhere = get(gate.agents, "", "/nowhere").await;
    let nowhere = plain(&nowhere.refused(401, "credential_missing"));
    assert_eq!(nowhere.1, "Bearer realm=\"toolgate\"");
    for path in [
        "/",
        "/plain",
        "/plain/x",
        "/mcp",
        "/mcp/github/",
        "/mcp/github/inner",
        "/mcp/github/other",
        "/mcp/githubs",
        "/MCP/github",
        "/mcp%2Fgithub",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-protected-resources",
    ] {
        assert_eq!(plain(&get(gate.agents, "", path).await), nowhere, "{path}");
    }
    let base = "/.well-known/oauth-protected-resource";
    let absent = get(gate.agents, "", &format!("{base}/nowhere")).await;
    let absent = absent.refused(404, "not_found");
    assert_eq!(absent.header("www-authenticate"), None);
    for rest in [
        "",
        "/",
        "/mcp",
        "/mcp/github/",
        "/mcp/github/inner",
        "/plain",
    ] {
        let other = get(gate.agents, "", &format!("{base}{rest}")).await;
        let other = other.refused(404, "not_found");
        assert_eq!(other.body.len(), absent.body.len(), "{rest}");
    }
    // Nor does a good token learn more here; metadata can only be read.
    let session = gate.mint("demo", "bot").await;
    for rest in ["/mcp/github/inner", "/nowhere"] {
        get(gate.agents, &session.token, &format!("{base}{rest}"))
            .await
            .refused(403, "no_route");
    }
    get(gate.agents, &session.token, PATH).await.expect(200);
    for method in [Method::POST, Method::DELETE, Method::OPTIONS] {
        let answer = call(gate.agents, "", method, PATH, Payload::from(())).await;
        assert_eq!(answer.status, 405, "{answer:?}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    assert_eq!(backend.total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_follows_the_files_and_is_one_for_all_projects() {
    let backend = Backend::start("github").await;
    let root = Role {
        name: "root",
        roles: "issuer, operator, auditor",
        projects: "dev, prod",
    };
    let silent = policy("dev", &backend, "");
    let setup = Setup::with(
        &[("dev", &silent), ("prod", &policy("prod", &backend, ""))],
        &[root],
    );
    let gate = setup.start().await;
    get(gate.agents, "", PATH).await.refused(404, "not_found");
    let bare = get(gate.agents, "", "/mcp/github").await;
    assert_eq!(challenge(&bare), "Bearer realm=\"toolgate\"");

    // One project publishes: its sessions are as before, and so are the other's.
    setup.write_project("prod", &policy("prod", &backend, &published()));
    let reload = || gate.admin(Method::POST, "/v1/policy/reload", ());
    reload().await.expect(200);
    get(gate.agents, "", PATH).await.expect(200);

    // Another word on the same place is refused, and the first one stays.
    let other = published().replace("login.example", "login.elsewhere.example");
    setup.write_project("dev", &policy("dev", &backend, &other));
    let refused = reload().await;
    assert!(refused.status.is_client_error(), "{refused:?}");
    let told = get(gate.agents, "", PATH).await.expect(200).json();
    assert_eq!(
        told["authorization_servers"],
        json!(["https://login.example"])
    );

    setup.write_project("dev", &silent);
    setup.write_project("prod", &policy("prod", &backend, ""));
    reload().await.expect(200);
    get(gate.agents, "", PATH).await.refused(404, "not_found");
}
