//! A `docker run` line, and what Docker's engine can hold of a sandbox.

use std::collections::BTreeMap;

use super::network::{Bridge, Network};
use super::sandbox::{Place, Sandbox};
use super::{Exported, Losses, Refusal, shell};
use crate::profile::{Namespace, Rlimit, RlimitValue};
use crate::seccomp::oci;

/// What Docker hides itself (moby's `oci/defaults.go`), and cannot be told to hide besides.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What Docker makes read-only itself.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Settings that the engine may write: those of the container's own network and IPC namespaces
/// (opencontainers/runc, `libcontainer/configs/validate`).
const SYSCTLS: [&str; 4] = ["net.", "fs.mqueue.", "kernel.msg", "kernel.shm"];

/// SIGTERM, with which every engine asks a program to end.
pub(super) const SIGTERM: i32 = 15;

/// What a container of Docker's cannot have, however it is asked for; for the line and for the compose file.
pub(super) fn losses(sandbox: &Sandbox<'_>, losses: &mut Losses) {
    losses.add(
        "ids",
        "ids inside are the host's own, unless the engine itself was started with --userns-remap",
    );
    sandbox.network.open_losses(losses);
    if sandbox.namespaces.contains(&Namespace::Time) {
        losses.add("namespaces.time", "the clocks since boot are the host's");
    }
    if sandbox.watch.wall_ms.is_some() {
        losses.add("limits.wall", "nothing ends it when its time is over");
    }
    if let Some(Some(size)) = sandbox.writable {
        losses.add(
            "limits.disk",
            format!("its writes go to the engine's disk, and are not bounded by {size}"),
        );
    }
    if sandbox.ambient {
        losses.add(
            "security.capabilities",
            format!(
                "user {} does not keep them: there is no ambient set",
                sandbox.user
            ),
        );
    }
    if !sandbox.unset.is_empty() {
        losses.add(
            "env",
            format!("the image's {} cannot be taken away", sandbox.unset.join(" ")),
        );
    }
    beyond(
        losses,
        "security.masked-paths",
        "can be seen",
        sandbox.masked,
        &MASKED,
        sandbox.sysfs,
    );
    beyond(
        losses,
        "security.read-only-paths",
        "can be written as far as their files allow",
        sandbox.read_only,
        &READ_ONLY,
        sandbox.sysfs,
    );
    if !sandbox.sysfs {
        losses.add("sys", "there is a /sys, read-only");
    }
    for (name, _) in sandbox.sysctls.iter().filter(|(name, _)| !may_set(name)) {
        losses.add(format!("sysctls.\"{name}\""), "the engine does not set it");
    }
    for mount in &sandbox.mounts {
        let at = mount.at;
        match &mount.what {
            Place::Bind { optional, .. } => {
                losses.add(
                    format!("mounts.\"{at}\""),
                    "its files keep their owners of the host, which the job's user may not be",
                );
                if *optional {
                    losses.add(
                        format!("mounts.\"{at}\""),
                        "a source that is missing is not skipped",
                    );
                }
            }
            Place::Copy { .. } => losses.add(format!("mounts.\"{at}\""), "there is no copy: it is read-only"),
            Place::Tmpfs { .. } | Place::File(_) | Place::Link(_) => {}
        }
    }
    if !sandbox.cgroup.io.is_empty() && sandbox.cgroup.io.keys().any(|device| !device.starts_with('/')) {
        losses.add("limits.io", "devices are named by path");
    }
}

/// Paths that a list holds and the engine's own does not; those in a `/sys` that nobody asked for are none.
fn beyond(losses: &mut Losses, about: &str, fate: &str, wanted: &[String], own: &[&str], sysfs: bool) {
    let beyond: Vec<&str> = wanted
        .iter()
        .map(String::as_str)
        .filter(|path| !own.contains(path) && (sysfs || !path.starts_with("/sys/")))
        .collect();
    if !beyond.is_empty() {
        losses.add(about, format!("{} {fate}", beyond.join(" ")));
    }
}

/// Whether the engine takes a setting.
pub(super) fn may_set(name: &str) -> bool {
    SYSCTLS.iter().any(|prefix| name.starts_with(prefix))
}

/// `NAME=SOFT:HARD` as the engine writes limits of a process, -1 for none.
pub(super) fn ulimits(limits: &BTreeMap<Rlimit, RlimitValue>) -> Vec<(String, i64, i64)> {
    let number = |value: Option<u64>| value.map_or(-1, |value| i64::try_from(value).unwrap_or(i64::MAX));
    // The engine does not know the address space (moby/moby, `pkg/ulimit`).
    limits
        .iter()
        .filter(|(kind, _)| **kind != Rlimit::As)
        .map(|(kind, value)| (kind.to_string(), number(value.soft), number(value.hard)))
        .collect()
}

/// The seccomp policy as the file that engines read; none without a policy.
pub(super) fn seccomp_file(sandbox: &Sandbox<'_>, beside: bool, losses: &mut Losses) -> Option<String> {
    let policy = sandbox.seccomp?;
    if !beside {
        losses.add(
            "security.seccomp",
            "the policy is a file beside: without --output FOLDER the engine's own holds",
        );
        return None;
    }
    Some(format!("{:#}\n", oci(policy)))
}

