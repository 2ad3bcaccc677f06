//! `toolgate key new`: a principal's key and the YAML that knows it. The key is shown once and kept nowhere.

use super::{Failure, Globals, output};
use crate::io::clock;
use crate::policy::name::{GroupName, PrincipalName, ProjectName};
use crate::policy::token::{Token, TokenKind};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

/// `key ...`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  toolgate key new orchestrator --roles issuer --projects demo")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a principal's key; print it and the YAML to paste
    #[command(
        after_help = "Example:\n  toolgate key new orchestrator --roles issuer,operator --projects demo,staging\n  toolgate key new dana --roles approver --groups support-leads --projects demo\n\nThe first line is the key: put it where the principal finds it (TOOLGATE_KEY). The rest belongs under\n`principals:` in the server file, which holds only the key's digest."
    )]
    New(New),
}

#[derive(Args, Debug)]
struct New {
    /// The principal's name
    #[arg(value_parser = PrincipalName::parse)]
    name: PrincipalName,
    /// What it may do
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    roles: Vec<RoleName>,
    /// The projects it sees
    #[arg(long, value_delimiter = ',', required = true, value_parser = ProjectName::parse)]
    projects: Vec<ProjectName>,
    /// The groups it decides approvals as a member of
    #[arg(long, value_delimiter = ',', value_parser = GroupName::parse)]
    groups: Vec<GroupName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleName {
    /// Mints and ends sessions, gives grants
    Issuer,
    /// Decides approvals
    Approver,
    /// Quarantines, releases, reloads
    Operator,
    /// Reads
    Auditor,
}

impl RoleName {
    const fn as_str(self) -> &'static str {
        match self {
            RoleName::Issuer => "issuer",
            RoleName::Approver => "approver",
            RoleName::Operator => "operator",
            RoleName::Auditor => "auditor",
        }
    }
}

/// Makes and prints a key.
///
/// # Errors
/// If standard output can't be written.
pub fn run(globals: &Globals, arguments: &Arguments) -> Result<(), Failure> {
    let Action::New(new) = &arguments.action;
    let token = Token::mint(TokenKind::Principal, &clock::random());
    let yaml = yaml(new, &token);
    if globals.json {
        return output::json(&json!({
            "name": new.name.as_str(),
            "key": token.reveal(),
            "sha256": sha256(&token),
            "yaml": yaml,
        }));
    }
    output::print(&format!("{}\n\n{yaml}", token.reveal()))
}

/// The digest as the server file holds it: 64 hex digits over the whole `tgk_...` text.
fn sha256(token: &Token) -> String {
    let hex = |byte: &u8| format!("{byte:02x}");
    token.digest().as_bytes().iter().map(hex).collect()
}

/// An entry of the server file's `principals`, indented as it stands there. Names and hex have no character that YAML
/// minds, but may read as a number or a boolean: hence the quotes.
fn yaml(new: &New, token: &Token) -> String {
    let roles: Vec<&str> = new.roles.iter().map(|role| role.as_str()).collect();
    let projects: Vec<String> = new
        .projects
        .iter()
        .map(|name| format!("\"{name}\""))
        .collect();
    let groups: Vec<String> = new
        .groups
        .iter()
        .map(|name| format!("\"{name}\""))
        .collect();
    let groups = match groups.len() {
        0 => String::new(),
        _ => format!("    groups: [{}]\n", groups.join(", ")),
    };
    format!(
        "  - name: \"{}\"\n    key: {{ sha256: \"{}\" }}\n    roles: [{}]\n{groups}    projects: [{}]\n",
        new.name,
        sha256(token),
        roles.join(", "),
        projects.join(", ")
    )
}
