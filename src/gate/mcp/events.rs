//! Server-sent events, read as the standard has them, so that each can be looked at before it goes on.
//!
//! What goes on is written anew: one line end, one blank line behind each event. Comments go on at once, because they keep
//! connections alive. What does not end in a blank line is no event, and goes nowhere.

/// A stream in pieces, cut into lines and lines into events.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    /// A carriage return was the last byte: a line feed behind it ends the same line.
    returned: bool,
    begun: bool,
    event: Event,
}

/// One event, or a comment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its lines, without their ends; those of `data` apart.
    other: Vec<Vec<u8>>,
    data: Option<Vec<u8>>,
    bytes: usize,
}

/// An event longer than is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Events {
    /// Takes the next piece, and hands on what is complete.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Event)) -> Result<(), TooLong> {
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.returned);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.returned = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    if let Some(event) = self.take(line) {
                        each(event);
                    }
                }
                byte => self.line.push(byte),
            }
            if self.line.len() + self.event.bytes > EVENT_BYTES_MAX {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    fn take(&mut self, mut line: Vec<u8>) -> Option<Event> {
        if !std::mem::replace(&mut self.begun, true)
            && let Some(rest) = line.strip_prefix(b"\xef\xbb\xbf")
        {
            line = rest.to_vec();
        }
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return (event.bytes > 0).then_some(event);
        }
        if line.starts_with(b":") {
            return Some(Event {
                bytes: line.len(),
                other: vec![line],
                data: None,
            });
        }
        self.event.bytes += line.len() + 1;
        let data = match line.strip_prefix(b"data") {
            Some([]) => Some(&[][..]),
            Some([b':', b' ', value @ ..] | [b':', value @ ..]) => Some(value),
            Some(_) | None => None,
        };
        match data {
            None => self.event.other.push(line),
            Some(value) => match &mut self.event.data {
                None => self.event.data = Some(value.to_vec()),
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            },
        }
        None
    }
}

impl Event {
    /// What it carries; `None`: nothing.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref().filter(|data| !data.is_empty())
    }

    /// Carries this instead.
    pub fn carry(&mut self, data: String) {
        self.data = Some(data.into_bytes());
    }

    /// Appends it as it goes on.
    pub fn write(&self, out: &mut Vec<u8>) {
        for line in &self.other {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        if let Some(data) = &self.data {
            for line in data.split(|byte| *byte == b'\n') {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(line);
                out.push(b'\n');
            }
        }
        let comment = self.data.is_none() && self.other.iter().all(|line| line.starts_with(b":"));
        if !comment {
            out.push(b'\n');
        }
    }
}

/// An event that is looked at is kept whole until its end.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(pieces: &[&[u8]]) -> String {
        let (mut events, mut out) = (Events::default(), Vec::new());
        for piece in pieces {
            events.push(piece, |event| event.write(&mut out)).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_line_end_is_one_and_what_has_no_end_goes_nowhere() {
        let expected = "event: message\nid: 7\ndata: {\"a\":1}\n\ndata: x\ndata: y\n\n";
        for ends in ["\n", "\r\n", "\r"] {
            let text = "\u{feff}event: message\nid: 7\ndata: {\"a\":1}\n\n\ndata:x\ndata: y\n\ndata: lost\n".replace('\n', ends);
            assert_eq!(passed(&[text.as_bytes()]), expected, "{ends:?}");
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(passed(&bytes), expected, "{ends:?}, a byte at a time");
        }
    }

    #[test]
    fn comments_go_on_at_once_and_priming_events_stay() {
        assert_eq!(passed(&[b":\r\n"]), ":\n");
        assert_eq!(passed(&[b"id: 1\ndata:\n\n"]), "id: 1\ndata: \n\n");
        assert_eq!(passed(&[b"retry: 5\n\n"]), "retry: 5\n\n");
    }

    #[test]
    fn an_event_without_end_is_not_kept_for_ever() {
        let mut events = Events::default();
        let piece = vec![b'a'; 1 << 20];
        let pushed = (0..9).map(|_| events.push(&piece, |_| {}));
        assert!(pushed.last().unwrap().is_err());
        let mut events = Events::default();
        let line = [b"data: ".as_slice(), &piece, b"\n"].concat();
        let pushed = (0..9).map(|_| events.push(&line, |_| {}));
        assert!(pushed.last().unwrap().is_err());
    }
}
