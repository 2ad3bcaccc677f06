//! From what an issuer sends to what the live table takes: texts become names, patterns and spans
//! here, key by key; whether they fit a policy is the live table's to say.

use super::caller::Caller;
use super::input::{Object, Span, unique_map};
use super::problem::Refused;
use super::view::BindView;
use crate::ledger::without_tokens;
use crate::policy::certificate::Thumbprint;
use crate::policy::name::{AgentName, ScopeName};
use crate::policy::resource::{Resource, ResourcePattern};
use crate::policy::subject::{Narrowed, Narrowing};
use crate::store::live::{Ask, Order};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt::{self, Display};
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
    #[schema(value_type = Option<BTreeMap<String, NarrowedInput>>)]
    scopes: Option<BTreeMap<String, Object<NarrowedInput>>>,
    /// What the agent is to do.
    intent: Option<String>,
    /// The orchestrator's own name for the run.
    run: Option<String>,
    /// A live session of the same project, within whose ceiling and end this one lies.
    parent: Option<String>,
    /// The certificate that the agent's connections must show, besides the token: `{"certificate": "<x5t#S256>"}`, or
    /// `"certificate"` for that of the connection this call comes by (RFC 8705). A child has its parent's.
    #[schema(value_type = Option<BindView>)]
    bind: Option<Bind>,
}

/// What a token is bound to.
#[derive(Debug)]
enum Bind {
    /// The certificate of the connection that the session is minted by.
    Own,
    /// One that is named.
    Certificate(Thumbprint),
}

impl<'de> Deserialize<'de> for Bind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Form;

        impl<'de> Visitor<'de> for Form {
            type Value = Bind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#""certificate", or {"certificate": THUMBPRINT}"#)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bind, E> {
                match text {
                    "certificate" => Ok(Bind::Own),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Bind, A::Error> {
                let named = Named::deserialize(MapAccessDeserializer::new(access))?;
                Thumbprint::parse(&named.certificate)
                    .map(Bind::Certificate)
                    .ok_or_else(|| {
                        A::Error::custom(
                            "a certificate is named by its x5t#S256: the SHA-256 of its DER in 43 characters of base64url",
                        )
                    })
            }
        }

        from.deserialize_any(Form)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    certificate: String,
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

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 1024;
/// Most resources that one scope is narrowed to.
const RESOURCES_MAX: usize = 64;

/// What the live table is asked to mint.
pub(super) fn of_mint(input: MintInput, caller: &Caller) -> Result<Order, Refused> {
    let MintInput {
        project: _,
        agent,
        ttl,
        attributes,
        scopes,
        intent,
        run,
        parent,
        bind,
    } = input;
    let bound_to = match bind {
        None => None,
        Some(Bind::Certificate(thumbprint)) => Some(thumbprint),
        Some(Bind::Own) => Some(caller.certificate.ok_or_else(|| {
            wrong(
                "bind",
                "this connection has shown no certificate; name the agent's: {\"certificate\": THUMBPRINT}",
            )
        })?),
    };
    let parent = parent.map(|id| {
        id.parse()
            .map_err(|_| wrong("parent", format_args!("{id:?} is not a session's id")))
    });
    Ok(Order {
        agent: AgentName::parse(&agent).map_err(|why| wrong("agent", why))?,
        ttl: ttl.map(|Span(span)| span),
        attributes: attributes.unwrap_or_default().into_iter().collect(),
        scopes: scopes.map(of_scopes).transpose()?,
        intent: intent.map(cleaned),
        run: run.map(cleaned),
        parent: parent.transpose()?,
        bound_to,
        minted_by: caller.principal.name.clone(),
    })
}

/// What the live table is asked to give.
pub(super) fn of_give(input: GiveInput) -> Result<Ask, Refused> {
    let resource = input.resource.as_deref().map(Resource::parse).transpose();
    Ok(Ask {
        scope: ScopeName::parse(&input.scope).map_err(|why| wrong("scope", why))?,
        resource: resource.map_err(|why| wrong("resource", why))?,
        uses: input.uses,
        ttl: input.ttl.map(|Span(span)| span),
        why: cleaned(input.reason.unwrap_or_default()),
    })
}

/// What is kept and shown, without a token that somebody pasted into it.
fn cleaned(text: String) -> String {
    without_tokens(&text).into_owned()
}

/// A reason that must be there.
pub(super) fn reason(text: String) -> Result<String, Refused> {
    if text.trim().is_empty() || text.len() > REASON_BYTES_MAX {
        return Err(wrong(
            "reason",
            format_args!("say why in 1 to {REASON_BYTES_MAX} bytes; it stays in the ledger"),
        ));
    }
    Ok(cleaned(text))
}

fn of_scopes(scopes: BTreeMap<String, Object<NarrowedInput>>) -> Result<Narrowing, Refused> {
    let scope = |(name, Object(left)): (String, Object<NarrowedInput>)| {
        let key = format!("scopes.{name}");
        let name = ScopeName::parse(&name).map_err(|why| wrong(&key, why))?;
        let resources = left.resources.map(|list| of_resources(&key, &list));
        let narrowed = Narrowed {
            resources: resources.transpose()?,
            uses: left.uses,
        };
        Ok((name, narrowed))
    };
    let scopes = scopes.into_iter().map(scope).collect::<Result<_, _>>()?;
    Ok(Narrowing { scopes })
}

fn of_resources(key: &str, list: &[String]) -> Result<Box<[ResourcePattern]>, Refused> {
    let key = format!("{key}.resources");
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

fn wrong(key: &str, why: impl Display) -> Refused {
    Refused::invalid(format!("`{key}`: {why}"))
}
