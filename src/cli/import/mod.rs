//! `toolgate import`: a project file to start from, made of a description of the tool.
//!
//! It is a first draft for a person: everything in it that the description does not say is a guess, and says so in a
//! comment. Nothing in it lets an agent do anything by itself: what no route names is refused, and no scope is held until
//! it is asked for. It reads one document and follows nothing that leads out of it.

mod document;
mod draft;
mod guess;
mod template;

use super::{Failure, Globals, output};
use crate::config;
use crate::policy::name::{AgentName, NameError, ProjectName, ToolName};
use crate::policy::target::Target;
use clap::{Args, Subcommand};
use document::Document;
use draft::{Draft, Upstream};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};

/// `import`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate import openapi crm.json --tool crm --mount /crm > config/projects/crm.yaml"
)]
pub struct Arguments {
    #[command(subcommand)]
    from: Source,
}

#[derive(Debug, Subcommand)]
enum Source {
    /// From an OpenAPI 3 document: routes, scopes, resources, and approval for what destroys
    Openapi(Openapi),
}

/// `import openapi`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate import openapi crm.json --tool crm --mount /crm > config/projects/crm.yaml\n  curl -s https://crm.example/openapi.yaml | toolgate import openapi - --tool crm --mount /crm --upstream https://crm.example/api\n\nThe file goes to standard output, what was guessed and left out to standard error as well. Exit codes: 0 something was\nimported, 1 nothing was."
)]
struct Openapi {
    /// OpenAPI 3.0 or 3.1, in JSON or YAML; `-`: standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// What the tool is called
    #[arg(long, value_name = "NAME")]
    tool: String,
    /// The path that agents find it at, such as /crm
    #[arg(long, value_name = "PATH")]
    mount: String,
    /// What the project is called [default: the tool's name]
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// What the agent is called
    #[arg(long, value_name = "NAME", default_value = "agent")]
    agent: String,
    /// Where the tool is [default: the document's first server]
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
}

/// Reads, guesses, prints.
///
/// # Errors
/// [`Failure`]: the document can't be read, or nothing of it can be imported.
pub fn run(_: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let Source::Openapi(arguments) = &arguments.from;
    let named = Named::of(arguments)?;
    let text = read(&arguments.file)?;
    let document = Document::read(&text).map_err(|why| {
        let file = output::harmless(&arguments.file);
        Failure::No(format!("{file}: {why}"))
    })?;
    let upstream = match &arguments.upstream {
        Some(url) => Upstream::Told(url.clone()),
        None => document.upstream(),
    };
    let mut draft = Draft::new(document, named, upstream);
    tell(&draft);
    if draft.is_empty() {
        return Err(Failure::No(
            "nothing of this document can be imported".to_owned(),
        ));
    }
    let mut text = draft.yaml();
    if let Err(errors) = config::check_project(&text) {
        // Where the document says that the tool is may be nothing that can be sent to. All else was proven before.
        if !draft.forget_upstream() {
            return Err(Failure::Usage(format!(
                "what would be written is not valid:\n{errors}"
            )));
        }
        text = draft.yaml();
        config::check_project(&text).map_err(|errors| {
            Failure::Ours(format!("what would be written is not valid:\n{errors}"))
        })?;
    }
    output::print(&text)
}

/// The names that were given.
struct Named {
    project: ProjectName,
    tool: ToolName,
    agent: AgentName,
    mount: String,
}

impl Named {
    fn of(arguments: &Openapi) -> Result<Self, Failure> {
        let wrong = |option: &'static str| {
            move |why: NameError| Failure::Usage(format!("--{option}: {why}"))
        };
        let mount = &arguments.mount;
        // As the configuration has it: canonical, and not one of the gate's own paths.
        let canonical = Target::parse(mount, "localhost");
        let fits = canonical.is_ok_and(|target| {
            target.path() == mount
                && target.query().is_none()
                && (mount == "/" || !mount.ends_with('/'))
        });
        let own = ["/.toolgate", "/.well-known"];
        if !fits
            || own
                .iter()
                .any(|own| crate::policy::route::is_under(mount, own))
        {
            return Err(Failure::Usage(
                "--mount: a path such as /crm, without a slash at its end, and none of the gate's own"
                    .to_owned(),
            ));
        }
        let project = arguments.project.as_ref().unwrap_or(&arguments.tool);
        Ok(Self {
            project: ProjectName::parse(project).map_err(wrong("project"))?,
            tool: ToolName::parse(&arguments.tool).map_err(wrong("tool"))?,
            agent: AgentName::parse(&arguments.agent).map_err(wrong("agent"))?,
            mount: mount.clone(),
        })
    }
}

/// The document's text, within its bound.
fn read(file: &str) -> Result<String, Failure> {
    let shown = output::harmless(file);
    let failed = |error: io::Error| Failure::No(format!("{shown}: {error}"));
    let mut bytes = Vec::new();
    let read = match file {
        "-" => io::stdin()
            .lock()
            .take(BYTES_MAX + 1)
            .read_to_end(&mut bytes),
        path => File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    read.map_err(failed)?;
    if bytes.len() as u64 > BYTES_MAX {
        let most = BYTES_MAX >> 20;
        return Err(Failure::No(format!(
            "{shown}: it is larger than {most} MiB"
        )));
    }
    String::from_utf8(bytes).map_err(|_| Failure::No(format!("{shown}: it is not UTF-8")))
}

/// What a person must look at, beside the comments in the file.
fn tell(draft: &Draft) {
    let mut text = String::new();
    for (what, why) in draft.left_out() {
        let _ = writeln!(text, "left out: {what}: {why}");
    }
    for note in draft.notes() {
        let _ = writeln!(text, "note: {note}");
    }
    let (routes, left_out) = (draft.routes(), draft.left_out().len());
    let plural = if routes == 1 { "" } else { "s" };
    anstream::eprint!(
        "{text}{routes} route{plural} imported, {left_out} left out; what was guessed stands in the comments: read them, then run `toolgate check`\n"
    );
}

/// Documents of some thousand operations have some MiB.
const BYTES_MAX: u64 = 32 << 20;
