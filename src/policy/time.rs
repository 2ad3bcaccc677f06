//! Time as an argument. Nothing in `policy` asks a clock: callers hand in [`Now`].

use std::time::Duration;

/// Wall-clock time: microseconds since 1970-01-01T00:00:00Z. Only for records and for what survives a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Monotonic time: nanoseconds since an arbitrary origin in this process. Limits, waits and expiry use it,
/// so that a clock stepping backwards gives nobody more time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

/// Both readings of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// What a record shows.
    pub wall: Timestamp,
    /// What limits and expiry compare.
    pub tick: Tick,
}

/// `30s`, `15m`: a whole number and one of `ms s m h d`, wherever a duration is written (YAML, and JSON to the gate).
/// `None`: not of this form, or too long to count.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Whole seconds, rounded up: who waits that long does not come too early.
pub fn seconds_up(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

impl Timestamp {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This moment plus `span`, saturating.
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Tick {
    /// From nanoseconds since the process's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the process's origin.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// This moment plus `span`, saturating.
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// How long from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Now {
    /// The monotonic moment at which the wall clock is expected to show `wall`; now, if that has passed.
    pub fn tick_at(self, wall: Timestamp) -> Tick {
        self.tick.plus(wall.since(self.wall))
    }
}
