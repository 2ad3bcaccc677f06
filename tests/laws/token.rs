//! Laws of bearer tokens: only what was minted parses, and a typing error never does.

use proptest::prelude::*;
use toolgate::policy::token::{TOKEN_BYTES, Token, TokenDigest, TokenKind, parse};

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn kind() -> impl Strategy<Value = TokenKind> {
    prop::sample::select(vec![TokenKind::Session, TokenKind::Principal])
}

/// What fingers do to a token: a wrong character, two swapped, one lost, one twice, one too many, white space, quotes.
#[derive(Clone, Debug)]
enum Slip {
    Replace(usize, u8),
    Swap(usize),
    Lose(usize),
    Double(usize),
    Insert(usize, u8),
    Case(usize),
    Around(&'static str, &'static str),
}

fn slip() -> impl Strategy<Value = Slip> {
    let at = 0..TOKEN_BYTES;
    let letter = prop_oneof![prop::sample::select(ALPHABET), 0x20..0x7fu8];
    prop_oneof![
        (at.clone(), letter.clone()).prop_map(|(at, byte)| Slip::Replace(at, byte)),
        (0..TOKEN_BYTES - 1).prop_map(Slip::Swap),
        at.clone().prop_map(Slip::Lose),
        at.clone().prop_map(Slip::Double),
        (at.clone(), letter).prop_map(|(at, byte)| Slip::Insert(at, byte)),
        at.prop_map(Slip::Case),
        prop::sample::select(vec![
            (" ", ""),
            ("", " "),
            ("", "\n"),
            ("\"", "\""),
            ("Bearer ", ""),
            ("", "=")
        ])
        .prop_map(|(before, behind)| Slip::Around(before, behind)),
    ]
}

fn slipped(token: &str, slip: &Slip) -> String {
    let mut bytes = token.as_bytes().to_vec();
    match *slip {
        Slip::Replace(at, byte) => bytes[at] = byte,
        Slip::Swap(at) => bytes.swap(at, at + 1),
        Slip::Lose(at) => drop(bytes.remove(at)),
        Slip::Double(at) => bytes.insert(at, bytes[at]),
        Slip::Insert(at, byte) => bytes.insert(at, byte),
        Slip::Case(at) => bytes[at] ^= 0x20,
        Slip::Around(before, behind) => return format!("{before}{token}{behind}"),
    }
    String::from_utf8(bytes).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_minted_parses_as_its_own_kind_only(kind in kind(), random: [u8; 32]) {
        let token = Token::mint(kind, &random);
        let text = token.reveal();
        prop_assert_eq!(text.len(), TOKEN_BYTES);
        prop_assert!(text.starts_with(kind.prefix()));
        for asked in [TokenKind::Session, TokenKind::Principal] {
            let expected = (asked == kind).then(|| TokenDigest::of(text));
            prop_assert_eq!(parse(asked, text), expected);
        }
    }

    #[test]
    fn a_typing_error_never_parses(kind in kind(), random: [u8; 32], slip in slip()) {
        let token = Token::mint(kind, &random);
        let text = slipped(token.reveal(), &slip);
        if text == token.reveal() {
            return Ok(());
        }
        prop_assert_eq!(parse(TokenKind::Session, &text), None);
        prop_assert_eq!(parse(TokenKind::Principal, &text), None);
    }

    #[test]
    fn no_other_text_parses(text in prop_oneof!["\\PC{0,60}", "tgs_[A-Za-z0-9_-]{49}"]) {
        prop_assert_eq!(parse(TokenKind::Session, &text), None);
    }
}
