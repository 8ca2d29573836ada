//! A SEQPACKET socket pair that carries [`Record`]s, and with one of them a descriptor.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

use super::record::Record;
use crate::sys::process::received_descriptor;

/// One end of a pair; the other end's death is an end of file here.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What arrived.
#[derive(Debug)]
pub(crate) enum Received {
    /// A record, with the descriptor that came with it.
    Record(Record, Option<OwnedFd>),
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

    /// Sends one record, with a descriptor if there is one.
    ///
    /// # Errors
    /// EPIPE when the other end is gone (no SIGPIPE is raised).
    pub(crate) fn send(&self, record: Record, descriptor: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let bytes = record.encode();
        let raw: [RawFd; 1] = [descriptor.map_or(-1, |fd| fd.as_raw_fd())];
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if descriptor.is_some() { &rights } else { &[] };
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
        let mut control = nix::cmsg_space!([RawFd; 1]);
        let (length, descriptor) = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            match recvmsg::<()>(
                self.0.as_raw_fd(),
                &mut slices,
                Some(&mut control),
                MsgFlags::MSG_CMSG_CLOEXEC,
            ) {
                Err(Errno::EINTR) => {}
                // A peer that died with records unread: all that will ever come has come.
                Err(Errno::ECONNRESET) => return Ok(Received::Eof),
                Err(errno) => return Err(errno),
                Ok(message) => {
                    let mut descriptor = None;
                    for item in message.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(fds) = item {
                            descriptor = fds.into_iter().map(received_descriptor).next_back();
                        }
                    }
                    break (message.bytes, descriptor);
                }
            }
        };
        if length == 0 {
            return Ok(Received::Eof);
        }
        let record = Record::decode(&bytes[..length]).ok_or(Errno::EPROTO)?;
        Ok(Received::Record(record, descriptor))
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
    fn records_arrive_whole_and_an_end_is_seen() {
        let (here, there) = Channel::pair().unwrap();
        here.send(Record::Ready, None).unwrap();
        here.send(Record::Terminal, Some(here.as_fd())).unwrap();
        drop(here);
        assert!(matches!(
            there.receive(),
            Ok(Received::Record(Record::Ready, None))
        ));
        let Ok(Received::Record(Record::Terminal, Some(copy))) = there.receive() else {
            panic!("no descriptor");
        };
        // The descriptor that travelled was the other end's last copy.
        drop(copy);
        assert!(matches!(there.receive(), Ok(Received::Eof)));
        assert_eq!(there.send(Record::Go, None), Err(Errno::EPIPE));
    }
}
