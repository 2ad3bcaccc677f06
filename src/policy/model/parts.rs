//! A project's ruleset as written: names resolved, nothing derived yet.

use super::{Agent, Cost, IntentRule, Notify, PolicyHash, Tool, ToolIndex, Upgrade};
use crate::policy::approval::{Chain, ChainIndex};
use crate::policy::condition::Where;
use crate::policy::limit::Limit;
use crate::policy::name::{ProjectName, RouteId, ScopeName};
use crate::policy::resource::ResourceTemplate;
use crate::policy::template::Template;

/// What `config::lower` has read of one project file: names resolved, nothing derived yet.
#[derive(Debug)]
pub struct Parts {
    /// Whose it is.
    pub project: ProjectName,
    /// SHA-256 of the file.
    pub hash: PolicyHash,
    /// In file order; names are unique.
    pub agents: Vec<Agent>,
    /// In file order.
    pub tools: Vec<Tool>,
    /// In file order over all tools.
    pub routes: Vec<RoutePart>,
    /// In file order; ids are unique.
    pub limits: Vec<Limit>,
    /// In file order; names are unique.
    pub chains: Vec<Chain>,
    /// In file order; names are unique.
    pub notify: Vec<Notify>,
}

/// One rule as written.
#[derive(Debug)]
pub struct RoutePart {
    /// Unique in the project.
    pub id: RouteId,
    /// Whose it is.
    pub tool: ToolIndex,
    /// What it answers to; at least one.
    pub matches: Vec<MatchPart>,
    /// What it asks of a call besides; `None`: nothing.
    pub conditions: Option<Where>,
    /// The permission it needs.
    pub scope: ScopeName,
    /// What it acts on.
    pub resource: Option<ResourceTemplate>,
    /// What a call costs.
    pub cost: Option<Cost>,
    /// Written `irreversible: true`; a DELETE is irreversible whatever is written.
    pub irreversible: bool,
    /// Whether the agent must say what it is doing.
    pub intent: IntentRule,
    /// What would be denied is recorded and passes.
    pub shadow: bool,
    /// Bytes of a body read where one is needed.
    pub body_limit: u64,
    /// What a call may become.
    pub upgrade: Option<Upgrade>,
    /// Who must agree to each call; `None`: nobody.
    pub approval: Option<ChainIndex>,
}

/// One part of a route's match.
#[derive(Clone, Debug)]
pub struct MatchPart {
    /// Upper-case method names; at least one. GET also answers HEAD. Of a call that the body names: [`CALL`](crate::policy::route::CALL).
    pub methods: Vec<Box<str>>,
    /// The path behind the mount, or the call ([`Template::of_call`]).
    pub template: Template,
}

impl RoutePart {
    pub(super) fn deletes(&self) -> bool {
        let mut methods = self.matches.iter().flat_map(|each| &each.methods);
        methods.any(|method| &**method == "DELETE")
    }
}
