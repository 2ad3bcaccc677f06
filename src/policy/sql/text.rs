//! Before the grammar: what servers read in different ways, and what would nest too deep, is found in the text and its
//! tokens.

use super::{Dialect, SqlError, TEXT_BYTES_MAX, plain};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};

/// The tokens of a text that is read alike by all servers of a dialect.
pub(super) fn tokens(text: &str, dialect: Dialect) -> Result<Vec<TokenWithSpan>, SqlError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(SqlError::TooLong);
    }
    if !text.bytes().all(is_plain) {
        odd(text)?;
    }
    let tokens = match plain::tokens(text) {
        Some(tokens) => tokens,
        None => read(text, dialect)?,
    };
    // Lists of these don't nest; parentheses are counted where the grammar recurses.
    let is_word = |token: &&TokenWithSpan| {
        !matches!(
            token.token,
            Token::Whitespace(_)
                | Token::Comma
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::LParen
                | Token::RParen
        )
    };
    if tokens.iter().filter(is_word).count() > WORDS_MAX {
        return Err(SqlError::TooMuch);
    }
    Ok(tokens)
}

/// The tokens of any text.
pub(super) fn read(text: &str, dialect: Dialect) -> Result<Vec<TokenWithSpan>, SqlError> {
    // Where a token stands is told to nobody, and left out: the parser writes it into every error, and gives most of them up.
    let unplaced = |token: TokenWithSpan| TokenWithSpan::wrap(token.token);
    let mut tokens = Vec::new();
    Tokenizer::new(dialect.grammar(), text)
        .tokenize_with_location_into_buf_with_mapper(&mut tokens, unplaced)
        .map_err(|_| SqlError::Syntax(dialect))?;
    for neighbours in tokens.windows(3) {
        let [one, two, three] = neighbours else {
            continue;
        };
        apart(&one.token, &two.token, Some(&three.token), dialect)?;
    }
    if let [.., one, two] = &tokens[..] {
        apart(&one.token, &two.token, None, dialect)?;
    }
    for token in &tokens {
        match &token.token {
            Token::Whitespace(space) => comment(space, dialect)?,
            Token::Word(word) if word.quote_style.is_none() && !word.value.is_ascii() => {
                return Err(SqlError::Ambiguous(
                    "a name that is neither ASCII nor quoted",
                ));
            }
            _ => {}
        }
    }
    Ok(tokens)
}

/// Whether nothing that [`odd`] looks for begins with this byte.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b' '..=b'~') && !matches!(byte, b'/' | b'\\')
}

/// What servers read in different ways, as far as the text itself tells.
fn odd(text: &str) -> Result<(), SqlError> {
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
    Ok(())
}

/// What only some servers read in a text that is for any of them. Some need no `;` between statements: such a word, where it is
/// no first one, ends the statement before it, while others take it for a name. To some a bracket opens a quoted name.
pub fn separated(tokens: &[TokenWithSpan], dialect: Dialect) -> Result<(), SqlError> {
    if dialect != Dialect::Generic {
        return Ok(());
    }
    let is = |token: &Token, list: &[&str]| match token {
        Token::Word(word) if word.quote_style.is_none() => {
            list.iter().any(|it| word.value.eq_ignore_ascii_case(it))
        }
        _ => false,
    };
    let mut before: Option<&Token> = None;
    let said = tokens.iter().map(|token| &token.token);
    for token in said.filter(|token| !matches!(token, Token::Whitespace(_))) {
        if *token == Token::LBracket {
            return Err(SqlError::Ambiguous("a bracket, which quotes names to some"));
        }
        let first = match before {
            None | Some(Token::SemiColon | Token::LParen) => true,
            Some(before) => is(token, &["update"]) && is(before, &["do", "for", "key"]),
        };
        if !first && is(token, &BEGINNINGS) {
            return Err(SqlError::Ambiguous(
                "a word that begins a statement of its own to some",
            ));
        }
        before = Some(token);
    }
    Ok(())
}

