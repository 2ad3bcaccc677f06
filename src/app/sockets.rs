//! The listening sockets of a gate: bound here, opened by a service manager, or received from the gate that ran before.
//!
//! They are there before anything is served at any of them, and a copy of each is kept: while there is one, closing a
//! listener resets nobody who waits in it, so another process (or this one) can serve on.

use super::StartError;
use crate::config::Server;
use crate::serve::socket;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Where a running gate listens, with the ports that were bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The data plane.
    pub agents: SocketAddr,
    /// The admin API.
    pub admin: SocketAddr,
    /// `/metrics`, `/livez`, `/readyz`.
    pub metrics: SocketAddr,
}

/// What listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListenerName {
    Agents,
    Admin,
    Metrics,
}

impl ListenerName {
    pub(super) const ALL: [Self; 3] = [Self::Agents, Self::Admin, Self::Metrics];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == text)
    }

    fn configured(self, server: &Server) -> SocketAddr {
        match self {
            Self::Agents => server.agents.address,
            Self::Admin => server.admin.address,
            Self::Metrics => server.metrics,
        }
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All sockets, listening.
#[derive(Debug)]
pub struct Sockets {
    /// At one address, spread over the data plane's threads.
    pub(super) agents: Vec<TcpListener>,
    pub(super) admin: TcpListener,
    pub(super) metrics: TcpListener,
}

/// Sockets that another process opened.
#[derive(Debug)]
pub struct Given {
    by: Giver,
    sockets: Vec<GivenSocket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Giver {
    /// Nobody: everything is bound here.
    Nobody,
    /// What it opened was meant for us: a socket that does not fit is a mistake in one of two files.
    ServiceManager,
    /// What it has is what it was configured with: where our configuration says otherwise, that is a change.
    Gate,
}

#[derive(Debug)]
struct GivenSocket {
    name: Option<ListenerName>,
    address: SocketAddr,
    socket: TcpListener,
}

impl Given {
    pub(super) fn by_nobody() -> Self {
        Self::by(Giver::Nobody)
    }

    pub(super) fn by_a_service_manager() -> Self {
        Self::by(Giver::ServiceManager)
    }

    pub(super) fn by_a_gate() -> Self {
        Self::by(Giver::Gate)
    }

    fn by(by: Giver) -> Self {
        Self {
            by,
            sockets: Vec::new(),
        }
    }

    /// Without a name a socket is found by its address.
    ///
    /// # Errors
    /// When it does not listen for TCP.
    pub(super) fn add(
        &mut self,
        name: Option<ListenerName>,
        socket: TcpListener,
    ) -> io::Result<()> {
        let socket = socket::adopt(socket)?;
        self.sockets.push(GivenSocket {
            name,
            address: socket.local_addr()?,
            socket,
        });
        Ok(())
    }

    /// Further descriptors of the same sockets.
    ///
    /// # Errors
    /// When the system gives no more descriptors.
    pub fn try_clone(&self) -> Result<Self, StartError> {
        let sockets = self.sockets.iter().map(|given| {
            Ok(GivenSocket {
                name: given.name,
                address: given.address,
                socket: given.socket.try_clone()?,
            })
        });
        Ok(Self {
            by: self.by,
            sockets: sockets
                .collect::<io::Result<_>>()
                .map_err(StartError::Threads)?,
        })
    }

    /// Those of one listener.
    fn take(
        &mut self,
        name: ListenerName,
        configured: SocketAddr,
    ) -> Result<Vec<TcpListener>, StartError> {
        let (own, others) = std::mem::take(&mut self.sockets)
            .into_iter()
            .partition(|given| match given.name {
                Some(given) => given == name,
                None => fits(configured, given.address),
            });
        self.sockets = others;
        let own: Vec<GivenSocket> = own;
        let Some(strange) = own.iter().find(|given| !fits(configured, given.address)) else {
            return Ok(own.into_iter().map(|given| given.socket).collect());
        };
        let address = strange.address;
        if self.by == Giver::Gate {
            tracing::info!(listener = %name, from = %address, to = %configured, "the address changes; connections to the old one are refused from now on");
            return Ok(Vec::new());
        }
        Err(StartError::Given(format!(
            "the service manager opened {address} for `{name}`, and the configuration says {configured}; make them agree"
        )))
    }

    fn none_is_left(&self) -> Result<(), StartError> {
        match self.sockets.first() {
            Some(GivenSocket { address, .. }) if self.by == Giver::ServiceManager => {
                Err(StartError::Given(format!(
                    "the service manager opened {address}, which is no listener's address; name the socket agents, admin or metrics (FileDescriptorName=)"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Port 0 stands for any.
fn fits(configured: SocketAddr, given: SocketAddr) -> bool {
    configured == given || (configured.port() == 0 && configured.ip() == given.ip())
}

impl Sockets {
    /// What was given, where it is for an address of the configuration; the rest is bound.
    pub(super) fn obtain(server: &Server, mut given: Given) -> Result<Self, StartError> {
        let refused = |name: ListenerName| {
            let address = name.configured(server);
            move |error| StartError::Listen {
                listener: name.as_str(),
                address,
                error,
            }
        };
        let name = ListenerName::Agents;
        let address = name.configured(server);
        let mut agents = given.take(name, address)?;
        if agents.is_empty() {
            agents = socket::bind_group(address, server.workers.max(1)).map_err(refused(name))?;
        }
        let mut one = |name: ListenerName| {
            let address = name.configured(server);
            let mut sockets = given.take(name, address)?;
            match (sockets.pop(), sockets.is_empty()) {
                (None, _) => socket::bind(address).map_err(refused(name)),
                (Some(socket), true) => Ok(socket),
                (Some(_), false) => Err(StartError::Given(format!(
                    "more than one socket for `{name}`; it listens at one"
                ))),
            }
        };
        let (admin, metrics) = (one(ListenerName::Admin)?, one(ListenerName::Metrics)?);
        given.none_is_left()?;
        Ok(Self {
            agents,
            admin,
            metrics,
        })
    }

    /// Further descriptors of the same sockets.
    /// # Errors
    /// When the system gives no more descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            agents: self
                .agents
                .iter()
                .map(TcpListener::try_clone)
                .collect::<io::Result<_>>()?,
            admin: self.admin.try_clone()?,
            metrics: self.metrics.try_clone()?,
        })
    }

    pub(super) fn addresses(&self) -> io::Result<Addresses> {
        let agents = self.agents.first().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Addresses {
            agents: agents.local_addr()?,
            admin: self.admin.local_addr()?,
            metrics: self.metrics.local_addr()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening() -> (TcpListener, SocketAddr) {
        let socket = socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn a_socket_is_found_by_its_name_or_else_by_its_address() {
        let (named, named_at) = listening();
        let (unnamed, unnamed_at) = listening();
        let mut given = Given::by_a_service_manager();
        given.add(Some(ListenerName::Admin), named).unwrap();
        given.add(None, unnamed).unwrap();
        assert!(given.none_is_left().is_err());
        let any = "127.0.0.1:0".parse().unwrap();
        let other = "127.0.0.2:0".parse().unwrap();
        assert_eq!(given.take(ListenerName::Agents, other).unwrap().len(), 0);
        let agents = given.take(ListenerName::Agents, unnamed_at).unwrap();
        assert_eq!(agents[0].local_addr().unwrap(), unnamed_at);
        let admin = given.take(ListenerName::Admin, any).unwrap();
        assert_eq!(admin[0].local_addr().unwrap(), named_at);
        given.none_is_left().unwrap();
    }

    #[test]
    fn another_address_than_the_configured_is_a_mistake_of_a_service_manager_and_a_change_after_a_gate()
     {
        let configured = "127.0.0.2:1".parse().unwrap();
        let mut given = Given::by_a_service_manager();
        given.add(Some(ListenerName::Admin), listening().0).unwrap();
        let error = given.take(ListenerName::Admin, configured).unwrap_err();
        assert!(error.to_string().contains("127.0.0.2:1"), "{error}");
        let mut given = Given::by_a_gate();
        given.add(Some(ListenerName::Admin), listening().0).unwrap();
        let taken = given.take(ListenerName::Admin, configured).unwrap();
        assert!(taken.is_empty());
        given.none_is_left().unwrap();
    }
}
