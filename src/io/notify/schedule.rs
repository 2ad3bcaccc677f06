//! When a delivery that failed is tried again: soon at first, since people are waited for, then ever more rarely.

use std::time::Duration;

/// How long is waited after each failure at most; after the last comes no other attempt. Over three days in all, so that
/// a receiver that broke on a Friday still gets everything on Monday.
pub(super) const PAUSES: [Duration; 11] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(5 * HOUR),
    Duration::from_secs(10 * HOUR),
    Duration::from_secs(14 * HOUR),
    Duration::from_secs(20 * HOUR),
    Duration::from_secs(24 * HOUR),
];
const HOUR: u64 = 3600;

/// How long to wait after the attempt that was number `attempts` failed; `None`: it was the last.
///
/// Between half of the step and all of it, by `chance`: what failed together does not come back together.
pub(super) fn pause(attempts: u32, chance: u32) -> Option<Duration> {
    let most = *PAUSES.get(usize::try_from(attempts.checked_sub(1)?).ok()?)?;
    let half = most / 2;
    Some(half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_seconds_to_a_day_and_end() {
        let longest: Vec<_> = (1..)
            .map_while(|attempts| pause(attempts, u32::MAX))
            .collect();
        assert_eq!(longest, PAUSES);
        assert!(PAUSES.is_sorted());
        assert_eq!(pause(12, 0), None);
        assert_eq!(pause(0, 0), None);
        let all: Duration = longest.iter().sum();
        assert!(all > Duration::from_secs(3 * 24 * HOUR), "{all:?}");
    }

    #[test]
    fn what_failed_together_is_spread_over_half_of_the_pause() {
        assert_eq!(pause(1, 0), Some(Duration::from_millis(2500)));
        assert_eq!(pause(1, u32::MAX), Some(Duration::from_secs(5)));
        let middle = pause(1, u32::MAX / 2).unwrap();
        assert!(
            middle > Duration::from_secs(3) && middle < Duration::from_secs(4),
            "{middle:?}"
        );
    }
}
