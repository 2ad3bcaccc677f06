//! `toolgate session`: runs of agents, through the admin API.

use super::client::Client;
use super::{Failure, Globals, output};
use crate::config;
use crate::policy::id::SessionId;
use crate::policy::name::{AgentName, ProjectName, ScopeName};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// `session ...`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  toolgate session mint --project demo --agent support-bot --attribute customer_id=7\n  toolgate session list"
)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a session for one run of an agent; its token is shown this once
    #[command(
        after_help = "Example:\n  toolgate session mint --project demo --agent support-bot --ttl 15m --attribute customer_id=7 \\\n    --scope users.read --scope refunds.create=user:7\n  TOKEN=$(toolgate session mint --project demo --agent support-bot --quiet)"
    )]
    Mint(Box<Mint>),
    /// List sessions
    #[command(
        after_help = "Example:\n  toolgate session list\n  toolgate session list --project demo --json"
    )]
    List(List),
    /// Show one session with its grants and limits
    #[command(
        after_help = "Example:\n  toolgate session show ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5"
    )]
    Show(One),
    /// End a session, its grants and its open streams
    #[command(
        after_help = "Example:\n  toolgate session revoke ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5"
    )]
    Revoke(One),
    /// Let nothing of a session pass until it is released
    #[command(
        after_help = "Example:\n  toolgate session quarantine ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5 --reason \"odd refunds\""
    )]
    Quarantine(Reasoned),
    /// Let a quarantined session go on; its counters are cleared
    #[command(
        after_help = "Example:\n  toolgate session release ses_0192f0c1a2b37c4d8e9fa0b1c2d3e4f5 --reason \"was a retry storm\""
    )]
    Release(Reasoned),
}

#[derive(Args, Debug)]
struct Mint {
    /// The project whose rules apply
    #[arg(long, value_name = "NAME", value_parser = ProjectName::parse)]
    project: ProjectName,
    /// The kind of agent
    #[arg(long, value_name = "NAME", value_parser = AgentName::parse)]
    agent: AgentName,
    /// How long it lives, such as 15m; the agent's own `ttl` unless given
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// An attribute that the policy's patterns read; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// Narrow to this scope, on these resources if given; may be repeated, and only what is named is held
    #[arg(long = "scope", value_name = "NAME[=RESOURCE,...]", value_parser = scope)]
    scopes: Vec<(ScopeName, Vec<String>)>,
    /// What the run is for
    #[arg(long, value_name = "TEXT")]
    intent: Option<String>,
    /// Your own name for the run
    #[arg(long, value_name = "TEXT")]
    run: Option<String>,
    /// A live session within whose ceiling and end this one lies
    #[arg(long, value_name = "ID", value_parser = session_id)]
    parent: Option<SessionId>,
    /// Bind it to the certificate in this PEM file: the token is good only on connections that show it
    #[arg(long, value_name = "FILE.pem")]
    bind_certificate: Option<PathBuf>,
    /// Print the token and nothing else
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

#[derive(Args, Debug)]
struct List {
    /// Only those of this project
    #[arg(long, value_name = "NAME", value_parser = ProjectName::parse)]
    project: Option<ProjectName>,
}

#[derive(Args, Debug)]
struct One {
    /// The session's id, ses_...
    #[arg(value_name = "ID", value_parser = session_id)]
    id: SessionId,
}

#[derive(Args, Debug)]
struct Reasoned {
    /// The session's id, ses_...
    #[arg(value_name = "ID", value_parser = session_id)]
    id: SessionId,
    /// Why; it stays in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Does it.
///
/// # Errors
/// As the admin API answers.
pub async fn run(globals: &Globals, arguments: Arguments) -> Result<(), Failure> {
    let client = Client::from_globals(globals)?;
    let path = |id: SessionId| format!("/v1/sessions/{id}");
    let (answer, done) = match arguments.action {
        Action::Mint(mint) => return self::mint(&client, globals, &mint).await,
        Action::List(list) => return self::list(&client, globals, &list).await,
        Action::Show(one) => (client.call(Method::GET, &path(one.id), None).await?, None),
        Action::Revoke(one) => {
            let answer = client.call(Method::DELETE, &path(one.id), None).await?;
            (answer, Some(format!("revoked {}", one.id)))
        }
        Action::Quarantine(of) => {
            let (path, body) = (path(of.id) + "/quarantine", json!({"reason": of.reason}));
            let answer = client.call(Method::POST, &path, Some(&body)).await?;
            (
                answer,
                Some(format!(
                    "quarantined {}: nothing of it passes until it is released",
                    of.id
                )),
            )
        }
        Action::Release(of) => {
            let (path, body) = (path(of.id) + "/release", json!({"reason": of.reason}));
            let answer = client.call(Method::POST, &path, Some(&body)).await?;
            (
                answer,
                Some(format!("released {}: its counters are cleared", of.id)),
            )
        }
    };
    match done {
        _ if globals.json => output::json(&answer),
        Some(words) => output::line(&words),
        None => output::print(&output::object(&answer)),
    }
}

async fn mint(client: &Client, globals: &Globals, mint: &Mint) -> Result<(), Failure> {
    let answer = client
        .call(Method::POST, "/v1/sessions", Some(&order(mint)?))
        .await?;
    if globals.json {
        return output::json(&answer);
    }
    let member = |name: &str| answer[name].as_str().map(output::harmless);
    let token = member("token")
        .ok_or_else(|| Failure::Ours("the admin API answered without a token".to_owned()))?;
    if mint.quiet {
        return output::line(&token);
    }
    output::print(&format!(
        "session: {}\nexpires: {}\ntoken:   {token}\n\n\
         The token is shown this once. The agent's tools send it to the gate instead of a key of their own:\n  \
         Authorization: Bearer {token}\n",
        member("id").unwrap_or_default(),
        member("expires_at").unwrap_or_default(),
    ))
}

/// What `POST /v1/sessions` reads. What is not asked for is left out, so that the policy's defaults hold.
///
/// # Errors
/// The certificate can't be read.
fn order(mint: &Mint) -> Result<Value, Failure> {
    let mut order = Map::new();
    order.insert("project".to_owned(), mint.project.as_str().into());
    order.insert("agent".to_owned(), mint.agent.as_str().into());
    let optional = [
        ("ttl", mint.ttl.clone()),
        ("intent", mint.intent.clone()),
        ("run", mint.run.clone()),
        ("parent", mint.parent.map(|id| id.to_string())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            order.insert(name.to_owned(), value.into());
        }
    }
    if !mint.attributes.is_empty() {
        let attributes: Map<_, _> = mint
            .attributes
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        order.insert("attributes".to_owned(), attributes.into());
    }
    if !mint.scopes.is_empty() {
        order.insert("scopes".to_owned(), narrowing(&mint.scopes).into());
    }
    if let Some(path) = &mint.bind_certificate {
        let thumbprint = config::thumbprint(path)
            .map_err(|why| Failure::Usage(format!("--bind-certificate: {why}")))?;
        let bind = json!({ "certificate": thumbprint.to_string() });
        order.insert("bind".to_owned(), bind);
    }
    Ok(order.into())
}

/// A scope named twice has the resources of both; one that is named once without resources keeps its ceiling's.
fn narrowing(scopes: &[(ScopeName, Vec<String>)]) -> Map<String, Value> {
    let mut narrowing = Map::new();
    for (name, _) in scopes {
        let of_name = scopes.iter().filter(|(other, _)| other == name);
        let resources: Vec<&String> = of_name.flat_map(|(_, resources)| resources).collect();
        let narrowed = if resources.is_empty() {
            json!({})
        } else {
            json!({ "resources": resources })
        };
        narrowing.insert(name.to_string(), narrowed);
    }
    narrowing
}

async fn list(client: &Client, globals: &Globals, list: &List) -> Result<(), Failure> {
    let (mut items, more) = client.list("/v1/sessions").await?;
    if let Some(project) = &list.project {
        items.retain(|item| item["project"] == project.as_str());
    }
    if more {
        anstream::eprintln!("there are more sessions than this lists");
    }
    if globals.json {
        return output::json(&items.into());
    }
    let columns = ["id", "project", "agent", "state", "run", "expires_at"];
    let rows = items
        .iter()
        .map(|item| columns.map(|column| output::plain(&item[column])).to_vec())
        .collect();
    let header = ["ID", "PROJECT", "AGENT", "STATE", "RUN", "EXPIRES"];
    output::print(&output::table(&header, rows, "no sessions"))
}

/// A session's id from the command line.
pub(super) fn session_id(text: &str) -> Result<SessionId, String> {
    text.parse().map_err(|_| {
        "a session's id is `ses_` and 32 hex digits; `toolgate session list` shows them".to_owned()
    })
}

fn attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("an attribute is NAME=VALUE, neither of them empty".to_owned()),
    }
}

