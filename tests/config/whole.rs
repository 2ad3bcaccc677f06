//! Configurations as wholes: what is loaded, what one report holds, what a reload may change.

use super::{PROJECT, SERVER, environment};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toolgate::config::{self, ConfigErrors, Loaded, Secrets};
use toolgate::policy::limit::{Bound, Exceeded, Per};
use toolgate::policy::model::{Cost, GrantMode, IntentRule, Mount, Resources, RouteIndex};

/// A configuration of these files, and its folder.
fn written(server: &str, projects: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("projects")).unwrap();
    for (name, text) in projects {
        fs::write(folder.path().join("projects").join(name), text).unwrap();
    }
    let path = folder.path().join("toolgate.yaml");
    fs::write(&path, server).unwrap();
    (folder, path)
}

fn loaded(path: &Path) -> Result<Loaded, ConfigErrors> {
    config::load_with(path, Secrets::Required, &environment)
}

#[test]
fn what_is_written_and_what_is_not_arrives_in_the_policy() {
    let project = PROJECT
        .replace("session: { ttl: 15m }", "session: { max_ttl: 1h, max_live: 3 }")
        .replace("on_request, ", "on_request, uses: 5, ttl: 10m, grants: 2, ")
        .replace("    mount: /crm\n", "    mount: /crm\n    body_limit: 2MiB\n    allow_method_override: [X-HTTP-Method]\n")
        .replace("127.0.0.1:9001", "Localhost:9001/base/")
        .replace("        approval: never\n", "        approval: never\n        intent: required\n        cost: { header: X-Cost, fixed: 0.25 }\n")
        .replace("rate: 600/1m", "cost: 5.00/1h, exceeded: quarantine, tool: crm");
    let (_folder, path) = written(SERVER, &[("demo.yaml", &project)]);
    let loaded = loaded(&path).unwrap_or_else(|errors| panic!("{errors}"));
    let policy = &loaded.projects[0];

    let agent = &policy.agents["bot"];
    assert_eq!(
        (agent.ttl, agent.max_ttl),
        (Duration::from_secs(900), Duration::from_secs(3600))
    );
    assert_eq!(agent.max_live, Some(3));
    let read = &agent.scopes["users.read"];
    assert_eq!(
        (read.grant, read.uses, read.grants),
        (GrantMode::OnUse, 1, 10)
    );
    assert_eq!(
        (read.ttl, &read.resources),
        (Duration::from_secs(300), &Resources::Any)
    );
    let delete = &agent.scopes["users.delete"];
    assert_eq!(
        (delete.grant, delete.uses, delete.grants),
        (GrantMode::OnRequest, 5, 2)
    );
    assert_eq!(delete.ttl, Duration::from_secs(600));
    assert!(matches!(&delete.resources, Resources::Patterns(patterns) if patterns.len() == 1));

    let tool = &policy.tools[0];
    assert_eq!(tool.mount, Mount::Path("/crm".into()));
    let upstream = tool.upstream.as_ref().unwrap();
    assert_eq!(
        (&*upstream.authority, &*upstream.host),
        ("localhost:9001", "Localhost:9001")
    );
    assert_eq!(
        (&*upstream.base_path, upstream.timeout),
        ("/base", Duration::from_secs(30))
    );
    assert_eq!(&*tool.allow_method_override, ["x-http-method".into()]);
    assert!(!format!("{loaded:?}").contains("s3cret"));

    let route = &policy.routes[RouteIndex(1).0 as usize];
    assert_eq!(
        (route.id.as_str(), route.irreversible),
        ("users.delete", true)
    );
    assert_eq!(
        (route.intent, route.body_limit),
        (IntentRule::Required, 2 << 20)
    );
    assert_eq!(
        route.cost,
        Some(Cost::Header {
            name: "x-cost".into(),
            fixed: Some(250_000)
        })
    );
    let limit = &policy.limits[0];
    assert_eq!(
        (limit.per, limit.exceeded),
        (Per::Session, Exceeded::Quarantine)
    );
    assert_eq!(
        limit.bound,
        Bound::Cost {
            micros: 5_000_000,
            window: Duration::from_secs(3600)
        }
    );
}

