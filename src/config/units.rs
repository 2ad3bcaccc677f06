//! Durations, sizes, bounds and amounts as the YAML writes them. Exact: no floating point.

use crate::policy::time::duration;
use std::time::Duration;

/// The shortest text that [`duration`] reads as `span` (whole milliseconds).
pub(super) fn show_duration(span: Duration) -> String {
    let millis = span.as_millis();
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ];
    let whole = units
        .iter()
        .find(|(size, _)| millis >= *size && millis.is_multiple_of(*size));
    whole.map_or_else(
        || format!("{millis}ms"),
        |(size, unit)| format!("{}{unit}", millis / size),
    )
}

/// `256MiB`: a whole number and one of `KiB MiB GiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let bytes = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes)
}

/// The shortest text that [`size`] reads as `bytes` (whole KiB).
pub(super) fn show_size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units
        .iter()
        .find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    whole.map_or_else(
        || format!("{bytes} bytes"),
        |(size, unit)| format!("{}{unit}", bytes / size),
    )
}

/// `600/1m`: a whole number in a window.
pub(super) fn per_window(text: &str) -> Option<(u64, Duration)> {
    let (count, window) = text.split_once('/')?;
    Some((whole(count)?, duration(window)?))
}

/// `5.00/1h`: millionths in a window.
pub(super) fn cost_per_window(text: &str) -> Option<(u64, Duration)> {
    let (amount, window) = text.split_once('/')?;
    Some((micros(amount)?, duration(window)?))
}

/// `0.01`: a decimal of at most six places, in millionths.
pub(super) fn micros(text: &str) -> Option<u64> {
    let (units, places) = text.split_once('.').unwrap_or((text, "0"));
    if places.is_empty() || places.len() > 6 {
        return None;
    }
    let millionths = whole(places)? * 10_u64.pow(6 - u32::try_from(places.len()).ok()?);
    whole(units)?
        .checked_mul(1_000_000)?
        .checked_add(millionths)
}

/// Decimal digits and nothing else.
pub(super) fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((whole(number)?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_exactly_and_shown_as_written() {
        for text in ["1ms", "30s", "15m", "4h", "180d", "90s", "1500ms"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["1KiB", "256MiB", "3GiB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
        for text in [
            "",
            "s",
            "5",
            "5 s",
            "5S",
            "5w",
            "-5s",
            "1.5h",
            "99999999999999999999d",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
        for text in ["1MB", "1", "1mib", "99999999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_are_exact_to_a_millionth() {
        assert_eq!(micros("5.00"), Some(5_000_000));
        assert_eq!(micros("0.000001"), Some(1));
        assert_eq!(micros("20"), Some(20_000_000));
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "0.0000001",
            "-1",
            "1e3",
            "1,0",
            "18446744073710",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
        assert_eq!(
            cost_per_window("5.00/1h"),
            Some((5_000_000, Duration::from_secs(3600)))
        );
        assert_eq!(per_window("600/1m"), Some((600, Duration::from_secs(60))));
        assert_eq!(per_window("600"), None);
    }
}
