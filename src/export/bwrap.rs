//! A script that runs bubblewrap 0.8 or later, with timeout(1) and prlimit(1) around it for what it does not do itself.

use super::sandbox::{Place, Rootfs, Sandbox};
use super::{Exported, Losses, Refusal, shell};
use crate::plan::IdMapping;
use crate::profile::Namespace;
use crate::seccomp::{Program, compile};

/// The first descriptor that the script opens: beyond those that shells and bubblewrap use themselves.
const FIRST: usize = 10;

/// What bubblewrap makes read-only in the proc that it mounts (bubblewrap.c, SETUP_MOUNT_PROC).
const READ_ONLY: [&str; 4] = ["/proc/bus", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Hides paths of proc, files and folders; those that this kernel does not have are left out.
const MASK: &str = r#"masked=()
for path in PATHS; do
    if [ -d "$path" ]; then masked+=(--tmpfs "$path" --remount-ro "$path")
    elif [ -e "$path" ]; then masked+=(--ro-bind /dev/null "$path"); fi
done
"#;

pub(super) fn bwrap(sandbox: &Sandbox<'_>, lost: &mut Losses) -> Result<Exported, Refusal> {
    losses(sandbox, lost);
    let mut lines = Vec::new();
    if let Some(wall) = sandbox.watch.wall_ms {
        let seconds = format!("{}.{:03}s", wall.0 / 1000, wall.0 % 1000);
        lines.push(shell::line(&[
            "timeout",
            "--foreground",
            "--signal=KILL",
            &seconds,
        ]));
    }
    if !sandbox.rlimits.is_empty() {
        let number = |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
        let limits = sandbox.rlimits.iter();
        let limits: Vec<String> = limits
            .map(|(kind, value)| format!("--{kind}={}:{}", number(value.soft), number(value.hard)))
            .collect();
        lines.push(format!("prlimit {}", limits.join(" ")));
    }
    lines.push("bwrap --die-with-parent --new-session".to_owned());
    let mut add = |words: &[&str]| lines.push(shell::line(words));
    if !sandbox.init {
        add(&["--as-pid-1"]);
    }
    let namespaces = sandbox.namespaces.iter().filter_map(|namespace| match namespace {
        Namespace::User => Some("--unshare-user"),
        Namespace::Pid => Some("--unshare-pid"),
        Namespace::Net => Some("--unshare-net"),
        Namespace::Ipc => Some("--unshare-ipc"),
        Namespace::Uts => Some("--unshare-uts"),
        Namespace::Cgroup => Some("--unshare-cgroup"),
        // Always; and there is no option.
        Namespace::Mount | Namespace::Time => None,
    });
    add(&namespaces.collect::<Vec<_>>());
    add(&[
        "--uid",
        &sandbox.user.to_string(),
        "--gid",
        &sandbox.group.to_string(),
    ]);
    if let Some(name) = sandbox.hostname {
        add(&["--hostname", name]);
    }
    add(&["--cap-drop", "ALL"]);
    for capability in sandbox.capabilities {
        add(&["--cap-add", &format!("CAP_{capability}")]);
    }
    match &sandbox.rootfs {
        Rootfs::Folder(folder) => add(&["--ro-bind", folder, "/"]),
        // Bubblewrap's own root is an empty file system in memory.
        Rootfs::Empty => {}
        Rootfs::Layers => {
            return Err(Refusal(format!(
                "image {} has several layers, and bubblewrap takes one folder; export an oci-bundle and write `image = \"dir:…/rootfs\"`",
                sandbox.image.reference
            )));
        }
    }
    add(&["--proc", "/proc", "--dev", "/dev"]);
    let mut heredocs = Vec::new();
    for mount in &sandbox.mounts {
        let at = mount.at;
        match &mount.what {
            Place::Tmpfs { size, mode, .. } => {
                let (mode, size) = (format!("{mode:o}"), size.0.to_string());
                add(&["--perms", &mode, "--size", &size, "--tmpfs", at]);
            }
            Place::Bind {
                source,
                read_only,
                optional,
                ..
            } => {
                let option = match (read_only, optional) {
                    (true, false) => "--ro-bind",
                    (true, true) => "--ro-bind-try",
                    (false, false) => "--bind",
                    (false, true) => "--bind-try",
                };
                add(&[option, source, at]);
            }
            Place::Copy { source } => add(&["--ro-bind", source, at]),
            Place::File(text) => {
                let number = FIRST + heredocs.len();
                add(&["--perms", "0644", "--ro-bind-data", &number.to_string(), at]);
                heredocs.push(format!("{number}< <(printf %s {})", shell::word(text)));
            }
            Place::Link(target) => add(&["--symlink", target, at]),
        }
    }
    if let Some(policy) = sandbox.seccomp {
        let filters = compile(policy, sandbox.arch).map_err(|error| Refusal(format!("seccomp: {error}")))?;
        for filter in &filters {
            let number = FIRST + heredocs.len();
            add(&["--add-seccomp-fd", &number.to_string()]);
            heredocs.push(format!("{number}< <(printf '{}')", octal(filter)));
        }
    }
    let masked: Vec<&str> = of_proc(sandbox.masked).collect();
    if !masked.is_empty() {
        lines.push("\"${masked[@]}\"".to_owned());
    }
    let mut add = |words: &[&str]| lines.push(shell::line(words));
    if sandbox.writable.is_none() {
        add(&["--remount-ro", "/"]);
    }
    add(&["--clearenv"]);
    for (name, value) in &sandbox.env {
        add(&["--setenv", name, value]);
    }
    add(&["--chdir", &sandbox.workdir]);
    let words: Vec<&str> = sandbox.argv.iter().map(String::as_str).collect();
    add(&[&["--"], words.as_slice()].concat());
    lines.extend(heredocs);
    let mut text = format!(
        "#!/bin/bash\n# Written by `ringfence export --to bwrap` from job {}.\n",
        sandbox.job
    );
    if !masked.is_empty() {
        text += &MASK.replace("PATHS", &masked.join(" "));
    }
    Ok(Exported {
        name: "run.bash",
        text: format!("{text}exec {}", shell::command(&lines)),
        executable: true,
        beside: Vec::new(),
        losses: Vec::new(),
    })
}

/// The bytes of a filter as bpf(4) lays out its instructions, in printf(1)'s escapes.
fn octal(filter: &Program) -> String {
    let bytes = filter.instructions().iter().flat_map(|one| {
        let [c0, c1] = one.code.to_ne_bytes();
        let [k0, k1, k2, k3] = one.k.to_ne_bytes();
        [c0, c1, one.jt, one.jf, k0, k1, k2, k3]
    });
    bytes.map(|byte| format!("\\{byte:03o}")).collect()
}

fn of_proc(paths: &[String]) -> impl Iterator<Item = &str> {
    paths
        .iter()
        .map(String::as_str)
        .filter(|path| path.starts_with("/proc/"))
}

fn losses(sandbox: &Sandbox<'_>, losses: &mut Losses) {
    sandbox.network.lonely_losses("bubblewrap", losses);
    if sandbox.seccomp.is_some() {
        losses.add(
            "security.seccomp",
            format!("compiled for {}, and for no other processor", sandbox.arch.name()),
        );
    }
    if matches!(sandbox.mapping, IdMapping::Range | IdMapping::SharedRange) {
        losses.add(
            "ids",
            "whoever runs the script is the job's user outside; run it as an ordinary user",
        );
    }
    if !sandbox.groups.is_empty() {
        losses.add("user", "it has no supplementary groups");
    }
    let cgroup = &sandbox.cgroup;
    let bounds = [
        ("limits.memory", cgroup.memory.is_some(), "its memory as a whole"),
        (
            "limits.pids",
            cgroup.pids.is_some(),
            "the number of its processes",
        ),
        ("limits.cpus", cgroup.cpus.is_some(), "its share of processors"),
        (
            "limits.cpuset",
            cgroup.cpuset.is_some(),
            "which processors it uses",
        ),
        ("limits.io", !cgroup.io.is_empty(), "the speed of disks"),
    ];
    for (about, _, what) in bounds.into_iter().filter(|(_, is_set, _)| *is_set) {
        losses.add(
            about,
            format!("{what} is not bounded: bubblewrap makes no control group"),
        );
    }
    if sandbox.init {
        losses.add(
            "init",
            "bubblewrap's own PID 1 reaps and does not pass signals on",
        );
    }
    if sandbox.watch.wall_ms.is_some() {
        losses.add("limits.wall", "timeout(1) ends it, with exit code 137");
    }
    if sandbox.watch.grace_ms.0 > 0 {
        losses.add("limits.grace", "it is ended at once");
    }
    if sandbox.namespaces.contains(&Namespace::Time) {
        losses.add("namespaces.time", "the clocks since boot are the host's");
    }
    match (&sandbox.writable, &sandbox.rootfs) {
        (Some(_), Rootfs::Folder(_)) => losses.add("root", "it is read-only: there is no layer for writes"),
        (Some(Some(size)), _) => losses.add(
            "limits.disk",
            format!("writes to the root are not bounded by {size}"),
        ),
        _ => {}
    }
    if sandbox.sysfs {
        losses.add("sys", "there is no /sys");
    }
    for (name, _) in &sandbox.sysctls {
        losses.add(format!("sysctls.\"{name}\""), "bubblewrap does not set it");
    }
    let beyond: Vec<&str> = of_proc(sandbox.read_only)
        .filter(|path| !READ_ONLY.contains(path))
        .collect();
    if !beyond.is_empty() {
        let text = format!("{} can be written as far as their files allow", beyond.join(" "));
        losses.add("security.read-only-paths", text);
    }
    for mount in &sandbox.mounts {
        let about = format!("mounts.\"{}\"", mount.at);
        match &mount.what {
            Place::Tmpfs { exec: false, .. } => losses.add(about, "programs in it can be run"),
            Place::Copy { .. } => losses.add(about, "there is no copy: it is read-only"),
            Place::Bind { idmapped: true, .. } => {
                losses.add(
                    about,
                    "its files keep their owners, of whom only the caller is known inside",
                );
            }
            _ => {}
        }
    }
}
