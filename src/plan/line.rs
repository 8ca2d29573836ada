//! Every step in one line: for the sheet, and for the launcher's errors
//! (`init step 4 of 11: mount /data (bind, read-only): permission denied`).

use std::fmt::{self, Display, Formatter};

use super::plain::Plain;
use super::{
    Cgroup, ChildStep, HostStep, Id, IdMapping, InitStep, LandlockAccess, LandlockRules, Mounted, RootMount,
    Tree, TreeOwner, Upper, WorkloadStep,
};
use crate::profile::{IoLimit, TimeOffsets};
use crate::units::Bytes;

impl Display for HostStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            HostStep::Cgroup(cgroup) => write!(f, "cgroup ({cgroup})"),
            HostStep::TakeTree(tree) => write!(f, "take {tree}"),
            HostStep::LayerFile { size } => write!(f, "make the writable layer (file of {size}, ext4)"),
        }
    }
}

impl Display for Cgroup {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut bounds = self.bounds();
        if self.devices {
            bounds.push("devices closed".to_owned());
        }
        if !bounds.is_empty() {
            write!(f, "{}; ", bounds.join(", "))?;
        }
        let controllers: Vec<String> = self
            .controllers
            .iter()
            .map(|(name, version)| format!("{name} v{version}"))
            .collect();
        write!(f, "controllers {}", controllers.join(", "))
    }
}

impl Cgroup {
    /// What it bounds, each in words.
    pub(super) fn bounds(&self) -> Vec<String> {
        let mut bounds = Vec::new();
        bounds.extend(self.memory.map(|memory| format!("memory {memory} without swap")));
        bounds.extend(self.pids.map(|pids| format!("pids {pids}")));
        bounds.extend(self.cpus.map(|cpus| format!("cpus {cpus}")));
        bounds.extend(
            self.cpuset
                .as_ref()
                .map(|cpuset| format!("cpuset {}", Plain(cpuset))),
        );
        bounds.extend(
            self.io
                .iter()
                .map(|(device, limit)| format!("io {} {}", Plain(device), io(limit))),
        );
        bounds
    }
}

fn io(limit: &IoLimit) -> String {
    let bytes = |name: &str, value: Option<Bytes>| value.map(|value| format!("{name} {value}/s"));
    let count = |name: &str, value: Option<u64>| value.map(|value| format!("{name} {value}/s"));
    let parts = [
        bytes("read", limit.read),
        bytes("write", limit.write),
        count("read-ops", limit.read_ops),
        count("write-ops", limit.write_ops),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

impl Display for Tree {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Layers => f.write_str("the image"),
            Tree::Bind { at, source, optional } => {
                let source = source.to_string();
                write!(f, "{}", Plain(&source))?;
                if source != *at {
                    write!(f, " for {}", Plain(at))?;
                }
                f.write_str(if *optional { ", if it exists" } else { "" })
            }
            Tree::Scratch => f.write_str("an empty folder of the store"),
        }
    }
}

impl Display for ChildStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            ChildStep::Cgroup(cgroup) => write!(f, "cgroup ({cgroup})"),
            ChildStep::MapIds(mapping) => write!(f, "map ids ({mapping})"),
            ChildStep::IdmapTree { tree, owner } => match owner {
                TreeOwner::Same => write!(f, "idmap {tree} (the same ids)"),
                TreeOwner::Job { user, group } => {
                    write!(f, "idmap {tree} (its owner becomes {})", Ids(*user, *group))
                }
            },
            ChildStep::MountOverlay { size } => write!(f, "mount the root's overlay ({})", in_memory(*size)),
        }
    }
}

impl Display for IdMapping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            IdMapping::Range => f.write_str("65536 of a range of this run's own"),
            IdMapping::SharedRange => f.write_str("65536 of the range that all runs of the store share"),
            IdMapping::Stored => f.write_str("65536 subordinate ids, those of the image's files"),
            IdMapping::Subordinate { user, group } => {
                write!(
                    f,
                    "{}, the others are its subordinate ids",
                    caller_as(*user, *group)
                )
            }
            IdMapping::Single { user, group } => {
                write!(f, "{}, there are no others", caller_as(*user, *group))
            }
        }
    }
}

fn caller_as(user: Id, group: Id) -> String {
    match (user, group) {
        (Id::Caller, Id::Caller) => "the caller is itself".to_owned(),
        _ => format!("{} is the caller", Ids(user, group)),
    }
}

/// A user and a group.
pub(super) struct Ids(pub(super) Id, pub(super) Id);

impl Display for Ids {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Id::Caller, Id::Caller) => f.write_str("the caller"),
            (user, group) => write!(f, "{user}:{group}"),
        }
    }
}

impl Display for Id {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(number) => write!(f, "{number}"),
            Id::Caller => f.write_str("caller"),
        }
    }
}

