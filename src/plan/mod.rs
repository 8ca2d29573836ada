//! The plan: everything that will be done, in order, as data.
//!
//! A plan holds no open file, no process id, no temporary name and no value from the environment, so
//! that it is the same text on every machine that can hold the job. The order of its steps is the
//! security property: it is printed, reviewed and snapshot-tested.

mod codes;
mod command;
mod given;
mod host_root;
mod ids;
mod image;
mod json_schema;
mod keys;
mod landlock;
mod limits;
mod line;
mod mounts;
mod network;
mod place;
mod plain;
mod planner;
mod reach;
mod read;
mod render;
mod root;
#[cfg(test)]
mod sample;
mod security;
mod signal;
mod step;
mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::codes::ALL as CODES;
pub(crate) use self::codes::PAGES;
pub use self::image::{Image, ImageConfig, ImageKind, Request};
pub use self::json_schema::JSON_SCHEMA;
pub use self::keys::FromKeys;
pub use self::place::unfit as unfit_workdir;
pub(crate) use self::plain::Plain;
pub use self::planner::plan;
pub use self::reach::NetworkStep;
pub use self::read::ReadError;
pub use self::step::*;
use crate::egress::Egress;
use crate::profile::{Namespace, Text};
use crate::units::{Bytes, Millis};

/// The version of the plan's format; raised when a reader of the old one would misread the new one.
pub const VERSION: u32 = 1;

/// Everything that will be done for one job, in order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    /// The format's version, [`VERSION`].
    pub plan: u32,
    /// The job's name in the manifest.
    pub job: String,
    /// The profile that holds it.
    pub profile: String,
    /// Where its root file system comes from.
    pub image: PlannedImage,
    /// Namespaces of its own.
    pub namespaces: BTreeSet<Namespace>,
    /// By the launcher, before there is a child.
    pub before_clone: Vec<HostStep>,
    /// By the launcher, with the child waiting.
    pub with_child: Vec<ChildStep>,
    /// By the launcher, or inside the job's network namespace, while PID 1 works; none for a job without a network or on the
    /// host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<NetworkStep>,
    /// By PID 1.
    pub init: Vec<InitStep>,
    /// By the process that becomes the job.
    pub workload: Vec<WorkloadStep>,
    /// What is executed at the end.
    pub exec: Exec,
    /// What the launcher watches while the job runs.
    pub watch: Watch,
    /// What is less than the strictest, because the manifest permits it, and what was assumed.
    pub notices: Vec<Notice>,
}

impl Plan {
    /// How many of PID 1's first steps need nothing of the launcher: it makes these namespaces while the launcher works.
    pub(crate) fn alone(&self) -> usize {
        let alone = |step: &&InitStep| matches!(step, InitStep::Unshare(_));
        self.init.iter().take_while(alone).count()
    }

    /// What a job behind a bridge may reach; none for any other.
    pub(crate) fn egress(&self) -> Option<Egress<'_>> {
        let rules = self.network.iter().find_map(|step| match step {
            NetworkStep::Rules { open } => Some(*open),
            _ => None,
        });
        let allowed = self.network.iter().filter_map(|step| match step {
            NetworkStep::Allow(allowed) => Some(allowed),
            _ => None,
        });
        Some(match rules? {
            true => Egress::Open,
            false => Egress::Listed(allowed.collect()),
        })
    }

    /// The control group of the run, whenever it is made.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        let host = self.before_clone.iter().find_map(|step| match step {
            HostStep::Cgroup(cgroup) => Some(cgroup),
            _ => None,
        });
        let child = self.with_child.iter().find_map(|step| match step {
            ChildStep::Cgroup(cgroup) => Some(cgroup),
            _ => None,
        });
        host.or(child)
    }
}

/// Where a root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedImage {
    /// As the manifest means it, in full: `docker.io/library/python:3.12-slim`, `host`.
    pub reference: String,
    /// The digest of its manifest; none for `host` and `dir:`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its layers, lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What is executed, after all steps.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exec {
    /// The words of the command. Without a slash in its first word that is looked up in `PATH` of `env`.
    pub argv: Vec<Text>,
    /// The whole environment, by name.
    pub env: BTreeMap<String, Text>,
    /// Whether PID 1 is our init and the command its child; else the command is PID 1.
    pub init: bool,
}

/// What the launcher watches while the job runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Watch {
    /// The job is ended when it has run so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<Millis>,
    /// At the wall limit it gets `stop_signal` and so long to end by itself; 0 kills at once.
    pub grace_ms: Millis,
    /// The job is ended when its processes have used so much processor time together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_time_ms: Option<Millis>,
    /// The job is ended when standard output or standard error has carried so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Bytes>,
    /// The number of the signal that asks the job to stop (the image's StopSignal, else SIGTERM).
    pub stop_signal: i32,
}

impl Watch {
    /// How long after its start a job is ended although the launcher, which does so at the wall limit, is stopped or
    /// later than `late`.
    pub(crate) fn at_the_latest(&self, late: Duration) -> Option<Duration> {
        let wall = self.wall_ms?.duration();
        Some(wall.saturating_add(self.grace_ms.duration()).saturating_add(late))
    }
}

/// What a reader of the plan should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Notice {
    /// What it is about: `landlock`, `limits.memory`, `path`.
    pub about: String,
    /// One lower-case sentence without a full stop.
    pub text: String,
}
