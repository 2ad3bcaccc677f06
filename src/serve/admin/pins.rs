//! Pins: what servers of MCP said of their tools when that was accepted, and what they say since. Seen by operators and
//! auditors; an operator's word accepts a change, and it is about the definition that was seen: its digest.

use super::Admin;
use super::caller::Caller;
use super::input;
use super::problem::{ProblemDocument, Refused, json};
use super::view::{List, time};
use crate::config::Role;
use crate::policy::name::{ProjectName, ToolName};
use crate::policy::pin::PinDigest;
use crate::store::live::pins::{NAME_BYTES_MAX, PinError};
use crate::store::pin::{PinKey, PinRow};
use axum::extract::{Query, Request, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::sync::Arc;
use utoipa::ToSchema;

/// What a server is held to of one tool.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct PinView {
    pub project: String,
    /// The server, as the policy names it.
    pub tool: String,
    /// What the server calls its tool.
    pub name: String,
    /// `accepted`: the server says what was accepted. `changed`: it says something else; the tool is hidden and refused.
    pub state: &'static str,
    /// `sha256:...` of what it is held to.
    pub accepted: String,
    /// Of what it says instead.
    pub latest: Option<String>,
    /// When a list named it first.
    pub first_seen: String,
    /// Since when it is held to that.
    pub accepted_at: String,
    /// By whose word; null: it was the first that was seen.
    pub accepted_by: Option<String>,
    /// When what it says instead was seen first.
    pub changed_at: Option<String>,
    /// What it is held to, members sorted by name; only where one `name` is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_definition: Option<String>,
    /// What it says instead; absent where it is longer than is kept (64 KiB): then it can't be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_definition: Option<String>,
}

/// What is accepted or forgotten.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PinInput {
    project: String,
    /// The server, as the policy names it.
    tool: String,
    /// What the server calls its tool.
    name: String,
    /// `sha256:...` of the definition that was looked at.
    digest: String,
}

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    project: Option<String>,
    tool: Option<String>,
    name: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

