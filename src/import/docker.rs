//! A `docker run` line.

use std::collections::BTreeMap;

use toml::Value;

use super::draft::{Draft, Job, bytes};
use super::options::{LEFT_OUT, Named, options};
use super::variables::literal;
use super::{Imported, Refusal};
use crate::profile::Capability;

pub(super) fn line(words: &[String]) -> Result<Imported, Refusal> {
    let mut rest = words;
    for word in ["docker", "podman", "container", "run", "create"] {
        rest = rest.strip_prefix(&[word.to_owned()]).unwrap_or(rest);
    }
    let (options, rest) = options(rest)?;
    let Some((image, command)) = rest.split_first() else {
        return Err(Refusal("the line names no image".to_owned()));
    };
    let name = options
        .iter()
        .find(|(name, _)| name == "name")
        .map(|(_, value)| value.as_str());
    let mut draft = Draft::default();
    let mut job = draft.job(name.unwrap_or("main"), "standard", "");
    job.set(&["image"], literal(image));
    if !command.is_empty() {
        let words: Vec<Value> = command.iter().map(|word| Value::from(literal(word))).collect();
        job.set(&["command"], words);
    }
    apply(&mut job, &options);
    Ok(draft.finish())
}

/// Options of a line that is not a whole one: `runArgs` of a devcontainer.json.
pub(super) fn run_args(job: &mut Job<'_>, words: &[String]) -> Result<(), Refusal> {
    let (options, rest) = options(words)?;
    if let Some(word) = rest.first() {
        return Err(Refusal(format!("`{word}` among runArgs is no option")));
    }
    apply(job, &options);
    Ok(())
}

/// Options in their order, but for capabilities: what is dropped is dropped first, wherever it stands.
fn apply(job: &mut Job<'_>, options: &[Named]) {
    let (first, rest): (Vec<_>, Vec<_>) = options.iter().partition(|(name, _)| name == "cap-drop");
    for (name, value) in first.into_iter().chain(rest) {
        option(job, name, value);
    }
}

/// One option, by its long name.
pub(super) fn option(job: &mut Job<'_>, name: &str, value: &str) {
    let what = format!("--{name} {value}");
    match name {
        // What every run is: thrown away at the end, in the foreground, with the caller's streams.
        "rm"
        | "interactive"
        | "name"
        | "quiet"
        | "sig-proxy"
        | "disable-content-trust"
        | "no-healthcheck" => {}
        "tty" => job.leave_out("--tty", "write `ringfence run -t`"),
        "detach" => job.leave_out("--detach", "a run is in the foreground"),
        "publish-all" => job.leave_out("--publish-all", "ports are published one by one"),
        "oom-kill-disable" => job.leave_out("--oom-kill-disable", "a job that exceeds its memory ends"),
        "use-api-socket" => job.leave_out("--use-api-socket", "whoever can talk to it is root of the host"),
        "privileged" if value == "true" => job.leave_out(
            "--privileged",
            "nothing gives a job the host; grant what it needs one by one",
        ),
        "privileged" => {}
        "init" => job.set(&["init"], value != "false"),
        "read-only" => job.set(&["root"], if value == "false" { "tmpfs" } else { "read-only" }),
        "env" => match value.split_once('=') {
            Some((name, value)) => job.set(&["env", name], literal(value)),
            None => {
                job.variable(value, None);
                job.set(&["env", value], format!("${{{value}}}"));
            }
        },
        "entrypoint" => job.set(&["entrypoint"], vec![Value::from(literal(value))]),
        "workdir" => job.set(&["workdir"], literal(value)),
        "user" => job.set(&["user"], value),
        "hostname" => job.set(&["hostname"], value),
        "network" | "net" => network(job, &what, value),
        "publish" => publish(job, &what, value),
        "volume" => volume(job, &what, value),
        "mount" => {
            let parts = value
                .split(',')
                .map(|part| part.split_once('=').unwrap_or((part, "true")));
            let parts: BTreeMap<String, String> = parts
                .map(|(key, value)| (key.to_owned(), literal(value)))
                .collect();
            job.mount(&what, &parts);
        }
        "tmpfs" => tmpfs(job, &what, value),
        "shm-size" => match bytes(value) {
            Some(size) => {
                job.set(&["mounts", "/dev/shm", "tmpfs"], size);
                job.set(&["mounts", "/dev/shm", "exec"], false);
            }
            None => job.leave_out(&what, "it is not a size"),
        },
        "memory" => match bytes(value) {
            Some(size) => job.set(&["limits", "memory"], size),
            None => job.leave_out(&what, "it is not a size"),
        },
        "memory-swap" => job.leave_out(&what, "there is no swap: limits.memory is all"),
        "pids-limit" => match value.parse::<i64>() {
            Ok(count @ 1..) => job.set(&["limits", "pids"], count),
            _ => job.set(&["limits", "pids"], false),
        },
        "cpus" => match value.parse::<f64>() {
            Ok(cpus) => job.set(&["limits", "cpus"], cpus),
            Err(_) => job.leave_out(&what, "it is not a number"),
        },
        "cpuset-cpus" => job.set(&["limits", "cpuset"], value),
        "device-read-bps" | "device-write-bps" | "device-read-iops" | "device-write-iops" => {
            device(job, name, &what, value);
        }
        "ulimit" => ulimit(job, &what, value),
        "sysctl" => match value.split_once('=') {
            Some((name, value)) => job.set(&["sysctls", name], value),
            None => job.leave_out(&what, "it has no value"),
        },
        "cap-add" | "cap-drop" => capability(job, &what, name == "cap-add", value),
        "security-opt" => security(job, &what, value),
        "ipc" | "uts" | "cgroupns" | "pid" => namespace(job, name, &what, value),
        "stop-timeout" => job.set(&["limits", "grace"], format!("{value}s")),
        _ => {
            let why = LEFT_OUT.iter().find(|(other, _)| *other == name);
            job.leave_out(&what, why.map_or("it is not known here", |(_, why)| why));
        }
    }
}

