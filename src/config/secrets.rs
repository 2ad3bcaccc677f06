//! Secrets: from the environment, from files, or as digests. What is read here is never shown, whatever is wrong with it.

use super::Secrets;
use super::error::{Place, Reports};
use super::leaf::is_variable;
use secrecy::{ExposeSecret, SecretString};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where secrets come from, and which files were asked for.
pub(super) struct Vault<'e> {
    secrets: Secrets,
    environment: &'e dyn Fn(&str) -> Option<OsString>,
    /// Every secret file that was named, for watching.
    pub files: Vec<PathBuf>,
}

impl<'e> Vault<'e> {
    pub fn new(secrets: Secrets, environment: &'e dyn Fn(&str) -> Option<OsString>) -> Self {
        Self {
            secrets,
            environment,
            files: Vec::new(),
        }
    }

    /// The value of an environment variable. `None`: reported, as the caller's mode has it.
    pub fn variable(
        &self,
        name: &str,
        place: Place,
        reports: &mut Reports,
    ) -> Option<SecretString> {
        match (self.environment)(name).map(OsString::into_string) {
            Some(Ok(value)) if !value.is_empty() => Some(value.into()),
            Some(Ok(_)) | None => {
                let message = format!("the environment variable `{name}` is not set");
                self.missing(
                    place,
                    message,
                    format!("set it before the start: `export {name}=...`"),
                    reports,
                );
                None
            }
            Some(Err(_)) => {
                let message = format!("the environment variable `{name}` is not text");
                reports.error(place, message, "its value must be UTF-8");
                None
            }
        }
    }

    /// What a file holds, without the line break at its end. `None`: reported, as the caller's mode has it.
    pub fn file(
        &mut self,
        path: &str,
        place: Place,
        reports: &mut Reports,
    ) -> Option<SecretString> {
        self.files.push(Path::new(path).to_owned());
        let read = std::fs::read(path);
        let text = match read {
            Ok(bytes) if bytes.len() <= SECRET_BYTES_MAX => String::from_utf8(bytes),
            Ok(_) => {
                let message =
                    format!("the secret in `{path}` is longer than {SECRET_BYTES_MAX} bytes");
                reports.error(place, message, "is it the right file?");
                return None;
            }
            Err(error) => {
                let message = format!("the secret file `{path}` can't be read: {}", error.kind());
                let help = "it is looked for from the working directory; check its path and mode";
                self.missing(place, message, help.into(), reports);
                return None;
            }
        };
        let Ok(text) = text else {
            reports.error(
                place,
                format!("the secret in `{path}` is not text"),
                "it must be UTF-8",
            );
            return None;
        };
        let secret = text.strip_suffix('\n').unwrap_or(&text);
        let secret = secret.strip_suffix('\r').unwrap_or(secret);
        if secret.is_empty() {
            let message = format!("the secret file `{path}` is empty");
            self.missing(place, message, "write the secret into it".into(), reports);
            return None;
        }
        Some(secret.into())
    }

    /// The bytes of a file that holds `what`. `None`: reported, as the caller's mode has it.
    pub fn bytes(
        &mut self,
        path: &str,
        what: &str,
        place: Place,
        reports: &mut Reports,
    ) -> Option<Zeroizing<Vec<u8>>> {
        self.files.push(Path::new(path).to_owned());
        let mut bytes = Zeroizing::new(Vec::new());
        let read =
            File::open(path).and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            let message = format!("the {what} file `{path}` can't be read: {}", error.kind());
            let help = "it is looked for from the working directory; check its path and mode";
            self.missing(place, message, help.into(), reports);
            return None;
        }
        if bytes.len() as u64 > PEM_BYTES_MAX {
            let message = format!(
                "the file `{path}` is larger than {} MiB",
                PEM_BYTES_MAX >> 20
            );
            reports.error(place, message, "is it the right file?");
            return None;
        }
        Some(bytes)
    }

    /// `text` with each `${NAME}` replaced and each `$${` as `${`. `None`: reported.
    pub fn interpolate(
        &self,
        text: &str,
        place: Place,
        reports: &mut Reports,
    ) -> Option<SecretString> {
        let mut whole = String::with_capacity(text.len());
        let mut complete = true;
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                whole.push_str(&rest[..at]);
                whole.push('{');
                rest = &rest[at + 2..];
                continue;
            }
            whole.push_str(&rest[..at]);
            let name = rest[at + 2..]
                .split_once('}')
                .filter(|(name, _)| is_variable(name));
            let Some((name, behind)) = name else {
                reports.error(
                    place,
                    "`${` does not begin the name of an environment variable",
                    "write `${NAME}` with letters, digits and `_`; a literal `${` is written `$${`",
                );
                return None;
            };
            match self.variable(name, place, reports) {
                Some(value) => whole.push_str(value.expose_secret()),
                None => complete = false,
            }
            rest = behind;
        }
        whole.push_str(rest);
        complete.then(|| whole.into())
    }

    fn missing(&self, place: Place, message: String, help: String, reports: &mut Reports) {
        match self.secrets {
            Secrets::Required => reports.error(place, message, help),
            Secrets::Optional => reports.warn(place, message, help),
        }
    }
}

/// Longest secret in a file.
const SECRET_BYTES_MAX: usize = 64 * 1024;
/// Largest PEM file: a system's bundle of authorities fits several times.
const PEM_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn interpolated(text: &str) -> Option<String> {
        let environment = |name: &str| (name == "KEY").then(|| "s3cret".into());
        let vault = Vault::new(Secrets::Required, &environment);
        let mut reports = Reports::new(Path::new("t.yaml"), text.into());
        let value = vault.interpolate(text, Place::default(), &mut reports);
        value.map(|value| value.expose_secret().to_owned())
    }

    #[test]
    fn variables_are_replaced_and_a_doubled_dollar_is_literal() {
        assert_eq!(
            interpolated("Bearer ${KEY}").as_deref(),
            Some("Bearer s3cret")
        );
        assert_eq!(
            interpolated("${KEY}${KEY}").as_deref(),
            Some("s3crets3cret")
        );
        assert_eq!(interpolated("a $${KEY} $5").as_deref(), Some("a ${KEY} $5"));
        assert_eq!(interpolated("${KEY"), None);
        assert_eq!(interpolated("${}"), None);
        assert_eq!(interpolated("${OTHER}"), None);
    }
}
