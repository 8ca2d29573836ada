//! A bundle for runc, crun and their like (OCI runtime specification 1.0.2): config.json; the root file system is the
//! command line's to fill.

use serde_json::{Map, Value, json};

use super::docker::{SIGTERM, may_set};
use super::sandbox::{Place, Sandbox};
use super::{Exported, Losses};
use crate::plan::IdMapping;
use crate::profile::Namespace;
use crate::seccomp::oci;

/// The period that a share of processors is counted in, in microseconds (the kernel's own default).
const PERIOD_US: u64 = 100_000;

/// Ids of a user namespace, as on every distribution.
const SPAN: u32 = 65_536;

pub(super) fn bundle(sandbox: &Sandbox<'_>, losses: &mut Losses) -> Exported {
    lost(sandbox, losses);
    let mut beside = Vec::new();
    let config = json!({
        "ociVersion": "1.0.2",
        "process": process(sandbox),
        "root": { "path": "rootfs", "readonly": sandbox.writable.is_none() },
        "hostname": sandbox.hostname,
        "mounts": mounts(sandbox, losses, &mut beside),
        "linux": linux(sandbox, losses),
    });
    let mut config = config;
    if let (Value::Object(config), None) = (&mut config, sandbox.hostname) {
        config.remove("hostname");
    }
    Exported {
        name: "config.json",
        text: format!("{config:#}\n"),
        executable: false,
        beside,
        losses: Vec::new(),
    }
}

fn lost(sandbox: &Sandbox<'_>, losses: &mut Losses) {
    sandbox.network.lonely_losses("the runtime", losses);
    if sandbox.init {
        losses.add(
            "init",
            "the job is PID 1: nothing reaps what it leaves, and nothing passes signals on",
        );
    }
    if sandbox.watch.wall_ms.is_some() {
        losses.add("limits.wall", "nothing ends it when its time is over");
    }
    if sandbox.namespaces.contains(&Namespace::Time) {
        losses.add(
            "namespaces.time",
            "the clocks since boot are the host's: runc knows none before 1.2",
        );
    }
    if let Some(size) = sandbox.writable {
        let bound = size.map_or_else(|| "its bound".to_owned(), |size| size.to_string());
        losses.add(
            "limits.disk",
            format!("its writes stay in the bundle, and are not bounded by {bound}"),
        );
    }
    if !sandbox.cgroup.io.is_empty() {
        losses.add("limits.io", "not written: devices are named by number there");
    }
    if sandbox.watch.stop_signal != SIGTERM {
        losses.add("stop signal", "whoever stops it chooses the signal");
    }
    for (name, _) in sandbox.sysctls.iter().filter(|(name, _)| !may_set(name)) {
        losses.add(format!("sysctls.\"{name}\""), "the engines do not set it");
    }
    if !matches!(
        sandbox.mapping,
        IdMapping::Range | IdMapping::SharedRange | IdMapping::Single { .. }
    ) {
        losses.add(
            "ids",
            "only the job's own user is mapped, not the subordinate ids",
        );
    }
}

fn process(sandbox: &Sandbox<'_>) -> Value {
    let names: Vec<String> = sandbox
        .capabilities
        .iter()
        .map(|capability| format!("CAP_{capability}"))
        .collect();
    // As the workload's own step takes them: without the ambient set only user 0 keeps any across execve(2).
    let kept: &[String] = if sandbox.user == 0 || sandbox.ambient {
        &names
    } else {
        &[]
    };
    let ambient: &[String] = if sandbox.user != 0 { kept } else { &[] };
    let env: Vec<String> = sandbox
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let rlimits: Vec<Value> = sandbox
        .rlimits
        .iter()
        .map(|(kind, value)| {
            let number = |value: Option<u64>| value.unwrap_or(u64::MAX);
            json!({
                "type": format!("RLIMIT_{}", kind.to_string().to_uppercase()),
                "soft": number(value.soft),
                "hard": number(value.hard),
            })
        })
        .collect();
    json!({
        "terminal": false,
        "user": { "uid": sandbox.user, "gid": sandbox.group, "additionalGids": sandbox.groups, "umask": 0o022 },
        "args": sandbox.argv,
        "env": env,
        "cwd": sandbox.workdir,
        "capabilities": {
            "bounding": names, "permitted": kept, "effective": kept, "inheritable": ambient, "ambient": ambient,
        },
        "rlimits": rlimits,
        "noNewPrivileges": true,
    })
}

