//! `toolgate approvals`: what waits for a person, shown and decided through the admin API.
//!
//! Nobody decides blindly: `approve` shows the whole request and sends the digest of exactly what it showed, or takes the
//! digest from who has seen it elsewhere. It refuses to approve without either.

mod inbox;
mod layout;
mod screen;
mod shown;
mod watch;

use super::client::Client;
use super::{Failure, Globals, output};
use crate::io::clock::{Clock as _, SystemClock};
use crate::policy::approval::{RequestDigest, Stage, Word};
use crate::policy::id::ApprovalId;
use crate::policy::name::ProjectName;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};
use std::io::{self, BufRead as _, IsTerminal as _};

/// `approvals ...`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  toolgate approvals list\n  toolgate approvals watch")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what waits for a person, oldest first
    #[command(
        after_help = "Example:\n  toolgate approvals list\n  toolgate approvals list --state approved,unknown --project demo --json"
    )]
    List(List),
    /// Show one whole: everything that would run, and what its session did before
    #[command(
        after_help = "Example:\n  toolgate approvals show apr_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5"
    )]
    Show(One),
    /// Show one and approve exactly what was shown
    #[command(
        after_help = "Example:\n  toolgate approvals approve apr_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5 --note \"ticket 4711\""
    )]
    Approve(Approve),
    /// Deny one; one such word ends it
    #[command(
        after_help = "Example:\n  toolgate approvals deny apr_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5 --note \"use the archive instead\""
    )]
    Deny(Deny),
    /// Say how a run ended whose outcome is unknown (role operator)
    #[command(
        after_help = "Example:\n  toolgate approvals resolve apr_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5 --did-not-run --note \"backend log has no such call\""
    )]
    Resolve(Resolve),
    /// Follow what comes in: a live inbox on a terminal, a line for each event elsewhere
    #[command(
        after_help = "Example:\n  toolgate approvals watch\n  toolgate approvals watch --json | jq -c .approval"
    )]
    Watch,
}

#[derive(Args, Debug)]
struct List {
    /// Those that are in one of these states
    #[arg(long, value_name = "STATE,...", value_delimiter = ',', value_parser = stage, default_value = "pending")]
    state: Vec<Stage>,
    /// Those in any state, as long as they are kept
    #[arg(long, conflicts_with = "state")]
    all: bool,
    /// Only those of this project
    #[arg(long, value_name = "NAME", value_parser = ProjectName::parse)]
    project: Option<ProjectName>,
}

#[derive(Args, Debug)]
struct One {
    /// The approval's id, apr_...
    #[arg(value_name = "ID", value_parser = approval_id)]
    id: ApprovalId,
}

#[derive(Args, Debug)]
struct Approve {
    /// The approval's id, apr_...
    #[arg(value_name = "ID", value_parser = approval_id)]
    id: ApprovalId,
    /// Why; the agent hears it and it stays in the ledger
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// The digest of what you were shown elsewhere; nothing is asked then
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    digest: Option<RequestDigest>,
    /// Approve what is shown without asking
    #[arg(long)]
    yes: bool,
}

#[derive(Args, Debug)]
struct Deny {
    /// The approval's id, apr_...
    #[arg(value_name = "ID", value_parser = approval_id)]
    id: ApprovalId,
    /// Why; the agent hears it and it stays in the ledger
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("outcome").required(true))]
struct Resolve {
    /// The approval's id, apr_...
    #[arg(value_name = "ID", value_parser = approval_id)]
    id: ApprovalId,
    /// The backend did it
    #[arg(long, group = "outcome")]
    ran: bool,
    /// The backend did not do it: it may run now, once
    #[arg(long, group = "outcome")]
    did_not_run: bool,
    /// How you know; it stays in the ledger
    #[arg(long, value_name = "TEXT")]
    note: String,
}

/// Does it.
///
/// # Errors
/// As the admin API answers.
pub async fn run(globals: &Globals, arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::List(of) => list(&Client::from_globals(globals)?, globals, &of).await,
        Action::Show(one) => show(&Client::from_globals(globals)?, globals, one.id).await,
        Action::Approve(of) => approve(globals, &of).await,
        Action::Deny(of) => {
            let client = Client::from_globals(globals)?;
            let approval = client.call(Method::GET, &path(of.id), None).await?;
            let digest = shown_digest(&approval)?;
            let note = of.note.as_deref();
            let answer = decide(&client, of.id, Word::Deny, &digest, note).await?;
            told(globals, &answer)
        }
        Action::Resolve(of) => {
            let client = Client::from_globals(globals)?;
            let body = serde_json::json!({ "ran": of.ran, "note": of.note });
            let path = path(of.id) + "/resolve";
            let answer = client.call(Method::POST, &path, Some(&body)).await?;
            told(globals, &answer)
        }
        Action::Watch => watch::run(&Client::from_globals(globals)?, globals).await,
    }
}

