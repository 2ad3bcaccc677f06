//! What touches the world on the gate's behalf: clock and entropy, backends, metrics.

pub mod clock;
pub mod metrics;
pub mod sweep;
pub mod tls;
pub mod upstream;
