//! The addresses of a network's jobs: 254 of IPv4 and as many of IPv6, with the same number at the end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The first 48 bits of our IPv6 addresses, unique local ones (RFC 4193): `fd`, then `ringf`.
const UNIQUE_LOCAL: [u16; 3] = [0xfd72, 0x696e, 0x6766];

/// The length of a network's prefix in IPv4.
pub(crate) const LENGTH: u8 = 24;

/// The length of a network's prefix in IPv6.
pub(crate) const LENGTH_V6: u8 = 64;

/// A network's addresses: 256 of IPv4, of which the first is the network's and the last is everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subnet([u8; 3]);

/// What one job, or the host, has on a network: its number among the network's addresses.
pub(crate) type Number = u8;

/// The host's own number, where the jobs' routes lead.
pub(crate) const GATEWAY: Number = 1;

/// The numbers that jobs can have.
pub(crate) const JOBS: std::ops::RangeInclusive<Number> = 2..=254;

impl Subnet {
    /// The network that an address is on.
    pub(crate) fn of(address: Ipv4Addr) -> Subnet {
        let [a, b, c, _] = address.octets();
        Subnet([a, b, c])
    }

    /// The IPv4 address of a number.
    pub(crate) fn v4(self, number: Number) -> Ipv4Addr {
        let Subnet([a, b, c]) = self;
        Ipv4Addr::new(a, b, c, number)
    }

    /// The IPv6 address of a number. A prefix of one network of ours is told from another's as in IPv4.
    pub(crate) fn v6(self, number: Number) -> Ipv6Addr {
        let [first, second, third] = UNIQUE_LOCAL;
        let Subnet([_, b, c]) = self;
        let network = u16::from_be_bytes([b, c]);
        Ipv6Addr::new(first, second, third, network, 0, 0, 0, number.into())
    }

    /// Both addresses of a number, with the lengths of their prefixes.
    pub(crate) fn addresses(self, number: Number) -> [(IpAddr, u8); 2] {
        [
            (self.v4(number).into(), LENGTH),
            (self.v6(number).into(), LENGTH_V6),
        ]
    }

    /// A hardware address that goes with an IPv4 address: locally administered, for one station (IEEE 802).
    pub(crate) fn mac(self, number: Number) -> [u8; 6] {
        let [a, b, c, d] = self.v4(number).octets();
        [0x02, 0x52, a, b, c, d]
    }

    /// Whether it shares an address with a network of this address and length.
    pub(super) fn meets(self, network: Ipv4Addr, length: u8) -> bool {
        let shared = u32::from(length.min(LENGTH));
        let mask = u32::MAX.checked_shl(32 - shared).unwrap_or(0);
        u32::from(self.v4(0)) & mask == u32::from(network) & mask
    }
}

/// The IPv6 addresses of all networks of ours, on this host and on others.
pub(crate) fn every_network_v6() -> IpNet {
    let [first, second, third] = UNIQUE_LOCAL;
    IpNet::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0).into(), 48)
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{LENGTH}", self.v4(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_an_address_of_each_kind() {
        let subnet = Subnet::of(Ipv4Addr::new(10, 213, 7, 99));
        assert_eq!(subnet.to_string(), "10.213.7.0/24");
        assert_eq!(subnet.v4(GATEWAY).to_string(), "10.213.7.1");
        assert_eq!(subnet.v6(200).to_string(), "fd72:696e:6766:d507::c8");
        assert_eq!(subnet.mac(2), [0x02, 0x52, 10, 213, 7, 2]);
    }

    #[test]
    fn networks_meet_where_one_holds_the_other() {
        let subnet = Subnet::of(Ipv4Addr::new(10, 213, 7, 0));
        let meets = |text: &str, length| subnet.meets(text.parse().unwrap(), length);
        assert!(
            meets("10.0.0.0", 8) && meets("10.213.7.9", 32) && meets("10.213.7.0", 24) && meets("0.0.0.0", 0)
        );
        assert!(!meets("10.213.8.0", 24) && !meets("192.168.0.0", 16) && !meets("10.213.6.255", 32));
    }
}
