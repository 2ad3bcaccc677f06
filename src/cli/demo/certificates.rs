//! Certificates of one run of the demo: an authority and what it vouches for, made in its folder and gone with it.
//!
//! What `certs/dev.sh` makes by openssl, made here without it: the demo must run where there is nothing but this binary.

use crate::cli::Failure;
use crate::io::clock::{Clock as _, SystemClock};
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Days that they are good for: longer than any demo, and no longer.
const DAYS: i64 = 7;
/// Names of what listens on this machine.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where they lie.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them in `folder`.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] where the folder can't be written, [`Failure::Ours`] where they can't be made.
    pub fn make(folder: &Path) -> Result<Self, Failure> {
        let certificates = Self {
            folder: folder.to_owned(),
        };
        let fault = |error: rcgen::Error| {
            Failure::Ours(format!("the demo's certificates can't be made: {error}"))
        };
        let authority = authority().map_err(fault)?;
        let server = [ExtendedKeyUsagePurpose::ServerAuth];
        let client = [ExtendedKeyUsagePurpose::ClientAuth];
        let mut files = vec![certificates.file("ca.pem", authority.pem())];
        for (name, usage, alternatives) in [
            ("server", server.clone(), &HERE[..]),
            ("backend", server, &HERE[..]),
            ("agent", client, &[][..]),
        ] {
            let mut params = params(name, alternatives).map_err(fault)?;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = usage.to_vec();
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate().map_err(fault)?;
            let certificate = params.signed_by(&key, &authority).map_err(fault)?;
            files.push(certificates.file(&format!("{name}.pem"), certificate.pem()));
            files.push(certificates.file(&format!("{name}.key"), key.serialize_pem()));
        }
        let written = fs::create_dir(folder).and_then(|()| {
            files
                .iter()
                .try_for_each(|(path, text)| write_private(path, text))
        });
        written.map_err(|error| {
            Failure::Unavailable(format!("{} can't be written: {error}", folder.display()))
        })?;
        Ok(certificates)
    }

    /// `ca.pem`, or `NAME.pem` and `NAME.key` of `server`, `backend` and `agent`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    fn file(&self, name: &str, text: String) -> (PathBuf, String) {
        (self.path(name), text)
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = params("CA", &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn params(name: &str, alternatives: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let alternatives: Vec<String> = alternatives.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(alternatives)?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("toolgate demo {name}"));
    let now = Timestamp::from_microsecond(SystemClock.now().wall.micros()).unwrap_or_default();
    let today = now.to_zoned(TimeZone::UTC).date();
    // From yesterday on: the clocks of two machines differ.
    let day = |days: i64| {
        let day = today.saturating_add(days.days());
        date_time_ymd(
            day.year().into(),
            day.month().unsigned_abs(),
            day.day().unsigned_abs(),
        )
    };
    (params.not_before, params.not_after) = (day(-1), day(DAYS));
    Ok(params)
}

/// For its owner alone.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file?.write_all(text.as_bytes())
}
