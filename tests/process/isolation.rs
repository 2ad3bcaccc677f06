//! Two projects in one gate, alike in every name: nothing of one is reached, counted, seen or changed from the other.

use crate::backend::Backend;
use crate::client::{self, Answer};
use crate::gate::{Gate, Minted, Role, Setup, minted};
use http::Method;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Same mount, agent, route ids and limit ids; other paths, ceilings, backends and bounds.
fn policy(side: Side, backend: &Backend) -> String {
    let (project, ceiling, private, bound) = match side {
        Side::Dev => ("dev", "any", "/only-dev", 1_000_000),
        Side::Prod => ("prod", "['item:1']", "/only-prod", 500_000),
    };
    format!(
        "version: 1
project: {project}
agents:
  bot:
    scopes:
      read: {{ grant: on_use, resources: {ceiling} }}
      private: on_use
      write: {{ grant: on_request, uses: 100, ttl: 1h, grants: 1000 }}
tools:
  shop:
    mount: /shop
    upstream: {{ url: 'http://{}' }}
    routes:
      - {{ id: items.read, match: 'GET /items/{{item}}', scope: read, resource: 'item:{{item}}' }}
      - {{ id: items.write, match: 'PUT /items/{{item}}', scope: write, resource: 'item:{{item}}' }}
      - {{ id: private, match: GET {private}, scope: private }}
limits:
  - {{ id: own, per: session, count: {bound}/1h }}
  - {{ id: all, per: project, count: {bound}/1h }}
",
        backend.address
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Dev,
    Prod,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Side::Dev => Side::Prod,
            Side::Prod => Side::Dev,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Side::Dev => "dev",
            Side::Prod => "prod",
        }
    }
}

/// What somebody of one side does.
#[derive(Clone, Debug)]
enum Act {
    /// A session calls: method, path, and what it claims about itself.
    Call {
        method: &'static str,
        path: &'static str,
        field: Option<(&'static str, &'static str)>,
    },
    /// A session asks for a grant.
    Ask,
    /// A principal of the side aims at the *other* side's session.
    Meddle(Meddling),
    /// A principal of the side mints in the *other* project.
    Trespass,
    /// A principal of the side lists sessions.
    List,
}

#[derive(Clone, Copy, Debug)]
enum Meddling {
    Show,
    Revoke,
    Quarantine,
    Release,
    Give,
    RevokeGrant,
}

fn act() -> impl Strategy<Value = Act> {
    let call = (
        prop::sample::select(vec!["GET", "PUT", "HEAD", "DELETE"]),
        prop::sample::select(vec![
            "/shop/items/1",
            "/shop/items/2",
            "/shop/only-dev",
            "/shop/only-prod",
            "/shop",
            "/items/1",
            "/dev/shop/items/1",
        ]),
        prop::option::of(prop::sample::select(vec![
            ("host", "prod.example"),
            ("host", "dev"),
            ("x-toolgate-project", "prod"),
            ("toolgate-project", "dev"),
            ("x-forwarded-host", "prod.example"),
        ])),
    );
    let meddling = prop::sample::select(vec![
        Meddling::Show,
        Meddling::Revoke,
        Meddling::Quarantine,
        Meddling::Release,
        Meddling::Give,
        Meddling::RevokeGrant,
    ]);
    prop_oneof![
        6 => call.prop_map(|(method, path, field)| Act::Call { method, path, field }),
        2 => Just(Act::Ask),
        4 => meddling.prop_map(Act::Meddle),
        1 => Just(Act::Trespass),
        1 => Just(Act::List),
    ]
}

/// One side, with a session that acts and one that only watches.
struct Party {
    backend: Backend,
    actor: Minted,
    witness: Minted,
    grant: String,
}

struct Scene {
    gate: Gate,
    setup: Setup,
    dev: Party,
    prod: Party,
}

impl Scene {
    async fn open() -> Self {
        let (dev, prod) = (Backend::start("dev").await, Backend::start("prod").await);
        let keeper = |name, projects| Role {
            name,
            roles: "issuer, operator, auditor",
            projects,
        };
        let setup = Setup::with(
            &[
                ("dev", &policy(Side::Dev, &dev)),
                ("prod", &policy(Side::Prod, &prod)),
            ],
            &[keeper("dev-keeper", "dev"), keeper("prod-keeper", "prod")],
        );
        let gate = setup.start().await;
        let dev = Party::open(&gate, &setup, Side::Dev, dev).await;
        let prod = Party::open(&gate, &setup, Side::Prod, prod).await;
        Self {
            gate,
            setup,
            dev,
            prod,
        }
    }

