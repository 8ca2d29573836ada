//! What the job reaches, and the files that tell programs about it.

use std::collections::BTreeMap;

use super::given::{Found, Given};
use super::{Mounted, NetworkStep, Tree, codes};
use crate::profile::{Network, SysMount, Text};

const RESOLV: &str = "/etc/resolv.conf";

/// Where a job on a bridge asks for names: inside its own network, where only a process of ours listens.
const RESOLVER: &str = "127.0.0.11";

/// Whether the job has a network namespace of its own.
pub(super) fn own(given: Given<'_>) -> bool {
    given.job.hold.network.value != Network::Host
}

/// Refuses what is not there yet.
pub(super) fn check(given: Given<'_>, found: &mut Found) {
    let network = &given.job.hold.network;
    if let Network::Bridge(_) = network.value {
        found.refuse(
            codes::NO_BRIDGE,
            network.span(),
            "bridge networks are not built yet",
            "use `mode = \"null\"` or `mode = \"host\"`",
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
    steps.extend([NetworkStep::Loopback, NetworkStep::Addresses]);
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
    use crate::profile::{Bridge, Namespace};

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
    fn a_bridge_is_refused_where_it_is_written() {
        let mut sample = sample::strict();
        sample.job.hold.network = placed(Network::Bridge(Bridge::default()), 4);
        assert_eq!(
            sample.refusals(),
            ["bridge networks are not built yet; use `mode = \"null\"` or `mode = \"host\"`"]
        );
    }
}
