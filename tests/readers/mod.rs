//! How backends read a path: a model of each way there is, none of them the gate's.
//!
//! The gate's promise is that nothing it forwards is read by any of them as something else than what it decided on.
//! The models are written from what those servers document or were caught doing, share no code with the gate, and are
//! as credulous as the worst of their kind. They stand outside the rings because several of them use these.

#![allow(dead_code, reason = "each user of this file needs a part of it")]

/// The path that a reader takes a request-target for. `None`: it refuses the target.
pub type Reader = fn(&[u8]) -> Option<Vec<u8>>;

/// Every model, by name.
pub const READERS: [(&str, Reader); 24] = [
    ("plain", plain),
    ("decodes once", once),
    ("decodes twice", twice),
    ("decodes, then resolves dots", decode_resolve),
    ("resolves dots, then decodes", resolve_decode),
    ("decodes twice, then resolves dots", twice_resolve),
    ("merges slashes", merging),
    ("takes a backslash for a slash", backslash),
    ("Tomcat", tomcat),
    ("Jetty", jetty),
    ("ignores case", caseless),
    ("Windows files", windows),
    ("ends at NUL", c_text),
    ("IIS", iis),
    ("takes overlong UTF-8", overlong),
    ("folds compatible letters", folding),
    ("nginx", nginx),
    ("Apache httpd", apache),
    ("Rails", rails),
    ("WSGI", wsgi),
    ("Go", go),
    ("WHATWG URL", whatwg),
    ("reads an authority", authority),
    ("all at once, over and over", credulous),
];

/// The models by which a forwarded target lies outside of `inside` (lower case, with slashes at both ends), with what
/// they read.
pub fn escapes(target: &[u8], inside: &str) -> Vec<(&'static str, String)> {
    READERS
        .iter()
        .filter_map(|(name, reader)| {
            let path = reader(target)?;
            let shown = || String::from_utf8_lossy(&path).into_owned();
            (!path.starts_with(inside.as_bytes())).then(|| (*name, shown()))
        })
        .collect()
}

/// The models that take a target for something below `place`.
pub fn reaching(target: &[u8], place: &str) -> Vec<&'static str> {
    let is_there = |reader: &Reader| reader(target).is_some_and(|path| is_below(&path, place));
    let found = READERS.iter().filter(|(_, reader)| is_there(reader));
    found.map(|(name, _)| *name).collect()
}

