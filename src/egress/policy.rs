//! What the job's resolver may answer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{Around, DNS, Egress, Hosts, PRIVATE, Protocol, Way};

/// Which names may be looked up, and where they may lead.
#[derive(Debug)]
pub(crate) struct Policy {
    /// None where every name may be looked up, and may lead to private addresses too.
    listed: Option<Listed>,
    /// What is closed to every job.
    closed: Vec<IpNet>,
    /// The jobs that this one sees.
    peers: Vec<IpNet>,
    /// What is listed by address.
    open: Vec<IpNet>,
}

/// The names that are listed, with the ways to their hosts.
#[derive(Debug, Default)]
struct Listed {
    names: HashMap<String, Vec<Way>>,
    below: HashMap<String, Vec<Way>>,
}

/// What becomes of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is passed on; the rules do not depend on its answer.
    Open,
    /// It is passed on, and these ways to what it is answered are opened.
    Listed(Vec<Way>),
    /// It is refused and asked of nobody.
    Refused,
}

impl Answer {
    /// Whether a connection to what the name leads to is let through.
    pub(crate) fn opens(&self, protocol: Protocol, port: u16) -> bool {
        let fits = |way: &Way| {
            let all = way.port.is_none() && port != DNS;
            way.protocol == protocol && (all || way.port == Some(port))
        };
        match self {
            Answer::Open => port != DNS,
            Answer::Listed(ways) => ways.iter().any(fits),
            Answer::Refused => false,
        }
    }
}

impl Policy {
    /// The policy of a plan, for a job in its surroundings.
    pub(crate) fn new(egress: &Egress<'_>, around: &Around) -> Policy {
        let mut policy = Policy {
            listed: None,
            closed: around.closed().collect(),
            peers: around.peers.clone(),
            open: Vec::new(),
        };
        if let Egress::Listed(entries) = egress {
            let mut listed = Listed::default();
            for entry in entries {
                match &entry.hosts {
                    Hosts::Name(name) => listed.names.entry(name.clone()).or_default().extend(entry.ways()),
                    Hosts::Below(name) => listed.below.entry(name.clone()).or_default().extend(entry.ways()),
                    Hosts::Network(network) => policy.open.push(*network),
                }
            }
            policy.listed = Some(listed);
        }
        policy
    }

    /// What becomes of a question for `name`, which is in lower case and has no last dot.
    pub(crate) fn of_name(&self, name: &str) -> Answer {
        let Some(listed) = &self.listed else {
            return Answer::Open;
        };
        // A dot or anything else that no host name has, escaped: the dots of the text are not those between labels.
        if name.contains('\\') {
            return Answer::Refused;
        }
        let parents = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        let found = parents
            .filter_map(|parent| listed.below.get(parent))
            .chain(listed.names.get(name));
        let mut ways: Vec<Way> = found.flatten().copied().collect();
        ways.sort_unstable();
        ways.dedup();
        match ways.is_empty() {
            true => Answer::Refused,
            false => Answer::Listed(ways),
        }
    }

    /// Whether what a name opens is open at `address` too. What is closed or private is open there by the entry that lists
    /// the address, with that entry's ports, whichever name leads to it.
    pub(crate) fn opens_at(&self, address: IpAddr) -> bool {
        let address = IpNet::from(within(address.to_canonical()));
        let mut closed = self.closed.iter().chain(&PRIVATE);
        !closed.any(|closed| closed.contains(&address))
    }

    /// Whether it is another job's that this one sees: no entry is needed for that.
    pub(crate) fn is_peer(&self, address: IpAddr) -> bool {
        let address = IpNet::from(address);
        self.peers.iter().any(|peers| peers.contains(&address))
    }

    /// Whether a name may lead to `address`: an entry must list what is private or closed, and no less than its whole
    /// network does, so that `0.0.0.0/0` lists none of it.
    pub(crate) fn may_lead_to(&self, address: IpAddr) -> bool {
        let address = IpNet::from(within(address.to_canonical()));
        let private = match self.listed {
            Some(_) => &PRIVATE[..],
            None => &[],
        };
        let mut closed = self.closed.iter().chain(private);
        closed.all(|closed| {
            let mut lists = self.peers.iter().chain(&self.open);
            let listed = lists.any(|open| open.contains(&address) && closed.contains(open));
            listed || !closed.contains(&address)
        })
    }
}

