//! Whether another end can be reached.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::SocketError;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect,
    getsockopt, send, socket,
};

/// How long the other end of a connection may take to answer.
pub(super) const PATIENCE_MS: u16 = 2_000;

/// How long a datagram may take to come back as refused.
const REFUSAL_MS: u16 = 500;

/// By TCP: a connection is made.
pub(super) fn tcp(address: SocketAddr) -> Result<(), Errno> {
    stream(family(address), &SockaddrStorage::from(address))
}

/// By a socket of the file system: a connection is made.
pub(super) fn unix(address: &UnixAddr) -> Result<(), Errno> {
    stream(AddressFamily::Unix, address)
}

/// By UDP: an empty datagram leaves, and nobody refuses it. Whether somebody took it cannot be known.
pub(super) fn udp(address: SocketAddr) -> Result<(), Errno> {
    let socket = datagrams(address)?;
    send(socket.as_raw_fd(), &[], MsgFlags::empty())?;
    match ready(&socket, PollFlags::POLLIN, REFUSAL_MS) {
        Err(Errno::ETIMEDOUT) => Ok(()),
        answered => answered,
    }
}

/// A socket whose datagrams go to `address`, and come from there.
pub(super) fn datagrams(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family(address), SockType::Datagram, flags, None)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// Waits until a socket is ready, and says what its other end had against it.
pub(super) fn ready(socket: &OwnedFd, until: PollFlags, patience_ms: u16) -> Result<(), Errno> {
    let mut watched = [PollFd::new(socket.as_fd(), until)];
    match poll(&mut watched, PollTimeout::from(patience_ms))? {
        0 => Err(Errno::ETIMEDOUT),
        _ => match getsockopt(socket, SocketError)? {
            0 => Ok(()),
            number => Err(Errno::from_raw(number)),
        },
    }
}

fn stream(family: AddressFamily, address: &dyn SockaddrLike) -> Result<(), Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), address) {
        Err(Errno::EINPROGRESS) => ready(&socket, PollFlags::POLLOUT, PATIENCE_MS),
        connected => connected,
    }
}

fn family(address: SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    }
}
