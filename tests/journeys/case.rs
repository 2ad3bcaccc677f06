//! What a case says.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// One story.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub case: String,
    /// Files of `policies/`, without `.yaml`.
    #[serde(default)]
    pub policies: Vec<String>,
    #[serde(default)]
    pub sessions: BTreeMap<String, Minted>,
    /// Peers whose `X-Forwarded-For` counts.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    pub steps: Vec<Step>,
}

/// A session that is there when the story begins.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Minted {
    pub project: Option<String>,
    pub agent: Option<String>,
    pub attributes: BTreeMap<String, String>,
    pub ttl: Option<String>,
    pub intent: Option<String>,
    pub run: Option<String>,
    pub parent: Option<String>,
    /// Narrowed to these scopes.
    pub scopes: Option<Vec<String>>,
}

/// One thing that happens. A step is a call or something done to the world.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// `GET /crm/users/7`.
    pub call: Option<String>,
    /// Whose token is sent as `Authorization: Bearer`.
    #[serde(rename = "as")]
    pub by: Option<String>,
    /// More fields, `name: value`; `$a` is the token of session `a`, `$name` what `keep` kept.
    pub fields: Vec<String>,
    /// Instead of `gate.test`; empty: none is sent.
    pub host: Option<String>,
    /// `$name` is filled in as in `fields`.
    pub body: Option<String>,
    /// So many calls, one after the other; each must be as expected.
    pub times: Option<u32>,
    /// `200`, or `403 grant_missing`; of a function `200 true`, or `200 grant_missing`.
    pub expect: Option<String>,
    /// Keeps a member of the JSON answer under a name: `grant: id`, or what a pointer finds: `evaluation: /context/evaluation_id`.
    pub keep: BTreeMap<String, String>,
    /// Begins the call under this name and goes on once it waits for a person (or is answered).
    pub start: Option<String>,
    /// Reads the answer of a call that was begun; `expect` and `keep` are about it.
    pub finish: Option<String>,
    /// The agent of a call that was begun goes away.
    pub leave: Option<String>,
    /// A person agrees.
    pub approve: Option<Ballot>,
    /// A person does not.
    pub deny: Option<Ballot>,
    /// The backends answer what they were told to hold back (`?held=1`).
    pub answer: bool,
    /// Other principals may decide from here on: `name: [groups]`.
    pub appoint: Option<BTreeMap<String, Vec<String>>>,
    /// What time has ended is noticed.
    pub sweep: bool,
    /// Lets time pass.
    pub wait: Option<String>,
    pub revoke: Option<String>,
    pub quarantine: Option<String>,
    pub release: Option<String>,
    /// Other policies come into force.
    pub install: Option<Vec<String>>,
    /// `fails` or `works`.
    pub ledger: Option<String>,
    pub store: Option<String>,
    /// The once-a-second work: strangers and costs.
    pub flush: bool,
    /// Lines that `/metrics` must have.
    pub metrics: Vec<String>,
    /// A new gate on the same store.
    pub restart: bool,
}

/// A person's word.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ballot {
    pub by: String,
    /// What `keep` kept; the only one that waits, if it is left out.
    pub of: Option<String>,
    pub note: Option<String>,
    /// Where it then stands, or why it was not taken.
    pub then: Option<String>,
}

pub fn load(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).expect("the case file can be read");
    serde_yaml::from_str(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// `61s`, `100ms`, `5m`.
pub fn span(text: &str) -> Duration {
    let at = text.find(|c: char| !c.is_ascii_digit()).expect("a unit");
    let number: u64 = text[..at].parse().expect("a number");
    match &text[at..] {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        unit => panic!("no unit {unit}"),
    }
}
