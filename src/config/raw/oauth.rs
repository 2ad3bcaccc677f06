//! What a tool's `oauth` says, as it is written.

use crate::config::collection::List;
use crate::config::leaf::Text;
use crate::config::read::record;

record! {
    /// How clients of OAuth come by this tool's session tokens: published without a token as protected-resource metadata
    /// (RFC 9728). The gate itself believes none but its own tokens.
    OAuth: "`oauth` of a tool";
    /// The tool's address as agents know it: `https://`, the gate's host, and the mount.
    required resource = "resource": Text,
    /// The issuers that give out this gate's session tokens.
    required authorization_servers = "authorization_servers": List<Text>,
    /// What may be asked of those. Default: not said.
    optional scopes = "scopes": List<Text>,
}
