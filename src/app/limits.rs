//! The process's own bounds, looked at once at the start, and those of the listener that has no settings.

use crate::config::{Caps, Server, Timeouts};
use crate::io::upstream::bound_sockets;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;

/// Descriptors beside those of connections: files, listeners, runtimes.
const SPARE: u64 = 128;
/// Connections of the metrics listener, which has no settings.
const METRICS: u64 = OPS_CAPS.connections as u64;

/// What the metrics listener, which has no settings, holds at once and waits for.
pub(super) const OPS_CAPS: Caps = Caps {
    connections: 256,
    per_address: 256,
};
pub(super) const OPS_TIMEOUTS: Timeouts = Timeouts {
    tls: Duration::from_secs(10),
    head: Duration::from_secs(10),
    body_idle: Duration::from_secs(30),
    idle: Duration::from_secs(75),
};

/// Raises the limit of file descriptors as far as the system lets it, and says so where that is less than the caps
/// promise. What sockets to backends may have of them is bounded.
pub(super) fn prepare(server: &Server) {
    let needed = needed(
        server.agents.caps.connections,
        server.admin.caps.connections,
    );
    let limit = getrlimit(Resource::Nofile);
    let given = raised(limit);
    if let Some(given) = given {
        let agents = u64::from(server.agents.caps.connections);
        let backends = backends(given, agents, needed - agents);
        bound_sockets(usize::try_from(backends).unwrap_or(usize::MAX));
    }
    if let Some(given) = given.filter(|given| *given < needed) {
        tracing::warn!(
            given,
            needed,
            "fewer file descriptors than `caps.connections` of agents and admin can use; raise the hard limit (LimitNOFILE=, `ulimit -Hn`) to {needed}, or lower the caps"
        );
    }
}

/// A call over HTTP/1.1 needs two, the agent's connection and the backend's. (A connection over HTTP/2 may carry many
/// calls at once: who expects that raises the limit further.)
fn needed(agents: u32, admin: u32) -> u64 {
    u64::from(agents) * 2 + u64::from(admin) + METRICS + SPARE
}

/// What of `given` is for sockets to backends: all but what `others` need; half, where that would be less than one for each of
/// the agents.
fn backends(given: u64, agents: u64, others: u64) -> u64 {
    match given.saturating_sub(others) {
        left if left >= agents => left,
        _ => given.saturating_sub(METRICS + SPARE) / 2,
    }
}

/// The soft limit, made equal to the hard one; `None`: there is none.
fn raised(limit: Rlimit) -> Option<u64> {
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => return limit.maximum,
            Err(error) => tracing::debug!(%error, "the limit of file descriptors stays"),
        }
    }
    limit.current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_needs_two_descriptors_and_what_administers_one() {
        assert_eq!(
            needed(20_000, 1_000),
            40_000 + 1_000 + u64::from(OPS_CAPS.connections) + SPARE
        );
    }

    #[test]
    fn backends_have_what_is_left_and_at_least_half() {
        assert_eq!(backends(60_384, 20_000, 40_384), 20_000);
        assert_eq!(backends(100_000, 20_000, 40_384), 59_616);
        assert_eq!(backends(1000, 20_000, 40_384), 308);
        assert_eq!(backends(100, 20_000, 40_384), 0);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(raised(limit), limit.maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }
}
