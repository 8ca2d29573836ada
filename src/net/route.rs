//! Addresses of links, and routes (rtnetlink(7), ip-address(8), ip-route(8)).

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use nix::errno::Errno;

use super::netlink::Netlink;
use super::sysctl;

/// Whether new links here have IPv6: `ipv6.disable=1` leaves a kernel without, `disable_ipv6` a host
/// (Documentation/networking/ip-sysctl.rst). Who sets that for all links sets it for new ones.
pub(crate) fn has_ipv6() -> bool {
    sysctl::get("ipv6/conf/default/disable_ipv6").as_deref() == Some("0")
}

/// What this host answers to itself: its addresses, and networks that are all its own (`ip route add local`).
///
/// # Errors
/// The kernel's.
pub(super) fn own(netlink: &mut Netlink) -> Result<Vec<IpNet>, Errno> {
    let mut own = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        for entry in netlink.list(Message::GetRoute(message))? {
            let Message::NewRoute(route) = entry else {
                continue;
            };
            let to = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(to)) => Some(IpAddr::from(*to)),
                RouteAttribute::Destination(RouteAddress::Inet6(to)) => Some(IpAddr::from(*to)),
                _ => None,
            });
            let local = matches!(route.header.kind, RouteType::Local | RouteType::Anycast);
            if let (true, Some(to)) = (local, to) {
                own.extend(
                    IpNet::new(to, route.header.destination_prefix_length)
                        .map(|net| net.trunc())
                        .ok(),
                );
            }
        }
    }
    Ok(own)
}

/// Gives a link an address and, with it, the route to its network. It counts at once: nobody else can have it.
///
/// # Errors
/// EEXIST when it has it; EPERM without CAP_NET_ADMIN.
pub(super) fn add_address(
    netlink: &mut Netlink,
    link: u32,
    address: IpAddr,
    length: u8,
) -> Result<(), Errno> {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.index = link;
    message.header.prefix_len = length;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    if address.is_ipv6() {
        // No second and a half of asking whether somebody else has it (RFC 4862, duplicate address detection).
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    netlink.change(Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// The IPv4 addresses of a link.
///
/// # Errors
/// The kernel's.
pub(super) fn addresses(netlink: &mut Netlink, link: u32) -> Result<Vec<Ipv4Addr>, Errno> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    let entries = netlink.list(Message::GetAddress(message))?;
    let local =
        |entry| match entry {
            Message::NewAddress(entry) if entry.header.index == link => entry
                .attributes
                .into_iter()
                .find_map(|attribute| match attribute {
                    AddressAttribute::Local(IpAddr::V4(address)) => Some(address),
                    _ => None,
                }),
            _ => None,
        };
    Ok(entries.into_iter().filter_map(local).collect())
}

/// Sends everything that has no other route to `gateway`.
///
/// # Errors
/// EEXIST when there is such a route; ENETUNREACH when the gateway is not on a link that is up.
pub(super) fn add_default(netlink: &mut Netlink, gateway: IpAddr) -> Result<(), Errno> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::from(gateway))];
    netlink.change(Message::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// A route of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Where it leads: a network and its length; of an IPv6 route only the length is of interest.
    pub(super) to: Ipv4Addr,
    /// 0 is the default route.
    pub(super) length: u8,
    /// The link that it leaves by; none for one that leads nowhere.
    pub(super) link: Option<u32>,
}

impl Route {
    /// Whether it leads to anywhere, or to a half or a quarter of that, as those of a VPN do which stand before a default route.
    pub(super) fn is_out(&self, family: AddressFamily) -> bool {
        match family {
            AddressFamily::Inet6 => self.length <= 3,
            // From 224.0.0.0 on there are no hosts.
            _ => self.length < 8 && self.to.octets()[0] < 224,
        }
    }
}

/// The routes of every table; the host's own addresses are among them.
///
/// # Errors
/// The kernel's.
pub(super) fn routes(netlink: &mut Netlink, family: AddressFamily) -> Result<Vec<Route>, Errno> {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    let entries = netlink.list(Message::GetRoute(message))?;
    Ok(entries
        .into_iter()
        .filter_map(|entry| match entry {
            Message::NewRoute(route) => Some(read(&route)),
            _ => None,
        })
        .collect())
}

fn read(message: &RouteMessage) -> Route {
    let mut route = Route {
        to: Ipv4Addr::UNSPECIFIED,
        length: message.header.destination_prefix_length,
        link: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(to)) => route.to = *to,
            RouteAttribute::Oif(link) => route.link = Some(*link),
            RouteAttribute::MultiPath(hops) => route.link = hops.first().map(|hop| hop.interface_index),
            _ => {}
        }
    }
    // The host's own addresses, and what is refused: the kernel's own route of IPv6 for that has the length of a default route.
    if message.header.kind != RouteType::Unicast {
        route.link = None;
    }
    route
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
