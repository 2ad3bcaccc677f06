//! Laws of the canonical target: one spelling, and nothing hidden from readers that read otherwise.

use proptest::prelude::*;
use toolgate::policy::target::{Ambiguity, Target};

const HOST: &str = "gate.example";

/// Pieces of paths that attackers combine.
const PIECES: &[&str] = &[
    "/",
    "/",
    "/",
    "a",
    "B",
    "7",
    ".",
    "..",
    "...",
    "%2e",
    "%2E",
    "%2e%2e",
    "%252e",
    "%25252E",
    "%2f",
    "%252F",
    "%5c",
    "\\",
    ";",
    "%3b",
    "%253B",
    "%3f",
    "%253f",
    "%23",
    "#",
    "%",
    "%2",
    "%zz",
    "%25",
    "%2525",
    "%00",
    "%0d%0a",
    "%7f",
    "%41",
    "%7E",
    "%C3%A9",
    "%c3",
    "%C2%85",
    "%E2%80%AE",
    "%C0%AF",
    "%2541",
    "é",
    " ",
    "%20",
    ":",
    "%3A",
    "{",
    "}",
    "[",
    "*",
    "+",
    "%2B",
    "\u{7f}",
    "\t",
    "|",
    "~",
    "-",
    "%ef%bc%8f",
    "%ff",
    "%25ff",
    "\"",
];

fn hostile_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..12)
        .prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn tame_path() -> impl Strategy<Value = String> {
    "(/[A-Za-z0-9._~:@!$&'()*+,=-]{1,8}){1,5}/?".prop_filter("no dot segments", |path| {
        let dots = |segment: &str| {
            let behind = segment.trim_start_matches('.');
            segment.starts_with('.') && (behind.is_empty() || behind.starts_with([':', '+']))
        };
        !path.split('/').any(dots)
    })
}

