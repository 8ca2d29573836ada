//! What stands around a job: the addresses that no plan can name, as this machine has them when the job starts.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;

use super::agent::Interface;
use super::netlink::Netlink;
use super::pool::Pool;
use super::route;
use super::subnet::{GATEWAY, LENGTH, LENGTH_V6, every_network_v6};
use crate::egress::Around;

/// What stands around a job with this interface, on a network of `pool`; it is `alone` there, or sees the others.
///
/// # Errors
/// EMFILE and its like: the kernel is asked over a socket.
pub(crate) fn look(interface: &Interface, pool: Pool, alone: bool) -> Result<Around, Errno> {
    let subnet = interface.subnet;
    let of_host = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let four = address.as_sockaddr_in().map(|four| IpAddr::from(four.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|six| six.ip().into()))
    });
    // Those of links that are down may answer later.
    let of_host = of_host.map(IpNet::from).chain(route::own(&mut Netlink::open()?)?);
    // Inside, the loopback addresses are the job's own.
    let of_host = of_host.filter(|network| !network.addr().is_loopback());
    let of_jobs = [pool.network(), every_network_v6()];
    let peers = match alone {
        true => Vec::new(),
        false => [
            IpNet::new_assert(subnet.v4(0).into(), LENGTH),
            IpNet::new_assert(subnet.v6(0).into(), LENGTH_V6),
        ]
        .to_vec(),
    };
    Ok(Around {
        closed: of_host.chain(of_jobs).collect(),
        gateway: subnet.addresses(GATEWAY).map(|(address, _)| address).to_vec(),
        peers,
        own: interface
            .addresses(interface.number)
            .map(|(address, _)| address)
            .collect(),
    })
}
