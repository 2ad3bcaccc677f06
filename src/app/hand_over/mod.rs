//! Hand-over: a new process takes the place of a running gate without one connection refused.
//!
//! What stands in the way, and so what this is: the ledger and the store each have one owner, and a listening socket that
//! is closed resets the connections that wait in it (`SO_REUSEPORT` alone leaves that gap: the kernel does not move them
//! to the other socket of the group unless `net.ipv4.tcp_migrate_req` is set, which is not the default). Therefore the
//! very sockets go from process to process, and connections wait in them while ledger and store change hands:
//!
//! 1. The new process reads its whole configuration, connects to a Unix socket in the running gate's ledger directory
//!    (nobody else's place: mode 0700, and each side checks the other's user id), and is given the listening sockets.
//! 2. It binds what the running gate does not have. Up to here nothing has changed for anybody. Then it says `go`.
//! 3. The running gate announces with every answer that the connection closes, stops accepting, finishes what is in
//!    flight within the bound it was asked for, closes ledger and store, and says `yours`.
//! 4. The new process opens ledger and store, accepts what waits, and says `serving`. Only then the old one ends.
//!
//! Should the new process end before `serving`, the old one opens ledger and store again and serves on, under the policy
//! that was in force. Should the old one end before `yours`, the new one goes on: it has the sockets.
//!
//! It refuses to leave calls in flight behind in the old process: the outcome of a call is written by the process that
//! decided it, and a session that is revoked must end its streams within a second, in whichever process they are.

mod give;
mod rights;
mod take;

pub(super) use self::give::Endpoint;
pub use self::give::Successor;
pub use self::take::{Release, TakeOver, TakeOverError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of what is said below. Another one is refused in words, and the running gate serves on.
const VERSION: u32 = 1;
/// The socket's name in the ledger directory.
const NAME: &str = "hand-over";
/// Longest line.
const LINE_BYTES_MAX: usize = 4096;
/// For each answer of the other side that it can give at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the new process says, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromNew {
    /// What have you got?
    Ask {
        version: u32,
        /// How long calls in flight may hold the hand-over up, in milliseconds.
        wait_ms: u64,
    },
    /// Drain and let go.
    Go,
    /// I serve.
    Serving,
}

/// What the running gate says, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromOld {
    /// These many sockets follow, in this order.
    Offer {
        agents: usize,
        admin: usize,
        metrics: usize,
    },
    /// Nothing will come of it.
    Refuse { why: String },
    /// Ledger and store are free.
    Yours,
}

fn place(ledger: &Path) -> PathBuf {
    ledger.join(NAME)
}

/// The other side, for texts: its id, where it has one here. (Processes of other namespaces have none.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(Option<i32>);

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, "{id}"),
            None => f.write_str("of another namespace"),
        }
    }
}

/// A stream that waits, with the process at its other end, which must be the same user's.
fn met(stream: tokio::net::UnixStream) -> io::Result<(UnixStream, Process)> {
    let other = stream.peer_cred()?;
    if other.uid() != rustix::process::geteuid().as_raw() {
        let why = format!("the other process belongs to user {}", other.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok((stream, Process(other.pid())))
}

fn say<T: Serialize>(mut stream: &UnixStream, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Byte by byte: what follows a line may carry sockets, which a read beyond it would lose.
fn hear<T: DeserializeOwned>(mut stream: &UnixStream) -> io::Result<T> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => return Ok(serde_json::from_slice(&line)?),
            _ if line.len() == LINE_BYTES_MAX => return Err(io::ErrorKind::InvalidData.into()),
            [byte] => line.push(byte),
        }
    }
}

/// That the other side says something else than it should.
fn unexpected(said: &impl std::fmt::Debug) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("unexpected: {said:?}; is it a gate of another version?"),
    )
}
