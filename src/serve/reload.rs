//! The seam between who asks for a reload (admin API, signal, file watch) and the composition root, which does it.

use crate::policy::name::{PrincipalName, ProjectName};
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

/// What set a reload off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// SIGHUP.
    Signal,
    /// A watched file changed.
    FileChange,
    /// `POST /v1/policy/reload`.
    Principal(PrincipalName),
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trigger::Signal => f.write_str("signal"),
            Trigger::FileChange => f.write_str("file_change"),
            Trigger::Principal(name) => write!(f, "principal:{name}"),
        }
    }
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// What the files say is in force.
    Applied,
    /// Nothing changed: what was in force is.
    Rejected(Rejection),
}

/// Why a configuration was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// One line.
    pub summary: String,
    /// Every error with its place; empty where the files are valid and something else stood against them.
    pub errors: Vec<Misplaced>,
    /// Whose policies stay in force.
    pub projects: Vec<ProjectName>,
}

/// One error and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misplaced {
    /// As the gate reads it.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What is wrong and the cure.
    pub message: String,
}

/// A reload under way.
pub type Reloading = Pin<Box<dyn Future<Output = ReloadOutcome> + Send>>;

/// Asks for a reload.
#[derive(Clone)]
pub struct Reload(Arc<dyn Fn(Trigger) -> Reloading + Send + Sync>);

impl Reload {
    /// By `reload`, which lets one at a time through.
    pub fn new(reload: impl Fn(Trigger) -> Reloading + Send + Sync + 'static) -> Self {
        Self(Arc::new(reload))
    }

    /// Reads the configuration again and puts it in force if it is valid as a whole.
    pub async fn ask(&self, trigger: Trigger) -> ReloadOutcome {
        (self.0)(trigger).await
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}
