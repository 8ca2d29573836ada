//! What bounds a job as a whole: the control group, and what the launcher watches.

use super::given::{Found, Given, asker};
use super::{Cgroup, Watch, codes, signal};
use crate::host::facts::{CgroupSupport, Facts, PathKind};
use crate::profile::{Enforce, Limit, Mount, Root};
use crate::units::{Bytes, MilliCpus, Millis};

/// A controller and the version of its hierarchy.
type Controller = (&'static str, u8);

/// The control group that holds the job's limits; none where nothing needs one.
pub(super) fn cgroup(given: Given<'_>, found: &mut Found) -> Option<Cgroup> {
    let limits = &given.job.hold.limits;
    processors(given, found);
    in_memory(given, found);
    let mut held = Held {
        facts: given.facts,
        found,
        cgroup: Cgroup::default(),
    };
    let memory = held.hold("memory", limits.memory.as_ref(), &both("memory"));
    let pids = held.hold("pids", limits.pids.as_ref(), &both("pids"));
    let cpus = held.hold("cpus", limits.cpus.as_ref(), &both("cpu"));
    let cpuset = held.hold("cpuset", limits.cpuset.as_ref(), &both("cpuset"));
    held.hold("cpu-time", limits.cpu_time.as_ref(), &PROCESSOR_TIME);
    for (device, limit) in &limits.io {
        let key = format!("io.\"{device}\"");
        if held.is_device(device, limit)
            && let Some(value) = held.hold(&key, Some(limit), &[("io", 2), ("blkio", 1)])
        {
            held.cgroup.io.insert(device.clone(), value);
        }
    }
    let mut cgroup = held.cgroup;
    (cgroup.memory, cgroup.pids, cgroup.cpus, cgroup.cpuset) = (memory, pids, cpus, cpuset);
    // A user namespace makes no device nodes and every mount is `nodev`; this is a second wall where it costs nothing.
    if given.as_root() && usable(given.facts, &[("devices", 1)]).is_ok() {
        cgroup.devices = true;
        cgroup.controllers.insert("devices".to_owned(), 1);
    }
    if cgroup.controllers.is_empty() {
        return None;
    }
    // The processor time of the receipt is read here where it costs no group of its own, else from wait4(2).
    if cgroup.controllers.values().any(|version| *version == 2)
        && let Ok((name, 2)) = usable(given.facts, &PROCESSOR_TIME)
    {
        cgroup.controllers.insert(name.to_owned(), 2);
    }
    Some(cgroup)
}

/// What the launcher itself watches.
pub(super) fn watch(given: Given<'_>, found: &mut Found) -> Watch {
    let limits = &given.job.hold.limits;
    let stop_signal = given
        .image
        .config
        .stop_signal
        .as_deref()
        .map(|text| (text, signal::number(text)));
    if let Some((text, None)) = stop_signal {
        found.notice(
            "stop-signal",
            format!(
                "the image's StopSignal `{}` is no signal: SIGTERM is sent",
                text.escape_debug()
            ),
        );
    }
    let max = |limit: &Limit<Millis>| limit.max.value;
    let counted = usable(given.facts, &PROCESSOR_TIME).is_ok();
    Watch {
        wall_ms: limits.wall.as_ref().map(max),
        grace_ms: limits.grace.as_ref().map_or(Millis(0), |grace| grace.value),
        cpu_time_ms: limits.cpu_time.as_ref().filter(|_| counted).map(max),
        output: limits.output.as_ref().map(|limit| limit.max.value),
        stop_signal: stop_signal.and_then(|(_, number)| number).unwrap_or(signal::TERM),
    }
}

/// Where processor time is counted.
const PROCESSOR_TIME: [Controller; 2] = [("cpuacct", 2), ("cpuacct", 1)];

fn both(name: &'static str) -> [Controller; 2] {
    [(name, 2), (name, 1)]
}

/// The first of these controllers that the caller can use, else the host's reason.
fn usable(facts: &Facts, wanted: &[Controller]) -> Result<Controller, String> {
    let mut reason = None;
    for (name, version) in wanted {
        match facts.cgroup.get(*name) {
            Some(CgroupSupport::V1) if *version == 1 => return Ok((name, 1)),
            Some(CgroupSupport::V2) if *version == 2 => return Ok((name, 2)),
            Some(CgroupSupport::No(why)) => reason = Some(why.clone()),
            _ => {}
        }
    }
    Err(reason.unwrap_or_else(|| "this host does not have it".to_owned()))
}

struct Held<'a> {
    facts: &'a Facts,
    found: &'a mut Found,
    cgroup: Cgroup,
}

