//! What runs after clone3(2): the steps of PID 1, its loop, and the last acts of the process that becomes the job.
//!
//! The steps of the plan are interpreted as they stand, without a second, prepared form of them: what is
//! reviewed is what runs. That may allocate memory, which is safe here because the launcher refuses to clone
//! with more than one thread (house rule 14 asks for no allocation for the sake of locks that another thread may hold).
//! A failure is one record and the end of the process; the launcher, which owns the plan, says the rest.

mod credentials;
mod dev;
mod init;
mod landlock;
mod mounts;
mod place;
pub(crate) mod probe;
mod reaper;
pub(crate) mod rlimits;
pub(crate) mod root;
mod scaffold;
mod second_look;
mod verify;
mod workload;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;

use self::probe::Probe;
use crate::plan::{Id, Plan, Tree};
use crate::report::channel::Channel;
use crate::seccomp::Arch;

/// What a plan leaves open because it differs from machine to machine, bound by the launcher.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The words of the command.
    pub(crate) argv: Vec<CString>,
    /// Files to try for the first word, in the order of the job's PATH.
    pub(crate) programs: Vec<CString>,
    /// The environment as `NAME=value`.
    pub(crate) env: Vec<CString>,
    /// The working directory.
    pub(crate) workdir: String,
    /// Contents of our own small files, by their place inside.
    pub(crate) files: BTreeMap<String, String>,
    /// Where trees stand on the host that PID 1 takes itself.
    pub(crate) sources: BTreeMap<Tree, Vec<Source>>,
    /// The user and group of [`Id::Caller`].
    pub(crate) caller: (u32, u32),
    /// Whether setgroups(2) is allowed in the user namespace.
    pub(crate) setgroups: bool,
    /// The processor, whose numbers system calls have.
    pub(crate) arch: Arch,
    /// Whether the job has a terminal of its own.
    pub(crate) tty: bool,
    /// Whether a receipt will be written, for which more is looked at.
    pub(crate) receipt: bool,
    /// What to ask instead of executing the command; none for a job that runs.
    pub(crate) probes: Vec<Probe>,
}

/// A place on the host and what the launcher saw there: device and inode number.
#[derive(Debug)]
pub(crate) struct Source {
    /// The absolute path.
    pub(crate) path: CString,
    /// `st_dev` and `st_ino`.
    pub(crate) identity: (u64, u64),
}

/// What the child is handed.
pub(crate) struct Child<'a> {
    /// The plan.
    pub(crate) plan: &'a Plan,
    /// What it leaves open.
    pub(crate) bound: &'a Bound,
    /// Trees that the launcher took, detached.
    pub(crate) trees: BTreeMap<Tree, Vec<OwnedFd>>,
    /// The writable layer's file system that the launcher made, detached.
    pub(crate) layer_file: Option<OwnedFd>,
    /// Did it start?
    pub(crate) report: Channel,
    /// How did it end?
    pub(crate) status: Channel,
    /// Standard input, output and error of the job; none for a terminal of its own.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    /// A file system that is mounted nowhere, for the job's process to be refused.
    pub(crate) beyond_rules: Option<OwnedFd>,
}

pub(crate) use init::run;

impl Bound {
    /// The number of an id inside.
    fn user(&self, id: Id) -> u32 {
        match id {
            Id::Number(number) => number,
            Id::Caller => self.caller.0,
        }
    }

    /// The number of a group id inside.
    fn group(&self, id: Id) -> u32 {
        match id {
            Id::Number(number) => number,
            Id::Caller => self.caller.1,
        }
    }
}