/// List what servers of your projects are held to. Needs the role operator or auditor.
#[utoipa::path(get, path = "/v1/pins", params(
    ("project" = Option<String>, Query, description = "Only of this project."),
    ("tool" = Option<String>, Query, description = "Only of this server, as the policy names it."),
    ("name" = Option<String>, Query, description = "Only of what the server calls so; the definitions are shown with it."),
    ("state" = Option<String>, Query, description = "Only those that are `accepted` or `changed`."),
    ("limit" = Option<usize>, Query, description = "Most items, 1 to 1000; 100 unless given."),
    ("after" = Option<String>, Query, description = "`next` of the page before."),
), responses((status = 200, body = List<PinView>), (status = "4XX", body = ProblemDocument<'static>, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    caller.needs(SEEING)?;
    let wanted = wanted(request.uri())?;
    let changed = match wanted.state.as_deref() {
        None => None,
        Some("changed") => Some(true),
        Some("accepted") => Some(false),
        Some(_) => return Err(Refused::invalid("`state` is `accepted` or `changed`")),
    };
    let limit = input::limit(wanted.limit)?;
    let after = wanted.after.as_deref().map(|after| {
        cursor(after).ok_or_else(|| Refused::invalid("`after` is the `next` of the page before"))
    });
    let is = |asked: &Option<String>, own: &str| asked.as_deref().is_none_or(|it| it == own);
    // One more than asked for tells whether there is a next page.
    let mut rows = admin.parts.sessions.list_pins(
        &caller.principal.projects,
        after.transpose()?.as_ref(),
        limit + 1,
        |row| {
            is(&wanted.project, row.project.as_str())
                && is(&wanted.tool, row.tool.as_str())
                && is(&wanted.name, &row.name)
                && changed.is_none_or(|changed| changed == row.latest.is_some())
        },
    );
    let more = rows.len() > limit;
    rows.truncate(limit);
    let whole = wanted.name.is_some();
    let view = List {
        next: rows.last().filter(|_| more).map(|row| written(&row.key())),
        items: rows.iter().map(|row| PinView::of(row, whole)).collect(),
    };
    Ok(json(StatusCode::OK, &view))
}

/// Hold a server to what it says of a tool now (or to what was accepted before, if that is what should stay). The digest is of
/// the definition that was looked at. Needs the role operator.
#[utoipa::path(post, path = "/v1/pins/accept", request_body = PinInput, responses(
    (status = 200, description = "Accepted; the same again changes nothing.", body = PinView),
    (status = 404, body = ProblemDocument<'static>, content_type = "application/problem+json"),
    (status = 409, description = "It says something else by now.", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn accept(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    said(&admin, &caller, request, Word::Accept).await
}

/// Hold a server to nothing of a tool any longer: what it says of it next is accepted. The digest is of what it is held to.
/// Needs the role operator.
#[utoipa::path(post, path = "/v1/pins/forget", request_body = PinInput, responses(
    (status = 200, description = "Forgotten; this is what it was.", body = PinView),
    (status = 404, body = ProblemDocument<'static>, content_type = "application/problem+json"),
    (status = 409, description = "It is held to something else.", body = ProblemDocument<'static>, content_type = "application/problem+json"),
))]
pub(super) async fn forget(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    said(&admin, &caller, request, Word::Forget).await
}

/// What an operator says of a pin.
#[derive(Clone, Copy)]
enum Word {
    Accept,
    Forget,
}

/// The call is recorded beside the change.
async fn said(
    admin: &Admin,
    caller: &Caller,
    request: Request,
    word: Word,
) -> Result<Response, Refused> {
    caller.needs(&[Role::Operator])?;
    let input: PinInput = input::read(request).await?;
    let project = ProjectName::parse(&input.project)
        .ok()
        .filter(|project| caller.sees(project));
    let tool = ToolName::parse(&input.tool).ok();
    let sessions = &admin.parts.sessions;
    let pins = project
        .zip(tool)
        .and_then(|(project, tool)| sessions.pinned(&project, &tool))
        .ok_or_else(|| refused(PinError::Unknown))?;
    let digest = PinDigest::parse(&input.digest).ok_or_else(|| {
        Refused::invalid("`digest`: `sha256:` and 64 lower-case hex digits, as it was shown")
    })?;
    let (name, by, now) = (
        &*input.name,
        &caller.principal.name,
        admin.parts.clock.now().wall,
    );
    let (verb, row) = match word {
        Word::Accept => (
            "accept",
            sessions.accept_pin(&pins, name, digest, by, now).await,
        ),
        Word::Forget => (
            "forget",
            sessions.forget_pin(&pins, name, digest, by, now).await,
        ),
    };
    let row = row.map_err(refused)?;
    let (project, tool) = (&row.project, &row.tool);
    let call = format!("POST /v1/pins/{verb}: {project} {tool} {}", row.name);
    admin.record_call(caller, &call).await;
    Ok(json(StatusCode::OK, &PinView::of(&row, false)))
}

impl PinView {
    fn of(row: &PinRow, whole: bool) -> Self {
        let latest = row.latest.as_ref();
        let definition = |text: &Arc<str>| whole.then(|| text.to_string());
        Self {
            project: row.project.to_string(),
            tool: row.tool.to_string(),
            name: row.name.to_string(),
            state: match latest {
                None => "accepted",
                Some(_) => "changed",
            },
            accepted: row.accepted.to_string(),
            latest: latest.map(|latest| latest.digest.to_string()),
            first_seen: time(row.first_seen),
            accepted_at: time(row.accepted_at),
            accepted_by: row.accepted_by.as_ref().map(ToString::to_string),
            changed_at: latest.map(|latest| time(latest.at)),
            accepted_definition: definition(&row.definition),
            latest_definition: latest
                .and_then(|latest| latest.definition.as_ref())
                .and_then(definition),
        }
    }
}

fn wanted(target: &Uri) -> Result<Wanted, Refused> {
    Query::try_from_uri(target)
        .map(|Query(wanted)| wanted)
        .map_err(|error| {
            Refused::invalid(format!(
                "a list of pins takes `project`, `tool`, `name`, `state`, `limit` and `after`: {error}"
            ))
        })
}

fn refused(why: PinError) -> Refused {
    match why {
        PinError::Store(_) => Refused::store_unavailable(),
        PinError::Ledger(_) => Refused::ledger_unavailable(),
        PinError::Unknown => Refused::not_found(
            "nothing is pinned in your projects for this tool by this name; GET /v1/pins lists what is",
        ),
        PinError::Moved | PinError::Unseen => Refused::conflict(why.to_string()),
    }
}

/// Where a page ends: what servers call their tools can be anything, so it is written in hex.
fn written(key: &PinKey) -> String {
    let mut text = format!("{}~{}~", key.project, key.tool);
    for byte in key.name.bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn cursor(text: &str) -> Option<PinKey> {
    let (project, rest) = text.split_once('~')?;
    let (tool, hex) = rest.split_once('~')?;
    if hex.len() > 2 * NAME_BYTES_MAX || !hex.is_ascii() || hex.len() % 2 != 0 {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).ok();
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    Some(PinKey {
        project: ProjectName::parse(project).ok()?,
        tool: ToolName::parse(tool).ok()?,
        name: String::from_utf8(bytes?).ok()?.into(),
    })
}

/// Roles that may look at pins.
const SEEING: &[Role] = &[Role::Operator, Role::Auditor];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_the_one_before_ended_whatever_the_name() {
        for name in ["", "pay", "a b/é.\u{0}", "..", "x.y"] {
            let key = PinKey {
                project: ProjectName::parse("demo").unwrap(),
                tool: ToolName::parse("forge.2").unwrap(),
                name: name.into(),
            };
            assert_eq!(cursor(&written(&key)), Some(key), "{name:?}");
        }
        for wrong in [
            "",
            "demo",
            "demo~forge",
            "demo~forge~7",
            "demo~forge~zz",
            "demo~forge~é0",
        ] {
            assert_eq!(cursor(wrong), None, "{wrong}");
        }
    }
}
