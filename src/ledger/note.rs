//! Signed notes and the keys that sign them (C2SP signed-note, Ed25519 of RFC 8032): text that can be checked by anybody
//! who has the verifier key, with tools that are not ours.
//!
//! Strict: a note that is not exactly as the specification says is none. Signatures of unknown keys are passed over, as the
//! specification asks; one of a known key that does not fit makes the note worthless.

use super::line::sha256_of;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use std::fmt;
use zeroize::Zeroizing;

/// The only algorithm: Ed25519.
const ALGORITHM: u8 = 1;
/// What a private key's text begins with, as other tools for signed notes write it.
const PRIVATE: &str = "PRIVATE+KEY+";
/// Longest name of a key.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest note that is read.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;
/// Most signatures of one note.
const SIGNATURES_MAX: usize = 16;

/// A public key under its name: `NAME+ID+BASE64` in text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: Box<str>,
    id: u32,
    public: [u8; 32],
}

/// A private key under its name. Its text is `PRIVATE+KEY+NAME+ID+BASE64`.
pub struct SigningKey {
    verifier: VerifierKey,
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form.
    #[error("it is not of the form {0}")]
    Form(&'static str),
    /// Empty, too long, or with a plus sign or white space.
    #[error(
        "its name is empty, longer than {NAME_BYTES_MAX} bytes, or has a `+`, white space or a control character in it"
    )]
    Name,
    /// Another algorithm than Ed25519.
    #[error("it is not an Ed25519 key")]
    Algorithm,
    /// A point of small order.
    #[error("it is of a kind that finds signatures good which nobody made")]
    Weak,
    /// The id is not that of this name and key: a typing error, or a key under another's name.
    #[error("its id is not that of its name and key: a character is wrong")]
    Id,
}

/// Why a note is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not as the specification has it.
    #[error("it is not a signed note")]
    Form,
    /// None of the signatures is by a key that is known.
    #[error("it is not signed by a key that is known here")]
    Unknown,
    /// A signature of a known key does not fit.
    #[error(
        "its signature does not fit: it was changed, or signed by somebody else under this name"
    )]
    Signature,
}

/// A note as it was read; nothing of it is believed before [`Note::by`] says who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: Box<str>,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    name: Box<str>,
    id: u32,
    bytes: Box<[u8]>,
}

impl VerifierKey {
    fn new(name: &str, public: [u8; 32]) -> Result<Self, KeyError> {
        if !is_name(name) {
            return Err(KeyError::Name);
        }
        if is_weak(&public) {
            return Err(KeyError::Weak);
        }
        let id = id_of(name, &public);
        let name = name.into();
        Ok(VerifierKey { name, id, public })
    }

    /// Reads `NAME+ID+BASE64`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        const FORM: KeyError = KeyError::Form("NAME+ID+BASE64");
        let (name, id, public) = parts(text, FORM)?;
        let key = Self::new(name, public)?;
        if key.id != id {
            return Err(KeyError::Id);
        }
        Ok(key)
    }

    /// Who signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn fits(&self, text: &str, signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        key.verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, self.id, coded(&self.public))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl SigningKey {
    /// A key of these 32 random bytes.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn new(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        let seed = Zeroizing::new(seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| KeyError::Algorithm)?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| KeyError::Algorithm)?;
        let verifier = VerifierKey::new(name, public)?;
        Ok(SigningKey {
            verifier,
            seed,
            pair,
        })
    }

    /// Reads `PRIVATE+KEY+NAME+ID+BASE64`; white space around it is passed over.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &SecretString) -> Result<Self, KeyError> {
        const FORM: KeyError = KeyError::Form("PRIVATE+KEY+NAME+ID+BASE64");
        let text = text.expose_secret().trim();
        let (name, id, seed) = parts(text.strip_prefix(PRIVATE).ok_or(FORM)?, FORM)?;
        let key = Self::new(name, seed)?;
        if key.verifier.id != id {
            return Err(KeyError::Id);
        }
        Ok(key)
    }

    /// The text to keep, in a file that nobody else may read.
    pub fn to_text(&self) -> SecretString {
        let VerifierKey { name, id, .. } = &self.verifier;
        let seed = Zeroizing::new(coded(&self.seed));
        format!("{PRIVATE}{name}+{id:08x}+{}", *seed).into()
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// A note of this text, which ends with a newline and has no other control character.
    pub fn sign(&self, text: &str) -> String {
        let mut note = format!("{text}\n");
        self.sign_too(&mut note, text);
        note
    }

    /// Puts one more signature below a note of this text.
    pub fn sign_too(&self, note: &mut String, text: &str) {
        debug_assert!(is_text(text));
        let mut bytes = self.verifier.id.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        note.push_str(DASH);
        note.push_str(&self.verifier.name);
        note.push(' ');
        note.push_str(&STANDARD.encode(bytes));
        note.push('\n');
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifier)
    }
}

