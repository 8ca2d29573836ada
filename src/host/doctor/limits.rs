//! What control groups hold.

use std::collections::BTreeSet;

use super::{Finding, Mend, Patient, State};
use crate::host::facts::{CgroupSupport, Facts};

/// A limit's name in the manifest and the controllers that can hold it, the newer first (see cgroups(7)). v2 counts
/// processor time in every group, without a controller of its own.
const LIMITS: [(&str, &[&str]); 6] = [
    ("memory", &["memory"]),
    ("pids", &["pids"]),
    ("cpus", &["cpu"]),
    ("cpu-time", &["cpuacct"]),
    ("cpuset", &["cpuset"]),
    ("io", &["io", "blkio"]),
];

/// The support for a limit by its name in the manifest.
pub(super) fn support<'a>(facts: &'a Facts, limit: &str) -> Option<&'a CgroupSupport> {
    let (_, controllers) = LIMITS.iter().find(|(name, _)| *name == limit)?;
    controllers
        .iter()
        .find_map(|controller| facts.cgroup.get(*controller))
}

pub(super) fn findings(patient: Patient<'_>) -> Vec<Finding> {
    let mut old = Vec::new();
    let mut new = Vec::new();
    let mut missing = Vec::new();
    for (name, _) in LIMITS {
        match support(patient.facts, name) {
            Some(CgroupSupport::V1) => old.push(name),
            Some(CgroupSupport::V2) => new.push(name),
            Some(CgroupSupport::No(reason)) => missing.push((name, reason.as_str())),
            None => missing.push((name, "the kernel has no such controller")),
        }
    }
    let mut findings = Vec::new();
    for (names, version) in [(&new, "v2"), (&old, "v1")] {
        if !names.is_empty() {
            findings.push(Finding::works(limits(names)).and(format!("by cgroup {version}")));
        }
    }
    if old.contains(&"io") {
        findings.push(
            Finding::reduced(
                "limit io",
                "on cgroup v1 it bounds reads and direct writes, not writes through the page cache",
            )
            .mend([Mend::Do(
                "boot with `systemd.unified_cgroup_hierarchy=1`, which gives cgroup v2".into(),
            )]),
        );
    }
    if !missing.is_empty() {
        findings.push(refused(patient, &missing));
    }
    if patient.extras.uncounted_swap && missing.iter().all(|(name, _)| *name != "memory") {
        findings.push(
            Finding::missing(
                "swap bounded with memory",
                "this host swaps and counts it for no group",
            )
            .mend([
                Mend::Do("boot with `swapaccount=1`".into()),
                patient.as_root("swapoff -a"),
            ]),
        );
    }
    findings.push(
        Finding::works(limits(&["wall", "output"]))
            .and("by the supervisor itself; rlimits by the kernel everywhere"),
    );
    findings
}

fn limits(names: &[&str]) -> String {
    let plural = if names.len() == 1 { "limit" } else { "limits" };
    format!("{plural} {}", names.join(", "))
}

/// One finding for all that are missing: they mostly have one cause.
fn refused(patient: Patient<'_>, missing: &[(&str, &str)]) -> Finding {
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    let mut finding = Finding::new(limits(&names), State::Missing);
    let mut hand_over = Vec::new();
    let mut said = BTreeSet::new();
    for (name, reason) in missing {
        // The reason, and after the last semicolon the mend.
        let (why, mend) = reason.rsplit_once("; ").unwrap_or((reason, ""));
        if said.insert(why) {
            finding.why.push(why.to_owned());
        }
        if let Some(command) = mend.strip_prefix("as root: ").and_then(quoted) {
            hand_over.push(command.to_owned());
            hand_over.extend(processors(name, command));
            continue;
        }
        for mend in mends(patient, why, mend) {
            if !finding.mend.contains(&mend) {
                finding.mend.push(mend);
            }
        }
    }
    if !hand_over.is_empty() {
        finding
            .mend
            .push(patient.as_root(format!("sh -c '{}'", hand_over.join("; "))));
    }
    finding
}

/// Nobody can join a new v1 cpuset before it has the processors and memory nodes of its parent (see cpuset(7)).
fn processors(limit: &str, made: &str) -> Option<String> {
    let group = made.strip_prefix("mkdir ")?.split(' ').next()?;
    let (parent, _) = group.rsplit_once('/')?;
    (limit == "cpuset")
        .then(|| format!("for f in cpus mems; do cat {parent}/cpuset.$f > {group}/cpuset.$f; done"))
}

/// The command in a text such as "`mkdir x`".
fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('`')?.strip_suffix('`')
}

fn mends(patient: Patient<'_>, why: &str, mend: &str) -> Vec<Mend> {
    let extras = patient.extras;
    if why.contains("has no ") && why.contains("controller") {
        return vec![Mend::Do(
            "boot a kernel that has it; some need `cgroup_enable=memory`".into(),
        )];
    }
    match (patient.is_root(), extras.systemd) {
        (false, true) if why.contains("does not list") => vec![
            patient.as_root("mkdir -p /etc/systemd/system/user@.service.d"),
            patient.as_root(
                "sh -c 'printf \"[Service]\\nDelegate=cpu cpuset io memory pids\\n\" \
                 > /etc/systemd/system/user@.service.d/delegate.conf'",
            ),
            patient.as_root("systemctl daemon-reload"),
            Mend::Do("log out of all sessions and in again".into()),
        ],
        (false, true) => vec![Mend::Run(
            "systemd-run --user --scope -p Delegate=yes ringfence run".into(),
        )],
        (true, true) => vec![Mend::Run(
            "systemd-run --scope -p Delegate=yes ringfence run".into(),
        )],
        // The shell moves into a group below one that is the caller's, with all controllers handed down to it.
        (false, false) => {
            let group = format!("/sys/fs/cgroup/user-{}", extras.user);
            vec![patient.as_root(format!(
                "sh -c 'cd /sys/fs/cgroup && mkdir -p {group}/shell && for c in cpu cpuset io memory pids; do \
                 echo +$c > cgroup.subtree_control; echo +$c > {group}/cgroup.subtree_control; done; \
                 chown -R {user} {group} && echo $0 > {group}/shell/cgroup.procs' $$",
                user = extras.user
            ))]
        }
        (true, false) if mend.is_empty() => Vec::new(),
        (true, false) => vec![Mend::Do(mend.to_owned())],
    }
}
