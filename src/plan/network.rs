//! What the job reaches, and the files that tell programs about it.

use std::collections::BTreeMap;

use super::given::{Found, Given};
use super::{Mounted, NetworkStep, Tree, codes};
use crate::egress::Allowed;
use crate::profile::{Allow, Network, SysMount, Text};

const RESOLV: &str = "/etc/resolv.conf";

/// Where a job on a bridge asks for names: inside its own network, where only a process of ours listens.
const RESOLVER: &str = "127.0.0.11";

/// Whether the job has a network namespace of its own.
pub(super) fn own(given: Given<'_>) -> bool {
    given.job.hold.network.value != Network::Host
}

/// Refuses what this host cannot hold.
pub(super) fn check(given: Given<'_>, found: &mut Found) {
    let network = &given.job.hold.network;
    let Network::Bridge(bridge) = &network.value else {
        return;
    };
    let has = given.facts.network;
    let mut needs = |whose: &str, program: &str, package: &str| {
        found.refuse(
            codes::NO_BRIDGE,
            network.span(),
            format!("{whose} needs {program}, which this host does not have"),
            format!("install the package {package}; `mode = \"null\"` and `mode = \"host\"` need nothing"),
        );
    };
    if !has.nftables {
        needs("a bridge network", "nft(8)", "nftables");
    }
    if !given.as_root() && !has.pasta {
        needs("an ordinary user's bridge network", "pasta(1)", "passt");
    }
    if !has.ipv6 {
        found.notice(
            "network.mode",
            "the job has IPv4 only: this host has IPv6 turned off",
        );
    }
    if let (false, Some(name)) = (given.as_root(), &bridge.name) {
        found.refuse(
            codes::NO_BRIDGE,
            name.span(),
            format!(
                "network `{}`: only root can make a bridge that jobs share",
                name.value
            ),
            "leave the name out: the job has a network of its own",
        );
    }
}

/// What makes an interface that leads out; nothing for a job that has none, or the host's.
pub(super) fn steps(given: Given<'_>) -> Vec<NetworkStep> {
    let Network::Bridge(bridge) = &given.job.hold.network.value else {
        return Vec::new();
    };
    let mut steps = Vec::new();
    if given.as_root() {
        let name = bridge.name.as_ref().map(|name| name.value.clone());
        let alone = name.is_none();
        steps.extend([NetworkStep::Join { name }, NetworkStep::Port { alone }]);
    } else {
        steps.push(NetworkStep::Pasta);
    }
    steps.extend(bridge.publish.iter().map(|(at, publish)| NetworkStep::Publish {
        at: at.clone(),
        to: publish.value.to,
        protocol: publish.value.protocol,
    }));
    let open = bridge.allow.is_none();
    steps.extend([NetworkStep::Loopback, NetworkStep::Rules { open }]);
    for (hosts, allow) in bridge.allow.iter().flatten() {
        let Allow { ports, protocol } = &allow.value;
        steps.push(NetworkStep::Allow(Allowed {
            hosts: hosts.clone(),
            ports: ports.clone(),
            protocol: *protocol,
        }));
    }
    steps.extend([NetworkStep::Resolver]);
    let ipv6 = given.facts.network.ipv6;
    steps.push(NetworkStep::Addresses { ipv6 });
    steps
}

/// Whether `/sys` is mounted. A user namespace may mount sysfs only with a network namespace of its own.
pub(super) fn sys(given: Given<'_>, found: &mut Found) -> bool {
    let wanted = given.job.hold.sys.value == SysMount::ReadOnly;
    if wanted && !own(given) {
        found.notice(
            "sys",
            "there is no /sys: a job on the host's network may not mount one",
        );
    }
    wanted && own(given)
}

