//! Bodies of JSON: what is read here, another reader reads alike, and written again it is the same.

use serde_json::Value as Other;
use toolgate::policy::json::{DEPTH_MAX, Value};

pub fn run(data: &[u8]) {
    let Ok(value) = Value::read(data) else { return };
    let Some(other) = super::another(data) else {
        return;
    };
    compare(&value, &other, 0);

    let mut text = String::new();
    value.write(&mut text);
    let again = Value::read(text.as_bytes()).expect("what is written is read");
    let mut twice = String::new();
    again.write(&mut twice);
    assert_eq!(text, twice, "read again, it is another");
    compare(&again, &other, 0);
}

fn compare(value: &Value<'_>, other: &Other, depth: usize) {
    assert!(depth <= DEPTH_MAX, "it is as deep as it may be");
    match (value, other) {
        (Value::Null, Other::Null) => {}
        (Value::Bool(one), Other::Bool(two)) => assert_eq!(one, two),
        (Value::Text(one), Other::String(two)) => assert_eq!(&**one, two.as_str()),
        (Value::Number(digits), Other::Number(two)) => {
            let one: f64 = digits.parse().expect("a number");
            // The other reader rounds; so does this.
            let two = two.as_f64().expect("a number");
            assert!(
                one.to_bits() == two.to_bits() || (one - two).abs() <= one.abs() * 1e-15,
                "{digits}: {one} {two}"
            );
        }
        (Value::List(one), Other::Array(two)) => {
            assert_eq!(one.len(), two.len());
            one.iter()
                .zip(two)
                .for_each(|(one, two)| compare(one, two, depth + 1));
        }
        (Value::Object(one), Other::Object(two)) => {
            // The other one keeps the last of a name that is there twice.
            assert_eq!(one.len(), two.len(), "a name is there twice");
            for (name, value) in one {
                compare(value, &two[&**name], depth + 1);
            }
        }
        (one, two) => panic!("{one:?} is {two}"),
    }
}
