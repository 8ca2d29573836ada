//! Who is where on a link, by entries that no packet changes (ip-neighbour(8), bridge(8)).

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use nix::errno::Errno;

use super::netlink::Netlink;

/// Says for good which hardware address has `address` on a link: nobody is asked, and who says otherwise is not heard.
///
/// # Errors
/// ENODEV when there is no such link.
pub(super) fn add(netlink: &mut Netlink, link: u32, address: IpAddr, mac: [u8; 6]) -> Result<(), Errno> {
    let (family, destination) = match address {
        IpAddr::V4(four) => (AddressFamily::Inet, NeighbourAddress::Inet(four)),
        IpAddr::V6(six) => (AddressFamily::Inet6, NeighbourAddress::Inet6(six)),
    };
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = link;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(destination),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    netlink.change(Message::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Says for good behind which port of a bridge a hardware address is.
///
/// # Errors
/// EOPNOTSUPP for a link that is no port.
pub(super) fn add_behind(netlink: &mut Netlink, port: u32, mac: [u8; 6]) -> Result<(), Errno> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port;
    // bridge(8) calls it `static`: permanent ones are the bridge's own.
    message.header.state = NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
    netlink.change(Message::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}