/// `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`.
pub(super) fn files(given: Given<'_>) -> BTreeMap<String, Mounted> {
    let name = &given.job.hold.hostname.value;
    let hosts =
        format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{name}\n");
    let file = |text: String| Mounted::File {
        text: Text::literal(text),
    };
    let resolv = match given.job.hold.network.value {
        Network::Null => file(String::new()),
        Network::Bridge(_) => file(format!("nameserver {RESOLVER}\n")),
        Network::Host => Mounted::Bind {
            tree: Tree::Bind {
                at: RESOLV.to_owned(),
                source: Text::literal(RESOLV),
                optional: true,
            },
            read_only: true,
        },
    };
    BTreeMap::from([
        ("/etc/hostname".to_owned(), file(format!("{name}\n"))),
        ("/etc/hosts".to_owned(), file(hosts)),
        (RESOLV.to_owned(), resolv),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, placed};
    use super::*;
    use crate::host::facts::{Caller, NetworkFacts};
    use crate::profile::{Bridge, Namespace, Protocol};

    #[test]
    fn the_hosts_network_brings_its_resolver_and_takes_sys() {
        let mut sample = sample::strict();
        sample.job.hold.sys = placed(SysMount::ReadOnly, 4);
        let steps = |sample: &sample::Sample| -> Vec<String> {
            sample.plan().init.iter().map(ToString::to_string).collect()
        };
        let null = steps(&sample);
        assert!(null.contains(&"loopback up".to_owned()), "{null:?}");
        assert!(
            null.contains(&"mount /sys (sysfs, read-only)".to_owned()),
            "{null:?}"
        );
        assert!(
            null.contains(&"sysctl net.ipv4.ip_unprivileged_port_start = 0".to_owned()),
            "{null:?}"
        );

        sample.job.hold.network = placed(Network::Host, 4);
        let host = steps(&sample);
        assert!(!sample.plan().namespaces.contains(&Namespace::Net));
        assert!(
            !host
                .iter()
                .any(|step| step.contains("loopback") || step.contains("/sys ") || step.contains("net."))
        );
        assert!(
            host.contains(&"mount /etc/resolv.conf (bind, read-only)".to_owned()),
            "{host:?}"
        );
        assert_eq!(
            sample.notices("sys"),
            ["there is no /sys: a job on the host's network may not mount one"]
        );
    }

    #[test]
    fn each_entry_of_a_bridge_is_a_step() {
        let mut sample = sample::strict();
        let mut bridge = Bridge::default();
        let mut lines = |bridge: &Bridge| -> Vec<String> {
            sample.job.hold.network = placed(Network::Bridge(bridge.clone()), 4);
            sample.plan().network.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            lines(&bridge),
            [
                "join the network of jobs that name none",
                "eth0 (a port of its bridge, without other jobs)",
                "loopback up",
                "rules (all but the host, other jobs and the cloud's metadata)",
                "resolver at 127.0.0.11",
                "eth0 up (IPv4 and IPv6, the host is its gateway)",
            ]
        );
        let allow = |hosts: &str, ports: &[u16], protocol| {
            let allow = Allow {
                ports: ports.to_vec(),
                protocol,
            };
            (hosts.parse().unwrap(), placed(allow, 4))
        };
        bridge.allow = Some(BTreeMap::from([
            allow("10.0.0.0/8", &[], Some(Protocol::Udp)),
            allow("*.example.org", &[443, 8443], None),
            allow("index.example.org", &[80], Some(Protocol::Tcp)),
            allow("files.example.org", &[], None),
        ]));
        assert_eq!(
            lines(&bridge)[3..8],
            [
                "rules (nothing but what is allowed)",
                "allow files.example.org",
                "allow index.example.org, tcp 80",
                "allow *.example.org, ports 443 8443",
                "allow 10.0.0.0/8, udp",
            ]
        );
    }

    #[test]
    fn what_a_bridge_needs_is_named() {
        let mut sample = sample::strict();
        let mut bridge = Bridge::default();
        sample.job.hold.network = placed(Network::Bridge(bridge.clone()), 4);
        assert!(sample.refusals().is_empty(), "{:?}", sample.refusals());
        sample.facts.network = NetworkFacts::default();
        sample.facts.caller = Caller::User;
        bridge.name = Some(placed("lab".to_owned(), 5));
        sample.job.hold.network = placed(Network::Bridge(bridge), 4);
        let others = "`mode = \"null\"` and `mode = \"host\"` need nothing";
        let wanted = [
            format!("a bridge network needs nft(8), which this host does not have; install the package nftables; {others}"),
            format!("an ordinary user's bridge network needs pasta(1), which this host does not have; install the package passt; {others}"),
            "network `lab`: only root can make a bridge that jobs share; leave the name out: the job has a network of its own".to_owned(),
        ];
        let refusals = sample.refusals();
        let about = |text: &&String| wanted.contains(text);
        assert_eq!(
            refusals.iter().filter(about).cloned().collect::<Vec<_>>(),
            wanted,
            "{refusals:#?}"
        );
    }
}
