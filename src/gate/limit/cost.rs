//! What a call costs, by its route's word or its answer's. Exact: no floating point, and never rounded down.

use crate::policy::model::{Cost, Route};
use http::HeaderMap;

/// What a call on this route costs before it is made; `None`: nothing, or the answer says.
pub(in crate::gate) fn fixed_cost(route: &Route) -> Option<u64> {
    match &route.cost {
        Some(Cost::Fixed(micros)) => Some(*micros),
        Some(Cost::Header { .. }) | None => None,
    }
}

/// A cost as an answer reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reported {
    /// The route does not ask for one, or it was known before.
    Nothing,
    /// This much.
    Micros(u64),
    /// The route wants one, the answer has none that can be read, and the policy names no substitute.
    Unreadable,
}

/// What the answer says the call cost. Negative and unreadable values count as the route's `fixed`.
pub(super) fn reported_cost(route: &Route, answer: &HeaderMap) -> Reported {
    let Some(Cost::Header { name, fixed }) = &route.cost else {
        return Reported::Nothing;
    };
    let mut values = answer.get_all(&**name).iter();
    // A cost reported twice is no cost that can be read.
    let read = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().and_then(micros),
        (None | Some(_), _) => None,
    };
    read.or(*fixed)
        .map_or(Reported::Unreadable, Reported::Micros)
}

/// `0.0125` in millionths. More than six places are rounded up: a cost is never made smaller. Exponents are not costs.
fn micros(text: &str) -> Option<u64> {
    let (units, places) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if units.is_empty() || !digits(units) || !digits(places) {
        return None;
    }
    let (kept, cut) = places.split_at(places.len().min(6));
    let mut millionths: u64 = if kept.is_empty() {
        0
    } else {
        kept.parse().ok()?
    };
    millionths *= 10_u64.pow(u32::try_from(6 - kept.len()).ok()?);
    millionths += u64::from(cut.bytes().any(|b| b != b'0'));
    units
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(millionths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reported_cost_is_read_exactly_and_never_made_smaller() {
        assert_eq!(micros("5"), Some(5_000_000));
        assert_eq!(micros("0.01"), Some(10_000));
        assert_eq!(micros(" 1.25 "), Some(1_250_000));
        assert_eq!(micros("0.0000001"), Some(1));
        assert_eq!(micros("0.0000010"), Some(1));
        for wrong in [
            "",
            ".",
            "-1",
            "+1",
            "1e3",
            "1,5",
            "NaN",
            "99999999999999999999",
        ] {
            assert_eq!(micros(wrong), None, "{wrong}");
        }
    }
}
