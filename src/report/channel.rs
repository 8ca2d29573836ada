//! A SEQPACKET socket pair that carries [`Record`]s, and with some of them descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

use super::record::Record;
use crate::sys::process::received_descriptor;

/// The most descriptors that travel with one record: a group in each hierarchy of cgroup v1, of which there are 14
/// (Documentation/admin-guide/cgroup-v1).
pub(crate) const MOST: usize = 14;

/// One end of a pair; the other end's death is an end of file here.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What arrived.
#[derive(Debug)]
pub(crate) enum Received {
    /// A record, with the descriptors that came with it.
    Record(Record, Vec<OwnedFd>),
    /// Every copy of the other end is closed.
    Eof,
}

impl Channel {
    /// Two connected ends, close-on-exec.
    ///
    /// # Errors
    /// EMFILE at the limit of open files.
    pub(crate) fn pair() -> Result<(Channel, Channel), Errno> {
        let (one, other) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Channel(one), Channel(other)))
    }

    /// The same end under another number.
    pub(crate) fn from_fd(fd: OwnedFd) -> Channel {
        Channel(fd)
    }

    /// Sends one record, with [`MOST`] descriptors at the most.
    ///
    /// # Errors
    /// EPIPE when the other end is gone (no SIGPIPE is raised).
    pub(crate) fn send(&self, record: Record, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let bytes = record.encode();
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(())
    }

    /// Waits for the next record.
    ///
    /// # Errors
    /// EPROTO when what arrived is not a record.
    pub(crate) fn receive(&self) -> Result<Received, Errno> {
        let mut bytes = [0; Record::LEN];
        let mut control = nix::cmsg_space!([RawFd; MOST]);
        let (length, descriptors) = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            match recvmsg::<()>(
                self.0.as_raw_fd(),
                &mut slices,
                Some(&mut control),
                MsgFlags::MSG_CMSG_CLOEXEC,
            ) {
                // The kernel says once that a peer has died with records unread, before what it had sent
                // (`unix_release_sock`, `__skb_try_recv_datagram`).
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(errno) => return Err(errno),
                Ok(message) => {
                    let mut descriptors = Vec::new();
                    for item in message.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(fds) = item {
                            descriptors.extend(fds.into_iter().map(received_descriptor));
                        }
                    }
                    break (message.bytes, descriptors);
                }
            }
        };
        if length == 0 {
            return Ok(Received::Eof);
        }
        let record = Record::decode(&bytes[..length]).ok_or(Errno::EPROTO)?;
        Ok(Received::Record(record, descriptors))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_arrive_from_a_peer_that_died_with_records_unread() {
        let (here, there) = Channel::pair().unwrap();
        there.send(Record::LayerFull, &[]).unwrap();
        here.send(Record::Cgroup, &[]).unwrap();
        drop(there);
        let Ok(Received::Record(Record::LayerFull, _)) = here.receive() else {
            panic!("another record");
        };
        assert!(matches!(here.receive(), Ok(Received::Eof)));
    }

    #[test]
    fn records_arrive_whole_and_an_end_is_seen() {
        let (here, there) = Channel::pair().unwrap();
        here.send(Record::Ready, &[]).unwrap();
        here.send(Record::Cgroup, &[here.as_fd(); MOST]).unwrap();
        drop(here);
        let Ok(Received::Record(Record::Ready, none)) = there.receive() else {
            panic!("another record");
        };
        assert!(none.is_empty());
        let Ok(Received::Record(Record::Cgroup, copies)) = there.receive() else {
            panic!("another record");
        };
        assert_eq!(copies.len(), MOST);
        // The descriptors that travelled were the other end's last copies.
        drop(copies);
        assert!(matches!(there.receive(), Ok(Received::Eof)));
        assert_eq!(there.send(Record::Go, &[]), Err(Errno::EPIPE));
    }
}
