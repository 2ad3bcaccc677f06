//! Every spelling of a target that was ever used to get past a proxy, over both versions of HTTP, byte by byte on raw
//! sockets: what the gate forwards is judged by two dozen models of readers, and by nginx and Apache httpd themselves.

#[path = "../../readers/hostile.rs"]
mod hostile;
#[path = "../../readers/mod.rs"]
mod models;
#[path = "../../readers/ordinary.rs"]
mod ordinary;
mod recorder;
mod server;
mod wire;

use crate::gate::{Gate, Setup};
use recorder::Recorder;
use server::Server;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use toolgate::policy::target::Target;
use wire::{Call, Version};

/// A public place that the session may read, and a protected one that it may not, at a backend that is mounted at `/tool`.
fn policy(backend: SocketAddr) -> String {
    format!(
        "version: 1
project: demo
agents: {{ bot: {{ scopes: {{ read: on_use }} }} }}
tools:
  tool:
    mount: /tool
    upstream: {{ url: 'http://{backend}', http2: off }}
    routes:
      - {{ id: public, match: 'GET /public/{{*rest}}', scope: read }}
      - {{ id: admin, match: 'GET /admin/{{*rest}}', scope: admin }}
      - {{ id: ordinary, match: 'GET /any/{{*rest}}', scope: read }}
"
    )
}

/// A gate before a backend, and a session of its agent.
async fn gate(backend: SocketAddr) -> (Setup, Gate, String) {
    let setup = Setup::new("demo", &policy(backend));
    let gate = setup.start().await;
    let token = gate.mint("demo", "bot").await.token;
    (setup, gate, token)
}

/// What the gate makes of a target on its own, where it forwards it as the public place.
fn decided(raw: &[u8]) -> Option<String> {
    let target = Target::parse(std::str::from_utf8(raw).ok()?, wire::HOST).ok()?;
    let path = target.path().strip_prefix("/tool")?;
    let query = target.query().map(|query| format!("?{query}"));
    let below = path.strip_prefix("/public/")?;
    (!below.is_empty()).then(|| format!("{path}{}", query.unwrap_or_default()))
}

/// The table, or each of so many of it and all that is let through.
fn table(each: usize) -> Arc<[Vec<u8>]> {
    let all = hostile::targets("/tool", "public").into_iter().enumerate();
    let some = all.filter(|(at, raw)| at % each == 0 || decided(raw).is_some());
    some.map(|(_, raw)| raw).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_target_reaches_a_reader_as_anything_but_what_was_decided_over_either_version_of_http() {
    let backend = Recorder::start().await;
    let (_setup, gate, token) = gate(backend.address).await;
    let table = table(3);
    assert!(table.len() >= 3000, "{}", table.len());
    for version in [Version::H1, Version::H2] {
        let call = Call {
            gate: gate.agents,
            token: token.clone(),
            version,
        };
        wire::send_all(&call, Arc::clone(&table)).await;
        let seen = backend.take();
        let mut expected = BTreeSet::new();
        for (at, raw) in table.iter().enumerate() {
            let shown = String::from_utf8_lossy(raw);
            let forwarded = seen.get(&at).map(Vec::as_slice).unwrap_or_default();
            assert!(forwarded.len() <= 1, "{shown} is forwarded twice");
            if let Some(forwarded) = forwarded.first() {
                let bypasses = models::escapes(forwarded, "/public/");
                assert!(bypasses.is_empty(), "{version:?} {shown}: {bypasses:?}");
                let forwarded = String::from_utf8(forwarded.clone()).unwrap();
                assert_eq!(decided(raw), Some(forwarded), "{version:?} {shown}");
            }
            // Nothing that is lawful is lost either; HTTP/2 has no absolute-form.
            if let Some(decided) = decided(raw)
                && (version == Version::H1 || raw.starts_with(b"/"))
            {
                expected.insert(decided);
                assert!(seen.contains_key(&at), "{version:?} {shown} is refused");
            }
        }
        assert!(expected.len() > 50, "{expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordinary_targets_arrive_byte_for_byte_over_either_version_of_http() {
    let backend = Recorder::start().await;
    let (_setup, gate, token) = gate(backend.address).await;
    let mut ordinary = ordinary::targets();
    for (explained, _) in ordinary::EXPLAINED {
        ordinary.remove(explained);
    }
    assert!(ordinary.len() >= 2000, "{}", ordinary.len());
    for (version, each) in [(Version::H1, 1), (Version::H2, 2)] {
        let some: Arc<[Vec<u8>]> = ordinary
            .iter()
            .step_by(each)
            .map(|target| format!("/tool/any{target}").into_bytes())
            .collect();
        let call = Call {
            gate: gate.agents,
            token: token.clone(),
            version,
        };
        wire::send_all(&call, Arc::clone(&some)).await;
        let seen = backend.take();
        for (at, raw) in some.iter().enumerate() {
            let shown = String::from_utf8_lossy(raw);
            let forwarded = seen.get(&at).and_then(|all| all.first());
            let forwarded = forwarded.map(|it| String::from_utf8_lossy(it).into_owned());
            assert_eq!(
                forwarded.as_deref(),
                shown.strip_prefix("/tool"),
                "{version:?}"
            );
        }
    }
}

/// Against a real server: the place that answers is the one that was decided on.
async fn judged_by(server: Server) {
    let (_setup, gate, token) = gate(server.address).await;
    let table = table(4);
    assert!(table.len() >= 3000, "{}", table.len());
    // The table is no harmless one to this server: sent as they are, some reach what is protected.
    let lawful = Call {
        gate: server.address,
        token: String::new(),
        version: Version::H1,
    };
    let direct = hostile::targets("", "public").into_iter().step_by(4);
    let direct = wire::send_all(&lawful, direct.collect()).await;
    let reached = direct.iter().filter(|body| is_from(body, "admin")).count();
    assert!(reached >= 50, "{reached} of {}", direct.len());

    for version in [Version::H1, Version::H2] {
        let call = Call {
            gate: gate.agents,
            token: token.clone(),
            version,
        };
        let answers = wire::send_all(&call, Arc::clone(&table)).await;
        let mut from_public = 0;
        for (raw, body) in table.iter().zip(&answers) {
            let shown = String::from_utf8_lossy(raw);
            for place in ["admin", "elsewhere"] {
                assert!(!is_from(body, place), "{version:?} {shown}: {place}");
            }
            from_public += usize::from(is_from(body, "public"));
        }
        assert!(from_public > 50, "{from_public}");
    }
}

fn is_from(body: &[u8], place: &str) -> bool {
    let said = format!("place={place}.");
    body.windows(said.len()).any(|part| part == said.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_behind_the_gate_answers_from_no_place_but_the_one_that_was_decided() {
    judged_by(Server::nginx().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_behind_the_gate_answers_from_no_place_but_the_one_that_was_decided() {
    judged_by(Server::apache().await).await;
}
