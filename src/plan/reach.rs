//! The steps between a job and what it reaches.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use super::keys::FromKeys;
use super::plain::Plain;
use crate::egress::Allowed;
use crate::profile::Protocol;

/// Done while PID 1 builds the sandbox, which waits for the last of them ([`super::InitStep::Network`]): by the launcher,
/// or inside the job's network namespace by a child of the launcher's that has no rights elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum NetworkStep {
    /// Become a member of a network of the host, as root: the first one makes it, a bridge with addresses of its own and a
    /// table of rules, by which it is reached from nowhere and its jobs appear as the host.
    Join {
        /// Its name; none is the network of all jobs that name none.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Make the job's interface, the other end of a port of that bridge.
    Port {
        /// The port reaches the host alone, not the other jobs on the bridge.
        alone: bool,
    },
    /// Have pasta(1) make the job's interface and send what the job sends, as the caller: an ordinary user's way.
    Pasta,
    /// Have sockets of the host whose callers are led to the job; they are opened here, so that one that is taken ends the
    /// run before the job starts.
    Publish {
        /// Their address and ports, as the manifest has them; port 0 is any that is free.
        at: String,
        /// The first of the ports inside.
        to: u16,
        /// Their protocol.
        protocol: Protocol,
    },
    /// Inside: bring the loopback interface up.
    Loopback,
    /// Inside: load the rules by which the host, other jobs and the cloud's metadata are refused, and everything else too
    /// unless it is `open` or one of the next steps allows it: all of them in one transaction.
    Rules {
        /// What is not refused to every job is open.
        open: bool,
    },
    /// Inside, a part of the rules: let through what is written here.
    Allow(Allowed),
    /// Inside: listen where the job asks for names; a process without rights on the host answers from the host's servers,
    /// and opens the addresses of names that are allowed before it does.
    Resolver,
    /// Inside: give the job's interface its addresses, and lead everything to the host.
    Addresses {
        /// It has one of IPv6 too: the host has IPv6.
        ipv6: bool,
    },
}

impl Display for NetworkStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            NetworkStep::Join { name: None } => f.write_str("join the network of jobs that name none"),
            NetworkStep::Join { name: Some(name) } => write!(f, "join network {}", Plain(name)),
            NetworkStep::Port { alone: true } => {
                f.write_str("eth0 (a port of its bridge, without other jobs)")
            }
            NetworkStep::Port { alone: false } => {
                f.write_str("eth0 (a port of its bridge, with its other jobs)")
            }
            NetworkStep::Pasta => f.write_str("eth0 (by pasta: the job's connections are the caller's)"),
            NetworkStep::Publish { at, to, protocol } => {
                write!(f, "publish {} ({protocol}, to {to} inside)", Plain(at))
            }
            NetworkStep::Loopback => f.write_str("loopback up"),
            NetworkStep::Rules { open: true } => {
                f.write_str("rules (all but the host, other jobs and the cloud's metadata)")
            }
            NetworkStep::Rules { open: false } => f.write_str("rules (nothing but what is allowed)"),
            NetworkStep::Allow(allowed) => write!(f, "allow {allowed}"),
            NetworkStep::Resolver => f.write_str("resolver at 127.0.0.11"),
            NetworkStep::Addresses { ipv6: true } => {
                f.write_str("eth0 up (IPv4 and IPv6, the host is its gateway)")
            }
            NetworkStep::Addresses { ipv6: false } => f.write_str("eth0 up (IPv4, the host is its gateway)"),
        }
    }
}

impl FromKeys for NetworkStep {
    fn keys(&self) -> Vec<String> {
        let key = match self {
            NetworkStep::Publish { at, .. } => return vec![format!("network.publish.\"{at}\"")],
            NetworkStep::Allow(allowed) => return vec![format!("network.allow.\"{}\"", allowed.hosts)],
            NetworkStep::Rules { open: false } => "network.allow",
            NetworkStep::Join { name: Some(_) } | NetworkStep::Port { alone: false } => "network.name",
            NetworkStep::Join { name: None }
            | NetworkStep::Port { alone: true }
            | NetworkStep::Pasta
            | NetworkStep::Rules { open: true }
            | NetworkStep::Resolver
            | NetworkStep::Loopback
            | NetworkStep::Addresses { .. } => "network.mode",
        };
        vec![key.to_owned()]
    }
}
