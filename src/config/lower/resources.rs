//! `resource`: what calls of a route act on, and that everything it is read from is said by such calls.

use super::conditions::forwarded;
use super::routes::MatchPlace;
use crate::config::error::{Place, Reports, did_you_mean};
use crate::config::leaf::Text;
use crate::config::read::{At, clipped};
use crate::policy::model::{MatchPart, Protocol, Tool};
use crate::policy::resource::{Part, ResourceError, ResourceTemplate};

/// `None`: it was reported.
pub fn resource(
    at: &At<Text>,
    tool: &Tool,
    matches: &[(MatchPart, MatchPlace)],
    reports: &mut Reports,
) -> Option<ResourceTemplate> {
    let template = match ResourceTemplate::parse(&at.value.0) {
        Ok(template) => template,
        Err(error) => {
            let help = match &error {
                ResourceError::Placeholder(name) => placeholder_help(name),
                _ => "write `user:{user_id}`, with parameters of the match".to_owned(),
            };
            reports.error(at.place, error.to_string(), help);
            return None;
        }
    };
    refuse_unbound(&template, at.place, matches, reports);
    let said = template
        .placeholders()
        .filter(|part| is_said(part, at.place, tool, reports))
        .count();
    (said == template.placeholders().count()).then_some(template)
}

/// What was probably meant.
fn placeholder_help(name: &str) -> String {
    let (kind, rest) = name.split_once('.').unwrap_or((name, ""));
    match kind {
        "path" if !rest.is_empty() => {
            return format!(
                "a parameter of the match is written by its name: `{{{}}}`",
                clipped(rest)
            );
        }
        "body" | "args" => {
            return format!(
                "behind `{kind}.` stands a JSON pointer (RFC 6901): `{{{kind}./id}}`, `{{{kind}./customer/id}}`"
            );
        }
        "resource" => {
            return "write `{resource.id}`, or a JSON pointer into its properties: `{resource.properties./owner}`".to_owned();
        }
        _ => {}
    }
    match did_you_mean(kind, KINDS).filter(|meant| *meant != kind && !rest.is_empty()) {
        Some(meant) => format!("did you mean `{{{meant}.{}}}`?", clipped(rest)),
        None => "write `user:{user_id}`, with a parameter of the match, or read it from `{query.NAME}`, `{header.NAME}`, `{body./json/pointer}` or `{session.ATTRIBUTE}`".to_owned(),
    }
}

const KINDS: [&str; 6] = ["query", "header", "body", "args", "session", "resource"];

/// Whether calls of the tool say it, and it reaches the backend as it was read; reports where not.
fn is_said(part: &Part, place: Place, tool: &Tool, reports: &mut Reports) -> bool {
    let function = tool.protocol == Protocol::Function;
    let (message, help) = match part {
        Part::Query(_) | Part::Header(_) | Part::Body(_) if function => (
            format!("a function is called without what `{part}` reads"),
            "read its arguments, `{args./id}`, or what it is asked about, `{resource.id}`",
        ),
        Part::Args(_) if !tool.protocol.names_calls() => (
            "only calls of MCP and of functions have `args`".to_owned(),
            "on a tool that is spoken to in HTTP, arguments stand in the body: `{body./id}`",
        ),
        Part::Id | Part::Property(_) if !function => (
            "only functions are asked about a `resource`".to_owned(),
            "write what calls say of it: `{user_id}` of the match, `{body./id}`",
        ),
        Part::Header(name) if tool.mask_headers.contains(name) => (
            format!("`{name}` is masked for people, and what a call acts on is shown and recorded"),
            "read it from something else, or take it out of `mask_headers`",
        ),
        Part::Header(name) => return forwarded(name, place, tool, reports).is_some(),
        _ => return true,
    };
    reports.error(place, message, help);
    false
}

/// Every part of the match must have every parameter the resource reads.
fn refuse_unbound(
    template: &ResourceTemplate,
    place: Place,
    matches: &[(MatchPart, MatchPlace)],
    reports: &mut Reports,
) {
    for parameter in template.path_parameters() {
        let missing = matches.iter().find(|(part, _)| {
            !part
                .template
                .names()
                .iter()
                .any(|name| **name == *parameter)
        });
        let Some((part, _)) = missing else {
            continue;
        };
        let names = part.template.names().iter().map(|name| &**name);
        let help = match did_you_mean(parameter, names) {
            Some(meant) => format!("did you mean `{{{meant}}}`?"),
            None => format!("write it into the match: `/.../{{{parameter}}}`"),
        };
        let message = format!(
            "the resource reads `{{{parameter}}}`, which `{}` does not have",
            part.template
        );
        reports.error(place, message, help);
    }
}
