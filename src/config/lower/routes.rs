//! Routes: what they match, need, act on and cost.

use super::approvals::{Chains, DEFAULT};
use super::conditions::{Calls, Lowered, conditions};
use super::or;
use super::resources::resource;
use crate::config::error::{Place, Reports, did_you_mean};
use crate::config::leaf::Text;
use crate::config::raw;
use crate::config::read::{At, clipped};
use crate::policy::approval::ChainIndex;
use crate::policy::model::{
    Cost, IntentRule, MatchPart, Mount, Protocol, RoutePart, Tool, ToolIndex, Upgrade,
};
use crate::policy::resource::ResourceTemplate;
use crate::policy::route::CALL;
use crate::policy::template::{Template, TemplateFault};

/// Where a lowered route stands, for faults and proofs that know it by position.
pub struct RoutePlace {
    /// "route `users.read`".
    pub subject: String,
    pub id: Place,
    pub scope: Place,
    pub resource: Option<Place>,
    pub approval: Option<Place>,
    pub mode: Option<Place>,
    /// One for each part of the match.
    pub matches: Vec<MatchPlace>,
    /// One for each condition.
    pub conditions: Vec<Place>,
}

/// What a route has that does not say.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    pub mode: raw::Mode,
    pub intent: raw::IntentRule,
}

impl Usual {
    /// As the project says.
    pub fn of(raw: &raw::Project) -> Self {
        Self {
            mode: or(raw.mode.as_ref(), |mode| mode, raw::Mode::Enforce),
            intent: or(raw.intent.as_ref(), |rule| rule, raw::IntentRule::Optional),
        }
    }

    /// As one of its tools has it.
    pub fn within(self, tool: &raw::Tool) -> Self {
        Self {
            mode: or(tool.mode.as_ref(), |mode| mode, self.mode),
            ..self
        }
    }
}

/// One part of a match.
#[derive(Clone, Debug)]
pub struct MatchPlace {
    pub method: Box<str>,
    pub place: Place,
}

/// `None`: too much of it was reported to judge it with the others.
pub fn route(
    index: ToolIndex,
    tool: &Tool,
    (raw, usual): (&raw::Route, Usual),
    chains: &Chains,
    reports: &mut Reports,
) -> Option<(RoutePart, RoutePlace)> {
    let id = raw.id.as_ref();
    let subject = format!("route `{}`", id.map_or("?", |id| id.value.as_str()));
    reports.enter(subject.clone());
    let matches = raw.matches.as_ref().map_or(&[][..], |at| &at.value.0);
    let matches: Vec<_> = matches
        .iter()
        .filter_map(|at| matched(at, tool, reports))
        .collect();
    let resource = raw
        .resource
        .as_ref()
        .map(|at| (resource(at, tool, &matches, reports), at.place));
    let parameters = parameters(&matches);
    let all_read = raw
        .matches
        .as_ref()
        .is_some_and(|at| at.value.0.len() == matches.len());
    let calls = Calls {
        parameters: all_read.then_some(&parameters[..]),
        tool,
    };
    let conditions = raw
        .conditions
        .as_ref()
        .map(|at| conditions(at, calls, reports));
    let approval = approval(raw, &matches, chains, reports);
    refuse_unsent(raw, tool.protocol, reports);
    refuse_unasked_upgrade(raw, &matches, reports);
    refuse_held_upgrade(raw, approval, &matches, reports);
    refuse_judged_upgrade(raw, conditions.as_ref(), resource.as_ref(), reports);
    let cost = raw.cost.as_ref().map(|at| cost(&at.value));
    reports.leave();
    // Conditions that could not be read must not make the route look as if it had none.
    let (conditions, condition_places) = match conditions {
        Some(lowered) => lowered.map(|(conditions, places)| (Some(conditions), places))?,
        None => (None, Vec::new()),
    };
    let places = RoutePlace {
        subject,
        id: id?.place,
        scope: raw.scope.as_ref()?.place,
        resource: raw.resource.as_ref().map(|at| at.place),
        approval: raw.approval.as_ref().map(|at| at.place),
        mode: raw.mode.as_ref().map(|at| at.place),
        matches: matches.iter().map(|(_, place)| place.clone()).collect(),
        conditions: condition_places,
    };
    let part = RoutePart {
        id: id?.value.clone(),
        tool: index,
        matches: matches.into_iter().map(|(part, _)| part).collect(),
        conditions,
        scope: raw.scope.as_ref()?.value.clone(),
        // A resource that could not be read must not make the route look as if it had none.
        resource: match resource {
            Some((template, _)) => Some(template?),
            None => None,
        },
        cost: cost.flatten(),
        irreversible: or(raw.irreversible.as_ref(), |flag| flag.0, false),
        intent: match or(raw.intent.as_ref(), |rule| rule, usual.intent) {
            raw::IntentRule::Required => IntentRule::Required,
            raw::IntentRule::Optional => IntentRule::Optional,
        },
        shadow: match or(raw.mode.as_ref(), |mode| mode, usual.mode) {
            raw::Mode::Shadow => true,
            raw::Mode::Enforce => false,
        },
        body_limit: or(raw.body_limit.as_ref(), |size| size.0, tool.body_limit),
        approval,
        upgrade: raw.upgrade.as_ref().map(|at| match at.value {
            raw::Upgrade::Websocket => Upgrade::WebSocket,
        }),
    };
    (!part.matches.is_empty()).then_some((part, places))
}

