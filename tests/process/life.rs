//! The life cycle: hand-overs between two processes, also those that fail half way; stopping; sockets that a service
//! manager opened; limits of file descriptors.

mod agents;
mod hand_over;
mod service;
mod stop;

use crate::backend::Backend;
use crate::client::get;
use crate::gate::Gate;
use crate::wait::until;
use std::net::SocketAddr;

fn policy(backend: &Backend) -> String {
    format!(
        "version: 1
project: demo
agents:
  bot: {{ scopes: {{ read: on_use, write: on_use }} }}
tools:
  t:
    mount: /t
    upstream: {{ url: 'http://{}', timeout: 60s }}
    routes:
      - {{ id: held, match: GET /held, scope: read }}
      - {{ id: events, match: GET /events, scope: read }}
      - {{ id: items, match: 'GET /items/{{item}}', scope: read }}
      - {{ id: make, match: POST /make, scope: write }}
",
        backend.address
    )
}

/// Whether it serves: a call on a connection of its own passes.
async fn serves(gate: &Gate, token: &str) {
    get(gate.agents, token, "/t/items/1").await.expect(200);
}

/// Waits until nobody can connect any longer.
async fn takes_no_more(agents: SocketAddr) {
    until("no new connection is taken", || async {
        let connected = tokio::net::TcpStream::connect(agents).await;
        connected.is_err().then_some(())
    })
    .await;
}
