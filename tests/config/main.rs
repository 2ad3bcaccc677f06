//! What the configuration says of itself: every error and warning as its reader sees it, the examples, the schema.
//!
//! `bad/` and `warned/` hold the cases. `server-*.yaml` is a server file beside a good project, any other file a project
//! beside a good server file, a folder a whole configuration with its `toolgate.yaml`. What is reported stands beside
//! each in `.txt`; `UPDATE=1` writes it anew.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod approvals;
mod examples;
mod tls;
mod whole;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use toolgate::config::{self, Loaded, Secrets};

const SERVER: &str = include_str!("good/toolgate.yaml");
const PROJECT: &str = include_str!("good/demo.yaml");

/// A key of the right shape, and a credential: the environment of every case.
fn environment(name: &str) -> Option<OsString> {
    match name {
        "ISSUER_KEY" => Some(issuer_key().into()),
        "CRM_API_KEY" => Some("s3cret-of-the-crm".into()),
        "BROKEN_KEY" => Some("tgk_not-a-key-of-the-right-shape".into()),
        "TWO_LINES" => Some("s3cret\nof two lines".into()),
        "HOOK_SECRET" => Some(HOOK_SECRET.into()),
        "SHORT_HOOK_SECRET" => Some("whsec_czNjcmV0".into()),
        "EMPTY" => Some("".into()),
        _ => None,
    }
}

/// The secret of a webhook: 24 bytes.
const HOOK_SECRET: &str = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";

fn issuer_key() -> String {
    principal_key(7)
}

fn principal_key(byte: u8) -> String {
    use toolgate::policy::token::{Token, TokenKind};
    Token::mint(TokenKind::Principal, &[byte; 32])
        .reveal()
        .to_owned()
}

/// Lays a case out as a configuration of its own. The folder lives as long as the first of what is returned.
fn lay_out(case: &Path) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let name = case.file_name().unwrap().to_str().unwrap();
    fs::create_dir(at("projects")).unwrap();
    if case.is_dir() {
        for entry in fs::read_dir(case).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let to = if name == "toolgate.yaml" {
                at(&name)
            } else {
                at("projects").join(&name)
            };
            fs::copy(entry.path(), to).unwrap();
        }
    } else if name.starts_with("server-") {
        fs::copy(case, at("toolgate.yaml")).unwrap();
        fs::write(at("projects/demo.yaml"), PROJECT).unwrap();
    } else {
        fs::write(at("toolgate.yaml"), SERVER).unwrap();
        fs::copy(case, at("projects/demo.yaml")).unwrap();
    }
    let server = at("toolgate.yaml");
    (folder, server)
}

/// What is reported of a case, with the folder's name taken out.
fn reported(case: &Path) -> String {
    let (folder, server) = lay_out(case);
    let text = match config::load_with(&server, Secrets::Required, &environment) {
        Err(errors) => errors.to_string(),
        Ok(Loaded { warnings, .. }) => {
            let rendered: Vec<String> = warnings
                .into_iter()
                .map(|warning| warning.rendered)
                .collect();
            rendered.join("\n\n")
        }
    };
    let text = text.replace(&format!("{}/", folder.path().display()), "");
    let text = text.replace(&folder.path().display().to_string(), ".");
    for secret in [
        "s3cret",
        "tgk_not",
        "c2VjcmV0",
        "czNjcmV0",
        "AXMzY3",
        &issuer_key(),
    ] {
        assert!(
            !text.contains(secret),
            "{}: a secret is shown:\n{text}",
            case.display()
        );
    }
    format!("{}\n", text.trim_end())
}

fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(kind);
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_none_or(|is| is == "yaml"))
        .collect();
    cases.sort();
    cases
}

/// Compares each case with its golden text; says all that differ.
fn check(kind: &str, level: &str) -> usize {
    let cases = cases(kind);
    let mut wrong = Vec::new();
    for case in &cases {
        let text = reported(case);
        let golden = case.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        let placed = text.starts_with(level) && text.contains("yaml:") && text.contains("help: ");
        if text != expected || !placed {
            wrong.push(format!(
                "{}\n--- expected\n{expected}--- reported\n{text}",
                case.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    cases.len()
}

#[test]
fn every_bad_configuration_is_refused_with_place_message_and_cure() {
    let count = check("bad", "error: ");
    assert!(count >= 60, "{count} cases");
}

#[test]
fn what_is_legal_and_probably_not_meant_is_warned_of() {
    check("warned", "warning: ");
}
