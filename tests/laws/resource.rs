//! Laws of resources: a substituted value is a literal, whatever characters it has.

use crate::builder::{filled, session};
use proptest::prelude::*;
use toolgate::policy::attributes::Attributes;
use toolgate::policy::resource::{RESOURCE_BYTES_MAX, Resource, ResourcePattern, ResourceTemplate};
use toolgate::policy::target::Target;
use toolgate::policy::template::Template;

/// Values that would mean something if they were read as patterns.
pub fn value() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "*",
        ":*",
        "%2A",
        "%",
        "{session.a}",
        "{}",
        "a:b",
        "a/b",
        "..",
        "user:*",
        "é",
        " ",
        "\u{0}",
        "%25",
    ]);
    prop_oneof![
        "[a-c*:%/{}]{1,4}",
        prop::collection::vec(prop_oneof![odd.prop_map(str::to_owned), "[ab]"], 1..3)
            .prop_map(|it| it.concat()),
        "\\PC{1,6}",
    ]
}

/// The contract's own words: every byte of a value that is not plain is percent-encoded.
pub fn encode(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=@".contains(&byte);
    let encoded = value.bytes().map(|byte| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    encoded.collect()
}

/// A piece of a template over attributes `a` and `b`.
#[derive(Clone, Debug)]
enum Piece {
    Literal(&'static str),
    Attribute(&'static str),
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = prop_oneof![
        prop::sample::select(vec!["a", "ab", ":", "a:", "-", "%2A", "%25"])
            .prop_map(Piece::Literal),
        prop::sample::select(vec!["a", "b"]).prop_map(Piece::Attribute),
    ];
    prop::collection::vec(piece, 1..4)
}

fn written(pieces: &[Piece]) -> String {
    let text: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Literal(text) => (*text).to_owned(),
            Piece::Attribute(name) => format!("{{session.{name}}}"),
        })
        .collect();
    format!("user:{text}")
}

/// What a pattern stands for, values encoded; `None`: an attribute is missing.
fn meant(pieces: &[Piece], attributes: &Attributes) -> Option<String> {
    let parts: Option<String> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Literal(text) => Some((*text).to_owned()),
            Piece::Attribute(name) => attributes.get(name).map(encode),
        })
        .collect();
    Some(format!("user:{}", parts?))
}

/// A resource with these ids in its path: through a target, a match and a template, as a call makes one.
fn through_a_call(id: &str) -> Option<Resource> {
    let encoded: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let target = Target::parse(&format!("/users/{encoded}"), "gate.example").ok()?;
    let template = Template::parse("/users/{id}").unwrap();
    let captures = template.captures(target.path())?;
    let template = ResourceTemplate::parse("user:{id}").unwrap();
    filled(&template, &captures, &session("bot", &[]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_pattern_matches_what_encoding_and_comparing_says(
        pattern in pieces(),
        resource in pieces(),
        a in prop::option::weighted(0.9, value()),
        b in prop::option::weighted(0.9, value()),
        other in value(),
    ) {
        let of = |b: Option<String>| -> Attributes {
            let a = a.clone().map(|value| ("a", value));
            a.into_iter().chain(b.map(|value| ("b", value))).collect()
        };
        let attributes = of(b);
        let read = ResourcePattern::parse(&written(&pattern)).unwrap();
        // Of one piece in four, another session's: what matches must be equal, and nothing else.
        let others = of(Some(other));
        for attributes_of_call in [&attributes, &others] {
            let Some(text) = meant(&resource, attributes_of_call) else { continue };
            let called = Resource::parse(&text).unwrap();
            let expected = meant(&pattern, &attributes).is_some_and(|meant| meant == text);
            prop_assert_eq!(read.matches(&called, &attributes), expected, "{} on {}", read, called);
        }
        if let Some(own) = meant(&pattern, &attributes) {
            prop_assert!(read.matches(&Resource::parse(&own).unwrap(), &attributes));
        }
    }

    #[test]
    fn a_value_in_a_path_is_a_literal(id in value(), other in value()) {
        let Some(resource) = through_a_call(&id) else { return Ok(()) };
        prop_assert_eq!(resource.as_str(), format!("user:{}", encode(&id)));
        prop_assert_eq!(Resource::parse(resource.as_str()), Ok(resource.clone()));
        let pattern = ResourcePattern::parse("user:{session.id}").unwrap();
        let attributes = |value: &str| Attributes::from([("id", value)]);
        prop_assert!(pattern.matches(&resource, &attributes(&id)));
        prop_assert_eq!(pattern.matches(&resource, &attributes(&other)), id == other);
        prop_assert!(!pattern.matches(&resource, &Attributes::default()));
        prop_assert!(ResourcePattern::parse("user:*").unwrap().matches(&resource, &Attributes::default()));
        prop_assert!(!ResourcePattern::parse("use:*").unwrap().matches(&resource, &Attributes::default()));
        // The literal of the value is it and nothing else.
        let literal = ResourcePattern::parse_literal(&format!("user:{}", encode(&other))).unwrap();
        prop_assert_eq!(literal.matches(&resource, &attributes(&id)), id == other);
    }

    #[test]
    fn an_attribute_in_a_resource_is_a_literal(a in value(), b in value(), id in "[a-z0-9]{1,4}") {
        let template = Template::parse("/users/{id}").unwrap();
        let path = format!("/users/{id}");
        let captures = template.captures(&path).unwrap();
        let computed = ResourceTemplate::parse("org:{session.a}:user:{id}").unwrap();
        let resource = filled(&computed, &captures, &session("bot", &[("a", &a)])).unwrap();
        prop_assert_eq!(resource.as_str(), format!("org:{}:user:{id}", encode(&a)));
        prop_assert!(filled(&computed, &captures, &session("bot", &[("b", &b)])).is_none());
        let other = filled(&computed, &captures, &session("bot", &[("a", &b)])).unwrap();
        prop_assert_eq!(resource == other, a == b);
    }

    #[test]
    fn what_parses_has_one_spelling(text in prop_oneof!["[a-c]{1,3}:[a-c*:%2A{}. é-]{1,6}", "\\PC{0,12}"]) {
        if let Ok(resource) = Resource::parse(&text) {
            prop_assert_eq!(resource.as_str(), &text);
            let (_, id) = text.split_once(':').unwrap();
            let odd = text.contains(['*', '{', '}', '/']) || !text.is_ascii();
            prop_assert!(!odd);
            // Decoding and encoding again what stands between the colons changes nothing.
            for part in id.split(':') {
                let decoded = decode(part);
                if let Ok(decoded) = String::from_utf8(decoded) {
                    prop_assert_eq!(encode(&decoded), part);
                }
            }
        }
        if let Ok(pattern) = ResourcePattern::parse(&text) {
            prop_assert_eq!(pattern.to_string(), text.clone());
        }
        if let Ok(pattern) = ResourcePattern::parse_literal(&text) {
            prop_assert_eq!(pattern.attributes().count(), 0);
            prop_assert_eq!(ResourcePattern::parse(&text), Ok(pattern));
        }
        if let Ok(template) = ResourceTemplate::parse(&text) {
            prop_assert_eq!(template.to_string(), text);
        }
    }
}

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let pair: String = bytes.by_ref().take(2).map(char::from).collect();
            decoded.push(u8::from_str_radix(&pair, 16).unwrap());
        } else {
            decoded.push(byte);
        }
    }
    decoded
}

