//! `Location` and `Content-Location` (RFC 9110 sections 10.2.2 and 8.7): where a backend names a place of its own, the
//! agent must read the place by which it gets there, behind the mount.
//!
//! What is mapped is what is plainly the backend's own: a URL of its authority, or an absolute path, under the base path
//! that was put in front of what was forwarded. Everything else is untouched: relative references are right as they
//! are, other places are other places, and what could be read in two ways is nobody's to mend.

use crate::policy::model::{Mount, Tool, Upstream};
use http::header::{CONTENT_LOCATION, HeaderMap, HeaderName, HeaderValue, LOCATION};

/// How the places of one tool are told.
#[derive(Debug)]
pub(super) struct Places {
    scheme: &'static str,
    /// The backend's, as in its URL.
    host: Box<str>,
    /// The backend hears the agent's own authority, and so speaks of itself by it.
    preserved: bool,
    base: Box<str>,
    /// Empty at the root.
    mount: Box<str>,
}

const FIELDS: [HeaderName; 2] = [LOCATION, CONTENT_LOCATION];

impl Places {
    pub(super) fn new(tool: &Tool, upstream: &Upstream) -> Self {
        let mount = match &tool.mount {
            Mount::Path(mount) if &**mount != "/" => mount.clone(),
            // The path is forwarded whole.
            Mount::Path(_) | Mount::Host(_) | Mount::None => Box::default(),
        };
        Self {
            scheme: scheme(upstream),
            host: upstream.host.clone(),
            preserved: tool.preserve_host,
            base: upstream.base_path.clone(),
            mount,
        }
    }

    /// Maps the places in an answer's fields. `authority` is the one the agent asked for.
    pub(super) fn map(&self, headers: &mut HeaderMap, authority: &str) {
        for name in FIELDS {
            let Some(place) = headers.get_mut(&name) else {
                continue;
            };
            let mapped = place
                .to_str()
                .ok()
                .and_then(|text| self.mapped(text, authority))
                .and_then(|text| HeaderValue::try_from(text).ok());
            if let Some(mapped) = mapped {
                *place = mapped;
            }
        }
    }

    /// `None`: it stays as it is.
    fn mapped(&self, text: &str, authority: &str) -> Option<String> {
        let (path, absolute) = self.own_path(text, authority)?;
        let end = path.find(['?', '#']).unwrap_or(path.len());
        let (path, rest) = path.split_at(end);
        let behind = path.strip_prefix(&*self.base)?;
        let on_segments = behind.is_empty() || behind.starts_with('/');
        if !on_segments || !is_plain(path) {
            return None;
        }
        // In path form, so that it leads to wherever the agent found the gate, by the scheme it used.
        let mapped = format!("{}{behind}{rest}", self.mount);
        let mapped = match path_of(&mapped) {
            "" => format!("/{mapped}"),
            // A path that begins with two slashes would be read as an authority.
            path if path.starts_with("//") => return None,
            _ => mapped,
        };
        (absolute || mapped != text).then_some(mapped)
    }

    /// The absolute path with query and fragment, if the place is the backend's own; and whether an authority stood there.
    fn own_path<'t>(&self, text: &'t str, authority: &str) -> Option<(&'t str, bool)> {
        let behind = match text.split_once("://") {
            Some((scheme, behind)) if is_scheme(scheme) => {
                // The agent's side may be spoken to otherwise: what the backend hears of it decides.
                let own = scheme.eq_ignore_ascii_case(self.scheme);
                let told =
                    self.preserved && matches!(&*scheme.to_ascii_lowercase(), "http" | "https");
                if !own && !told {
                    return None;
                }
                behind
            }
            Some(_) | None => match text.strip_prefix("//") {
                Some(behind) => behind,
                None => return text.starts_with('/').then_some((text, false)),
            },
        };
        let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        let (named, path) = behind.split_at(end);
        let own = self.is(named, &self.host) || (self.preserved && self.is(named, authority));
        own.then_some((path, true))
    }

    /// Without regard to case and to the port that the scheme has anyway.
    fn is(&self, named: &str, own: &str) -> bool {
        let port = if self.scheme == "https" {
            ":443"
        } else {
            ":80"
        };
        let bare = |authority: &'_ str| -> String {
            let lower = authority.to_ascii_lowercase();
            lower.strip_suffix(port).map(Into::into).unwrap_or(lower)
        };
        !named.is_empty() && bare(named) == bare(own)
    }
}

