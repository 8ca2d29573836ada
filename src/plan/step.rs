//! The steps of a plan, one meaning each.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::profile::{Capability, IoLimit, Namespace, Rlimit, RlimitValue, Text, TimeOffsets};
use crate::seccomp::Policy;
use crate::units::{Bytes, MilliCpus};

/// Done by the launcher before there is a child.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum HostStep {
    /// Make the run's own control group and write its limits: a group of cgroup v2 is one that PID 1 is born in.
    Cgroup(Cgroup),
    /// Take a tree of the host as a detached mount (open_tree(2)); needs privilege, so only as root.
    TakeTree(Tree),
    /// Make a file of `size`, with an ext4 file system in it, and mount it detached: the writable layer on disk.
    LayerFile {
        /// Its size.
        size: Bytes,
    },
}

/// A control group and what it bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cgroup {
    /// The controllers used, by name, with the version of their hierarchy (1 or 2).
    pub controllers: BTreeMap<String, u8>,
    /// Memory; swap is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// A share of processors, in thousandths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<MilliCpus>,
    /// Processors that may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// Block devices by the manifest's text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub io: BTreeMap<String, IoLimit>,
    /// Whether device nodes are closed but for the six of `/dev` (v1 `devices` controller).
    pub devices: bool,
}

/// A tree of the host that is mounted inside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Tree {
    /// All layers of the image, or the folder of a `dir:` image: lower directories of the root file system.
    Layers,
    /// The source of the bind mount at this place inside.
    Bind {
        /// The place inside; the key of the mount.
        at: String,
        /// The source on the host; relative to the manifest's folder unless absolute.
        source: Text,
        /// A missing source is skipped.
        optional: bool,
    },
    /// A directory of the store, empty and thrown away at the end: the upper layer of an ordinary user's writable root.
    Scratch,
}

/// Done by the launcher while the child waits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum ChildStep {
    /// Make the run's own control group in each hierarchy of cgroup v1, and write its limits. PID 1 joins by itself, so
    /// it can make its own namespaces meanwhile, which takes as long.
    Cgroup(Cgroup),
    /// Write the user namespace's id maps.
    MapIds(IdMapping),
    /// Give a tree taken before the owners of the user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP).
    IdmapTree {
        /// The tree, [`HostStep::TakeTree`] names the same.
        tree: Tree,
        /// Whose files become whose.
        owner: TreeOwner,
    },
    /// Mount the root's overlay with trusted attributes, for a kernel whose tmpfs has no `user.*` ones.
    MountOverlay {
        /// Bound of the writable layer; none is the kernel's default, half of the memory.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<Bytes>,
    },
}

/// Which ids of the host the user namespace has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum IdMapping {
    /// As root: 65536 ids from a range of this run's own (config.toml, `[ids]`).
    Range,
    /// As root, where layers cannot be idmapped: the one range that all runs of the store share.
    SharedRange,
    /// As an ordinary user: 65536 subordinate ids, those that the image's files are stored with (newuidmap(1)). The caller
    /// is none of them.
    Stored,
    /// As an ordinary user: the job's user is the caller, as the files of binds are; the others up to 65535 are
    /// subordinate ids.
    Subordinate {
        /// The job's user inside.
        user: Id,
        /// The job's group inside.
        group: Id,
    },
    /// As an ordinary user without subordinate ids: the job's user and group are the caller's, there are no others.
    Single {
        /// The job's user inside.
        user: Id,
        /// The job's group inside.
        group: Id,
    },
}

/// A user or group id inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Id {
    /// This number.
    Number(u32),
    /// The caller's own number (profile `dev`).
    Caller,
}

/// Whose files of an idmapped tree become whose.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum TreeOwner {
    /// Every id is the same number inside.
    Same,
    /// The owner of the tree's root becomes the job's user; all others nobody's.
    Job {
        /// The job's user inside.
        user: Id,
        /// The job's group inside.
        group: Id,
    },
}

/// Done by PID 1, in its new namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum InitStep {
    /// Join the run's groups in the v1 hierarchies.
    JoinCgroup,
    /// Make a namespace that clone could not (house rule: cgroup after the join on v1).
    Unshare(Namespace),
    /// Make a time namespace for the children and set its offsets before the first fork.
    Time(TimeOffsets),
    /// Take a tree of the host as a detached mount; before the ids change, with the caller's rights.
    TakeTree(Tree),
    /// Become user 0 of the user namespace.
    BecomeRoot,
    /// Close this process to its own descendants (prctl(2), PR_SET_DUMPABLE).
    NotDumpable,
    /// Leave the caller's session keyring for an empty one.
    SessionKeyring,
    /// Keep mounts of this namespace from spreading (MS_REC | MS_PRIVATE).
    PrivateMounts,
    /// Set the host name.
    Hostname(String),
    /// Bring the loopback interface up.
    Loopback,
    /// Wait until the last of the plan's network steps is done.
    Network,
    /// Build the root file system, detached from every path of the image, and enter it with pivot_root(2).
    Root(RootMount),
    /// Fork the job's process: it takes its first steps while PID 1 takes the rest of its own, which last as long
    /// ([`WorkloadStep::WaitForInit`]).
    Fork,
    /// Mount something at a place inside; places are resolved by descriptor, inside the root.
    Mount {
        /// The place inside.
        at: String,
        /// What appears there.
        what: Mounted,
    },
    /// Write a kernel setting of the new namespaces.
    Sysctl {
        /// Its dotted name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Hide these paths behind an empty file or directory; those that do not exist are skipped.
    Mask(Vec<String>),
    /// Make these paths read-only; those that do not exist are skipped.
    ReadOnly(Vec<String>),
    /// Make the root file system itself read-only.
    RootReadOnly,
}

