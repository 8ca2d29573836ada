//! Egress: what a job behind a bridge may reach.
//!
//! Pure: the [`Egress`] of a plan and what is [`Around`] the job become the [`rules`] of its network namespace, and a
//! [`Policy`] that its resolver answers by.

mod hosts;
mod policy;
mod protocol;
pub(crate) mod rules;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

pub use self::hosts::{Hosts, HostsError};
pub(crate) use self::policy::{Answer, Policy};
pub use self::protocol::Protocol;

/// What a job behind a bridge may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress<'p> {
    /// Everything but what is closed to every job: the host, other jobs, the cloud's metadata.
    Open,
    /// These entries of a plan and nothing else.
    Listed(Vec<&'p Allowed>),
}

/// What may be reached of some hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Allowed {
    /// The hosts.
    pub hosts: Hosts,
    /// Their ports; empty means all but that of DNS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// One protocol; none means both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// The port of DNS, which an entry opens only by naming it: whoever looks names up elsewhere is asked for by no name.
pub(crate) const DNS: u16 = 53;

/// One way to hosts that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Way {
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// The port; none means all.
    pub(crate) port: Option<u16>,
}

/// What a launcher sees around the job, which no plan can say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Around {
    /// The host's own addresses, those of its bridges among them, and all that jobs can have.
    pub(crate) closed: Vec<IpNet>,
    /// The host's own addresses on the job's network, closed although they are among those of `peers`.
    pub(crate) gateway: Vec<IpAddr>,
    /// The addresses of the jobs on the network that was named, which see each other.
    pub(crate) peers: Vec<IpNet>,
    /// The job's own addresses, besides those of its loopback interface.
    pub(crate) own: Vec<IpAddr>,
}

/// Closed to every job, unless an entry lists a part of it: where clouds tell a machine its secrets, what is local to a
/// link, and everybody at once.
pub(crate) const CLOSED: [IpNet; 11] = [
    four([169, 254, 0, 0], 16),
    four([224, 0, 0, 0], 3),
    // The metadata services that are not at 169.254.169.254: Alibaba Cloud, Azure, Oracle Cloud; Amazon, Google and Oracle
    // over IPv6.
    four([100, 100, 100, 200], 32),
    four([168, 63, 129, 16], 32),
    four([192, 0, 0, 192], 32),
    six([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254], 128),
    six([0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254], 128),
    six([0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
    // The first of them through a translator (RFC 6052).
    six([0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0], 112),
    six([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    six([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
];

/// Where no public name may lead: private, shared and local addresses (RFC 6890), besides what is closed to every job.
const PRIVATE: [IpNet; 12] = [
    four([0, 0, 0, 0], 8),
    four([10, 0, 0, 0], 8),
    four([100, 64, 0, 0], 10),
    four([127, 0, 0, 0], 8),
    four([172, 16, 0, 0], 12),
    four([192, 0, 0, 0], 24),
    four([192, 168, 0, 0], 16),
    four([198, 18, 0, 0], 15),
    // 6to4, which holds an IPv4 address (RFC 3056), and what was local to a site (RFC 3879).
    six([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    six([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
    // `::`, `::1` and the IPv4 addresses in them.
    six([0; 8], 64),
    six([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
];

const fn four([a, b, c, d]: [u8; 4], length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn six([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length))
}

impl Allowed {
    /// The ways to its hosts.
    pub(crate) fn ways(&self) -> impl Iterator<Item = Way> + '_ {
        let protocols = [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .filter(|protocol| self.protocol.is_none_or(|only| only == *protocol));
        protocols.flat_map(|protocol| {
            let all = self.ports.is_empty().then_some(Way { protocol, port: None });
            let each = self.ports.iter().map(move |port| Way {
                protocol,
                port: Some(*port),
            });
            all.into_iter().chain(each)
        })
    }
}

impl Around {
    /// What is closed to a job here, in the order in which it was found.
    fn closed(&self) -> impl Iterator<Item = IpNet> + '_ {
        let gateway = self.gateway.iter().map(|address| IpNet::from(*address));
        CLOSED
            .into_iter()
            .chain(gateway)
            .chain(self.closed.iter().copied())
    }
}

impl std::fmt::Display for Allowed {
    /// `index.example.org, tcp 443 8443`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.hosts)?;
        match (self.protocol, self.ports.is_empty()) {
            (None, true) => return Ok(()),
            (None, false) => f.write_str(", ports")?,
            (Some(protocol), true) => return write!(f, ", {protocol}"),
            (Some(protocol), false) => write!(f, ", {protocol}")?,
        }
        self.ports.iter().try_for_each(|port| write!(f, " {port}"))
    }
}