fn scheme(upstream: &Upstream) -> &'static str {
    if upstream.tls.is_some() {
        "https"
    } else {
        "http"
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn path_of(text: &str) -> &str {
    text.split(['?', '#']).next().unwrap_or_default()
}

/// Without segments that lead elsewhere, in any spelling, and without what some readers take for a slash.
fn is_plain(path: &str) -> bool {
    !path.contains('\\')
        && path.split('/').all(|segment| {
            let dots = segment.to_ascii_lowercase().replace("%2e", ".");
            dots != "." && dots != ".."
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(base: &str, mount: &str, preserved: bool) -> Places {
        Places {
            scheme: "http",
            host: "crm.internal:8080".into(),
            preserved,
            base: base.into(),
            mount: mount.into(),
        }
    }

    fn mapped(places: &Places, text: &'static str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static(text));
        headers.insert(CONTENT_LOCATION, HeaderValue::from_static(text));
        places.map(&mut headers, "gate.example");
        assert_eq!(headers[LOCATION], headers[CONTENT_LOCATION]);
        headers[LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_place_of_the_backends_own_is_told_behind_the_mount() {
        let with_base = places("/v2", "/crm", false);
        for (from, to) in [
            (
                "http://crm.internal:8080/v2/users/7?a=1#b",
                "/crm/users/7?a=1#b",
            ),
            ("HTTP://CRM.internal:8080/v2", "/crm"),
            ("http://crm.internal:8080/v2?q", "/crm?q"),
            ("//crm.internal:8080/v2/users", "/crm/users"),
            ("/v2/users/%2F7", "/crm/users/%2F7"),
            ("/v2/", "/crm/"),
        ] {
            assert_eq!(mapped(&with_base, from), to, "{from}");
        }
        let whole = places("", "", false);
        assert_eq!(mapped(&whole, "http://crm.internal:8080"), "/");
        assert_eq!(mapped(&whole, "http://crm.internal:8080?q"), "/?q");
        assert_eq!(mapped(&places("", "/crm", false), "/login"), "/crm/login");
        assert_eq!(mapped(&places("/v2", "", false), "/v2/login"), "/login");
    }

    #[test]
    fn every_other_place_is_untouched() {
        let places = places("/v2", "/crm", false);
        for text in [
            "users/7",
            "../users",
            "?page=2",
            "",
            "/login",
            "/v20/users",
            "/v2/../admin",
            "/v2/%2E%2e/admin",
            "/v2/..\\\\admin",
            "/v2//elsewhere.example",
            "https://crm.internal:8080/v2/users",
            "http://crm.internal/v2/users",
            "http://gate.example/v2/users",
            "http://user@crm.internal:8080/v2/users",
            "http://crm.internal:8080.elsewhere.example/v2/users",
            "https://elsewhere.example/?next=http://crm.internal:8080/v2/",
            "//elsewhere.example/v2/users",
            "mailto:a@crm.internal",
        ] {
            let is_network_path = text == "/v2//elsewhere.example";
            let expected = if is_network_path {
                "/crm//elsewhere.example"
            } else {
                text
            };
            assert_eq!(mapped(&places, text), expected, "{text}");
        }
        // Behind no mount at all it would become an authority.
        let bare = self::places("/v2", "", false);
        assert_eq!(
            mapped(&bare, "/v2//elsewhere.example"),
            "/v2//elsewhere.example"
        );
    }

    #[test]
    fn a_backend_that_hears_the_agents_authority_speaks_of_itself_by_it() {
        let places = places("", "/crm", true);
        for text in ["http://gate.example/users", "https://GATE.example/users"] {
            assert_eq!(mapped(&places, text), "/crm/users");
        }
        assert_eq!(
            mapped(&places, "https://elsewhere.example/users"),
            "https://elsewhere.example/users"
        );
    }
}