/// Those that every part of the match has.
fn parameters(matches: &[(MatchPart, MatchPlace)]) -> Vec<&str> {
    let Some(((first, _), others)) = matches.split_first() else {
        return Vec::new();
    };
    let mut found: Vec<&str> = first.template.names().iter().map(|name| &**name).collect();
    found.retain(|name| {
        others
            .iter()
            .all(|(part, _)| part.template.names().iter().any(|have| **have == **name))
    });
    found
}

/// `GET /users/{user_id}`.
fn matched(at: &At<Text>, tool: &Tool, reports: &mut Reports) -> Option<(MatchPart, MatchPlace)> {
    let (place, written) = (at.place, at.value.0.as_str());
    if tool.protocol.names_calls() {
        return called(place, written, tool.protocol, reports);
    }
    let (method, path) = written.split_once(' ').unwrap_or((written, ""));
    if method.starts_with('/') {
        let help = format!("write the method in front: `GET {}`", clipped(written));
        reports.error(place, "a match begins with a method", help);
        return None;
    }
    let method = self::method(method, place, reports)?;
    let template = match Template::parse(path) {
        Ok(template) => template,
        Err(error) => {
            let place = within(place, written.len() - path.len() + error.at, reports);
            reports.error(place, error.to_string(), template_help(&error.fault));
            return None;
        }
    };
    let rooted = matches!(&tool.mount, Mount::Path(mount) if &**mount != "/");
    if path.is_empty() && !rooted {
        let help = format!("write `{method} /`");
        reports.error(place, "without a path this could never be reached", help);
        return None;
    }
    let place = MatchPlace {
        method: method.into(),
        place,
    };
    let methods = vec![method.into()];
    Some((MatchPart { methods, template }, place))
}

/// `tools/call list_issues`, `call delete_user`.
fn called(
    place: Place,
    written: &str,
    protocol: Protocol,
    reports: &mut Reports,
) -> Option<(MatchPart, MatchPlace)> {
    let (method, name) = match written.split_once(' ') {
        Some((method, name)) => (method, Some(name)),
        None => (written, None),
    };
    let help = match protocol {
        Protocol::Function => "write `call delete_user`: `call`, one space, the function's name",
        Protocol::Http | Protocol::Mcp => {
            "write `tools/call list_issues`: a method, one space, what it is for"
        }
    };
    let wrong = match protocol {
        Protocol::Function if method != "call" => Some("a match of a function begins with `call`"),
        Protocol::Function if name.is_none() => Some("a match of a function names it"),
        _ if METHODS.contains(&method) => {
            Some("calls of such a tool are named by the method of JSON-RPC, not by HTTP's")
        }
        _ if method.is_empty() || !method.bytes().all(is_method_byte) => {
            Some("this is no JSON-RPC method")
        }
        _ if name.is_some_and(|name| name.is_empty() || name != name.trim()) => {
            Some("what is called has spaces around it, or no name")
        }
        _ if name.is_none() && NAMED_METHODS.contains(&method) => {
            Some("this method is for something: name it")
        }
        _ => None,
    };
    if let Some(message) = wrong {
        reports.error(place, message, help);
        return None;
    }
    let template = match Template::of_call(written) {
        Ok(template) => template,
        Err(error) => {
            let place = within(place, error.at, reports);
            reports.error(place, error.to_string(), template_help(&error.fault));
            return None;
        }
    };
    let place = MatchPlace {
        method: method.into(),
        place,
    };
    let methods = vec![CALL.into()];
    Some((MatchPart { methods, template }, place))
}

