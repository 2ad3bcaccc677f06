//! What touches the world on the gate's behalf: clock and entropy, backends, receivers of
//! webhooks, keepers of checkpoints, metrics.

pub mod anchor;
pub mod clock;
pub mod metrics;
pub mod notify;
pub mod sweep;
pub mod tls;
pub mod upstream;
