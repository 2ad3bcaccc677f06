//! The addresses of all listeners, taken before anything is served at any of them.

use super::StartError;
use crate::config::Server;
use crate::serve::listen::{self, Bound};
use crate::serve::socket;
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

/// All addresses, taken before anything is served at any of them.
#[derive(Debug)]
pub(super) struct Sockets {
    pub agents: Bound,
    pub admin: TcpListener,
    pub metrics: TcpListener,
    pub addresses: Addresses,
}

impl Sockets {
    pub(super) fn bind(server: &Server) -> Result<Self, StartError> {
        let refused = |listener, address| {
            move |error| StartError::Listen {
                listener,
                address,
                error,
            }
        };
        let at = server.agents.address;
        let agents = listen::bind(&server.agents, server.workers).map_err(refused("agents", at))?;
        let bind = |listener, at| {
            socket::bind(at)
                .and_then(|socket| Ok((socket.local_addr()?, socket)))
                .map_err(refused(listener, at))
        };
        let (admin_address, admin) = bind("admin", server.admin.address)?;
        let (metrics_address, metrics) = bind("metrics", server.metrics)?;
        Ok(Self {
            addresses: Addresses {
                agents: agents.address,
                admin: admin_address,
                metrics: metrics_address,
            },
            agents,
            admin,
            metrics,
        })
    }
}