/// `tools/call`, `completion/complete`, `vendor.example/do`.
const fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'.')
}

fn method<'t>(written: &'t str, place: Place, reports: &mut Reports) -> Option<&'t str> {
    let shown = clipped(written);
    let upper = written.to_ascii_uppercase();
    if written != upper && METHODS.contains(&&*upper) {
        let message = format!("`{shown}` is not a method: methods are upper case");
        reports.error(place, message, format!("write `{upper}`"));
        return None;
    }
    if matches!(written, "CONNECT" | "TRACE") {
        let message = format!("`{shown}` is never forwarded");
        reports.error(place, message, "remove it");
        return None;
    }
    if METHODS.contains(&written) {
        return Some(written);
    }
    let meant = did_you_mean(written, METHODS);
    let token = !written.is_empty()
        && written
            .bytes()
            .all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_'));
    if token && meant.is_none() {
        return Some(written);
    }
    let help = match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "write `GET /users/{user_id}`: a method, one space, a path".into(),
    };
    reports.error(place, format!("`{shown}` is not a method"), help);
    None
}

const fn template_help(fault: &TemplateFault) -> &'static str {
    match fault {
        TemplateFault::Start => "write a method, one space and a path: `GET /users/{user_id}`",
        TemplateFault::TooLong | TemplateFault::TooMany => "match less of the path",
        TemplateFault::Open | TemplateFault::Close => "write parameters as `{name}`",
        TemplateFault::Name(_) => "rename the parameter: `{user_id}`",
        TemplateFault::NameTwice(_) => "give each parameter a name of its own",
        TemplateFault::Crowded => "match the whole segment with one parameter",
        TemplateFault::Rest => "put `{*rest}` last: it takes everything behind it",
        TemplateFault::Percent => "write the literal text without percent-encoding",
        TemplateFault::Ambiguous { .. } => {
            "such targets are refused before they are matched: remove it"
        }
        TemplateFault::NotCanonical { .. } => {
            "targets are matched in their canonical form: write it so"
        }
    }
}

/// The byte at `offset` of a scalar's text, where the scalar is written as it reads; else the scalar.
fn within(place: Place, offset: usize, reports: &Reports) -> Place {
    let (start, end) = (place.start as usize, place.end as usize);
    let Some(raw) = reports.text().get(start..end) else {
        return place;
    };
    let quoted = usize::from(raw.starts_with(['"', '\'']));
    if raw.contains(['\\', '\n']) || start + quoted + offset >= end {
        return place;
    }
    Place::new(start + quoted + offset..end - quoted)
}

/// Who must agree to each call. What destroys needs a person's word, or the file's that it does not.
fn approval(
    raw: &raw::Route,
    matches: &[(MatchPart, MatchPlace)],
    chains: &Chains,
    reports: &mut Reports,
) -> Option<ChainIndex> {
    match raw.approval.as_ref() {
        Some(At {
            value: raw::Approval::Never,
            ..
        }) => return None,
        Some(At {
            place,
            value: raw::Approval::Chain(chain),
        }) => {
            let (place, value) = (*place, chain.clone());
            return chains.named(&At { place, value }, reports);
        }
        None => {}
    }
    let (place, what) = destroys(raw, matches)?;
    let chain = chains.default();
    if chain.is_none() {
        reports.error(
            place,
            format!("{what} needs the approval of a person, and this project has no chain `{DEFAULT}`"),
            format!("{}, or write into the route `approval: CHAIN`, or `approval: never` to let it pass without", chains.cure(DEFAULT)),
        );
    }
    chain
}

/// What makes a route one that can't be undone, and where that stands.
fn destroys(
    raw: &raw::Route,
    matches: &[(MatchPart, MatchPlace)],
) -> Option<(Place, &'static str)> {
    let delete = matches.iter().find(|(_, place)| &*place.method == "DELETE");
    let irreversible = raw.irreversible.as_ref().filter(|at| at.value.0);
    match (delete, irreversible) {
        (Some((_, place)), _) => Some((place.place, "a DELETE")),
        (None, Some(at)) => Some((at.place, "an irreversible route")),
        (None, None) => None,
    }
}

