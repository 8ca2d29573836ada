//! How a job is held.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::text::Names;
use super::view::View;
use super::{
    Limits, Mount, Namespace, Network, Placed, Rlimit, RlimitValue, Security, TimeOffsets, mounts,
    namespaces, rlimits,
};
use crate::manifest::value::Value;
use crate::problem::Problem;

/// How a job is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Namespaces of its own; `net` is not among them, it follows the network's mode.
    pub namespaces: BTreeMap<Namespace, Placed<bool>>,
    /// Offsets of the clocks inside; none without a time namespace.
    pub time_offsets: Option<Placed<TimeOffsets>>,
    /// The host name inside.
    pub hostname: Placed<String>,
    /// Whether PID 1 is ours and the job its child.
    pub init: Placed<bool>,
    /// Whether the root file system can be written.
    pub root: Placed<Root>,
    /// Whether the kernel's `/sys` is there; with the host's network it never is.
    pub sys: Placed<SysMount>,
    /// What bounds it as a whole.
    pub limits: Limits,
    /// Limits of each process, by setrlimit(2).
    pub rlimits: BTreeMap<Rlimit, Placed<RlimitValue>>,
    /// What it can reach.
    pub network: Placed<Network>,
    /// What it sees besides its image, by place inside.
    pub mounts: BTreeMap<String, Placed<Mount>>,
    /// Filters and rights.
    pub security: Security,
    /// Namespaced kernel settings, by dotted name.
    pub sysctls: BTreeMap<String, Placed<String>>,
}

/// Whether the root file system can be written, and where the writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// It cannot.
    ReadOnly,
    /// Into memory, thrown away at the end.
    Tmpfs,
    /// Onto the disk, bounded, thrown away at the end.
    Disk,
}

/// Whether the kernel's objects are shown in `/sys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SysMount {
    /// There is none (profile `strict`).
    Absent,
    /// A fresh one of the job's own namespaces, read-only.
    ReadOnly,
}

impl Profile {
    pub(super) fn read(view: View<'_, '_>, names: Names<'_>, problems: &mut Vec<Problem>) -> Profile {
        let (namespaces, time_offsets) = namespaces::read(view.get("namespaces"));
        let (hostname, init) = (view.get("hostname"), view.get("init"));
        let (root, sys) = (view.get("root"), view.get("sys"));
        Profile {
            namespaces,
            time_offsets,
            hostname: hostname
                .text()
                .unwrap_or_else(|| hostname.place("ringfence".to_owned())),
            init: init.bool().unwrap_or_else(|| init.place(true)),
            root: root.place(root.word().unwrap_or(Root::ReadOnly)),
            sys: sys.place(sys.word().unwrap_or(SysMount::Absent)),
            limits: Limits::read(view.get("limits"), problems),
            rlimits: rlimits::read(view.get("rlimits"), problems),
            network: Network::read(view.get("network"), problems),
            mounts: mounts::read(view.get("mounts"), names, problems),
            security: Security::read(view.get("security"), problems),
            sysctls: view
                .get("sysctls")
                .entries()
                .filter_map(|(name, entry)| match entry.value()? {
                    Value::Integer(number) => Some((name.to_owned(), entry.place(number.to_string()))),
                    _ => Some((name.to_owned(), entry.text()?)),
                })
                .collect(),
        }
    }
}
