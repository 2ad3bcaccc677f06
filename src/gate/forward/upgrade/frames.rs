//! Frames of one direction (RFC 6455 section 5), counted and judged by their heads as the bytes go by.
//!
//! It refuses to look into payloads, and to mend: bytes behind a head that makes no sense are never passed on, because
//! whoever reads on would read what nobody judged.

use super::handshake::Extensions;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// Every frame of its is masked.
    Agent,
    /// None of its is.
    Backend,
}

/// What has been seen of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    sender: Sender,
    extensions: Extensions,
    state: State,
    /// A fragmented message is open.
    open: bool,
    count: u64,
    /// A Close frame was begun: no data comes after it.
    closing: bool,
}

/// A frame that makes no sense. The bytes before it are sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonsense {
    /// Bytes of the chunk that were judged and may pass.
    pub sound: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a frame.
    Boundary,
    /// Behind the first byte.
    Length { control: bool },
    /// Within the bytes of an extended length: read so far, left, and how many there are in all.
    Extended { value: u64, left: u8, all: u8 },
    /// Within the masking key.
    Key { left: u8, payload: u64 },
    /// Within the payload; never 0.
    Payload { left: u64 },
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASK: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PONG: u8 = 10;
/// Longest payload of a control frame, and of any frame without extended length.
const SHORT_MAX: u8 = 125;
const KEY_BYTES: u8 = 4;

impl Frames {
    pub(super) fn new(sender: Sender, extensions: Extensions) -> Self {
        Self {
            sender,
            extensions,
            state: State::Boundary,
            open: false,
            count: 0,
            closing: false,
        }
    }

    /// Frames whose head was whole.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether a Close frame was seen.
    pub(super) fn closing(&self) -> bool {
        self.closing
    }

    /// Whether a frame of someone else could stand here.
    pub(super) fn at_boundary(&self) -> bool {
        matches!(self.state, State::Boundary)
    }

    /// Reads on.
    ///
    /// # Errors
    /// [`Nonsense`]: nothing may be read after it.
    pub(super) fn read(&mut self, chunk: &[u8]) -> Result<(), Nonsense> {
        // Where the frame under way began in this chunk: a head that makes no sense takes its first bytes with it.
        let mut began = None;
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            if let State::Payload { left } = self.state {
                let rest = (chunk.len() - at) as u64;
                let step = left.min(rest);
                // At most the chunk's length, which is a usize.
                at += usize::try_from(step).unwrap_or(chunk.len() - at);
                self.state = match left - step {
                    0 => State::Boundary,
                    left => State::Payload { left },
                };
                continue;
            }
            if self.at_boundary() {
                began = Some(at);
            }
            let Some(state) = self.head(byte) else {
                // None of it was passed on yet: whoever reads on stands before it.
                if began.is_some() {
                    self.state = State::Boundary;
                }
                let sound = began.unwrap_or_default();
                return Err(Nonsense { sound });
            };
            self.state = state;
            at += 1;
        }
        Ok(())
    }

    /// One byte of a head. `None`: it makes no sense.
    fn head(&mut self, byte: u8) -> Option<State> {
        match self.state {
            State::Boundary => self.first(byte),
            State::Length { control } => {
                if (byte & MASK != 0) != (self.sender == Sender::Agent) {
                    return None;
                }
                match byte & !MASK {
                    short @ 0..=SHORT_MAX => Some(self.sized(u64::from(short))),
                    _ if control => None,
                    126 => Some(extended(2)),
                    _ => Some(extended(8)),
                }
            }
            State::Extended { value, left, all } => {
                let value = value << 8 | u64::from(byte);
                match left - 1 {
                    0 if is_shortest(value, all) => Some(self.sized(value)),
                    0 => None,
                    left => Some(State::Extended { value, left, all }),
                }
            }
            State::Key { left, payload } => Some(match left - 1 {
                0 => self.payload(payload),
                left => State::Key { left, payload },
            }),
            State::Payload { .. } => None,
        }
    }

    fn first(&mut self, byte: u8) -> Option<State> {
        let (fin, opcode) = (byte & FIN != 0, byte & OPCODE);
        if byte & RESERVED != 0 && self.extensions == Extensions::None {
            return None;
        }
        match opcode {
            CONTINUATION if self.open => self.open = !fin,
            TEXT | BINARY if !self.open => self.open = !fin,
            CLOSE..=PONG if fin => {
                self.closing |= opcode == CLOSE;
                return Some(State::Length { control: true });
            }
            _ => return None,
        }
        // "must not send any more data frames after sending a Close frame" (section 5.5.1).
        (!self.closing).then_some(State::Length { control: false })
    }

    /// The length is known.
    fn sized(&mut self, payload: u64) -> State {
        match self.sender {
            Sender::Agent => State::Key {
                left: KEY_BYTES,
                payload,
            },
            Sender::Backend => self.payload(payload),
        }
    }

    /// The head is whole.
    fn payload(&mut self, payload: u64) -> State {
        self.count += 1;
        match payload {
            0 => State::Boundary,
            left => State::Payload { left },
        }
    }
}

