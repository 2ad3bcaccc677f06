//! Who can be told of approvals and quarantines, as the policy says. Telling them is no part of a decision.

use crate::policy::name::NotifyName;
use secrecy::SecretString;

/// A URL that is called with news (Standard Webhooks).
#[derive(Clone, Debug)]
pub struct Notify {
    /// Its name in the YAML.
    pub name: NotifyName,
    /// `http://` or `https://`, a host, and what follows it; no user, no fragment. A secret: receivers often tell their
    /// senders apart by it alone.
    pub url: SecretString,
    /// `whsec_` and the base64 of 24 to 64 bytes, each. Calls are signed with all of them; the first is the newest. Never
    /// empty in what is served.
    pub secrets: Vec<SecretString>,
}
