//! What a document does not say, guessed: ids, scopes, what a call acts on, and whether it can't be undone. Each guess is
//! on the careful side: a call that may destroy needs a person, whatever else it is.

use crate::policy::name::NAME_BYTES_MAX;
use std::collections::HashSet;

/// What a call does, as far as its method and names say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    Write,
    Delete,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::Write => "write",
            Verb::Delete => "delete",
        }
    }
}

/// The verb, and the word by which it was guessed that something is destroyed, where the method does not say so.
pub(super) fn verb(method: &str, path: &str, id: Option<&str>) -> (Verb, Option<String>) {
    if method == "DELETE" {
        return (Verb::Delete, None);
    }
    let last = path
        .rsplit('/')
        .find(|part| !part.is_empty() && !part.starts_with('{'));
    // `/users/{id}:purge` is an act as well.
    let act = path
        .rsplit('/')
        .next()
        .and_then(|part| part.rsplit_once(':'));
    // A read may be of what was deleted; elsewhere any word counts.
    let reads = matches!(method, "GET" | "HEAD" | "OPTIONS" | "QUERY");
    let of_id = id.map(words).unwrap_or_default();
    let of_id = of_id.into_iter().take(if reads { 1 } else { usize::MAX });
    let names = [last, act.map(|(_, act)| act)].into_iter().flatten();
    let mut all = names.flat_map(words).chain(of_id);
    match all.find(|word| DESTROYS.contains(&&**word)) {
        Some(word) => (Verb::Delete, Some(word)),
        None if reads => (Verb::Read, None),
        None => (Verb::Write, None),
    }
}

/// Whose scopes a call's is one of: its first tag, else what its path begins with.
pub(super) fn family(tag: Option<&str>, path: &str, tool: &str) -> String {
    let literal = |part: &&str| {
        !part.is_empty() && !part.contains('{') && *part != "api" && !is_version(part)
    };
    let first = path.split('/').find(literal);
    let found = tag.into_iter().chain(first).map(slug);
    found
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| slug(tool))
}

/// `user:{user_id}`, `repo:{owner}:{repo}`: the last parameters of the path, under the name in front of them. `None`: it
/// has none.
pub(super) fn resource(template: &str) -> Option<String> {
    let parts: Vec<&str> = template.split('/').collect();
    let is_parameter = |part: &&&str| part.starts_with('{') && part.ends_with('}');
    let end = parts.iter().rposition(|part| is_parameter(&part))? + 1;
    let run = parts[..end].iter().rev().take_while(is_parameter).count();
    let ids: Vec<String> = parts[end - run..end]
        .iter()
        .map(|part| part.replace("{*", "{"))
        .collect();
    let before = parts[..end - run].last().filter(|part| !part.contains('{'));
    let kind = match before.map(|name| singular(&slug(name))) {
        Some(kind) if !kind.is_empty() && !is_version(&kind) && run == 1 => kind,
        // `/repos/{owner}/{repo}` acts on a repo, and so does `/{org}/{repo}`.
        Some(kind) if !kind.is_empty() && !is_version(&kind) => kind,
        _ => {
            let last = ids.last()?.trim_matches(['{', '}']);
            let name = last.trim_end_matches("_id").trim_end_matches("Id");
            Some(slug(name)).filter(|name| !name.is_empty())?
        }
    };
    Some(format!("{kind}:{}", ids.join(":")))
}

/// A route's id: the operation's own, else its method and path; unique among `taken`.
pub(super) fn id(
    own: Option<&str>,
    method: &str,
    path: &str,
    taken: &mut HashSet<String>,
) -> String {
    let made = own.map(name).filter(|name| !name.is_empty());
    let made = made.unwrap_or_else(|| {
        let path = slug(&path.replace(['{', '}', '*'], ""));
        let method = method.to_ascii_lowercase();
        name(&format!("{method}-{path}"))
    });
    let mut found = made.clone();
    let mut count = 2;
    while !taken.insert(found.clone()) {
        found = format!("{made}-{count}");
        count += 1;
    }
    found
}

/// As names are spelled, with room for what makes it unique.
fn name(text: &str) -> String {
    let spelled: String = text
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') => c,
            '/' => '.',
            _ => '-',
        })
        .take(NAME_BYTES_MAX - 10)
        .collect();
    spelled
        .trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

/// Small letters, digits and single dashes; short enough for a part of a name.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= SLUG_BYTES_MAX {
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}