/// Who agrees to a call has seen all of it. Of a WebSocket that would be the handshake: what is sent afterwards is seen by
/// nobody, and the word of a person would cover it.
fn refuse_held_upgrade(
    raw: &raw::Route,
    approval: Option<ChainIndex>,
    matches: &[(MatchPart, MatchPlace)],
    reports: &mut Reports,
) {
    let (Some(upgrade), Some(_)) = (&raw.upgrade, approval) else {
        return;
    };
    let only_deletes = raw.approval.is_none() && destroys(raw, matches).is_some();
    let (place, help) = match &raw.approval {
        None if only_deletes => (
            upgrade.place,
            "write `approval: never` and let a person decide whether the agent may connect at all, with `grant: on_approval` in its scope; give a DELETE a route of its own",
        ),
        written => (
            written.as_ref().map_or(upgrade.place, |at| at.place),
            "remove it and let a person decide whether the agent may connect at all: `grant: on_approval` in the agent's scope",
        ),
    };
    reports.error(
        place,
        "a person can't agree to a WebSocket: they would see how it begins and nothing of what is sent through it",
        help,
    );
}

/// A handshake has no body, and what is said afterwards is judged by nobody.
fn refuse_judged_upgrade(
    raw: &raw::Route,
    conditions: Option<&Option<Lowered>>,
    resource: Option<&(Option<ResourceTemplate>, Place)>,
    reports: &mut Reports,
) {
    if raw.upgrade.is_none() {
        return;
    }
    let condition = conditions.and_then(Option::as_ref).and_then(|lowered| {
        let (conditions, places) = lowered;
        let body = conditions.0.iter().position(|one| one.reads_body());
        places.get(body?).copied()
    });
    let resource = resource.and_then(|(template, place)| {
        let reads = template.as_ref().is_some_and(|it| it.reads_body());
        reads.then_some(*place)
    });
    for place in [condition, resource].into_iter().flatten() {
        reports.error(
            place,
            "a WebSocket is asked for without a body, and what is sent through it is not judged",
            "judge the path, the query or a header field, or remove `upgrade`",
        );
    }
}

/// A WebSocket is asked for with GET alone (RFC 6455 section 4.1); elsewhere the key could never have an effect.
/// Nothing is sent for a function: what says how would have no effect.
fn refuse_unsent(raw: &raw::Route, protocol: Protocol, reports: &mut Reports) {
    if protocol != Protocol::Function {
        return;
    }
    let cost = raw.cost.as_ref().and_then(|at| at.value.header.as_ref());
    let written = [
        (
            "body_limit",
            raw.body_limit.as_ref().map(|at| at.place),
            "remove it; what a function is asked has a bound of its own",
        ),
        (
            "upgrade",
            raw.upgrade.as_ref().map(|at| at.place),
            "remove it",
        ),
        (
            "cost: { header: ... }",
            cost.map(|at| at.place),
            "remove it; `cost: { fixed: ... }` counts for functions too",
        ),
    ];
    for (key, place, help) in written {
        if let Some(place) = place {
            let message = format!("`{key}` has no effect on a function: nothing is sent anywhere");
            reports.error(place, message, help);
        }
    }
}

fn refuse_unasked_upgrade(
    raw: &raw::Route,
    matches: &[(MatchPart, MatchPlace)],
    reports: &mut Reports,
) {
    let Some(upgrade) = &raw.upgrade else {
        return;
    };
    // What a body names is no method of HTTP, so this is said of such tools as well.
    if !matches.is_empty() && !matches.iter().any(|(_, place)| &*place.method == "GET") {
        reports.error(
            upgrade.place,
            "a WebSocket is asked for with GET, which this route does not match",
            "add a `GET` to `match`, or remove `upgrade`",
        );
    }
}

fn cost(raw: &raw::Cost) -> Option<Cost> {
    let fixed = raw.fixed.as_ref().map(|at| at.value.0);
    match &raw.header {
        Some(header) => Some(Cost::Header {
            name: header.value.0.clone(),
            fixed,
        }),
        None => fixed.map(Cost::Fixed),
    }
}

/// Methods of MCP that are for a tool, a resource or a prompt.
const NAMED_METHODS: [&str; 5] = [
    "tools/call",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/get",
];
/// Methods that RFC 9110 and its neighbours name; others are let through unless they look like one of these.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY",
];
