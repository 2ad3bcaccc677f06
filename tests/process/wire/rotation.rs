//! Certificates are exchanged while they are used: no call fails, new handshakes see the new one, old connections go on.

use super::content::Content;
use super::door::{Door, Talk};
use super::exchange::{Kind, perform, read, told};
use super::pki::Leaf;
use super::reference::Reference;
use super::scene::{BACKENDS_BEARER, Listening, Papers, setup, setup_with};
use super::side::{End, Side};
use crate::gate::Gate;
use crate::wait::{rounds, until, within};
use http::Method;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

const ROTATIONS: usize = 50;

/// Callers that never pause, until they are told to stop. Whatever fails, fails the test.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<u64>>,
}

impl Load {
    fn new() -> Self {
        Self {
            stop: Arc::default(),
            callers: Vec::new(),
        }
    }

    /// Calls on one connection from beginning to end.
    fn on_one_connection(&mut self, door: &Door) {
        let (door, stop) = (door.clone(), Arc::clone(&self.stop));
        self.callers.push(tokio::spawn(async move {
            let mut talk = door.open().await.unwrap();
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                call(&mut talk, "an old connection goes on").await;
                calls += 1;
            }
            calls
        }));
    }

    /// Calls on a new connection each, and shows it to `judge`, with what was so before it was opened.
    fn on_new_connections(&mut self, door: &Door, judge: Judge) {
        let (door, stop) = (door.clone(), Arc::clone(&self.stop));
        self.callers.push(tokio::spawn(async move {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                let before = judge.least.load(Ordering::SeqCst);
                let mut talk = door.open().await.unwrap();
                judge.check(&talk, before);
                call(&mut talk, "a new connection is served").await;
                calls += 1;
            }
            calls
        }));
    }

    /// Every caller's calls.
    async fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut calls = Vec::new();
        for caller in self.callers {
            let ended = within(Duration::from_secs(60), "the load ends", caller).await;
            calls.push(ended.expect("no call failed"));
        }
        calls
    }
}

async fn call(talk: &mut Talk, what: &str) {
    let answer = talk.start(Method::GET, "/page", &[], Content::Empty).await;
    let answer = answer.unwrap_or_else(|fault| panic!("{what}: {}", told(&fault)));
    assert_eq!(answer.status(), 200, "{what}");
    let body = read(answer.into_body()).await;
    assert!(body.unwrap_or_else(|fault| panic!("{what}: {fault}")).bytes > 0);
}

/// Which certificates may still be shown.
#[derive(Clone, Default)]
struct Judge {
    serials: Arc<Mutex<HashMap<Vec<u8>, u64>>>,
    /// Of the rotation that is known to be through.
    least: Arc<AtomicU64>,
}

impl Judge {
    fn expect(&self, leaf: &Leaf) {
        let mut serials = self.serials.lock().unwrap();
        serials.insert(leaf.der.to_vec(), leaf.serial);
    }

    fn serial(&self, talk: &Talk) -> u64 {
        self.serials.lock().unwrap()[talk.certificate.as_ref().unwrap()]
    }

    fn check(&self, talk: &Talk, before: u64) {
        let serial = self.serial(talk);
        assert!(serial >= before, "{serial} is shown after {before} was");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_rotations_of_the_gates_certificate_under_load_fail_no_call() {
    let papers = Papers::new();
    let backend = papers.backend(Side::H1).await;
    let setup = setup(&papers, Listening::Tls, std::slice::from_ref(&backend));
    let config = setup.config();
    let gate = setup.start().await;
    let token = gate.mint(Side::H1.name(), "bot").await.token;
    let judge = Judge::default();
    judge.expect(&papers.gate);
    let doors = [Side::H1Tls, Side::H2Tls].map(|side| papers.agent(side, &gate, &token));
    let mut load = Load::new();
    for door in &doors {
        load.on_one_connection(door);
        load.on_new_connections(door, judge.clone());
    }
    let rotations = rounds(ROTATIONS);
    for _ in 0..rotations {
        let next = papers.authority.server();
        judge.expect(&next);
        next.write(config.parent().unwrap(), "gate");
        gate.signal("HUP");
        for door in &doors {
            until("a new handshake sees the new certificate", || async {
                let talk = door.open().await.unwrap();
                (judge.serial(&talk) == next.serial).then_some(())
            })
            .await;
        }
        judge.least.store(next.serial, Ordering::SeqCst);
    }
    let calls = load.end().await;
    println!("{rotations} rotations: {calls:?} calls, none failed");
    assert!(
        calls.iter().all(|&calls| calls >= rotations as u64),
        "each was busy: {calls:?}"
    );
}

/// A project whose backend asks the gate for a certificate.
fn project(backend: &Reference, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "version: 1
project: {side}
agents: {{ bot: {{ scopes: {{ cells: on_use }} }} }}
tools:
  cells:
    mount: /cells
    upstream:
      url: {url}
      credential: {{ header: authorization, value: 'Bearer {BACKENDS_BEARER}' }}
      tls: {{ ca: {folder}/ca.pem, certificate: {folder}/own.pem, private_key: {folder}/own.key }}
    routes:
      - {{ id: cells, match: 'GET /{{*rest}}', scope: cells }}
",
        side = backend.side.name(),
        url = backend.url(),
    )
}

/// What the gate shows to `backend` on a call of now.
async fn shown(gate: &Gate, door: &Door, backend: &Reference, name: &str) -> Option<Vec<u8>> {
    let told = perform(Kind::Get, door, &backend.calls, name).await;
    let told = told.unwrap_or_else(|fault| panic!("{name} at {}: {fault}", gate.agents));
    assert_eq!(told.status, 200, "{name}");
    told.seen.certificate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_rotations_of_both_certificates_towards_backends_under_load_fail_no_call() {
    let papers = Papers::new();
    let serving = |side: Side, leaf: &Leaf| {
        let alpn = side.alpn(End::Backend);
        papers.authority.serving(leaf, true, alpn)
    };
    let mut backends = Vec::new();
    for side in [Side::H1Tls, Side::H2Tls] {
        backends.push(Reference::start(side, Some(serving(side, &papers.backend))).await);
    }
    let names: Vec<&str> = backends.iter().map(|it| it.side.name()).collect();
    let setup = setup_with(&papers, Listening::Plain, &names, |name, folder| {
        let backend = backends.iter().find(|it| it.side.name() == name).unwrap();
        project(backend, folder)
    });
    let config = setup.config();
    let gate = setup.start().await;
    let mut load = Load::new();
    let mut doors = Vec::new();
    for backend in &backends {
        let token = gate.mint(backend.side.name(), "bot").await.token;
        for side in [Side::H1, Side::H2c] {
            let door = papers.agent(side, &gate, &token);
            load.on_one_connection(&door);
            doors.push((door, backend));
        }
    }
    let rotations = rounds(ROTATIONS);
    for turn in 0..rotations {
        for backend in &backends {
            backend.show(serving(backend.side, &papers.authority.server()));
        }
        let next = papers.authority.client();
        next.write(config.parent().unwrap(), "own");
        gate.signal("HUP");
        for (door, backend) in &doors {
            let name = format!("turn {turn} over {}", door.side.name());
            until("the backend sees the new certificate", || async {
                let certificate = shown(&gate, door, backend, &name).await;
                (certificate.as_deref() == Some(&*next.der)).then_some(())
            })
            .await;
        }
    }
    let calls = load.end().await;
    println!("{rotations} rotations: {calls:?} calls, none failed");
    assert!(
        calls.iter().all(|&calls| calls >= rotations as u64),
        "each was busy: {calls:?}"
    );
}
