//! The rules of a job's network namespace, as nftables' text (nft(8)).
//!
//! They are made before the job starts and not the job's to change. Names become addresses when the job's resolver is
//! asked: what it answers is in the sets of [`Family::ports`] and [`Family::hosts`] before the job reads the answer. What
//! was tried is counted by the kernel itself, in the sets of [`Family::tried`].

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use ipnet::IpNet;
use serde::Serialize;

use super::{Allowed, Around, DNS, Egress, Hosts};

/// The table that holds all of it.
pub(crate) const TABLE: &str = "ringfence";

/// Where a job asks for names: on its own loopback interface, which nothing from outside reaches.
pub(crate) const RESOLVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), DNS);

/// Where its resolver listens: a server of the job's has the port of DNS on every address. This port the kernel gives to nobody
/// by itself (net.ipv4.ip_local_port_range), and IANA has given it to nobody.
pub(crate) const LISTENER: SocketAddrV4 = SocketAddrV4::new(*RESOLVER.ip(), 65053);

/// What a set of [`Family::tried`] holds at the most; a job that tries more has each refused all the same.
pub(crate) const TRIED: usize = 4096;

/// What a set of [`Family::gained`] holds at the most.
const GAINED: usize = 4096;

/// What answers may fill a set with at the most.
pub(crate) const ANSWERED: usize = 1 << 16;

/// A kind of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It was let through; whether anybody answered is another matter.
    Allowed,
    /// It was refused at once.
    Refused,
}

impl Outcome {
    /// Both.
    pub(crate) const ALL: [Outcome; 2] = [Outcome::Allowed, Outcome::Refused];
}

impl Family {
    /// Both.
    pub(crate) const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub(crate) fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The set of address, protocol and port that answers have opened.
    pub(crate) fn ports(self) -> &'static str {
        match self {
            Family::V4 => "ports4",
            Family::V6 => "ports6",
        }
    }

    /// The set of address and protocol that answers have opened, with all ports.
    pub(crate) fn hosts(self) -> &'static str {
        match self {
            Family::V4 => "hosts4",
            Family::V6 => "hosts6",
        }
    }

    /// The set of addresses that the host has gained since the job started.
    pub(crate) fn gained(self) -> &'static str {
        match self {
            Family::V4 => "gained4",
            Family::V6 => "gained6",
        }
    }

    /// The set that counts what was tried: address, protocol and port.
    pub(crate) fn tried(self, outcome: Outcome) -> &'static str {
        match (self, outcome) {
            (Family::V4, Outcome::Allowed) => "allowed4",
            (Family::V6, Outcome::Allowed) => "allowed6",
            (Family::V4, Outcome::Refused) => "refused4",
            (Family::V6, Outcome::Refused) => "refused6",
        }
    }

    /// The keyword of its headers, and its own.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Family::V4 => ("ip", "ipv4"),
            Family::V6 => ("ip6", "ipv6"),
        }
    }
}

/// The whole table.
pub(crate) fn text(egress: &Egress<'_>, around: &Around) -> String {
    let mut sets = String::new();
    for family in Family::ALL {
        let (_, kind) = family.words();
        if let Egress::Listed(_) = egress {
            for (name, key) in [
                (family.ports(), "inet_proto . inet_service"),
                (family.hosts(), "inet_proto"),
            ] {
                writeln!(
                    sets,
                    "\tset {name} {{ type {kind}_addr . {key}; flags timeout; size {ANSWERED}; }}"
                )
                .ok();
            }
        }
        let gained = family.gained();
        writeln!(
            sets,
            "\tset {gained} {{ type {kind}_addr; flags timeout; size {GAINED}; }}"
        )
        .ok();
        for outcome in Outcome::ALL {
            let name = family.tried(outcome);
            writeln!(
                sets,
                "\tset {name} {{ type {kind}_addr . inet_proto . inet_service; flags dynamic; size {TRIED}; }}"
            )
            .ok();
        }
    }
    let count = |outcome: Outcome| -> String {
        let line = |family: Family| {
            let (header, kind) = family.words();
            let set = family.tried(outcome);
            format!(
                "\t\tmeta nfproto {kind} meta l4proto {{ tcp, udp }} update @{set} {{ {header} daddr . meta l4proto . th dport counter }}\n"
            )
        };
        Family::ALL.map(line).concat()
    };
    let (refused, allowed) = (count(Outcome::Refused), count(Outcome::Allowed));
    let reach = reach(egress, around);
    let sources = sources(&around.own);
    let (resolver, listener) = (RESOLVER.ip(), LISTENER.port());
    let callers = callers(around);
    // A packet that is sent again is no new connection; a refused one never gets a mark, as its connection is none.
    format!(
        "table inet {TABLE} {{
{sets}\tchain refuse {{
{refused}\t\tmeta l4proto tcp reject with tcp reset
\t\treject with icmpx admin-prohibited
\t}}
\tchain pass {{
\t\tct mark != 0 accept
\t\tct mark set 1
{allowed}\t\taccept
\t}}
\tchain names {{
\t\ttype nat hook output priority -100; policy accept;
\t\tip daddr {resolver} meta l4proto {{ tcp, udp }} th dport {DNS} dnat ip to {resolver}:{listener}
\t}}
\tchain output {{
\t\ttype filter hook output priority filter; policy drop;
{sources}\t\tct state established,related accept
\t\tct state invalid drop
{reach}\t}}
\tchain input {{
\t\ttype filter hook input priority filter; policy drop;
{callers}\t}}
}}
"
    )
}

