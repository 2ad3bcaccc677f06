//! Loading: every file of a configuration, and one report for all of them.

use super::error::{ConfigErrors, Place, Report, Reports};
use super::kept::report_broken;
use super::lower::{self, Draft, Known};
use super::raw;
use super::read::Read;
use super::secrets::Vault;
use super::{Lines, Loaded, Secrets, Server, Warning, files, tree};
use crate::policy::model::{Policy, PolicyHash};
use crate::policy::name::ProjectName;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Reads the server file at `path` and the projects it names, with secrets from the process's environment.
///
/// `projects` is relative to the server file; every other relative path is relative to the working directory.
///
/// # Errors
/// All that is wrong with all files.
pub fn load(path: &Path, secrets: Secrets) -> Result<Loaded, ConfigErrors> {
    load_with(path, secrets, &|name| std::env::var_os(name))
}

/// As [`load`], but whether the policies keep the promises of their tests is not asked: for looking at only.
///
/// # Errors
/// All that is wrong with all files.
pub fn load_untested(path: &Path, secrets: Secrets) -> Result<Loaded, ConfigErrors> {
    load_all(path, secrets, &|name| std::env::var_os(name), false)
}

/// As [`load`], with another environment.
///
/// # Errors
/// All that is wrong with all files.
pub fn load_with(
    path: &Path,
    secrets: Secrets,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Loaded, ConfigErrors> {
    load_all(path, secrets, environment, true)
}

fn load_all(
    path: &Path,
    secrets: Secrets,
    environment: &dyn Fn(&str) -> Option<OsString>,
    tested: bool,
) -> Result<Loaded, ConfigErrors> {
    let mut vault = Vault::new(secrets, environment);
    let (mut reports, raw) = read::<raw::Server>(path);
    let server_sha256 = sha256(reports.text());
    let (found, patterns) = raw.as_ref().map_or_else(Default::default, |raw| {
        project_files(path, raw, &mut reports)
    });
    let mut drafts: Vec<(Reports, Draft)> =
        found.iter().map(|path| project(path, &mut vault)).collect();
    refuse_equal_names(&mut drafts);
    lower::refuse_different(&mut drafts);
    let names: Option<Vec<ProjectName>> = drafts
        .iter()
        .map(|(_, draft)| Some(draft.name.as_ref()?.value.clone()))
        .collect();
    // Where no file was found, that was reported; every principal's projects would be unknown.
    let names = names.filter(|names| !names.is_empty());
    let policies: Vec<&Policy> = drafts
        .iter()
        .filter_map(|(_, draft)| draft.policy.as_ref().map(|(policy, _)| policy))
        .collect();
    let known = Known {
        projects: names.as_deref(),
        // Of fewer than all it can't be said what nobody may do.
        policies: (policies.len() == drafts.len()).then_some(&policies),
    };
    let server = raw.and_then(|raw| lower::server(raw, &known, &mut vault, &mut reports));
    if let Some(server) = server.as_ref().filter(|_| !reports.failed()) {
        for (reports, draft) in &mut drafts {
            if let Some((policy, places)) = &draft.policy {
                lower::report_unmet(policy, places, server, reports);
            }
        }
    }
    let broken = match &server {
        Some(server) if tested && !reports.failed() => test(&mut drafts, server),
        Some(_) | None => 0,
    };

    let mut files: Vec<PathBuf> = std::iter::once(path.to_owned()).chain(found).collect();
    files.append(&mut vault.files);
    let mut dated = reports.take_dated();
    let (mut errors, mut warnings) = reports.into_reports();
    let mut projects: Vec<(Policy, Lines)> = Vec::with_capacity(drafts.len());
    for (mut reports, draft) in drafts {
        dated.append(&mut reports.take_dated());
        projects.extend(draft.policy.map(|(policy, places)| {
            let lines = Lines::new(&policy, &places, draft.promises.len(), &reports);
            (policy, lines)
        }));
        let (more_errors, more_warnings) = reports.into_reports();
        errors.extend(more_errors);
        warnings.extend(more_warnings);
    }
    let (Some(server), true) = (server, errors.is_empty()) else {
        return Err(ConfigErrors::new(errors, files, broken));
    };
    projects.sort_by(|(a, _), (b, _)| a.project.cmp(&b.project));
    let (projects, lines) = projects.into_iter().unzip();
    Ok(Loaded {
        server,
        server_sha256,
        projects,
        lines,
        warnings: warnings.into_iter().map(warning).collect(),
        expiries: dated
            .into_iter()
            .map(|(from, report)| (from, warning(report)))
            .collect(),
        files,
        patterns,
    })
}

/// One project file, for looking at only: whatever needs a server file is not proven of it.
#[derive(Clone, Debug)]
pub struct Project {
    /// What it says.
    pub policy: Policy,
    /// Where its rules stand.
    pub lines: Lines,
    /// What is legal and probably not meant.
    pub warnings: Vec<Warning>,
}

/// Reads one project file by itself. Unset secrets are warnings.
///
/// # Errors
/// All that is wrong with it.
pub fn load_project(path: &Path) -> Result<Project, ConfigErrors> {
    let environment = |name: &str| std::env::var_os(name);
    let mut vault = Vault::new(Secrets::Optional, &environment);
    let (reports, draft) = self::project(path, &mut vault);
    let lowered = draft.policy.map(|(policy, places)| {
        let lines = Lines::new(&policy, &places, draft.promises.len(), &reports);
        (policy, lines)
    });
    let (errors, warnings) = reports.into_reports();
    match lowered {
        Some((policy, lines)) if errors.is_empty() => Ok(Project {
            policy,
            lines,
            warnings: warnings.into_iter().map(warning).collect(),
        }),
        _ => Err(ConfigErrors::new(errors, vec![path.to_owned()], 0)),
    }
}

/// Whether a text is a project file, judged by itself: nothing is read beside it, and what is interpolated is not looked for.
///
/// # Errors
/// All that is wrong with it.
pub fn check_project(text: &str) -> Result<(), ConfigErrors> {
    let path = Path::new("(the project file)");
    let mut vault = Vault::new(Secrets::Optional, &|_| None);
    let (mut reports, raw) = parsed::<raw::Project>(path, text.to_owned());
    if let Some(raw) = raw {
        lower::project(raw, PolicyHash(sha256(text)), &mut vault, &mut reports);
    }
    match reports.into_reports() {
        (errors, _) if errors.is_empty() => Ok(()),
        (errors, _) => Err(ConfigErrors::new(errors, Vec::new(), 0)),
    }
}

/// Reports the promises that are not kept, where all else is well: only of what is valid can it be said what it decides.
fn test(drafts: &mut [(Reports, Draft)], server: &Server) -> usize {
    let valid = |(reports, draft): &(Reports, Draft)| !reports.failed() && draft.policy.is_some();
    if !drafts.iter().all(valid) {
        return 0;
    }
    let approvers = server.approvers();
    let mut broken = 0;
    for (reports, draft) in drafts {
        if let Some((policy, places)) = &draft.policy {
            let lines = Lines::new(policy, places, draft.promises.len(), reports);
            report_broken(&draft.promises, (policy, &lines), &approvers, reports);
            broken += reports.errors();
        }
    }
    broken
}

fn warning(report: Report) -> Warning {
    let Report {
        file,
        line,
        column,
        message,
        rendered,
        coloured,
    } = report;
    Warning {
        summary: format!("{}:{line}:{column}: {message}", file.display()),
        rendered,
        coloured,
    }
}

/// A file as it is written; `None` where that was reported.
fn read<T: Read>(path: &Path) -> (Reports, Option<T>) {
    match files::read_text(path) {
        Ok(text) => parsed(path, text),
        Err((message, help)) => {
            let mut reports = Reports::new(path, String::new());
            reports.error(Place::default(), message, help);
            (reports, None)
        }
    }
}

fn parsed<T: Read>(path: &Path, text: String) -> (Reports, Option<T>) {
    let mut reports = Reports::new(path, text.clone());
    let raw = tree::parse(&text, &mut reports).and_then(|root| T::read(&root, &mut reports));
    (reports, raw)
}

fn project(path: &Path, vault: &mut Vault<'_>) -> (Reports, Draft) {
    let (mut reports, raw) = read::<raw::Project>(path);
    let hash = PolicyHash(sha256(reports.text()));
    let draft = match raw {
        Some(raw) => lower::project(raw, hash, vault, &mut reports),
        None => Draft {
            name: None,
            policy: None,
            promises: Vec::new(),
        },
    };
    (reports, draft)
}

fn sha256(text: &str) -> [u8; 32] {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.as_ref());
    bytes
}

