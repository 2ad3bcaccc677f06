//! Whom a command believes where the admin API speaks TLS, and what it shows of itself.

use super::Failure;
use crate::config;
use crate::io::tls::client::{Connector, ConnectorError};
use crate::policy::model::{Http2, UpstreamTls, Verify};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;

/// Files of a `https://` admin API.
#[derive(Args, Clone, Debug, Default)]
pub struct Trust {
    /// Authorities to believe where --admin is https, in PEM; otherwise those of the system
    #[arg(long, global = true, value_name = "FILE", env = "TOOLGATE_CA")]
    pub ca: Option<PathBuf>,
    /// Certificate to show an admin API that asks for one, in PEM
    #[arg(long, global = true, value_name = "FILE", requires = "private_key")]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, global = true, value_name = "FILE", requires = "certificate")]
    pub private_key: Option<PathBuf>,
}

impl Trust {
    /// What makes connections to `host`. There is no way not to check who answers.
    ///
    /// # Errors
    /// [`Failure::Usage`] for files that can't be used.
    pub fn connector(&self, host: &str) -> Result<Arc<Connector>, Failure> {
        let authorities = self.ca.as_deref().map(config::certificates).transpose();
        let authorities = authorities.map_err(|why| Failure::Usage(format!("--ca: {why}")))?;
        let identity = match (&self.certificate, &self.private_key) {
            (Some(certificate), Some(key)) => Some(
                config::identity(certificate, key)
                    .map_err(|why| Failure::Usage(format!("--certificate: {why}")))?,
            ),
            _ => None,
        };
        let tls = UpstreamTls {
            server_name: host.into(),
            authorities,
            identity,
            verify: Verify::Full,
        };
        Connector::new(&tls, Http2::Off).map_err(|why| {
            Failure::Usage(match why {
                ConnectorError::NoRoots => {
                    "this system trusts nobody: name the gate's authority with --ca".to_owned()
                }
                ConnectorError::Name(name) => {
                    format!("--admin: no certificate could be valid for `{name}`")
                }
                ConnectorError::Certificates(why) => {
                    format!("--ca and --certificate can't be used: {why}")
                }
            })
        })
    }
}
