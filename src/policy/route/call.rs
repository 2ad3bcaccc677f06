//! Calls that a body names instead of a path: the methods of MCP and what they are for, and functions.
//!
//! Such a call is looked up like a path, so that what is proven of paths is proven of it: the method is the first segment,
//! the name or URI is cut at its slashes into the others. Nothing of it is canonicalised, because nobody reads it twice:
//! a name that differs in one byte is another name.

use std::fmt::Write as _;

/// The one method that routes of such tools answer to in the table.
pub const CALL: &str = "CALL";

/// The path that stands for a call in the table: `/tools%2Fcall/list_issues`. `None`: a name so long that no template
/// matches it.
pub fn called(method: &str, name: Option<&str>) -> Option<String> {
    let bytes = method.len() + name.map_or(0, str::len);
    (bytes <= CALLED_BYTES_MAX).then(|| {
        let mut path = format!("/{}", segment(method));
        for part in name.into_iter().flat_map(|name| name.split('/')) {
            path.push('/');
            path.push_str(&segment(part));
        }
        path
    })
}

/// A segment that stands for this text and for no other.
pub(in crate::policy) fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'%' | b'/') {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

/// Encoded three times as long, it still fits what captures can point into.
const CALLED_BYTES_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::template::Template;

    fn captured(written: &str, method: &str, name: Option<&str>) -> Option<Vec<String>> {
        let template = Template::of_call(written).unwrap();
        let path = called(method, name)?;
        let captures = template.captures(&path)?;
        Some(captures.iter().map(|(_, value)| value.to_owned()).collect())
    }

    #[test]
    fn a_template_matches_the_name_it_writes_and_no_other() {
        let exact = |name| captured("tools/call list_issues", "tools/call", Some(name));
        assert_eq!(exact("list_issues"), Some(vec![]));
        for other in [
            "",
            "list_issues/",
            "/list_issues",
            "list%5Fissues",
            "List_issues",
            "list_issues ",
        ] {
            assert_eq!(exact(other), None, "{other}");
        }
        assert_eq!(
            captured("tools/call list_issues", "tools", Some("call/list_issues")),
            None
        );
        assert_eq!(captured("tools/list", "tools/list", None), Some(vec![]));
        assert_eq!(captured("tools/list", "tools/list", Some("x")), None);
        assert_eq!(captured("tools/list", "tools/list", Some("")), None);
    }

    #[test]
    fn a_uri_template_captures_between_slashes() {
        let repo = |uri| {
            captured(
                "resources/read repo://{owner}/{*path}",
                "resources/read",
                Some(uri),
            )
        };
        assert_eq!(
            repo("repo://acme/src/lib.rs"),
            Some(vec!["acme".into(), "src/lib.rs".into()])
        );
        assert_eq!(
            repo("repo://acme/%2e%2e"),
            Some(vec!["acme".into(), "%252e%252e".into()])
        );
        for other in [
            "repo://acme",
            "repo:/acme/x",
            "repo:///x",
            "REPO://acme/x",
            "repo://",
        ] {
            assert_eq!(repo(other), None, "{other}");
        }
    }

    #[test]
    fn different_calls_have_different_paths() {
        let names = [
            None,
            Some(""),
            Some("/"),
            Some("%2F"),
            Some("a/b"),
            Some("a%2Fb"),
            Some("a b"),
            Some("é"),
        ];
        let paths: std::collections::HashSet<_> = names
            .iter()
            .map(|name| called("m", *name).unwrap())
            .collect();
        assert_eq!(paths.len(), names.len());
        assert_ne!(called("a/b", None), called("a", Some("b")));
    }
}
