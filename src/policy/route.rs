//! The route table: canonical target and method -> one route of one tool.
//!
//! Built with the policy, read once a call. Host before mount, the longest mount on whole segments, the most specific
//! template, then the method; never a fallback to anything less specific. It refuses at build whatever would make the
//! answer depend on the order of the file: equal matches, and templates that cross without one lying within the other.

pub(super) mod call;
pub(super) mod hash;
mod index;
mod loose;
mod shapes;
mod tree;

use super::model::{LimitIndex, Mount, Protocol, RouteIndex, Tool, ToolIndex};
use super::name::AgentName;
use super::target::{Target, canonical_path, is_name_or_ipv4, with_plain_delimiters};
use super::template::{Captures, Template};
use hash::Table;
use shapes::{Found, Shapes};
use std::collections::HashMap;
use std::num::NonZeroU32;

pub use call::{CALL, called};

/// Built when a policy is assembled; one set of templates per tool.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    hosts: Table<Box<str>, ToolIndex>,
    /// Each mount, and whatever is below it.
    mounts: matchit::Router<Mounted>,
    /// By [`ToolIndex`].
    tools: Box<[Shapes]>,
    /// By [`ToolIndex`]: whether its calls are named in the body.
    called: Box<[bool]>,
    /// Functions are asked about by name alone, whichever tool they are of: one look-up has all of them, at the place of the
    /// first such tool.
    functions: Option<ToolIndex>,
    /// Whose each function is.
    function_of: HashMap<RouteIndex, ToolIndex>,
}

/// A tool, and how much of a path is its mount.
#[derive(Clone, Copy, Debug)]
struct Mounted {
    tool: ToolIndex,
    bytes: usize,
}

/// What matching found. Borrows the canonical target and the table.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'t> {
    /// The route.
    pub route: RouteIndex,
    /// Its tool.
    pub tool: ToolIndex,
    /// The canonical path behind the mount: begins with `/`, or is empty for the bare mount.
    pub path: &'t str,
    /// Path parameters in template order, still percent-encoded as canonical.
    pub captures: Captures<'t>,
    /// Where its shape has the next route of the same match, which is asked if the conditions of this one don't hold.
    next: Option<NonZeroU32>,
}

/// Why nothing matched. The agent sees one answer for both; records know the tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No tool at this host or mount.
    Tool,
    /// Its calls are named in the body: [`RouteTable::find_call`].
    Called(ToolIndex),
    /// The tool has no route for this path and method.
    Route(ToolIndex),
}

/// What one route answers to.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// The route.
    pub route: RouteIndex,
    /// Its tool.
    pub tool: ToolIndex,
    /// Upper-case method names; at least one.
    pub methods: Vec<Box<str>>,
    /// The path behind the mount.
    pub template: Template,
    /// Whether it asks more of a call: then another of the same match may come behind it.
    pub conditional: bool,
}

/// Why parts make no policy. Positions are those of the parts; the reader of the file knows their places.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Two routes answer to one method and the same paths, and the earlier takes every call.
    #[error(
        "method {method} and the same paths as an earlier route without `where`: it could never be reached"
    )]
    Duplicate {
        /// In file order.
        first: RouteIndex,
        /// The later one.
        second: RouteIndex,
        /// The method both name.
        method: Box<str>,
    },
    /// Some paths match both templates, and neither is the more specific.
    #[error("some paths match both templates and neither is more specific")]
    Overlap {
        /// In file order.
        first: RouteIndex,
        /// The later one.
        second: RouteIndex,
    },
    /// No method, a name in lower case or with other characters, or CONNECT or TRACE, which are never forwarded.
    #[error("`{method}` is not a method that can be forwarded")]
    Method {
        /// Whose.
        route: RouteIndex,
        /// As written; empty if none is.
        method: Box<str>,
    },
    /// A route of a tool that does not exist.
    #[error("the route's tool does not exist")]
    ToolMissing {
        /// Whose.
        route: RouteIndex,
    },
    /// The resource reads a path parameter that the template does not have.
    #[error("the resource reads `{{{name}}}`, which the match does not have")]
    Placeholder {
        /// Whose.
        route: RouteIndex,
        /// The parameter.
        name: Box<str>,
    },
    /// Two tools at one mount or host.
    #[error("two tools at one mount or host")]
    MountTwice {
        /// In file order.
        first: ToolIndex,
        /// The later one.
        second: ToolIndex,
    },
    /// A mount in `/.toolgate` or `/.well-known`.
    #[error("the gate keeps `/.toolgate` and `/.well-known` for itself")]
    MountReserved {
        /// Whose.
        tool: ToolIndex,
    },
    /// A mount that is not canonical, or a host that is not a lower-case name without port.
    #[error(
        "a mount is a canonical path without a trailing slash, a host a lower-case name without port"
    )]
    MountMalformed {
        /// Whose.
        tool: ToolIndex,
    },
    /// Two routes of one id.
    #[error("two routes of one id")]
    IdTwice {
        /// In file order.
        first: RouteIndex,
        /// The later one.
        second: RouteIndex,
    },
    /// Two limits of one id.
    #[error("two limits of one id")]
    LimitTwice {
        /// In file order.
        first: LimitIndex,
        /// The later one.
        second: LimitIndex,
    },
    /// Two agents of one name.
    #[error("two agents of the name {agent}")]
    AgentTwice {
        /// Its name.
        agent: AgentName,
    },
}

