//! A configuration of nsjail (google/nsjail, `config.proto`) in the protocol buffer's text form.

use std::fmt::Write;

use super::sandbox::{Place, Rootfs, Sandbox};
use super::{Exported, Losses, Refusal};
use crate::profile::{Namespace, Rlimit};

/// Ids of a user namespace, as on every distribution.
const SPAN: u32 = 65_536;

pub(super) fn nsjail(sandbox: &Sandbox<'_>, lost: &mut Losses) -> Result<Exported, Refusal> {
    losses(sandbox, lost);
    let mut text = format!(
        "# Written by `ringfence export --to nsjail` from job {}.\n",
        sandbox.job
    );
    // Writing to a string cannot fail.
    write(&mut text, sandbox, lost)?.expect("a string takes everything");
    Ok(Exported {
        name: "nsjail.cfg",
        text,
        executable: false,
        beside: Vec::new(),
        losses: Vec::new(),
    })
}

fn write(out: &mut String, sandbox: &Sandbox<'_>, lost: &mut Losses) -> Result<std::fmt::Result, Refusal> {
    let root = match &sandbox.rootfs {
        Rootfs::Folder(folder) => Some(folder),
        Rootfs::Empty => None,
        Rootfs::Layers => {
            return Err(Refusal(format!(
                "image {} has several layers, and nsjail takes one folder; export an oci-bundle and write `image = \"dir:…/rootfs\"`",
                sandbox.image.reference
            )));
        }
    };
    Ok((|| {
        writeln!(out, "name: {}\nmode: ONCE", quoted(sandbox.job))?;
        if let Some(name) = sandbox.hostname {
            writeln!(out, "hostname: {}", quoted(name))?;
        }
        writeln!(out, "cwd: {}", quoted(&sandbox.workdir))?;
        let wall = sandbox.watch.wall_ms.map_or(0, |wall| wall.0.div_ceil(1000));
        writeln!(
            out,
            "time_limit: {wall}\nnice_level: 0\nkeep_env: false\nkeep_caps: false"
        )?;
        for (name, value) in &sandbox.env {
            writeln!(out, "envar: {}", quoted(&format!("{name}={value}")))?;
        }
        for capability in sandbox.capabilities {
            writeln!(out, "cap: \"CAP_{capability}\"")?;
        }
        rlimits(out, sandbox, lost)?;
        for (flag, namespace) in [
            ("newnet", Namespace::Net),
            ("newuser", Namespace::User),
            ("newns", Namespace::Mount),
            ("newpid", Namespace::Pid),
            ("newipc", Namespace::Ipc),
            ("newuts", Namespace::Uts),
            ("newcgroup", Namespace::Cgroup),
        ] {
            writeln!(out, "clone_{flag}: {}", sandbox.namespaces.contains(&namespace))?;
        }
        // nsjail maps the job's ids and no others: what it writes is the caller's.
        for (map, id, own) in [
            ("uidmap", sandbox.user, sandbox.id_maps(SPAN).0),
            ("gidmap", sandbox.group, sandbox.id_maps(SPAN).1),
        ] {
            let outside = if own.2 == 1 { own.1 } else { own.1 + id };
            writeln!(
                out,
                "{map} {{ inside_id: \"{id}\" outside_id: \"{outside}\" count: 1 }}"
            )?;
        }
        writeln!(out, "mount_proc: false")?;
        mounts(out, sandbox, root)?;
        let cgroup = &sandbox.cgroup;
        if cgroup.controllers.values().any(|version| *version == 1) {
            writeln!(
                out,
                "# Of control groups v1 these must be there: /sys/fs/cgroup/{{memory,pids,cpu}}/NSJAIL"
            )?;
        }
        if let Some(memory) = cgroup.memory {
            writeln!(out, "cgroup_mem_max: {}\ncgroup_mem_swap_max: 0", memory.0)?;
        }
        if let Some(pids) = cgroup.pids {
            writeln!(out, "cgroup_pids_max: {pids}")?;
        }
        if let Some(cpus) = cgroup.cpus {
            writeln!(out, "cgroup_cpu_ms_per_sec: {}", cpus.0)?;
        }
        writeln!(out, "detect_cgroupv2: true")?;
        let (program, rest) = sandbox
            .argv
            .split_first()
            .map_or(("", &[][..]), |(first, rest)| (first, rest));
        writeln!(out, "exec_bin {{\n  path: {}", quoted(program))?;
        for word in rest {
            writeln!(out, "  arg: {}", quoted(word))?;
        }
        writeln!(out, "}}")
    })())
}

