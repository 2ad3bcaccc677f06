//! `/.toolgate/problems/REASON`: what a problem document's `type` points to, as a page for people. No script, no style
//! sheet to fetch, nothing of any session.

use crate::gate::respond::{self, Problem, problem};
use crate::policy::decision::Reason;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use http::{HeaderValue, Response, StatusCode};
use std::fmt::Write;

/// The page of one reason, or the list of all for an empty name.
pub(super) fn page(name: &str) -> Option<Response<Bytes>> {
    let text = if name.is_empty() {
        list()
    } else {
        let reason = Reason::ALL.iter().find(|reason| reason.as_str() == name)?;
        one(*reason, &problem(*reason))
    };
    let mut response = respond::own(StatusCode::OK, "text/html; charset=utf-8", text.into());
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    );
    Some(response)
}

// Everything written into the pages is a constant of this crate: there is nothing to escape but the backticks' code.
fn one(reason: Reason, described: &Problem) -> String {
    let mut html = opened(described.title);
    let _ = write!(
        html,
        "<h1>{}</h1>\n<p><code>{}</code> &middot; status {}</p>\n<p>{}</p>\n<h2>What to do</h2>\n<p>{}</p>\n<p><a href=\"./\">All problems</a></p>\n</body>\n</html>\n",
        described.title,
        reason.as_str(),
        described.status.as_u16(),
        marked(described.meaning),
        marked(described.cure),
    );
    html
}

fn list() -> String {
    let mut html = opened("Problems the gate reports");
    html.push_str("<h1>Problems the gate reports</h1>\n<dl>\n");
    for reason in Reason::ALL {
        let described = problem(*reason);
        let name = reason.as_str();
        let _ = writeln!(
            html,
            "<dt><a href=\"{name}\"><code>{name}</code></a> {}</dt><dd>{}</dd>",
            described.status.as_u16(),
            described.title,
        );
    }
    html.push_str("</dl>\n</body>\n</html>\n");
    html
}

fn opened(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>{title} - Toolgate</title>\n<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}}dt{{margin-top:.5rem}}</style>\n</head>\n<body>\n"
    )
}

/// `code` between backticks, as the sentences write it.
fn marked(sentence: &str) -> String {
    let mut html = String::with_capacity(sentence.len() + 32);
    for (at, piece) in sentence.split('`').enumerate() {
        if at % 2 == 1 {
            let _ = write!(html, "<code>{piece}</code>");
        } else {
            html.push_str(piece);
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_page_and_stands_in_the_list_and_no_sentence_needs_escaping() {
        let list = list();
        for reason in Reason::ALL {
            let described = problem(*reason);
            for text in [described.title, described.meaning, described.cure] {
                assert!(!text.contains(['<', '>', '&']), "{text}");
                assert!(text.matches('`').count() % 2 == 0, "{text}");
            }
            assert!(page(reason.as_str()).is_some());
            assert!(list.contains(reason.as_str()));
        }
        assert!(page("no_such_reason").is_none());
    }
}
