//! Reload: all files are read again and validated as a whole; then policies and principals are swapped, or nothing is.
//!
//! Requests in flight finish under the policy that admitted them. What can't change without a restart is refused by name.

use super::Watch;
use super::parts::Parts;
use crate::config::watch::{Watched, Watcher};
use crate::config::{self, ConfigErrors, Loaded, Secrets, Server};
use crate::gate::Gate;
use crate::io::metrics::Reload;
use crate::io::notify::Targets;
use crate::ledger::Level;
use crate::ledger::record::Event;
use crate::policy::model::{Policy, PolicyHash};
use crate::policy::name::ProjectName;
use crate::serve::admin::Principals;
use crate::serve::reload::{Misplaced, Rejection, ReloadOutcome, Trigger};
use crate::store::news::What;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Does reloads, one at a time.
pub(super) struct Reloader {
    parts: Arc<Parts>,
    /// The server file.
    path: PathBuf,
    watcher: Option<Watcher>,
    in_force: Mutex<InForce>,
}

/// What a gate was started with.
#[derive(Debug)]
pub(super) struct Start {
    /// The server file.
    pub path: PathBuf,
    pub server: Server,
    pub server_sha256: [u8; 32],
    pub hashes: Vec<(ProjectName, PolicyHash)>,
    pub files: Vec<PathBuf>,
    pub patterns: Vec<PathBuf>,
    pub watcher: Option<Watcher>,
}

/// What was last put in force.
#[derive(Debug)]
struct InForce {
    server: Server,
    server_sha256: [u8; 32],
    hashes: Vec<(ProjectName, PolicyHash)>,
    /// Of the last load that went well.
    files: Vec<PathBuf>,
    /// Of the last server file that could be read.
    patterns: Vec<PathBuf>,
}

/// The versions of a set of policies.
pub(super) fn hashes(policies: &[Policy]) -> Vec<(ProjectName, PolicyHash)> {
    let version = |policy: &Policy| (policy.project.clone(), policy.hash);
    policies.iter().map(version).collect()
}

impl Reloader {
    pub(super) fn new(parts: Arc<Parts>, start: Start) -> Self {
        let Start {
            path,
            server,
            server_sha256,
            hashes,
            files,
            patterns,
            watcher,
        } = start;
        Self {
            parts,
            path,
            watcher,
            in_force: Mutex::new(InForce {
                server,
                server_sha256,
                hashes,
                files,
                patterns,
            }),
        }
    }

