//! TLS files as part of the configuration: watched, checked, swapped without a restart.

use super::{PROJECT, SERVER, environment};
use std::fs;
use std::path::Path;
use toolgate::config::{self, Clients, Loaded, Secrets};
use toolgate::policy::time::Timestamp;

/// Server file, project, and a certificate with its key, in a folder of their own.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::create_dir(scene.0.path().join("projects")).unwrap();
        fs::write(scene.0.path().join("projects/demo.yaml"), PROJECT).unwrap();
        scene.renew(2100);
        scene
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A new key and a certificate that is valid until the end of this year.
    fn renew(&self, year: i32) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["gate.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        fs::write(
            self.path("gate.pem"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        fs::write(self.path("gate.key"), key.serialize_pem()).unwrap();
    }

    /// With this behind the agents' address; `FOLDER` stands for the folder.
    fn load(&self, listener: &str) -> Loaded {
        let listener = format!("0.0.0.0:8080{listener}").replace("FOLDER", &self.path(""));
        let server = SERVER.replacen("127.0.0.1:8080", &listener, 1);
        fs::write(self.path("toolgate.yaml"), server).unwrap();
        let path = self.path("toolgate.yaml");
        config::load_with(Path::new(&path), Secrets::Required, &environment)
            .unwrap_or_else(|errors| panic!("{errors}"))
    }
}

const TLS: &str = ", tls: { certificate: FOLDER/gate.pem, private_key: FOLDER/gate.key }";
const MUTUAL: &str = ", tls: { certificate: FOLDER/gate.pem, private_key: FOLDER/gate.key, client_ca: FOLDER/gate.pem }";

#[test]
fn a_listener_with_tls_may_be_public_and_its_files_are_watched() {
    let scene = Scene::new();
    assert_eq!(scene.load("").warnings.len(), 1);
    let loaded = scene.load(TLS);
    assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
    let tls = loaded.server.agents.tls.unwrap();
    assert_eq!(tls.clients, Clients::Unasked);
    for name in ["gate.pem", "gate.key"] {
        assert!(
            loaded.files.iter().any(|file| file.ends_with(name)),
            "{name}"
        );
    }
}

#[test]
fn who_names_authorities_and_no_more_has_them_required() {
    let scene = Scene::new();
    let clients = |listener: &str| scene.load(listener).server.agents.tls.unwrap().clients;
    assert!(matches!(clients(MUTUAL), Clients::Required(_)));
    let optional = MUTUAL.replace(" }", ", client_auth: optional }");
    assert!(matches!(clients(&optional), Clients::Optional(_)));
}

#[test]
fn renewed_certificates_reload_and_tls_itself_needs_a_restart() {
    let scene = Scene::new();
    let (plain, before, mutual) = (scene.load(""), scene.load(TLS), scene.load(MUTUAL));
    scene.renew(2101);
    let after = scene.load(TLS);
    assert_ne!(before.server.agents, after.server.agents);
    let needed = |old: &Loaded, new: &Loaded| config::restart_needed(&old.server, &new.server);
    assert_eq!(needed(&before, &after), None);
    assert_eq!(needed(&before, &mutual), None);
    let restart = Some("a change to listeners.agents needs a restart".to_owned());
    assert_eq!(needed(&plain, &after), restart);
    assert_eq!(needed(&after, &plain), restart);
    let caps = scene.load(&format!("{TLS}, caps: {{ connections: 1 }}"));
    assert_eq!(needed(&after, &caps), restart);
}

#[test]
fn an_expired_certificate_is_a_warning_from_its_end_on() {
    let scene = Scene::new();
    scene.renew(2001);
    let mut loaded = scene.load(TLS);
    let at = |text: &str| {
        let moment: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_micros(moment.as_microsecond())
    };
    loaded.warn_of_expired(at("2001-12-30T00:00:00Z"));
    assert_eq!(loaded.warnings.len(), 0);
    loaded.warn_of_expired(at("2001-12-31T00:00:00Z"));
    let warning = &loaded.warnings[0].rendered;
    assert!(
        warning.contains("expired at 2001-12-31T00:00:00Z"),
        "{warning}"
    );
    assert!(warning.contains("= help: renew it"), "{warning}");
}