impl Display for InitStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            InitStep::JoinCgroup => f.write_str("join the cgroup"),
            InitStep::Unshare(namespace) => write!(f, "unshare {namespace}"),
            InitStep::Time(offsets) => write!(f, "unshare time ({})", Offsets(*offsets)),
            InitStep::TakeTree(tree) => write!(f, "take {tree}"),
            InitStep::BecomeRoot => f.write_str("become root of the user namespace"),
            InitStep::NotDumpable => f.write_str("not dumpable"),
            InitStep::SessionKeyring => f.write_str("new session keyring"),
            InitStep::PrivateMounts => f.write_str("make all mounts private"),
            InitStep::Hostname(name) => write!(f, "hostname {}", Plain(name)),
            InitStep::Loopback => f.write_str("loopback up"),
            InitStep::Network => f.write_str("wait for the network"),
            InitStep::Root(root) => write!(f, "root ({root})"),
            InitStep::Fork => f.write_str("fork the job's process"),
            InitStep::Mount { at, what } => write!(f, "mount {} ({what})", Plain(at)),
            InitStep::Sysctl { name, value } => write!(f, "sysctl {} = {}", Plain(name), Plain(value)),
            InitStep::Mask(paths) => write!(f, "mask {}", Plain(&paths.join(" "))),
            InitStep::ReadOnly(paths) => write!(f, "read-only {}", Plain(&paths.join(" "))),
            InitStep::RootReadOnly => f.write_str("read-only /"),
        }
    }
}

struct Offsets(TimeOffsets);

impl Display for Offsets {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let TimeOffsets {
            monotonic_ms,
            boottime_ms,
        } = self.0;
        match (monotonic_ms, boottime_ms) {
            (0, 0) => f.write_str("no offsets"),
            _ => write!(f, "monotonic {monotonic_ms:+}ms, boottime {boottime_ms:+}ms"),
        }
    }
}

impl Display for RootMount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            RootMount::Overlay(upper) => write!(f, "overlay, {upper}"),
            RootMount::OverlayFromLauncher => f.write_str("the launcher's overlay"),
            RootMount::Tmpfs => f.write_str("tmpfs, only for mount points"),
            RootMount::WritableTmpfs { size } => write!(f, "tmpfs, {}", in_memory(*size)),
        }
    }
}

impl Display for Upper {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Upper::MountPoints => f.write_str("writable only for mount points"),
            Upper::Tmpfs(size) => f.write_str(&in_memory(*size)),
            Upper::LayerFile => f.write_str("writes on disk"),
            Upper::Scratch => f.write_str("writes in the store, without a bound"),
        }
    }
}

fn in_memory(size: Option<Bytes>) -> String {
    match size {
        Some(size) => format!("writes in memory, at most {size}"),
        None => "writes in memory, at most half of it".to_owned(),
    }
}

impl Display for Mounted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Mounted::Proc => f.write_str("proc"),
            Mounted::Sysfs => f.write_str("sysfs, read-only"),
            Mounted::Dev => f.write_str("standard devices"),
            Mounted::Tmpfs { size, mode, exec } => {
                write!(f, "tmpfs, {size}")?;
                if *mode != 0o1777 {
                    write!(f, ", mode {mode:o}")?;
                }
                f.write_str(if *exec { "" } else { ", noexec" })
            }
            Mounted::Bind { read_only, .. } => f.write_str(if *read_only {
                "bind, read-only"
            } else {
                "bind, writable"
            }),
            Mounted::Copy { size, .. } => match size {
                Some(size) => write!(f, "copy, at most {size} of writes, thrown away"),
                None => f.write_str("copy, writes are thrown away"),
            },
            Mounted::File { .. } => f.write_str("file, read-only"),
            Mounted::Link { target } => write!(f, "link to {}", Plain(target)),
        }
    }
}

impl Display for WorkloadStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            WorkloadStep::Session => f.write_str("new session"),
            WorkloadStep::Rlimits(limits) => {
                let limits: Vec<String> = limits
                    .iter()
                    .map(|(name, value)| format!("{name} {value}"))
                    .collect();
                write!(f, "rlimits ({})", limits.join(", "))
            }
            WorkloadStep::Credentials {
                user,
                group,
                groups,
                capabilities,
                ambient,
            } => {
                write!(f, "become {} (", Ids(*user, *group))?;
                if !groups.is_empty() {
                    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
                    write!(f, "groups {}, ", groups.join(" "))?;
                }
                let names: Vec<&str> = capabilities.iter().map(|capability| capability.name()).collect();
                match (names.is_empty(), ambient) {
                    (true, _) => f.write_str("no capabilities)"),
                    (false, false) => write!(f, "capabilities {})", names.join(" ")),
                    (false, true) => write!(f, "ambient capabilities {})", names.join(" ")),
                }
            }
            WorkloadStep::NoNewPrivileges => f.write_str("no-new-privs"),
            WorkloadStep::WaitForInit => f.write_str("wait for PID 1"),
            WorkloadStep::Workdir(path) => write!(f, "go to {}", Plain(&path.to_string())),
            WorkloadStep::Landlock(rules) => write!(f, "landlock {rules}"),
            WorkloadStep::CloseDescriptors => f.write_str("close all descriptors but 0 1 2"),
            WorkloadStep::Seccomp(policy) => write!(f, "seccomp ({})", Plain(&policy.to_string())),
            WorkloadStep::Verify => f.write_str("verify what the kernel says of this process"),
        }
    }
}

