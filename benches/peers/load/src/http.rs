//! As much of HTTP/1.1 as the load needs: where a message ends, and the status of an answer.

/// Where `needle` begins.
pub fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len())
        .position(|window| window == needle)
}

/// How a message goes on after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Length(usize),
    Chunked,
}

/// The head's bytes with its empty line, and the body it announces; none where the head is not whole.
pub fn head(text: &[u8]) -> Option<(&[u8], Body)> {
    let end = find(text, b"\r\n\r\n")? + 4;
    let head = &text[..end];
    let mut body = Body::Length(0);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let value = line[colon + 1..].trim_ascii();
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok()?.parse().ok()?;
            body = Body::Length(length);
        } else if line[..colon].eq_ignore_ascii_case(b"transfer-encoding") {
            body = Body::Chunked;
        }
    }
    Some((head, body))
}

/// The status and the length of the answer that `text` begins with, once it is there whole.
pub fn answer(text: &[u8]) -> Option<(u16, usize)> {
    let (head, body) = head(text)?;
    let status = status(head)?;
    if status < 200 {
        return answer(&text[head.len()..]).map(|(status, length)| (status, length + head.len()));
    }
    let length = match body {
        Body::Length(length) => head.len() + length,
        Body::Chunked => head.len() + find(&text[head.len()..], b"0\r\n\r\n")? + 5,
    };
    (text.len() >= length).then_some((status, length))
}

/// The status that a head says.
pub fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}
