//! The tokens of plain text, which most statements are: unquoted names, numbers, texts in single quotes and the common
//! operators. The parser's own tokenizer knows each dialect's ways to write each of them, and asks for every character.
//!
//! It answers only where every dialect has the same tokens for what stands there, those of the parser's tokenizer (a test
//! holds the two together). Of all else it says nothing, and the parser's tokenizer reads the whole text.

use sqlparser::keywords::{ALL_KEYWORDS, ALL_KEYWORDS_INDEX, Keyword};
use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace, Word};

/// All tokens of a text, without the white space that says nothing to the parser. `None`: the text is not plain.
pub(super) fn tokens(text: &str) -> Option<Vec<TokenWithSpan>> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::with_capacity(TOKENS_AT_FIRST);
    let mut pass_over = false;
    let mut at = 0;
    while let Some(&first) = bytes.get(at) {
        let end = end(bytes, at, first)?;
        let token = match first {
            b' ' => Token::Whitespace(Whitespace::Space),
            b'\t' => Token::Whitespace(Whitespace::Tab),
            b'\n' => Token::Whitespace(Whitespace::Newline),
            _ if begins_a_word(first) => word(&text[at..end]),
            b'0'..=b'9' => Token::Number(text[at..end].to_owned(), false),
            b'\'' => Token::SingleQuotedString(text[at + 1..end - 1].to_owned()),
            _ => operator(&bytes[at..end])?,
        };
        at = end;
        if let Token::Whitespace(_) = token {
            if pass_over {
                continue;
            }
        } else {
            pass_over = is_apart_anyway(&token);
        }
        tokens.push(TokenWithSpan::wrap(token));
    }
    Some(tokens)
}

/// Whether white space behind it says nothing to the parser: a text goes on behind a line's end. In text that is
/// not plain it says more.
fn is_apart_anyway(token: &Token) -> bool {
    matches!(
        token,
        Token::Word(_)
            | Token::Number(..)
            | Token::Comma
            | Token::LParen
            | Token::RParen
            | Token::Eq
            | Token::Neq
            | Token::Lt
            | Token::LtEq
            | Token::Gt
            | Token::GtEq
            | Token::Mul
    )
}

/// Where the token ends that begins at `at`; `None`: it, or what stands right behind it, is not plain.
fn end(bytes: &[u8], at: usize, first: u8) -> Option<usize> {
    let next = |at: usize| bytes.get(at).copied();
    let run = |from: usize, is: fn(u8) -> bool| {
        let rest = bytes[from..].iter();
        from + rest.take_while(|&&byte| is(byte)).count()
    };
    let end = match first {
        _ if stands_alone(first) => return Some(at + 1),
        _ if begins_a_word(first) => {
            let end = run(at, is_of_a_word);
            let behind = next(end + 1);
            if next(end) == Some(b'.') && behind.is_some_and(|it| begins_a_word(it) || it == b'*') {
                return Some(end);
            }
            end
        }
        // A word looked what stands behind it.
        b'.' if at > 0 && is_of_a_word(bytes[at - 1]) => return Some(at + 1),
        b'0'..=b'9' => {
            let end = run(at, |byte| byte.is_ascii_digit());
            match next(end) {
                Some(b'.') if next(end + 1)?.is_ascii_digit() => {
                    run(end + 1, |byte| byte.is_ascii_digit())
                }
                _ => end,
            }
        }
        b'\'' => {
            let end = run(at + 1, |byte| !matches!(byte, b'\'' | b'\\'));
            (next(end)? == b'\'').then_some(end + 1)?
        }
        _ if is_of_an_operator(first) => {
            let end = run(at, is_of_an_operator);
            let plain =
                |byte| is_of_a_word(byte) || matches!(byte, b' ' | b'\t' | b'\n' | b'\'' | b'(');
            return next(end).is_none_or(plain).then_some(end);
        }
        _ => return None,
    };
    let plain = |byte| stands_alone(byte) || is_of_an_operator(byte);
    next(end).is_none_or(plain).then_some(end)
}

/// A token of its own, whatever stands around it.
fn stands_alone(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t' | b'\n' | b'(' | b')' | b',' | b';' | b'*' | b'+'
    )
}

/// What some dialect makes longer operators of.
fn is_of_an_operator(byte: u8) -> bool {
    matches!(byte, b'=' | b'-' | b'/' | b'<' | b'>' | b'!' | b'|' | b':')
}

fn begins_a_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_of_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn operator(text: &[u8]) -> Option<Token> {
    Some(match text {
        b"(" => Token::LParen,
        b")" => Token::RParen,
        b"," => Token::Comma,
        b";" => Token::SemiColon,
        b"." => Token::Period,
        b"*" => Token::Mul,
        b"+" => Token::Plus,
        b"-" => Token::Minus,
        b"/" => Token::Div,
        b"=" => Token::Eq,
        b"<>" | b"!=" => Token::Neq,
        b"<" => Token::Lt,
        b"<=" => Token::LtEq,
        b">" => Token::Gt,
        b">=" => Token::GtEq,
        b"||" => Token::StringConcat,
        b"::" => Token::DoubleColon,
        _ => return None,
    })
}