impl Display for LandlockRules {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let paths = |verb: &str, fits: fn(&LandlockAccess) -> bool| {
            let fitting = self.paths.iter().filter(|(_, access)| fits(access));
            let names: Vec<&str> = fitting.map(|(path, _)| path.as_str()).collect();
            (!names.is_empty()).then(|| format!("{verb} {}", Plain(&names.join(" "))))
        };
        let ports = |verb: &str, ports: &Option<std::collections::BTreeSet<u16>>| {
            ports.as_ref().map(|ports| {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                match ports.is_empty() {
                    true => format!("; {verb} no TCP port"),
                    false => format!("; {verb} TCP {}", ports.join(" ")),
                }
            })
        };
        // What can be written can be read as well.
        let lists = [
            paths("read", |access| !access.write),
            paths("write", |access| access.write),
            paths("execute", |access| access.execute),
        ];
        let lists: Vec<String> = lists.into_iter().flatten().collect();
        write!(f, "ABI {} ({}", self.abi, lists.join(", "))?;
        for ports in [
            ports("connect to", &self.connect_tcp),
            ports("bind", &self.bind_tcp),
        ]
        .into_iter()
        .flatten()
        {
            f.write_str(&ports)?;
        }
        f.write_str(if self.scoped {
            "; signals and abstract sockets stay inside)"
        } else {
            ")"
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::profile::{Namespace, Piece, Rlimit, RlimitValue, Text};
    use crate::units::MilliCpus;

    #[test]
    fn steps_are_one_line_each() {
        let bind = Tree::Bind {
            at: "/data".into(),
            source: Text(vec![Piece::ManifestDir, Piece::Literal("/d".into())]),
            optional: true,
        };
        let mut cgroup = Cgroup {
            controllers: BTreeMap::from([("cpu".into(), 2), ("io".into(), 2)]),
            cpus: Some(MilliCpus(1500)),
            cpuset: Some("0-1".into()),
            ..Cgroup::default()
        };
        let limit = IoLimit {
            read: Some(Bytes(1 << 20)),
            write_ops: Some(10),
            ..IoLimit::default()
        };
        cgroup.io.insert("/dev/sda".into(), limit);
        let rlimits = BTreeMap::from([
            (
                Rlimit::Core,
                RlimitValue {
                    soft: Some(0),
                    hard: Some(0),
                },
            ),
            (
                Rlimit::Nofile,
                RlimitValue {
                    soft: Some(1024),
                    hard: None,
                },
            ),
        ]);
        let number = Id::Number;
        let lines = [
            HostStep::Cgroup(cgroup).to_string(),
            HostStep::TakeTree(bind.clone()).to_string(),
            HostStep::LayerFile { size: Bytes(1 << 30) }.to_string(),
            ChildStep::MapIds(IdMapping::Single {
                user: Id::Caller,
                group: Id::Caller,
            })
            .to_string(),
            ChildStep::IdmapTree {
                tree: bind,
                owner: TreeOwner::Job {
                    user: number(5),
                    group: number(6),
                },
            }
            .to_string(),
            ChildStep::MountOverlay { size: None }.to_string(),
            InitStep::Time(TimeOffsets {
                monotonic_ms: -5,
                boottime_ms: 7,
            })
            .to_string(),
            InitStep::Unshare(Namespace::Cgroup).to_string(),
            InitStep::Root(RootMount::Overlay(Upper::Scratch)).to_string(),
            InitStep::Hostname("a\nb\u{202e}".into()).to_string(),
            InitStep::Mount {
                at: "/run".into(),
                what: Mounted::Tmpfs {
                    size: Bytes(4096),
                    mode: 0o755,
                    exec: true,
                },
            }
            .to_string(),
            WorkloadStep::Rlimits(rlimits).to_string(),
        ];
        assert_eq!(
            lines,
            [
                "cgroup (cpus 1.5, cpuset 0-1, io /dev/sda read 1MiB/s write-ops 10/s; controllers cpu v2, io v2)",
                "take ${manifest-dir}/d for /data, if it exists",
                "make the writable layer (file of 1GiB, ext4)",
                "map ids (the caller is itself, there are no others)",
                "idmap ${manifest-dir}/d for /data, if it exists (its owner becomes 5:6)",
                "mount the root's overlay (writes in memory, at most half of it)",
                "unshare time (monotonic -5ms, boottime +7ms)",
                "unshare cgroup",
                "root (overlay, writes in the store, without a bound)",
                "hostname a\\nb\\u{202e}",
                "mount /run (tmpfs, 4KiB, mode 755)",
                "rlimits (core 0, nofile 1024:unlimited)",
            ]
        );
    }
}
