//! Control groups: the directory of a run, its limits, kill, counters and removal.
//!
//! v1, v2 and hybrid hosts stand behind one face. [`Site::find`] says below which directories the caller may make
//! groups, or why not; [`Group::create`] makes one group in every hierarchy that its [`Limits`] need and reads every
//! value back; [`Group::counters`] reads what the kernel counted. Nothing here knows of a plan.
//!
//! Groups always stand below the caller's own, or beside it where it carries no limit of its own, so that no quota
//! that holds the caller is escaped.

mod counters;
mod delegation;
mod file;
mod group;
mod kill;
mod limits;
mod site;
mod survey;
mod sweep;

use std::fmt;

use nix::errno::Errno;
use serde::Serialize;

pub(crate) use self::counters::Counters;
pub(crate) use self::group::{Group, PREFIX};
pub(crate) use self::limits::{CpuQuota, Enforced, IoLimit, Limits};
pub(crate) use self::site::{Availability, Site};
pub(crate) use self::sweep::sweep;

/// What a hierarchy can hold or count, by the kernel's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Controller {
    /// Memory and swap.
    Memory,
    /// Processes and threads at once.
    Pids,
    /// A share of processors.
    Cpu,
    /// Processor time used. v2 counts it in every group, without a controller.
    CpuAcct,
    /// Processors that may be used.
    Cpuset,
    /// Bandwidth and operations of block devices; v1 calls it `blkio`.
    Io,
    /// Device nodes that may be opened; v1 alone.
    Devices,
}

impl Controller {
    /// Every controller, in the order in which groups are made.
    pub(crate) const ALL: [Controller; 7] = [
        Controller::Memory,
        Controller::Pids,
        Controller::Cpu,
        Controller::CpuAcct,
        Controller::Cpuset,
        Controller::Io,
        Controller::Devices,
    ];

    /// The name that this version of the interface knows it by.
    pub(crate) fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Controller::Memory, _) => "memory",
            (Controller::Pids, _) => "pids",
            (Controller::Cpu, _) => "cpu",
            (Controller::CpuAcct, _) => "cpuacct",
            (Controller::Cpuset, _) => "cpuset",
            (Controller::Io, Version::V1) => "blkio",
            (Controller::Io, Version::V2) => "io",
            (Controller::Devices, _) => "devices",
        }
    }

    /// The controller of this name.
    pub(crate) fn from_name(name: &str, version: Version) -> Option<Controller> {
        Controller::ALL
            .into_iter()
            .find(|controller| controller.name(version) == name)
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name(Version::V2))
    }
}

/// The version of the interface that a controller is reached through (see cgroups(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Version {
    /// A hierarchy of its own for a controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// Why a group was not made, held, read or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file or directory of a group: what was done to it, and the kernel's answer.
    #[error("{act} {path}: {cause}", cause = cause(*errno))]
    File {
        /// What was done.
        act: Act,
        /// The file or directory.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel holds another value than the one that was written.
    #[error("{path}: wanted {wanted}, the kernel holds {got}")]
    Mismatch {
        /// The file.
        path: String,
        /// The value as it was asked for.
        wanted: String,
        /// The value as it was read back.
        got: String,
    },
    /// A controller that is needed and cannot be used here; the reason and the mend.
    #[error("cgroup controller {controller}: {reason}")]
    Missing {
        /// The controller.
        controller: Controller,
        /// The reason and the mend.
        reason: String,
    },
    /// Memory is bounded but swap cannot be: the host swaps and does not count it.
    #[error(
        "{path} is absent and the host swaps: swap cannot be kept from the job; boot with swapaccount=1 or turn swap off"
    )]
    Swap {
        /// The file that would bound it.
        path: String,
    },
    /// Processes are left in a group after the time that its kill may take.
    #[error("{path}: {left} processes outlived the kill")]
    Alive {
        /// The group.
        path: String,
        /// How many are left.
        left: usize,
    },
    /// A name that is not [`PREFIX`] and letters, digits or `-`.
    #[error("cgroup name `{0}`: not `ringfence-` followed by letters, digits or `-`")]
    Name(String),
    /// A process of a group that may not be killed.
    #[error("kill {pid} in {path}: {cause}", cause = cause(*errno))]
    Kill {
        /// The process.
        pid: i32,
        /// The group.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// An error, and another one of what was done nevertheless: the undoing, the next directory.
    #[error("{first}; then {then}")]
    Both {
        /// The error that came first.
        first: Box<Error>,
        /// The one that came after it.
        then: Box<Error>,
    },
}

impl Error {
    fn then(self, then: Error) -> Error {
        Error::Both {
            first: Box::new(self),
            then: Box::new(then),
        }
    }
}

/// What was done to a file or directory of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A directory was made.
    Make,
    /// It was opened to be kept.
    Open,
    /// It was locked.
    Lock,
    /// A value was read.
    Read,
    /// A value was written.
    Write,
    /// A directory was removed.
    Remove,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Act::Make => "make",
            Act::Open => "open",
            Act::Lock => "lock",
            Act::Read => "read",
            Act::Write => "write",
            Act::Remove => "remove",
        })
    }
}

/// The kernel's words for an error number, as they stand inside a sentence.
fn cause(errno: Errno) -> String {
    let mut words = errno.desc().to_owned();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    words
}
