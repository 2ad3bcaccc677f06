//! Listening sockets, before anything is accepted on them.

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Connections the kernel holds for a listener that is not accepting fast enough; capped by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Bytes of an answer that the kernel takes before any of them is on its way.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// A peer that is gone without a word (half-open) is noticed after `KEEPALIVE_IDLE + 4 * KEEPALIVE_INTERVAL` even in
/// the middle of a long answer, where no other timeout runs.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 4;

/// One listener on `address`, for the control runtime.
///
/// # Errors
/// What the system says: address in use, not permitted, not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    open(address, Sharing::Sole)
}

/// `count` listeners on one address, between which the kernel spreads connections (`SO_REUSEPORT`). With port 0 the
/// first is given a port and the others join it.
///
/// # Errors
/// What the system says: address in use, not permitted, not ours.
pub fn bind_group(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // A second gate would silently share a port that is bound this way. Asking for it alone first finds that out.
    if address.port() != 0 {
        drop(open(address, Sharing::Sole)?);
    }
    let first = open(address, Sharing::Group)?;
    let bound = first.local_addr()?;
    let mut group = vec![first];
    for _ in 1..count {
        group.push(open(bound, Sharing::Group)?);
    }
    Ok(group)
}

/// Deals listening sockets to `workers` threads. Every socket is somebody's: one that nobody accepts on would keep its
/// connections waiting for ever, and closing it would reset them. Where there are fewer sockets than threads, several
/// threads accept on one: more are not bound, because whoever gave these would not know of them and pass them on.
///
/// # Errors
/// When the system gives no more descriptors.
pub fn deal(sockets: Vec<TcpListener>, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut hands: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    let count = sockets.len();
    for (number, socket) in sockets.into_iter().enumerate() {
        hands[number % workers].push(socket);
    }
    for number in count..workers {
        let shared = hands[number % count.max(1)]
            .first()
            .ok_or(io::ErrorKind::NotConnected)?
            .try_clone()?;
        hands[number].push(shared);
    }
    Ok(hands)
}

/// Makes a socket that another process opened fit for use here.
///
/// # Errors
/// When it is no listening TCP socket.
pub fn adopt(socket: TcpListener) -> io::Result<TcpListener> {
    let about = SockRef::from(&socket);
    if about.r#type()? != Type::STREAM || !about.is_listener()? {
        let why = "it is not a TCP socket that listens";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    // Not a Unix socket either.
    socket.local_addr()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Sole,
    Group,
}

fn open(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for connections of its predecessor to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    if sharing == Sharing::Group {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What every accepted connection gets: no delay of small answers, and probes that notice a vanished peer.
///
/// # Errors
/// When the peer is already gone.
pub fn prepare(stream: &tokio::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Of what a peer does not take the kernel would keep megabytes for each, and every peer may take nothing.
    #[cfg(target_os = "linux")]
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    SockRef::from(stream).set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_on_port_zero_shares_one_port() {
        let group = bind_group("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<u16> = group
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
    }

    #[test]
    fn no_socket_and_no_thread_goes_without_the_other_however_many_there_are_of_each() {
        for (sockets, workers) in [(1, 1), (1, 4), (2, 3), (4, 2), (5, 2)] {
            let group = bind_group("127.0.0.1:0".parse().unwrap(), sockets).unwrap();
            let hands = deal(group, workers).unwrap();
            assert_eq!(hands.len(), workers);
            assert!(hands.iter().all(|hand| !hand.is_empty()));
            let dealt: usize = hands.iter().map(Vec::len).sum();
            assert_eq!(dealt, sockets.max(workers));
        }
    }

    #[test]
    fn what_does_not_listen_is_not_adopted() {
        let listening = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(adopt(listening).is_ok());
        let silent = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        assert!(adopt(silent.into()).is_err());
    }

    #[test]
    fn a_second_group_on_the_same_address_is_refused_instead_of_sharing_it() {
        let first = bind_group("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = first[0].local_addr().unwrap();
        let error = bind_group(address, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
