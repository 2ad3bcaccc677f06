//! Where a tool's session tokens come from, for clients of OAuth: protected-resource metadata (RFC 9728) as the YAML has it.
//!
//! It decides nothing: who may call is said by sessions and their grants alone.

/// What is told, to whoever asks, of how a tool's tokens are obtained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth {
    /// The tool's address as agents know it, which metadata must repeat exactly (RFC 9728, section 3.3). Never taken from
    /// a request: whoever sends one chooses its `Host`.
    pub resource: Box<str>,
    /// Issuers that give out this gate's session tokens; never empty.
    pub authorization_servers: Box<[Box<str>]>,
    /// What may be asked of those.
    pub scopes: Box<[Box<str>]>,
}

/// Where metadata stands: between authority and path of what it is of (RFC 9728, section 3.1).
pub const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

impl OAuth {
    /// The address of the metadata itself.
    pub fn metadata_url(&self) -> String {
        let authority = self.resource.find("://").map_or(0, |at| at + 3);
        let path = self.resource[authority..].find('/');
        let (origin, path) = self
            .resource
            .split_at(path.map_or(self.resource.len(), |at| authority + at));
        format!("{origin}{METADATA_PATH}{}", path.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_stands_between_authority_and_path() {
        for (resource, metadata) in [
            (
                "https://gate.example:8443/mcp/github",
                "https://gate.example:8443/.well-known/oauth-protected-resource/mcp/github",
            ),
            (
                "https://github.tools.example",
                "https://github.tools.example/.well-known/oauth-protected-resource",
            ),
            (
                "https://github.tools.example/",
                "https://github.tools.example/.well-known/oauth-protected-resource",
            ),
        ] {
            let oauth = OAuth {
                resource: resource.into(),
                authorization_servers: Box::default(),
                scopes: Box::default(),
            };
            assert_eq!(oauth.metadata_url(), metadata);
        }
    }
}
