//! `tests` of a project: calls, and what the policy must make of them.

use crate::config::collection::{List, Map, MapOrNone, OneOrMore};
use crate::config::leaf::{FieldValue, Flag, HostName, Sent, Text};
use crate::config::read::{record, words};
use crate::policy::name::{AgentName, ChainName, RouteId, ScopeName};

record! {
    /// A promise of the policy: what it makes of one call. Kept at every check, start and reload, or the file is refused.
    Test: "a test", named "test" by "name";
    /// What it promises, in a few words; unique in the project.
    required name = "name": Text,
    /// Whose call it is.
    required session = "session": TestSession,
    /// Method and target, `DELETE /crm/users/8`; of a tool whose calls are named by their body `tools/call list_issues` or
    /// `call delete_user`.
    required request = "request": Text,
    /// Whose call it is, where the body names it and several tools have such calls.
    optional tool = "tool": Text,
    /// The host that is called, where tools are told by it. Default: localhost.
    optional host = "host": HostName,
    /// All header fields of the call. Without it they are not known.
    optional headers = "headers": MapOrNone<Text, OneOrMore<FieldValue>>,
    /// The body: a mapping or a list is sent as JSON, text as it stands. It is `application/json`, unless `headers` has a
    /// `content-type`. Without it the body is not known.
    optional body = "body": Sent,
    /// The arguments of a call that the body names, in the same way.
    optional args = "args": Sent,
    /// What the agent says the call is for, or said for the session; empty: nothing. Without it that is what `headers` say; without
    /// those it is not known.
    optional intent = "intent": FieldValue,
    /// When it is made: `2026-03-01T12:00:00Z`. Without it the time is not known.
    optional at = "at": Text,
    /// The address it comes from. Without it, it is not known.
    optional client = "client": Text,
    /// What the policy must make of it.
    required expect = "expect": Expect,
}

record! {
    /// A session as if it had just been minted.
    TestSession: "the session of a test";
    /// Its kind.
    required agent = "agent": AgentName,
    /// Its attributes.
    optional attributes = "attributes": Map<Text, Text>,
    /// Stored grants that it holds.
    optional grants = "grants": List<TestGrant>,
}

record! {
    /// A stored grant.
    TestGrant: "a grant";
    /// What it permits.
    required scope = "scope": ScopeName,
    /// On what. Default: whatever the ceiling covers.
    optional resource = "resource": Text,
}

record! {
    /// What the policy must make of a call. Of a route in shadow that is not what the gate does: there the call passes, and
    /// `check` says so of each promise that does not.
    Expect: "what a test expects";
    /// The word.
    required decision = "decision": Decision,
    /// Whether the call passes all the same, because its route is in shadow.
    optional shadow = "shadow": Flag,
    /// Why it is denied.
    optional reason = "reason": Text,
    /// The route that answers to it.
    optional route = "route": RouteId,
    /// The permission it needs.
    optional scope = "scope": ScopeName,
    /// What it acts on; of several all, with a space between.
    optional resource = "resource": Text,
    /// Who is asked.
    optional chain = "chain": ChainName,
}

words! {
    /// What is decided.
    Decision: "a decision";
    Allow = "allow",
    Hold = "hold",
    Deny = "deny",
}