#[test]
fn projects_come_in_order_of_name_and_every_file_is_named_for_watching() {
    let other = PROJECT
        .replace("project: demo", "project: another")
        .replace(
            "value: \"Bearer ${CRM_API_KEY}\"",
            "value: { file: SECRET }",
        );
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "key\n").unwrap();
    let other = other.replace("SECRET", secret.path().to_str().unwrap());
    let (folder, path) = written(SERVER, &[("a.yaml", PROJECT), ("b.yaml", &other)]);
    let loaded = loaded(&path).unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<_> = loaded
        .projects
        .iter()
        .map(|policy| policy.project.as_str())
        .collect();
    assert_eq!(names, ["another", "demo"]);
    let at = |name: &str| folder.path().join(name);
    assert_eq!(
        loaded.files,
        [
            at("toolgate.yaml"),
            at("projects/a.yaml"),
            at("projects/b.yaml"),
            secret.path().into()
        ]
    );
    assert_eq!(loaded.patterns, [at("projects/*.yaml")]);
}

#[test]
fn the_hash_of_a_policy_is_that_of_its_file() {
    let (_folder, path) = written(SERVER, &[("demo.yaml", "version: 1\n")]);
    fs::write(path.parent().unwrap().join("projects/demo.yaml"), PROJECT).unwrap();
    let policy = &loaded(&path).unwrap().projects[0];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, PROJECT.as_bytes());
    assert_eq!(policy.hash.0, digest.as_ref());
}

#[test]
fn ten_thousand_routes_load_and_an_error_in_the_last_is_found() {
    let mut project = PROJECT.split("    routes:").next().unwrap().to_owned();
    project.push_str("    routes:\n");
    for n in 0..10_000 {
        project.push_str(&format!(
            "      - id: users.read.{n}\n        match: GET /t{n}/users/{{user_id}}\n        scope: users.read\n        resource: user:{{user_id}}\n"
        ));
    }
    let delete = "      - { id: users.delete, match: DELETE /users, scope: users.delete, resource: \"user:7\", approval: never }\n";
    project.push_str(delete);
    let (folder, path) = written(SERVER, &[("demo.yaml", &project)]);
    assert_eq!(
        loaded(&path)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .projects[0]
            .routes
            .len(),
        10_001
    );
    fs::write(
        folder.path().join("projects/demo.yaml"),
        project.replace(", approval: never", ""),
    )
    .unwrap();
    let errors = loaded(&path).unwrap_err();
    assert_eq!(errors.reports().len(), 1, "{errors}");
    assert_eq!(errors.reports()[0].line as usize, project.lines().count());
}

