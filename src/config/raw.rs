//! The two files as they are written: every key, in one declaration each.
//!
//! A key that only a later version can honour is listed as such and refused by name. What is not listed is unknown.

mod approvals;
pub(super) mod conditions;
mod oauth;
mod project;
mod server;
mod tests;

pub(super) use approvals::{Approval, Chain, NEVER, Notify, Secret, Webhook};
pub(super) use oauth::OAuth;
pub(super) use project::{
    Agent, Cost, Credential, Exceeded, Grant, Http2, IntentRule, Limit, Mode, Per, Project,
    Protocol, Resources, Route, Scope, SecretText, Session, Tool, Upgrade, Upstream, UpstreamTls,
};
pub(super) use server::{
    Anchor, Caps, ClientAuth, Intent, Key, Ledger, Level, ListenerTls, Listeners, Otlp, Principal,
    Role, Server, Telemetry, Timeouts,
};

pub(super) use tests::{Decision, Expect, Test, TestSession};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
