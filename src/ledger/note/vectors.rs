//! Known answers of Ed25519 (RFC 8032), its edges, and the public corpora where `TOOLGATE_CORPORA` names their folder.

use super::*;
use std::path::PathBuf;

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// Whether the one function that judges signatures takes this one.
fn takes(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let key = UnparsedPublicKey::new(&ED25519, public);
    key.verify(message, signature).is_ok()
}

/// RFC 8032, section 7.1: secret, public, message, signature.
const KNOWN: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
];

/// The order of the group, little end first.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[test]
fn keys_and_signatures_are_those_of_the_standard() {
    for [secret, public, message, signature] in KNOWN {
        let key = SigningKey::new("k", bytes(secret).try_into().unwrap()).unwrap();
        assert_eq!(key.verifier.public, *bytes(public));
        let message = bytes(message);
        assert_eq!(key.pair.sign(&message).as_ref(), bytes(signature));
        assert!(takes(&key.verifier.public, &message, &bytes(signature)));
    }
}

#[test]
fn a_signature_has_one_form_and_no_other_is_taken_for_it() {
    for [_, public, message, signature] in KNOWN {
        let (public, message) = (bytes(public).try_into().unwrap(), bytes(message));
        let good = bytes(signature);
        let taken = |signature: &[u8]| takes(&public, &message, signature);
        // The same number once more around the group: equal in arithmetic, another text.
        let mut beyond = good.clone();
        let mut carry = 0;
        for (byte, more) in beyond[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(more) + carry;
            *byte = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        assert!(!taken(&beyond), "S is below the group's order");
        for length in 0..good.len() {
            assert!(!taken(&good[..length]), "{length} bytes");
        }
        assert!(!taken(&[&good[..], &[0]].concat()), "a byte more");
        assert!(
            !taken(&[&good[32..], &good[..32]].concat()),
            "halves swapped"
        );
        assert!(!taken(&[0; 64]) && !taken(&[0xff; 64]));
        let edges = [[0; 32], ORDER, [0xff; 32]];
        for edge in edges {
            assert!(!taken(&[&good[..32], &edge].concat()), "S at an edge");
            assert!(!taken(&[&edge, &good[32..]].concat()), "R at an edge");
        }
        let longer = [&message[..], &[0]].concat();
        assert!(!takes(&public, &longer, &good));
    }
}

#[test]
fn a_key_that_finds_made_up_signatures_good_is_refused() {
    let point = |first: u8, rest: u8, last: u8| {
        let mut point = [rest; 32];
        (point[0], point[31]) = (first, last);
        point
    };
    let mut weak = vec![point(0, 0, 0), point(1, 0, 0), ORDER_8[0], ORDER_8[1]];
    weak.extend([0xec, 0xed, 0xee].map(|first| point(first, 0xff, 0x7f)));
    // What such a key would do: the neutral element and zero are a signature of every text.
    let made_up = [&point(1, 0, 0)[..], &[0; 32]].concat();
    assert!(takes(&point(1, 0, 0), b"any text", &made_up));
    for mut public in weak {
        for sign in [0, 0x80] {
            public[31] ^= sign;
            assert_eq!(VerifierKey::new("k", public), Err(KeyError::Weak));
            let id = id_of("k", &public);
            let text = format!("k+{id:08x}+{}", coded(&public));
            assert_eq!(VerifierKey::parse(&text), Err(KeyError::Weak));
        }
    }
}

#[test]
fn every_signature_of_a_known_key_must_fit() {
    let (one, two) = (
        SigningKey::new("a", [1; 32]).unwrap(),
        SigningKey::new("b", [2; 32]).unwrap(),
    );
    let keys = [one.verifier.clone(), two.verifier.clone()];
    let by = |note: &str| Note::parse(note.as_bytes()).unwrap().by(&keys).cloned();
    let mut note = one.sign("text\n");
    two.sign_too(&mut note, "text\n");
    assert_eq!(by(&note).as_ref(), Ok(&keys[0]));
    let forged = |key: &SigningKey| {
        let mut note = one.sign("text\n");
        key.sign_too(&mut note, "another text\n");
        note
    };
    assert_eq!(by(&forged(&one)), Err(NoteError::Signature));
    assert_eq!(by(&forged(&two)), Err(NoteError::Signature));
}

/// The folder of public corpora, which are no part of the repository; `None`: the test is skipped, and says so.
fn corpus(name: &str) -> Option<String> {
    let Some(folder) = std::env::var_os("TOOLGATE_CORPORA") else {
        eprintln!("skipped: TOOLGATE_CORPORA names no folder with {name}");
        return None;
    };
    Some(std::fs::read_to_string(PathBuf::from(folder).join(name)).unwrap())
}

#[test]
fn wycheproofs_signatures_are_judged_as_it_says() {
    let Some(table) = corpus("ed25519_wycheproof.tsv") else {
        return;
    };
    let mut judged = 0;
    for row in table.lines().filter(|line| !line.starts_with('#')) {
        let [id, public, message, signature, result, comment] =
            row.splitn(7, '\t').collect::<Vec<_>>()[..6]
        else {
            panic!("{row}");
        };
        let public: [u8; 32] = bytes(public).try_into().unwrap();
        assert!(!is_weak(&public), "{id}");
        let taken = takes(&public, &bytes(message), &bytes(signature));
        assert_eq!(taken, result == "valid", "{id}: {comment}");
        judged += 1;
    }
    assert!(judged >= 150, "{judged}");
}

#[test]
fn the_corpus_of_signed_notes_is_judged_as_it_says() {
    let Some(text) = corpus("tlog_vectors.json") else {
        return;
    };
    let corpus: serde_json::Value = serde_json::from_str(&text).unwrap();
    let good = &corpus["signed_note"];
    let keys = [VerifierKey::parse(good["vkey"].as_str().unwrap()).unwrap()];
    let is_good = |note: &serde_json::Value| {
        let note = Note::parse(note["note"].as_str().unwrap().as_bytes());
        note.and_then(|note| note.by(&keys).cloned()).is_ok()
    };
    assert!(is_good(good));
    let bad = corpus["signed_note_negative"].as_array().unwrap();
    assert!(bad.len() >= 10);
    for note in bad {
        assert!(!is_good(note), "{}", note["why"]);
    }
    // Rules for people; each has its test in `checkpoint` or in `keys`, `judge` and `recover`.
    assert_eq!(corpus["checkpoint_text_rules"].as_array().unwrap().len(), 5);
}
