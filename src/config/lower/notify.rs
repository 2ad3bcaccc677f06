//! Whom to tell: webhooks and their secrets. What they hold is never shown.

use crate::config::collection::Map;
use crate::config::error::{Place, Reports, did_you_mean};
use crate::config::raw;
use crate::config::read::{At, alternatives};
use crate::config::secrets::Vault;
use crate::policy::model::Notify;
use crate::policy::name::NotifyName;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use std::net::IpAddr;
use zeroize::Zeroizing;

/// A project's targets, and where they stand.
pub struct Targets {
    pub all: Vec<Notify>,
    /// Of every target that is written, whatever else was reported of it.
    pub names: Vec<At<NotifyName>>,
}

pub fn targets(
    raw: Option<&At<Map<NotifyName, raw::Notify>>>,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Targets {
    let raw = raw.map_or(&[][..], |at| &at.value.0);
    let mut targets = Targets {
        all: Vec::with_capacity(raw.len()),
        names: raw.iter().map(|(name, _)| name.clone()).collect(),
    };
    for (name, raw) in raw {
        let webhook = raw.as_ref().and_then(|at| at.value.webhook.as_ref());
        let Some(webhook) = webhook else {
            continue;
        };
        reports.enter(format!("notify `{}`", name.value));
        targets
            .all
            .push(target(&name.value, &webhook.value, vault, reports));
        reports.leave();
    }
    targets
}

fn target(
    name: &NotifyName,
    raw: &raw::Webhook,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Notify {
    let (url, secrets) = webhook(raw, "news of approvals is", vault, reports);
    Notify {
        name: name.clone(),
        url,
        secrets,
    }
}

/// A URL, and the secrets that its calls are signed with; `what` is sent there. What could not be read was reported, and is
/// not served.
pub fn webhook(
    raw: &raw::Webhook,
    what: &str,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> (SecretString, Vec<SecretString>) {
    let url = raw.url.as_ref().and_then(|at| {
        let text = vault.interpolate(&at.value.0.0, at.place, reports)?;
        judge_url(text.expose_secret(), what, at.place, reports).then_some(text)
    });
    let secrets = [&raw.secret, &raw.previous_secret].into_iter().flatten();
    let secrets = secrets.filter_map(|at| secret(at, vault, reports));
    // No such host can exist (RFC 6761).
    let url = url.unwrap_or_else(|| SecretString::from("http://unset.invalid/"));
    (url, secrets.collect())
}

/// Messages never quote the URL.
fn judge_url(url: &str, what: &str, place: Place, reports: &mut Reports) -> bool {
    const FORM: &str = "write `https://host/path`";
    let Ok(uri) = url.parse::<http::Uri>() else {
        reports.error(place, "this is not a URL", FORM);
        return false;
    };
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        let message = "the URL does not begin with `http://` or `https://`";
        reports.error(place, message, FORM);
        return false;
    };
    if authority.as_str().contains('@') {
        let message = "the URL has a user or password in it";
        let help = "receivers know their sender by its signature: remove it";
        reports.error(place, message, help);
        return false;
    }
    // `http::Uri` drops fragments without a word.
    if url.contains('#') || authority.host().is_empty() {
        reports.error(place, "the URL has a fragment, or no host", FORM);
        return false;
    }
    let host = authority.host().trim_matches(['[', ']']);
    let near = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if uri.scheme_str() == Some("http") && !near {
        reports.warn(
            place,
            format!("{what} sent over plain HTTP to a host that is not this one"),
            "whoever can listen on the network can read it: write `https://`",
        );
    }
    true
}

/// `None`: reported, as an error or, where secrets are optional, as a warning.
fn secret(
    at: &At<raw::Secret>,
    vault: &mut Vault<'_>,
    reports: &mut Reports,
) -> Option<SecretString> {
    let (secret, from) = match (&at.value.env, &at.value.file) {
        (Some(name), _) => (
            vault.variable(&name.value.0, name.place, reports),
            format!("the environment variable `{}`", name.value.0),
        ),
        (None, Some(path)) => (
            vault.file(&path.value.0, path.place, reports),
            format!("the file `{}`", path.value.0),
        ),
        // Reported when the keys were read.
        (None, None) => return None,
    };
    let secret = secret?;
    let bytes = secret.expose_secret().strip_prefix("whsec_");
    let bytes = bytes.and_then(|text| STANDARD.decode(text).ok().map(Zeroizing::new));
    if !bytes.is_some_and(|bytes| SECRET_BYTES.contains(&bytes.len())) {
        reports.error(
            at.place,
            format!("what {from} holds is not the secret of a webhook"),
            "it is `whsec_` and the base64 of 24 to 64 bytes: `echo \"whsec_$(openssl rand -base64 32)\"` makes one",
        );
        return None;
    }
    Some(secret)
}

impl Targets {
    /// Reports a name that is no target's.
    pub fn demand(&self, name: &At<NotifyName>, reports: &mut Reports) {
        if self.names.iter().any(|known| known.value == name.value) {
            return;
        }
        let known = self.names.iter().map(|known| known.value.as_str());
        let help = match did_you_mean(name.value.as_str(), known.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if self.names.is_empty() => {
                format!(
                    "add `{}: {{ webhook: {{ url, secret }} }}` under `notify`",
                    name.value
                )
            }
            None => {
                let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
                format!("the targets of `notify` are {}", alternatives(&known))
            }
        };
        let message = format!("there is no target `{}` under `notify`", name.value);
        reports.error(name.place, message, help);
    }
}

/// As Standard Webhooks has it.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