fn is_below(path: &[u8], place: &str) -> bool {
    let rest = path.strip_prefix(place.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn plain(target: &[u8]) -> Option<Vec<u8>> {
    Some(before(target, b"?").to_vec())
}

fn once(target: &[u8]) -> Option<Vec<u8>> {
    Some(decode(before(target, b"?")))
}

fn twice(target: &[u8]) -> Option<Vec<u8>> {
    Some(decode(&once(target)?))
}

fn decode_resolve(target: &[u8]) -> Option<Vec<u8>> {
    Some(resolve(&once(target)?))
}

fn resolve_decode(target: &[u8]) -> Option<Vec<u8>> {
    Some(decode(&resolve(before(target, b"?"))))
}

/// Two servers behind each other, each of which decodes; also Apache 2.4.50 alone, mended for CVE-2021-41773 by half.
fn twice_resolve(target: &[u8]) -> Option<Vec<u8>> {
    Some(resolve(&twice(target)?))
}

fn merging(target: &[u8]) -> Option<Vec<u8>> {
    Some(resolve(&merge(&once(target)?)))
}

fn backslash(target: &[u8]) -> Option<Vec<u8>> {
    Some(resolve(&merge(&slashed(&once(target)?))))
}

/// Parameters go before anything is decoded, dots are resolved after: `..;` is a dot segment.
fn tomcat(target: &[u8]) -> Option<Vec<u8>> {
    let path = each(before(target, b"?"), |segment| {
        before(segment, b";").to_vec()
    });
    let path = decode(&path);
    (!path.contains(&0)).then(|| resolve(&merge(&slashed(&path))))
}

/// Query, fragment and parameters once more, of what was decoded.
fn jetty(target: &[u8]) -> Option<Vec<u8>> {
    let path = once(target)?;
    let path = each(before(&path, b"?#"), |segment| {
        before(segment, b";").to_vec()
    });
    Some(resolve(&merge(&path)))
}

fn caseless(target: &[u8]) -> Option<Vec<u8>> {
    Some(decode_resolve(target)?.to_ascii_lowercase())
}

/// Names end before trailing dots and spaces and at a stream's colon; case is nothing; dots alone are steps upwards.
fn windows(target: &[u8]) -> Option<Vec<u8>> {
    let path = each(&slashed(&once(target)?), |segment| {
        let trimmed = trim(segment, b". ");
        match segment.first() {
            Some(b'.') if trimmed.is_empty() => {
                let dots = segment.iter().filter(|byte| **byte == b'.').count();
                vec![b'.'; dots.min(2)]
            }
            _ => before(trimmed, b":").to_vec(),
        }
    });
    Some(resolve(&merge(&path)).to_ascii_lowercase())
}

/// Texts of C, and scripts that read one line: the path ends at the first NUL or line feed.
fn c_text(target: &[u8]) -> Option<Vec<u8>> {
    let path = once(target)?;
    Some(resolve(before(&path, b"\0\r\n")))
}

/// `%uXXXX`, overlong UTF-8, letters of other alphabets fitted to ASCII, a plus for a space, and files of Windows.
fn iis(target: &[u8]) -> Option<Vec<u8>> {
    let path = decode(&wide(before(target, b"?")));
    let path: Vec<u8> = fold(&lenient(&path)).into_bytes();
    let path: Vec<u8> = path
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    windows(&encoded(&path))
}

fn overlong(target: &[u8]) -> Option<Vec<u8>> {
    let path: String = lenient(&once(target)?).into_iter().collect();
    Some(resolve(&merge(path.as_bytes())))
}

/// What normalises names after it decoded them (NFKC, without what is not seen): full-width dots are dots.
fn folding(target: &[u8]) -> Option<Vec<u8>> {
    let path = String::from_utf8_lossy(&once(target)?).into_owned();
    let path = fold(&path.chars().collect::<Vec<_>>());
    Some(resolve(&merge(&slashed(path.as_bytes()))))
}

/// `ngx_http_parse_complex_uri`: ends at `?` and `#`, decodes once, merges slashes and resolves dots meanwhile; refuses
/// NUL, broken escapes and what leads above the root.
fn nginx(target: &[u8]) -> Option<Vec<u8>> {
    let path = strict(before(target, b"?#"))?;
    (!path.contains(&0) && !leaves_root(&path)).then(|| resolve(&merge(&path)))
}

/// Encoded slashes are not found, NUL and broken escapes refused, what leads above the root too; dots resolved last.
fn apache(target: &[u8]) -> Option<Vec<u8>> {
    let raw = before(target, b"?#");
    let path = strict(raw)?;
    let hidden = path.iter().filter(|byte| **byte == b'/').count()
        != raw.iter().filter(|byte| **byte == b'/').count();
    (!hidden && !path.contains(&0) && !leaves_root(&path)).then(|| resolve(&merge(&path)))
}

/// Squeezes slashes, takes no slash at the end, and an ending for a format.
fn rails(target: &[u8]) -> Option<Vec<u8>> {
    let path = merge(before(target, b"?"));
    let path = path.strip_suffix(b"/").unwrap_or(&path);
    let name = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let format = path[name..].iter().rposition(|byte| *byte == b'.');
    let end = format
        .filter(|at| *at > 1)
        .map_or(path.len(), |at| name + at);
    Some(decode(&path[..end]))
}

/// `PATH_INFO`: decoded once, dots as they are; frameworks then take slashes off the beginning, one too many.
fn wsgi(target: &[u8]) -> Option<Vec<u8>> {
    let path = once(target)?;
    let start = path.iter().position(|byte| *byte != b'/');
    let mut whole = b"/".to_vec();
    whole.extend_from_slice(start.map_or(&b""[..], |at| &path[at..]));
    Some(whole)
}

/// `path.Clean` of what was decoded, a slash at the end kept.
fn go(target: &[u8]) -> Option<Vec<u8>> {
    let path = strict(before(target, b"?"))?;
    Some(resolve(&merge(&path)))
}

/// Tabs and line ends are not there at all, a backslash is a slash, `%2e` a dot, and a fragment ends it.
fn whatwg(target: &[u8]) -> Option<Vec<u8>> {
    let seen: Vec<u8> = before(target, b"?#")
        .iter()
        .copied()
        .filter(|byte| !b"\t\r\n".contains(byte))
        .collect();
    let path = each(&slashed(&seen), |segment| match &decode(segment)[..] {
        dots @ (b"." | b"..") => dots.to_vec(),
        _ => segment.to_vec(),
    });
    Some(decode(&resolve(&path)))
}

/// A reference that is resolved: what follows `//`, or a scheme, is somebody's name and not a path.
fn authority(target: &[u8]) -> Option<Vec<u8>> {
    let target = slashed(before(target, b"?#"));
    let scheme = target.windows(3).position(|it| it == b"://");
    let rest = match (scheme, target.strip_prefix(b"//")) {
        (Some(at), _) if !target[..at].contains(&b'/') => &target[at + 3..],
        (_, Some(rest)) => rest,
        _ => return Some(resolve(&target)),
    };
    let path = rest.iter().position(|byte| *byte == b'/');
    Some(resolve(path.map_or(b"/", |at| &rest[at..])))
}

/// The worst of all worlds: everything above, again and again until nothing changes.
fn credulous(target: &[u8]) -> Option<Vec<u8>> {
    let mut path = before(target, b"?").to_vec();
    for _ in 0..12 {
        let bytes = decode(&wide(&path));
        let text = fold(&lenient(&bytes));
        let seen: Vec<u8> = text
            .bytes()
            .filter(|byte| !b"\t\r\n".contains(byte))
            .collect();
        if seen == path {
            break;
        }
        path = seen;
    }
    let path = each(&slashed(before(&path, b"?#\0")), |segment| {
        let cut = before(segment, b";:");
        match trim(cut, b" \x0b\x0c\x85") {
            dots @ (b"." | b"..") => dots.to_vec(),
            name if name.iter().all(|byte| *byte == b'.') && name.len() > 2 => b"..".to_vec(),
            name => trim(name, b". ").to_vec(),
        }
    });
    Some(resolve(&merge(&path)).to_ascii_lowercase())
}

/// What stands before the first of these bytes.
fn before<'t>(text: &'t [u8], ends: &[u8]) -> &'t [u8] {
    let end = text.iter().position(|byte| ends.contains(byte));
    &text[..end.unwrap_or(text.len())]
}

