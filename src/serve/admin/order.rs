//! From what an issuer sends to what the live table takes: everything that needs no look-up is checked here, key by key.

use super::input::{Span, unique_map};
use super::problem::Refused;
use crate::gate::INTENT_BYTES_MAX;
use crate::policy::name::{AgentName, PrincipalName, ScopeName};
use crate::policy::resource::{Resource, ResourcePattern};
use crate::policy::subject::{ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, Narrowed, Narrowing};
use crate::store::live::{Ask, Order};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use utoipa::ToSchema;

/// What a minted session is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MintInput {
    pub project: String,
    /// A kind of agent that the project's policy names.
    agent: String,
    /// How long it lives, such as `15m`; the agent's `session.ttl` unless given, at most its `max_ttl`.
    #[schema(value_type = Option<String>)]
    ttl: Option<Span>,
    /// What patterns such as `user:{session.customer_id}` are filled from.
    #[serde(default, deserialize_with = "unique_map")]
    attributes: Option<BTreeMap<String, String>>,
    /// Narrows the agent's ceiling: a scope that is not named is not held. Not empty.
    #[serde(default, deserialize_with = "unique_map")]
    scopes: Option<BTreeMap<String, NarrowedInput>>,
    /// What the agent is to do.
    intent: Option<String>,
    /// The orchestrator's own name for the run.
    run: Option<String>,
    /// A live session of the same project, within whose ceiling and end this one lies.
    parent: Option<String>,
}

/// What is left of one scope.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NarrowedInput {
    /// `type:id` or `type:*`. Not empty.
    resources: Option<Vec<String>>,
    /// Ceiling on the uses of one stored grant.
    uses: Option<u32>,
}

/// What a grant is to permit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GiveInput {
    scope: String,
    /// `type:id`; whatever the session's ceiling for the scope covers unless given.
    resource: Option<String>,
    /// Calls it is good for; the ceiling's `uses` unless given.
    uses: Option<u32>,
    /// How long it lives, such as `5m`; the ceiling's `ttl` unless given.
    #[schema(value_type = Option<String>)]
    ttl: Option<Span>,
    /// Why; stays in the ledger.
    reason: Option<String>,
}

/// Longest name of a run, and longest reason, in bytes.
const RUN_BYTES_MAX: usize = 256;
const REASON_BYTES_MAX: usize = 1024;
/// Most resources that one scope is narrowed to.
const RESOURCES_MAX: usize = 64;

/// What the live table is asked to mint.
pub(super) fn of_mint(input: MintInput, minted_by: &PrincipalName) -> Result<Order, Refused> {
    let MintInput {
        project: _,
        agent,
        ttl,
        attributes,
        scopes,
        intent,
        run,
        parent,
    } = input;
    let parent = parent.map(|id| {
        id.parse()
            .map_err(|_| wrong("parent", format_args!("{id:?} is not a session's id")))
    });
    Ok(Order {
        agent: AgentName::parse(&agent).map_err(|why| wrong("agent", why))?,
        ttl: positive(ttl)?,
        attributes: of_attributes(attributes.unwrap_or_default())?,
        scopes: scopes.map(of_scopes).transpose()?,
        intent: bounded("intent", intent, INTENT_BYTES_MAX)?,
        run: bounded("run", run, RUN_BYTES_MAX)?,
        parent: parent.transpose()?,
        minted_by: minted_by.clone(),
    })
}

/// What the live table is asked to give.
pub(super) fn of_give(input: GiveInput) -> Result<Ask, Refused> {
    let resource = input.resource.as_deref().map(Resource::parse).transpose();
    Ok(Ask {
        scope: ScopeName::parse(&input.scope).map_err(|why| wrong("scope", why))?,
        resource: resource.map_err(|why| wrong("resource", why))?,
        uses: at_least_one(input.uses)?,
        ttl: positive(input.ttl)?,
        why: bounded("reason", input.reason, REASON_BYTES_MAX)?.unwrap_or_default(),
    })
}

/// A reason that must be there.
pub(super) fn reason(text: String) -> Result<String, Refused> {
    bounded("reason", Some(text), REASON_BYTES_MAX).map(Option::unwrap_or_default)
}

fn of_attributes(
    attributes: BTreeMap<String, String>,
) -> Result<BTreeMap<Box<str>, Box<str>>, Refused> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(wrong(
            "attributes",
            format_args!("a session has at most {ATTRIBUTES_MAX}"),
        ));
    }
    let checked = |(name, value): (String, String)| {
        if name.is_empty() || name.len() > ATTRIBUTE_BYTES_MAX {
            return Err(wrong(
                "attributes",
                format_args!("a name has 1 to {ATTRIBUTE_BYTES_MAX} bytes"),
            ));
        }
        if value.is_empty() || value.len() > ATTRIBUTE_BYTES_MAX {
            return Err(wrong(
                &format!("attributes.{name}"),
                format_args!("a value has 1 to {ATTRIBUTE_BYTES_MAX} bytes"),
            ));
        }
        Ok((name.into(), value.into()))
    };
    attributes.into_iter().map(checked).collect()
}

fn of_scopes(scopes: BTreeMap<String, NarrowedInput>) -> Result<Narrowing, Refused> {
    if scopes.is_empty() {
        return Err(wrong(
            "scopes",
            "is empty; leave it out for the agent's whole ceiling, or name what the session may hold",
        ));
    }
    let scope = |(name, left): (String, NarrowedInput)| {
        let key = format!("scopes.{name}");
        let name = ScopeName::parse(&name).map_err(|why| wrong(&key, why))?;
        let resources = left.resources.map(|list| of_resources(&key, &list));
        let narrowed = Narrowed {
            resources: resources.transpose()?,
            uses: at_least_one(left.uses)?,
        };
        Ok((name, narrowed))
    };
    let scopes = scopes.into_iter().map(scope).collect::<Result<_, _>>()?;
    Ok(Narrowing { scopes })
}

fn of_resources(key: &str, list: &[String]) -> Result<Box<[ResourcePattern]>, Refused> {
    let key = format!("{key}.resources");
    if list.is_empty() {
        return Err(wrong(
            &key,
            "is empty; leave it out for those of the ceiling, or name some",
        ));
    }
    if list.len() > RESOURCES_MAX {
        return Err(wrong(&key, format_args!("has at most {RESOURCES_MAX}")));
    }
    list.iter()
        .map(|text| {
            ResourcePattern::parse_literal(text)
                .map_err(|why| wrong(&key, format_args!("{text:?}: {why}")))
        })
        .collect()
}

fn bounded(key: &str, text: Option<String>, bytes_max: usize) -> Result<Option<String>, Refused> {
    match text {
        Some(text) if text.trim().is_empty() || text.len() > bytes_max => {
            Err(wrong(key, format_args!("has 1 to {bytes_max} bytes")))
        }
        text => Ok(text),
    }
}

fn at_least_one(uses: Option<u32>) -> Result<Option<u32>, Refused> {
    match uses {
        Some(0) => Err(wrong("uses", "is at least 1")),
        uses => Ok(uses),
    }
}

fn positive(ttl: Option<Span>) -> Result<Option<std::time::Duration>, Refused> {
    match ttl {
        Some(Span(span)) if span.is_zero() => Err(wrong("ttl", "is longer than nothing")),
        ttl => Ok(ttl.map(|Span(span)| span)),
    }
}

fn wrong(key: &str, why: impl Display) -> Refused {
    Refused::invalid(format!("`{key}`: {why}"))
}
