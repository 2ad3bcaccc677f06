//! The parts of a project file by which people are asked: chains, and whom to tell.

use super::{DAY, HOUR};
use crate::config::collection::{List, ListOrNone};
use crate::config::error::Reports;
use crate::config::leaf::{Count, Interpolated, Span, Text, Variable};
use crate::config::read::{Read, record, text, unexpected};
use crate::config::tree::Node;
use crate::policy::name::{ChainName, GroupName, NotifyName};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

record! {
    /// Who decides approvals, and how long is waited for them.
    Chain: "a chain of `approvals`";
    /// Groups of the server file's principals: their members may decide.
    required approvers = "approvers": List<GroupName>,
    /// How many different people must agree; one who says no ends it. Default: 1.
    optional quorum = "quorum": Count<100>,
    /// How long a call is held open before it is answered with 202; 0s: never. Default: 50s.
    optional hold = "hold": Span<0, HOUR>,
    /// How long an approval waits for people, and then for its one run. Default: 1h.
    optional expires = "expires": Span<1, { 31 * DAY }>,
    /// For how long a request that was denied is denied again without asking. Default: 10m.
    optional denied_for = "denied_for": Span<1, { 31 * DAY }>,
    /// Most approvals that wait at a time.
    optional pending = "pending": Pending,
    /// Who is told, by names under `notify`. Default: nobody.
    optional notify = "notify": ListOrNone<NotifyName>,
}

record! {
    /// Most approvals that wait at a time.
    Pending: "`pending`";
    /// Of one session. Default: 16.
    optional per_session = "per_session": Count<10_000>,
    /// Of one session and route. Default: 8.
    optional per_route = "per_route": Count<10_000>,
}

/// Who must agree to a call: `never` anyone, or a chain.
#[derive(Clone, Debug)]
pub(in crate::config) enum Approval {
    Never,
    Chain(ChainName),
}

impl Read for Approval {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        let what = "`never` or the name of a chain";
        let read = match text(node, what, reports).unwrap_or(NEVER) {
            NEVER => Some(Self::Never),
            written => match ChainName::parse(written) {
                Ok(chain) => Some(Self::Chain(chain)),
                Err(error) => unexpected(node, what, error.to_string(), reports),
            },
        };
        // Read all the same where it was reported, so that the route is not said to lack one.
        Some(read.unwrap_or(Self::Never))
    }
}

impl JsonSchema for Approval {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Approval".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": NEVER }, generator.subschema_for::<ChainName>()] })
    }
}

record! {
    /// Where news of approvals and quarantines is sent.
    Notify: "a target of `notify`";
    /// A URL that is called (Standard Webhooks).
    required webhook = "webhook": Webhook,
}

record! {
    /// A URL that is called, and the secret that its calls are signed with.
    Webhook: "`webhook`";
    /// `https://host/path`; `${NAME}` is the environment's, `$${` is `${`.
    required url = "url": HiddenText,
    /// What calls are signed with: `whsec_` and the base64 of 24 to 64 bytes.
    required secret = "secret": Secret,
    /// The secret before this one, while its receiver changes over: calls are signed with both.
    optional previous_secret = "previous_secret": Secret,
}

/// Interpolated text that may be a secret as a whole: many receivers tell their senders apart by the URL alone.
#[derive(Debug)]
pub(in crate::config) struct HiddenText(pub Interpolated);

impl Read for HiddenText {
    fn read(node: &Node<'_>, reports: &mut Reports) -> Option<Self> {
        reports.hide(node.place);
        Interpolated::read(node, reports).map(Self)
    }
}

impl JsonSchema for HiddenText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HiddenText".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Interpolated>()
    }
}

record! {
    /// Where a secret comes from: one of these.
    Secret: "a secret";
    /// The environment variable that holds it.
    optional env = "env": Variable,
    /// The file that holds it; a line break at its end is not part of it. Relative to the working directory.
    optional file = "file": Text,
    ; secret true
    ; one_of "env", "file"
}

/// What stands for nobody where a chain could.
pub(in crate::config) const NEVER: &str = "never";
