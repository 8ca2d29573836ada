//! Requests to the kernel's tables of links, addresses and routes, one at a time (netlink(7), rtnetlink(7)).

use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};

use super::nfnetlink::PATIENCE;

/// More than the kernel puts into one datagram of a dump (32 KiB, netlink_dump of net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 << 10;

/// A socket to the tables of the network namespace in which it was opened, wherever this process goes later.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// A socket to the tables of this thread's network namespace.
    ///
    /// # Errors
    /// EMFILE at the limit of open files.
    pub(super) fn open() -> Result<Netlink, Errno> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        setsockopt(&socket, ReceiveTimeout, &PATIENCE)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Asks for one change, with the flags of `flags` besides those of every request, and waits until it is made.
    ///
    /// # Errors
    /// The kernel's answer; EAGAIN when it gives none.
    pub(super) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Errno> {
        self.ask(message, NLM_F_ACK | flags).map(drop)
    }

    /// The one entry that `message` asks for.
    ///
    /// # Errors
    /// The kernel's answer: ENODEV for a link that is not there.
    pub(super) fn get(&mut self, message: RouteNetlinkMessage) -> Result<RouteNetlinkMessage, Errno> {
        self.ask(message, NLM_F_ACK)?.pop().ok_or(Errno::ENODATA)
    }

    /// Every entry of the table that `message` asks for.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(super) fn list(&mut self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Errno> {
        self.ask(message, NLM_F_DUMP)
    }

    /// Sends one request and reads its answers up to the last.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>, Errno> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;

        let mut answers = Vec::new();
        let mut datagram = vec![0; DATAGRAM];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut datagram, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                received => received?,
            };
            let mut rest = &datagram[..length];
            while !rest.is_empty() {
                let answer =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(|_| Errno::EPROTO)?;
                // Each begins at a multiple of four (NLMSG_ALIGN).
                let taken = (answer.header.length as usize).next_multiple_of(4).max(4);
                rest = rest.get(taken..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(entry) => answers.push(entry),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(answers),
                            Some(code) => Err(Errno::from_raw(-code.get())),
                        };
                    }
                    NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use netlink_packet_route::link::LinkMessage;

    use super::*;

    #[test]
    fn who_gets_no_answer_does_not_wait_for_ever() {
        let timeout = nix::sys::socket::getsockopt(&Netlink::open().unwrap().socket, ReceiveTimeout);
        assert_eq!(timeout, Ok(PATIENCE));
        let (socket, _silent) = UnixDatagram::pair().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let mut netlink = Netlink {
            socket: socket.into(),
            sequence: 0,
        };
        let asked = netlink.list(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        assert_eq!(asked, Err(Errno::EAGAIN));
    }
}
