//! What is kept out of the ledger: values of a query, and whatever has the shape of a token, which is kept out of errors and
//! of texts that others are shown, too.

use std::borrow::Cow;

/// The target with `*` for every query value whose name is not listed. A part without `=` is a value without a name.
/// Names are compared as sent: one that hides behind an escape is not listed.
pub fn mask_query<'t>(target: &'t str, listed: &[Box<str>]) -> Cow<'t, str> {
    let Some((path, query)) = target.split_once('?') else {
        return Cow::Borrowed(target);
    };
    let mut out = String::with_capacity(target.len());
    out.push_str(path);
    let mut mark = '?';
    for part in query.split('&') {
        out.push(mark);
        mark = '&';
        let (name, value) = part
            .split_once('=')
            .map_or((None, part), |(name, value)| (Some(name), value));
        if let Some(name) = name {
            out.push_str(name);
            out.push('=');
        }
        let shown = name
            .or(Some(value))
            .is_some_and(|name| listed.iter().any(|known| &**known == name));
        out.push_str(if shown || part.is_empty() { value } else { "*" });
    }
    Cow::Owned(out)
}

/// A text with everything that has the shape of a token cut down to its prefix.
pub fn without_tokens(text: &str) -> Cow<'_, str> {
    const SECRET_BYTES_MIN: usize = 32;
    let mut out = String::new();
    let mut copied = 0;
    let mut from = 0;
    while let Some(at) = text[from..].find("tg").map(|at| from + at) {
        let rest = &text.as_bytes()[at..];
        from = at + 2;
        if !(rest.starts_with(b"tgs_") || rest.starts_with(b"tgk_")) {
            continue;
        }
        let secret = rest[4..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            .count();
        if secret >= SECRET_BYTES_MIN {
            out.push_str(&text[copied..at + 4]);
            out.push('*');
            copied = at + 4 + secret;
            from = copied;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The same of a text that is made up for one answer or one line of a log: it may quote what was sent.
pub fn untold(text: Cow<'static, str>) -> Cow<'static, str> {
    match without_tokens(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(clean) => clean.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::token::{Token, TokenKind};

    fn listed(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|&name| name.into()).collect()
    }

    #[test]
    fn query_values_are_masked_unless_their_name_is_listed() {
        let check = |target: &str, expected: &str| {
            assert_eq!(mask_query(target, &listed(&["page", "q"])), expected);
        };
        check("/a", "/a");
        check("/a?", "/a?");
        check("/a?page=2&key=s3cret&q=x=y", "/a?page=2&key=*&q=x=y");
        check("/a?bare&page&%70age=2", "/a?*&page&%70age=*");
        check("/a?key=1&&key=", "/a?key=*&&key=*");
        check("/a?x=1?page=2", "/a?x=*");
    }

    #[test]
    fn a_token_never_enters_whatever_text_carries_it() {
        let token = Token::mint(TokenKind::Session, &[9; 32]);
        let text = format!("use {} or tgs_short, tg", token.reveal());
        assert_eq!(without_tokens(&text), "use tgs_* or tgs_short, tg");
        let key = Token::mint(TokenKind::Principal, &[3; 32]);
        assert_eq!(without_tokens(key.reveal()), "tgk_*");
    }
}
