//! Before the grammar: what servers read in different ways, and what would nest too deep, is found in the text and its
//! tokens.

use super::{Dialect, SqlError, TEXT_BYTES_MAX};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};

/// The tokens of a text that is read alike by all servers of a dialect.
pub(super) fn tokens(text: &str, dialect: Dialect) -> Result<Vec<TokenWithSpan>, SqlError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(SqlError::TooLong);
    }
    let odd = |char: char| match char {
        '\t' | '\n' | '\r' => false,
        _ => char.is_control() || !char.is_ascii() && (char.is_whitespace() || is_invisible(char)),
    };
    if text.contains(odd) {
        return Err(SqlError::Ambiguous(
            "a control character, or white space that is not plain",
        ));
    }
    // MySQL runs what stands in the first two; the last is a hint to several.
    if ["/*!", "/*M!", "/*m!", "/*+"]
        .iter()
        .any(|open| text.contains(open))
    {
        return Err(SqlError::Ambiguous("a comment that is run, or is a hint"));
    }
    // A line ends there for some.
    let line_ends = |(at, _): (usize, &str)| text.as_bytes().get(at + 1) == Some(&b'\n');
    if !text.match_indices('\r').all(line_ends) {
        return Err(SqlError::Ambiguous("a carriage return without a line feed"));
    }
    // Whether a backslash takes a quote's meaning away is a setting of the server's.
    let bytes = text.as_bytes();
    if bytes
        .windows(2)
        .any(|pair| matches!(pair, b"\\'" | b"\\\"" | b"\\`"))
    {
        return Err(SqlError::Ambiguous(
            "a backslash before a quote (write the quote twice)",
        ));
    }
    let tokens = Tokenizer::new(dialect.grammar(), text)
        .tokenize_with_location()
        .map_err(|_| SqlError::Syntax(dialect))?;
    let mut words = 0;
    for token in &tokens {
        match &token.token {
            Token::Whitespace(space) => comment(space, dialect)?,
            // Lists of these don't nest; parentheses are counted where the grammar recurses.
            Token::Comma
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::LParen
            | Token::RParen => {}
            Token::Word(word) if word.quote_style.is_none() && !word.value.is_ascii() => {
                return Err(SqlError::Ambiguous(
                    "a name that is neither ASCII nor quoted",
                ));
            }
            _ => words += 1,
        }
    }
    if words > WORDS_MAX {
        return Err(SqlError::TooMuch);
    }
    Ok(tokens)
}

/// Comments are where servers hide statements from parsers, and parsers from servers.
fn comment(space: &Whitespace, dialect: Dialect) -> Result<(), SqlError> {
    match space {
        Whitespace::Space | Whitespace::Newline | Whitespace::Tab => Ok(()),
        Whitespace::SingleLineComment { comment, prefix } => {
            // MySQL takes `--` without white space behind it for two minus signs.
            let plain = prefix == "--" && comment.starts_with([' ', '\t', '\n'])
                || prefix == "--" && comment.is_empty();
            let hash = prefix == "#" && dialect == Dialect::MySql;
            if !(plain || hash) {
                return Err(SqlError::Ambiguous(
                    "a comment of this form (write `-- ` and a line)",
                ));
            }
            Ok(())
        }
        Whitespace::MultiLineComment(comment) => {
            // Whether comments nest is the server's affair.
            if comment.contains("/*") || comment.ends_with('/') {
                return Err(SqlError::Ambiguous("a comment within a comment"));
            }
            Ok(())
        }
    }
}

/// Format characters and the like: nothing to see, something to some.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Words and operators in one text: each could be a level of a tree that is gone through by recursion.
pub(super) const WORDS_MAX: usize = 1500;