    fn party(&self, side: Side) -> &Party {
        match side {
            Side::Dev => &self.dev,
            Side::Prod => &self.prod,
        }
    }

    async fn keeper(&self, side: Side, method: Method, path: &str, body: Value) -> Answer {
        keeper(&self.gate, &self.setup, side, method, path, body).await
    }

    /// All that could change on a side: its sessions as its own keeper sees them, and what reached its backend.
    async fn state(&self, side: Side) -> (Value, Value, u64) {
        let party = self.party(side);
        let view = async |id: &str| {
            let seen = self
                .keeper(side, Method::GET, &format!("/v1/sessions/{id}"), json!({}))
                .await
                .expect(200);
            without_clocks(seen.json())
        };
        (
            view(&party.actor.id).await,
            view(&party.witness.id).await,
            party.backend.total(),
        )
    }

    async fn act(&self, side: Side, act: &Act) -> Result<(), TestCaseError> {
        let party = self.party(side);
        let theirs = self.party(side.other());
        match act {
            Act::Call {
                method,
                path,
                field,
            } => {
                let mut connection = client::Connection::open(self.gate.agents, &party.actor.token)
                    .await
                    .unwrap();
                let fields: Vec<_> = field.iter().copied().collect();
                let answer = connection
                    .start(method.parse().unwrap(), path, &fields, ().into())
                    .await
                    .unwrap();
                let answer = client::read(answer).await.unwrap();
                prop_assert!(
                    answer.backend().is_none_or(|name| name == side.name()),
                    "{:?}",
                    answer
                );
                prop_assert!(!answer.status.is_server_error(), "{:?}", answer);
            }
            Act::Ask => {
                let ask = json!({ "scope": "write", "resource": "item:9", "reason": "to try" });
                let answer = client::call(
                    self.gate.agents,
                    &party.actor.token,
                    Method::POST,
                    "/.toolgate/grants",
                    &ask,
                )
                .await;
                prop_assert!(matches!(answer.status.as_u16(), 201 | 409), "{:?}", answer);
            }
            Act::Meddle(meddling) => {
                let session = format!("/v1/sessions/{}", theirs.actor.id);
                let why = json!({ "reason": "not mine to give" });
                let (method, path, body) = match meddling {
                    Meddling::Show => (Method::GET, session, json!({})),
                    Meddling::Revoke => (Method::DELETE, session, json!({})),
                    Meddling::Quarantine => (Method::POST, session + "/quarantine", why),
                    Meddling::Release => (Method::POST, session + "/release", why),
                    Meddling::Give => (
                        Method::POST,
                        session + "/grants",
                        json!({ "scope": "write", "reason": "to meddle" }),
                    ),
                    Meddling::RevokeGrant => (
                        Method::DELETE,
                        format!("/v1/grants/{}", theirs.grant),
                        json!({}),
                    ),
                };
                let answer = self.keeper(side, method, &path, body).await;
                prop_assert_eq!(answer.status.as_u16(), 404, "{:?}", answer);
            }
            Act::Trespass => {
                let order = json!({ "project": side.other().name(), "agent": "bot" });
                let answer = self.keeper(side, Method::POST, "/v1/sessions", order).await;
                prop_assert!(answer.status.is_client_error(), "{:?}", answer);
            }
            Act::List => {
                let answer = self
                    .keeper(side, Method::GET, "/v1/sessions?limit=100", json!({}))
                    .await
                    .expect(200);
                for id in [&theirs.actor.id, &theirs.witness.id] {
                    prop_assert!(!answer.text().contains(id.as_str()), "{}", answer.text());
                }
                prop_assert!(answer.text().contains(&party.actor.id), "{}", answer.text());
            }
        }
        Ok(())
    }
}