#[test]
fn a_wildcard_is_a_whole_id_and_only_in_a_pattern() {
    for text in [
        "user:a*",
        "user:*a",
        "*:a",
        "*",
        "a:b:*",
        "user:**",
        "us*er:a",
        "user:{session.a}*",
    ] {
        assert!(ResourcePattern::parse(text).is_err(), "{text}");
    }
    assert!(Resource::parse("user:*").is_err());
    assert!(ResourceTemplate::parse("user:*").is_err());
    assert!(ResourcePattern::parse_literal("user:{session.a}").is_err());
    assert!(ResourcePattern::parse("user:{id}").is_err());
    assert!(ResourcePattern::parse("{session.a}:x").is_err());
    assert!(ResourceTemplate::parse("user:{session.}").is_err());
    assert!(ResourceTemplate::parse("user:{path.id}").is_err());
    for text in [
        "user:", ":a", "user", "", "user:%2a", "user:%41", "user:%4", "us er:a", "user:a b",
    ] {
        assert!(Resource::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_resource_that_would_be_too_long_is_none() {
    let template = Template::parse("/{id}").unwrap();
    let long = format!("/{}", "a".repeat(RESOURCE_BYTES_MAX));
    let captures = template.captures(&long).unwrap();
    let computed = ResourceTemplate::parse("user:{id}").unwrap();
    assert!(filled(&computed, &captures, &session("bot", &[])).is_none());
    let fits = &long[..=RESOURCE_BYTES_MAX - 5];
    let captures = template.captures(fits).unwrap();
    let resource = filled(&computed, &captures, &session("bot", &[])).unwrap();
    assert_eq!(resource.as_str().len(), RESOURCE_BYTES_MAX);
}

proptest! {
    #[test]
    fn what_a_pattern_is_solved_for_makes_it_match_and_what_matches_can_be_solved(
        pattern in prop::sample::select(vec![
            "user:{session.a}", "user:{session.a}-x", "org:{session.a}:repo:{session.b}", "org:{session.a}:x:{session.a}",
            "user:p{session.a}{session.b}", "user:7", "user:*",
        ]),
        a in "[a-z:*%é.-]{1,4}", b in "[a-z:%x-]{1,4}",
    ) {
        let pattern = ResourcePattern::parse(pattern).unwrap();
        let attributes = Attributes::from([("a", &*a), ("b", &*b)]);
        let filled = pattern.filled(&attributes).unwrap();
        if let Ok(resource) = Resource::parse(&filled) {
            match pattern.solve(&resource) {
                Some(solved) => prop_assert!(pattern.matches(&resource, &solved), "{:?}", solved),
                None => prop_assert!(pattern.attributes().next().is_none()),
            }
            // Of another type nothing can make it match.
            let other = Resource::parse(&format!("other{filled}")).unwrap();
            prop_assert!(pattern.solve(&other).is_none());
        }
    }
}