/// The root file system.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum RootMount {
    /// An overlay on the image's layers, mounted by PID 1 (`userxattr`).
    Overlay(Upper),
    /// The overlay that the launcher mounted ([`ChildStep::MountOverlay`]).
    OverlayFromLauncher,
    /// An empty file system in memory, for the image source `host`.
    Tmpfs,
    /// The same where the job may write to it.
    WritableTmpfs {
        /// Its bound; none is the kernel's default, half of the memory.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<Bytes>,
    },
}

/// Where the writes to an overlay go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Upper {
    /// Only mount points are made in it; it is closed before the job starts.
    MountPoints,
    /// Memory, so much at the most; none is the kernel's default, half of the memory.
    Tmpfs(
        #[serde(with = "half_of_memory")]
        #[cfg_attr(test, schemars(with = "half_of_memory::Size"))]
        Option<Bytes>,
    ),
    /// The file of [`HostStep::LayerFile`].
    LayerFile,
    /// The directory of [`Tree::Scratch`].
    Scratch,
}

/// TOML has no null, and here no key to leave out.
mod half_of_memory {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::units::Bytes;

    const WORD: &str = "half-of-memory";

    #[derive(Deserialize)]
    #[cfg_attr(test, derive(schemars::JsonSchema))]
    #[serde(untagged)]
    pub(super) enum Size {
        Bytes(Bytes),
        Word(String),
    }

    pub(super) fn serialize<S: Serializer>(size: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        match size {
            Some(size) => size.serialize(serializer),
            None => serializer.serialize_str(WORD),
        }
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        match Size::deserialize(deserializer)? {
            Size::Bytes(size) => Ok(Some(size)),
            Size::Word(word) if word == WORD => Ok(None),
            Size::Word(word) => Err(D::Error::custom(format!(
                "`{word}` is neither bytes nor `{WORD}`"
            ))),
        }
    }
}

/// What appears at a place inside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Mounted {
    /// A fresh proc: nosuid, nodev, noexec.
    Proc,
    /// A fresh sysfs: read-only, nosuid, nodev, noexec.
    Sysfs,
    /// The six standard devices, `pts`, `ptmx` and the links to descriptors, on a tmpfs.
    Dev,
    /// A file system in memory: nosuid, nodev.
    Tmpfs {
        /// Its size.
        size: Bytes,
        /// Access bits of its root, octal: 0o1777 for `/tmp`.
        mode: u32,
        /// Programs in it may be run.
        exec: bool,
    },
    /// The source of a bind mount: nosuid, nodev.
    Bind {
        /// The tree taken before.
        tree: Tree,
        /// The job may not write.
        read_only: bool,
    },
    /// An overlay whose lower directory is the bind's source; writes are thrown away.
    Copy {
        /// The tree taken before.
        tree: Tree,
        /// Bound of the writes (`limits.disk`); none is the kernel's default, half of the memory.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<Bytes>,
    },
    /// A small file of ours, read-only.
    File {
        /// What stands in it.
        text: Text,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: String,
    },
}

/// Done by the process that becomes the job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum WorkloadStep {
    /// A session of its own (setsid(2)); with `-t` the new terminal becomes its controlling one.
    Session,
    /// Limits of each process. A hard limit above the caller's own is lowered to it.
    Rlimits(BTreeMap<Rlimit, RlimitValue>),
    /// Take the job's ids. The bounding set is cut first, while that is still allowed.
    Credentials {
        /// The user.
        user: Id,
        /// The group.
        group: Id,
        /// Supplementary groups; empty where setgroups(2) is denied.
        groups: Vec<u32>,
        /// Capabilities that stay in the bounding set; permitted too for user 0.
        capabilities: BTreeSet<Capability>,
        /// A user that is not 0 keeps them as well (ambient set).
        ambient: bool,
    },
    /// No program run from here on gains privilege (prctl(2), PR_SET_NO_NEW_PRIVS).
    NoNewPrivileges,
    /// Wait until PID 1 has taken all its steps.
    WaitForInit,
    /// Go to the working directory; made where it does not exist and the root can be written.
    Workdir(Text),
    /// Restrict paths, ports and scopes (landlock(7)).
    Landlock(LandlockRules),
    /// Close every descriptor but 0, 1 and 2.
    CloseDescriptors,
    /// Install the filters; nothing but verification and execve(2) comes after.
    Seccomp(Policy),
    /// Read back /proc/self/status and compare it with this plan.
    Verify,
}

/// A Landlock ruleset.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LandlockRules {
    /// The ABI version it is built for, hard.
    pub abi: u32,
    /// Rights by path inside.
    pub paths: BTreeMap<String, LandlockAccess>,
    /// TCP ports that may be connected to; none is unrestricted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_tcp: Option<BTreeSet<u16>>,
    /// TCP ports that may be bound; none is unrestricted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_tcp: Option<BTreeSet<u16>>,
    /// Abstract sockets and signals stay inside (ABI 6).
    pub scoped: bool,
}

/// What may be done below a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LandlockAccess {
    /// Write, make and remove besides reading.
    pub write: bool,
    /// Execute besides reading.
    pub execute: bool,
}