/// The rules for what comes in: answers, and what the jobs of the network that was named begin. A host that has thrown its own
/// rules away forwards the internet's packets to a job like any others; they end here. Published ports are called over the
/// loopback interface.
fn callers(around: &Around) -> String {
    let mut rules = Rules::default();
    rules.line("iifname \"lo\" accept");
    rules.line("ct state established,related accept");
    rules.line("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept");
    for family in Family::ALL {
        let (header, _) = family.words();
        let gateways = around
            .gateway
            .iter()
            .filter(|address| Family::of(**address) == family);
        for gateway in gateways {
            rules.line(&format!(
                "{header} saddr {gateway} reject with icmpx admin-prohibited"
            ));
        }
        let peers = around
            .peers
            .iter()
            .filter(|peers| Family::of(peers.addr()) == family);
        for peers in peers {
            rules.line(&format!("{header} saddr {peers} accept"));
        }
    }
    rules.text
}

/// The rules for where a packet says that it comes from, before what it belongs to counts.
///
/// Anybody may bind a socket to any address (`IPV6_FREEBIND`, ipv6(7)) and send from there over the loopback interface: what
/// is sent to that address then would be the answer in a connection of the kernel's table, and pass as established.
fn sources(own: &[IpAddr]) -> String {
    let mut rules = Rules::default();
    let of = |family: Family| {
        let addresses = own.iter().filter(move |address| Family::of(**address) == family);
        addresses.map(ToString::to_string).collect::<Vec<_>>()
    };
    for (family, loopback) in [(Family::V4, "127.0.0.0/8"), (Family::V6, "::1")] {
        let (header, _) = family.words();
        let here = [vec![loopback.to_owned()], of(family)].concat().join(", ");
        rules.line(&format!("oifname \"lo\" {header} saddr {{ {here} }} accept"));
    }
    // So a refusal comes back, in the name of who was not reached. It makes no connection.
    rules.line("oifname \"lo\" tcp flags & rst == rst accept");
    for kind in ["icmp", "icmpv6"] {
        rules.line(&format!(
            "oifname \"lo\" {kind} type destination-unreachable accept"
        ));
    }
    rules.line("oifname \"lo\" drop");
    // Neighbours are on the link: what is sent to anybody else in this guise is not about them. A job speaks for itself alone,
    // and says of no other address that it is here.
    for address in own {
        let IpAddr::V6(six) = address else {
            continue;
        };
        let link = format!("ip6 hoplimit 255 ip6 saddr {six} ip6 daddr {{ fe80::/10, ff02::/16, {six}/64 }}");
        rules.line(&format!(
            "icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit }} {link} accept"
        ));
        // The target follows eight bytes of header (RFC 4861, section 4.4).
        let target = u128::from(*six);
        rules.line(&format!(
            "icmpv6 type nd-neighbor-advert {link} @th,64,128 {target:#x} accept"
        ));
    }
    rules.line("icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } drop");
    for family in Family::ALL {
        let (header, kind) = family.words();
        match of(family).as_slice() {
            [] => rules.line(&format!("meta nfproto {kind} goto refuse")),
            own => rules.line(&format!("{header} saddr != {{ {} }} drop", own.join(", "))),
        }
    }
    rules.text
}