#[test]
fn thousands_of_errors_make_a_bounded_report() {
    let mut project = PROJECT.replace("limits:\n", "limits:\n  - { id: x, per: session }\n");
    for n in 0..5_000 {
        project.push_str(&format!(
            "  - {{ id: limit.{n}, per: session, rate: 0/1m }}\n"
        ));
    }
    let (_folder, path) = written(SERVER, &[("demo.yaml", &project)]);
    let errors = loaded(&path).unwrap_err();
    assert_eq!(errors.reports().len(), 500);
    assert!(errors.to_string().ends_with("... and 4501 more errors"));
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_does_not() {
    let (_folder, path) = written(SERVER, &[("demo.yaml", PROJECT)]);
    let old = loaded(&path).unwrap().server;
    let changed = |from: &str, to: &str| {
        assert!(SERVER.contains(from));
        let (_folder, path) = written(&SERVER.replace(from, to), &[("demo.yaml", PROJECT)]);
        config::restart_needed(
            &old,
            &loaded(&path)
                .unwrap_or_else(|errors| panic!("{errors}"))
                .server,
        )
    };
    assert_eq!(config::restart_needed(&old, &old), None);
    assert_eq!(changed("[issuer]", "[operator]"), None);
    let needs = |what: &str| Some(format!("a change to {what} needs a restart"));
    assert_eq!(
        changed("127.0.0.1:8080", "127.0.0.1:8081"),
        needs("listeners.agents")
    );
    assert_eq!(
        changed("127.0.0.1:9464", "127.0.0.1:9465"),
        needs("listeners.metrics")
    );
    assert_eq!(changed("data/toolgate.db", "data/other.db"), needs("store"));
    assert_eq!(
        changed("data/ledger }", "data/ledger, intent: omit }"),
        needs("ledger")
    );
    let telemetry = "telemetry: { otlp: { endpoint: 'http://127.0.0.1:4318' } }\nprojects:";
    assert_eq!(
        changed("\nprojects:", &format!("\n{telemetry}")),
        needs("telemetry")
    );
}

#[test]
fn where_spans_go_arrives_with_its_secrets_and_shows_none() {
    use secrecy::ExposeSecret as _;
    let telemetry = "telemetry:
  otlp:
    endpoint: https://Collector.example/base/
    headers: { Authorization: 'Bearer ${CRM_API_KEY}' }
    tls: { server_name: other.example }
  sample: 0.25
  resource: { deployment.environment.name: tests }
";
    let server = format!("{SERVER}{telemetry}");
    let read = |server: &str| {
        let (_folder, path) = written(server, &[("demo.yaml", PROJECT)]);
        loaded(&path)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .server
    };
    let server = read(&server);
    let told = server.telemetry.as_ref().unwrap();
    assert_eq!(told.sample_millionths, 250_000);
    let resource = [("deployment.environment.name".into(), "tests".into())];
    assert_eq!(told.resource, resource);
    let otlp = &told.otlp;
    assert_eq!(
        (
            &*otlp.authority,
            &*otlp.host,
            &*otlp.base_path,
            otlp.timeout
        ),
        (
            "collector.example:443",
            "Collector.example",
            "/base",
            Duration::from_secs(10)
        )
    );
    assert_eq!(&*otlp.tls.as_ref().unwrap().server_name, "other.example");
    let (name, value) = &otlp.headers[0];
    assert_eq!(
        (&**name, value.expose_secret()),
        ("authorization", "Bearer s3cret-of-the-crm")
    );
    assert!(!format!("{server:?}").contains("s3cret"));
    // It can be swapped in, all but its absence.
    let other = read(&format!("{SERVER}{}", telemetry.replace("Bearer", "Basic")));
    assert_eq!(config::restart_needed(&server, &other), None);
    assert!(read(SERVER).telemetry.is_none());
}

#[test]
fn a_ledger_arrives_as_written_and_with_the_defaults_of_the_documents() {
    use toolgate::config::{LedgerLevel, LedgerSettings};
    let of = |ledger: &str| {
        let server = SERVER.replace("{ directory: data/ledger }", ledger);
        let (_folder, path) = written(&server, &[("demo.yaml", PROJECT)]);
        let loaded = loaded(&path).unwrap_or_else(|errors| panic!("{errors}"));
        (loaded.server, loaded.warnings)
    };
    let (plain, _) = of("{ directory: data/ledger }");
    assert_eq!(plain.ledger, LedgerSettings::new("data/ledger"));
    assert_eq!(plain.ledger.level, LedgerLevel::Written);
    assert_eq!(plain.ledger.retain, Duration::from_secs(180 * 86_400));
    assert_eq!(plain.ledger.anchor_every, Duration::from_secs(60));
    const FULL: &str = "
  directory: data/ledger
  level: sync
  retain: 400d
  signing_key: { file: secrets/ledger.key }
  anchor:
    file: data/ledgers-anchor
    webhook: { url: \"https://anchor.example/in?key=${CRM_API_KEY}\", secret: { env: HOOK_SECRET } }
    every: 10s";
    let (full, warnings) = of(FULL);
    assert!(warnings.is_empty(), "{warnings:?}");
    let ledger = &full.ledger;
    assert_eq!(ledger.level, LedgerLevel::Sync);
    assert_eq!(ledger.retain, Duration::from_secs(400 * 86_400));
    assert_eq!(
        ledger.signing_key.as_deref(),
        Some(Path::new("secrets/ledger.key"))
    );
    assert_eq!(
        ledger.anchor_file.as_deref(),
        Some(Path::new("data/ledgers-anchor"))
    );
    assert_eq!(ledger.anchor_every, Duration::from_secs(10));
    let shown = format!("{full:?}");
    assert!(
        !shown.contains("s3cret") && !shown.contains("whsec_"),
        "{shown}"
    );
    // The same again is no change; another key at the receiver is one.
    assert_eq!(config::restart_needed(&full, &of(FULL).0), None);
    let (other, _) = of(&FULL.replace("in?key", "in2?key"));
    let needed = config::restart_needed(&full, &other).unwrap();
    assert!(needed.contains("ledger"), "{needed}");
}
