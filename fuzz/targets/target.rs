//! The canonical target and the route it finds: read again it is the same, and no model of a reader takes what is forwarded
//! for anything but what was decided.

#[path = "../../tests/readers/mod.rs"]
mod models;

use std::sync::OnceLock;
use toolgate::config::load_project;
use toolgate::policy::model::Policy;
use toolgate::policy::target::Target;

const HOST: &str = "gate.example";

/// Side by side below `/side`, one within the other below `/nest`.
const POLICY: &str = "version: 1
project: demo
agents: { bot: { scopes: { read: on_use } } }
tools:
  side:
    mount: /side
    upstream: { url: 'http://127.0.0.1:9' }
    routes:
      - { id: public, match: 'GET /public/{*rest}', scope: read }
      - { id: admin, match: 'GET /admin/{*rest}', scope: admin }
  nest:
    mount: /nest
    upstream: { url: 'http://127.0.0.1:9' }
    routes:
      - { id: all, match: 'GET /{*rest}', scope: read }
      - { id: protected, match: 'GET /admin', scope: admin }
      - { id: below, match: 'GET /admin/{*rest}', scope: admin }
";

fn policy() -> &'static Policy {
    static POLICY_OF_ALL: OnceLock<Policy> = OnceLock::new();
    POLICY_OF_ALL.get_or_init(|| {
        let file = super::folder("target").join("project.yaml");
        std::fs::write(&file, POLICY).expect("the policy can be written");
        load_project(&file).expect("the policy is good").policy
    })
}

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // A host of its own may stand in front.
    let (raw, host) = match text.split_once('\n') {
        Some((host, raw)) if !host.is_empty() => (raw, host),
        Some((_, raw)) => (raw, HOST),
        None => (text, HOST),
    };
    let Ok(target) = Target::parse(raw, host) else {
        return;
    };
    let again = Target::parse(target.as_str(), target.authority());
    assert_eq!(again.as_ref(), Ok(&target), "read again, it is another");

    let policy = policy();
    let Ok(matched) = policy.table.find("GET", &target) else {
        return;
    };
    let query = target.query().map(|query| format!("?{query}"));
    let forwarded = format!("{}{}", matched.path, query.unwrap_or_default());
    match policy.route(matched.route).id.as_str() {
        "public" => {
            let found = models::escapes(forwarded.as_bytes(), "/public/");
            assert!(found.is_empty(), "{forwarded}: {found:?}");
        }
        "all" => {
            let found = models::reaching(forwarded.as_bytes(), "/admin");
            assert!(found.is_empty(), "{forwarded}: {found:?}");
        }
        _ => {}
    }
}
