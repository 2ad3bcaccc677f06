//! Certificates, keys and authorities from PEM files, and what is said of those that do not fit.

use super::*;
use crate::config::Secrets;
use crate::config::error::Place;
use std::path::{Path, PathBuf};

struct Scene {
    folder: tempfile::TempDir,
    /// What was reported: errors, then warnings with the time from which they hold.
    said: String,
    files: Vec<PathBuf>,
}

fn made() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["gate.example".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

impl Scene {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            said: String::new(),
            files: Vec::new(),
        }
    }

    fn write(&self, name: &str, text: &str) -> At<Text> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        self.named(name)
    }

    fn named(&self, name: &str) -> At<Text> {
        let path = self.folder.path().join(name);
        At {
            place: Place::new(0..4),
            value: Text(path.to_str().unwrap().to_owned()),
        }
    }

    fn load<T>(
        &mut self,
        secrets: Secrets,
        load: impl FnOnce(&mut Vault<'_>, &mut Reports) -> Option<T>,
    ) -> Option<T> {
        let mut vault = Vault::new(secrets, &|_| None);
        let mut reports = Reports::new(Path::new("t.yaml"), "name: text\n".into());
        let loaded = load(&mut vault, &mut reports);
        self.files = vault.files;
        let dated = reports.take_dated();
        let (errors, warnings) = reports.into_reports();
        let all = errors
            .iter()
            .chain(&warnings)
            .chain(dated.iter().map(|(_, report)| report));
        self.said = all
            .map(|report| report.rendered.clone())
            .collect::<Vec<_>>()
            .join("\n");
        loaded
    }
}

#[test]
fn a_chain_and_its_key_are_an_identity_and_both_files_are_watched() {
    let mut scene = Scene::new();
    let ((own, key), (other, _)) = (made(), made());
    let certificate = scene.write("gate.pem", &format!("# a note\n{own}{other}"));
    let key = scene.write("gate.key", &key);
    let identity = scene.load(Secrets::Required, |vault, reports| {
        identity(&certificate, &key, vault, reports)
    });
    assert_eq!(identity.unwrap().chain.ders().len(), 2);
    assert!(!scene.said.contains("error"), "{}", scene.said);
    assert_eq!(scene.files.len(), 2);
}

#[test]
fn a_key_of_another_certificate_is_refused_by_the_names_of_both() {
    let mut scene = Scene::new();
    let ((certificate, _), (_, key)) = (made(), made());
    let certificate = scene.write("gate.pem", &certificate);
    let key = scene.write("gate.key", &key);
    assert!(
        scene
            .load(Secrets::Required, |vault, reports| identity(
                &certificate,
                &key,
                vault,
                reports
            ))
            .is_none()
    );
    assert!(
        scene.said.contains("does not belong to the certificate"),
        "{}",
        scene.said
    );
    assert!(scene.said.contains("gate.key") && scene.said.contains("gate.pem"));
}

#[test]
fn what_is_no_certificate_or_no_key_is_refused_with_a_cure() {
    let (certificate, key) = made();
    let broken = certificate.replacen("MII", "M!I", 1);
    let nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (first, second, said) in [
        (key.as_str(), key.as_str(), "are the two names swapped?"),
        ("", &key, "there is no certificate in"),
        (&broken, &key, "is not PEM that can be read"),
        (nothing, &key, "can't be read"),
        (&certificate, &certificate, "there is no private key in"),
        (&certificate, encrypted, "is encrypted"),
    ] {
        let mut scene = Scene::new();
        let (certificate, key) = (
            scene.write("gate.pem", first),
            scene.write("gate.key", second),
        );
        let loaded = scene.load(Secrets::Required, |vault, reports| {
            identity(&certificate, &key, vault, reports)
        });
        assert!(loaded.is_none());
        assert!(scene.said.contains(said), "{said}: {}", scene.said);
        assert!(scene.said.contains("help: "), "{}", scene.said);
    }
}

#[test]
fn a_missing_file_is_an_error_where_the_gate_is_to_serve_and_a_warning_where_it_is_looked_at() {
    let mut scene = Scene::new();
    let named = scene.named("absent.pem");
    for (secrets, level) in [
        (Secrets::Required, "error: "),
        (Secrets::Optional, "warning: "),
    ] {
        let loaded = scene.load(secrets, |vault, reports| {
            authorities(&named, vault, reports)
        });
        assert!(loaded.is_none());
        assert!(scene.said.starts_with(level), "{}", scene.said);
        assert_eq!(scene.files.len(), 1, "watched, so that its coming is seen");
    }
}

#[test]
fn a_pasted_private_key_is_not_shown() {
    let mut scene = Scene::new();
    let pasted = At {
        place: Place::new(0..10),
        value: Text(made().1),
    };
    let loaded = scene.load(Secrets::Required, |vault, reports| {
        key(&pasted, vault, reports)
    });
    assert!(loaded.is_none());
    assert!(
        scene.said.contains("expected the name of a file"),
        "{}",
        scene.said
    );
    assert!(!scene.said.contains("name: text"), "{}", scene.said);
    assert!(scene.files.is_empty());
}

#[test]
fn a_certificates_end_is_a_warning_from_then_on() {
    let mut scene = Scene::new();
    let named = scene.write("ca.pem", &made().0);
    let bundle = scene.load(Secrets::Required, |vault, reports| {
        authorities(&named, vault, reports)
    });
    assert!(bundle.is_some());
    assert!(
        scene.said.starts_with("warning: every certificate in"),
        "{}",
        scene.said
    );
    assert!(
        scene.said.contains("expired at 4096-01-01"),
        "{}",
        scene.said
    );
}
