//! What a job tried to reach, for the receipt and for a manifest that allows just that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use serde::Serialize;

use super::lookups::Lookups;
use super::sets::Tried;
use crate::egress::Protocol;
use crate::egress::rules::{Family, Outcome, TRIED};
use crate::egress::{Hosts, Policy};

/// What a job tried to reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connections {
    /// In the order of names, then of addresses.
    pub(crate) list: Vec<Connection>,
    /// There were more than are counted one by one. What is allowed does not depend on that.
    pub(crate) more: bool,
    /// What the run needed to reach.
    needed: BTreeMap<Hosts, Needed>,
}

/// Connections to one place; a name that was refused has no place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Connection {
    /// The name that led there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Other names that led there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) also: Vec<String>,
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<IpAddr>,
    /// The port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<u16>,
    /// The protocol; none for a name that was refused when it was looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<Protocol>,
    /// What became of them.
    #[serde(rename = "verdict")]
    pub(crate) outcome: Outcome,
    /// How many; of a name, how often it was looked up.
    pub(crate) count: u64,
}

impl Connections {
    /// Puts what the kernel counted beside what was looked up; of the names that led to an address, those count first that
    /// `policy` lets lead there.
    pub(crate) fn new(tried: Vec<Tried>, lookups: &Lookups, policy: &Policy) -> Connections {
        let full = |outcome: Outcome, family: Family| {
            let same = |tried: &&Tried| tried.outcome == outcome && Family::of(tried.address) == family;
            tried.iter().filter(same).count() >= TRIED
        };
        let full = |outcome| Family::ALL.into_iter().any(|family| full(outcome, family));
        let more = lookups.more || Outcome::ALL.into_iter().any(full);
        let connected = tried.iter().map(|tried| {
            let names = lookups.names.get(&tried.address).into_iter().flatten();
            let (mut names, others): (Vec<String>, Vec<String>) = names
                .cloned()
                .partition(|name| policy.of_name(name).opens(tried.protocol, tried.port));
            if names.is_empty() {
                names = others;
            }
            let mut names = names.into_iter();
            Connection {
                name: names.next(),
                also: names.collect(),
                address: Some(tried.address),
                port: Some(tried.port),
                protocol: Some(tried.protocol),
                outcome: tried.outcome,
                count: tried.count,
            }
        });
        let refused = lookups.refused.iter().flat_map(|(name, counts)| {
            counts.iter().map(move |(address, count)| Connection {
                name: Some(name.clone()),
                also: Vec::new(),
                address: address.parse().ok(),
                port: None,
                protocol: None,
                outcome: Outcome::Refused,
                count: *count,
            })
        });
        let mut list: Vec<Connection> = connected.chain(refused).collect();
        list.sort();
        let needed = needed(&list, policy);
        Connections { list, more, needed }
    }

    /// The entries of `network.allow` that this run would have needed, as a job's manifest has them: all of its `allow`, so
    /// that they take the place of what it has.
    pub(crate) fn entries(&self, job: &str) -> String {
        let mut text = match self.needed.is_empty() {
            true => format!("# All of `allow` that this run needed: nothing.\n[job.{job}.network.allow]\n\n"),
            false => "# All of `allow` that this run needed.\n\n".to_owned(),
        };
        for (hosts, needed) in &self.needed {
            let ports: Vec<String> = needed.ports.iter().map(u16::to_string).collect();
            if needed.refused {
                text += match ports.is_empty() {
                    true => "# Refused in this run, before a port was tried.\n",
                    false => "# Refused in this run.\n",
                };
            }
            writeln!(text, "[job.{job}.network.allow.\"{hosts}\"]").ok();
            if !ports.is_empty() {
                writeln!(text, "ports = [{}]", ports.join(", ")).ok();
            }
            if let [only] = needed.protocols.iter().collect::<Vec<_>>()[..] {
                writeln!(text, "protocol = \"{only}\"").ok();
            }
            text += "\n";
        }
        if self.more {
            text += "# There was more than is remembered.\n";
        }
        text
    }
}

/// What a run needed of some hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Needed {
    ports: BTreeSet<u16>,
    protocols: BTreeSet<Protocol>,
    refused: bool,
}

