//! `toolgate check`: are the files valid, and is there anything in them that is probably not meant?

use super::{Failure, Globals, output};
use crate::config::{self, Loaded, Secrets};
use crate::gate::Gate;
use crate::io::clock::{Clock as _, SystemClock};
use crate::policy::model::{Mount, Policy, Tool};
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
    let projects: Vec<Value> = loaded.projects.iter().map(project).collect();
    let warnings: Vec<&str> = loaded
        .warnings
        .iter()
        .map(|warning| warning.summary.as_str())
        .collect();
    json!({"valid": true, "projects": projects, "warnings": warnings})
}

fn project(policy: &Policy) -> Value {
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
    json!({
        "project": policy.project.as_str(),
        "policy": policy.hash.to_string(),
        "agents": agents(policy),
        "tools": tools,
        "routes": routes,
        "limits": limits,
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
