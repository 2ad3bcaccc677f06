//! What touches the world on the gate's behalf: clock and entropy, backends, receivers of
//! webhooks and of traces, keepers of checkpoints, metrics.

pub mod anchor;
pub mod clock;
pub mod metrics;
pub mod notify;
mod post;
pub mod room;
pub mod sweep;
pub mod telemetry;
pub mod tls;
pub mod upstream;
