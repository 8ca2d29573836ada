//! Addresses that the host gains while a job runs: they are closed to the job like those that it had before.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of <linux/rtnetlink.h>.
const ADDRESSES: u32 = 0x10 | 0x100;

/// The most news that are read before a look: what comes later is another look.
const MOST: usize = 1024;

/// Who hears of a new address.
#[derive(Debug)]
pub(crate) struct Gained {
    news: OwnedFd,
    known: RefCell<BTreeSet<IpAddr>>,
}

impl Gained {
    /// Hears of all that comes from now on.
    ///
    /// # Errors
    /// EMFILE at the limit of open files.
    pub(crate) fn watch() -> Result<Gained, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let news = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkRoute,
        )?;
        bind(news.as_raw_fd(), &NetlinkAddr::new(0, ADDRESSES))?;
        Ok(Gained {
            news,
            known: RefCell::new(of_host()?),
        })
    }

    /// The addresses that have come since the last look.
    ///
    /// # Errors
    /// As [`Self::watch`].
    pub(crate) fn look(&self) -> Result<Vec<IpAddr>, Errno> {
        for _ in 0..MOST {
            // That there is news is all that it says; some that was lost is news as well (ENOBUFS, netlink(7)).
            match recv(self.news.as_raw_fd(), &mut [0], MsgFlags::empty()) {
                Err(Errno::EAGAIN) => break,
                _ => continue,
            }
        }
        let now = of_host()?;
        let new = now.difference(&self.known.borrow()).copied().collect();
        self.known.replace(now);
        Ok(new)
    }
}

impl AsFd for Gained {
    /// Readable when there is news.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

/// The addresses of this host's links, those that are down among them.
///
/// # Errors
/// EMFILE and its like: the kernel is asked over a socket.
pub(super) fn of_host() -> Result<BTreeSet<IpAddr>, Errno> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let four = address.as_sockaddr_in().map(|four| IpAddr::from(four.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|six| six.ip().into()))
    });
    Ok(addresses.collect())
}
