//! The service manager, systemd or one that speaks as it does: sockets that it opened for us (sd_listen_fds(3)), and what
//! it is told about us (sd_notify(3)). Without one, nothing of this does anything.

use super::StartError;
use super::sockets::{Given, ListenerName};
use listenfd::ListenFd;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The sockets of `LISTEN_FDS`, by the names in `LISTEN_FDNAMES`. Only the first call gets them. To be called before any
/// thread is started, because the variables are removed from the environment.
///
/// # Errors
/// [`StartError::Given`]: one of them is no TCP socket that listens.
pub fn sockets() -> Result<Given, StartError> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = ListenFd::from_env();
    if passed.len() == 0 {
        return Ok(Given::by_nobody());
    }
    let mut given = Given::by_a_service_manager();
    let mut names = names.split(':');
    for number in 0..passed.len() {
        let name = names.next().and_then(ListenerName::parse);
        let adopted = passed.take_tcp_listener(number).and_then(|socket| {
            let socket = socket.ok_or(io::ErrorKind::NotConnected)?;
            given.add(name, socket)
        });
        adopted.map_err(|error| {
            StartError::Given(format!(
                "socket {} of {} that the service manager opened: {error}",
                number + 1,
                passed.len()
            ))
        })?;
    }
    Ok(given)
}

/// Tells the service manager how the gate is.
#[derive(Debug, Default)]
pub struct Notifier {
    /// `None`: nobody wants to know.
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// For `NOTIFY_SOCKET`.
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        match connect(&name) {
            Ok(to) => Self { to: Some(to) },
            Err(error) => {
                tracing::warn!(%error, "the service manager can't be told anything (NOTIFY_SOCKET)");
                Self::default()
            }
        }
    }

    /// It serves. Says which process it is: after a hand-over that is not the one the manager started.
    pub fn ready(&self) {
        self.tell(&format!("READY=1\nMAINPID={}", std::process::id()));
    }

    /// It reads its configuration again; [`Notifier::ready`] follows.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It drains.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, what: &str) {
        let Some((socket, manager)) = &self.to else {
            return;
        };
        if let Err(error) = socket.send_to_addr(what.as_bytes(), manager) {
            tracing::warn!(%error, "the service manager was not told: {what}");
        }
    }
}

/// A path, or `@` and a name in the abstract namespace.
fn connect(name: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not listen must not hold a gate up.
    socket.set_nonblocking(true)?;
    Ok((socket, manager))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_told_at_a_path_and_in_the_abstract_namespace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("toolgate-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (manager, at) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&abstract_address).unwrap(),
                format!("@{name}").into(),
            ),
        ] {
            let notifier = Notifier {
                to: Some(connect(&at).unwrap()),
            };
            notifier.reloading();
            notifier.ready();
            let mut heard = [0; 200];
            let length = manager.recv(&mut heard).unwrap();
            let text = String::from_utf8_lossy(&heard[..length]);
            assert!(text.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{text}");
            let length = manager.recv(&mut heard).unwrap();
            assert!(heard[..length].starts_with(b"READY=1\nMAINPID="));
        }
    }
}
