//! TLS of the listeners: built at the start, and built anew where a reload brings other files. Building is part of
//! judging a configuration; nothing is swapped until all of it was found good.

use super::StartError;
use crate::config::{self, ListenerTls};
use crate::io::tls::server::{Server, TlsFault, Version};
use std::sync::Arc;

/// `None`: the listener speaks plain HTTP, until a restart.
pub(super) struct Tls {
    pub agents: Option<Arc<Server>>,
    pub admin: Option<Arc<Server>>,
}

/// What a reload brings, built and not yet in force.
pub(super) struct Renewed(Vec<(Arc<Server>, Version)>);

impl Tls {
    pub(super) fn build(server: &config::Server) -> Result<Self, StartError> {
        let build = |listener, tls: &Option<ListenerTls>| {
            let version = tls.as_ref().map(Version::new).transpose();
            let version = version.map_err(|fault| StartError::Tls { listener, fault })?;
            Ok::<_, StartError>(version.map(|version| Arc::new(Server::new(version))))
        };
        Ok(Self {
            agents: build("agents", &server.agents.tls)?,
            admin: build("admin", &server.admin.tls)?,
        })
    }

    /// Only where contents differ: who speaks with what is unchanged may go on resuming sessions.
    pub(super) fn renew(
        &self,
        old: &config::Server,
        new: &config::Server,
    ) -> Result<Renewed, TlsFault> {
        let mut renewed = Vec::new();
        for (server, old, new) in [
            (&self.agents, &old.agents.tls, &new.agents.tls),
            (&self.admin, &old.admin.tls, &new.admin.tls),
        ] {
            if let (Some(server), Some(tls), true) = (server, new, old != new) {
                renewed.push((Arc::clone(server), Version::new(tls)?));
            }
        }
        Ok(Renewed(renewed))
    }
}

impl Renewed {
    /// For handshakes from now on; open connections go on as they are.
    pub(super) fn put_in_force(self) {
        for (server, version) in self.0 {
            server.put_in_force(version);
        }
    }
}