/// The files that `projects` names, each once, and its patterns.
fn project_files(
    server: &Path,
    raw: &raw::Server,
    reports: &mut Reports,
) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let folder = server.parent().unwrap_or(Path::new(""));
    let (mut found, mut patterns) = (Vec::new(), Vec::new());
    for pattern in raw.projects.iter().flat_map(|list| &list.value.0) {
        match files::matching(folder, &pattern.value.0) {
            Ok(more) if more.is_empty() => {
                let message = format!("no file is named by `{}`", pattern.value.0);
                let help = format!(
                    "it is looked for in `{}`, the folder of this file",
                    shown(folder)
                );
                reports.error(pattern.place, message, help);
            }
            Ok(more) => {
                patterns.push(folder.join(&pattern.value.0));
                for path in more {
                    if !found.contains(&path) {
                        found.push(path);
                    }
                }
            }
            Err((message, help)) => reports.error(pattern.place, message, help),
        }
    }
    (found, patterns)
}

fn shown(folder: &Path) -> String {
    if folder.as_os_str().is_empty() {
        ".".into()
    } else {
        folder.display().to_string()
    }
}

fn refuse_equal_names(drafts: &mut [(Reports, Draft)]) {
    let mut first: HashMap<ProjectName, PathBuf> = HashMap::new();
    for (reports, draft) in drafts {
        let Some(name) = &draft.name else {
            continue;
        };
        match first.get(&name.value) {
            Some(path) => {
                let message = format!(
                    "the project `{}` is already in `{}`",
                    name.value,
                    path.display()
                );
                reports.error(name.place, message, "give each project a name of its own");
            }
            None => {
                first.insert(name.value.clone(), reports.path().to_owned());
            }
        }
    }
}
