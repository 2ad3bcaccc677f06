//! Open sockets, from one process to another (`SCM_RIGHTS`, unix(7)).

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Sockets of one message; the kernel takes 253.
const BATCH: usize = 64;
const SPACE: usize = rustix::cmsg_space!(ScmRights(BATCH));

/// Sends them all, in order.
pub(super) fn send(stream: &UnixStream, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    for batch in sockets.chunks(BATCH) {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(batch)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        retry_on_intr(|| {
            // A message needs a byte to travel with.
            let byte = [IoSlice::new(b".")];
            sendmsg(stream, &byte, &mut control, SendFlags::NOSIGNAL)
        })?;
    }
    Ok(())
}

/// Receives `count` of them, in order.
pub(super) fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    while sockets.len() < count {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let message = retry_on_intr(|| {
            let mut into = [IoSliceMut::new(&mut byte)];
            recvmsg(stream, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        let before = sockets.len();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = part {
                sockets.extend(received);
            }
        }
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if message.flags.contains(ReturnFlags::CTRUNC) || sockets.len() == before {
            let why = "not all sockets could be received; is the limit of file descriptors met?";
            return Err(io::Error::other(why));
        }
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    #[test]
    fn more_sockets_than_one_message_takes_arrive_in_order() {
        let (here, there) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sockets = vec![listener.as_fd(); BATCH];
        sockets.push(other.as_fd());
        send(&here, &sockets).unwrap();
        let received = receive(&there, BATCH + 1).unwrap();
        let last = TcpListener::from(received.into_iter().next_back().unwrap());
        assert_eq!(last.local_addr().unwrap(), other.local_addr().unwrap());
    }

    #[test]
    fn an_end_before_all_have_arrived_is_an_error() {
        let (here, there) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        send(&here, &[listener.as_fd()]).unwrap();
        drop(here);
        assert!(receive(&there, 2).is_err());
    }
}