fn needed(list: &[Connection], policy: &Policy) -> BTreeMap<Hosts, Needed> {
    let mut needed: BTreeMap<Hosts, Needed> = BTreeMap::new();
    for connection in list {
        if connection.address.is_some_and(|address| policy.is_peer(address)) {
            continue;
        }
        let names = connection.name.iter().chain(&connection.also);
        // A name that no entry can have is known to nobody's DNS: the job has made it up.
        let mut hosts: Vec<Hosts> = names.filter_map(|name| name.parse().ok()).collect();
        // What no name opens is listed by its address, beside the name that leads there.
        let by_address = |address: &IpAddr| connection.name.is_none() || !policy.opens_at(*address);
        let address = connection.address.filter(by_address);
        hosts.extend(address.map(|address| Hosts::Network(address.into())));
        for hosts in hosts {
            let needed = needed.entry(hosts).or_default();
            needed.ports.extend(connection.port);
            needed.protocols.extend(connection.protocol);
            needed.refused |= connection.outcome == Outcome::Refused;
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{Allowed, Around, Egress};

    fn connections() -> Connections {
        let mut lookups = Lookups::default();
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        lookups.answered("index.example.org", [address("203.0.113.5")].into_iter());
        lookups.answered(
            "files.example.org",
            [address("203.0.113.5"), address("2001:db8::5")].into_iter(),
        );
        lookups.refused("tracker.example", None);
        lookups.refused("tracker.example", None);
        lookups.refused("rebind.example", Some(address("10.0.0.7")));
        lookups.refused("made\\032up", None);
        let tried = |text: &str, port, protocol, outcome, count| Tried {
            address: address(text),
            protocol,
            port,
            outcome,
            count,
        };
        let tried = vec![
            tried("203.0.113.5", 443, Protocol::Tcp, Outcome::Allowed, 3),
            tried("203.0.113.5", 80, Protocol::Tcp, Outcome::Refused, 1),
            tried("203.0.113.5", 8443, Protocol::Tcp, Outcome::Allowed, 1),
            tried("2001:db8::5", 443, Protocol::Udp, Outcome::Allowed, 1),
            tried("169.254.169.254", 80, Protocol::Tcp, Outcome::Refused, 2),
        ];
        let entry = |hosts: &str, ports: &[u16]| Allowed {
            hosts: hosts.parse().unwrap(),
            ports: ports.to_vec(),
            protocol: None,
        };
        let entries = [
            entry("*.example.org", &[443]),
            entry("files.example.org", &[8443]),
        ];
        let egress = Egress::Listed(entries.iter().collect());
        Connections::new(tried, &lookups, &Policy::new(&egress, &Around::default()))
    }

    #[test]
    fn what_was_tried_has_the_names_that_led_there() {
        let list = connections().list;
        let lines: Vec<String> = list
            .iter()
            .map(|one| serde_json::to_string(one).unwrap())
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"address":"169.254.169.254","port":80,"protocol":"tcp","verdict":"refused","count":2}
        {"name":"files.example.org","address":"203.0.113.5","port":8443,"protocol":"tcp","verdict":"allowed","count":1}
        {"name":"files.example.org","address":"2001:db8::5","port":443,"protocol":"udp","verdict":"allowed","count":1}
        {"name":"files.example.org","also":["index.example.org"],"address":"203.0.113.5","port":80,"protocol":"tcp","verdict":"refused","count":1}
        {"name":"files.example.org","also":["index.example.org"],"address":"203.0.113.5","port":443,"protocol":"tcp","verdict":"allowed","count":3}
        {"name":"made\\032up","verdict":"refused","count":1}
        {"name":"rebind.example","address":"10.0.0.7","verdict":"refused","count":1}
        {"name":"tracker.example","verdict":"refused","count":2}
        "#);
    }

    #[test]
    fn the_entries_that_a_run_needed_are_a_manifests() {
        let entries = connections().entries("fetch");
        insta::assert_snapshot!(entries, @r#"
        # All of `allow` that this run needed.

        # Refused in this run.
        [job.fetch.network.allow."files.example.org"]
        ports = [80, 443, 8443]

        # Refused in this run.
        [job.fetch.network.allow."index.example.org"]
        ports = [80, 443]
        protocol = "tcp"

        # Refused in this run, before a port was tried.
        [job.fetch.network.allow."rebind.example"]

        # Refused in this run, before a port was tried.
        [job.fetch.network.allow."tracker.example"]

        # Refused in this run, before a port was tried.
        [job.fetch.network.allow."10.0.0.7"]

        # Refused in this run.
        [job.fetch.network.allow."169.254.169.254"]
        ports = [80]
        protocol = "tcp"
        "#);
    }
}