impl Held<'_> {
    /// The limit's value where the host can hold it.
    fn hold<T: Clone>(&mut self, key: &str, limit: Option<&Limit<T>>, wanted: &[Controller]) -> Option<T> {
        let limit = limit?;
        match (usable(self.facts, wanted), limit.enforce) {
            (Ok((name, version)), _) => {
                self.cgroup.controllers.insert(name.to_owned(), version);
                return Some(limit.max.value.clone());
            }
            (Err(reason), Enforce::Required) => {
                let mut names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
                names.dedup();
                self.found.refuse(
                    codes::NO_CONTROLLER,
                    limit.max.span(),
                    format!(
                        "limits.{key} of {} needs the cgroup controller `{}`: {reason}",
                        asker(&limit.max.origin),
                        names.join("` or `")
                    ),
                    "`ringfence doctor` shows what mends it; `enforce = \"optional\"` in `limits` runs without it",
                );
            }
            (Err(reason), Enforce::Optional) => {
                self.found
                    .notice(format!("limits.{key}"), format!("not applied: {reason}"));
            }
        }
        None
    }

    fn is_device<T>(&mut self, device: &str, limit: &Limit<T>) -> bool {
        match self.facts.path.get(device) {
            Some(facts) if facts.kind != PathKind::BlockDevice => {
                self.found.refuse(
                    codes::NOT_A_DEVICE,
                    limit.max.span(),
                    format!("limits.io: `{device}` is {} on this host", kind_name(facts.kind)),
                    "write a block device: its path such as `/dev/sda`, or `MAJOR:MINOR`",
                );
                false
            }
            Some(_) => true,
            None => {
                self.found.notice(
                    format!("limits.io.\"{device}\""),
                    "assumed to be a block device; the facts do not have it",
                );
                true
            }
        }
    }
}

/// What stands at a path, for messages.
pub(super) fn kind_name(kind: PathKind) -> &'static str {
    match kind {
        PathKind::Missing => "missing",
        PathKind::File => "a file",
        PathKind::Directory => "a directory",
        PathKind::BlockDevice => "a block device",
        PathKind::Denied => "out of the caller's reach",
        PathKind::Other => "neither a file nor a directory",
    }
}

fn processors(given: Given<'_>, found: &mut Found) {
    let Some(limit) = &given.job.hold.limits.cpus else {
        return;
    };
    let there = MilliCpus(given.facts.cpus.saturating_mul(1000));
    if limit.max.value <= there {
        return;
    }
    let asks = format!(
        "{} asks for {} cpus, this host allows {there}",
        asker(&limit.max.origin),
        limit.max.value
    );
    match limit.enforce {
        Enforce::Required => found.refuse(
            codes::TOO_MANY_CPUS,
            limit.max.span(),
            asks,
            format!("write at most {there}"),
        ),
        Enforce::Optional => found.notice("limits.cpus", asks),
    }
}