impl Party {
    async fn open(gate: &Gate, setup: &Setup, side: Side, backend: Backend) -> Self {
        let order = json!({ "project": side.name(), "agent": "bot" });
        let mint = async || {
            minted(
                &keeper(
                    gate,
                    setup,
                    side,
                    Method::POST,
                    "/v1/sessions",
                    order.clone(),
                )
                .await
                .expect(201),
            )
        };
        let (actor, witness) = (mint().await, mint().await);
        let give =
            json!({ "scope": "write", "resource": "item:1", "uses": 100, "reason": "to write" });
        let given = keeper(
            gate,
            setup,
            side,
            Method::POST,
            &format!("/v1/sessions/{}/grants", actor.id),
            give,
        )
        .await
        .expect(201);
        let grant = given.json()["id"].as_str().unwrap().to_owned();
        Self {
            backend,
            actor,
            witness,
            grant,
        }
    }
}

/// A session's view without what changes by itself as time passes.
fn without_clocks(mut view: Value) -> Value {
    for limit in view["limits"].as_array_mut().into_iter().flatten() {
        limit.as_object_mut().unwrap().remove("resets_in_seconds");
    }
    view
}

async fn keeper(
    gate: &Gate,
    setup: &Setup,
    side: Side,
    method: Method,
    path: &str,
    body: Value,
) -> Answer {
    let key = setup.key(&format!("{}-keeper", side.name()));
    if method == Method::GET {
        client::call(gate.admin, key, method, path, ()).await
    } else {
        client::call(gate.admin, key, method, path, &body).await
    }
}

#[test]
fn nothing_done_in_one_project_touches_the_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let scene = Arc::new(Mutex::new(runtime.block_on(Scene::open())));
    let side = prop_oneof![Just(Side::Dev), Just(Side::Prod)];
    let deeds = prop::collection::vec((side, act()), 1..12);
    let mut runner = TestRunner::new(Config {
        cases: 60,
        failure_persistence: None,
        max_shrink_iters: 40,
        ..Config::default()
    });
    let found = runner.run(&deeds, |deeds| {
        let scene = runtime.block_on(scene.lock());
        for (side, act) in &deeds {
            let before = runtime.block_on(scene.state(side.other()));
            runtime.block_on(scene.act(*side, act))?;
            let after = runtime.block_on(scene.state(side.other()));
            prop_assert_eq!(
                before,
                after,
                "{:?} by {:?} touched the other project",
                act,
                side
            );
        }
        Ok(())
    });
    found.unwrap();
    drop(runtime);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_call_meets_each_projects_own_rules_backend_and_limits() {
    let scene = Scene::open().await;
    let agents = scene.gate.agents;
    for (side, remaining) in [(Side::Dev, 999_999), (Side::Prod, 499_999)] {
        let answer = client::get(agents, &scene.party(side).actor.token, "/shop/items/1")
            .await
            .expect(200);
        assert_eq!(answer.backend(), Some(side.name()));
        let left = answer.header("ratelimit").unwrap();
        assert!(left.contains(&format!("\"own\";r={remaining}")), "{left}");
    }
    client::get(agents, &scene.dev.actor.token, "/shop/items/2")
        .await
        .expect(200);
    client::get(agents, &scene.prod.actor.token, "/shop/items/2")
        .await
        .refused(403, "resource_outside_ceiling");
    client::get(agents, &scene.dev.actor.token, "/shop/only-prod")
        .await
        .refused(403, "no_route");
    client::get(agents, &scene.prod.actor.token, "/shop/only-dev")
        .await
        .refused(403, "no_route");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_in_an_attribute_or_a_path_is_a_literal() {
    let backend = Backend::start("crm").await;
    let yaml = policy(Side::Dev, &backend)
        .replace("resources: any", "resources: ['item:{session.customer}']");
    let setup = Setup::new("dev", &yaml);
    let gate = setup.start().await;
    let session = async |customer: &str| {
        let attributes = json!({ "customer": customer });
        let order = json!({ "project": "dev", "agent": "bot", "attributes": attributes });
        gate.mint_with(order).await.token
    };
    let (seven, star) = (session("7").await, session("*").await);
    for (token, path, status) in [
        (&seven, "/shop/items/7", 200),
        (&seven, "/shop/items/8", 403),
        (&seven, "/shop/items/*", 403),
        (&seven, "/shop/items/%2A", 403),
        (&star, "/shop/items/7", 403),
        (&star, "/shop/items/*", 200),
        (&star, "/shop/items/%2A", 200),
    ] {
        client::get(gate.agents, token, path).await.expect(status);
    }
}
