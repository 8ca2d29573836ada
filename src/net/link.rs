//! Links: a bridge, a pair of which one end is its port and the other a job's, their state (rtnetlink(7), ip-link(8)).

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use nix::errno::Errno;

use super::netlink::Netlink;

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Its number in its namespace.
    pub(super) index: u32,
    /// Its name there.
    pub(super) name: String,
    /// The largest packet, in bytes.
    pub(super) mtu: u32,
    /// Whether it is up.
    pub(super) up: bool,
}

/// The job's end of a pair.
pub(super) struct Peer<'a> {
    /// Its name inside.
    pub(super) name: &'a str,
    /// Its hardware address: the same for the same address, so that no neighbour remembers an older one.
    pub(super) mac: [u8; 6],
    /// The network namespace that it is made in.
    pub(super) namespace: BorrowedFd<'a>,
}

/// Makes a bridge with a hardware address of its own, down. Without one it would have its ports', and change it with them.
///
/// # Errors
/// EEXIST when a link has the name; EPERM without CAP_NET_ADMIN; EOPNOTSUPP without the kernel's bridge.
pub(super) fn make_bridge(netlink: &mut Netlink, name: &str, mtu: u32, mac: [u8; 6]) -> Result<(), Errno> {
    let mut attributes = plain(name, mtu);
    attributes.push(LinkAttribute::Address(mac.to_vec()));
    attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    netlink.change(Message::NewLink(of(attributes)), NLM_F_CREATE | NLM_F_EXCL)
}

/// Makes a pair: `name` here, a port of the link `bridge`, and `peer` in the job's namespace. Both are down.
///
/// # Errors
/// EEXIST when a link has the name; EPERM without CAP_NET_ADMIN in both namespaces; EXFULL when the bridge has all its ports.
pub(super) fn make_pair(
    netlink: &mut Netlink,
    name: &str,
    bridge: &Link,
    peer: &Peer<'_>,
) -> Result<(), Errno> {
    let mut inside = plain(peer.name, bridge.mtu);
    inside.push(LinkAttribute::Address(peer.mac.to_vec()));
    inside.push(LinkAttribute::NetNsFd(peer.namespace.as_raw_fd()));
    let mut outside = plain(name, bridge.mtu);
    outside.push(LinkAttribute::Controller(bridge.index));
    outside.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(of(inside)))),
    ]));
    netlink.change(Message::NewLink(of(outside)), NLM_F_CREATE | NLM_F_EXCL)
}

/// Brings a port of a bridge up; what is `alone` reaches the bridge itself and no other port. What comes in by it comes from a
/// hardware address that the bridge was told of ([`super::neighbour::add_behind`]), or is dropped. The alias is for people.
///
/// # Errors
/// ENODEV when it is gone.
pub(super) fn open_port(netlink: &mut Netlink, name: &str, alone: bool, alias: &str) -> Result<(), Errno> {
    let mut message = of(vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::IfAlias(alias.to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![
                InfoBridgePort::Isolated(alone),
                InfoBridgePort::Locked(true),
                InfoBridgePort::Learning(false),
                // Who is there is known.
                InfoBridgePort::UnicastFlood(false),
            ])),
        ]),
    ]);
    set_up(&mut message);
    netlink.change(Message::NewLink(message), 0)
}

/// Brings a link up.
///
/// # Errors
/// ENODEV when it is not there.
pub(super) fn up(netlink: &mut Netlink, name: &str) -> Result<(), Errno> {
    let mut message = of(vec![LinkAttribute::IfName(name.to_owned())]);
    set_up(&mut message);
    netlink.change(Message::NewLink(message), 0)
}

/// Sets the largest packet of a link, in bytes.
///
/// # Errors
/// EINVAL when its kind takes no such packets.
pub(super) fn set_mtu(netlink: &mut Netlink, name: &str, mtu: u32) -> Result<(), Errno> {
    let message = of(plain(name, mtu));
    netlink.change(Message::NewLink(message), 0)
}

/// Removes a link, and with it the other end of a pair. It returns when it is gone, some ten milliseconds later.
///
/// # Errors
/// ENODEV when it is not there.
pub(super) fn delete(netlink: &mut Netlink, name: &str) -> Result<(), Errno> {
    let message = of(vec![LinkAttribute::IfName(name.to_owned())]);
    netlink.change(Message::DelLink(message), 0)
}

/// The link of this name, if there is one.
///
/// # Errors
/// The kernel's.
pub(super) fn find(netlink: &mut Netlink, name: &str) -> Result<Option<Link>, Errno> {
    ask(netlink, of(vec![LinkAttribute::IfName(name.to_owned())]))
}

/// The link of this number, if there is one.
///
/// # Errors
/// The kernel's.
pub(super) fn number(netlink: &mut Netlink, index: u32) -> Result<Option<Link>, Errno> {
    let mut message = of(Vec::new());
    message.header.index = index;
    ask(netlink, message)
}

fn ask(netlink: &mut Netlink, message: LinkMessage) -> Result<Option<Link>, Errno> {
    match netlink.get(Message::GetLink(message)) {
        Err(Errno::ENODEV) => Ok(None),
        Ok(Message::NewLink(link)) => {
            let up = link.header.flags.contains(LinkFlags::Up);
            let (mut name, mut mtu) = (None, None);
            for attribute in link.attributes {
                match attribute {
                    LinkAttribute::IfName(found) => name = Some(found),
                    LinkAttribute::Mtu(found) => mtu = Some(found),
                    _ => {}
                }
            }
            Ok(Some(Link {
                index: link.header.index,
                name: name.ok_or(Errno::EPROTO)?,
                mtu: mtu.ok_or(Errno::EPROTO)?,
                up,
            }))
        }
        Ok(_) => Err(Errno::EPROTO),
        Err(errno) => Err(errno),
    }
}

/// What every link of ours has.
fn plain(name: &str, mtu: u32) -> Vec<LinkAttribute> {
    vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::Mtu(mtu)]
}

fn of(attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Unspec;
    message.attributes = attributes;
    message
}

fn set_up(message: &mut LinkMessage) {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
}