/// File systems in memory are charged to the job's memory: filling them must not be what ends it.
fn in_memory(given: Given<'_>, found: &mut Found) {
    let hold = &given.job.hold;
    let Some(memory) = &hold.limits.memory else {
        return;
    };
    let tmpfs = hold.mounts.values().filter_map(|mount| match &mount.value {
        Mount::Tmpfs { size, .. } => Some(size.value.0),
        Mount::Bind { .. } => None,
    });
    let layer = hold
        .limits
        .disk
        .as_ref()
        .filter(|_| hold.root.value == Root::Tmpfs);
    let sum = tmpfs
        .chain(layer.map(|disk| disk.max.value.0))
        .fold(0, u64::saturating_add);
    if sum > memory.max.value.0 {
        found.notice(
            "limits.memory",
            format!(
                "file systems in memory may hold {} together, and count as memory, which ends at {}",
                Bytes(sum),
                memory.max.value
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, limit, placed};
    use super::*;
    use crate::host::facts::{Caller, PathFacts};
    use crate::profile::IoLimit;

    #[test]
    fn limits_need_controllers_that_the_caller_may_use() {
        let mut sample = sample::strict();
        assert_eq!(
            sample.plan().with_child.last().unwrap().to_string(),
            "cgroup (memory 512MiB without swap, pids 128, devices closed; controllers devices v1, memory v1, pids v1)"
        );
        sample.facts.caller = Caller::User;
        let no = CgroupSupport::No("no delegated group; log in through systemd".into());
        sample.facts.cgroup.insert("memory".into(), no);
        sample.facts.cgroup.remove("pids");
        let mend =
            "; `ringfence doctor` shows what mends it; `enforce = \"optional\"` in `limits` runs without it";
        assert_eq!(
            sample.refusals(),
            [
                format!(
                    "limits.memory of job `test` needs the cgroup controller `memory`: no delegated group; log in through systemd{mend}"
                ),
                format!(
                    "limits.pids of profile `strict` needs the cgroup controller `pids`: this host does not have it{mend}"
                ),
            ]
        );
        for enforce in [
            &mut sample.job.hold.limits.memory.as_mut().expect("memory").enforce,
            &mut sample.job.hold.limits.pids.as_mut().expect("pids").enforce,
        ] {
            *enforce = Enforce::Optional;
        }
        assert_eq!(
            sample.notices("limits.memory"),
            ["not applied: no delegated group; log in through systemd"]
        );
        assert_eq!(
            sample.notices("limits.pids"),
            ["not applied: this host does not have it"]
        );
        assert_eq!(sample.plan().before_clone, []);
    }

    #[test]
    fn processor_time_is_counted_by_either_hierarchy() {
        let mut sample = sample::strict();
        sample.job.hold.limits.cpu_time = Some(limit(Millis(30_000)));
        assert_eq!(
            sample.refusals(),
            [
                "limits.cpu-time of job `test` needs the cgroup controller `cpuacct`: this host does not have it; \
                 `ringfence doctor` shows what mends it; `enforce = \"optional\"` in `limits` runs without it"
            ]
        );
        for (name, support) in [("cpuacct", CgroupSupport::V1), ("cpuacct", CgroupSupport::V2)] {
            sample.facts.cgroup.insert(name.into(), support);
            assert_eq!(sample.plan().watch.cpu_time_ms, Some(Millis(30_000)), "{name}");
            sample.facts.cgroup.remove(name);
        }
        sample.job.hold.limits.cpu_time.as_mut().expect("set").enforce = Enforce::Optional;
        assert_eq!(sample.plan().watch.cpu_time_ms, None);
        assert_eq!(
            sample.notices("limits.cpu-time"),
            ["not applied: this host does not have it"]
        );
    }

    #[test]
    fn a_host_has_so_many_processors() {
        let mut sample = sample::strict();
        sample.facts.cgroup.insert("cpu".into(), CgroupSupport::V1);
        sample.job.hold.limits.cpus = Some(limit(MilliCpus(2500)));
        assert_eq!(
            sample.refusals(),
            ["job `test` asks for 2.5 cpus, this host allows 2; write at most 2"]
        );
        sample.job.hold.limits.cpus.as_mut().expect("set").enforce = Enforce::Optional;
        assert_eq!(
            sample.notices("limits.cpus"),
            ["job `test` asks for 2.5 cpus, this host allows 2"]
        );
    }

    #[test]
    fn io_is_limited_by_block_device() {
        let mut sample = sample::strict();
        sample.facts.cgroup.insert("blkio".into(), CgroupSupport::V1);
        let io = limit(IoLimit {
            read: Some(Bytes(1 << 20)),
            ..IoLimit::default()
        });
        sample.job.hold.limits.io.insert("/dev/sda".into(), io);
        assert_eq!(
            sample.notices("limits.io.\"/dev/sda\""),
            ["assumed to be a block device; the facts do not have it"]
        );
        let file = PathFacts {
            kind: PathKind::File,
            idmapped_mounts: false,
            file_system: "ext4".into(),
            owned: true,
            device: None,
        };
        sample.facts.path.insert("/dev/sda".into(), file);
        assert_eq!(
            sample.refusals(),
            [
                "limits.io: `/dev/sda` is a file on this host; write a block device: its path such as `/dev/sda`, or `MAJOR:MINOR`"
            ]
        );
    }

    #[test]
    fn memory_holds_its_file_systems_too() {
        let mut sample = sample::strict();
        let size = placed(Bytes(1 << 30), 5);
        let tmpfs = Mount::Tmpfs { size, exec: true };
        sample.job.hold.mounts.insert("/big".into(), placed(tmpfs, 5));
        assert_eq!(
            sample.notices("limits.memory"),
            ["file systems in memory may hold 1104MiB together, and count as memory, which ends at 512MiB"]
        );
    }

    #[test]
    fn a_stop_signal_that_is_none_is_said() {
        let mut sample = sample::strict();
        sample.image.config.stop_signal = Some("SIGQUIT".into());
        assert_eq!(sample.plan().watch.stop_signal, 3);
        sample.image.config.stop_signal = Some("SIGNOPE".into());
        assert_eq!(sample.plan().watch.stop_signal, 15);
        assert_eq!(
            sample.notices("stop-signal"),
            ["the image's StopSignal `SIGNOPE` is no signal: SIGTERM is sent"]
        );
    }
}
