//! A gate whose routes are recorded in every way there is, over segments as small as they may be.

use crate::backend::Backend;
use crate::client::{self, Answer};
use crate::gate::{Gate, Minted, Role, Setup};
use crate::wait::{PATIENCE, until, within};
use http::Method;
use serde_json::json;
use tokio::task::JoinHandle;

/// `read` is written, `erase` and `once` are synced before they leave.
pub fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot:
    session: {{ ttl: 1h, max_ttl: 4h }}
    scopes:
      read: on_use
      erase: on_use
      once: {{ grant: on_request, uses: 1, ttl: 1h, grants: 1000 }}
      act: on_use
tools:
  t:
    mount: /t
    upstream: {{ url: 'http://{}', timeout: 60s }}
    routes:
      - {{ id: read, match: 'GET /read/{{key}}', scope: read }}
      - {{ id: held, match: GET /held, scope: read }}
      - {{ id: erase, match: 'DELETE /items/{{key}}', scope: erase, approval: never }}
      - {{ id: once, match: 'POST /once/{{key}}', scope: once, resource: 'key:{{key}}' }}
      - {{ id: act, match: 'POST /act/{{key}}', scope: act, approval: default }}
approvals:
  default: {{ approvers: [leads], quorum: 1, hold: 60s, expires: 1h }}
",
        backend.address
    )
}

/// `root` mints, operates and audits; `dana` decides what is held.
pub fn setup(backend: &Backend) -> Setup {
    let role = |name, roles| Role {
        name,
        roles,
        projects: "demo",
    };
    let people = [
        role("root", "issuer, operator, auditor"),
        role("dana", "approver"),
    ];
    let setup = Setup::with(&[("demo", &policy(backend))], &people);
    setup.edit_server(|text| {
        text.replace("/ledger }", "/ledger, segment: { size: 64KiB } }")
            .replace("{ name: dana,", "{ name: dana, groups: [leads],")
    });
    setup
}

/// A call that waits for a person.
pub struct Held {
    answer: JoinHandle<Answer>,
    approval: String,
    digest: String,
}

impl Held {
    pub async fn open(gate: &Gate, session: &Minted, setup: &Setup) -> Self {
        let (agents, token) = (gate.agents, session.token.clone());
        let answer = tokio::spawn(async move {
            client::call(agents, &token, Method::POST, "/t/act/1", ()).await
        });
        let dana = setup.key("dana");
        let approval = until("somebody is asked", || async {
            let all = client::get(gate.admin, dana, "/v1/approvals?state=pending").await;
            let all = all.expect(200).json();
            let first = all["items"].as_array().unwrap().first().cloned();
            first.map(|it| it["id"].as_str().unwrap().to_owned())
        })
        .await;
        let shown = client::get(gate.admin, dana, &format!("/v1/approvals/{approval}")).await;
        let digest = shown.expect(200).json()["digest"]
            .as_str()
            .unwrap()
            .to_owned();
        Self {
            answer,
            approval,
            digest,
        }
    }

    async fn approve(&self, gate: &Gate, setup: &Setup) -> Answer {
        let path = format!("/v1/approvals/{}/decision", self.approval);
        let word = json!({ "decision": "approve", "digest": self.digest });
        client::call(gate.admin, setup.key("dana"), Method::POST, &path, &word).await
    }

    /// No word counts while it can't be recorded, and it goes on waiting.
    pub async fn stays(&self, gate: &Gate, setup: &Setup) {
        let answer = self.approve(gate, setup).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(!self.answer.is_finished(), "it is still held");
    }

    /// Agreed to, it runs once.
    pub async fn runs(self, gate: &Gate, setup: &Setup, backend: &Backend) {
        let line = "POST /act/1";
        assert_eq!(backend.seen(line), 0);
        self.approve(gate, setup).await.expect(200);
        let answer = within(PATIENCE, "it runs", self.answer).await.unwrap();
        answer.expect(200);
        assert_eq!(backend.seen(line), 1);
    }
}
