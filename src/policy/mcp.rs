//! What the Model Context Protocol asks of a policy beyond its routes: which messages belong to the protocol itself and
//! pass without one, and which of a server's tools, resources and prompts a session is shown.
//!
//! It refuses to guess: a method that is not named here needs a route, and what no route of a scope that the session may
//! hold would take is not shown.

use super::call::Bare;
use super::ceiling::ceiling_of_route;
use super::choice::{Vague, acts_on};
use super::json::Value;
use super::model::{Policy, RouteIndex, ToolIndex};
use super::resource::{Part, ResourceTemplate};
use super::route::called;
use super::subject::Session;

/// Evidence that a message belongs to the protocol itself: it acts on nothing and needs no route. Built only here, and
/// consumed by forwarding.
#[derive(Debug)]
pub struct Exempt(());

/// A message of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'m> {
    /// A method that wants an answer.
    Request(&'m str),
    /// A method that wants none.
    Notification(&'m str),
    /// The answer to what the server asked in a session of the protocol that is this client's own.
    Response,
    /// The stream of a session that is this client's own, or its end.
    Stream,
}

/// Whether a message passes without a route.
pub fn exempt(said: Said<'_>) -> Option<Exempt> {
    let passes = match said {
        Said::Request(method) => {
            matches!(method, INITIALIZE | DISCOVER | PING) || List::of(method).is_some()
        }
        Said::Notification(method) => method.starts_with(NOTIFICATIONS),
        Said::Response | Said::Stream => true,
    };
    passes.then_some(Exempt(()))
}

/// Begins a session of the protocol, up to the revision of 2025-11-25.
pub const INITIALIZE: &str = "initialize";
/// Asks a server what it can do, since the revision of 2026-07-28.
pub const DISCOVER: &str = "server/discover";
/// Asks whether the other end is there.
pub const PING: &str = "ping";
/// What every notification's method begins with.
pub const NOTIFICATIONS: &str = "notifications/";

/// What a server lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// `tools/list`.
    Tools,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
    /// `prompts/list`.
    Prompts,
}

impl List {
    /// All of them.
    pub const ALL: [List; 4] = [List::Tools, List::Resources, List::Templates, List::Prompts];

    /// The list that a method asks for.
    pub fn of(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.method() == method)
    }

    /// The method that asks for it.
    pub const fn method(self) -> &'static str {
        match self {
            List::Tools => "tools/list",
            List::Resources => "resources/list",
            List::Templates => "resources/templates/list",
            List::Prompts => "prompts/list",
        }
    }

    /// The member of the result that holds it.
    pub const fn member(self) -> &'static str {
        match self {
            List::Tools => "tools",
            List::Resources => "resources",
            List::Templates => "resourceTemplates",
            List::Prompts => "prompts",
        }
    }

    /// The member of an item that names it to the method which uses it.
    const fn key(self) -> &'static str {
        match self {
            List::Tools | List::Prompts => "name",
            List::Resources => "uri",
            List::Templates => "uriTemplate",
        }
    }

    const fn used_by(self) -> &'static str {
        match self {
            List::Tools => "tools/call",
            List::Resources | List::Templates => "resources/read",
            List::Prompts => "prompts/get",
        }
    }

    /// Whether the session is shown this item: whether a call of it could ever pass. `None`: it is no item of such a list.
    pub fn shows(
        self,
        policy: &Policy,
        session: &Session,
        tool: ToolIndex,
        item: &Value<'_>,
    ) -> Option<bool> {
        let Ok(Some(Value::Text(name))) = item.at([self.key()]) else {
            return None;
        };
        Some(match self {
            List::Tools | List::Resources | List::Prompts => {
                let path = called(self.used_by(), Some(name));
                path.is_some_and(|path| could_call(policy, session, tool, &path))
            }
            List::Templates => could_read(policy, session, tool, name),
        })
    }
}

/// Whether one of the routes that a call answers to is of a scope that the session could be granted, on what the call acts
/// on as far as its name says. Arguments are not known yet: conditions may hold.
fn could_call(policy: &Policy, session: &Session, tool: ToolIndex, path: &str) -> bool {
    let Some(first) = policy.table.find_call(tool, path) else {
        return false;
    };
    policy.table.arms(first).any(|arm| {
        let route = policy.route(arm.route);
        let Some(ceiling) = ceiling_of_route(policy, session, route) else {
            return false;
        };
        match acts_on(route, &arm.captures, &Bare(session)) {
            Ok(resource) => ceiling.allows(resource.as_ref()),
            // Arguments say it, which are not known yet.
            Err(Vague::Unread) => true,
            Err(Vague::Unfilled(_)) => route
                .resource
                .as_ref()
                .is_some_and(|template| !told_by_name(template)),
        }
    })
}

/// Whether the name and the session say all that a call acts on.
fn told_by_name(template: &ResourceTemplate) -> bool {
    let known = |part: &Part| matches!(part, Part::Literal(_) | Part::Path(_) | Part::Session(_));
    template.placeholders().all(known)
}

/// Whether a URI of this template could be read. Which URIs it stands for is the server's to know: it is shown where the
/// fixed text before its first variable and that of a route's fit each other.
fn could_read(policy: &Policy, session: &Session, tool: ToolIndex, template: &str) -> bool {
    let fixed = |text: &str| text[..text.find('{').unwrap_or(text.len())].to_owned();
    let wanted = fixed(template);
    (0..).zip(&policy.routes).any(|(index, route)| {
        route.tool == tool
            && ceiling_of_route(policy, session, route).is_some()
            && policy
                .written(RouteIndex(index))
                .split("; ")
                .any(|written| {
                    let uri = written.strip_prefix("resources/read ");
                    uri.map(fixed).is_some_and(|fixed| {
                        fixed.starts_with(&wanted) || wanted.starts_with(&fixed)
                    })
                })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_protocol_is_a_closed_set() {
        for method in [
            "initialize",
            "server/discover",
            "ping",
            "tools/list",
            "resources/list",
            "resources/templates/list",
            "prompts/list",
        ] {
            assert!(exempt(Said::Request(method)).is_some(), "{method}");
            assert!(exempt(Said::Notification(method)).is_none(), "{method}");
        }
        for method in [
            "tools/call",
            "tools/List",
            "tools/list ",
            "resources/read",
            "resources/subscribe",
            "subscriptions/listen",
            "prompts/get",
            "completion/complete",
            "logging/setLevel",
            "tasks/result",
            "sampling/createMessage",
            "notifications/initialized",
            "",
        ] {
            assert!(exempt(Said::Request(method)).is_none(), "{method}");
        }
        assert!(exempt(Said::Notification("notifications/initialized")).is_some());
        assert!(exempt(Said::Notification("Notifications/x")).is_none());
    }
}