async fn list(client: &Client, globals: &Globals, of: &List) -> Result<(), Failure> {
    let mut query = Vec::new();
    if !of.all {
        let states: Vec<&str> = of.state.iter().map(|stage| stage.as_str()).collect();
        query.push(format!("state={}", states.join(",")));
    }
    query.extend(of.project.as_ref().map(|name| format!("project={name}")));
    let path = match query.is_empty() {
        true => PATH.to_owned(),
        false => format!("{PATH}?{}", query.join("&")),
    };
    let (items, more) = client.list(&path).await?;
    if more {
        anstream::eprintln!("there are more approvals than this lists");
    }
    if globals.json {
        return output::json(&items.into());
    }
    let now = SystemClock.now().wall;
    let row = |item: &Value| {
        vec![
            output::plain(&item["id"]),
            shown::left(item, now).unwrap_or_else(|| output::plain(&item["state"])),
            output::plain(&item["project"]),
            output::plain(&item["agent"]),
            shown::what(item),
            output::plain(&item["resource"]),
            shown::agreement(item),
        ]
    };
    let header = [
        "ID", "LEFT", "PROJECT", "AGENT", "WHAT", "RESOURCE", "AGREE",
    ];
    let rows = items.iter().map(row).collect();
    let text = output::table(&header, rows, "nothing waits for a person");
    output::print(&output::coloured(&text))
}

async fn show(client: &Client, globals: &Globals, id: ApprovalId) -> Result<(), Failure> {
    let mut approval = client.call(Method::GET, &path(id), None).await?;
    let past = path(id) + "/history";
    let history = client.call(Method::GET, &past, None).await;
    // What it did before helps, and what is asked is shown without it too.
    let history = history.unwrap_or_else(|failure| {
        anstream::eprintln!("what the session did before can't be shown: {failure}");
        Value::Null
    });
    if globals.json {
        approval["history"] = history;
        return output::json(&approval);
    }
    let now = SystemClock.now().wall;
    seen(&(shown::whole(&approval, now) + &shown::history(&history)))
}

async fn approve(globals: &Globals, of: &Approve) -> Result<(), Failure> {
    let asks = of.digest.is_none() && !of.yes;
    let person = io::stdin().is_terminal() && io::stdout().is_terminal() && !globals.json;
    if asks && !person {
        return Err(Failure::Usage(
            "nobody can be asked here: give the --digest of what was looked at (`toolgate approvals show`), or --yes to approve what is there unseen"
                .to_owned(),
        ));
    }
    let client = Client::from_globals(globals)?;
    let digest = match of.digest {
        Some(digest) => digest.to_string(),
        None => {
            let approval = client.call(Method::GET, &path(of.id), None).await?;
            if !globals.json {
                seen(&shown::whole(&approval, SystemClock.now().wall))?;
            }
            if asks && !confirmed(&approval)? {
                return Err(Failure::No(
                    "not approved: nothing was said to the gate".to_owned(),
                ));
            }
            shown_digest(&approval)?
        }
    };
    let note = of.note.as_deref();
    let answer = decide(&client, of.id, Word::Approve, &digest, note).await?;
    told(globals, &answer)
}

/// Asks the person at the terminal. What it is about is said again: the request may be longer than the screen.
fn confirmed(approval: &Value) -> Result<bool, Failure> {
    let what = output::coloured(&shown::what(approval));
    let digest = output::plain(&approval["digest"]);
    anstream::eprint!("\n{what}\ndigest {digest}\nApprove exactly this? It then runs once. [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::Ours(format!("standard input: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Shows a text that was made harmless. On a terminal lines are wrapped here, not by it: a text that is padded to its edge
/// must not begin a line there.
fn seen(text: &str) -> Result<(), Failure> {
    let width = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
    let text = match io::stdout().is_terminal() {
        true => layout::fitted(text, width),
        false => text.to_owned(),
    };
    output::print(&output::coloured(&text))
}

async fn decide(
    client: &Client,
    id: ApprovalId,
    word: Word,
    digest: &str,
    note: Option<&str>,
) -> Result<Value, Failure> {
    let mut body = Map::new();
    body.insert("decision".to_owned(), word.as_str().into());
    body.insert("digest".to_owned(), digest.into());
    if let Some(note) = note {
        body.insert("note".to_owned(), note.into());
    }
    let path = path(id) + "/decision";
    client.call(Method::POST, &path, Some(&body.into())).await
}

/// Where the approval stands now.
fn told(globals: &Globals, answer: &Value) -> Result<(), Failure> {
    if globals.json {
        return output::json(answer);
    }
    output::line(&shown::standing(answer))
}

fn shown_digest(approval: &Value) -> Result<String, Failure> {
    let digest = approval["digest"].as_str().map(str::to_owned);
    digest.ok_or_else(|| Failure::Ours("the admin API showed no digest".to_owned()))
}

const PATH: &str = "/v1/approvals";

fn path(id: ApprovalId) -> String {
    format!("{PATH}/{id}")
}

fn approval_id(text: &str) -> Result<ApprovalId, String> {
    text.parse().map_err(|_| {
        "an approval's id is `apr_` and 32 hex digits; `toolgate approvals list` shows them"
            .to_owned()
    })
}

fn digest(text: &str) -> Result<RequestDigest, String> {
    RequestDigest::parse(text)
        .ok_or_else(|| "a digest is 64 lower-case hex digits, as it was shown".to_owned())
}

fn stage(text: &str) -> Result<Stage, String> {
    Stage::parse(text).ok_or_else(|| {
        let all: Vec<&str> = Stage::ALL.into_iter().map(Stage::as_str).collect();
        format!("a state is one of {}", all.join(", "))
    })
}
