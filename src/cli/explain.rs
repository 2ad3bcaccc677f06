//! `toolgate explain`: what the policy decides of a call, and each step that leads to it, from the files.

use super::{Failure, Globals, output};
use crate::config::explained::{Explainer, Explanation, Imagined, Request, address, time};
use crate::config::{self, Secrets, meant};
use crate::io::clock::{Clock as _, SystemClock};
use crate::policy::name::{AgentName, ProjectName, ScopeName};
use crate::policy::resource::Resource;
use crate::policy::time::{Now, Timestamp};
use anstyle::{AnsiColor, Style};
use clap::Args;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// `explain`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  toolgate explain --project demo --agent support-bot \"DELETE /crm/users/7\" --attribute customer_id=7\n  toolgate explain --project demo --agent support-bot \"POST /crm/tickets\" --grant tickets.write\n  echo '{\"statement\": \"DROP TABLE users\"}' | toolgate explain --project demo --agent support-bot \"POST /crm/query\" --body -\n  toolgate explain --project dev --agent bot \"tools/call close_issue\" --tool github --args '{\"number\": 7}'\n\nWhat is not said of a call is not known: where a body, header fields, arguments or the client's address would decide, the answer is `unknown` and names them.\n\nThe answer is the explanation: exit code 0, whatever is decided. Nothing needs to run, and secrets may be unset. Limits are named; whether they have room only the running gate knows.\n\nFor a session that is live ask the gate:\n  POST /v1/policy/explain {\"session\": ID, \"request\": \"DELETE /crm/users/7\"}"
)]
pub struct Arguments {
    /// Method and target of the call, as the agent would send it; of an MCP tool `tools/call NAME`, of a function `call NAME`
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
    /// The tool whose call it is, where the body names the call and several tools have such calls
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// The body of the call, from a file; `-`: from standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// What the body is [default: application/json]
    #[arg(long, value_name = "TYPE", requires = "body")]
    content_type: Option<String>,
    /// A header field of the call; may be repeated, and then these are all that it has
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The arguments of a call that the body names, in JSON: an object, or the file that has it
    #[arg(long, value_name = "JSON|FILE")]
    args: Option<String>,
    /// What the agent says it is doing; "": nothing
    #[arg(long, value_name = "TEXT")]
    intent: Option<String>,
    /// The address that the call comes from
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    client: Option<IpAddr>,
    /// As of this time (RFC 3339): what conditions on time see, and what expires by then is warned of
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
}

/// Explains.
///
/// # Errors
/// [`Failure::Configuration`] with the whole report; [`Failure::Usage`] for a project or an agent that is not there.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let mut request = request(arguments)?;
    let mut loaded = config::load_untested(&globals.config, Secrets::Optional)
        .map_err(|errors| Failure::Configuration(errors.coloured()))?;
    let clock = SystemClock.now();
    let now = Now {
        wall: arguments.at.unwrap_or(clock.wall),
        tick: clock.tick,
    };
    request.at = Some(now.wall);
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
        approvers: Some(&loaded.server.approvers()),
    };
    let explained = explainer.explain(caller.subject(), &request, now);
    let explanation = explained.map_err(Failure::Usage)?;
    if globals.json {
        let value = serde_json::to_value(&explanation);
        let value = value.map_err(|error| Failure::Ours(error.to_string()))?;
        return output::json(&value);
    }
    output::print(&prose(&explanation, &request))
}

/// The call, as far as it is told of.
fn request(arguments: &Arguments) -> Result<Request, Failure> {
    let spelled = arguments.request.join(" ");
    let (host, tool) = (arguments.host.as_deref(), arguments.tool.as_deref());
    let mut request = Request::parse(&spelled, host, tool).map_err(Failure::Usage)?;
    let named = |(name, _): &(String, String)| name.eq_ignore_ascii_case("content-type");
    if arguments.content_type.is_some() && arguments.headers.iter().any(named) {
        let twice = "--content-type and --header content-type say one thing twice: keep one";
        return Err(Failure::Usage(twice.to_owned()));
    }
    if !arguments.headers.is_empty() {
        let fields = arguments.headers.iter().map(|(name, value)| (name, value));
        request = request.with_headers(fields).map_err(Failure::Usage)?;
    }
    if let Some(path) = &arguments.body {
        let media = arguments.content_type.as_deref();
        request = request.with_body(read(path)?, media.unwrap_or("application/json"));
    }
    if let Some(args) = &arguments.args {
        let text = match args.trim_start().starts_with('{') {
            true => args.clone().into_bytes(),
            false => read(Path::new(args))?,
        };
        request = request.with_args(text).map_err(Failure::Usage)?;
    }
    request.client = arguments.client;
    request.intent.clone_from(&arguments.intent);
    Ok(request)
}

/// A file, or standard input.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let fault =
        |error: io::Error| Failure::Usage(format!("{} can't be read: {error}", path.display()));
    let input: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path).map_err(fault)?),
    };
    let mut bytes = Vec::new();
    let read = input.take(BYTES_MAX + 1).read_to_end(&mut bytes);
    match read.map_err(fault)? as u64 > BYTES_MAX {
        true => Err(Failure::Usage(format!(
            "{} is longer than any route reads",
            path.display()
        ))),
        false => Ok(bytes),
    }
}

/// The largest `body_limit` there is.
const BYTES_MAX: u64 = 1 << 30;

fn prose(explanation: &Explanation, request: &Request) -> String {
    let dim = Style::new().dimmed();
    let (good, bad) = (
        AnsiColor::Green.on_default(),
        AnsiColor::Red.on_default().bold(),
    );
    let of = match explanation.decision {
        "allow" => AnsiColor::Green.on_default().bold(),
        "hold" | "unknown" => AnsiColor::Yellow.on_default().bold(),
        _ => bad,
    };
    let mut text = String::new();
    let _ = write!(text, "{of}{}{of:#}", explanation.decision);
    if let Some(reason) = explanation.reason {
        let _ = write!(text, " {of}{reason}{of:#}");
    }
    if explanation.shadow {
        let _ = write!(text, " {of}(in shadow: it passes){of:#}");
    }
    let _ = writeln!(text, "  {}\n", output::harmless(&request.line()));
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
            (true, ..) if step.next => ("--", dim),
            (false, _, "unknown") if !explanation.leaves_open(step) => ("??", of),
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
    if let Some(unknown) = &explanation.unknown {
        let _ = writeln!(text, "\n{of}unknown{of:#}: {}", give(unknown));
    }
    text
}

/// What to say of the call, so that it can be decided.
fn give(unknown: &str) -> String {
    let flag = match unknown.split('.').next().unwrap_or(unknown) {
        "body" => "--body FILE",
        "args" => "--args JSON",
        "header" => "--header \"NAME: VALUE\"; then these are all that the call has",
        "client" => "--client ADDRESS",
        "intent" => "--intent TEXT",
        _ => return format!("`{unknown}` decides, and can't be said here"),
    };
    format!("`{unknown}` decides, and was not said; give {flag}")
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

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write NAME: VALUE, such as \"x-tenant: acme\"".to_owned()),
    }
}
