//! Numbers as they are written, compared exactly: no binary fraction comes between what a policy says and what a body has.
//!
//! Bounded in digits and size, so that every comparison takes the same small time. It refuses to calculate.

use std::cmp::Ordering;
use std::fmt;

/// A decimal number: `digits x 10^exponent`, without a trailing zero in `digits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    digits: u128,
    exponent: i32,
}

impl Decimal {
    /// Reads a number in JSON's form (RFC 8259 section 6). `None`: it is not of that form, has more than
    /// [`DIGITS_MAX`] significant digits, or its size is 10^308 or more, or less than 10^-308 and not zero.
    pub fn read(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, small(exponent)?),
            None => (text, 0),
        };
        let (whole, part) = match mantissa.split_once('.') {
            Some((whole, part)) if !part.is_empty() => (whole, part),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        if whole.is_empty() || whole.len() > 1 && whole.starts_with('0') {
            return None;
        }
        let mut number = Decimal {
            negative,
            digits: 0,
            exponent,
        };
        // Zeros that follow are kept back until a digit shows that they count.
        let mut zeros = 0_u32;
        for (byte, behind_point) in bytes(whole, false).chain(bytes(part, true)) {
            if !byte.is_ascii_digit() {
                return None;
            }
            number.exponent = number.exponent.checked_sub(i32::from(behind_point))?;
            if byte == b'0' {
                zeros = zeros.checked_add(1)?;
                continue;
            }
            let shift = if number.digits == 0 { 0 } else { zeros + 1 };
            if count(number.digits) + shift.max(1) > DIGITS_MAX {
                return None;
            }
            number.digits = number.digits * 10_u128.pow(shift) + u128::from(byte - b'0');
            zeros = 0;
        }
        number.exponent = number.exponent.checked_add(i32::try_from(zeros).ok()?)?;
        if number.digits == 0 {
            return Some(Self::ZERO);
        }
        let size = number.size();
        (-SIZE_MAX < size && size <= SIZE_MAX).then_some(number)
    }

    /// The number that readers have to whom every number is a binary fraction.
    pub fn nearest(&self) -> f64 {
        let sign = if self.negative { "-" } else { "" };
        let text = format!("{sign}{}e{}", self.digits, self.exponent);
        text.parse().unwrap_or(f64::NAN)
    }

    /// Nought; there is no negative one.
    pub const ZERO: Self = Decimal {
        negative: false,
        digits: 0,
        exponent: 0,
    };

    /// Where the point stands, counted from before the first digit: the number lies below 10^size and not below a tenth.
    fn size(&self) -> i64 {
        i64::from(count(self.digits)) + i64::from(self.exponent)
    }

    fn cmp_unsigned(&self, other: &Self) -> Ordering {
        if self.digits == 0 || other.digits == 0 {
            return self.digits.cmp(&other.digits);
        }
        self.size().cmp(&other.size()).then_with(|| {
            // As many digits on both sides: at most DIGITS_MAX, which the integer holds.
            let most = count(self.digits).max(count(other.digits));
            let aligned = |digits: u128| digits * 10_u128.pow(most - count(digits));
            aligned(self.digits).cmp(&aligned(other.digits))
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.cmp_unsigned(other),
            (true, true) => other.cmp_unsigned(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

fn bytes(text: &str, behind_point: bool) -> impl Iterator<Item = (u8, bool)> {
    text.bytes().map(move |byte| (byte, behind_point))
}

fn count(digits: u128) -> u32 {
    digits.checked_ilog10().map_or(0, |log| log + 1)
}

/// An exponent; one of more than nine digits is out of every bound.
fn small(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let legal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let bare = digits.trim_start_matches('0');
    if !legal || bare.len() > 9 {
        return None;
    }
    let value: i32 = if bare.is_empty() {
        0
    } else {
        bare.parse().ok()?
    };
    Some(if text.starts_with('-') { -value } else { value })
}

/// Significant digits: those of the largest decimal format in common use (IEEE 754 decimal128).
pub const DIGITS_MAX: u32 = 34;
/// Where the numbers end that every common reader of JSON can hold.
const SIZE_MAX: i64 = 308;

impl fmt::Display for Decimal {
    /// In JSON's form: in digits where those are few, else with an exponent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        let digits = self.digits;
        match u32::try_from(-i64::from(self.exponent)) {
            Ok(0) => write!(f, "{sign}{digits}"),
            Ok(behind) if behind <= DIGITS_MAX => {
                let unit = 10_u128.pow(behind);
                let (whole, part) = (digits / unit, digits % unit);
                let width = behind as usize;
                write!(f, "{sign}{whole}.{part:0width$}")
            }
            Err(_) if self.exponent > 0 && self.size() <= i64::from(DIGITS_MAX) => {
                let zeros = usize::try_from(self.exponent).unwrap_or_default();
                write!(f, "{sign}{digits}{:0>zeros$}", "")
            }
            Ok(_) | Err(_) => write!(f, "{sign}{digits}e{}", self.exponent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Decimal {
        Decimal::read(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn one_number_has_one_value_however_it_is_written() {
        for same in [
            &[
                "100",
                "1e2",
                "1E+2",
                "100.0",
                "1000e-1",
                "0.1e3",
                "100.00e0",
                "1e000000000000002",
            ][..],
            &["0", "-0", "0.0", "0e5", "-0.000e-7", "0e999999999"],
            &["-12.5", "-125e-1", "-1.250e1"],
            &["0.001", "1e-3", "0.00100"],
        ] {
            for one in same {
                for other in same {
                    assert_eq!(read(one), read(other), "{one}, {other}");
                    assert_eq!(read(one).cmp(&read(other)), Ordering::Equal);
                }
            }
        }
    }

    #[test]
    fn numbers_stand_in_their_order_to_the_last_digit() {
        let order = [
            "-9e307",
            "-100.1",
            "-100",
            "-99.99999999999999999999",
            "-0.1",
            "-1e-300",
            "0",
            "1e-307",
            "0.1",
            "0.10000000000000000000000000000001",
            "0.2",
            "9",
            "10",
            "99.9999999999999999999999999999999",
            "100",
            "100.0000000000000000000000000000001",
            "1e15",
            "9007199254740992",
            "9007199254740993",
            "1e307",
        ];
        for (at, one) in order.iter().enumerate() {
            for (other_at, other) in order.iter().enumerate() {
                assert_eq!(
                    read(one).cmp(&read(other)),
                    at.cmp(&other_at),
                    "{one}, {other}"
                );
            }
        }
    }

    #[test]
    fn what_readers_would_round_is_no_number() {
        let long = "1".repeat(35);
        let wide = format!("1{}1", "0".repeat(33));
        for text in [
            &*long,
            &*wide,
            "1e308",
            "-1e308",
            "1e309",
            "0.1e310",
            "1e-310",
            "1e9999999999",
            "1e-9999999999",
            "",
            "-",
            "+1",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "1_0",
            "NaN",
            "Infinity",
            "1 ",
            " 1",
            "1.2.3",
            "--1",
            "1e5.5",
        ] {
            assert_eq!(Decimal::read(text), None, "{text}");
        }
        assert!(Decimal::read(&"1".repeat(34)).is_some());
        assert!(Decimal::read(&format!("1{}", "0".repeat(300))).is_some());
        assert!(Decimal::read(&format!("0.{}1", "0".repeat(300))).is_some());
        assert!(Decimal::read("9.99e307").is_some());
    }

    #[test]
    fn a_number_is_written_as_it_could_have_been_read() {
        for text in [
            "0", "100", "-0.5", "12.340", "1e30", "3e-9", "1e307", "5e-300", "34000",
        ] {
            let number = Decimal::read(text).unwrap();
            assert_eq!(Decimal::read(&number.to_string()), Some(number), "{text}");
        }
        let shown = |text| Decimal::read(text).unwrap().to_string();
        assert_eq!(
            [shown("1e2"), shown("1e3"), shown("0.050")],
            ["100", "1000", "0.05"]
        );
    }
}
