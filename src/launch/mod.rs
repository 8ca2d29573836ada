//! The launcher: applies a plan, watches the job, undoes everything. It decides nothing.
//!
//! `Plan → Prepared → Running → Exit`; each passes into the next and cannot be used twice.

mod error;
mod ids;
mod layer_file;
mod names;
mod network;
mod overlay;
mod own_file;
mod prepare;
mod probe;
mod run_dir;
mod scratch;
mod signals;
mod source;
mod start;
mod stdio;
mod supervise;
mod wall_timer;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

pub(crate) use self::error::{LaunchError, io_words, words};
pub(crate) use self::ids::RangeConfig;
pub(crate) use self::network::Published;
pub(crate) use self::own_file::keep_from_job;
pub(crate) use self::prepare::{Context, prepare};
pub(crate) use self::run_dir::RunDir;
pub(crate) use self::stdio::anonymous_file;
use crate::cgroup::{Counters, Enforced};
use crate::net::connections::Connections;
use crate::profile::{Namespace, Rlimit, RlimitValue};

/// Why the launcher ended a job, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It ended by itself.
    Itself,
    /// At the wall limit.
    Wall,
    /// At the limit of its output.
    Output,
    /// At the limit of its processor time.
    Cpu,
    /// At the second interrupt of the caller.
    Interrupt,
    /// What protects others from it could not be held any longer.
    Unheld,
}

/// How a run ended, and what it used; read before the control group was removed.
#[derive(Debug)]
pub(crate) struct Exit {
    /// The raw status of wait(2) of the job; none when PID 1 was ended before it could say it.
    pub(crate) status: Option<i32>,
    /// Why the launcher ended it, if it did.
    pub(crate) ended: Ended,
    /// The control group's counters.
    pub(crate) counters: Counters,
    /// Processor time in user mode and in the kernel as wait4(2) counts it, in microseconds.
    pub(crate) cpu_us: (u64, u64),
    /// The largest resident set of one process, in bytes.
    pub(crate) max_rss: u64,
    /// Bytes that standard output and standard error have carried, where the launcher passed them on.
    pub(crate) output: Option<[u64; 2]>,
    /// Whether a writable layer was full at the end.
    pub(crate) layer_full: bool,
    /// When the job was started.
    pub(crate) started: SystemTime,
    /// From its start to its end.
    pub(crate) wall: Duration,
    /// The limits as the kernel holds them.
    pub(crate) limits: Vec<Enforced>,
    /// The limits of each process, which the job's has read back as it has set them.
    pub(crate) rlimits: BTreeMap<Rlimit, RlimitValue>,
    /// The namespaces that differ from the launcher's, read from `/proc/PID/ns`.
    pub(crate) namespaces: Vec<Namespace>,
    /// Whether the job's own status was read back before execve(2) and equalled the plan.
    pub(crate) verified: bool,
    /// The answers to what was asked instead of running the job, in the order of the claims.
    pub(crate) answers: Vec<i32>,
    /// Ports of the host that led inside.
    pub(crate) published: Vec<Published>,
    /// What the job tried to reach, where that was asked for and it has a network of its own.
    pub(crate) connections: Option<Connections>,
    /// What went wrong while everything was undone; the job's end is reported all the same.
    pub(crate) undo: Vec<String>,
}
