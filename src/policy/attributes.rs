//! A session's attributes: names and values that patterns are filled from, in one piece of memory, because there are
//! as many as there are sessions and every call of a bounded scope reads them.
//!
//! It refuses to judge names and values: minting does.

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::fmt;

/// Names and their values, in order of name, each name once.
///
/// One text: the length of the name, the name, the length of the value, the value, and so on. A length has six bits a
/// byte, lowest first; the seventh says that more follow. So the text is UTF-8 throughout.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(SmolStr);

impl Attributes {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(have, value)| (have == name).then_some(value))
    }

    /// Names and values, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.0.as_str();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let name = take(&mut rest);
            Some((name, take(&mut rest)))
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Each byte of a length holds this many bits of it.
const BITS: u32 = 6;
/// Another byte of the length follows.
const MORE: u8 = 1 << BITS;

fn put(text: &mut String, part: &str) {
    let mut length = part.len();
    loop {
        let low = u8::try_from(length & ((1 << BITS) - 1)).expect("six bits fit a byte");
        length >>= BITS;
        text.push(char::from(if length > 0 { low | MORE } else { low }));
        if length == 0 {
            break;
        }
    }
    text.push_str(part);
}

/// The part that `rest` begins with; `rest` is what is behind it.
fn take<'t>(rest: &mut &'t str) -> &'t str {
    let (mut length, mut read) = (0, 0);
    for &byte in rest.as_bytes() {
        length |= usize::from(byte & (MORE - 1)) << (BITS * read);
        read += 1;
        if byte & MORE == 0 {
            break;
        }
    }
    let (part, behind) = rest[read as usize..].split_at(length);
    *rest = behind;
    part
}

/// Of names given twice the last value is kept.
impl<N: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(N, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let pairs = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        let sorted: BTreeMap<Box<str>, Box<str>> = pairs.collect();
        let mut text = String::new();
        for (name, value) in &sorted {
            put(&mut text, name);
            put(&mut text, value);
        }
        Self(text.into())
    }
}

impl<N: Into<Box<str>>, V: Into<Box<str>>, const COUNT: usize> From<[(N, V); COUNT]>
    for Attributes
{
    fn from(pairs: [(N, V); COUNT]) -> Self {
        pairs.into_iter().collect()
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let pairs = BTreeMap::<Box<str>, Box<str>>::deserialize(from)?;
        Ok(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_in_is_what_a_map_would_hold(
            pairs in prop::collection::vec((".{0,80}", prop_oneof![".{0,9}", ".{60,300}", "x{4090,4100}"]), 0..9)
        ) {
            let attributes: Attributes = pairs.iter().cloned().collect();
            let map: BTreeMap<String, String> = pairs.into_iter().collect();
            prop_assert_eq!(attributes.len(), map.len());
            prop_assert!(attributes.iter().eq(map.iter().map(|(n, v)| (n.as_str(), v.as_str()))));
            for (name, value) in &map {
                prop_assert_eq!(attributes.get(name), Some(value.as_str()));
            }
            prop_assert_eq!(attributes.get("no such name"), None);
            let json = serde_json::to_string(&attributes).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&map).unwrap());
            prop_assert_eq!(serde_json::from_str::<Attributes>(&json).unwrap(), attributes);
        }
    }
}