/// The IPv4 address that a translator at the edge of a network without IPv4 makes of an address (RFC 6052, section 2.1).
fn within(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => match six.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
                Ipv4Addr::new(a, b, c, d).into()
            }
            _ => address,
        },
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Allowed;
    use super::*;

    fn listed(entries: &[(&str, &[u16], Option<Protocol>)]) -> Vec<Allowed> {
        let allowed = entries.iter().map(|(hosts, ports, protocol)| Allowed {
            hosts: hosts.parse().unwrap(),
            ports: ports.to_vec(),
            protocol: *protocol,
        });
        allowed.collect()
    }

    fn only(entries: &[Allowed]) -> Egress<'_> {
        Egress::Listed(entries.iter().collect())
    }

    fn ways(answer: Answer) -> String {
        match answer {
            Answer::Open => "open".to_owned(),
            Answer::Refused => "refused".to_owned(),
            Answer::Listed(ways) => ways
                .iter()
                .map(|way| match way.port {
                    Some(port) => format!("{} {port}", way.protocol),
                    None => way.protocol.to_string(),
                })
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    #[test]
    fn a_name_has_the_ways_of_every_entry_that_it_is_among() {
        let entries = listed(&[
            ("a.example", &[443, 80], Some(Protocol::Tcp)),
            ("*.example", &[443], None),
            ("*.a.example", &[], Some(Protocol::Udp)),
        ]);
        let policy = Policy::new(&only(&entries), &Around::default());
        let of = |name| ways(policy.of_name(name));
        assert_eq!(of("a.example"), "tcp 80, tcp 443, udp 443");
        assert_eq!(of("b.a.example"), "tcp 443, udp, udp 443");
        assert_eq!(of("c.example"), "tcp 443, udp 443");
        assert_eq!(of("example"), "refused");
        assert_eq!(of("a.example.org"), "refused");
        assert_eq!(of("notexample"), "refused");
        assert_eq!(of(""), "refused");
        assert_eq!(
            ways(Policy::new(&Egress::Open, &Around::default()).of_name("x")),
            "open"
        );
    }

    #[test]
    fn names_lead_to_no_closed_address_unless_it_is_listed() {
        let around = Around {
            closed: vec!["192.0.2.9/32".parse().unwrap(), "10.213.0.0/16".parse().unwrap()],
            gateway: vec!["10.213.7.1".parse().unwrap()],
            peers: vec!["10.213.7.0/24".parse().unwrap()],
            own: Vec::new(),
        };
        let leads = |egress: &Egress<'_>| -> Vec<&str> {
            let policy = Policy::new(egress, &around);
            [
                "203.0.113.5",
                "192.0.2.9",
                "10.1.2.3",
                "10.213.7.5",
                "10.213.7.1",
                "10.213.8.5",
                "127.0.0.1",
                "169.254.169.254",
                "224.0.0.1",
                "2001:db8::5",
                "::1",
                "::ffff:127.0.0.1",
                "fd00:ec2::254",
                "fd12::1",
                "fe80::1",
                "64:ff9b::10.0.0.7",
                "64:ff9b::203.0.113.5",
            ]
            .into_iter()
            .filter(|address| policy.may_lead_to(address.parse().unwrap()))
            .collect()
        };
        assert_eq!(
            leads(&Egress::Open),
            [
                "203.0.113.5",
                "10.1.2.3",
                "10.213.7.5",
                "127.0.0.1",
                "2001:db8::5",
                "::1",
                "::ffff:127.0.0.1",
                "fd12::1",
                "64:ff9b::10.0.0.7",
                "64:ff9b::203.0.113.5"
            ]
        );
        let policy = Policy::new(&only(&listed(&[("10.1.2.3", &[80], None)])), &around);
        let opened = |address: &str| policy.opens_at(address.parse().unwrap());
        assert!(policy.may_lead_to("10.1.2.3".parse().unwrap()) && !opened("10.1.2.3"));
        assert!(opened("203.0.113.5"));
        let public = ["203.0.113.5", "10.213.7.5", "2001:db8::5", "64:ff9b::203.0.113.5"];
        assert_eq!(leads(&only(&listed(&[]))), public);
        assert_eq!(leads(&only(&listed(&[("0.0.0.0/0", &[], None)]))), public);
        assert_eq!(
            leads(&only(&listed(&[
                ("10.1.0.0/16", &[], None),
                ("169.254.169.254", &[80], None),
                ("fc00::/7", &[], None)
            ]))),
            [
                "203.0.113.5",
                "10.1.2.3",
                "10.213.7.5",
                "169.254.169.254",
                "2001:db8::5",
                "fd12::1",
                "64:ff9b::203.0.113.5"
            ]
        );
    }
}