fn mounts(out: &mut String, sandbox: &Sandbox<'_>, root: Option<&String>) -> std::fmt::Result {
    let access = sandbox.writable.is_some();
    match root {
        Some(folder) => writeln!(
            out,
            "mount {{ src: {} dst: \"/\" is_bind: true rw: false nosuid: true nodev: true }}",
            quoted(folder)
        )?,
        None => writeln!(
            out,
            "mount {{ dst: \"/\" fstype: \"tmpfs\" rw: {access} nosuid: true nodev: true }}"
        )?,
    }
    writeln!(
        out,
        "mount {{ dst: \"/proc\" fstype: \"proc\" rw: false nosuid: true nodev: true noexec: true }}"
    )?;
    writeln!(
        out,
        "mount {{ dst: \"/dev\" fstype: \"tmpfs\" options: \"size=65536,mode=755\" rw: true nosuid: true noexec: true }}"
    )?;
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        writeln!(
            out,
            "mount {{ src: \"/dev/{device}\" dst: \"/dev/{device}\" is_bind: true rw: true }}"
        )?;
    }
    for (link, target) in [
        ("fd", "fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        writeln!(
            out,
            "mount {{ src: \"/proc/self/{target}\" dst: \"/dev/{link}\" is_symlink: true }}"
        )?;
    }
    for mount in &sandbox.mounts {
        let at = quoted(mount.at);
        match &mount.what {
            Place::Tmpfs { size, mode, exec } => writeln!(
                out,
                "mount {{ dst: {at} fstype: \"tmpfs\" options: \"size={},mode={mode:o}\" rw: true nosuid: true nodev: true noexec: {} }}",
                size.0, !exec
            )?,
            Place::Bind {
                source,
                read_only,
                optional,
                ..
            } => writeln!(
                out,
                "mount {{ src: {} dst: {at} is_bind: true rw: {} mandatory: {} nosuid: true nodev: true }}",
                quoted(source),
                !read_only,
                !optional
            )?,
            Place::Copy { source } => writeln!(
                out,
                "mount {{ src: {} dst: {at} is_bind: true rw: false nosuid: true nodev: true }}",
                quoted(source)
            )?,
            Place::File(text) => writeln!(
                out,
                "mount {{ dst: {at} src_content: {} rw: false nosuid: true nodev: true noexec: true }}",
                // Without any content it would look for a file system of no type.
                quoted(if text.is_empty() { "\n" } else { text })
            )?,
            Place::Link(target) => writeln!(
                out,
                "mount {{ src: {} dst: {at} is_symlink: true }}",
                quoted(target)
            )?,
        }
    }
    Ok(())
}