fn word(text: &str) -> Token {
    Token::Word(Word {
        value: text.to_owned(),
        quote_style: None,
        keyword: keyword(text),
    })
}

/// The keyword that a word of ASCII is, in whatever case.
fn keyword(word: &str) -> Keyword {
    let mut slot = slot(word.as_bytes());
    loop {
        let at = usize::from(SLOTS[slot]);
        if at == ALL_KEYWORDS.len() {
            return Keyword::NoKeyword;
        }
        if ALL_KEYWORDS[at].eq_ignore_ascii_case(word) {
            return ALL_KEYWORDS_INDEX[at];
        }
        slot = (slot + 1) % SLOTS.len();
    }
}

/// Where each keyword stands in the parser's list, by the hash of its name, or in the next place that was free. There are
/// several times as many places as keywords; a free one has the list's length.
static SLOTS: [u16; 4096] = {
    let free = ALL_KEYWORDS.len() as u16;
    let mut slots = [free; 4096];
    let mut at = 0;
    while at < ALL_KEYWORDS.len() {
        let mut slot = slot(ALL_KEYWORDS[at].as_bytes());
        while slots[slot] != free {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = at as u16;
        at += 1;
    }
    slots
};

const fn slot(word: &[u8]) -> usize {
    let mut hash = 0_u32;
    let mut at = 0;
    while at < word.len() {
        let byte = word[at].to_ascii_uppercase();
        hash = (hash ^ byte as u32).wrapping_mul(0x9e37_79b1);
        at += 1;
    }
    (hash >> 20) as usize
}

/// Room for the tokens of most texts.
const TOKENS_AT_FIRST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::sql::{Dialect, text};
    use proptest::prelude::*;

    #[test]
    fn a_word_is_the_keyword_that_it_is_to_the_parser() {
        let more = ["", "a", "tickets", "selec", "selects", "t_1", "_"];
        for word in ALL_KEYWORDS.iter().chain(&more) {
            let mixed: String = word
                .char_indices()
                .map(|(at, char)| match at % 2 {
                    0 => char.to_ascii_lowercase(),
                    _ => char,
                })
                .collect();
            for text in [word.to_string(), word.to_lowercase(), mixed] {
                assert_eq!(super::word(&text), Token::make_word(&text, None));
            }
        }
    }

    #[test]
    fn ordinary_statements_are_plain() {
        for text in [
            "SELECT t.id, t.title FROM tickets t JOIN customers c ON c.id = t.customer_id WHERE t.state = 'open' AND t.age >= 3.5",
            "SELECT count(*) FROM tickets WHERE note <> '' AND (a || b) != 'é' OR x::int < -1",
            "INSERT INTO tickets (a, b)\n\tVALUES (1, 'x'), (2, NULL);",
            "UPDATE tickets SET a = a + 1, b = a * 2 / 3 WHERE id = 7",
            "",
        ] {
            assert!(tokens(text).is_some(), "{text}");
        }
    }

    #[test]
    fn plain_text_has_the_tokens_that_it_has_to_the_parser() {
        let piece = prop::sample::select(vec![
            " ", "\t", "\n", "a", "E", "b", "N", "x", "u", "r", "q", "e5", "select", "From", "_",
            "t.a", "t.*", "t._b", ".", "..", ",", "(", ")", ";", "*", "+", "-", "--", "/", "//",
            "/*", "*/", "=", "==", "=>", "<", "<=", "<=>", "<>", "<<", ">", ">=", ">>", "!", "!=",
            "!!", "||", "|", "::", ":", ":=", "@", "#", "$", "?", "%", "&", "^", "~", "0", "1",
            "007", "1.5", "1.", ".5", "0x", "1e5", "1_0", "'", "''", "'x'", "'é'", "'it''s'",
            "'\\'", "\"", "`", "[", "]", "{", "\\", "é",
        ]);
        let text = prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
        proptest!(ProptestConfig::with_cases(20_000), |(text in text)| {
            if let Some(plain) = tokens(&text) {
                for dialect in Dialect::ALL {
                    let mut read = text::read(&text, dialect).unwrap();
                    let mut pass_over = false;
                    read.retain(|token| {
                        if let Token::Whitespace(_) = token.token {
                            return !pass_over;
                        }
                        pass_over = is_apart_anyway(&token.token);
                        true
                    });
                    prop_assert_eq!(&read, &plain, "{}: {:?}", dialect, text);
                }
            }
        });
    }
}
