//! Conditions, from outside: what a call says decides which route judges it, and what can't be judged reaches no laxer one.
//!
//! Every case has one of two ends: the backend gives back, byte for byte, the body that was judged; or the gate says why
//! not, and nothing reached the backend.

mod bodies;
mod corpus;
mod held;
mod parts;
mod sql;

use crate::approvals::talk::{Order, send};
use crate::backend::Backend;
use crate::client::Answer;
use crate::gate::{Gate, Minted, Setup};

/// A gate, and a backend that gives back what it is sent.
struct Scene {
    backend: Backend,
    gate: Gate,
    session: Minted,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Forwarded by this route.
    By(&'static str),
    /// Refused with this status and reason.
    No(u16, &'static str),
}

const UNREADABLE: End = End::No(400, "body_unreadable");
const MEDIA: End = End::No(415, "body_unreadable");
const UNEVALUABLE: End = End::No(400, "unevaluable");
const UNMET: End = End::No(403, "condition_unmet");

fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot:
    session: {{ ttl: 1h, max_ttl: 4h }}
    scopes: {{ act: on_use }}
tools:
  t:
    mount: /t
    upstream: {{ url: 'http://{}', timeout: 60s }}
    routes:
      - {{ id: json, match: POST /mirror/json, where: {{ body.: {{ exists: true }} }}, scope: act }}
      - {{ id: json.any, match: POST /mirror/json, where: {{ header.x-none: {{ exists: false }} }}, scope: act }}
      - {{ id: tiny, match: POST /mirror/tiny, where: {{ body./a: {{ equals: 1 }} }}, body_limit: 1KiB, scope: act }}
      - {{ id: tiny.any, match: POST /mirror/tiny, scope: act }}
      - {{ id: wide, match: POST /mirror/wide, where: {{ body./a: {{ equals: 1 }} }}, body_limit: 2KiB, scope: act }}
      - {{ id: wide.narrow, match: POST /mirror/wide, where: {{ body./a: {{ equals: 2 }} }}, body_limit: 1KiB, scope: act }}
      - {{ id: small, match: POST /mirror/refunds, where: {{ body./amount: {{ at_least: 0.01, at_most: 100 }} }}, scope: act }}
      - {{ id: large, match: POST /mirror/refunds, scope: act }}
      - {{ id: page, match: GET /mirror/page, where: {{ query.limit: {{ at_most: 100 }} }}, scope: act }}
      - {{ id: page.any, match: GET /mirror/page, scope: act }}
      - {{ id: region, match: GET /mirror/region, where: {{ header.x-region: {{ one_of: [eu, us] }} }}, scope: act }}
      - {{ id: region.any, match: GET /mirror/region, scope: act }}
      - {{ id: user, match: 'GET /mirror/users/{{user}}', where: {{ path.user: {{ matches: '[0-9]+' }} }}, scope: act }}
      - {{ id: user.any, match: 'GET /mirror/users/{{user}}', scope: act }}
      - id: sql
        match: POST /mirror/sql
        where: {{ body./sql: {{ sql: {{ dialect: postgres, statements: [select], tables: [tickets, customers], limit_at_most: 1000 }} }} }}
        scope: act
      - id: sql.change
        match: POST /mirror/change
        where: {{ body./sql: {{ sql: {{ dialect: mysql, statements: [select, update, delete], tables: [tickets] }} }} }}
        scope: act
",
        backend.address
    )
}

impl Scene {
    async fn open() -> Self {
        let backend = Backend::start("t").await;
        let setup = Setup::new("demo", &policy(&backend));
        let gate = setup.start().await;
        let session = gate.mint("demo", "bot").await;
        Self {
            backend,
            gate,
            session,
        }
    }

    async fn send(&self, order: &Order) -> Answer {
        send(self.gate.agents, &self.session.token, order).await
    }

    /// How many calls this route let through.
    async fn passed(&self, route: &str) -> f64 {
        let labels = [format!("route=\"{route}\""), "decision=\"allow\"".into()];
        let labels = labels.each_ref().map(String::as_str);
        self.gate.metric("toolgate_requests_total", &labels).await
    }

    /// Makes the call and says what differs from how it must end; `None`: nothing.
    async fn differs(&self, what: &str, order: &Order, end: End) -> Option<String> {
        let before = self.backend.total();
        let counted = match end {
            End::By(route) => self.passed(route).await,
            End::No(..) => 0.0,
        };
        let answer = self.send(order).await;
        let arrived = self.backend.total() - before;
        let is_so = match end {
            End::By(route) => {
                let same = answer.status == 200 && answer.body == order.body && arrived == 1;
                same && self.passed(route).await - counted == 1.0
            }
            End::No(status, reason) => {
                answer.status == status
                    && answer.reason().as_deref() == Some(reason)
                    && arrived == 0
            }
        };
        let (status, reason) = (answer.status, answer.reason());
        (!is_so)
            .then(|| format!("{what}: must be {end:?}, is {status} {reason:?}, {arrived} arrived"))
    }

    /// Makes all of them, and says all that differ.
    async fn check(&self, cases: Vec<(String, Order, End)>) {
        let mut wrong = Vec::new();
        for (what, order, end) in &cases {
            wrong.extend(self.differs(what, order, *end).await);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// `POST` of JSON.
fn json(path: &str, body: impl Into<Vec<u8>>) -> Order {
    let order = Order::post(path).with("content-type", "application/json");
    order.body(body.into())
}
