//! `toolgate grants`: stored grants of a session, through the admin API.

use super::client::Client;
use super::session::session_id;
use super::{Failure, Globals, output};
use crate::policy::id::{GrantId, SessionId};
use crate::policy::name::ScopeName;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};

/// `grants ...`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate grants list --session ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5"
)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what a session holds
    #[command(
        after_help = "Example:\n  toolgate grants list --session ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5 --json"
    )]
    List(List),
    /// Give a session a grant within its ceiling
    #[command(
        after_help = "Example:\n  toolgate grants give --session ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5 --scope refunds.create \\\n    --resource user:7 --uses 1 --ttl 5m --reason \"ticket 4711\""
    )]
    Give(Give),
    /// Take a grant away
    #[command(
        after_help = "Example:\n  toolgate grants revoke grt_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5"
    )]
    Revoke(Revoke),
}

#[derive(Args, Debug)]
struct List {
    /// Whose
    #[arg(long, value_name = "ID", value_parser = session_id)]
    session: SessionId,
}

#[derive(Args, Debug)]
struct Give {
    /// To whom
    #[arg(long, value_name = "ID", value_parser = session_id)]
    session: SessionId,
    /// What it permits
    #[arg(long, value_name = "NAME", value_parser = ScopeName::parse)]
    scope: ScopeName,
    /// On what, such as user:7; the session's whole ceiling for the scope unless given
    #[arg(long, value_name = "RESOURCE")]
    resource: Option<String>,
    /// For how many calls
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    uses: Option<u32>,
    /// For how long, such as 5m
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Why; it stays in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Args, Debug)]
struct Revoke {
    /// The grant's id, grt_...
    #[arg(value_name = "ID", value_parser = grant_id)]
    id: GrantId,
}

/// Does it.
///
/// # Errors
/// As the admin API answers.
pub async fn run(globals: &Globals, arguments: Arguments) -> Result<(), Failure> {
    let client = Client::from_globals(globals)?;
    match arguments.action {
        Action::List(of) => list(&client, globals, of.session).await,
        Action::Give(give) => {
            let path = format!("/v1/sessions/{}/grants", give.session);
            let answer = client.call(Method::POST, &path, Some(&ask(&give))).await?;
            if globals.json {
                return output::json(&answer);
            }
            if answer["status"] == "PENDING_APPROVAL" {
                let id = output::plain(&answer["approval"]);
                return output::line(&format!(
                    "not given yet: a person must agree ({id}); an approver runs `toolgate approvals approve {id}`"
                ));
            }
            output::print(&output::object(&answer))
        }
        Action::Revoke(revoke) => {
            let path = format!("/v1/grants/{}", revoke.id);
            let answer = client.call(Method::DELETE, &path, None).await?;
            if globals.json {
                return output::json(&answer);
            }
            output::line(&format!("revoked {}", revoke.id))
        }
    }
}

async fn list(client: &Client, globals: &Globals, session: SessionId) -> Result<(), Failure> {
    let path = format!("/v1/sessions/{session}");
    let grants = client.call(Method::GET, &path, None).await?["grants"].take();
    if globals.json {
        return output::json(&grants);
    }
    let columns = [
        "id",
        "scope",
        "resource",
        "state",
        "uses_left",
        "expires_at",
        "reason",
    ];
    let items = grants.as_array().map_or(&[][..], Vec::as_slice);
    let rows = items
        .iter()
        .map(|item| columns.map(|column| output::plain(&item[column])).to_vec())
        .collect();
    let header = [
        "ID",
        "SCOPE",
        "RESOURCE",
        "STATE",
        "USES LEFT",
        "EXPIRES",
        "REASON",
    ];
    output::print(&output::table(&header, rows, "no grants"))
}

/// What the API reads; what is not given is left to the ceiling's own `uses` and `ttl`.
fn ask(give: &Give) -> Value {
    let mut ask = Map::new();
    ask.insert("scope".to_owned(), give.scope.as_str().into());
    ask.insert("reason".to_owned(), give.reason.as_str().into());
    if let Some(resource) = &give.resource {
        ask.insert("resource".to_owned(), resource.as_str().into());
    }
    if let Some(uses) = give.uses {
        ask.insert("uses".to_owned(), uses.into());
    }
    if let Some(ttl) = &give.ttl {
        ask.insert("ttl".to_owned(), ttl.as_str().into());
    }
    ask.into()
}

fn grant_id(text: &str) -> Result<GrantId, String> {
    text.parse().map_err(|_| {
        "a grant's id is `grt_` and 32 hex digits; `toolgate grants list` shows them".to_owned()
    })
}
