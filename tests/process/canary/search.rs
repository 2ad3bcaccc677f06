//! Looks for secrets in whatever a gate has left behind: as they are, and as base64, hex or percent-encoding would show them.

use crate::ledger::hex;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem::Finder;

/// What must not be found.
pub struct Secrets(Vec<Secret>);

struct Secret {
    name: String,
    /// Places in which it may be, by design.
    except: &'static [&'static str],
    shapes: Vec<(&'static str, Finder<'static>)>,
}

/// A place and what stands in it.
pub struct Place {
    pub name: &'static str,
    /// More exactly.
    pub part: String,
    pub bytes: Vec<u8>,
}

impl Secrets {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn add(&mut self, name: &str, secret: impl AsRef<[u8]>) {
        self.add_except(name, secret, &[]);
    }

    pub fn add_except(
        &mut self,
        name: &str,
        secret: impl AsRef<[u8]>,
        except: &'static [&'static str],
    ) {
        let secret = secret.as_ref();
        assert!(
            secret.len() >= 16,
            "{name} is long enough not to be there by chance"
        );
        let shapes = shapes(secret).into_iter();
        self.0.push(Secret {
            name: name.to_owned(),
            except,
            shapes: shapes
                .map(|(shape, bytes)| (shape, Finder::new(&bytes).into_owned()))
                .collect(),
        });
    }

    /// A sentence for each secret in each of these places.
    pub fn found_in(&self, places: &[Place]) -> Vec<String> {
        let mut found = Vec::new();
        for place in places {
            for secret in &self.0 {
                if secret.except.contains(&place.name) {
                    continue;
                }
                for (shape, finder) in &secret.shapes {
                    if let Some(at) = finder.find(&place.bytes) {
                        let around =
                            &place.bytes[at.saturating_sub(80)..place.bytes.len().min(at + 120)];
                        found.push(format!(
                            "{} stands in {} ({}), {shape}: {}",
                            secret.name,
                            place.name,
                            place.part,
                            String::from_utf8_lossy(around)
                        ));
                    }
                }
            }
        }
        found
    }
}

fn shapes(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let percent = |all: bool| -> String {
        let one = |byte: &u8| match byte {
            byte if !all && (byte.is_ascii_alphanumeric() || b"-_.~".contains(byte)) => {
                char::from(*byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        };
        secret.iter().map(one).collect()
    };
    let json = serde_json::to_string(&String::from_utf8_lossy(secret)).unwrap();
    let mut shapes = vec![
        ("as it is", secret.to_vec()),
        ("as JSON", json.as_bytes()[1..json.len() - 1].to_vec()),
        ("as hex", hex(secret).into_bytes()),
        ("as HEX", hex(secret).to_uppercase().into_bytes()),
        ("percent-encoded", percent(false).into_bytes()),
        ("percent-encoded whole", percent(true).into_bytes()),
        (
            "percent-encoded in small letters",
            percent(true).to_lowercase().into_bytes(),
        ),
        // As Rust prints bytes that it does not take for text.
        (
            "as a list of numbers",
            format!("{secret:?}")
                .trim_matches(['[', ']'])
                .as_bytes()
                .to_vec(),
        ),
    ];
    // In base64 a secret has three looks, by what stands before it; the characters at its edges are shared with what is beside.
    for skip in 0..3 {
        let mut shifted = vec![0; skip];
        shifted.extend_from_slice(secret);
        let from = [0, 2, 3][skip];
        let to = |text: &str| text.len() - usize::from(!shifted.len().is_multiple_of(3));
        for text in [
            STANDARD_NO_PAD.encode(&shifted),
            URL_SAFE_NO_PAD.encode(&shifted),
        ] {
            shapes.push(("in base64", text.as_bytes()[from..to(&text)].to_vec()));
        }
    }
    shapes.sort_by(|a, b| a.1.cmp(&b.1));
    shapes.dedup_by(|a, b| a.1 == b.1);
    shapes
}

#[test]
fn a_planted_secret_is_found_whatever_it_is_dressed_in() {
    let secret = "a planted/secret+of 30 bytes~!";
    let mut secrets = Secrets::new();
    secrets.add_except("planted", secret, &["the garden"]);
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for dressed in [
        secret.to_owned(),
        format!("before {secret} after"),
        hex(secret.as_bytes()),
        hex(format!("x{secret}y").as_bytes()).to_uppercase(),
        percent,
        secret
            .replace(' ', "%20")
            .replace('/', "%2F")
            .replace('+', "%2B")
            .replace('!', "%21"),
        STANDARD_NO_PAD.encode(secret),
        STANDARD_NO_PAD.encode(format!("user:{secret}")),
        STANDARD_NO_PAD.encode(format!("x{secret} and more")),
        URL_SAFE_NO_PAD.encode(format!("xy{secret}z")),
        format!("{:?}", format!("..{secret}..").as_bytes()),
    ] {
        let place = |name| Place {
            name,
            part: String::new(),
            bytes: format!("much text {dressed} and more").into_bytes(),
        };
        assert!(!secrets.found_in(&[place("a log")]).is_empty(), "{dressed}");
        assert!(
            secrets.found_in(&[place("the garden")]).is_empty(),
            "{dressed}"
        );
    }
    let other = Place {
        name: "a log",
        part: String::new(),
        bytes: b"a planted/secret+of 30 byteS".to_vec(),
    };
    assert!(secrets.found_in(&[other]).is_empty());
}
