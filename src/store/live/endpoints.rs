//! Sessions that a tool's own protocol has within a gate's session: MCP's `Mcp-Session-Id`.
//!
//! A backend's session is bound to the gate's session that received it, so that knowing its id is worth nothing to another.
//! In memory alone: after a restart nothing is bound, and clients begin anew, as their protocol has it. Bounded: who begins
//! more loses the oldest.

use super::{LiveSession, locked};

/// SHA-256 over the tool and the id that its backend gave.
pub type EndpointKey = [u8; 32];

impl LiveSession {
    /// From now on this is one of its own.
    pub fn bind_endpoint(&self, key: EndpointKey) {
        let mut book = locked(&self.book);
        let bound = book.endpoints.get_or_insert_default();
        bound.retain(|have| *have != key);
        if bound.len() >= ENDPOINTS_MAX {
            bound.remove(0);
        }
        bound.push(key);
    }

    /// Whether it is one of its own.
    pub fn has_endpoint(&self, key: &EndpointKey) -> bool {
        let book = locked(&self.book);
        book.endpoints
            .as_ref()
            .is_some_and(|bound| bound.contains(key))
    }

    /// It has ended.
    pub fn unbind_endpoint(&self, key: &EndpointKey) {
        if let Some(bound) = &mut locked(&self.book).endpoints {
            bound.retain(|have| have != key);
        }
    }
}

/// Sessions of tools' own protocols that one session may have at a time.
const ENDPOINTS_MAX: usize = 64;