impl RouteTable {
    /// Builds the table of one project.
    ///
    /// # Errors
    /// Every [`TableError`] there is.
    pub fn build(tools: &[Tool], matches: Vec<RouteMatch>) -> Result<Self, Vec<TableError>> {
        let mut faults = Vec::new();
        let mut table = Self::default();
        for (position, tool) in tools.iter().enumerate() {
            table.mount(tool_at(position), &tool.mount, &mut faults);
        }
        let function = |tool: &Tool| tool.protocol == Protocol::Function;
        table.functions = tools.iter().position(function).map(tool_at);
        let mut per_tool: Vec<Vec<RouteMatch>> = tools.iter().map(|_| Vec::new()).collect();
        for entry in matches {
            check_methods(&entry, &mut faults);
            let mut place = entry.tool;
            if tools.get(place.0 as usize).is_some_and(function) {
                table.function_of.insert(entry.route, place);
                place = table.functions.unwrap_or(place);
            }
            match per_tool.get_mut(place.0 as usize) {
                Some(entries) => entries.push(entry),
                None => faults.push(TableError::ToolMissing { route: entry.route }),
            }
        }
        table.tools = per_tool
            .into_iter()
            .map(|entries| Shapes::build(entries, &mut faults))
            .collect();
        table.called = tools
            .iter()
            .map(|tool| tool.protocol.names_calls())
            .collect();
        if faults.is_empty() {
            Ok(table)
        } else {
            Err(faults)
        }
    }

    /// Host before mount, the longest mount on whole segments, the most specific template, then the method.
    /// GET also answers HEAD, unless a route of the same paths names HEAD. Never falls back to a less specific one.
    /// A path that would match otherwise if its encoded delimiters stood as they are (`/models/x%3Arun` beside a route
    /// for `:run`) matches nothing: which route is meant depends on who reads it. So does one that a reader who is not
    /// exact takes for a more specific one's (`/users/ME` or `/users/me/` beside routes for `/users/me` and `/users/{id}`).
    ///
    /// # Errors
    /// [`NoRoute`] when there is none.
    pub fn find<'t>(&'t self, method: &str, target: &'t Target) -> Result<Matched<'t>, NoRoute> {
        let (tool, path, found) = self
            .locate(target.host(), target.path())
            .ok_or(NoRoute::Tool)?;
        if self.called[tool.0 as usize] {
            return Err(NoRoute::Called(tool));
        }
        let found = found.ok_or(NoRoute::Route(tool))?;
        if let Some(plain) = target.with_plain_delimiters() {
            let other = self.locate(target.host(), &plain);
            let same = other.is_some_and(|(other_tool, _, other)| {
                other_tool == tool && other.is_some_and(|other| other.shape() == found.shape())
            });
            if !same {
                return Err(NoRoute::Route(tool));
            }
        }
        let shapes = &self.tools[tool.0 as usize];
        if target.is_loose() && !shapes.is_same_to_all(&found, path) {
            return Err(NoRoute::Route(tool));
        }
        let (arm, captures) = shapes
            .answering(&found, method, path)
            .ok_or(NoRoute::Route(tool))?;
        Ok(Matched {
            route: arm.route(),
            tool,
            path,
            captures,
            next: arm.next(),
        })
    }

    /// The most specific route of a tool for what [`called`] makes of a call that the body names.
    pub fn find_call<'t>(&'t self, tool: ToolIndex, path: &'t str) -> Option<Matched<'t>> {
        let shapes = self.tools.get(tool.0 as usize)?;
        let found = shapes.most_specific(path)?;
        let (arm, captures) = shapes.answering(&found, CALL, path)?;
        Some(Matched {
            route: arm.route(),
            tool: self.tool_of(arm.route(), tool),
            path,
            captures,
            next: arm.next(),
        })
    }

    /// The most specific route for what [`called`] makes of a function's name, whichever tool it is of.
    pub fn find_function<'t>(&'t self, path: &'t str) -> Option<Matched<'t>> {
        self.find_call(self.functions?, path)
    }

    /// The next route of the same match, in order of the file.
    pub fn behind<'t>(&'t self, matched: &Matched<'t>) -> Option<Matched<'t>> {
        let place = match self.function_of.contains_key(&matched.route) {
            true => self.functions?,
            false => matched.tool,
        };
        let shapes = &self.tools[place.0 as usize];
        let (arm, names) = shapes.at(matched.next?)?;
        Some(Matched {
            route: arm.route(),
            tool: self.tool_of(arm.route(), matched.tool),
            captures: matched.captures.renamed(names)?,
            next: arm.next(),
            ..*matched
        })
    }

