//! `toolgate check`: are the files valid, and is there anything in them that is probably not meant?

use super::{Failure, Globals, output};
use crate::config::{self, Loaded, Secrets};
use crate::gate::Gate;
use crate::io::clock::{Clock as _, SystemClock};
use crate::policy::approval::{Chain, ChainIndex};
use crate::policy::model::{GrantMode, Mount, Policy, Tool};
use crate::policy::name::GroupName;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// `check`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate check --config config/toolgate.yaml --strict\n\nExit codes: 0 valid, 1 warnings under --strict, 78 not valid. Secrets may be unset here; `serve` needs them."
)]
pub struct Arguments {
    /// Take warnings for errors
    #[arg(long)]
    strict: bool,
}

/// Reads all files; prints errors, warnings and what the projects consist of.
///
/// # Errors
/// [`Failure::Configuration`] with the whole report; [`Failure::No`] for warnings under `--strict`.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let mut loaded = match config::load(&globals.config, Secrets::Optional) {
        Ok(loaded) => loaded,
        Err(errors) => {
            if globals.json {
                let reports: Vec<Value> = errors.reports().iter().map(report).collect();
                output::json(&json!({"valid": false, "errors": reports}))?;
            }
            return Err(Failure::Configuration(errors.coloured()));
        }
    };
    if let Err(fault) = Gate::check(&loaded.projects) {
        if globals.json {
            let report = json!({"message": fault.to_string()});
            output::json(&json!({"valid": false, "errors": [report]}))?;
        }
        return Err(Failure::Configuration(fault.to_string()));
    }
    loaded.warn_of_expired(SystemClock.now().wall);
    for warning in &loaded.warnings {
        anstream::eprintln!("{}\n", warning.rendered.trim_end());
    }
    if globals.json {
        output::json(&summary(&loaded))?;
    } else {
        output::print(&prose(&loaded))?;
    }
    match loaded.warnings.len() {
        0 => Ok(()),
        _ if !arguments.strict => Ok(()),
        1 => Err(Failure::No(
            "1 warning, and --strict takes it for an error".to_owned(),
        )),
        many => Err(Failure::No(format!(
            "{many} warnings, and --strict takes them for errors"
        ))),
    }
}

fn report(report: &config::Report) -> Value {
    json!({
        "file": report.file.display().to_string(),
        "line": report.line,
        "column": report.column,
        "message": report.message,
    })
}

fn prose(loaded: &Loaded) -> String {
    let mut text = String::new();
    for policy in &loaded.projects {
        let _ = writeln!(
            text,
            "project {}\n  policy  {}",
            policy.project, policy.hash
        );
        let tools = policy
            .tools
            .iter()
            .map(|tool| format!("{} at {} -> {}", tool.name, mount(tool), upstream(tool)));
        let sections = [
            ("agents", agents(policy)),
            ("tools", tools.collect()),
            (
                "routes",
                policy
                    .routes
                    .iter()
                    .map(|route| route.id.to_string())
                    .collect(),
            ),
            (
                "limits",
                policy
                    .limits
                    .iter()
                    .map(|limit| limit.id.to_string())
                    .collect(),
            ),
        ];
        for (name, items) in sections {
            let _ = writeln!(text, "  {name:<6}  {:>3}  {}", items.len(), some_of(&items));
        }
        for (index, chain) in policy.chains.iter().enumerate() {
            let _ = writeln!(text, "  chain   {}", words_of(index, chain, policy, loaded));
        }
        text.push('\n');
    }
    let (projects, warnings) = (loaded.projects.len(), loaded.warnings.len());
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let _ = writeln!(
        text,
        "valid: {projects} project{}, {warnings} warning{}",
        plural(projects),
        plural(warnings)
    );
    text
}

