//! Ports of the host that lead to a job: sockets of the host's network, held by a child that lives in the job's.
//!
//! A socket belongs to the network namespace that it was made in, wherever its holder goes. So what arrives at the host's
//! sockets is passed on from inside: by no rule of a firewall, the same for root and everybody else, from the host's
//! loopback as from elsewhere, and nothing is left when the child is gone. Inside, the caller of a published port is the
//! job's own address.

mod datagrams;
mod porter;
mod streams;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

pub(crate) use self::porter::Porter;

/// A socket of the host, and the port inside that it leads to.
pub(crate) struct Door {
    socket: Socket,
    /// Where it stands: the port is the one that was chosen where 0 was asked for.
    pub(crate) at: SocketAddr,
    /// The port inside.
    pub(crate) to: u16,
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Door {
    /// Opens a TCP socket of this process's network; it keeps callers waiting until the doors are opened.
    ///
    /// # Errors
    /// The kernel's: the address is taken, is not this host's, or needs more rights.
    pub(crate) fn tcp(at: SocketAddr, to: u16) -> Result<Door, Errno> {
        let socket = bound(at, SockType::Stream)?;
        listen(&socket, Backlog::MAXCONN)?;
        let socket = TcpListener::from(socket);
        let at = socket.local_addr().map_err(errno)?;
        Ok(Door {
            socket: Socket::Tcp(socket),
            at,
            to,
        })
    }

    /// Opens a UDP socket, which is told at which of the host's addresses each datagram came.
    ///
    /// # Errors
    /// As [`Door::tcp`].
    pub(crate) fn udp(at: SocketAddr, to: u16) -> Result<Door, Errno> {
        let socket = bound(at, SockType::Datagram)?;
        match at {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        let socket = UdpSocket::from(socket);
        let at = socket.local_addr().map_err(errno)?;
        Ok(Door {
            socket: Socket::Udp(socket),
            at,
            to,
        })
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Udp(socket) => socket.as_fd(),
        }
    }
}

/// A socket of this address alone: `[::]` is no IPv4 address, which `0.0.0.0` beside it may have (IPV6_V6ONLY, ipv6(7)).
fn bound(at: SocketAddr, kind: SockType) -> Result<OwnedFd, Errno> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if at.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        // A port whose last connections are still in TIME_WAIT is free (SO_REUSEADDR, socket(7)).
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
    Ok(socket)
}

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
