//! The life cycle: hand-overs between two processes, also those that fail half way; stopping; sockets that a service
//! manager opened; limits of file descriptors.

mod hand_over;
mod service;
mod stop;

use crate::backend::Backend;
use crate::client::{Answer, Connection, get, try_call};
use crate::gate::Gate;
use crate::wait::{PATIENCE, until, within};
use http::Method;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::task::JoinHandle;

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

/// Agents that call without a pause.
struct Load {
    stop: Arc<AtomicBool>,
    sums: Arc<Sums>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Sums {
    answered: AtomicUsize,
    /// Kept connections that closed between two calls.
    reopened: AtomicUsize,
    /// Calls on a kept connection that closed under them, made again.
    retried: AtomicUsize,
    failed: AtomicUsize,
}

impl Load {
    /// `count` agents that keep their connection, and as many that connect anew for each call.
    fn start(agents: SocketAddr, token: &str, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sums = Arc::new(Sums::default());
        let mut tasks = Vec::new();
        for number in 0..2 * count {
            let (stop, sums) = (Arc::clone(&stop), Arc::clone(&sums));
            let token = token.to_owned();
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if number % 2 == 0 {
                        keep(agents, &token, &stop, &sums).await;
                    } else {
                        let made = try_call(agents, &token, Method::POST, "/t/make", ()).await;
                        sums.count(made.map_err(|error| error.to_string()));
                    }
                }
            }));
        }
        Self { stop, sums, tasks }
    }

    /// Waits until so many more calls have been answered.
    async fn answers(&self, more: usize) {
        let goal = self.sums.answered.load(Ordering::Relaxed) + more;
        until("calls are answered", || async {
            (self.sums.answered.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    }

    async fn end(self) -> Arc<Sums> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            within(PATIENCE, "an agent ends", task).await.unwrap();
        }
        eprintln!("{:?}", self.sums);
        self.sums
    }
}

impl Sums {
    fn count(&self, made: Result<Answer, String>) {
        match made {
            Ok(answer) if answer.status == 200 => {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            other => {
                eprintln!("failed: {other:?}");
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Calls on one connection until it closes. As real clients do, a call on a connection that was used before and closes
/// without a byte of answer is made again, once, on a new one.
async fn keep(agents: SocketAddr, token: &str, stop: &AtomicBool, sums: &Sums) {
    let path = "/t/items/1";
    let mut connection = match Connection::open(agents, token).await {
        Ok(connection) => connection,
        Err(error) => return sums.count(Err(error.to_string())),
    };
    let mut used = false;
    while !stop.load(Ordering::Relaxed) {
        match connection.call(Method::GET, path, ()).await {
            Err(error) if used => {
                // Canceled: not even sent.
                if !error.is_canceled() && !error.is_closed() {
                    sums.retried.fetch_add(1, Ordering::Relaxed);
                }
                sums.reopened.fetch_add(1, Ordering::Relaxed);
                let again = try_call(agents, token, Method::GET, path, ()).await;
                return sums.count(again.map_err(|error| error.to_string()));
            }
            made => sums.count(made.map_err(|error| error.to_string())),
        }
        used = true;
    }
}
