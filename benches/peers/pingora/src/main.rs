//! Pingora with the policy of the side-by-side run: a bearer token is looked up, method and path are checked, the session's rate is limited,
//! and each request is one line of a file.
//!
//! `peers-pingora LISTEN UPSTREAM TOKENS RECORDS THREADS LIMIT`; `-` for TOKENS forwards everything. LIMIT is calls a second.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use async_trait::async_trait;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;
use pingora_limits::rate::Rate;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

struct Policy {
    sessions: HashMap<String, u32, ahash::RandomState>,
    rate: Rate,
    limit: isize,
    records: Mutex<BufWriter<File>>,
}

struct Proxy {
    upstream: SocketAddr,
    policy: Option<Arc<Policy>>,
}

/// One call.
struct Call {
    begun: Instant,
    session: Option<u32>,
    scope: &'static str,
}

fn scope(method: &str, path: &str) -> Option<&'static str> {
    match method {
        "GET" if path.starts_with("/v1/tools/") => Some("tools.read"),
        "POST" if path.starts_with("/v1/tools/") => Some("tools.write"),
        _ => None,
    }
}

impl Policy {
    /// The status that refuses the call, where it is refused.
    fn refuses(&self, head: &RequestHeader, call: &mut Call) -> Option<u16> {
        let field = head.headers.get("authorization");
        let token = field.and_then(|it| it.to_str().ok()?.strip_prefix("Bearer "));
        call.session = token.and_then(|token| self.sessions.get(token)).copied();
        let Some(session) = call.session else {
            return Some(401);
        };
        let Some(scope) = scope(head.method.as_str(), head.uri.path()) else {
            return Some(403);
        };
        call.scope = scope;
        (self.rate.observe(&session, 1) > self.limit).then_some(429)
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Call;

    fn new_ctx(&self) -> Call {
        Call {
            begun: Instant::now(),
            session: None,
            scope: "",
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _call: &mut Call,
    ) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }

    async fn request_filter(&self, session: &mut Session, call: &mut Call) -> Result<bool> {
        let Some(policy) = &self.policy else {
            return Ok(false);
        };
        let Some(status) = policy.refuses(session.req_header(), call) else {
            return Ok(false);
        };
        session.respond_error(status).await?;
        Ok(true)
    }

    async fn logging(&self, session: &mut Session, _fault: Option<&Error>, call: &mut Call) {
        let Some(policy) = &self.policy else { return };
        let status = session
            .response_written()
            .map_or(0, |it| it.status.as_u16());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let head = session.req_header();
        let mut records = policy.records.lock().expect("nobody panics with it");
        let written = writeln!(
            records,
            "{{\"ts\":{}.{:06},\"session\":\"{}{}\",\"method\":\"{}\",\"path\":\"{}\",\"scope\":\"{}\",\"status\":{status},\"us\":{}}}",
            now.as_secs(),
            now.subsec_micros(),
            call.session.map_or("", |_| "s"),
            call.session.unwrap_or(0),
            head.method,
            head.uri.path(),
            call.scope,
            call.begun.elapsed().as_micros()
        );
        written.expect("records are written");
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, tokens, records, threads, limit] = words.as_slice() else {
        panic!("peers-pingora LISTEN UPSTREAM TOKENS RECORDS THREADS LIMIT")
    };
    let policy = (tokens != "-").then(|| {
        let text = std::fs::read_to_string(tokens).expect("the tokens are there");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(records)
            .expect("records can be written");
        let policy = Arc::new(Policy {
            sessions: (0..)
                .zip(text.lines())
                .map(|(number, token)| (token.to_owned(), number))
                .collect(),
            rate: Rate::new(Duration::from_secs(1)),
            limit: limit.parse().expect("a number"),
            records: Mutex::new(BufWriter::with_capacity(64 * 1024, file)),
        });
        // What is in the buffer is written each second, as nginx's flush=1s does.
        let again = Arc::clone(&policy);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                again
                    .records
                    .lock()
                    .expect("nobody panics with it")
                    .flush()
                    .expect("records are written");
            }
        });
        policy
    });
    let settings = ServerConf {
        threads: threads.parse().expect("a number"),
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let proxy = Proxy {
        upstream: upstream.parse().expect("an address"),
        policy,
    };
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever();
}