/// Words that begin statements, reserved where no `;` is needed before them.
const BEGINNINGS: [&str; 28] = [
    "alter",
    "backup",
    "begin",
    "break",
    "checkpoint",
    "commit",
    "create",
    "dbcc",
    "delete",
    "deny",
    "drop",
    "exec",
    "execute",
    "grant",
    "insert",
    "kill",
    "merge",
    "reconfigure",
    "restore",
    "return",
    "revert",
    "revoke",
    "rollback",
    "shutdown",
    "truncate",
    "update",
    "use",
    "waitfor",
];

/// Where one token ends and the next begins is what servers agree on least. Neighbours without white space between them that
/// some take for one.
fn apart(
    one: &Token,
    two: &Token,
    three: Option<&Token>,
    dialect: Dialect,
) -> Result<(), SqlError> {
    let unquoted = |token: &Token| match token {
        Token::Word(word) => word.quote_style.is_none(),
        _ => false,
    };
    let quoted = |token: &Token| match token {
        Token::Word(word) => word.quote_style.is_some(),
        Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => true,
        _ => false,
    };
    let fault = match (one, two, three) {
        // `U&"\0075sers"` is a name with escapes in it.
        (Token::Word(word), Token::Ampersand, Some(three))
            if word.value.eq_ignore_ascii_case("u") && quoted(three) =>
        {
            "a text or name with escapes (write its characters)"
        }
        // `q'[it's]'` is one text, `_sjis'...'` one in another encoding.
        (one, two, _) if unquoted(one) && quoted(two) => "a word that runs into a quote",
        // `1.e(...)`, `1union`.
        (Token::Number(..), two, _) if unquoted(two) => "a number that runs into a word",
        (text, ..) | (_, text, None) if is_foreign(text, dialect) => {
            "a text with a letter before its quote"
        }
        // A name, a parameter, or nothing, but in PostgreSQL; and there, no tag begins with a digit.
        (Token::DollarQuotedString(text), ..) | (_, Token::DollarQuotedString(text), None)
            if dialect != Dialect::Postgres || !text.tag.as_deref().is_none_or(is_tag) =>
        {
            "a text in dollar signs"
        }
        _ => return Ok(()),
    };
    Err(SqlError::Ambiguous(fault))
}

/// Texts that begin with a letter: what ends them differs by server.
fn is_foreign(token: &Token, dialect: Dialect) -> bool {
    match token {
        Token::EscapedStringLiteral(_) => dialect != Dialect::Postgres,
        Token::SingleQuotedByteStringLiteral(_) => {
            !matches!(dialect, Dialect::Postgres | Dialect::MySql)
        }
        Token::UnicodeStringLiteral(_)
        | Token::DoubleQuotedByteStringLiteral(_)
        | Token::SingleQuotedRawStringLiteral(_)
        | Token::DoubleQuotedRawStringLiteral(_)
        | Token::TripleSingleQuotedString(_)
        | Token::TripleDoubleQuotedString(_)
        | Token::TripleSingleQuotedByteStringLiteral(_)
        | Token::TripleDoubleQuotedByteStringLiteral(_)
        | Token::TripleSingleQuotedRawStringLiteral(_)
        | Token::TripleDoubleQuotedRawStringLiteral(_)
        | Token::QuoteDelimitedStringLiteral(_)
        | Token::NationalQuoteDelimitedStringLiteral(_) => true,
        _ => false,
    }
}

fn is_tag(tag: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.bytes().all(plain) && !tag.starts_with(|first: char| first.is_ascii_digit())
}

/// Comments are where servers hide statements from parsers, and parsers from servers.
fn comment(space: &Whitespace, dialect: Dialect) -> Result<(), SqlError> {
    match space {
        Whitespace::Space | Whitespace::Newline | Whitespace::Tab => Ok(()),
        Whitespace::SingleLineComment { comment, prefix } => {
            // MySQL takes `--` without white space behind it for two minus signs.
            let plain =
                prefix == "--" && (comment.is_empty() || comment.starts_with([' ', '\t', '\n']));
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
            if comment.contains("/*") || comment.starts_with('/') || comment.ends_with('/') {
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
