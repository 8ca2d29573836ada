//! What a host offers: the planner's only view of it. Plain data, without access to any host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::seccomp::Arch;

/// Version of the format of [`Facts`], its first key.
pub const FACTS_VERSION: u32 = 1;

/// Answers to a job's questions, as `ringfence facts` prints them (TOML).
///
/// What a file lacks is absent: a missing feature is one that the host does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Facts {
    /// Version of this format.
    pub facts: u32,
    /// The kernel's release, as `uname -r` prints it; for people, nothing is decided by it.
    pub kernel: String,
    /// The processor's instruction set.
    pub arch: Arch,
    /// Processors that the caller may run on.
    pub cpus: u32,
    /// Who starts the job.
    pub caller: Caller,
    /// Ids that the caller may map besides its own.
    #[serde(default)]
    pub ids: Ids,
    /// Kernel features, each present or absent with the host's reason.
    #[serde(default)]
    pub kernel_features: BTreeMap<Feature, Support>,
    /// Landlock's ABI version; 0 where the kernel has none (see landlock(7)).
    #[serde(default)]
    pub landlock_abi: u32,
    /// Control group controllers that the caller may use, by the kernel's name.
    #[serde(default)]
    pub cgroup: BTreeMap<String, CgroupSupport>,
    /// What the folder of the image store can do.
    #[serde(default)]
    pub store: StoreFacts,
    /// The host's own root file system, for the image source `host`.
    #[serde(default)]
    pub root: RootFacts,
    /// What networks of jobs are made with.
    #[serde(default)]
    pub network: NetworkFacts,
    /// Bind sources and devices of a job, keyed by the manifest's text.
    #[serde(default)]
    pub path: BTreeMap<String, PathFacts>,
    /// Variables that the manifest takes from the environment: whether each is set. Never a value.
    #[serde(default)]
    pub variable: BTreeMap<String, bool>,
}

/// Who starts the job, as far as a plan may depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caller {
    /// User id 0 with its capabilities, in the initial user namespace or one like it.
    Root,
    /// Anyone else.
    User,
}

/// Ids that the caller may map into a user namespace besides its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ids {
    /// Subordinate user ids of an ordinary user (`/etc/subuid`) that newuidmap(1) would map; 0 for none.
    #[serde(default)]
    pub subordinate_uids: u32,
    /// The same of groups (`/etc/subgid`, newgidmap(1)).
    #[serde(default)]
    pub subordinate_gids: u32,
    /// Why there are none for an ordinary user; empty when there are, and for root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A kernel feature that a plan may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// A user namespace can be made and mounts be made inside it.
    UserNamespace,
    /// Time namespaces (Linux 5.6).
    TimeNamespace,
    /// Control group namespaces (Linux 4.6).
    CgroupNamespace,
    /// overlay mounts inside a user namespace (Linux 5.11).
    OverlayInUserNamespace,
    /// `user.*` extended attributes on tmpfs (Linux 6.6): an overlay of a user namespace needs them in its upper layer.
    TmpfsUserXattr,
    /// seccomp filters.
    Seccomp,
    /// A proc file system can be mounted in a new pid namespace (an outer container may forbid it).
    ProcMount,
}

/// Whether a feature is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Support {
    /// It works: it was tried.
    Yes,
    /// It does not; the host's own reason.
    No(String),
}

/// Whether a controller can be used by the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupSupport {
    /// Through the old hierarchy of this controller.
    V1,
    /// Through the unified hierarchy.
    V2,
    /// Not usable; the reason and the mend.
    No(String),
}

/// What the folder of the image store can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StoreFacts {
    /// The file system takes idmapped mounts (see mount_setattr(2)).
    #[serde(default)]
    pub idmapped_mounts: bool,
    /// The file system can hold an overlay's upper layer.
    #[serde(default)]
    pub overlay_upper: bool,
    /// A sized image file can be mounted as the writable layer: loop devices and mkfs.ext4 are there.
    #[serde(default)]
    pub image_file: bool,
}

/// What networks of jobs are made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkFacts {
    /// nft(8) is installed: it loads the rules.
    #[serde(default)]
    pub nftables: bool,
    /// pasta(1) is installed: an ordinary user's way out.
    #[serde(default)]
    pub pasta: bool,
    /// New links have IPv6: no `disable_ipv6`.
    #[serde(default)]
    pub ipv6: bool,
}

/// The host's own root file system, as far as the image source `host` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RootFacts {
    /// `/bin`, `/sbin`, `/lib*` that are symbolic links, with their targets as they stand (`/bin` = `usr/bin`).
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// `/bin`, `/sbin`, `/lib*` that are directories of their own.
    #[serde(default)]
    pub directories: Vec<String>,
    /// What `/etc` has of the parts that are shown, as whole paths: `/etc/ssl`.
    #[serde(default)]
    pub etc: Vec<String>,
}

/// What a path of the manifest is on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PathFacts {
    /// What stands there.
    pub kind: PathKind,
    /// The file system takes idmapped mounts.
    #[serde(default)]
    pub idmapped_mounts: bool,
    /// The file system's name, as /proc/self/mountinfo has it.
    #[serde(default)]
    pub file_system: String,
    /// Whether the caller owns it.
    #[serde(default)]
    pub owned: bool,
    /// Device number `major:minor` of a block device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// Nothing.
    Missing,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// Anything else: a socket, a FIFO, a character device.
    Other,
    /// The caller may not look: a folder above it is closed to the caller.
    Denied,
}