    /// Whose a route is that was found among those of `place`.
    fn tool_of(&self, route: RouteIndex, place: ToolIndex) -> ToolIndex {
        self.function_of.get(&route).copied().unwrap_or(place)
    }

    /// All routes of one match from this one on, in order of the file.
    pub fn arms<'t>(&'t self, first: Matched<'t>) -> impl Iterator<Item = Matched<'t>> {
        std::iter::successors(Some(first), |arm| self.behind(arm))
    }

    /// Routes of one match with the same names of parameters: each with each that comes behind it.
    pub fn successions(&self) -> impl Iterator<Item = (RouteIndex, RouteIndex)> {
        self.tools.iter().flat_map(Shapes::successions)
    }

    /// The tool of a path, the path behind its mount, and the most specific shape there.
    fn locate<'p>(&self, host: &str, path: &'p str) -> Option<(ToolIndex, &'p str, Option<Found>)> {
        let Mounted { tool, bytes } = self.tool(host, path)?;
        let behind = &path[bytes..];
        let found = self.tools[tool.0 as usize].most_specific(behind);
        Some((tool, behind, found))
    }

    /// The tool a target is for. The gate's own paths are no tool's, wherever it is mounted.
    fn tool(&self, host: &str, path: &str) -> Option<Mounted> {
        if is_under(path, OWN_PATH) {
            return None;
        }
        if !self.hosts.is_empty()
            && let Some(&tool) = self.hosts.get(host)
        {
            return Some(Mounted { tool, bytes: 0 });
        }
        self.mounts.at(path).ok().map(|found| *found.value)
    }

    fn mount(&mut self, tool: ToolIndex, mount: &Mount, faults: &mut Vec<TableError>) {
        let taken = match mount {
            Mount::None => return,
            Mount::Host(host) => {
                if !is_host_name(host) {
                    faults.push(TableError::MountMalformed { tool });
                    return;
                }
                self.hosts.insert(host.clone(), tool)
            }
            Mount::Path(path) => {
                let canonical = canonical_path(path).is_ok_and(|canonical| *canonical == **path)
                    && with_plain_delimiters(path).is_none();
                if !canonical || (path.len() > 1 && path.ends_with('/')) {
                    faults.push(TableError::MountMalformed { tool });
                    return;
                }
                if is_under(path, OWN_PATH) || is_under(path, WELL_KNOWN_PATH) {
                    faults.push(TableError::MountReserved { tool });
                    return;
                }
                // The root is the prefix of nothing: every path begins behind it.
                let mount: &str = if **path == *"/" { "" } else { path };
                self.mount_at(mount, tool)
            }
        };
        if let Some(first) = taken {
            faults.push(TableError::MountTwice {
                first,
                second: tool,
            });
        }
    }

    /// The mount itself, with a slash behind it, and all below. The tool that has it already, if one has.
    fn mount_at(&mut self, mount: &str, tool: ToolIndex) -> Option<ToolIndex> {
        let place = Mounted {
            tool,
            bytes: mount.len(),
        };
        // A canonical path has no braces: none of it means anything to matchit.
        for pattern in [
            mount.to_owned(),
            format!("{mount}/"),
            format!("{mount}/{{*below}}"),
        ] {
            if !pattern.is_empty() && self.mounts.insert(&*pattern, place).is_err() {
                let taken = self.mounts.at(&pattern).ok();
                return taken.map(|found| found.value.tool).or(Some(tool));
            }
        }
        None
    }
}

/// The gate's own paths.
pub const OWN_PATH: &str = "/.toolgate";
/// RFC 8615: what a host says of itself is not a tool's to say.
pub const WELL_KNOWN_PATH: &str = "/.well-known";

/// Whether `path` is `prefix` or lies below it, on whole segments.
pub fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|behind| behind.is_empty() || behind.starts_with('/'))
}

fn tool_at(position: usize) -> ToolIndex {
    ToolIndex(u32::try_from(position).expect("a bounded file has fewer than 2^32 tools"))
}

/// A host that a target can have, by name or IPv4 address; lower case.
fn is_host_name(host: &str) -> bool {
    host.len() <= 253 && !host.bytes().any(|b| b.is_ascii_uppercase()) && is_name_or_ipv4(host)
}

/// Upper-case tokens; CONNECT and TRACE are never forwarded.
fn check_methods(entry: &RouteMatch, faults: &mut Vec<TableError>) {
    let forwarded = |method: &str| {
        !matches!(method, "" | "CONNECT" | "TRACE")
            && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
    };
    let route = entry.route;
    if entry.methods.is_empty() {
        faults.push(TableError::Method {
            route,
            method: "".into(),
        });
    }
    for method in entry.methods.iter().filter(|method| !forwarded(method)) {
        faults.push(TableError::Method {
            route,
            method: method.clone(),
        });
    }
}