fn mounts(sandbox: &Sandbox<'_>, losses: &mut Losses, beside: &mut Vec<(String, String)>) -> Vec<Value> {
    let mount = |at: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": source, "options": options });
    let mut pts = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "max=64",
    ];
    // Group 5 is `tty` on every distribution; a user namespace of one id does not have it.
    if matches!(sandbox.mapping, IdMapping::Range | IdMapping::SharedRange) {
        pts.push("gid=5");
    }
    let mut all = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "noexec", "strictatime", "mode=755", "size=64k"],
        ),
        mount("/dev/pts", "devpts", "devpts", &pts),
    ];
    if sandbox.sysfs {
        all.push(mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ));
    }
    for one in &sandbox.mounts {
        let at = one.at;
        match &one.what {
            Place::Tmpfs { size, mode, exec } => {
                let (size, mode) = (format!("size={}", size.0), format!("mode={mode:o}"));
                let mut options = vec!["nosuid", "nodev", &size, &mode];
                options.extend((!exec).then_some("noexec"));
                all.push(mount(at, "tmpfs", "tmpfs", &options));
            }
            Place::Bind {
                source,
                read_only,
                optional,
                idmapped,
            } => {
                let access = if *read_only { "ro" } else { "rw" };
                all.push(mount(at, "bind", source, &["rbind", access, "nosuid", "nodev"]));
                if *optional {
                    losses.add(
                        format!("mounts.\"{at}\""),
                        "a source that is missing is not skipped",
                    );
                }
                if *idmapped {
                    losses.add(
                        format!("mounts.\"{at}\""),
                        "its files keep their owners of the host, which are nobody's inside",
                    );
                }
            }
            Place::Copy { source } => {
                all.push(mount(at, "bind", source, &["rbind", "ro", "nosuid", "nodev"]));
                losses.add(format!("mounts.\"{at}\""), "there is no copy: it is read-only");
            }
            Place::File(text) => {
                let name = format!("files{}", at.replace('/', "_"));
                let name = name.replacen("files_", "files/", 1);
                all.push(mount(
                    at,
                    "bind",
                    &name,
                    &["bind", "ro", "nosuid", "nodev", "noexec"],
                ));
                beside.push((name, text.clone()));
            }
            // Made in the root file system.
            Place::Link(_) => {}
        }
    }
    all
}

fn linux(sandbox: &Sandbox<'_>, losses: &mut Losses) -> Value {
    let namespaces: Vec<Value> = sandbox
        .namespaces
        .iter()
        .filter_map(|namespace| {
            Some(match namespace {
                Namespace::Net => "network",
                Namespace::User => "user",
                Namespace::Mount => "mount",
                Namespace::Pid => "pid",
                Namespace::Ipc => "ipc",
                Namespace::Uts => "uts",
                Namespace::Cgroup => "cgroup",
                Namespace::Time => return None,
            })
        })
        .map(|kind| json!({ "type": kind }))
        .collect();
    let (users, groups) = sandbox.id_maps(SPAN);
    let map = |(inside, outside, count): (u32, u32, u32)| json!([{ "containerID": inside, "hostID": outside, "size": count }]);
    let sysctls: Map<String, Value> = sandbox
        .sysctls
        .iter()
        .filter(|(name, _)| may_set(name))
        .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
        .collect();
    let mut linux = json!({
        "namespaces": namespaces,
        "uidMappings": map(users),
        "gidMappings": map(groups),
        "maskedPaths": sandbox.masked,
        "readonlyPaths": sandbox.read_only,
        "resources": resources(sandbox),
        "sysctl": sysctls,
    });
    match sandbox.seccomp {
        Some(policy) => linux["seccomp"] = oci(policy),
        None => losses.add("security.seccomp", "the plan has none"),
    }
    linux
}

fn resources(sandbox: &Sandbox<'_>) -> Value {
    let cgroup = &sandbox.cgroup;
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    if let Some(memory) = cgroup.memory {
        // Memory and swap together: so much memory, and no swap.
        resources["memory"] = json!({ "limit": memory.0, "swap": memory.0 });
    }
    if let Some(pids) = cgroup.pids {
        resources["pids"] = json!({ "limit": pids });
    }
    if let Some(cpus) = cgroup.cpus {
        let quota = u64::from(cpus.0) * PERIOD_US / 1000;
        resources["cpu"] = json!({ "quota": quota, "period": PERIOD_US });
    }
    if let Some(cpuset) = &cgroup.cpuset {
        resources["cpu"]["cpus"] = Value::from(cpuset.as_str());
    }
    resources
}