/// Docker changes its own set, which the profile has; a manifest writes the whole list.
fn capability(job: &mut Job<'_>, what: &str, add: bool, value: &str) {
    let known = Capability::from_name(value);
    match (add, known) {
        (false, _) if value.eq_ignore_ascii_case("all") => job.capabilities(&[]),
        (true, _) if value.eq_ignore_ascii_case("all") => {
            job.leave_out(what, "list the capabilities that the job needs");
        }
        (_, None) => job.leave_out(what, "it is not a capability"),
        (true, Some(capability)) => match capability.never_given() {
            Some(why) => job.leave_out(what, format!("it is never given to a job: {why}")),
            None => {
                let mut names = job.own_capabilities();
                names.push(capability);
                job.capabilities(&names);
            }
        },
        (false, Some(capability)) => {
            let mut names = job.own_capabilities();
            names.retain(|name| *name != capability);
            job.capabilities(&names);
        }
    }
}

fn network(job: &mut Job<'_>, what: &str, value: &str) {
    match value {
        "none" => job.set(&["network", "mode"], "null"),
        "host" | "bridge" => job.set(&["network", "mode"], value),
        "default" => {}
        _ if value.starts_with("container:") => {
            job.leave_out(what, "name a network that both jobs are on: network.name");
        }
        name => {
            job.set(&["network", "mode"], "bridge");
            job.set(&["network", "name"], name);
        }
    }
}

/// `[ADDRESS:]PORT:PORT[/PROTOCOL]`.
fn publish(job: &mut Job<'_>, what: &str, value: &str) {
    let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
    let mut parts = ports.rsplitn(3, ':');
    let inside = parts.next().and_then(|port| port.parse::<u16>().ok());
    let outside = parts.next().and_then(|port| port.parse::<u16>().ok());
    let (Some(inside), Some(outside)) = (inside, outside) else {
        return job.leave_out(
            what,
            "one port of the host and one inside are published, by number",
        );
    };
    let address = parts
        .next()
        .filter(|address| !address.is_empty())
        .unwrap_or("0.0.0.0");
    let key = format!("{address}:{outside}");
    job.set(&["network", "mode"], "bridge");
    job.set(&["network", "publish", &key, "to"], i64::from(inside));
    if protocol != "tcp" {
        job.set(&["network", "publish", &key, "protocol"], protocol);
    }
}