/// Who decides what: `default: 1 of support-leads (dana) decides users.delete`.
fn words_of(index: usize, chain: &Chain, policy: &Policy, loaded: &Loaded) -> String {
    let people = approvers(chain, policy, loaded);
    let who = match people.len() {
        0 => "nobody".to_owned(),
        _ => some_of(&people),
    };
    let groups: Vec<String> = chain.approvers.iter().map(ToString::to_string).collect();
    let decided = decided_by(index, policy);
    let what = match decided.len() {
        0 => "nothing".to_owned(),
        _ => some_of(&decided),
    };
    format!(
        "{}: {} of {} ({who}) {} {what}",
        chain.name,
        chain.quorum,
        some_of(&groups),
        if chain.quorum == 1 {
            "decides"
        } else {
            "decide"
        }
    )
}

/// Those whose word counts, in order of name.
fn approvers(chain: &Chain, policy: &Policy, loaded: &Loaded) -> Vec<String> {
    let approvers = loaded.server.approvers();
    let people = approvers.of(&policy.project, chain);
    let mut people: Vec<String> = people.map(ToString::to_string).collect();
    people.sort();
    people
}

/// Routes and, as `grants of SCOPE`, the scopes whose grants a chain decides.
fn decided_by(index: usize, policy: &Policy) -> Vec<String> {
    let own = |chain: ChainIndex| usize::from(chain.0) == index;
    let routes = policy.routes.iter();
    let routes = routes.filter(|route| route.approval.is_some_and(own));
    let mut scopes: Vec<String> = policy
        .agents
        .values()
        .flat_map(|agent| &agent.scopes)
        .filter(|(_, ceiling)| matches!(ceiling.grant, GrantMode::OnApproval(chain) if own(chain)))
        .map(|(scope, _)| format!("grants of {scope}"))
        .collect();
    scopes.sort();
    scopes.dedup();
    let routes = routes.map(|route| route.id.to_string());
    routes.chain(scopes).collect()
}

/// Names, as many as a line holds.
fn some_of(items: &[String]) -> String {
    const NAMED_MAX: usize = 8;
    let mut text = items
        .iter()
        .take(NAMED_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if items.len() > NAMED_MAX {
        text.push_str(", ...");
    }
    text
}

fn summary(loaded: &Loaded) -> Value {
    let projects = loaded.projects.iter();
    let projects: Vec<Value> = projects.map(|policy| project(policy, loaded)).collect();
    let warnings: Vec<&str> = loaded
        .warnings
        .iter()
        .map(|warning| warning.summary.as_str())
        .collect();
    json!({"valid": true, "projects": projects, "warnings": warnings})
}

fn project(policy: &Policy, loaded: &Loaded) -> Value {
    let tools: Vec<Value> = policy
        .tools
        .iter()
        .map(|tool| json!({"name": tool.name.as_str(), "mount": mount(tool), "upstream": upstream(tool)}))
        .collect();
    let routes: Vec<&str> = policy
        .routes
        .iter()
        .map(|route| route.id.as_str())
        .collect();
    let limits: Vec<&str> = policy
        .limits
        .iter()
        .map(|limit| limit.id.as_str())
        .collect();
    let chains = policy.chains.iter().enumerate();
    let chains: Vec<Value> = chains
        .map(|(index, chain)| {
            json!({
                "name": chain.name.as_str(),
                "quorum": chain.quorum,
                "groups": chain.approvers.iter().map(GroupName::as_str).collect::<Vec<_>>(),
                "approvers": approvers(chain, policy, loaded),
                "decides": decided_by(index, policy),
            })
        })
        .collect();
    json!({
        "project": policy.project.as_str(),
        "policy": policy.hash.to_string(),
        "agents": agents(policy),
        "tools": tools,
        "routes": routes,
        "limits": limits,
        "chains": chains,
    })
}

/// In order of name: the policy keeps them in a table that has none.
fn agents(policy: &Policy) -> Vec<String> {
    let mut names: Vec<String> = policy.agents.keys().map(ToString::to_string).collect();
    names.sort();
    names
}

fn mount(tool: &Tool) -> String {
    match &tool.mount {
        Mount::Path(path) => path.to_string(),
        Mount::Host(host) => format!("host {host}"),
    }
}

fn upstream(tool: &Tool) -> String {
    let scheme = match tool.upstream.tls {
        Some(_) => "https",
        None => "http",
    };
    format!(
        "{scheme}://{}{}",
        tool.upstream.host, tool.upstream.base_path
    )
}
