//! What is JSON and what is refused as no JSON, or as JSON that readers take differently.

use super::*;

fn fault(text: &str) -> JsonFault {
    Value::read(text.as_bytes()).expect_err(text).fault
}

fn read(text: &str) -> Value<'_> {
    Value::read(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn what_is_json_is_read_as_it_is_written() {
    let value =
        read(" { \"a\" : [ 1.50e+3 , true , null , \"\\u0041\\ud83d\\ude00\\n\" ] , \"\" : { } } ");
    let a = vec![
        Value::Number("1.50e+3"),
        Value::Bool(true),
        Value::Null,
        Value::Text("A\u{1f600}\n".into()),
    ];
    let members = vec![
        ("a".into(), Value::List(a)),
        ("".into(), Value::Object(vec![])),
    ];
    assert_eq!(value, Value::Object(members));
    assert_eq!(read("\"\\\\\""), Value::Text("\\".into()));
    assert_eq!(read("\"\""), Value::Text("".into()));
    assert_eq!(read("\"\\u0000\""), Value::Text("\0".into()));
    assert_eq!(read("-0"), Value::Number("-0"));
}

#[test]
fn what_readers_disagree_on_is_refused_with_its_place() {
    for (text, expected) in [
        ("", JsonFault::Empty),
        (" \n", JsonFault::Empty),
        ("\u{feff}1", JsonFault::Bom),
        ("1 1", JsonFault::Trailing),
        ("{\"a\":1,\"a\":2}", JsonFault::NameTwice),
        ("{\"a\":1,\"\\u0061\":2}", JsonFault::NameTwice),
        ("[{\"b\":{\"c\":1,\"c\":1}}]", JsonFault::NameTwice),
        ("[1,]", JsonFault::Character),
        ("[,1]", JsonFault::Character),
        ("{\"a\":1,}", JsonFault::Character),
        ("{a:1}", JsonFault::Character),
        ("{'a':1}", JsonFault::Character),
        ("{\"a\" 1}", JsonFault::Character),
        ("[1 2]", JsonFault::Character),
        ("[1", JsonFault::End),
        ("{\"a\"", JsonFault::End),
        ("\"a", JsonFault::End),
        ("\"a\\", JsonFault::End),
        ("nul", JsonFault::Character),
        ("truE", JsonFault::Character),
        ("// x\n1", JsonFault::Character),
        ("01", JsonFault::Number),
        ("1.", JsonFault::Number),
        ("-", JsonFault::Number),
        ("1e", JsonFault::Number),
        ("0x1", JsonFault::Number),
        ("1a", JsonFault::Number),
        ("+1", JsonFault::Character),
        ("NaN", JsonFault::Character),
        ("\"\\x\"", JsonFault::Escape),
        ("\"\\u12\"", JsonFault::Escape),
        ("\"\\u+123\"", JsonFault::Escape),
        ("\"\\ud800\"", JsonFault::Escape),
        ("\"\\ude00\"", JsonFault::Escape),
        ("\"\\ud800\\u0041\"", JsonFault::Escape),
        ("\"a\nb\"", JsonFault::Control),
        ("\"a\0b\"", JsonFault::Control),
        ("\u{a0}1", JsonFault::Character),
    ] {
        assert_eq!(fault(text), expected, "{text:?}");
    }
    let error = Value::read(b"[1, x]").expect_err("a letter");
    assert_eq!(error.to_string(), "an unexpected character at byte 4");
    let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(Value::read(&utf16).is_err());
    assert_eq!(
        Value::read(b"\"\xff\"").expect_err("no UTF-8").fault,
        JsonFault::Encoding
    );
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    read(&nested(DEPTH_MAX));
    assert_eq!(fault(&nested(DEPTH_MAX + 1)), JsonFault::Depth);
    assert_eq!(fault(&"[".repeat(1 << 20)), JsonFault::Depth);
    let many = |count: usize| format!("[{}]", vec!["0"; count].join(","));
    read(&many(VALUES_MAX - 1));
    assert_eq!(fault(&many(VALUES_MAX)), JsonFault::Values);
}

#[test]
fn names_that_stand_twice_are_found_among_few_and_among_many() {
    for count in [2, FEW, FEW + 1, 500] {
        for (one, other) in [
            (0, count - 1),
            (count / 3, count - 1),
            (count - 2, count - 1),
        ] {
            let name = |at: usize| if at == other { one } else { at };
            let members: Vec<_> = (0..count)
                .map(|at| format!("\"n{}\":0", name(at)))
                .collect();
            let text = format!("{{{}}}", members.join(","));
            assert_eq!(fault(&text), JsonFault::NameTwice, "{text}");
        }
    }
}

#[test]
fn a_pointer_finds_what_it_names_and_does_not_choose_between_readings() {
    let value = read("{\"a\":{\"b\":[10,{\"c\":null}]},\"Amount\":1,\"\u{212a}\":2,\"x\":\"y\"}");
    let at = |path: &[&'static str]| value.at(path.iter().copied());
    assert_eq!(at(&["a", "b", "0"]), Ok(Some(&Value::Number("10"))));
    assert_eq!(at(&["a", "b", "1", "c"]), Ok(Some(&Value::Null)));
    assert_eq!(at(&["a", "b", "2"]), Ok(None));
    assert_eq!(at(&["nothing", "b"]), Ok(None));
    assert_eq!(at(&["amount"]), Err(Unclear::Case));
    assert_eq!(
        at(&["k"]),
        Err(Unclear::Case),
        "the Kelvin sign is a k to some"
    );
    assert_eq!(at(&["a", "b", "00"]), Err(Unclear::Kind));
    assert_eq!(at(&["a", "b", "-"]), Err(Unclear::Kind));
    assert_eq!(at(&["x", "y"]), Err(Unclear::Kind));
    assert_eq!(at(&[]), Ok(Some(&value)));
}

/// With what another, well-kept reader says: what is read here is read there and means the same.
#[test]
fn whatever_is_read_here_another_reader_reads_alike() {
    use proptest::prelude::*;
    fn same(value: &Value<'_>, other: &serde_json::Value) -> bool {
        match (value, other) {
            (Value::Null, serde_json::Value::Null) => true,
            (Value::Bool(one), serde_json::Value::Bool(two)) => one == two,
            (Value::Number(one), serde_json::Value::Number(two)) => {
                one.parse::<f64>().ok() == two.as_f64()
            }
            (Value::Text(one), serde_json::Value::String(two)) => **one == **two,
            (Value::List(one), serde_json::Value::Array(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same(one, two))
            }
            (Value::Object(one), serde_json::Value::Object(two)) => {
                let found = |(name, value): &(Cow<'_, str>, Value<'_>)| {
                    two.get(&**name).is_some_and(|other| same(value, other))
                };
                one.len() == two.len() && one.iter().all(found)
            }
            _ => false,
        }
    }
    // Text made of what JSON is made of, so that much of it is JSON, or nearly.
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"a\"",
        "\"b\":",
        "1",
        "0",
        "-",
        ".",
        "e5",
        "true",
        "null",
        " ",
        "\\u00e9",
        "\\ud83d",
        "\\ude00",
        "\u{e9}",
        "\n",
        "[1]",
        "{\"a\":1}",
        "[]",
        "{}",
    ]);
    let text = prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    let config = ProptestConfig::with_cases(4000);
    proptest!(config, |(text in text)| {
        match (Value::read(text.as_bytes()), serde_json::from_str::<serde_json::Value>(&text)) {
            (Ok(value), Ok(other)) => prop_assert!(same(&value, &other)),
            (Ok(_), Err(error)) => prop_assert!(false, "{error}"),
            (Err(error), Ok(_)) => prop_assert!(error.fault == JsonFault::NameTwice, "{error}"),
            (Err(_), Err(_)) => {}
        }
    });
}
