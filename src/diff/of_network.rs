//! What a plan's network steps let a job reach.

use std::collections::BTreeSet;

use super::held::Held;
use super::measure::{Measure, Names};
use crate::egress::{Hosts, Protocol};
use crate::plan::NetworkStep;
use crate::profile::Origin;

impl Held {
    /// The steps of a plan whose job has a network namespace of its `own`, or shares the host's.
    pub(super) fn network_steps(&mut self, own: bool, steps: &[NetworkStep]) {
        let mut interface = match own {
            true => Measure::state(0, "none"),
            false => Measure::state(3, "the host's own"),
        };
        let mut peers = own.then(BTreeSet::new);
        for step in steps {
            match step {
                NetworkStep::Join { name } => {
                    let name = name.as_ref().map_or("none", String::as_str).to_owned();
                    let absent = Measure::Neutral("none".to_owned());
                    self.put_else("network.name", Measure::Neutral(name), absent, None);
                }
                NetworkStep::Port { alone: true } | NetworkStep::Pasta => {
                    interface = Measure::state(1, "without other jobs")
                }
                NetworkStep::Port { alone: false } => interface = Measure::state(2, "with other jobs"),
                NetworkStep::Rules { open: true } => peers = None,
                NetworkStep::Allow(allowed) => {
                    peers.get_or_insert_default().insert(allowed.hosts.to_string());
                    self.allowed(&allowed.hosts, &allowed.ports, allowed.protocol, None);
                }
                NetworkStep::Publish { at, to, protocol } => {
                    let measure = Measure::given([format!("{at} of the host, to {protocol} {to} inside")]);
                    let key = format!("network.publish.\"{at}\"");
                    self.put_else(key, measure, Measure::given([]), None);
                }
                // How the interface comes to be of use.
                NetworkStep::Loopback
                | NetworkStep::Rules { open: false }
                | NetworkStep::Resolver
                | NetworkStep::Addresses { .. } => {}
            }
        }
        self.put("network.interface", interface, None);
        self.put("network.allow", Measure::Given(peers, Names::Apart), None);
    }

    /// An entry of `network.allow`.
    pub(super) fn allowed(
        &mut self,
        hosts: &Hosts,
        ports: &[u16],
        protocol: Option<Protocol>,
        origin: Option<&Origin>,
    ) {
        let key = format!("network.allow.\"{hosts}\"");
        let numbers = ports.iter().map(u16::to_string).collect();
        let ports = (!ports.is_empty()).then_some(numbers);
        self.put(
            format!("{key}.ports"),
            Measure::Given(ports, Names::Apart),
            origin,
        );
        let protocol = protocol.map(|protocol| BTreeSet::from([protocol.to_string()]));
        self.put(
            format!("{key}.protocol"),
            Measure::Given(protocol, Names::Apart),
            origin,
        );
    }
}
