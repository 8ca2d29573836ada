//! The ways of a host: where its packets for anywhere leave.

use std::collections::BTreeSet;

use netlink_packet_route::AddressFamily;
use nix::errno::Errno;

use super::host_rules::PREFIX;
use super::link::{self, Link};
use super::netlink::Netlink;
use super::route::{self, Route};
use super::words;

/// The largest packet of a network whose host has no way out.
const MTU: u32 = 1500;

/// The ways of a host.
pub(crate) struct Ways {
    /// Its routes of IPv4.
    pub(super) ipv4: Vec<Route>,
    /// The links by which packets for anywhere leave.
    out: Vec<Link>,
    /// The names of those that lead somewhere by IPv4.
    pub(super) links: Vec<String>,
    /// Whether IPv6 leads anywhere.
    pub(crate) ipv6: bool,
    /// A protocol leads anywhere by halves alone, and no default route names a link.
    halves: bool,
}

impl Ways {
    /// Looks at the routes of this process's network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn look(netlink: &mut Netlink) -> Result<Ways, String> {
        let ipv4 = route::routes(netlink, AddressFamily::Inet).map_err(words)?;
        let ipv6 = match route::has_ipv6() {
            true => route::routes(netlink, AddressFamily::Inet6).map_err(words)?,
            false => Vec::new(),
        };
        let numbers = |routes: &[Route], family, all: bool| -> BTreeSet<u32> {
            let ways = routes.iter().filter(|route| all || route.is_out(family));
            ways.filter_map(|route| route.link).collect()
        };
        let mut named = |numbers: BTreeSet<u32>| -> Result<Vec<Link>, String> {
            let links = numbers.into_iter().map(|index| link::number(netlink, index));
            let links: Result<Vec<Option<Link>>, Errno> = links.collect();
            // One may have gone meanwhile.
            links
                .map(|links| links.into_iter().flatten().collect())
                .map_err(words)
        };
        let out_v6 = numbers(&ipv6, AddressFamily::Inet6, false);
        let links = named(numbers(&ipv4, AddressFamily::Inet, true))?;
        let others = links
            .into_iter()
            .map(|link| link.name)
            .filter(|name| !name.starts_with(PREFIX));
        let halves = |routes: &[Route], family| {
            let mut out = routes.iter().filter(|route| route.is_out(family)).peekable();
            out.peek().is_some() && out.all(|route| route.length > 0)
        };
        Ok(Ways {
            halves: halves(&ipv4, AddressFamily::Inet) || halves(&ipv6, AddressFamily::Inet6),
            ipv6: !out_v6.is_empty(),
            out: named(&numbers(&ipv4, AddressFamily::Inet, false) | &out_v6)?,
            links: others.collect(),
            ipv4,
        })
    }

    /// The largest packet that leaves by each of them, in bytes.
    pub(super) fn mtu(&self) -> u32 {
        self.out.iter().map(|link| link.mtu).min().unwrap_or(MTU)
    }

    /// The link to name to who knows a way out only by its default route; none where there is one.
    pub(crate) fn link(&self) -> Option<&str> {
        let link = self.out.first().filter(|_| self.halves);
        link.map(|link| link.name.as_str())
    }
}