fn singular(plural: &str) -> String {
    let cut = |end: &str, put: &str| Some(format!("{}{put}", plural.strip_suffix(end)?));
    let long = plural.len() > 3;
    let unchanged = ["ss", "us", "is", "news", "series"];
    if !long || unchanged.iter().any(|end| plural.ends_with(end)) {
        return plural.to_owned();
    }
    let es = ["sses", "xes", "ches", "shes", "zes"];
    let made = match () {
        () if plural.ends_with("ies") => cut("ies", "y"),
        () if es.iter().any(|end| plural.ends_with(end)) => cut("es", ""),
        () => cut("s", ""),
    };
    made.unwrap_or_else(|| plural.to_owned())
}

fn is_version(part: &str) -> bool {
    let digits = part.strip_prefix(['v', 'V']).unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// `purgeUser`, `purge_user` and `purge-user` are two words.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut small = false;
    for c in name.chars() {
        let new = !c.is_alphanumeric() || (c.is_uppercase() && small);
        if new && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        small = c.is_lowercase() || c.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Words for what can't be undone.
const DESTROYS: [&str; 22] = [
    "clear",
    "flush",
    "empty",
    "expunge",
    "discard",
    "delete",
    "destroy",
    "remove",
    "purge",
    "erase",
    "wipe",
    "drop",
    "truncate",
    "terminate",
    "cancel",
    "revoke",
    "reset",
    "deactivate",
    "deprovision",
    "uninstall",
    "unpublish",
    "kill",
];
/// Longest family or type.
const SLUG_BYTES_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_destroys_is_known_by_its_method_or_its_words_and_by_no_others() {
        let guessed = |method, path, id| verb(method, path, id).0;
        for (method, path, id) in [
            ("DELETE", "/users/{id}", None),
            ("POST", "/users/{id}/purge", None),
            ("POST", "/users/{id}:cancel", None),
            ("PUT", "/cluster", Some("resetCluster")),
            ("POST", "/bulk-delete", None),
            ("GET", "/users/{id}/delete", None),
        ] {
            assert_eq!(guessed(method, path, id), Verb::Delete, "{method} {path}");
        }
        assert_eq!(
            guessed("GET", "/users", Some("listDeletedUsers")),
            Verb::Read
        );
        assert_eq!(guessed("POST", "/users", Some("createUser")), Verb::Write);
        assert_eq!(guessed("POST", "/dropdowns", None), Verb::Write);
    }

    #[test]
    fn scopes_and_resources_are_named_by_what_they_are_of() {
        assert_eq!(family(Some("User Accounts"), "/x", "crm"), "user-accounts");
        assert_eq!(family(None, "/api/v2/users/{id}", "crm"), "users");
        assert_eq!(family(None, "/{id}", "crm"), "crm");
        assert_eq!(family(Some("用户"), "/users", "crm"), "users");
        for (template, expected) in [
            ("/users", None),
            ("/users/{user_id}", Some("user:{user_id}")),
            ("/users/{user_id}/posts", Some("user:{user_id}")),
            ("/users/{user_id}/posts/{post_id}", Some("post:{post_id}")),
            ("/repos/{owner}/{repo}/issues", Some("repo:{owner}:{repo}")),
            ("/companies/{id}", Some("company:{id}")),
            ("/addresses/{id}", Some("address:{id}")),
            ("/v1/{accountId}", Some("account:{accountId}")),
            ("/files/{*path}", Some("file:{path}")),
            ("/models/{model}:predict", None),
        ] {
            assert_eq!(resource(template).as_deref(), expected, "{template}");
        }
    }

    #[test]
    fn ids_are_names_and_unique() {
        let mut taken = HashSet::new();
        let mut made = |own, method, path| id(own, method, path, &mut taken);
        assert_eq!(made(Some("listUsers"), "GET", "/users"), "listUsers");
        assert_eq!(made(Some("listUsers"), "GET", "/people"), "listUsers-2");
        assert_eq!(made(Some("repos/get"), "GET", "/repos"), "repos.get");
        assert_eq!(made(Some("¿?"), "GET", "/a/{b}"), "get-a-b");
        assert_eq!(
            made(None, "POST", "/users/{user_id}/refunds"),
            "post-users-user-id-refunds"
        );
        assert_eq!(made(None, "GET", "/"), "get");
        let long = "x".repeat(300);
        assert!(made(Some(&long), "GET", "/").len() <= NAME_BYTES_MAX);
    }
}