/// Each in the unit that the format has for it; what that cannot say is lost.
fn rlimits(out: &mut String, sandbox: &Sandbox<'_>, lost: &mut Losses) -> std::fmt::Result {
    for (kind, value) in &sandbox.rlimits {
        // MiB for sizes, whole numbers for counts, seconds for time (config.proto).
        let (key, unit) = match kind {
            Rlimit::As => ("as", 1 << 20),
            Rlimit::Core => ("core", 1 << 20),
            Rlimit::Fsize => ("fsize", 1 << 20),
            Rlimit::Stack => ("stack", 1 << 20),
            Rlimit::Cpu => ("cpu", 1),
            Rlimit::Nofile => ("nofile", 1),
            Rlimit::Nproc => ("nproc", 1),
            Rlimit::Memlock => ("memlock", 1 << 10),
            Rlimit::Rtprio => ("rtprio", 1),
            Rlimit::Msgqueue => ("msgqueue", 1),
            _ => {
                lost.add(format!("rlimits.{kind}"), "nsjail does not set it");
                continue;
            }
        };
        match value.soft {
            None => writeln!(out, "rlimit_{key}_type: INF")?,
            Some(soft) => {
                writeln!(out, "rlimit_{key}: {}\nrlimit_{key}_type: VALUE", soft / unit)?;
                if soft % unit != 0 {
                    let text = format!(
                        "{} and not {soft}: nsjail has no smaller unit",
                        soft / unit * unit
                    );
                    lost.add(format!("rlimits.{kind}"), text);
                }
            }
        }
        if value.soft != value.hard {
            lost.add(format!("rlimits.{kind}"), "the hard limit is the soft one");
        }
    }
    // nsjail bounds these itself where nothing is written.
    let own = [
        (Rlimit::As, "as"),
        (Rlimit::Core, "core"),
        (Rlimit::Cpu, "cpu"),
        (Rlimit::Fsize, "fsize"),
        (Rlimit::Nofile, "nofile"),
    ];
    for (_, key) in own.iter().filter(|(kind, _)| !sandbox.rlimits.contains_key(kind)) {
        writeln!(out, "rlimit_{key}_type: HARD")?;
    }
    Ok(())
}

fn losses(sandbox: &Sandbox<'_>, losses: &mut Losses) {
    sandbox.network.lonely_losses("nsjail", losses);
    let program = sandbox.argv.first().map_or("", String::as_str);
    if !program.starts_with('/') {
        losses.add(
            "command",
            format!("{program} is not looked up in PATH: write the path of the program"),
        );
    }
    if sandbox.init {
        losses.add("init", "the job is PID 1: nothing reaps what it leaves");
    }
    if sandbox.namespaces.contains(&Namespace::Time) {
        losses.add(
            "namespaces.time",
            "the clocks since boot are the host's: nsjail has others only for a job that it does not watch",
        );
    }
    if sandbox.seccomp.is_some() {
        losses.add(
            "security.seccomp",
            "no filter: nsjail's language of filters does not know all of its names",
        );
    }
    if !sandbox.groups.is_empty() {
        losses.add("user", "it has no supplementary groups");
    }
    if sandbox.ambient {
        losses.add(
            "security.capabilities",
            "whether they are kept across execve(2) is nsjail's choice",
        );
    }
    if sandbox.cgroup.cpuset.is_some() {
        losses.add("limits.cpuset", "processors cannot be chosen");
    }
    if !sandbox.cgroup.io.is_empty() {
        losses.add("limits.io", "the speed of disks is not bounded");
    }
    if sandbox.watch.wall_ms.is_some_and(|wall| wall.0 % 1000 != 0) {
        losses.add("limits.wall", "rounded up to whole seconds");
    }
    if sandbox.watch.grace_ms.0 > 0 {
        losses.add("limits.grace", "it is ended at once");
    }
    if let (Some(_), Rootfs::Folder(_)) = (&sandbox.writable, &sandbox.rootfs) {
        losses.add("root", "it is read-only: there is no layer for writes");
    }
    if sandbox.sysfs {
        losses.add("sys", "there is no /sys");
    }
    for (name, _) in &sandbox.sysctls {
        losses.add(format!("sysctls.\"{name}\""), "nsjail does not set it");
    }
    if !sandbox.masked.is_empty() {
        losses.add(
            "security.masked-paths",
            "they can be seen, in a proc that is read-only as a whole",
        );
    }
    for mount in &sandbox.mounts {
        let about = format!("mounts.\"{}\"", mount.at);
        match &mount.what {
            Place::Copy { .. } => losses.add(about, "there is no copy: it is read-only"),
            Place::Bind { idmapped: true, .. } => {
                losses.add(
                    about,
                    "its files keep their owners, of whom only the job's user is known inside",
                );
            }
            _ => {}
        }
    }
}

/// A string of the text form: escapes of C, everything outside ASCII as bytes.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'\n' => out.push_str("\\n"),
            b' '..=b'~' => out.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => write!(out, "\\{byte:03o}").expect("a string takes everything"),
        }
    }
    out.push('"');
    out
}
