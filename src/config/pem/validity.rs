//! Until when a certificate is valid: the one field of it that the configuration looks at and no verifier shows.
//!
//! It walks the DER (RFC 5280, 4.1) just as far as it must, and refuses to judge anything: what it can't read has no end
//! to warn of, and a handshake will show what it is.

use crate::policy::time::Timestamp;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The end of a certificate's validity. `None`: it can't be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (mut rest, _) = expect(SEQUENCE, certificate)?;
    let (mut fields, _) = expect(SEQUENCE, rest)?;
    if let Some((_, behind)) = expect(VERSION, fields) {
        fields = behind;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = expect(tag, fields)?;
    }
    (rest, _) = expect(SEQUENCE, fields)?;
    let (_, _, rest) = element(rest)?;
    let (tag, text, _) = element(rest)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// RFC 3339.
pub(super) fn shown(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.micros()).map_or_else(
        |_| "a time beyond all calendars".to_owned(),
        |at| at.to_string(),
    )
}

fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        // Two digits: 1950 to 2049 (RFC 5280, 4.1.2.5.1).
        UTC_TIME if digits.len() == 12 => {
            let year: i16 = digits[..2].parse().ok()?;
            (
                if year < 50 { 2000 + year } else { 1900 + year },
                &digits[2..],
            )
        }
        GENERALIZED_TIME if digits.len() == 14 => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| rest[at..at + 2].parse::<i8>().ok();
    let date =
        jiff::civil::DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0);
    let moment = date
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?
        .timestamp();
    Some(Timestamp::from_micros(moment.as_microsecond()))
}

/// The content of an element with this tag, and what stands behind it.
fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content, and what stands behind.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (bytes, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        length = bytes
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = behind;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time_are_read_and_anything_else_has_no_end() {
        let at = |tag, text| time(tag, text).map(shown);
        assert_eq!(
            at(UTC_TIME, "491231235959Z").as_deref(),
            Some("2049-12-31T23:59:59Z")
        );
        assert_eq!(
            at(UTC_TIME, "500101000000Z").as_deref(),
            Some("1950-01-01T00:00:00Z")
        );
        assert_eq!(
            at(GENERALIZED_TIME, "20500101000000Z").as_deref(),
            Some("2050-01-01T00:00:00Z")
        );
        for (tag, text) in [
            (UTC_TIME, "4912312359Z"),
            (GENERALIZED_TIME, "20491331235959Z"),
            // How a certificate says that it has no end (RFC 5280, 4.1.2.5).
            (GENERALIZED_TIME, "99991231235959Z"),
            (4, ""),
            (UTC_TIME, "é91231235959Z"),
        ] {
            assert_eq!(at(tag, text), None, "{text}");
        }
    }

    #[test]
    fn a_certificates_end_is_found_and_broken_ones_are_survived() {
        let mut params = rcgen::CertificateParams::new(["gate.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der();
        assert_eq!(
            not_after(der).map(shown).as_deref(),
            Some("2031-02-03T00:00:00Z")
        );
        for cut in 0..der.len() {
            assert_eq!(not_after(&der[..cut]), None);
        }
    }
}
