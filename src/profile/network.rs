//! What a job can reach.

use std::collections::BTreeMap;

use super::Placed;
use super::view::View;
use crate::egress::{Hosts, Protocol};
use crate::manifest::grammar::sockets;
use crate::problem::{Problem, codes};

/// What a job can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// A loopback interface and nothing else.
    Null,
    /// Everything that the host reaches.
    Host,
    /// An interface of its own behind a bridge.
    Bridge(Bridge),
}

/// An interface behind a bridge, and what may pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Jobs on one named network see each other.
    pub name: Option<Placed<String>>,
    /// With a table, even an empty one, what is not listed is refused.
    pub allow: Option<BTreeMap<Hosts, Placed<Allow>>>,
    /// Ports of the host that lead inside, keyed by `ADDRESS:PORT`.
    pub publish: BTreeMap<String, Placed<Publish>>,
}

/// What may be reached under one name, address or network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Ports; empty means all.
    pub ports: Vec<u16>,
    /// One protocol, or both.
    pub protocol: Option<Protocol>,
}

/// A port of the host that leads inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The port inside.
    pub to: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl Network {
    pub(super) fn read(view: View<'_, '_>, problems: &mut Vec<Problem>) -> Placed<Network> {
        let mode = view.get("mode");
        let word = mode.str().unwrap_or("null");
        if word == "bridge" {
            return mode.place(Network::Bridge(Bridge::read(view, problems)));
        }
        // A mode that was written later than these tables replaces them, as a mount of another kind
        // replaces its parent; written at the same place or later they contradict it.
        for key in ["allow", "publish", "name", "egress"] {
            let table = view.get(key);
            if table.is_written() && !mode.is_later_than(table) {
                problems.push(
                    Problem::new(
                        codes::NEEDS_BRIDGE,
                        table.key_span(),
                        format!("`{key}` needs `mode = \"bridge\"`, and the mode is \"{word}\""),
                        match word {
                            "host" => "the host's own network cannot be filtered for one job; write `mode = \"bridge\"`",
                            _ => "write `mode = \"bridge\"`, or leave it out: nothing can be reached at all",
                        },
                    )
                    .beside(mode.span(), "the mode"),
                );
            }
        }
        mode.place(match word {
            "host" => Network::Host,
            _ => Network::Null,
        })
    }
}

impl Bridge {
    fn read(view: View<'_, '_>, problems: &mut Vec<Problem>) -> Bridge {
        let allow = view.get("allow");
        let mut publish = BTreeMap::new();
        for (socket, entry) in view.get("publish").entries() {
            match entry.get("to").port() {
                Some(to) => {
                    let protocol = entry.get("protocol").word().unwrap_or(Protocol::Tcp);
                    let count = sockets(socket).map_or(0, |sockets| sockets.len());
                    if usize::from(to) + count > 1 + usize::from(u16::MAX) {
                        problems.push(Problem::new(
                            codes::OUT_OF_RANGE,
                            entry.get("to").span(),
                            format!("`{socket}` has {count} ports, and there are not as many from {to} on"),
                            "write a lower `to`, or fewer ports: the last one is 65535",
                        ));
                    }
                    publish.insert(socket.to_owned(), entry.place(Publish { to, protocol }));
                }
                None if entry.has_bad() => {}
                None => problems.push(Problem::new(
                    codes::MISSING_KEY,
                    entry.key_span(),
                    format!("`{socket}` does not say which port inside it leads to"),
                    "write `to = 80`",
                )),
            }
        }
        Bridge {
            name: view.get("name").text(),
            allow: allow.is_written().then(|| {
                allow
                    .entries()
                    .filter_map(|(hosts, entry)| {
                        // What the decoder has refused is no entry.
                        let hosts = hosts.parse().ok()?;
                        let ports = entry.get("ports").items().filter_map(View::port).collect();
                        let protocol = entry.get("protocol").word();
                        Some((hosts, entry.place(Allow { ports, protocol })))
                    })
                    .collect()
            }),
            publish,
        }
    }
}
