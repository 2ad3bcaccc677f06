//! The project file: what a document says and what was guessed of it, as YAML with a comment for each guess.
//!
//! Every text of the document stands in quotation marks, in a name that was spelled anew, or in a comment of one line. No
//! two routes are written that a gate could not tell apart.

use super::Named;
use super::document::{Document, Operation};
use super::guess::{self, Verb};
use super::template;
use crate::policy::model::{Mount, Protocol, RouteIndex, SessionHeader, Tool, ToolIndex};
use crate::policy::route::{RouteMatch, RouteTable, TableError};
use crate::policy::template::Template;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;

/// Where the tool is.
#[derive(Debug)]
pub(super) enum Upstream {
    /// By the command line.
    Told(String),
    /// By the document.
    Said(String),
    /// By nobody; the path in front of the document's, if it has one.
    Unknown(String),
}

/// A file in the making.
pub(super) struct Draft {
    named: Named,
    upstream: Upstream,
    document: Document,
    routes: Vec<Route>,
}

struct Route {
    id: String,
    method: String,
    template: Template,
    scope: String,
    verb: Verb,
    resource: Option<String>,
    /// What the document says of it.
    summary: Option<String>,
    guesses: Vec<String>,
}

impl Draft {
    pub fn new(mut document: Document, named: Named, upstream: Upstream) -> Self {
        let (mut routes, mut taken) = (Vec::new(), HashSet::new());
        for operation in std::mem::take(&mut document.operations) {
            match route(&operation, &named, &mut taken) {
                Ok(route) => routes.push(route),
                Err(why) => {
                    let what = format!("{} {}", operation.method, shown(&operation.path));
                    document.left_out.push((what, why));
                }
            }
        }
        leave_out_doubtful(&mut routes, &named, &mut document.left_out);
        Self {
            named,
            upstream,
            document,
            routes,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    pub fn routes(&self) -> usize {
        self.routes.len()
    }

    pub fn left_out(&self) -> &[(String, String)] {
        &self.document.left_out
    }

    pub fn notes(&self) -> &[String] {
        &self.document.notes
    }

    /// Writes another place for the tool, where the document's was to be written: `false` if it was not.
    pub fn forget_upstream(&mut self) -> bool {
        let was_said = matches!(self.upstream, Upstream::Said(_));
        if was_said {
            self.upstream = Upstream::Unknown(String::new());
        }
        was_said
    }

    /// The whole file, of a draft that has routes.
    pub fn yaml(&self) -> String {
        let mut text = self.head();
        self.agent(&mut text);
        self.tool(&mut text);
        text.push_str("\nlimits:                                        # guess: one session's calls together\n  - { id: per-session, per: session, rate: 600/1m, burst: 60 }\n");
        if self.routes.iter().any(|route| route.verb == Verb::Delete) {
            text.push_str("\napprovals:                                     # who agrees to what destroys: the group is a guess\n  default: { approvers: [approvers], quorum: 1, hold: 50s, expires: 1h }\n");
        }
        text
    }

    fn head(&self) -> String {
        let Named { project, .. } = &self.named;
        format!(
            "# yaml-language-server: $schema=../schema/project.json\n\
             #\n\
             # A draft, imported from the OpenAPI document \"{}\". It allows nothing by itself: whatever no route\n\
             # names is refused, and no scope is held until it is asked for. What the document does not say is a guess, and\n\
             # marked so: read it before an agent works under it.\n\
             version: 1\n\
             project: {}\n\
             mode: enforce                                  # `shadow` to see in the ledger what would be denied, and deny nothing\n\n",
            self.document.title,
            quoted(project.as_str()),
        )
    }

    fn agent(&self, text: &mut String) {
        let mut scopes: BTreeMap<&str, Verb> = BTreeMap::new();
        for route in &self.routes {
            scopes.insert(&route.scope, route.verb);
        }
        let _ = writeln!(
            text,
            "agents:\n  {}:\n    session: {{ ttl: 15m, max_ttl: 4h }}\n    scopes:                                    # guess: all of them, none held until asked for; remove what it should never do",
            quoted(self.named.agent.as_str())
        );
        for (scope, verb) in scopes {
            let rule = match verb {
                Verb::Delete => {
                    "{ grant: on_request, ttl: 1h, resources: any }   # guess: any; bound it, as [\"user:{session.user_id}\"] does"
                }
                Verb::Read | Verb::Write => "on_request",
            };
            let _ = writeln!(text, "      {}: {rule}", quoted(scope));
        }
    }

    fn tool(&self, text: &mut String) {
        let (url, guess) = match &self.upstream {
            Upstream::Told(url) => (url.clone(), ""),
            Upstream::Said(url) => (url.clone(), "      # the document's first server"),
            Upstream::Unknown(base) => (
                format!("http://127.0.0.1:9001{base}"),
                "      # guess: the document does not say where it is",
            ),
        };
        let _ = writeln!(
            text,
            "\ntools:\n  {}:\n    mount: {}\n    upstream:\n      url: {}{guess}",
            quoted(self.named.tool.as_str()),
            quoted(&self.named.mount),
            quoted(&url.replace("${", "$${")),
        );
        match &self.document.credential {
            Some(credential) => {
                let _ = writeln!(
                    text,
                    "      # credential: {{ header: {}, value: \"{}${{TOOL_CREDENTIAL}}\" }}   # what the document asks for; the agent never sees it",
                    credential.header, credential.scheme
                );
            }
            None => text.push_str("      # credential: { header: authorization, value: \"Bearer ${TOOL_CREDENTIAL}\" }\n"),
        }
        text.push_str("    routes:\n");
        for route in &self.routes {
            route.write(text);
        }
    }
}

impl Route {
    fn write(&self, text: &mut String) {
        if let Some(summary) = &self.summary {
            let _ = writeln!(text, "      # {summary}");
        }
        for guess in &self.guesses {
            let _ = writeln!(text, "      # guess: {guess}");
        }
        let matched = format!("{} {}", self.method, self.template.as_str());
        let _ = write!(
            text,
            "      - {{ id: {}, match: {}, scope: {}",
            quoted(&self.id),
            quoted(&matched),
            quoted(&self.scope)
        );
        if let Some(resource) = &self.resource {
            let _ = write!(text, ", resource: {}", quoted(resource));
        }
        if self.verb == Verb::Delete && self.method != "DELETE" {
            text.push_str(", irreversible: true");
        }
        text.push_str(" }\n");
    }
}

fn route(
    operation: &Operation,
    named: &Named,
    taken: &mut HashSet<String>,
) -> Result<Route, String> {
    let made = template::template(&operation.path)?;
    let (method, mut guesses) = (&operation.method, made.guesses);
    let (verb, word) = guess::verb(method, &operation.path, operation.id.as_deref());
    if let Some(word) = word {
        guesses.push(format!(
            "it destroys, by the word `{word}`: a person must agree"
        ));
    }
    if operation.deprecated {
        guesses.push("deprecated by the document, and imported all the same".to_owned());
    }
    let family = guess::family(
        operation.tag.as_deref(),
        &operation.path,
        named.tool.as_str(),
    );
    Ok(Route {
        id: guess::id(
            operation.id.as_deref(),
            method,
            made.template.as_str(),
            taken,
        ),
        method: method.clone(),
        scope: format!("{family}.{}", verb.as_str()),
        resource: guess::resource(made.template.as_str()),
        template: made.template,
        verb,
        summary: operation.summary.clone(),
        guesses,
    })
}

/// Takes out what a gate could not tell from another route of the tool.
fn leave_out_doubtful(
    routes: &mut Vec<Route>,
    named: &Named,
    left_out: &mut Vec<(String, String)>,
) {
    let tools = [tool(named)];
    loop {
        let matches = routes.iter().zip(0..).map(|(route, index)| RouteMatch {
            route: RouteIndex(index),
            tool: ToolIndex(0),
            methods: vec![route.method.as_str().into()],
            template: route.template.clone(),
            conditional: false,
        });
        let Err(faults) = RouteTable::build(&tools, matches.collect()) else {
            return;
        };
        let mut doubtful = BTreeMap::new();
        for fault in &faults {
            let (route, other) = match fault {
                TableError::Duplicate { first, second, .. }
                | TableError::Overlap { first, second } => (second, Some(first)),
                TableError::Method { route, .. } => (route, None),
                _ => continue,
            };
            let at = |index: &RouteIndex| index.0 as usize;
            let why = match other {
                Some(first) => format!(
                    "some paths match it and {} {} alike, and neither is more specific",
                    routes[at(first)].method,
                    routes[at(first)].template.as_str()
                ),
                None => fault.to_string(),
            };
            doubtful.entry(at(route)).or_insert(why);
        }
        if doubtful.is_empty() {
            return;
        }
        let gone: BTreeSet<usize> = doubtful.keys().copied().collect();
        for (at, why) in doubtful {
            let what = format!("{} {}", routes[at].method, routes[at].template.as_str());
            left_out.push((what, why));
        }
        let mut at = 0;
        routes.retain(|_| {
            at += 1;
            !gone.contains(&(at - 1))
        });
    }
}

/// As much of it as tells routes apart.
fn tool(named: &Named) -> Tool {
    Tool {
        name: named.tool.clone(),
        protocol: Protocol::Http,
        mount: Mount::Path(named.mount.as_str().into()),
        oauth: None,
        upstream: None,
        preserve_host: false,
        session_header: SessionHeader::Authorization,
        allow_method_override: Box::default(),
        record_query: Box::default(),
        body_limit: 0,
        volatile_headers: Box::default(),
        mask_headers: Box::default(),
        pin: false,
    }
}

/// A text of YAML, whatever is in it: JSON's quotation is one of YAML's.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    // A number, a boolean or nothing at all would be taken for itself.
    let letter = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if letter && text.chars().all(plain) && !word.contains(&&*text.to_ascii_lowercase()) {
        return text.to_owned();
    }
    Value::from(text).to_string()
}

fn shown(path: &str) -> String {
    crate::cli::output::harmless(path)
}