    /// Reads, validates, swaps.
    pub(super) async fn reload(&self, trigger: Trigger) -> ReloadOutcome {
        let mut in_force = self.in_force.lock().await;
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || config::load(&path, Secrets::Required));
        let outcome = match reading.await {
            Ok(Ok(loaded)) => {
                in_force.patterns.clone_from(&loaded.patterns);
                self.follow(&loaded.files, &in_force.patterns);
                self.apply(&mut in_force, loaded, &trigger).await
            }
            Ok(Err(errors)) => {
                self.follow(errors.files(), &in_force.patterns);
                Err(invalid(&errors))
            }
            Err(_) => Err(other(
                "the configuration could not be read: a fault of the gate".to_owned(),
            )),
        };
        match outcome {
            Ok(()) => ReloadOutcome::Applied,
            Err(rejected) => {
                let rejection = self.reject(&in_force, rejected, &trigger).await;
                ReloadOutcome::Rejected(rejection)
            }
        }
    }

    /// What a gate would have to be started with to go on as this one.
    pub(super) async fn in_force(&self) -> Loaded {
        let in_force = self.in_force.lock().await;
        Loaded {
            server: in_force.server.clone(),
            server_sha256: in_force.server_sha256,
            projects: self.parts.gate.policies(),
            lines: self.parts.lines.load().to_vec(),
            warnings: Vec::new(),
            expiries: Vec::new(),
            files: in_force.files.clone(),
            patterns: in_force.patterns.clone(),
        }
    }

    fn follow(&self, files: &[PathBuf], patterns: &[PathBuf]) {
        if let Some(watcher) = &self.watcher {
            watcher.follow(Watched {
                files: files.to_vec(),
                patterns: patterns.to_vec(),
            });
        }
    }

    async fn apply(
        &self,
        in_force: &mut InForce,
        mut loaded: Loaded,
        trigger: &Trigger,
    ) -> Result<(), Rejected> {
        if let Some(what) = config::restart_needed(&in_force.server, &loaded.server) {
            return Err(other(format!("{what} needs a restart")));
        }
        Gate::check(&loaded.projects).map_err(|fault| other(fault.to_string()))?;
        let renewed = self.parts.tls.renew(&in_force.server, &loaded.server);
        let renewed = renewed.map_err(|fault| other(format!("TLS: {fault}")))?;
        let targets = Targets::of(&loaded.projects).map_err(|fault| other(fault.to_string()))?;
        let telemetry = self.parts.telemetry.as_ref();
        let telemetry = telemetry.zip(loaded.server.telemetry.as_ref());
        let told = telemetry.map(|(telemetry, settings)| telemetry.prepare(settings));
        let told = told.transpose().map_err(|fault| other(fault.to_string()))?;
        let hashes = hashes(&loaded.projects);
        // Equal hashes are put in force too: a secret's file may be what changed.
        loaded.warn_of_expired(self.parts.clock.now().wall);
        for warning in &loaded.warnings {
            tracing::warn!("{}", warning.summary);
        }
        // Recorded first: a policy that decides must be on record.
        let versions = (&loaded.server_sha256, hashes.as_slice());
        if !self.record("reloaded", versions, trigger, "").await {
            return Err(other("the ledger can't record it now".to_owned()));
        }
        self.parts
            .principals
            .store(Arc::new(Principals::new(&loaded.server.principals)));
        self.parts.gate.appoint(loaded.server.approvers());
        renewed.put_in_force();
        self.parts.notifier.install(targets);
        if let (Some(telemetry), Some(told)) = (&self.parts.telemetry, told) {
            telemetry.install(told);
        }
        self.parts.gate.install(loaded.projects);
        self.parts.lines.store(Arc::new(loaded.lines));
        self.parts.metrics.reloaded(Reload::Applied);
        self.tell("reloaded");
        tracing::info!(%trigger, projects = hashes.len(), "configuration reloaded");
        in_force.server = loaded.server;
        in_force.server_sha256 = loaded.server_sha256;
        in_force.files = loaded.files;
        in_force.hashes = hashes;
        Ok(())
    }

    async fn reject(&self, in_force: &InForce, rejected: Rejected, trigger: &Trigger) -> Rejection {
        self.parts.metrics.reloaded(Reload::Rejected);
        self.tell("rejected");
        let Rejected {
            mut rejection,
            report,
        } = rejected;
        let projects = in_force.hashes.iter().map(|(project, _)| project.clone());
        rejection.projects = projects.collect();
        tracing::error!(%trigger, summary = %rejection.summary, "configuration rejected; what was in force is\n{report}");
        // Already the worse case; that it can't be recorded either is what the ledger's own alarm is for.
        let versions = (&in_force.server_sha256, in_force.hashes.as_slice());
        self.record("rejected", versions, trigger, &rejection.summary)
            .await;
        rejection
    }

    /// Whoever listens hears of it; a principal that was taken out hears nothing more.
    fn tell(&self, change: &'static str) {
        let now = self.parts.clock.now();
        let news = self.parts.sessions.news();
        news.tell(now.wall, None, What::Policy { change });
    }

    async fn record(
        &self,
        change: &'static str,
        (server, hashes): (&[u8; 32], &[(ProjectName, PolicyHash)]),
        trigger: &Trigger,
        detail: &str,
    ) -> bool {
        let event = Event::Policy {
            change,
            server,
            hashes,
            trigger: &trigger.to_string(),
            detail,
        };
        let now = self.parts.clock.now();
        self.parts
            .ledger
            .append(&event, now.wall, Level::Written)
            .await
            .is_ok()
    }
}

struct Rejected {
    rejection: Rejection,
    /// For the log: with excerpts and help.
    report: String,
}

fn invalid(errors: &ConfigErrors) -> Rejected {
    let reports = errors.reports();
    let misplaced: Vec<Misplaced> = reports
        .iter()
        .map(|report| Misplaced {
            file: report.file.clone(),
            line: report.line,
            column: report.column,
            message: report.message.clone(),
        })
        .collect();
    let first = misplaced.first().map_or_else(String::new, |first| {
        format!(
            ": {}:{}:{}: {}",
            first.file.display(),
            first.line,
            first.column,
            first.message
        )
    });
    let count = misplaced.len();
    let noun = if count == 1 { "error" } else { "errors" };
    Rejected {
        rejection: Rejection {
            summary: format!("{count} {noun}{first}"),
            errors: misplaced,
            projects: Vec::new(),
        },
        report: errors.to_string(),
    }
}

fn other(summary: String) -> Rejected {
    Rejected {
        report: summary.clone(),
        rejection: Rejection {
            summary,
            errors: Vec::new(),
            projects: Vec::new(),
        },
    }
}

/// `None` where they are not to be watched, or can't be: a signal still reloads.
pub(super) fn watch_files(
    watch: Watch,
    files: Vec<PathBuf>,
    patterns: &[PathBuf],
) -> Option<(Watcher, watch::Receiver<u64>)> {
    if watch == Watch::Nothing {
        return None;
    }
    let watched = Watched {
        files,
        patterns: patterns.to_vec(),
    };
    Watcher::start(watched)
        .inspect_err(|error| tracing::error!(%error, "files can't be watched; SIGHUP reloads them"))
        .ok()
}
