//! Heads and framing of HTTP/1.1 before hyper sees them: what comes is judged the same, however it is cut into pieces.

use toolgate::serve::heads::{Judged, Then, Wire};

/// What passed of all, and whether the connection goes on, waits, refuses or breaks.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    passed: usize,
    end: &'static str,
}

fn judged(pieces: &[&[u8]]) -> Verdict {
    let (mut wire, mut held, mut passed) = (Wire::default(), Vec::new(), 0);
    for piece in pieces {
        held.extend_from_slice(piece);
        let Judged { passed: now, then } = wire.judge(&held);
        assert!(now <= held.len(), "more passes than came");
        held.drain(..now);
        passed += now;
        let end = match then {
            Then::Go => continue,
            Then::Wait => "wait",
            Then::Refuse(_) => "refuse",
            Then::Break(_) => "break",
        };
        return Verdict { passed, end };
    }
    Verdict { passed, end: "go" }
}

/// The first byte says where it is cut: into pieces of that length.
pub fn run(data: &[u8]) {
    let [length, bytes @ ..] = data else { return };
    let whole = judged(&[bytes]);
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*length).max(1)).collect();
    let cut = judged(&pieces);
    assert_eq!(whole.end, cut.end, "cut otherwise, it is judged otherwise");
    // In front of what is torn, as much passes as had come.
    if matches!(whole.end, "go" | "wait") {
        assert_eq!(whole, cut, "cut otherwise, something else passes");
    }
    // What passed needs nothing of what did not.
    if whole.end == "go" {
        let again = judged(&[&bytes[..whole.passed]]);
        assert_eq!(again, whole, "what passed does not stand alone");
    }
}