/// Without these bytes at the end.
fn trim<'t>(text: &'t [u8], off: &[u8]) -> &'t [u8] {
    let last = text.iter().rposition(|byte| !off.contains(byte));
    &text[..last.map_or(0, |at| at + 1)]
}

fn each(path: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/').map(change);
    segments.collect::<Vec<_>>().join(&b'/')
}

fn slashed(path: &[u8]) -> Vec<u8> {
    let slash = |byte: &u8| if *byte == b'\\' { b'/' } else { *byte };
    path.iter().map(slash).collect()
}

fn merge(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|byte, before| *byte == b'/' && *before == b'/');
    merged
}

fn digits(text: Option<&[u8]>) -> Option<u32> {
    let text = text.filter(|text| text.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

/// Escapes decoded; what is none stays.
fn decode(text: &[u8]) -> Vec<u8> {
    let (mut decoded, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = text.get(at) {
        let value = digits(text.get(at + 1..at + 3)).filter(|_| byte == b'%');
        decoded.push(value.and_then(|it| u8::try_from(it).ok()).unwrap_or(byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    decoded
}

/// Escapes decoded; `None` where one is broken.
fn strict(text: &[u8]) -> Option<Vec<u8>> {
    let starts = text.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    for (at, _) in starts {
        digits(text.get(at + 1..at + 3))?;
    }
    Some(decode(text))
}

/// `%uXXXX` as the character.
fn wide(text: &[u8]) -> Vec<u8> {
    let (mut read, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = text.get(at) {
        let is_wide = byte == b'%' && matches!(text.get(at + 1), Some(b'u' | b'U'));
        let value = digits(text.get(at + 2..at + 6)).filter(|_| is_wide);
        match value.and_then(char::from_u32) {
            Some(character) => {
                read.extend_from_slice(character.to_string().as_bytes());
                at += 6;
            }
            None => {
                read.push(byte);
                at += 1;
            }
        }
    }
    read
}

/// UTF-8 as those read it who count bytes and check nothing: `C0 AE` is a dot.
fn lenient(bytes: &[u8]) -> Vec<char> {
    let (mut read, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let (length, first) = match byte {
            0xc0..=0xdf => (2, byte & 0x1f),
            0xe0..=0xef => (3, byte & 0x0f),
            0xf0..=0xf7 => (4, byte & 0x07),
            _ => (1, byte),
        };
        let rest = bytes.get(at + 1..at + length);
        let rest = rest.filter(|rest| rest.iter().all(|byte| byte & 0xc0 == 0x80));
        let value = rest.map(|rest| {
            let shifted = |value: u32, byte: &u8| value << 6 | u32::from(byte & 0x3f);
            rest.iter().fold(u32::from(first), shifted)
        });
        read.push(value.and_then(char::from_u32).unwrap_or(char::from(byte)));
        at += if value.is_some() { length } else { 1 };
    }
    read
}

/// Characters that are compatible with ASCII, or look like a delimiter to who fits alphabets, as ASCII; what is not
/// seen left out.
fn fold(text: &[char]) -> String {
    let mut folded = String::with_capacity(text.len());
    for &character in text {
        match character {
            '\u{ff01}'..='\u{ff5e}' => {
                let ascii = u32::from(character) - 0xff01 + 0x21;
                folded.extend(char::from_u32(ascii));
            }
            '\u{2024}' | '\u{fe52}' => folded.push('.'),
            '\u{2025}' => folded.push_str(".."),
            '\u{2026}' => folded.push_str("..."),
            '\u{2044}' | '\u{2215}' | '\u{29f8}' => folded.push('/'),
            '\u{2216}' | '\u{29f5}' | '\u{29f9}' | '\u{fe68}' => folded.push('\\'),
            '\u{fe54}' | '\u{37e}' => folded.push(';'),
            '\u{fe56}' => folded.push('?'),
            '\u{fe5f}' => folded.push('#'),
            '\u{fe6a}' => folded.push('%'),
            '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
                folded.push(' ');
            }
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => {}
            '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' => {}
            other => folded.push(other),
        }
    }
    folded
}

/// Every byte but letters, digits, slashes and dots escaped: for a reader that decodes first.
fn encoded(path: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b'/' | b'.' => vec![*byte],
        _ if byte.is_ascii_alphanumeric() => vec![*byte],
        _ => format!("%{byte:02x}").into_bytes(),
    };
    path.iter().flat_map(escape).collect()
}

/// Dot segments resolved as RFC 3986, 5.2.4 does, never above the root.
fn resolve(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
    for (place, segment) in segments.iter().enumerate() {
        let is_last = place + 1 == segments.len();
        match *segment {
            b"." | b".." => {
                if *segment == b".." {
                    kept.pop();
                }
                if is_last {
                    kept.push(b"");
                }
            }
            name => kept.push(name),
        }
    }
    let mut resolved = Vec::with_capacity(path.len());
    for segment in kept {
        resolved.push(b'/');
        resolved.extend_from_slice(segment);
    }
    if resolved.is_empty() {
        resolved.push(b'/');
    }
    resolved
}

fn leaves_root(path: &[u8]) -> bool {
    let mut depth = 0_i32;
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}
