//! The filters of `query`, `tail` and `export`: one option for each name that [`Filter::set`] knows.

use crate::cli::Failure;
use crate::io::clock::{Clock as _, SystemClock};
use crate::ledger::query::Filter;
use clap::Args;

/// What records must be like; each option given narrows it down.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Which records")]
pub(super) struct Filters {
    /// Of this project; several with commas between
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Of this run, ses_...
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Of the run that the orchestrator calls so
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Of this tool
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Of this route
    #[arg(long, value_name = "ID")]
    route: Option<String>,
    /// That need this scope
    #[arg(long, value_name = "NAME")]
    scope: Option<String>,
    /// That act on this, such as user:7
    #[arg(long, value_name = "RESOURCE")]
    resource: Option<String>,
    /// That were decided so: allow, deny, hold
    #[arg(long, value_name = "WORD")]
    decision: Option<String>,
    /// That passed because their route is in shadow, and would have been: deny, hold, any
    #[arg(long, value_name = "WORD")]
    shadow: Option<String>,
    /// For this reason, such as no_route
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Of this call, req_...
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Of this approval, apr_...
    #[arg(long, value_name = "ID")]
    approval: Option<String>,
    /// Of what this principal did
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// decision, outcome, session, grant, approval, quarantine, pin, policy, principal, gate; several with commas between
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Not earlier: a span before now (90m, 7d), a day (2026-11-17, UTC) or a moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Earlier than this, likewise; a day counts whole
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// With this in one of their texts, in capitals or not
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

impl Filters {
    /// As the ledger reads them.
    ///
    /// # Errors
    /// [`Failure::Usage`] names what can't be meant.
    pub fn read(&self) -> Result<Filter, Failure> {
        let now = SystemClock.now().wall;
        let mut filter = Filter::default();
        let given = [
            ("project", &self.project),
            ("agent", &self.agent),
            ("session", &self.session),
            ("run", &self.run),
            ("tool", &self.tool),
            ("route", &self.route),
            ("scope", &self.scope),
            ("resource", &self.resource),
            ("decision", &self.decision),
            ("shadow", &self.shadow),
            ("reason", &self.reason),
            ("request", &self.request),
            ("approval", &self.approval),
            ("principal", &self.principal),
            ("kind", &self.kind),
            ("since", &self.since),
            ("until", &self.until),
            ("text", &self.text),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                filter.set(name, value, now).map_err(|error| {
                    let text = error.to_string();
                    Failure::Usage(text.replacen(&format!("`{name}`"), &format!("--{name}"), 1))
                })?;
            }
        }
        Ok(filter)
    }
}
