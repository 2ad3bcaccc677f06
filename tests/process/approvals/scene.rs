//! A gate with routes that wait for people, and those people.

use super::talk::{Order, Talk, send};
use crate::backend::Backend;
use crate::client::{self, Answer};
use crate::gate::{Gate, Minted, Role, Setup};
use crate::wait::until;
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A running gate before a backend, under [`policy`].
pub struct Scene {
    pub backend: Backend,
    pub setup: Setup,
    pub gate: Gate,
}

/// What a person is shown of a request, as far as it takes to decide it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub id: String,
    pub digest: String,
}

pub const APPROVE: &str = "approve";
pub const DENY: &str = "deny";

/// `root` mints, operates and audits; `mina` mints and approves.
const PEOPLE: [(&str, &str, &str); 5] = [
    ("root", "issuer, operator, auditor", ""),
    ("dana", "approver", "leads"),
    ("eli", "approver", "leads"),
    ("finn", "approver", "finance"),
    ("mina", "issuer, approver", "leads"),
];

/// Chains of one and of two, and one that does not wait long.
pub fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot:
    session: {{ ttl: 1h, max_ttl: 4h }}
    scopes:
      read: on_use
      plain: on_use
      act: {{ grant: on_use, resources: ['item:*', 'thing:*'] }}
      acts: {{ grant: on_use, resources: ['item:*'] }}
      once: {{ grant: on_request, uses: 2, ttl: 10m, grants: 100 }}
      export: {{ grant: on_approval, uses: 2, ttl: 10m, grants: 100, approval: pair }}
tools:
  t:
    mount: /t
    upstream: {{ url: 'http://{}', timeout: 60s }}
    volatile_headers: [x-trace]
    routes:
      - {{ id: read, match: 'GET /read/{{item}}', scope: read }}
      - {{ id: act, match: ['POST /act/{{item}}', 'PUT /act/{{item}}', 'GET /act/{{item}}'], scope: act, resource: 'item:{{item}}', approval: default }}
      - {{ id: pair, match: 'POST /pair/{{item}}', scope: act, resource: 'item:{{item}}', approval: pair }}
      - {{ id: brief, match: 'POST /brief/{{item}}', scope: act, resource: 'item:{{item}}', approval: brief }}
      - {{ id: once, match: 'POST /once/{{item}}', scope: once, resource: 'item:{{item}}', approval: default }}
      - {{ id: erase, match: 'DELETE /items/{{item}}', scope: act, resource: 'item:{{item}}' }}
      - {{ id: export, match: 'POST /export/{{item}}', scope: export, resource: 'item:{{item}}' }}
      - {{ id: held, match: POST /held, scope: plain, approval: default }}
      - {{ id: big, match: POST /big, scope: plain, approval: default }}
      - {{ id: events, match: POST /events, scope: plain, approval: default }}
      - {{ id: broken, match: POST /broken, scope: plain, approval: default }}
      - {{ id: cut, match: POST /cut, scope: plain, approval: default }}
approvals:
  default: {{ approvers: [leads], quorum: 1, hold: 30s, expires: 10m, pending: {{ per_session: 4000, per_route: 4000 }} }}
  pair: {{ approvers: [leads, finance], quorum: 2, hold: 30s, expires: 10m, pending: {{ per_session: 4000, per_route: 4000 }} }}
  brief: {{ approvers: [leads], quorum: 1, hold: 30s, expires: 1s, denied_for: 1s, pending: {{ per_session: 3, per_route: 2 }} }}
",
        backend.address
    )
}

/// `text` with `from` once replaced, which must be there.
pub fn edited(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "`{from}` is in\n{text}");
    text.replacen(from, to, 1)
}

/// A configuration of this project with [`PEOPLE`].
pub fn setup(yaml: &str) -> Setup {
    let roles = PEOPLE.map(|(name, roles, _)| Role {
        name,
        roles,
        projects: "demo",
    });
    let setup = Setup::with(&[("demo", yaml)], &roles);
    setup.edit_server(|text| {
        let grouped = |text: String, (name, _, group): (&str, &str, &str)| {
            let from = format!("name: {name}, ");
            edited(&text, &from, &format!("{from}groups: [{group}], "))
        };
        let people = PEOPLE.into_iter();
        people.filter(|it| !it.2.is_empty()).fold(text, grouped)
    });
    setup
}

impl Scene {
    pub async fn open() -> Self {
        Self::open_with(|yaml| yaml).await
    }

    pub async fn open_with(edit: impl FnOnce(String) -> String) -> Self {
        let backend = Backend::start("t").await;
        let yaml = edit(policy(&backend));
        Self::before(backend, &yaml).await
    }

