//! Bearer tokens: `tgs_` (sessions) and `tgk_` (principals' keys).
//!
//! A token is its prefix, 43 base64url characters (256 random bits) and 6 base64url characters of CRC-32 over what
//! stands before them. The checksum lets secret scanners find tokens and lets a typing error fail without a look-up.
//! Only the SHA-256 of the whole text is ever kept.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use zeroize::Zeroizing;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `tgs_`: one run of an agent.
    Session,
    /// `tgk_`: a principal of the admin API.
    Principal,
}

impl TokenKind {
    /// The four characters that open the token.
    pub const fn prefix(self) -> &'static str {
        match self {
            TokenKind::Session => "tgs_",
            TokenKind::Principal => "tgk_",
        }
    }
}

/// SHA-256 over the whole token text. What stores, tables and files hold instead of the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a text, whatever its shape.
    pub fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    /// From stored bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// A token in clear: exists between minting and the one answer that shows it, or on the command line of its owner.
pub struct Token(Zeroizing<String>);

impl Token {
    /// A token of `kind` from 256 random bits.
    pub fn mint(kind: TokenKind, random: &[u8; 32]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_BYTES));
        text.push_str(kind.prefix());
        URL_SAFE_NO_PAD.encode_string(random, &mut text);
        let sum = sum_text(text.as_bytes());
        text.extend(sum.map(char::from));
        Self(text)
    }

    /// The text; show it once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(&self.0)
    }
}

/// Length of every token, in bytes.
pub const TOKEN_BYTES: usize = 4 + 43 + SUM_BYTES;
/// Characters of the checksum.
const SUM_BYTES: usize = 6;

/// The digest of `text` if it has the length, prefix and checksum of a token of `kind`; `None` costs no look-up.
///
/// Its characters are not looked at one by one: a text that was never minted has no digest that anybody knows.
pub fn parse(kind: TokenKind, text: &str) -> Option<TokenDigest> {
    let (signed, sum) = text.as_bytes().split_last_chunk::<SUM_BYTES>()?;
    let is_good = text.len() == TOKEN_BYTES
        && signed.starts_with(kind.prefix().as_bytes())
        && sum_text(signed) == *sum;
    is_good.then(|| TokenDigest::of(text))
}

/// The checksum of what stands before it, in base64url.
fn sum_text(signed: &[u8]) -> [u8; SUM_BYTES] {
    let mut text = [0; SUM_BYTES];
    URL_SAFE_NO_PAD
        .encode_slice(crc32fast::hash(signed).to_be_bytes(), &mut text)
        .expect("four bytes are six characters");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_written_in_base64url() {
        for signed in ["", "a", "tgs_0123456789"] {
            let text = URL_SAFE_NO_PAD.encode(crc32fast::hash(signed.as_bytes()).to_be_bytes());
            assert_eq!(sum_text(signed.as_bytes()), *text.as_bytes());
        }
    }

    #[test]
    fn a_minted_token_parses_as_its_own_kind_only_and_a_typing_error_does_not() {
        let token = Token::mint(TokenKind::Session, &[7; 32]);
        assert_eq!(token.reveal().len(), TOKEN_BYTES);
        assert_eq!(
            parse(TokenKind::Session, token.reveal()),
            Some(token.digest())
        );
        assert_eq!(parse(TokenKind::Principal, token.reveal()), None);
        for position in 4..TOKEN_BYTES {
            let mut wrong: Vec<u8> = token.reveal().bytes().collect();
            wrong[position] = if wrong[position] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                parse(TokenKind::Session, std::str::from_utf8(&wrong).unwrap()),
                None,
                "at {position}"
            );
        }
    }
}
