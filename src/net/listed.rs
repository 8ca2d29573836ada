//! What a job lists by its address although it is closed to every job: a metadata service, the host. On the host's side it is
//! open to that job alone; which protocols and ports, the job's own rules say as well.
//!
//! What was opened is written down before, so that no later job with the same number has it.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::subnet::Number;
use super::{nft, ruleset, words};
use crate::egress::{Allowed, CLOSED, Hosts, Way};

/// The rules of the host's table that let it through: who, where to, by what, for both kinds of addresses.
pub(super) const RULES: [&str; 2] = [
    "ip saddr . ip daddr . meta l4proto . th dport @listed4 accept",
    "ip6 saddr . ip6 daddr . meta l4proto . th dport @listed6 accept",
];

/// Opens to the job with these addresses on the network of `bridge`, whose folder is `folder`, what it lists of what is closed to
/// every job, `here` among it.
///
/// # Errors
/// nft's words, or those of the file.
pub(super) fn open(
    (folder, bridge): (&Path, &str),
    (number, addresses): (Number, &[IpAddr]),
    listed: &[&Allowed],
    here: &[IpNet],
) -> Result<(), String> {
    let elements = elements(addresses, listed, here);
    if elements.is_empty() {
        return Ok(());
    }
    let all = |verb: &str| -> String {
        let line =
            |(set, element): &(&str, String)| format!("{verb} element inet {bridge} {set} {{ {element} }}\n");
        elements.iter().map(line).collect()
    };
    let file = file(folder, number);
    // It is taken out whether it was put in or not.
    fs::write(&file, all("add") + &all("delete")).map_err(|error| format!("{}: {error}", file.display()))?;
    nft::load(&all("add"))
}

/// Closes what the job of a number listed on the network of `bridge`; nothing, mostly.
///
/// # Errors
/// nft's words, or those of the file.
pub(super) fn close((folder, bridge): (&Path, &str), number: Number) -> Result<(), String> {
    let file = file(folder, number);
    let at = |error: io::Error| format!("{}: {error}", file.display());
    match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        close => {
            let close = close.map_err(at)?;
            // In rules that somebody has thrown away nothing is open.
            if ruleset::look(bridge).map_err(words)?.table.is_some() {
                nft::load(&close)?;
            }
            fs::remove_file(&file).map_err(at)
        }
    }
}

fn file(folder: &Path, number: Number) -> PathBuf {
    folder.join(format!("listed-{number}"))
}

/// The elements, each with its set.
fn elements(job: &[IpAddr], listed: &[&Allowed], here: &[IpNet]) -> Vec<(&'static str, String)> {
    let mut elements = Vec::new();
    for entry in listed {
        let Hosts::Network(network) = entry.hosts else {
            continue;
        };
        let mut closed = CLOSED.iter().chain(here);
        let four = matches!(network, IpNet::V4(_));
        let from = job.iter().find(|address| address.is_ipv4() == four);
        let (true, Some(from)) = (closed.any(|closed| closed.contains(&network)), from) else {
            continue;
        };
        for Way { protocol, port } in entry.ways() {
            let mut element = format!("{from} . {network} . {protocol} . ");
            match port {
                Some(port) => write!(element, "{port}").ok(),
                None => write!(element, "0-65535").ok(),
            };
            elements.push((if four { "listed4" } else { "listed6" }, element));
        }
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Protocol;

    #[test]
    fn what_is_closed_to_every_job_is_opened_to_one_that_lists_it() {
        let entry = |hosts: &str, ports: &[u16], protocol| Allowed {
            hosts: hosts.parse().unwrap(),
            ports: ports.to_vec(),
            protocol,
        };
        let listed = [
            entry("169.254.169.254", &[80], Some(Protocol::Tcp)),
            entry("198.51.100.2", &[], None),
            entry("fd00:ec2::254", &[80, 443], Some(Protocol::Tcp)),
            entry("0.0.0.0/0", &[], None),
            entry("203.0.113.9", &[], None),
            entry("index.example.org", &[], None),
        ];
        let job = ["10.213.7.5".parse().unwrap(), "fd72::7:5".parse().unwrap()];
        let here = ["198.51.100.2/32".parse().unwrap()];
        let listed: Vec<&Allowed> = listed.iter().collect();
        let found: Vec<String> = elements(&job, &listed, &here)
            .into_iter()
            .map(|(set, element)| format!("{set} {element}"))
            .collect();
        assert_eq!(
            found,
            [
                "listed4 10.213.7.5 . 169.254.169.254/32 . tcp . 80",
                "listed4 10.213.7.5 . 198.51.100.2/32 . tcp . 0-65535",
                "listed4 10.213.7.5 . 198.51.100.2/32 . udp . 0-65535",
                "listed6 fd72::7:5 . fd00:ec2::254/128 . tcp . 80",
                "listed6 fd72::7:5 . fd00:ec2::254/128 . tcp . 443",
            ]
        );
    }
}
