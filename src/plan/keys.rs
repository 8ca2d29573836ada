//! Which keys of the manifest a step comes from: where a reader of the plan, or of an error, looks.

use super::{Cgroup, ChildStep, HostStep, InitStep, Mounted, Tree, WorkloadStep};
use crate::profile::Namespace;

/// A step that knows the keys it comes from.
pub trait FromKeys {
    /// Paths of keys from the job's table (`limits.memory`, `mounts."/src"`); none for what every sandbox does.
    fn keys(&self) -> Vec<String>;
}

impl FromKeys for HostStep {
    fn keys(&self) -> Vec<String> {
        match self {
            HostStep::Cgroup(cgroup) => cgroup.keys(),
            HostStep::TakeTree(tree) => tree.keys(),
            HostStep::LayerFile { .. } => of(&["root", "limits.disk"]),
        }
    }
}

impl FromKeys for ChildStep {
    fn keys(&self) -> Vec<String> {
        match self {
            ChildStep::Cgroup(cgroup) => cgroup.keys(),
            ChildStep::MapIds(_) => of(&["user"]),
            ChildStep::IdmapTree { tree, .. } => tree.keys(),
            ChildStep::MountOverlay { .. } => of(&["root"]),
        }
    }
}

impl FromKeys for InitStep {
    fn keys(&self) -> Vec<String> {
        match self {
            InitStep::JoinCgroup
            | InitStep::Fork
            | InitStep::BecomeRoot
            | InitStep::NotDumpable
            | InitStep::SessionKeyring
            | InitStep::PrivateMounts => Vec::new(),
            InitStep::Unshare(namespace) => namespace.keys(),
            InitStep::Time(_) => Namespace::Time.keys(),
            InitStep::TakeTree(tree) => tree.keys(),
            InitStep::Hostname(_) => of(&["hostname"]),
            InitStep::Loopback | InitStep::Network => of(&["network.mode"]),
            InitStep::Root(_) => of(&["image", "root"]),
            InitStep::Mount { at, what } => what.keys(at),
            InitStep::Sysctl { name, .. } => {
                // A network of the job's own brings this one.
                let network =
                    (name == "net.ipv4.ip_unprivileged_port_start").then(|| "network.mode".to_owned());
                std::iter::once(format!("sysctls.\"{name}\""))
                    .chain(network)
                    .collect()
            }
            InitStep::Mask(_) => of(&["security.masked-paths"]),
            InitStep::ReadOnly(_) => of(&["security.read-only-paths"]),
            InitStep::RootReadOnly => of(&["root"]),
        }
    }
}

impl FromKeys for Namespace {
    fn keys(&self) -> Vec<String> {
        match self {
            // Every sandbox has them.
            Namespace::User | Namespace::Mount | Namespace::Pid => Vec::new(),
            Namespace::Net => of(&["network.mode"]),
            other => vec![format!("namespaces.{other}")],
        }
    }
}

impl FromKeys for WorkloadStep {
    fn keys(&self) -> Vec<String> {
        match self {
            WorkloadStep::Session
            | WorkloadStep::WaitForInit
            | WorkloadStep::CloseDescriptors
            | WorkloadStep::Verify => Vec::new(),
            WorkloadStep::Rlimits(limits) => limits.keys().map(|name| format!("rlimits.{name}")).collect(),
            WorkloadStep::Credentials { .. } => of(&["user", "security.capabilities"]),
            WorkloadStep::NoNewPrivileges => of(&["security.no-new-privileges"]),
            WorkloadStep::Workdir(_) => of(&["workdir"]),
            WorkloadStep::Landlock(_) => of(&["security.landlock"]),
            WorkloadStep::Seccomp(_) => of(&["security.seccomp"]),
        }
    }
}

impl Cgroup {
    fn keys(&self) -> Vec<String> {
        let set = [
            ("memory", self.memory.is_some()),
            ("pids", self.pids.is_some()),
            ("cpus", self.cpus.is_some()),
            ("cpuset", self.cpuset.is_some()),
        ];
        let limits = set
            .into_iter()
            .filter(|(_, set)| *set)
            .map(|(name, _)| format!("limits.{name}"));
        limits
            .chain(self.io.keys().map(|device| format!("limits.io.\"{device}\"")))
            .collect()
    }
}

impl Tree {
    pub(crate) fn keys(&self) -> Vec<String> {
        match self {
            Tree::Layers => of(&["image"]),
            Tree::Bind { at, .. } => vec![format!("mounts.\"{at}\"")],
            Tree::Scratch => of(&["root"]),
        }
    }
}

impl Mounted {
    /// The keys behind what appears at a place. What a manifest has no mount for is the image's, or ours.
    fn keys(&self, at: &str) -> Vec<String> {
        match self {
            Mounted::Proc | Mounted::Dev => Vec::new(),
            Mounted::Sysfs => of(&["sys"]),
            Mounted::Tmpfs { .. } | Mounted::Bind { .. } | Mounted::Copy { .. } => {
                vec![format!("mounts.\"{at}\"")]
            }
            Mounted::File { .. } => match at {
                "/etc/hostname" => of(&["hostname"]),
                "/etc/hosts" | "/etc/resolv.conf" => of(&["network.mode"]),
                _ => of(&["image", "user"]),
            },
            Mounted::Link { .. } => of(&["image"]),
        }
    }
}

fn of(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}
