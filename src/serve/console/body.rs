//! A request's body as an approver sees it: its exact bytes, whole and unmasked, and beside them what they mean where they
//! are JSON or a form. What can't be read is said to be so and shown as hex; nothing is guessed, nothing is left out.

use super::json;
use super::text::{Text, has_too_many_marks, size};
use crate::policy::approval::{Field, HeldCall};
use crate::serve::admin::approvals::view::{hex, sha256};
use std::collections::HashSet;
use std::fmt::Write as _;

/// A body.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub bytes: usize,
    pub size: String,
    pub sha256: String,
    pub content_type: Option<Text>,
    /// What the reader must know: that it can't be read, that it can be read in two ways.
    pub notes: Vec<Text>,
    /// Laid out.
    pub json: Option<Text>,
    /// Decoded.
    pub form: Vec<Pair>,
    /// Exactly its bytes; `None`: they are shown as `hex`.
    pub text: Option<Text>,
    pub hex: String,
    /// Whether it is folded at first.
    pub large: bool,
}

/// A name and its value.
#[derive(Debug)]
pub(super) struct Pair {
    pub name: Text,
    pub value: Text,
}

/// Bodies beyond this are folded at first.
const LARGE_BYTES: usize = 32 * 1024;
/// Most pairs of a form that are set in a table.
const PAIRS_MAX: usize = 1000;

impl Body {
    pub(super) fn new(call: &HeldCall) -> Self {
        let bytes = &*call.body;
        let values = |name: &str| -> Vec<&Field> {
            let named = |field: &&Field| &*field.name == name;
            call.fields.iter().filter(named).collect()
        };
        let types = values("content-type");
        let kind = types
            .first()
            .map(|field| String::from_utf8_lossy(&field.value).to_lowercase());
        let mut body = Self {
            bytes: bytes.len(),
            size: size(bytes.len()),
            sha256: sha256(bytes),
            content_type: types.first().map(|field| Text::bytes(&field.value)),
            large: bytes.len() > LARGE_BYTES,
            ..Self::default()
        };
        if types.len() > 1 {
            body.note("It has more than one Content-Type: readers differ on which counts.");
        }
        let codings = values("content-encoding");
        match readable(bytes, kind.as_deref(), &codings) {
            Ok(text) => body.read(text, kind.as_deref().unwrap_or_default()),
            Err(why) => {
                body.note(&why);
                body.hex = dump(bytes);
            }
        }
        body
    }

    fn read(&mut self, text: &str, kind: &str) {
        self.text = Some(Text::lines(text));
        let media_type = kind.split(';').next().unwrap_or_default().trim();
        let is_json = media_type == "application/json" || media_type.ends_with("+json");
        match json::lay_out(text) {
            Some(laid) => {
                if !is_json {
                    self.note("It is JSON, and its Content-Type does not say so.");
                }
                for key in &laid.twice {
                    self.note(&format!(
                        "The key “{key}” stands twice in one object: readers differ on which value counts."
                    ));
                }
                self.json = Some(Text::lines(&laid.text));
            }
            None if is_json => {
                self.note("It says that it is JSON, and can’t be laid out as such: malformed, or nested too deeply.");
            }
            None => {}
        }
        if media_type == "application/x-www-form-urlencoded" {
            self.decode(text);
        }
    }

    fn decode(&mut self, text: &str) {
        let pairs: Vec<&str> = text.split('&').filter(|pair| !pair.is_empty()).collect();
        if pairs.len() > PAIRS_MAX {
            return self.note("It has too many pairs for a table.");
        }
        let mut names = HashSet::new();
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name, Plus::Space), decoded(value, Plus::Space));
            if !names.insert(name.clone()) {
                self.note(&format!(
                    "The name “{}” stands twice: readers differ on which value counts.",
                    String::from_utf8_lossy(&name)
                ));
            }
            self.form.push(Pair {
                name: Text::bytes(&name),
                value: Text::bytes(&value),
            });
        }
    }

    fn note(&mut self, text: &str) {
        let text = Text::line(text);
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}

/// The text that the bytes are, or why they are none.
fn readable<'b>(
    bytes: &'b [u8],
    kind: Option<&str>,
    codings: &[&Field],
) -> Result<&'b str, String> {
    let coding = codings
        .iter()
        .find(|field| !field.value.eq_ignore_ascii_case(b"identity"));
    if let Some(coding) = coding {
        return Err(format!(
            "It is encoded ({}) and is not decoded here: what the backend will read in it can’t be shown.",
            String::from_utf8_lossy(&coding.value)
        ));
    }
    let charset = kind.and_then(|kind| {
        let (_, charset) = kind.split_once("charset=")?;
        let charset = charset.split(';').next().unwrap_or_default();
        Some(charset.trim().trim_matches('"').to_owned())
    });
    if let Some(charset) =
        charset.filter(|charset| !matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii"))
    {
        // In these, ASCII means what it does elsewhere.
        let harmless = charset.starts_with("iso-8859-") || charset.starts_with("windows-125");
        if !(harmless && bytes.is_ascii()) {
            return Err(format!(
                "It is written in the character set {charset}, which is not read here."
            ));
        }
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "It is not text (UTF-8).".to_owned())?;
    if has_too_many_marks(text) {
        return Err(
            "It has too many characters that can’t be seen to be shown as text.".to_owned(),
        );
    }
    Ok(text)
}