/// The rules for a connection to somewhere else: the first that fits decides.
fn reach(egress: &Egress<'_>, around: &Around) -> String {
    let mut rules = Rules::default();
    for family in Family::ALL {
        let (header, _) = family.words();
        rules.line(&format!("{header} daddr @{} goto refuse", family.gained()));
    }
    let listed = match egress {
        Egress::Open => &[][..],
        Egress::Listed(entries) => entries,
    };
    let peers = around.peers.iter().map(|peers| Allowed {
        hosts: Hosts::Network(*peers),
        ports: Vec::new(),
        protocol: None,
    });
    let peers: Vec<Allowed> = peers.collect();
    let by_address = |entry| match entry {
        &Allowed {
            hosts: Hosts::Network(network),
            ..
        } => Some((network, entry)),
        _ => None,
    };
    let mut open: Vec<(IpNet, &Allowed)> = peers
        .iter()
        .chain(listed.iter().copied())
        .filter_map(by_address)
        .collect();
    // The narrowest first: an entry opens what is closed when it lists no more than that, so `0.0.0.0/0` opens none of it.
    let mut closed: Vec<IpNet> = around.closed().collect();
    closed.sort_by_key(|network| (u8::MAX - network.prefix_len(), *network));
    for network in closed {
        let (within, rest) = open.into_iter().partition(|(entry, _)| network.contains(entry));
        open = rest;
        let within: Vec<(IpNet, &Allowed)> = within;
        if !within.is_empty() {
            rules.refuse();
        }
        for (_, entry) in &within {
            rules.pass(entry);
        }
        rules.closed.insert(network);
    }
    rules.refuse();
    for (_, entry) in &open {
        rules.pass(entry);
    }
    match egress {
        Egress::Open => {
            rules.line(&format!("meta l4proto {{ tcp, udp }} th dport {DNS} goto refuse"));
            rules.line("goto pass");
        }
        Egress::Listed(_) => {
            for family in Family::ALL {
                let (header, _) = family.words();
                let (ports, hosts) = (family.ports(), family.hosts());
                rules.line(&format!(
                    "{header} daddr . meta l4proto . th dport @{ports} goto pass"
                ));
                rules.line(&format!(
                    "th dport != {DNS} {header} daddr . meta l4proto @{hosts} goto pass"
                ));
            }
            rules.line("goto refuse");
        }
    }
    rules.text
}

/// Rules as they are written, and what the next one will refuse.
#[derive(Default)]
struct Rules {
    text: String,
    closed: BTreeSet<IpNet>,
}

impl Rules {
    fn line(&mut self, rule: &str) {
        self.text += "\t\t";
        self.text += rule;
        self.text += "\n";
    }

    /// Refuses what is closed by now.
    fn refuse(&mut self) {
        let closed: Vec<IpNet> = std::mem::take(&mut self.closed).into_iter().collect();
        // Ranges of one set must not overlap.
        let closed = IpNet::aggregate(&closed);
        for family in Family::ALL {
            let (header, _) = family.words();
            let networks: Vec<String> = closed
                .iter()
                .filter(|network| Family::of(network.addr()) == family)
                .map(|network| Hosts::Network(*network).to_string())
                .collect();
            if !networks.is_empty() {
                self.line(&format!(
                    "{header} daddr {{ {} }} goto refuse",
                    networks.join(", ")
                ));
            }
        }
    }

    /// Lets through what an entry lists by address.
    fn pass(&mut self, entry: &Allowed) {
        let Hosts::Network(network) = entry.hosts else {
            return;
        };
        let (header, _) = Family::of(network.addr()).words();
        let protocol = match entry.protocol {
            Some(protocol) => protocol.to_string(),
            None => "{ tcp, udp }".to_owned(),
        };
        let ports: BTreeSet<u16> = entry.ports.iter().copied().collect();
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let ports = match ports.as_slice() {
            [] => format!("!= {DNS}"),
            ports => format!("{{ {} }}", ports.join(", ")),
        };
        let hosts = &entry.hosts;
        self.line(&format!(
            "{header} daddr {hosts} meta l4proto {protocol} th dport {ports} goto pass"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Around {
        Around {
            closed: vec!["192.0.2.9/32".parse().unwrap(), "10.213.0.0/16".parse().unwrap()],
            gateway: vec!["10.213.7.1".parse().unwrap()],
            peers: vec!["10.213.7.0/24".parse().unwrap()],
            own: vec!["10.213.7.5".parse().unwrap(), "fd72::7:5".parse().unwrap()],
        }
    }

    #[test]
    fn everything_is_open_but_what_is_closed_to_every_job() {
        insta::assert_snapshot!(text(&Egress::Open, &around()));
    }

    #[test]
    fn what_is_not_listed_is_refused() {
        let entry = |hosts: &str, ports: &[u16], protocol| Allowed {
            hosts: hosts.parse().unwrap(),
            ports: ports.to_vec(),
            protocol,
        };
        let entries = [
            entry("index.example.org", &[443], None),
            entry("169.254.169.254", &[80], Some(crate::egress::Protocol::Tcp)),
            entry("203.0.113.0/24", &[], None),
            entry("2001:db8::/32", &[53, 443], Some(crate::egress::Protocol::Udp)),
            entry("0.0.0.0/0", &[123], None),
        ];
        let egress = Egress::Listed(entries.iter().collect());
        insta::assert_snapshot!(text(&egress, &around()));
    }
}
