//! What touches the world on the gate's behalf: clock and entropy, backends, metrics.

pub mod clock;
