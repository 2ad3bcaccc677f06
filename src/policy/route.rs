//! The route table: canonical target and method -> one route of one tool.

use super::model::{Policy, RouteIndex, ToolIndex};
use super::target::Target;

/// Built when a policy is lowered; one radix tree per tool.
#[derive(Debug, Default)]
pub struct RouteTable {}

/// What matching found. Captures borrow the canonical target.
#[derive(Debug)]
pub struct Matched<'t> {
    /// The route.
    pub route: RouteIndex,
    /// Its tool.
    pub tool: ToolIndex,
    /// The canonical path behind the mount: begins with `/`, or is empty for the bare mount.
    pub path: &'t str,
    /// Path parameters in template order, still percent-encoded as canonical.
    pub captures: Vec<(&'t str, &'t str)>,
}

/// Why nothing matched. The agent sees one answer for both; records know the tool.
#[derive(Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No tool at this host or mount.
    Tool,
    /// The tool has no route for this path and method.
    Route(ToolIndex),
}

impl RouteTable {
    /// Host before mount, the longest mount on whole segments, the most specific template, then the method.
    /// GET also answers HEAD. Never falls back to a less specific template.
    ///
    /// # Errors
    /// [`NoRoute`] when there is none.
    pub fn find<'t>(
        &self,
        _policy: &Policy,
        _method: &str,
        _target: &'t Target,
    ) -> Result<Matched<'t>, NoRoute> {
        Err(NoRoute::Tool)
    }
}