/// What a plus sign stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plus {
    /// As forms have it.
    Space,
    /// As paths have it.
    Plus,
}

/// Percent-decoded once; what is no valid escape stays.
pub(super) fn decoded(text: &str, plus: Plus) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |at: usize| {
            bytes
                .get(at)
                .and_then(|byte| char::from(*byte).to_digit(16))
        };
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
                continue;
            }
            (b'+', _, _) if plus == Plus::Space => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    out
}

/// Sixteen bytes a line: where, as hex, and as ASCII.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(16) * 80);
    for (line, chunk) in bytes.chunks(16).enumerate() {
        // Memory takes it.
        let _ = write!(text, "{:08x} ", line * 16);
        for at in 0..16 {
            let gap = if at == 8 { "  " } else { " " };
            text.push_str(gap);
            match chunk.get(at) {
                Some(byte) => text.push_str(&hex(&[*byte])),
                None => text.push_str("  "),
            }
        }
        text.push_str("  ");
        text.extend(chunk.iter().map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        }));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::decision::GrantUse;
    use crate::policy::name::{RouteId, ToolName};

    fn body(fields: &[(&str, &str)], bytes: &[u8]) -> Body {
        let fields = fields.iter().map(|(name, value)| Field {
            name: (*name).into(),
            value: value.as_bytes().into(),
        });
        Body::new(&HeldCall {
            tool: ToolName::parse("crm").unwrap(),
            route: RouteId::parse("r").unwrap(),
            upstream: [0; 32],
            method: "POST".into(),
            authority: "gate".into(),
            target: "/".into(),
            fields: fields.collect(),
            body: bytes.into(),
            grant: GrantUse::OnUse,
        })
    }

    fn plain(text: &Text) -> String {
        text.pieces
            .iter()
            .map(|piece| piece.text.as_str())
            .collect()
    }

    fn notes(body: &Body) -> String {
        body.notes.iter().map(plain).collect::<Vec<_>>().join("\n")
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn json_is_laid_out_beside_its_exact_bytes() {
        let shown = body(&[JSON], b"{\"amount\":1.0,\"to\":\"a\xe2\x80\xaeb\"}");
        assert_eq!(
            plain(shown.json.as_ref().unwrap()),
            "{\n  \"amount\": 1.0,\n  \"to\": \"aU+202Eb\"\n}"
        );
        assert_eq!(
            plain(shown.text.as_ref().unwrap()),
            "{\"amount\":1.0,\"to\":\"aU+202Eb\"}"
        );
        assert!(shown.notes.is_empty());
    }

    #[test]
    fn what_readers_could_read_in_two_ways_is_said() {
        let twice = body(&[JSON], br#"{"amount":1,"amount":1000}"#);
        assert!(notes(&twice).contains("“amount” stands twice"));
        let form = body(
            &[("content-type", "application/x-www-form-urlencoded")],
            b"to=a&to=%62%00+c&%ff",
        );
        assert!(notes(&form).contains("“to” stands twice"));
        let pairs: Vec<_> = form
            .form
            .iter()
            .map(|pair| (plain(&pair.name), plain(&pair.value)))
            .collect();
        assert_eq!(pairs[1], ("to".to_owned(), "bU+0000 c".to_owned()));
        assert_eq!(pairs[2].0, "(not text; as hex) ff");
        assert!(notes(&body(&[JSON, JSON], b"1")).contains("more than one Content-Type"));
        assert!(
            notes(&body(&[("content-type", "text/plain")], b"[1]")).contains("does not say so")
        );
        assert!(notes(&body(&[JSON], b"{\"a\":")).contains("can’t be laid out"));
    }

    #[test]
    fn what_can_not_be_read_is_said_to_be_so_and_shown_as_hex() {
        let binary = body(&[JSON], b"{\"a\":\"\xff\"}<b>");
        assert!(notes(&binary).contains("not text"));
        assert_eq!(
            binary.hex,
            "00000000  7b 22 61 22 3a 22 ff 22  7d 3c 62 3e              {\"a\":\".\"}<b>\n"
        );
        assert!(binary.text.is_none() && binary.json.is_none());
        let packed = body(&[JSON, ("content-encoding", "gzip")], b"{}");
        assert!(notes(&packed).contains("(gzip)") && packed.text.is_none());
        let utf16 = body(
            &[("content-type", "application/json; charset=\"UTF-16\"")],
            b"{}",
        );
        assert!(notes(&utf16).contains("utf-16") && utf16.text.is_none());
        let latin = body(&[("content-type", "text/plain;charset=iso-8859-1")], b"abc");
        assert!(latin.text.is_some());
        let marks = body(&[], "\u{200b}".repeat(30_000).as_bytes());
        assert!(notes(&marks).contains("too many characters") && !marks.hex.is_empty());
    }

    #[test]
    fn a_large_body_is_folded_and_whole() {
        let large = body(&[], &vec![b'x'; 1024 * 1024]);
        assert!(large.large);
        assert_eq!(plain(large.text.as_ref().unwrap()).len(), 1024 * 1024);
        let bytes: Vec<u8> = (0..1024 * 1024_u32)
            .map(|at| at.to_le_bytes()[0] | 0x80)
            .collect();
        assert_eq!(body(&[], &bytes).hex.lines().count(), 65536);
    }
}