pub(super) fn docker(sandbox: &Sandbox<'_>, beside: bool, lost: &mut Losses) -> Result<Exported, Refusal> {
    let image = sandbox.registry_image("docker")?;
    losses(sandbox, lost);
    if sandbox.rlimits.contains_key(&Rlimit::As) {
        lost.add("rlimits.as", "the engine does not know it");
    }
    let mut lines = vec!["docker run --rm".to_owned()];
    let mut add = |words: &[&str]| lines.push(shell::line(words));
    add(&["--user", &format!("{}:{}", sandbox.user, sandbox.group)]);
    for group in sandbox.groups {
        add(&["--group-add", &group.to_string()]);
    }
    if sandbox.init {
        add(&["--init"]);
    }
    if let Some(name) = sandbox.hostname {
        add(&["--hostname", name]);
    }
    if let Some(network) = sandbox.network.word() {
        add(&["--network", network]);
    }
    if let Network::Bridge(Bridge { name: Some(name), .. }) = &sandbox.network {
        let text = format!("the network is not made by the run: docker network create {name}");
        lost.add("network.name", text);
    }
    for ports in sandbox.network.published() {
        add(&["--publish", &ports]);
    }
    if !sandbox.namespaces.contains(&Namespace::Ipc) {
        add(&["--ipc", "host"]);
    }
    if sandbox.writable.is_none() {
        add(&["--read-only"]);
    }
    add(&["--cap-drop", "ALL"]);
    for capability in sandbox.capabilities {
        add(&["--cap-add", capability.name()]);
    }
    add(&["--security-opt", "no-new-privileges"]);
    let seccomp = seccomp_file(sandbox, beside, lost);
    let cgroup = &sandbox.cgroup;
    if let Some(memory) = cgroup.memory {
        add(&["--memory", &memory.0.to_string()]);
        // Both together: so much memory, and no swap.
        add(&["--memory-swap", &memory.0.to_string()]);
    }
    if let Some(pids) = cgroup.pids {
        add(&["--pids-limit", &pids.to_string()]);
    }
    if let Some(cpus) = cgroup.cpus {
        add(&["--cpus", &cpus.to_string()]);
    }
    if let Some(cpuset) = &cgroup.cpuset {
        add(&["--cpuset-cpus", cpuset]);
    }
    for (device, limit) in cgroup.io.iter().filter(|(device, _)| device.starts_with('/')) {
        let flags = [
            ("--device-read-bps", limit.read.map(|bytes| bytes.0)),
            ("--device-write-bps", limit.write.map(|bytes| bytes.0)),
            ("--device-read-iops", limit.read_ops),
            ("--device-write-iops", limit.write_ops),
        ];
        for (flag, value) in flags {
            if let Some(value) = value {
                add(&[flag, &format!("{device}:{value}")]);
            }
        }
    }
    for (name, soft, hard) in ulimits(&sandbox.rlimits) {
        add(&["--ulimit", &format!("{name}={soft}:{hard}")]);
    }
    for (name, value) in sandbox.sysctls.iter().filter(|(name, _)| may_set(name)) {
        add(&["--sysctl", &format!("{name}={value}")]);
    }
    for mount in &sandbox.mounts {
        let at = mount.at;
        match &mount.what {
            Place::Tmpfs { size, .. } if at == "/dev/shm" => add(&["--shm-size", &size.0.to_string()]),
            Place::Tmpfs { size, mode, exec } => {
                let exec = if *exec { "exec" } else { "noexec" };
                let size = size.0;
                add(&[
                    "--tmpfs",
                    &format!("{at}:rw,nosuid,nodev,{exec},size={size},mode={mode:o}"),
                ]);
            }
            Place::Bind {
                source,
                read_only: true,
                ..
            }
            | Place::Copy { source } => {
                add(&[
                    "--mount",
                    &format!("type=bind,source={source},target={at},readonly"),
                ]);
            }
            Place::Bind { source, .. } => {
                add(&["--mount", &format!("type=bind,source={source},target={at}")]);
            }
            // The engine makes its own hosts, hostname and resolv.conf.
            Place::File(_) | Place::Link(_) => {}
        }
    }
    for (name, value) in &sandbox.env {
        add(&["--env", &format!("{name}={value}")]);
    }
    add(&["--workdir", &sandbox.workdir]);
    if sandbox.watch.stop_signal != SIGTERM {
        add(&["--stop-signal", &sandbox.watch.stop_signal.to_string()]);
    }
    let (program, rest) = sandbox
        .argv
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first, rest));
    add(&["--entrypoint", program]);
    add(&[&image]);
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    if !rest.is_empty() {
        add(&rest);
    }
    if seccomp.is_some() {
        // Wherever the folder is moved to, the script finds what is beside it.
        let option = "--security-opt \"seccomp=$(dirname \"$0\")/seccomp.json\"";
        lines.insert(1, option.to_owned());
    }
    Ok(Exported {
        name: "run.sh",
        text: format!("#!/bin/sh\nexec {}", shell::command(&lines)),
        executable: true,
        beside: seccomp
            .map(|text| ("seccomp.json".to_owned(), text))
            .into_iter()
            .collect(),
        losses: Vec::new(),
    })
}