fn scope(text: &str) -> Result<(ScopeName, Vec<String>), String> {
    let (name, resources) = match text.split_once('=') {
        None => (text, Vec::new()),
        Some((name, list)) => (name, list.split(',').map(str::to_owned).collect()),
    };
    if resources.iter().any(String::is_empty) {
        return Err("after `=` stand resources such as user:7, separated by commas".to_owned());
    }
    let name = ScopeName::parse(name).map_err(|error| error.to_string())?;
    Ok((name, resources))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_left_to_the_policy() {
        let mint = Mint {
            project: ProjectName::parse("demo").unwrap(),
            agent: AgentName::parse("support-bot").unwrap(),
            ttl: None,
            attributes: Vec::new(),
            scopes: Vec::new(),
            intent: None,
            run: None,
            parent: None,
            bind_certificate: None,
            quiet: false,
        };
        assert_eq!(
            order(&mint).unwrap(),
            json!({"project": "demo", "agent": "support-bot"})
        );
        let asked = Mint {
            ttl: Some("5m".to_owned()),
            attributes: vec![attribute("note=a=b").unwrap()],
            scopes: vec![
                scope("users.read").unwrap(),
                scope("refunds.create=user:7,user:8").unwrap(),
                scope("refunds.create=user:9").unwrap(),
            ],
            ..mint
        };
        assert_eq!(
            order(&asked).unwrap(),
            json!({
                "project": "demo", "agent": "support-bot", "ttl": "5m", "attributes": {"note": "a=b"},
                "scopes": {"users.read": {}, "refunds.create": {"resources": ["user:7", "user:8", "user:9"]}},
            })
        );
    }

    #[test]
    fn a_certificate_is_named_by_its_thumbprint() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["agent".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificate.pem()).unwrap();
        let thumbprint = crate::policy::certificate::Thumbprint::of(certificate.der());
        assert_eq!(config::thumbprint(file.path()), Ok(thumbprint));
        std::fs::write(file.path(), key.serialize_pem()).unwrap();
        assert!(
            config::thumbprint(file.path())
                .unwrap_err()
                .contains("no certificate")
        );
    }

    #[test]
    fn an_empty_resource_list_is_refused_rather_than_read_as_all() {
        assert!(scope("users.read=").is_err());
        assert!(scope("users.read=user:7,").is_err());
        assert!(scope("=user:7").is_err());
        assert!(attribute("customer_id=").is_err());
        assert!(attribute("customer_id").is_err());
    }
}
