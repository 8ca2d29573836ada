//! What stands around a job: the addresses that no plan can name, as this machine has them when the job starts.

use ipnet::IpNet;
use nix::errno::Errno;

use super::agent::Interface;
use super::gained;
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
    // Those of links that are down may answer later.
    let of_host = gained::of_host()?.into_iter().map(IpNet::from);
    let of_host = of_host.chain(route::own(&mut Netlink::open()?)?);
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
