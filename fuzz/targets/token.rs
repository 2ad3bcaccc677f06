//! Tokens: a text is one of at most one kind, only with its prefix, length and checksum; every minted one is read.

use toolgate::policy::token::{TOKEN_BYTES, Token, TokenDigest, TokenKind, parse};

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for (kind, prefix) in [(TokenKind::Session, "tgs_"), (TokenKind::Principal, "tgk_")] {
        if let Some(digest) = parse(kind, &text) {
            assert!(
                text.len() == TOKEN_BYTES && text.starts_with(prefix),
                "{text:?} is no token"
            );
            assert!(digest == TokenDigest::of(&text), "another's digest");
        }
    }
    let mut random = [0; 32];
    random
        .iter_mut()
        .zip(data)
        .for_each(|(byte, data)| *byte = *data);
    let token = Token::mint(TokenKind::Session, &random);
    assert!(
        parse(TokenKind::Session, token.reveal()) == Some(token.digest()),
        "a minted token is read"
    );
    assert!(
        parse(TokenKind::Principal, token.reveal()).is_none(),
        "and is of one kind"
    );
    // One byte that differs makes it none.
    if let [at, byte, ..] = *data {
        let mut other = token.reveal().as_bytes().to_vec();
        let at = usize::from(at) % other.len();
        if other[at] != byte & 0x7f {
            other[at] = byte & 0x7f;
            let other = String::from_utf8(other).expect("ASCII");
            assert!(
                parse(TokenKind::Session, &other).is_none(),
                "{at}: a typing error passes"
            );
        }
    }
}