    /// Before this backend, under this policy of `demo`.
    pub async fn before(backend: Backend, yaml: &str) -> Self {
        let setup = setup(yaml);
        let gate = setup.start().await;
        Self {
            backend,
            setup,
            gate,
        }
    }

    pub async fn mint(&self) -> Minted {
        self.gate.mint("demo", "bot").await
    }

    /// A call of an agent on a connection of its own.
    pub async fn send(&self, session: &Minted, order: &Order) -> Answer {
        send(self.gate.agents, &session.token, order).await
    }

    /// The same, under way. Aborted, the agent has left.
    pub fn sending(&self, session: &Minted, order: &Order) -> JoinHandle<Answer> {
        let (address, token, order) = (self.gate.agents, session.token.clone(), order.clone());
        tokio::spawn(async move { send(address, &token, &order).await })
    }

    /// An admin call of `who`.
    pub async fn by(&self, who: &str, method: Method, path: &str, body: &Value) -> Answer {
        let payload = if body.is_null() {
            ().into()
        } else {
            client::Payload::from(body)
        };
        client::call(self.gate.admin, self.setup.key(who), method, path, payload).await
    }

    /// Asks without being held, and gives what a person is shown of it.
    pub async fn ask(&self, session: &Minted, order: &Order) -> Shown {
        let answer = self.send(session, &order.clone().at_once()).await;
        let id = waits(&answer);
        self.shown(&id).await
    }

    pub async fn shown(&self, id: &str) -> Shown {
        let all = self.all(id).await;
        Shown {
            id: id.to_owned(),
            digest: all["digest"].as_str().unwrap().to_owned(),
        }
    }

    /// All that a person is shown of an approval.
    pub async fn all(&self, id: &str) -> Value {
        let path = format!("/v1/approvals/{id}");
        let answer = self.by("dana", Method::GET, &path, &Value::Null).await;
        answer.expect(200).json()
    }

    /// Everything that waits for people.
    pub async fn pending(&self) -> Vec<Value> {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("/v1/approvals?state=pending&limit=100{after}");
            let page = self.by("dana", Method::GET, &path, &Value::Null).await;
            let page = page.expect(200).json();
            found.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return found,
            }
        }
    }

    /// Waits until a request with this target waits for people.
    pub async fn asked(&self, target: &str) -> Shown {
        let found = until("the request waits for people", || async {
            let pending = self.pending().await;
            let found = pending
                .into_iter()
                .find(|it| it["call"]["target"] == target);
            found.map(|it| it["id"].as_str().unwrap().to_owned())
        });
        let id = found.await;
        self.shown(&id).await
    }

    pub async fn decide(&self, who: &str, shown: &Shown, word: &str) -> Answer {
        let path = format!("/v1/approvals/{}/decision", shown.id);
        let body = json!({ "decision": word, "digest": shown.digest });
        self.by(who, Method::POST, &path, &body).await
    }

    pub async fn approve(&self, who: &str, shown: &Shown) {
        self.decide(who, shown, APPROVE).await.expect(200);
    }

    pub async fn stage(&self, id: &str) -> String {
        stage(&self.all(id).await)
    }

    pub async fn comes_to(&self, id: &str, wanted: &str) {
        until(&format!("the approval is {wanted}"), || async {
            (self.stage(id).await == wanted).then_some(())
        })
        .await;
    }

    /// Puts another policy in force.
    pub async fn enact(&self, yaml: &str) {
        self.setup.write_project("demo", yaml);
        self.reload().await;
        self.gate.runs(&self.setup.project_file("demo")).await;
    }

    /// Has the gate read its files now.
    pub async fn reload(&self) {
        let reload = self.gate.admin(Method::POST, "/v1/policy/reload", ());
        reload.await.expect(200);
    }

    /// A connection of an agent.
    pub async fn talk(&self) -> Talk {
        Talk::open(self.gate.agents).await.unwrap()
    }
}

/// Where an approval stands, as the admin API (`state`) and the agents' listener (`status`) write it.
pub fn stage(approval: &Value) -> String {
    let state = approval["state"].as_str();
    let state = state.or(approval["status"].as_str());
    state.unwrap_or_else(|| panic!("{approval}")).to_owned()
}

/// An answer that says that a person is asked; gives the approval's id.
#[track_caller]
pub fn waits(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    let json = answer.json();
    assert_eq!(json["status"], "PENDING_APPROVAL", "{json}");
    let id = json["approval"].as_str().unwrap().to_owned();
    let place = format!("/.toolgate/approvals/{id}");
    assert_eq!(answer.header("location"), Some(place.as_str()));
    let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(after >= 5, "{answer:?}");
    id
}
