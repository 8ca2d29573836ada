//! What a job reaches, as other engines tell it apart.

use serde_json::{Value, json};

use super::Losses;
use crate::egress::{Allowed, Hosts};
use crate::plan::NetworkStep;
use crate::profile::Protocol;

/// The network of a job.
#[derive(Debug)]
pub(super) enum Network<'a> {
    /// Loopback alone.
    Null,
    /// The host's own.
    Host,
    /// An interface of its own.
    Bridge(Bridge<'a>),
}

/// What is behind an interface.
#[derive(Debug, Default)]
pub(super) struct Bridge<'a> {
    /// The network that it shares with other jobs.
    pub(super) name: Option<&'a str>,
    /// What it may reach; none: everything but what is closed to every job.
    allow: Option<Vec<&'a Allowed>>,
    /// Ports of the host that lead inside.
    publish: Vec<Publish<'a>>,
}

#[derive(Debug)]
struct Publish<'a> {
    /// Address and ports of the host.
    at: &'a str,
    /// The first port inside.
    to: u16,
    protocol: Protocol,
}

/// What clouds tell a machine's secrets by, and what is local to a link: closed to every job of ours.
const CLOSED: [(&str, &[&str]); 2] = [
    ("0.0.0.0/0", &["169.254.0.0/16"]),
    ("::/0", &["fd00:ec2::254/128", "fe80::/10"]),
];

impl<'a> Network<'a> {
    /// The network of a plan whose job has a network namespace of its `own`.
    pub(super) fn of(own: bool, steps: &'a [NetworkStep]) -> Network<'a> {
        if !own {
            return Network::Host;
        }
        if steps.is_empty() {
            return Network::Null;
        }
        let mut bridge = Bridge::default();
        for step in steps {
            match step {
                NetworkStep::Join { name } => bridge.name = name.as_deref(),
                NetworkStep::Rules { open: false } => bridge.allow = Some(Vec::new()),
                NetworkStep::Allow(allowed) => bridge.allow.get_or_insert_default().push(allowed),
                NetworkStep::Publish { at, to, protocol } => bridge.publish.push(Publish {
                    at,
                    to: *to,
                    protocol: *protocol,
                }),
                _ => {}
            }
        }
        Network::Bridge(bridge)
    }

    /// What a container engine calls it; none: its own network, as without a word.
    pub(super) fn word(&self) -> Option<&'a str> {
        match self {
            Network::Null => Some("none"),
            Network::Host => Some("host"),
            Network::Bridge(bridge) => bridge.name,
        }
    }

    /// Ports as a container engine writes them: `127.0.0.1:8080:80/tcp`.
    pub(super) fn published(&self) -> Vec<String> {
        let Network::Bridge(bridge) = self else {
            return Vec::new();
        };
        let line = |publish: &Publish<'_>| {
            let (first, last) = publish.inside();
            let inside = match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            };
            format!("{}:{inside}/{}", publish.at, publish.protocol)
        };
        bridge.publish.iter().map(line).collect()
    }

    /// What a container engine's own network does not hold.
    pub(super) fn open_losses(&self, losses: &mut Losses) {
        let Network::Bridge(bridge) = self else {
            return;
        };
        match bridge.allow {
            Some(_) => losses.add(
                "network.allow",
                "everything is reached that the engine's network reaches",
            ),
            None => losses.add(
                "network.mode",
                "the host, other containers and the cloud's metadata are reached as well",
            ),
        }
    }

    /// What is lost with an engine that makes a namespace and nothing in it.
    pub(super) fn lonely_losses(&self, engine: &str, losses: &mut Losses) {
        if let Network::Bridge(_) = self {
            losses.add(
                "network.mode",
                format!("there is loopback alone: {engine} makes no interface"),
            );
        }
    }

    /// The rules of a Kubernetes NetworkPolicy for a pod with an interface: what may come in, and go out.
    pub(super) fn policy(&self, losses: &mut Losses) -> (Vec<Value>, Vec<Value>) {
        let Network::Bridge(bridge) = self else {
            return (Vec::new(), Vec::new());
        };
        let egress = match &bridge.allow {
            None => {
                losses.add(
                    "network.mode",
                    "nodes and other pods are reached as far as the cluster's network has addresses for them",
                );
                let blocks =
                    CLOSED.map(|(cidr, except)| json!({ "ipBlock": { "cidr": cidr, "except": except } }));
                vec![json!({ "to": blocks })]
            }
            Some(allowed) => allowed
                .iter()
                .filter_map(|allowed| rule(allowed, losses))
                .collect(),
        };
        let ports: Vec<Value> = bridge
            .publish
            .iter()
            .map(|publish| {
                let (first, last) = publish.inside();
                let mut port = json!({ "protocol": word(publish.protocol), "port": first });
                if last != first {
                    port["endPort"] = last.into();
                }
                port
            })
            .collect();
        let ingress = (!ports.is_empty()).then(|| json!({ "ports": ports }));
        (ingress.into_iter().collect(), egress)
    }

    /// The ports of a pod's container.
    pub(super) fn container_ports(&self) -> Vec<Value> {
        let Network::Bridge(bridge) = self else {
            return Vec::new();
        };
        let ports = bridge.publish.iter().flat_map(|publish| {
            let (address, outside) = publish.outside();
            let (first, last) = publish.inside();
            (first..=last).zip(outside..).map(move |(inside, outside)| {
                let mut port =
                    json!({ "containerPort": inside, "protocol": word(publish.protocol), "hostIP": address });
                // Port 0 is any: then none is written.
                if outside > 0 {
                    port["hostPort"] = outside.into();
                }
                port
            })
        });
        ports.collect()
    }
}

impl Publish<'_> {
    /// The address of the host and the first of its ports.
    fn outside(&self) -> (&str, u16) {
        let (address, ports) = self.at.rsplit_once(':').unwrap_or((self.at, "0"));
        let first = ports.split('-').next().and_then(|port| port.parse().ok());
        (address.trim_matches(['[', ']']), first.unwrap_or(0))
    }

    /// The first and the last port inside.
    fn inside(&self) -> (u16, u16) {
        let ports = self.at.rsplit(':').next().unwrap_or_default();
        let last = ports
            .split_once('-')
            .and_then(|(_, last)| last.parse::<u16>().ok());
        let more = last.map_or(0, |last| last.saturating_sub(self.outside().1));
        (self.to, self.to.saturating_add(more))
    }
}

/// The rule of an entry; a policy has addresses and no names.
fn rule(allowed: &Allowed, losses: &mut Losses) -> Option<Value> {
    let Hosts::Network(network) = &allowed.hosts else {
        losses.add(
            format!("network.allow.\"{}\"", allowed.hosts),
            "it is not reached: a NetworkPolicy has no names",
        );
        return None;
    };
    let mut rule = json!({ "to": [{ "ipBlock": { "cidr": network.to_string() } }] });
    let protocols = match allowed.protocol {
        Some(protocol) => vec![protocol],
        None => vec![Protocol::Tcp, Protocol::Udp],
    };
    let ports: Vec<Value> = protocols
        .into_iter()
        .flat_map(|protocol| match allowed.ports.as_slice() {
            [] => vec![json!({ "protocol": word(protocol) })],
            ports => ports
                .iter()
                .map(|port| json!({ "protocol": word(protocol), "port": port }))
                .collect(),
        })
        .collect();
    if !allowed.ports.is_empty() || allowed.protocol.is_some() {
        rule["ports"] = ports.into();
    }
    Some(rule)
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}
