//! A path of OpenAPI as a route's template. What can be written in both means the same in both; what can't is widened to a
//! whole segment and said, or refused.

use crate::policy::template::{Template, TemplateFault};
use std::collections::HashSet;
use std::fmt::Write as _;

/// A template, and what of it is not as the document has it.
#[derive(Debug)]
pub(super) struct Made {
    pub template: Template,
    pub guesses: Vec<String>,
}

/// `/users/{user-id}/files/{path*}` as `/users/{user_id}/files/{*path}`.
///
/// # Errors
/// Why no template says the same.
pub(super) fn template(path: &str) -> Result<Made, String> {
    if path.contains(['?', '#']) {
        return Err("it has a query or fragment, by which no route is told apart from others; import it as one route with `where`".to_owned());
    }
    if path.contains("${") {
        return Err("it has `${`, which stands for the environment in a project file".to_owned());
    }
    let mut names = HashSet::new();
    let mut guesses = Vec::new();
    let mut text = String::with_capacity(path.len());
    let Some(behind) = path.strip_prefix('/') else {
        return Err("it does not begin with `/`".to_owned());
    };
    let last = behind.matches('/').count();
    for (at, segment) in behind.split('/').enumerate() {
        text.push('/');
        text.push_str(&self::segment(
            segment,
            at == last,
            &mut names,
            &mut guesses,
        )?);
    }
    canonical(text).map(|template| Made { template, guesses })
}

fn segment(
    segment: &str,
    last: bool,
    names: &mut HashSet<String>,
    guesses: &mut Vec<String>,
) -> Result<String, String> {
    let parameters = parameters(segment)?;
    let whole = parameters.len() == 1 && segment.starts_with('{') && segment.ends_with('}');
    if parameters.is_empty() {
        return Ok(encoded(segment));
    }
    let written = &*parameters.join("_");
    let rest = whole && last && is_rest(written);
    let name = unique(named(written), names);
    if rest {
        guesses.push(format!("`{{*{name}}}` is everything that follows"));
        return Ok(format!("{{*{name}}}"));
    }
    if parameters.len() > 1 {
        guesses.push(format!(
            "`{{{name}}}` is the whole segment `{segment}`: a template has one parameter in each"
        ));
        return Ok(format!("{{{name}}}"));
    }
    Ok(segment.replacen(&format!("{{{written}}}"), &format!("{{{name}}}"), 1))
}

/// Documents write a path as it reads; a target has none but ASCII.
fn encoded(literal: &str) -> String {
    let mut text = String::with_capacity(literal.len());
    for byte in literal.bytes() {
        if byte.is_ascii_graphic() {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// What stands in the braces of a segment.
fn parameters(segment: &str) -> Result<Vec<&str>, String> {
    let broken = || "its braces do not match within one segment".to_owned();
    let mut found = Vec::new();
    let mut rest = segment;
    while let Some(open) = rest.find(['{', '}']) {
        let inner = rest[open..].strip_prefix('{').ok_or_else(broken)?;
        let close = inner.find(['{', '}']).ok_or_else(broken)?;
        rest = inner[close..].strip_prefix('}').ok_or_else(broken)?;
        found.push(&inner[..close]);
    }
    Ok(found)
}

/// `{path*}`, `{+path}` and `{proxy+}` are how documents write what the standard has no form for.
fn is_rest(written: &str) -> bool {
    written.starts_with(['+', '*']) || written.ends_with(['+', '*'])
}

/// As a parameter's name is spelled here.
fn named(written: &str) -> String {
    let mut name: String = written
        .chars()
        .filter(|c| !matches!(c, '+' | '*'))
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(NAME_CHARS_MAX)
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert_str(0, "p_");
    }
    name
}

fn unique(name: String, names: &mut HashSet<String>) -> String {
    let mut found = name.clone();
    let mut count = 2;
    while !names.insert(found.clone()) {
        found.clone_from(&name);
        let _ = write!(found, "_{count}");
        count += 1;
    }
    found
}

/// Literals are brought to the spelling in which targets are matched.
fn canonical(mut text: String) -> Result<Template, String> {
    for _ in 0..SPELLINGS_MAX {
        match Template::parse(&text) {
            Ok(template) => return Ok(template),
            Err(error) => match &error.fault {
                TemplateFault::NotCanonical { literal, canonical } => {
                    let (before, behind) = text.split_at(error.at.min(text.len()));
                    text = format!("{before}{}", behind.replacen(&**literal, canonical, 1));
                }
                _ => return Err(error.to_string()),
            },
        }
    }
    Err("its spelling is not the one in which targets are matched".to_owned())
}

/// Room for what makes it unique.
const NAME_CHARS_MAX: usize = 56;
/// Segments that are respelled; more than any path has.
const SPELLINGS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn made(path: &str) -> Result<(String, usize), String> {
        let made = template(path)?;
        Ok((made.template.as_str().to_owned(), made.guesses.len()))
    }

    #[test]
    fn paths_of_documents_become_templates_that_say_the_same_or_say_what_they_widen() {
        for (path, expected, guesses) in [
            ("/", "/", 0),
            ("/users/{user-id}", "/users/{user_id}", 0),
            ("/users/{id}/posts/{id}", "/users/{id}/posts/{id_2}", 0),
            ("/models/{model}:predict", "/models/{model}:predict", 0),
            ("/compare/{base}...{head}", "/compare/{base_head}", 1),
            ("/files/{path*}", "/files/{*path}", 1),
            ("/proxy/{proxy+}", "/proxy/{*proxy}", 1),
            ("/odd/{2fa}/{}", "/odd/{p_2fa}/{p_}", 0),
            ("/a b/{größe}", "/a%20b/{gr__e}", 0),
            ("/trailing/", "/trailing/", 0),
        ] {
            assert_eq!(made(path), Ok((expected.to_owned(), guesses)), "{path}");
        }
        for path in [
            "users",
            "/a//b",
            "/a/../b",
            "/a;v=1",
            "/search?q={q}",
            "/a#b",
            "/{a",
            "/a}",
            "/%2F",
            "/{name=projects/*}",
        ] {
            assert!(made(path).is_err(), "{path}");
        }
    }
}
