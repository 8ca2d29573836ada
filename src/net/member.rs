//! A job on a network of the host: its port of the bridge, and who is behind it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;
use nix::errno::Errno;

use super::agent::INTERFACE;
use super::bridge::{Making, Networks, delete};
use super::host_rules::PREFIX;
use super::lease::{self, Entry, Lease};
use super::link::{self, Link, Peer};
use super::netlink::Netlink;
use super::ruleset::Dropping;
use super::subnet::{Number, Subnet};
use super::{listed, neighbour, route, sysctl, words};
use crate::egress::Allowed;

/// A job's membership of a network: a number there, and a bridge that stays while this lives.
#[derive(Debug)]
pub(crate) struct Member {
    pub(super) networks: Networks,
    pub(super) bridge: Link,
    pub(super) subnet: Subnet,
    pub(super) lease: Lease,
    pub(super) port: String,
    pub(super) alias: String,
    /// Held with others.
    pub(super) jobs_lock: File,
    /// Another firewall that drops the job's packets.
    pub(crate) dropping: Option<Dropping>,
    /// The bridge is this job's to finish.
    pub(super) making: Option<Making>,
}

impl Member {
    /// Makes the job's interface in its network namespace, the other end of a port of the bridge; `alone` keeps it from the
    /// bridge's other ports that are alone.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn plug(&self, namespace: BorrowedFd<'_>, alone: bool) -> Result<(), String> {
        let mut netlink = Netlink::open().map_err(words)?;
        let peer = Peer {
            name: INTERFACE,
            mac: self.subnet.mac(self.lease.number),
            namespace,
        };
        let of = |errno| format!("{}: {}", self.port, words(errno));
        link::make_pair(&mut netlink, &self.port, &self.bridge, &peer).map_err(of)?;
        let port = link::find(&mut netlink, &self.port).map_err(of)?;
        let port = port.ok_or_else(|| of(Errno::ENODEV))?;
        // The job is who it is: it has this hardware address behind this port, with these addresses, whatever it sends.
        neighbour::add_behind(&mut netlink, port.index, peer.mac).map_err(of)?;
        for (address, _) in self.subnet.addresses(self.lease.number) {
            if address.is_ipv4() || route::has_ipv6() {
                neighbour::add(&mut netlink, self.bridge.index, address, peer.mac).map_err(of)?;
            }
        }
        if route::has_ipv6() {
            // The host is reached by its bridge alone.
            let none = sysctl::set(&format!("ipv6/conf/{}/disable_ipv6", self.port), "1");
            none.map_err(|error| error.to_string())?;
        }
        link::open_port(&mut netlink, &self.port, alone, &self.alias).map_err(of)
    }

    /// Waits until the bridge has its rules, where this job makes it, and brings it up. nft(8) takes as long as all the rest, so
    /// that is done meanwhile.
    ///
    /// # Errors
    /// Which object could not be made, and why.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        if let Some(making) = self.making.take() {
            self.dropping = self.networks.finish(&self.bridge, making)?;
        }
        Ok(())
    }

    /// Opens on the host's side what the job lists of what is closed there to every job, `closed` here among it.
    ///
    /// # Errors
    /// nft's words, or those of the file that remembers what to close again.
    pub(crate) fn open(&self, listed: &[&Allowed], closed: &[IpNet]) -> Result<(), String> {
        let addresses = self.subnet.addresses(self.lease.number);
        let addresses = addresses.map(|(address, _)| address);
        let bridge = &self.bridge.name;
        let folder = self.networks.folder_of(bridge);
        listed::open((&folder, bridge), (self.lease.number, &addresses), listed, closed)
    }

    /// The network's addresses.
    pub(crate) fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The job's number among them.
    pub(crate) fn number(&self) -> Number {
        self.lease.number
    }

    /// The jobs on this network now, this one among them.
    pub(crate) fn jobs(&self) -> Vec<(Number, Entry)> {
        lease::living(&self.networks.folder_of(&self.bridge.name))
    }

    /// What a process that is to leave in this one's place must hold.
    pub(crate) fn held(&self) -> [BorrowedFd<'_>; 2] {
        [self.lease.as_fd(), self.jobs_lock.as_fd()]
    }

    /// Removes the job's port; the bridge too if no job needs it in the next second.
    ///
    /// # Errors
    /// What could not be removed; a sweep finds it later.
    pub(crate) fn leave(self) -> Result<(), String> {
        delete(&mut Netlink::open().map_err(words)?, &self.port)?;
        let folder = self.networks.folder_of(&self.bridge.name);
        listed::close((&folder, &self.bridge.name), self.lease.number)?;
        self.lease.empty().map_err(|error| error.to_string())?;
        drop(self.jobs_lock);
        self.networks.keep(&self.bridge.name)
    }
}

/// The host's end of a pair: 15 characters are the most that a link's name has.
pub(super) fn port_name(bridge: &str, number: Number) -> String {
    format!("{}-{number}", bridge.replacen(PREFIX, "rf", 1))
}