impl Note {
    /// Reads one note.
    ///
    /// # Errors
    /// [`NoteError::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Form);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Form)?;
        // The text may have empty lines of its own: the last one ends it.
        let at = note.rfind("\n\n").ok_or(NoteError::Form)?;
        let (text, below) = (&note[..=at], &note[at + 2..]);
        if !is_text(text) || !below.ends_with('\n') {
            return Err(NoteError::Form);
        }
        let mut signatures = Vec::new();
        for line in below[..below.len() - 1].split('\n') {
            signatures.push(Signature::parse(line).ok_or(NoteError::Form)?);
            if signatures.len() > SIGNATURES_MAX {
                return Err(NoteError::Form);
            }
        }
        let text = text.into();
        Ok(Note { text, signatures })
    }

    /// What was signed; not to be believed by itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Which of these keys signed it: the first in their order. Every signature of any of them must fit.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn by<'k>(&self, keys: &'k [VerifierKey]) -> Result<&'k VerifierKey, NoteError> {
        let mut by = None;
        for key in keys {
            let own = |one: &&Signature| *one.name == *key.name && one.id == key.id;
            for signature in self.signatures.iter().filter(own) {
                if !key.fits(&self.text, &signature.bytes) {
                    return Err(NoteError::Signature);
                }
                by.get_or_insert(key);
            }
        }
        by.ok_or(NoteError::Unknown)
    }
}

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (name, coded) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = STANDARD.decode(coded).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        (is_name(name) && !bytes.is_empty()).then(|| Signature {
            name: name.into(),
            id: u32::from_be_bytes(*id),
            bytes: bytes.into(),
        })
    }
}

fn parts(text: &str, form: KeyError) -> Result<(&str, u32, [u8; 32]), KeyError> {
    let (name, rest) = text.split_once('+').ok_or(form)?;
    let (id, coded) = rest.split_once('+').ok_or(form)?;
    let hex = id.len() == 8
        && id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let id = u32::from_str_radix(id, 16).ok().filter(|_| hex);
    let bytes = Zeroizing::new(STANDARD.decode(coded).map_err(|_| form)?);
    let (algorithm, key) = bytes.split_first().ok_or(form)?;
    if *algorithm != ALGORITHM {
        return Err(KeyError::Algorithm);
    }
    let key = key.try_into().map_err(|_| form)?;
    Ok((name, id.ok_or(form)?, key))
}

/// Whether it is a point of small order, in any of its encodings: signatures could be made up for it without a private key.
/// No key that was generated is one.
fn is_weak(public: &[u8; 32]) -> bool {
    let [rest @ .., last] = public;
    // The sign of the other coordinate changes nothing.
    let last = last & 0x7f;
    let low = |first: u8, byte: u8, end: u8| {
        rest[0] == first && rest[1..].iter().all(|one| *one == byte) && last == end
    };
    let zero_or_one = low(0, 0, 0) || low(1, 0, 0);
    let near_the_prime = [0xec, 0xed, 0xee]
        .iter()
        .any(|first| low(*first, 0xff, 0x7f));
    let eighth = ORDER_8
        .iter()
        .any(|point| rest == &point[..31] && last == point[31]);
    zero_or_one || near_the_prime || eighth
}

fn id_of(name: &str, public: &[u8; 32]) -> u32 {
    let [a, b, c, d, ..] = sha256_of(&[name.as_bytes(), &[b'\n', ALGORITHM], public]);
    u32::from_be_bytes([a, b, c, d])
}

fn coded(key: &[u8; 32]) -> String {
    let mut bytes = Zeroizing::new(vec![ALGORITHM]);
    bytes.extend_from_slice(key);
    STANDARD.encode(&*bytes)
}

/// Whether a key can be called so.
pub fn is_name(name: &str) -> bool {
    let bad = |char: char| char == '+' || char.is_whitespace() || char.is_control();
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(bad)
}

fn is_text(text: &str) -> bool {
    text.ends_with('\n') && !text.contains(|char: char| char.is_control() && char != '\n')
}

/// The two points of order eight, without the sign.
const ORDER_8: [[u8; 32]; 2] = [
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];
/// An em dash and a space.
const DASH: &str = "\u{2014} ";

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own example.
    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo \
        Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    #[test]
    fn the_published_example_is_good_and_no_byte_of_it_can_be_changed() {
        let key = [VerifierKey::parse(VKEY).unwrap()];
        assert_eq!(key[0].to_string(), VKEY);
        assert_eq!(Note::parse(NOTE.as_bytes()).unwrap().by(&key), Ok(&key[0]));
        for at in 0..NOTE.len() {
            for bit in 0..8 {
                let mut bytes = NOTE.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let by = Note::parse(&bytes).and_then(|note| note.by(&key).cloned());
                assert!(by.is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn what_a_key_signs_its_verifier_finds_good_and_no_other() {
        let key = SigningKey::new("gate-1", [7; 32]).unwrap();
        let again = SigningKey::parse(&key.to_text()).unwrap();
        assert_eq!(again.verifier(), key.verifier());
        let other = SigningKey::new("gate-1", [8; 32]).unwrap();
        let mut text = key.sign("a\nb\n");
        other.sign_too(&mut text, "a\nb\n");
        let note = Note::parse(text.as_bytes()).unwrap();
        for signer in [&key, &other] {
            let keys = [signer.verifier().clone()];
            assert_eq!(note.by(&keys), Ok(signer.verifier()));
        }
        let stranger = [SigningKey::new("gate-1", [9; 32])
            .unwrap()
            .verifier()
            .clone()];
        assert_eq!(note.by(&stranger), Err(NoteError::Unknown));
        assert_eq!(
            format!("{key:?}"),
            format!("SigningKey({})", key.verifier())
        );
    }

    #[test]
    fn a_key_with_a_wrong_character_is_refused() {
        let wrong = VKEY.replace("530d903a", "530d903b");
        assert_eq!(VerifierKey::parse(&wrong), Err(KeyError::Id));
        assert!(VerifierKey::parse("a b+00000000+AA==").is_err());
        assert!(VerifierKey::parse(&VKEY.replace("+Ae", "+Be")).is_err());
    }
}
