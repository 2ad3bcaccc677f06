//! Pins (`pin: true`): what an MCP server said of a tool when that was accepted, so that another story is noticed before a
//! model reads it or acts on it.
//!
//! A tool's *definition* is its item of `tools/list`, whole: name, title, description, schemas, annotations, whatever else
//! the server says there. Its digest is over its one spelling here, members sorted by name at every depth, so that order
//! and white space say nothing, and everything else does. Where pins are kept is not known here: how a tool stands is an
//! argument.
//!
//! What it refuses to do: look behind a definition. A server that acts otherwise and says the same is not noticed.

use super::decision::Reason;
use super::json::Value;
use super::model::{Policy, ToolIndex};
use super::route::{Matched, called};
use super::shadow::all_shadowed;
use aws_lc_rs::digest;
use std::fmt;

/// SHA-256 over a definition in its one spelling.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PinDigest(pub [u8; 32]);

impl PinDigest {
    /// Of a definition in its one spelling.
    pub fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    /// `sha256:` and 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?.as_bytes();
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if hex.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for PinDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PinDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a server says of one tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// By which it is called.
    pub name: Box<str>,
    /// Of `text`.
    pub digest: PinDigest,
    /// Its one spelling.
    pub text: Box<str>,
}

impl Definition {
    /// Of an item of `tools/list`; `None`: it is none.
    pub fn of(item: &Value<'_>) -> Option<Self> {
        let Ok(Some(Value::Text(name))) = item.at(["name"]) else {
            return None;
        };
        let mut text = String::new();
        sorted(item).write(&mut text);
        Some(Self {
            name: (&**name).into(),
            digest: PinDigest::of(&text),
            text: text.into(),
        })
    }
}

/// The same value, members in order of their names' bytes.
fn sorted<'v>(value: &Value<'v>) -> Value<'v> {
    match value {
        Value::List(items) => Value::List(items.iter().map(sorted).collect()),
        Value::Object(members) => {
            let members = members.iter();
            let mut members: Vec<_> = members
                .map(|(name, value)| (name.clone(), sorted(value)))
                .collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(members)
        }
        plain => plain.clone(),
    }
}

/// How a tool of a pinned server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No list has named it yet, or what was said of it could not be kept.
    Unseen,
    /// The server says what was accepted.
    Accepted,
    /// It says something else.
    Changed,
}

impl Standing {
    /// Why it can't be called; `None`: it can.
    pub const fn refuses(self) -> Option<Reason> {
        match self {
            Standing::Accepted => None,
            Standing::Unseen | Standing::Changed => Some(Reason::ToolChanged),
        }
    }
}

/// What stands in the table of routes for the call of a tool by this name. `None`: no route could have it.
pub fn path_of(name: &str) -> Option<String> {
    called(CALL, Some(name))
}

/// Whether a pin has a say in this call: the tool is pinned, and one of its server's own is called.
pub fn concerns(policy: &Policy, call: &Matched<'_>) -> bool {
    policy.tool(call.tool).pin && is_call(call.path)
}

/// Whether a path of the table stands for the call of a tool.
fn is_call(path: &str) -> bool {
    path.strip_prefix(CALL_SEGMENT)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Whether anything could call the tool that this path stands for; and if so, whether only routes in shadow do.
pub fn routed(policy: &Policy, tool: ToolIndex, path: &str) -> Option<Routed> {
    let first = policy.table.find_call(tool, path)?;
    Some(match all_shadowed(policy, &first) {
        true => Routed::InShadow,
        false => Routed::Enforced,
    })
}

/// How the routes of a tool's call are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// One of them at least.
    Enforced,
    /// All of them note what they would refuse, and let it pass.
    InShadow,
}

/// The method that calls a tool.
pub const CALL: &str = "tools/call";
/// The same, as it stands in the table.
const CALL_SEGMENT: &str = "/tools%2Fcall";

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(text: &str) -> Option<Definition> {
        Definition::of(&Value::read(text.as_bytes()).unwrap())
    }

    #[test]
    fn order_and_white_space_say_nothing_and_everything_else_does() {
        let first = definition(
            r#"{"name":"pay","description":"Pays.","inputSchema":{"type":"object","a":[1,{"c":1.50,"b":2}]}}"#,
        )
        .unwrap();
        let same = definition(
            r#" { "inputSchema": {"a": [1, {"b": 2, "c": 1.50}], "type": "object"}, "description": "P\u0061ys.", "name": "pay" }"#,
        );
        assert_eq!(Some(&first), same.as_ref());
        assert_eq!(&*first.name, "pay");
        for other in [
            r#"{"name":"pay","description":"Pays. ","inputSchema":{"type":"object","a":[1,{"c":1.50,"b":2}]}}"#,
            r#"{"name":"pay","description":"Pays.","inputSchema":{"type":"object","a":[{"c":1.50,"b":2},1]}}"#,
            r#"{"name":"pay","description":"Pays.","inputSchema":{"type":"object","a":[1,{"c":1.5,"b":2}]}}"#,
            r#"{"name":"pay","description":"Pays.","inputSchema":{"type":"object","a":[1,{"c":1.50,"b":"2"}]}}"#,
            r#"{"name":"pay","description":"Pays.","inputSchema":{"type":"object","a":[1,{"c":1.50,"b":2}]},"annotations":{}}"#,
            r#"{"name":"pay","description":"Pays.","inputSchema":{"type":"object","a":[1,{"c":1.50,"b":2}]},"_meta":{"x":null}}"#,
        ] {
            assert_ne!(definition(other).unwrap().digest, first.digest, "{other}");
        }
        for none in ["[]", "{}", r#"{"name":7}"#, r#"{"name":"a","Name":"b"}"#] {
            assert_eq!(definition(none), None, "{none}");
        }
    }

    #[test]
    fn a_digest_is_read_back_from_its_one_form_alone() {
        let digest = PinDigest::of("x");
        let text = digest.to_string();
        assert_eq!(PinDigest::parse(&text), Some(digest));
        for wrong in ["", "sha256:", &text[7..], &text.to_uppercase(), &text[..70]] {
            assert_eq!(PinDigest::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_call_of_a_tool_is_one() {
        assert!(is_call(&path_of("list_issues").unwrap()));
        assert!(is_call(&path_of("").unwrap()));
        for other in [
            called("tools/list", None),
            called("prompts/get", Some("x")),
            called("tools/calls", Some("x")),
            called("tools", Some("call/x")),
        ] {
            assert!(!is_call(&other.unwrap()));
        }
        assert!(path_of(&"x".repeat(9000)).is_none());
    }
}
