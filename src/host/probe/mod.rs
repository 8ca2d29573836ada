//! Asking the host: the only impure part between a manifest and its plan.
//!
//! What can be looked up is looked up each time; what must be tried in a child is tried once for each boot
//! and caller, and kept in a file. Facts may be out of date when they are used: they give good messages,
//! never safety.

mod cache;
mod cgroup;
mod extras;
mod ids;
mod paths;
mod process;
mod trial;
mod userns;
mod why;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::facts::{CgroupSupport, FACTS_VERSION, Facts, NetworkFacts, RootFacts};
use crate::profile::Questions;
use crate::seccomp::Arch;
use crate::{net, sys};
pub(crate) use cgroup::control_groups;
pub use extras::extras;
use process::Process;

/// What the probe must be told besides the questions.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The folder of the manifest, absolute: relative sources start there.
    pub manifest_dir: &'a Path,
    /// The folder of the image store; it need not exist.
    pub store: &'a Path,
    /// The folder of the run state, the caller's own and closed to others. Without one the answers are not kept.
    pub run: Option<&'a Path>,
    /// The first id outside that jobs of root get (`[ids] base` of config.toml).
    pub first_id: u32,
    /// Variables that the manifest takes from the environment, with their values; `None` when unset.
    pub variables: &'a BTreeMap<String, Option<String>>,
    /// Which control group controllers the caller may use.
    pub cgroup: &'a BTreeMap<String, CgroupSupport>,
}

/// Answers `questions`.
///
/// Forks on the first call after a boot, so the caller must have one thread then: with more, what would be
/// tried counts as missing, with that reason.
pub fn probe(questions: &Questions, context: &Context<'_>) -> Facts {
    let process = Process::of_this();
    let mut seen = paths::look_at_all(questions, context, &process);
    let tried = cache::tried(&seen, context, &process);
    for (_, seen) in &mut seen {
        let takes = |below| tried.idmapped.get(below).copied().unwrap_or(false);
        seen.facts.idmapped_mounts = seen.below.as_ref().is_some_and(takes);
    }
    Facts {
        facts: FACTS_VERSION,
        kernel: text("/proc/sys/kernel/osrelease"),
        arch: if cfg!(target_arch = "aarch64") {
            Arch::Aarch64
        } else {
            Arch::X86_64
        },
        cpus: process.cpus,
        caller: process.caller(),
        ids: tried.ids,
        kernel_features: tried.features,
        landlock_abi: sys::landlock::abi(),
        cgroup: context.cgroup.clone(),
        store: tried.store,
        root: match questions.host_root {
            true => paths::root(Path::new("/")),
            false => RootFacts::default(),
        },
        network: NetworkFacts {
            nftables: net::nft::program().is_some(),
            pasta: net::pasta::program().is_some(),
            ipv6: net::route::has_ipv6(),
        },
        path: seen.into_iter().map(|(key, seen)| (key, seen.facts)).collect(),
        variable: context
            .variables
            .iter()
            .map(|(name, value)| (name.clone(), value.is_some()))
            .collect(),
    }
}

/// A short text file of the kernel, without the end of its last line; empty where it cannot be read.
fn text(path: &str) -> String {
    // Such a file comes whole with one read: asking for its size and its end would double the system calls.
    let mut bytes = [0; 4096];
    let read = File::open(path).and_then(|mut file| file.read(&mut bytes));
    let text = &bytes[..read.unwrap_or(0)];
    String::from_utf8_lossy(text).trim_end().to_owned()
}
