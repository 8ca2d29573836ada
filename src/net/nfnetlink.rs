//! Requests to the kernel's nftables and their answers: what all of them have in common (nfnetlink(7)).

use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NlaBuffer, NlasIterator};
use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket};
use nix::sys::time::TimeVal;

// Numbers of <linux/netlink.h> and <linux/netfilter/nfnetlink.h>.
pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;
/// NFNL_SUBSYS_NFTABLES, the high byte of a message's kind.
pub(super) const SUBSYSTEM: u16 = 10;
/// NFPROTO_INET: a table of IPv4 and IPv6.
pub(super) const INET: u8 = 1;

/// The length of a message's header, with that of nfnetlink.
pub(super) const HEADER: usize = 20;
/// The length of nfnetlink's.
pub(super) const NETFILTER: usize = 4;

/// More than the kernel puts into one datagram of a dump (32 KiB, netlink_dump of net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 << 10;

/// How long the kernel may take to answer: it does so before the request returns, so what is late is lost.
pub(super) const PATIENCE: TimeVal = TimeVal::new(1, 0);

/// A socket to the tables of this process's network namespace, wherever it is passed.
///
/// # Errors
/// EPROTONOSUPPORT where the kernel has no netfilter.
pub(super) fn open() -> Result<OwnedFd, Errno> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    setsockopt(&socket, ReceiveTimeout, &PATIENCE)?;
    Ok(socket)
}

/// Reads answers, each with its kind, the number of what it answers and its payload, until `last` says so.
///
/// # Errors
/// EAGAIN when the kernel does not answer; EPROTO for what is no message.
pub(super) fn answers(socket: &OwnedFd, mut last: impl FnMut(u16, u32, &[u8]) -> bool) -> Result<(), Errno> {
    let mut datagram = vec![0; DATAGRAM];
    loop {
        let length = match recv(socket.as_raw_fd(), &mut datagram, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            received => received?,
        };
        let mut rest = &datagram[..length];
        while let Some((header, _)) = rest.split_first_chunk::<{ HEADER - NETFILTER }>() {
            let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *header;
            let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            let payload = rest.get(HEADER - NETFILTER..length).ok_or(Errno::EPROTO)?;
            if last(
                u16::from_ne_bytes([k0, k1]),
                u32::from_ne_bytes([s0, s1, s2, s3]),
                payload,
            ) {
                return Ok(());
            }
            // Each begins at a multiple of four (NLMSG_ALIGN).
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// What an answer of the kind [`ERROR`] says; none when all is well.
pub(super) fn failure(payload: &[u8]) -> Option<Errno> {
    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    (code != 0).then(|| Errno::from_raw(-code))
}

/// The value of the first attribute of a kind.
pub(super) fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut all = NlasIterator::new(attributes).flatten();
    all.find(|attribute| attribute.kind() == kind).map(value)
}

/// The value of an attribute, whose length was checked when it was found.
pub(super) fn value(attribute: NlaBuffer<&[u8]>) -> &[u8] {
    let length = usize::from(attribute.length());
    &attribute.into_inner()[4..length]
}