fn extended(bytes: u8) -> State {
    State::Extended {
        value: 0,
        left: bytes,
        all: bytes,
    }
}

/// Lengths are written in the fewest bytes, and the longest has its highest bit clear (section 5.2).
fn is_shortest(value: u64, bytes: u8) -> bool {
    if bytes == 2 {
        value > u64::from(SHORT_MAX)
    } else {
        value > u64::from(u16::MAX) && value >> 63 == 0
    }
}

/// A Close frame with a status code and nothing else; towards the backend it is masked.
pub(super) fn close(code: u16, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = vec![FIN | CLOSE];
    let code = code.to_be_bytes();
    match mask {
        None => frame.extend([2, code[0], code[1]]),
        Some(key) => {
            frame.push(MASK | 2);
            frame.extend(key);
            frame.extend([code[0] ^ key[0], code[1] ^ key[1]]);
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agent() -> Frames {
        Frames::new(Sender::Agent, Extensions::None)
    }

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..=125 => frame.push(MASK | u8::try_from(short).unwrap()),
            middle @ 126..=0xffff => {
                frame.push(MASK | 126);
                frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
            }
            long => {
                frame.push(MASK | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.extend(payload);
        frame
    }

    proptest! {
        #[test]
        fn frames_are_counted_alike_however_the_bytes_are_cut(
            sizes in proptest::collection::vec(0usize..70_000, 1..6),
            cut in 1usize..4096,
        ) {
            let stream: Vec<u8> = sizes.iter().flat_map(|size| masked(FIN | BINARY, &vec![0; *size])).collect();
            let mut frames = agent();
            for chunk in stream.chunks(cut) {
                prop_assert_eq!(frames.read(chunk), Ok(()));
            }
            prop_assert_eq!(frames.count(), sizes.len() as u64);
            prop_assert!(frames.at_boundary());
        }

        #[test]
        fn no_bytes_make_the_reader_fail_otherwise_than_by_saying_so(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Err(Nonsense { sound }) = agent().read(&bytes) {
                prop_assert!(sound < bytes.len());
            }
        }
    }

    #[test]
    fn an_agents_frame_that_makes_no_sense_is_found_and_what_stands_before_it_is_sound() {
        let cases: [(&str, Vec<u8>); 10] = [
            ("unmasked", vec![FIN | TEXT, 2, b'h', b'i']),
            ("reserved bit", masked(FIN | 0x40 | TEXT, b"")),
            ("reserved opcode", masked(FIN | 3, b"")),
            ("reserved control opcode", masked(FIN | 11, b"")),
            ("fragmented control", masked(9, b"")),
            ("long control", masked(FIN | 9, &[0; 126])),
            ("continuation of nothing", masked(FIN | CONTINUATION, b"")),
            (
                "length in too many bytes",
                [vec![FIN | TEXT, MASK | 126, 0, 5], vec![0; 9]].concat(),
            ),
            (
                "long length in too many bytes",
                [
                    vec![FIN | TEXT, MASK | 127, 0, 0, 0, 0, 0, 0, 1, 0],
                    vec![0; 9],
                ]
                .concat(),
            ),
            (
                "highest bit of the length",
                [
                    vec![FIN | TEXT, MASK | 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
                    vec![0; 9],
                ]
                .concat(),
            ),
        ];
        let before = masked(FIN | TEXT, b"sound");
        for (what, wrong) in cases {
            let chunk = [before.clone(), wrong].concat();
            let mut frames = agent();
            let nonsense = Nonsense {
                sound: before.len(),
            };
            assert_eq!(frames.read(&chunk), Err(nonsense), "{what}");
            assert_eq!(frames.count(), 1, "{what}");
        }
        let twice = [masked(TEXT, b"a"), masked(FIN | TEXT, b"b")].concat();
        assert!(agent().read(&twice).is_err(), "a message within a message");
        let after = [masked(FIN | CLOSE, b""), masked(FIN | TEXT, b"b")].concat();
        assert!(agent().read(&after).is_err(), "data behind a close");
    }

    #[test]
    fn a_backends_frame_is_not_masked_and_extensions_may_use_reserved_bits() {
        let mut backend = Frames::new(Sender::Backend, Extensions::Agreed);
        assert_eq!(backend.read(&[FIN | 0x40 | TEXT, 2, b'h', b'i']), Ok(()));
        assert_eq!(backend.read(&[TEXT, 1, b'a', FIN | 9, 0, FIN, 0]), Ok(()));
        assert_eq!(backend.count(), 4);
        assert!(backend.read(&masked(FIN | TEXT, b"")).is_err());
    }

    #[test]
    fn our_own_close_is_one_frame_either_way() {
        for (sender, mask) in [(Sender::Backend, None), (Sender::Agent, Some([9, 8, 7, 6]))] {
            let mut frames = Frames::new(sender, Extensions::None);
            assert_eq!(frames.read(&close(1001, mask)), Ok(()));
            assert!(frames.closing() && frames.at_boundary() && frames.count() == 1);
        }
    }
}
