//! Bytes on a connection of the agents' listener, HTTP/1.1 or frames of HTTP/2: without a token, whatever they are, nothing
//! of them reaches a backend, nothing panics, and the next connection is served.
#![allow(clippy::disallowed_methods, reason = "it waits for a gate to come up")]

use clap::Parser as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use toolgate::cli::{Cli, run as run_cli};

/// Whether anything came through to the backend.
static REACHED: AtomicBool = AtomicBool::new(false);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(10);

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound")
}

/// A gate in this process, so that coverage is seen.
fn gate() -> SocketAddr {
    static GATE: OnceLock<SocketAddr> = OnceLock::new();
    *GATE.get_or_init(|| {
        let backend = TcpListener::bind("127.0.0.1:0").expect("a port");
        let behind = backend.local_addr().expect("bound");
        std::thread::spawn(move || {
            while let Ok((stream, _)) = backend.accept() {
                REACHED.store(true, Ordering::SeqCst);
                drop(stream);
            }
        });
        let (folder, agents, admin, metrics) = (super::folder("wire"), free(), free(), free());
        let (data, key) = (folder.display(), "0".repeat(64));
        let project = format!("version: 1\nproject: demo\nagents: {{ bot: {{ scopes: {{ all: on_use }} }} }}\ntools:\n  t:\n    mount: /\n    upstream: {{ url: 'http://{behind}' }}\n    routes: [{{ id: all, match: ['GET /{{*rest}}', 'POST /{{*rest}}'], scope: all }}]\n");
        let server = format!("version: 1\nworkers: 1\nlisteners:\n  agents: {{ address: '{agents}' }}\n  admin: {{ address: '{admin}' }}\n  metrics: {{ address: '{metrics}' }}\nprincipals:\n  - {{ name: root, key: {{ sha256: {key} }}, roles: [issuer], projects: [demo] }}\nstore: {{ embedded: {{ path: {data}/store.db }} }}\nledger: {{ directory: {data}/ledger }}\nprojects: [project.yaml]\n");
        std::fs::write(folder.join("project.yaml"), project).expect("written");
        let file = folder.join("toolgate.yaml");
        std::fs::write(&file, server).expect("written");
        std::thread::spawn(move || {
            let arguments = ["toolgate".into(), "serve".into(), "--config".into(), file.into_os_string()];
            if let Err(failure) = run_cli(Cli::parse_from(arguments)) {
                failure.tell();
                std::process::abort();
            }
        });
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(agents).is_err() {
            assert!(Instant::now() < until, "the gate does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        agents
    })
}

/// The first byte says which version is spoken, the rest is what is said.
pub fn run(data: &[u8]) {
    let [version, bytes @ ..] = data else { return };
    let mut stream = TcpStream::connect(gate()).expect("the next connection is taken");
    let socket = socket2::SockRef::from(&stream);
    // Reset in the end: tens of thousands of ports would wait otherwise.
    drop(socket.set_linger(Some(Duration::ZERO)));
    drop(stream.set_read_timeout(Some(PATIENCE)));
    if version % 2 == 1 {
        drop(stream.write_all(PREFACE));
    }
    drop(stream.write_all(bytes));
    drop(stream.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    if let Err(fault) = stream.read_to_end(&mut answer) {
        assert!(
            fault.kind() != std::io::ErrorKind::WouldBlock,
            "the connection is neither answered nor closed"
        );
    }
    assert!(!answer.starts_with(b"HTTP/1.1 500"), "a call panics");
    assert!(
        !REACHED.load(Ordering::SeqCst),
        "a backend is reached without a token"
    );
}
