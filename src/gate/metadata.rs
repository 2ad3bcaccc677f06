//! Protected-resource metadata (RFC 9728): how MCP clients that have no token learn where to get one.
//!
//! It stands before authentication, so it tells strangers what the YAML's `oauth` names and nothing else: the metadata of
//! a tool's mount, and in the 401 of exactly that place where this metadata is. Everything else is 404 and a plain
//! challenge, whether something is mounted there or not. A stranger has no project; that all projects say the same of a
//! place is proven when the files are loaded. Nothing of a request is repeated: who sends one chooses its `Host`.

use crate::gate::fields::TOOLGATE_SESSION;
use crate::gate::refusal::Refusal;
use crate::gate::respond;
use crate::policy::model::{METADATA_PATH, Mount, OAuth, Policy};
use crate::policy::target::Target;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

/// What strangers are told, by place.
#[derive(Debug, Default)]
pub(super) struct Directory {
    by_path: HashMap<Box<str>, Told>,
    by_host: HashMap<Box<str>, Told>,
}

#[derive(Clone, Debug)]
struct Told {
    document: Bytes,
    /// The metadata's own address.
    url: Arc<str>,
}

/// RFC 9728, section 2.
#[derive(Serialize)]
struct Document<'a> {
    resource: &'a str,
    authorization_servers: &'a [Box<str>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    scopes_supported: &'a [Box<str>],
    bearer_methods_supported: [&'static str; 1],
}

impl Directory {
    /// Of these policies.
    pub(super) fn new<'p>(policies: impl IntoIterator<Item = &'p Policy>) -> Self {
        let mut directory = Self::default();
        for tool in policies.into_iter().flat_map(|policy| &policy.tools) {
            let Some(told) = tool.oauth.as_ref().map(Told::of) else {
                continue;
            };
            match &tool.mount {
                Mount::Path(path) => drop(directory.by_path.insert(path.clone(), told)),
                Mount::Host(host) => drop(directory.by_host.insert(host.clone(), told)),
                Mount::None => {}
            }
        }
        directory
    }

    /// The answer, if it is metadata that is asked for. Where there is none, that is said to who shows no credential; a
    /// caller goes on like any other, for a tool that has a host of its own may serve this path itself.
    pub(super) fn page(
        &self,
        head: &Parts,
        target: &Result<Target, Refusal>,
    ) -> Option<Result<Response<Bytes>, Refusal>> {
        let target = target.as_ref().ok()?;
        let of = match target.path().strip_prefix(METADATA_PATH)? {
            "" => "/",
            // No mount but the root is written with a slash at its end, and that is asked for without one.
            "/" => "",
            of if of.starts_with('/') => of,
            _ => return None,
        };
        let credentials = [AUTHORIZATION, TOOLGATE_SESSION];
        match self.at(target.host(), of) {
            Some(told) => Some(match head.method {
                Method::GET | Method::HEAD => Ok(respond::own(
                    StatusCode::OK,
                    "application/json",
                    told.document.clone(),
                )),
                _ => Err(Refusal::method_not_served("GET, HEAD")),
            }),
            None if credentials.iter().any(|it| head.headers.contains_key(it)) => None,
            None => Some(Err(Refusal::not_found(
                "there is no protected-resource metadata here; session tokens come from whoever started you",
            ))),
        }
    }

    /// Where a stranger who calls this target can read how to get a token.
    pub(super) fn url(&self, target: &Target) -> Option<Arc<str>> {
        let told = self.at(target.host(), target.path())?;
        Some(Arc::clone(&told.url))
    }

    /// A host's tool comes before a mount, as in the route table; it is found at its root.
    fn at(&self, host: &str, path: &str) -> Option<&Told> {
        let of_host = || (path == "/").then(|| self.by_host.get(host)).flatten();
        of_host().or_else(|| self.by_path.get(path))
    }
}

impl Told {
    fn of(oauth: &OAuth) -> Self {
        let document = Document {
            resource: &oauth.resource,
            authorization_servers: &oauth.authorization_servers,
            scopes_supported: &oauth.scopes,
            bearer_methods_supported: ["header"],
        };
        Self {
            // Strings under string keys: nothing in it can fail to be written.
            document: serde_json::to_vec(&document).unwrap_or_default().into(),
            url: oauth.metadata_url().into(),
        }
    }
}