/// What a reader sees who decodes once more.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let value = pair
            .filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match value {
            Some(value) if bytes[at] == b'%' => {
                decoded.push(value);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

/// Every reading of a path by readers that decode again and again, lower-case, collapse slashes, and drop parameters,
/// queries and fragments.
fn readings(path: &str) -> Vec<Vec<u8>> {
    let mut readings = vec![path.as_bytes().to_vec()];
    loop {
        let last = &readings[readings.len() - 1];
        let next = decode(last);
        if next == *last {
            break;
        }
        readings.push(next);
    }
    let lower: Vec<_> = readings
        .iter()
        .map(|path| path.to_ascii_lowercase())
        .collect();
    readings.extend(lower);
    let cut: Vec<Vec<u8>> = readings
        .iter()
        .map(|path| {
            let end = path.iter().position(|byte| matches!(byte, b'?' | b'#'));
            let segments = path[..end.unwrap_or(path.len())].split(|&byte| byte == b'/');
            let plain = segments.map(|segment| {
                let end = segment.iter().position(|byte| *byte == b';');
                &segment[..end.unwrap_or(segment.len())]
            });
            plain.collect::<Vec<_>>().join(&b'/')
        })
        .collect();
    readings.extend(cut);
    readings
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn canonicalisation_is_idempotent(path in prop_oneof![hostile_path(), tame_path()]) {
        if let Ok(target) = Target::parse(&path, HOST) {
            let again = Target::parse(target.as_str(), target.authority());
            prop_assert_eq!(again, Ok(target));
        }
    }

    #[test]
    fn what_is_accepted_hides_nothing_from_readers_that_read_otherwise(path in hostile_path()) {
        let Ok(target) = Target::parse(&path, HOST) else { return Ok(()) };
        let slashes = target.path().matches('/').count();
        for reading in readings(target.path()) {
            let text = String::from_utf8(reading.clone());
            prop_assert!(text.is_ok(), "{path}: {reading:?}");
            let text = text.unwrap();
            prop_assert!(!text.contains('\\') && !text.chars().any(char::is_control), "{path}: {text:?}");
            // Collapsing slashes changes nothing, for there are no two in a row; no reader finds one more, and fewer only
            // who takes the rest for a query.
            let found = text.matches('/').count();
            prop_assert!(found == slashes || found < slashes && target.path().contains("%"), "{path}: {text}");
            let segments: Vec<&str> = text.split('/').skip(1).collect();
            for (position, segment) in segments.iter().enumerate() {
                prop_assert!(!matches!(*segment, "." | ".."), "{path}: {text}");
                prop_assert!(!segment.is_empty() || position + 1 == segments.len(), "{path}: {text}");
            }
        }
    }

    #[test]
    fn a_plain_path_is_accepted_however_its_unreserved_characters_are_spelt(
        path in tame_path(),
        spelt in prop::collection::vec(0..3u8, 64),
    ) {
        let mut other = String::new();
        for (byte, how) in path.bytes().zip(spelt.iter().cycle()) {
            let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            match how {
                1 if unreserved => other.push_str(&format!("%{byte:02x}")),
                2 if unreserved => other.push_str(&format!("%{byte:02X}")),
                _ => other.push(char::from(byte)),
            }
        }
        let target = Target::parse(&path, HOST).unwrap();
        prop_assert_eq!(target.path(), &path);
        prop_assert_eq!(Target::parse(&other, HOST), Ok(target));
    }

    #[test]
    fn a_query_stays_as_it_is_byte_for_byte(path in tame_path(), query in "([A-Za-z0-9&=+;/?.:{}\"<|-]|%[0-9a-fA-F]{2}|%2e%2E/){0,30}") {
        let target = Target::parse(&format!("{path}?{query}"), HOST).unwrap();
        prop_assert_eq!(target.query(), Some(&*query));
        prop_assert_eq!(target.path(), &path);
        prop_assert_eq!(target.as_str(), format!("{path}?{query}"));
    }

    #[test]
    fn absolute_form_and_origin_form_are_one(path in prop_oneof![hostile_path(), tame_path()], secure: bool, host in "[A-Za-z][a-zA-Z0-9]{0,8}(:[1-9][0-9]{1,3})?") {
        let scheme = if secure { "HTTPS" } else { "http" };
        let absolute = format!("{scheme}://{}{path}", host.to_ascii_uppercase());
        let (one, other) = (Target::parse(&absolute, &host), Target::parse(&path, &host));
        prop_assert_eq!(one, other);
        let elsewhere = Target::parse(&absolute, "elsewhere.example");
        prop_assert_eq!(elsewhere, Err(Ambiguity::Authority));
    }

    #[test]
    fn a_host_that_some_resolver_takes_for_an_address_is_refused_or_is_that_address(
        parts in prop::collection::vec(prop_oneof!["[0-9]{1,4}", "0[xX][0-9a-fA-F]{0,8}", "0[0-7]{1,3}", "[a-z]{1,2}"], 1..5),
    ) {
        let host = parts.join(".");
        let Ok(target) = Target::parse("/", &host) else { return Ok(()) };
        // inet_aton: one to four numbers, decimal, octal or hexadecimal.
        let number = |part: &&str| {
            let hex = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
            part.bytes().all(|byte| byte.is_ascii_digit())
                || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        };
        if target.host().split('.').collect::<Vec<_>>().iter().all(number) {
            let address: std::net::Ipv4Addr = target.host().parse().unwrap();
            prop_assert_eq!(address.to_string(), host);
        }
    }

    #[test]
    fn no_input_panics(raw in "\\PC{0,40}", host in "\\PC{0,20}") {
        let _ = Target::parse(&raw, &host);
        let _ = Target::parse(&raw, HOST);
    }
}

#[test]
fn each_line_of_the_contract_has_its_refusal() {
    for (raw, why) in [
        ("/a/../b", Ambiguity::DotSegment),
        ("/a/.", Ambiguity::DotSegment),
        ("/%2e%2E/b", Ambiguity::DotSegment),
        ("/a/%252e%252e/b", Ambiguity::DotSegment),
        ("/a/..%3Bx/b", Ambiguity::DotSegment),
        ("/a/%2e%253fx", Ambiguity::DotSegment),
        ("/a/...", Ambiguity::DotSegment),
        ("/a/..+/b", Ambiguity::DotSegment),
        ("/a/..::$DATA/b", Ambiguity::DotSegment),
        ("/a/..%20/b", Ambiguity::DotSegment),
        ("/a/..%C2%A0/b", Ambiguity::DotSegment),
        ("/a/.%E2%80%8B./b", Ambiguity::DotSegment),
        ("/a/%EF%BC%8E%EF%BC%8E/b", Ambiguity::DotSegment),
        ("/a/%E2%80%A5/b", Ambiguity::DotSegment),
        ("/a/%20/b", Ambiguity::EmptySegment),
        ("/a/%3Bx/b", Ambiguity::EmptySegment),
        ("/a/%E2%80%8B", Ambiguity::EmptySegment),
        ("/a%EF%BC%8Fb", Ambiguity::EncodedDelimiter),
        ("/a%E2%88%95b", Ambiguity::EncodedDelimiter),
        ("/a%EF%BC%BCb", Ambiguity::EncodedDelimiter),
        ("/a%25u002fb", Ambiguity::Percent),
        ("/a%2525U002Eb", Ambiguity::Percent),
        ("//a", Ambiguity::EmptySegment),
        ("/a//", Ambiguity::EmptySegment),
        ("/a%2Fb", Ambiguity::EncodedDelimiter),
        ("/a%5cb", Ambiguity::EncodedDelimiter),
        ("/a%00", Ambiguity::EncodedDelimiter),
        ("/a%0A", Ambiguity::EncodedDelimiter),
        ("/a%252Fb", Ambiguity::EncodedDelimiter),
        ("/a\\b", Ambiguity::Backslash),
        ("/a?b\\c", Ambiguity::Backslash),
        ("/a;x=1", Ambiguity::PathParameter),
        ("/a%", Ambiguity::Percent),
        ("/a%4", Ambiguity::Percent),
        ("/a?x=%g0", Ambiguity::Percent),
        ("/a%FF", Ambiguity::Utf8),
        ("/a#b", Ambiguity::Fragment),
        ("/a?b#c", Ambiguity::Fragment),
        ("/a b", Ambiguity::Character),
        ("/a?b c", Ambiguity::Character),
        ("a/b", Ambiguity::Form),
        ("*", Ambiguity::Form),
        ("", Ambiguity::Form),
        ("ftp://gate.example/", Ambiguity::Form),
        ("http://other.example/", Ambiguity::Authority),
        ("http://me@gate.example/", Ambiguity::Authority),
        ("http://gate.example#x", Ambiguity::Fragment),
    ] {
        assert_eq!(Target::parse(raw, HOST), Err(why), "{raw}");
    }
    let long = format!("/{}", "a".repeat(9000));
    assert_eq!(Target::parse(&long, HOST), Err(Ambiguity::TooLong));
}

#[test]
fn an_empty_path_of_an_absolute_form_is_the_root() {
    let target = Target::parse("http://gate.example?a=b", HOST).unwrap();
    assert_eq!((target.path(), target.query()), ("/", Some("a=b")));
    let target = Target::parse("http://gate.example", HOST).unwrap();
    assert_eq!((target.path(), target.query()), ("/", None));
}

#[test]
fn a_host_is_one_that_all_readers_read_alike() {
    for (host, name) in [
        ("Gate.Example", "gate.example"),
        ("gate.example:8080", "gate.example"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:9080", "[::1]"),
        ("[2001:DB8::7]", "[2001:db8::7]"),
        ("my_host-1", "my_host-1"),
    ] {
        let target = Target::parse("/", host).unwrap();
        assert_eq!(target.host(), name);
        assert_eq!(target.authority(), host.to_ascii_lowercase());
    }
    for host in [
        "",
        " ",
        "a b",
        "a,b",
        "a:b",
        "a:",
        "a:0",
        "a:080",
        "a:65536",
        "a:80:80",
        "a..b",
        "a.",
        ".a",
        "a/b",
        "me@a",
        "a%2eb",
        "[::1",
        "::1",
        "[::1]x",
        "[fe80::1%25eth0]",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "127.0.0.01",
        "é",
        "a\tb",
        "a\\b",
        "[v1.x]",
        "a?b",
        "a#b",
    ] {
        assert_eq!(
            Target::parse("/", host),
            Err(Ambiguity::Authority),
            "{host:?}"
        );
    }
}

#[test]
fn a_target_encoded_over_and_over_is_refused_at_once() {
    // Each round of decoding takes one layer off: thousands of layers would cost a reader thousands of passes.
    let layers = format!("/%{}41", "25".repeat(4000));
    assert_eq!(Target::parse(&layers, HOST), Err(Ambiguity::Layers));
    assert!(Target::parse("/%2525252541", HOST).is_ok());
}
