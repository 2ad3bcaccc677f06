//! Conditions over a call: what a rule lets through, an independent reading of the body says it may; a condition more lets
//! nothing through that was refused without it.

use core::net::IpAddr;
use std::sync::OnceLock;
use toolgate::config::load_project;
use toolgate::policy::call::{Body, Call};
use toolgate::policy::choice::{Unfit, choose};
use toolgate::policy::condition::{Found, named};
use toolgate::policy::content::Media;
use toolgate::policy::model::Policy;
use toolgate::policy::target::Target;
use toolgate::policy::time::Timestamp;

const POLICY: &str = "version: 1
project: demo
agents: { bot: { scopes: { pay: on_use } } }
tools:
  strict:
    mount: /strict
    upstream: { url: 'http://127.0.0.1:9' }
    routes:
      - id: strict
        match: POST /pay
        scope: pay
        where: { body./amount: { at_most: 500 }, body./to: { one_of: [ada, bob] }, query.dry: { one_of: ['1'] } }
  lax:
    mount: /lax
    upstream: { url: 'http://127.0.0.1:9' }
    routes:
      - { id: lax, match: POST /pay, scope: pay, where: { body./amount: { at_most: 500 } } }
";

fn policy() -> &'static Policy {
    static POLICY_OF_ALL: OnceLock<Policy> = OnceLock::new();
    POLICY_OF_ALL.get_or_init(|| {
        let file = super::folder("conditions").join("project.yaml");
        std::fs::write(&file, POLICY).expect("the policy can be written");
        load_project(&file).expect("the policy is good").policy
    })
}

struct Said<'s> {
    query: &'s str,
    body: Body<'s>,
}

impl Call for Said<'_> {
    fn query(&self, name: &str) -> Found<'_> {
        named(self.query, name)
    }
    fn header(&self, _: &str) -> Found<'_> {
        Found::Absent
    }
    fn body(&self) -> Body<'_> {
        self.body
    }
    fn session(&self, _: &str) -> Option<&str> {
        None
    }
    fn agent(&self) -> &str {
        "bot"
    }
    fn client(&self) -> Option<IpAddr> {
        Some([127, 0, 0, 1].into())
    }
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }
}

/// Whether the one route of a mount lets a call through.
fn passes(mount: &str, query: &str, kind: &str, body: &[u8]) -> bool {
    let Ok(target) = Target::parse(&format!("{mount}/pay?{query}"), "gate.example") else {
        return false;
    };
    let policy = policy();
    let first = policy.table.find("POST", &target).expect("a route");
    let query = target.query().unwrap_or_default();
    let said = |body| Said { query, body };
    match choose(policy, first, &said(Body::Unread)) {
        Err(Unfit::Unread(_)) => {}
        unread => return unread.is_ok(),
    }
    let media = Media::read(std::iter::empty(), std::iter::once(kind.as_bytes()));
    let Ok(media) = media else { return false };
    let Ok(content) = media.content(body) else {
        return false;
    };
    choose(policy, first, &said(Body::Read(&content))).is_ok()
}

/// A line of query, and a body of JSON or of a form.
pub fn run(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let Ok(query) = std::str::from_utf8(&data[..end]) else {
        return;
    };
    let body = data.get(end + 1..).unwrap_or_default();
    for kind in ["application/json", "application/x-www-form-urlencoded"] {
        let strict = passes("/strict", query, kind, body);
        let lax = passes("/lax", query, kind, body);
        assert!(lax || !strict, "a condition more lets it through");
        if lax
            && kind == "application/json"
            && let Some(other) = super::another(body)
        {
            let amount = other["amount"].as_f64().expect("a number to others too");
            assert!(amount <= 500.0, "{amount} passes");
            let to = &other["to"];
            assert!(!strict || to == "ada" || to == "bob", "{other}");
        }
        if strict {
            let dry = query
                .split('&')
                .filter(|pair| *pair == "dry=1" || pair.contains('%') || pair.contains('+'));
            assert!(dry.count() >= 1, "{query:?}");
        }
    }
}