/// `SOURCE:TARGET[:OPTIONS]`.
fn volume(job: &mut Job<'_>, what: &str, value: &str) {
    let mut parts = value.split(':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(source), Some(target), options) if source.starts_with(['/', '.', '~']) => {
            let read_only = options.is_some_and(|options| options.split(',').any(|one| one == "ro"));
            let source = source.strip_prefix("~/").map_or_else(
                || literal(source),
                |below| {
                    job.variable("HOME", None);
                    format!("${{HOME}}/{}", literal(below))
                },
            );
            job.bind(target, &source, read_only);
        }
        (Some(name), target, _) => {
            let at = target.unwrap_or(name);
            job.leave_out(
                what,
                format!("a volume has no name here; bind a folder of the host at {at}"),
            );
        }
        (None, ..) => {}
    }
}

/// `TARGET[:OPTIONS]`.
pub(super) fn tmpfs(job: &mut Job<'_>, what: &str, value: &str) {
    let (target, options) = value.split_once(':').unwrap_or((value, ""));
    let size = options.split(',').find_map(|one| one.strip_prefix("size="));
    // Docker's own default is noexec.
    let exec = options.split(',').any(|one| one == "exec");
    job.tmpfs(what, target, size.and_then(bytes).as_deref(), exec);
}

fn device(job: &mut Job<'_>, name: &str, what: &str, value: &str) {
    let Some((device, rate)) = value.rsplit_once(':') else {
        return job.leave_out(what, "it has no rate");
    };
    match (name, bytes(rate), rate.parse::<i64>()) {
        ("device-read-bps", Some(rate), _) => job.set(&["limits", "io", device, "read"], rate),
        ("device-write-bps", Some(rate), _) => job.set(&["limits", "io", device, "write"], rate),
        ("device-read-iops", _, Ok(rate)) => job.set(&["limits", "io", device, "read-ops"], rate),
        ("device-write-iops", _, Ok(rate)) => job.set(&["limits", "io", device, "write-ops"], rate),
        _ => job.leave_out(what, "it has no rate"),
    }
}

/// `NAME=SOFT[:HARD]`, in the kernel's units.
pub(super) fn ulimit(job: &mut Job<'_>, what: &str, value: &str) {
    let Some((name, limits)) = value.split_once('=') else {
        return job.leave_out(what, "it has no value");
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let one = |text: &str| -> Option<Value> {
        if text == "-1" || text == "unlimited" {
            return Some("unlimited".into());
        }
        let number: i64 = text.parse().ok()?;
        Some(match name {
            "as" | "core" | "data" | "fsize" | "memlock" | "msgqueue" | "rss" | "stack" => {
                bytes(text)?.into()
            }
            "cpu" => format!("{number}s").into(),
            "rttime" => format!("{}ms", number / 1000).into(),
            _ => number.into(),
        })
    };
    match (one(soft), one(hard)) {
        (Some(soft), Some(hard)) if soft == hard => job.set(&["rlimits", name], hard),
        (Some(soft), Some(hard)) => {
            job.set(&["rlimits", name, "soft"], soft);
            job.set(&["rlimits", name, "hard"], hard);
        }
        _ => job.leave_out(what, "it is not a number"),
    }
}

pub(super) fn security(job: &mut Job<'_>, what: &str, value: &str) {
    let (name, value) = value.split_once(['=', ':']).unwrap_or((value, "true"));
    match (name, value) {
        ("no-new-privileges", "true") => {}
        ("no-new-privileges", _) => job.leave_out(what, "no program of a job gains rights by being run"),
        ("seccomp", "unconfined") => {
            job.leave_out(what, "every job has a filter; security.seccomp.allow adds to it")
        }
        ("seccomp", _) => job.leave_out(what, "write the difference: security.seccomp.allow and deny"),
        ("systempaths", _) => job.leave_out(what, "write security.masked-paths and security.read-only-paths"),
        ("apparmor" | "label", _) => job.leave_out(what, "the host's security module is the host's"),
        _ => job.leave_out(what, "it is not known here"),
    }
}

pub(super) fn namespace(job: &mut Job<'_>, name: &str, what: &str, value: &str) {
    let ours = match name {
        "ipc" => "ipc",
        "uts" => "uts",
        "cgroupns" => "cgroup",
        _ => "",
    };
    match (ours, value) {
        ("", _) => job.leave_out(what, "a job always has a process namespace of its own"),
        (_, "host") => job.set(&["namespaces", ours], false),
        (_, "private" | "shareable" | "") => {}
        _ => job.leave_out(what, "jobs do not share namespaces"),
    }
}
