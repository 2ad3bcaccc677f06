//! `toolgate explain`: what the policy decides of a call, and each step that leads to it, from the files.

use super::{Failure, Globals, output};
use crate::config::{self, Secrets, meant};
use crate::io::clock::{Clock as _, SystemClock};
use crate::policy::name::{AgentName, ProjectName, ScopeName};
use crate::policy::resource::Resource;
use crate::policy::time::{Now, Timestamp};
use crate::config::explained::{Explainer, Explanation, Imagined, Request};
use anstyle::{AnsiColor, Style};
use clap::Args;
use std::fmt::Write as _;

/// `explain`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  toolgate explain --project demo --agent support-bot \"DELETE /crm/users/7\" --attribute customer_id=7\n  toolgate explain --project demo --agent support-bot \"POST /crm/tickets\" --grant tickets.write\n\nThe answer is the explanation: exit code 0, whatever is decided. Nothing needs to run, and secrets may be unset. Limits are named; whether they have room only the running gate knows.\n\nFor a session that is live ask the gate:\n  POST /v1/policy/explain {\"session\": ID, \"request\": \"DELETE /crm/users/7\"}"
)]
pub struct Arguments {
    /// Method and target of the call, as the agent would send it
    #[arg(value_name = "REQUEST", num_args = 1..=2, required = true)]
    request: Vec<String>,
    /// The project whose rules apply
    #[arg(long, value_name = "NAME", value_parser = ProjectName::parse)]
    project: ProjectName,
    /// The kind of agent
    #[arg(long, value_name = "NAME", value_parser = AgentName::parse)]
    agent: AgentName,
    /// An attribute that its session has; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// A stored grant that its session holds, on that resource or on all of the ceiling; may be repeated
    #[arg(long = "grant", value_name = "SCOPE[@RESOURCE]", value_parser = grant)]
    grants: Vec<(ScopeName, Option<Resource>)>,
    /// The host that is called, where tools are told by it
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// As of this time (RFC 3339): what expires by then is warned of
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
}

/// Explains.
///
/// # Errors
/// [`Failure::Configuration`] with the whole report; [`Failure::Usage`] for a project or an agent that is not there.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let request = Request::parse(&arguments.request.join(" "), arguments.host.as_deref())
        .map_err(Failure::Usage)?;
    let mut loaded = config::load(&globals.config, Secrets::Optional)
        .map_err(|errors| Failure::Configuration(errors.coloured()))?;
    let clock = SystemClock.now();
    let now = Now {
        wall: arguments.at.unwrap_or(clock.wall),
        tick: clock.tick,
    };
    loaded.warn_of_expired(now.wall);
    let style = AnsiColor::Yellow.on_default().bold();
    for warning in &loaded.warnings {
        anstream::eprintln!("{style}warning{style:#}: {}", warning.summary);
    }
    let projects = loaded.projects.iter().zip(&loaded.lines);
    let found = projects
        .clone()
        .find(|(it, _)| it.project == arguments.project);
    let (policy, lines) = found.ok_or_else(|| {
        let known = projects.map(|(policy, _)| policy.project.as_str());
        let more = meant(arguments.project.as_str(), known);
        Failure::Usage(format!("there is no project `{}`{more}", arguments.project))
    })?;
    if !policy.agents.contains_key(&arguments.agent) {
        let known = policy.agents.keys().map(AgentName::as_str);
        let more = meant(arguments.agent.as_str(), known);
        return Err(Failure::Usage(format!(
            "the project {} has no agent `{}`{more}",
            policy.project, arguments.agent
        )));
    }
    let attributes = arguments.attributes.iter().cloned().collect();
    let (agent, grants) = (arguments.agent.clone(), arguments.grants.clone());
    let caller = Imagined::new(policy, agent, attributes, grants, now);
    let explainer = Explainer {
        policy,
        lines: Some(lines),
        approvers: &loaded.server.approvers(),
    };
    let explanation = explainer.explain(caller.subject(), &request, now);
    if globals.json {
        let value = serde_json::to_value(&explanation);
        let value = value.map_err(|error| Failure::Ours(error.to_string()))?;
        return output::json(&value);
    }
    output::print(&prose(&explanation, &request))
}

fn prose(explanation: &Explanation, request: &Request) -> String {
    let dim = Style::new().dimmed();
    let (good, bad) = (
        AnsiColor::Green.on_default(),
        AnsiColor::Red.on_default().bold(),
    );
    let of = match explanation.decision {
        "allow" => AnsiColor::Green.on_default().bold(),
        "hold" => AnsiColor::Yellow.on_default().bold(),
        _ => bad,
    };
    let mut text = String::new();
    let _ = write!(text, "{of}{}{of:#}", explanation.decision);
    if let Some(reason) = explanation.reason {
        let _ = write!(text, " {of}{reason}{of:#}");
    }
    let _ = writeln!(
        text,
        "  {} {}\n",
        request.method,
        output::harmless(&request.target)
    );
    let said: Vec<String> = explanation
        .steps
        .iter()
        .map(|step| output::harmless(&step.says))
        .collect();
    let placed = said.iter().map(|says| says.chars().count());
    let width = placed
        .filter(|width| *width <= WIDTH_MAX)
        .max()
        .unwrap_or(0);
    for (step, says) in explanation.steps.iter().zip(&said) {
        let (mark, style) = match (step.passes, step.step, explanation.decision) {
            (false, ..) => ("no", bad),
            (true, "approval", "hold") => ("??", of),
            (true, ..) => ("ok", good),
        };
        let _ = write!(text, "{style}{mark}{style:#}  {:<8}  {says}", step.step);
        if let Some(at) = &step.at {
            let gap = width.saturating_sub(says.chars().count());
            let _ = write!(text, "{:gap$}  {dim}{at}{dim:#}", "");
        }
        text.push('\n');
    }
    text
}

/// What is said is followed by its places in one column, unless it is longer.
const WIDTH_MAX: usize = 80;

fn attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE, such as customer_id=7".to_owned()),
    }
}

fn grant(text: &str) -> Result<(ScopeName, Option<Resource>), String> {
    let (scope, resource) = match text.split_once('@') {
        Some((scope, resource)) => (scope, Some(resource)),
        None => (text, None),
    };
    let scope = ScopeName::parse(scope).map_err(|error| error.to_string())?;
    let resource = resource.map(|text| Resource::parse(text).map_err(|error| error.to_string()));
    Ok((scope, resource.transpose()?))
}

fn time(text: &str) -> Result<Timestamp, String> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| "write a time as 2026-03-01T12:00:00Z".to_owned())?;
    Ok(Timestamp::from_micros(time.as_microsecond()))
}
