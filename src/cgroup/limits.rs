//! What a group holds: every limit is written, read back and compared.
//!
//! cgroups-rs writes wherever it has a setter for the file. It is not asked to read: its getters read ten files for
//! one value and turn a failed read into 0. Where a file is written here directly, the reason stands beside it.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::io;
use std::path::Path;

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::blkio::BlkIoController;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuset::CpuSetController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use serde::Serialize;

use super::{Act, Controller, Error, Version, file};

/// What a group is to hold and to count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of memory, whole pages of which are held. Swap is off with it; on v1 the buffers of TCP sockets, which
    /// are counted apart there, get the same bound of their own.
    pub(crate) memory: Option<u64>,
    /// Processes and threads at once.
    pub(crate) pids: Option<u64>,
    /// A share of processors.
    pub(crate) cpu: Option<CpuQuota>,
    /// Processors that may be used, as cpuset(7) lists them: `0-2,4`.
    pub(crate) cpuset: Option<String>,
    /// Bounds of block devices.
    pub(crate) io: Vec<IoLimit>,
    /// Of device nodes only null, zero, full, random, urandom, tty and pseudo-terminals can be opened (v1, root).
    pub(crate) devices: bool,
    /// Controllers whose counters are wanted although nothing is bounded.
    pub(crate) count: BTreeSet<Controller>,
}

/// A share of processors: so much processor time in every period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuQuota {
    /// Microseconds of processor time.
    pub(crate) quota_us: u64,
    /// Length of a period in microseconds.
    pub(crate) period_us: u64,
}

impl CpuQuota {
    /// The quota of a share in thousandths of a processor. The kernel takes no quota below 1 ms, so a tiny share has
    /// the longest period there is (1 s; see Documentation/scheduler/sched-bwc.rst).
    pub(crate) fn from_millicpus(share: u32) -> CpuQuota {
        let period_us = if share < 10 { 1_000_000 } else { 100_000 };
        CpuQuota {
            quota_us: u64::from(share) * period_us / 1000,
            period_us,
        }
    }
}

/// Bounds of one block device, each per second; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IoLimit {
    /// The device's major number; a whole disk, the kernel takes no partition.
    pub(crate) major: u64,
    /// The device's minor number.
    pub(crate) minor: u64,
    /// Bytes read.
    pub(crate) read_bytes: Option<u64>,
    /// Bytes written.
    pub(crate) write_bytes: Option<u64>,
    /// Read operations.
    pub(crate) read_ops: Option<u64>,
    /// Write operations.
    pub(crate) write_ops: Option<u64>,
}

/// A value that a group holds, as it was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Enforced {
    /// The controller.
    pub(crate) controller: Controller,
    /// The file that holds the value.
    pub(crate) file: String,
    /// The value as it was asked for.
    pub(crate) wanted: String,
    /// The value as the kernel gave it back.
    pub(crate) got: String,
}

/// The device nodes that every job may open: null, zero, full, random, urandom, tty, ptmx, and terminals behind it.
const DEVICES: [(u32, &str); 8] = [
    (1, "3"),
    (1, "5"),
    (1, "7"),
    (1, "8"),
    (1, "9"),
    (5, "0"),
    (5, "2"),
    (136, "*"),
];

impl Limits {
    /// The controllers that must be there.
    pub(crate) fn controllers(&self) -> BTreeSet<Controller> {
        let bounded = [
            (Controller::Memory, self.memory.is_some()),
            (Controller::Pids, self.pids.is_some()),
            (Controller::Cpu, self.cpu.is_some()),
            (Controller::Cpuset, self.cpuset.is_some()),
            (Controller::Io, !self.io.is_empty()),
            (Controller::Devices, self.devices),
        ];
        let bounded = bounded
            .into_iter()
            .filter_map(|(controller, is)| is.then_some(controller));
        self.count.iter().copied().chain(bounded).collect()
    }
}

/// One controller's directory while its limits are written.
pub(super) struct Holder<'a> {
    pub(super) controller: Controller,
    pub(super) version: Version,
    pub(super) dir: &'a Path,
    pub(super) enforced: &'a mut Vec<Enforced>,
}

impl Holder<'_> {
    /// Writes and reads back what the limits say of this controller.
    pub(super) fn hold(&mut self, limits: &Limits) -> Result<(), Error> {
        match self.controller {
            Controller::Memory => limits.memory.map_or(Ok(()), |bytes| self.memory(bytes)),
            Controller::Pids => limits.pids.map_or(Ok(()), |count| self.pids(count)),
            Controller::Cpu => limits.cpu.map_or(Ok(()), |quota| self.cpu(quota)),
            Controller::CpuAcct => Ok(()),
            // On v1 even a group that bounds nothing here needs processors and nodes before anybody can join.
            Controller::Cpuset => self.cpuset(limits.cpuset.as_deref()),
            Controller::Io => limits.io.iter().try_for_each(|limit| self.io(limit)),
            Controller::Devices if limits.devices => self.devices(),
            Controller::Devices => Ok(()),
        }
    }

    /// A v2 group of a job has no groups below it.
    pub(super) fn leaf(&mut self) -> Result<(), Error> {
        for name in ["cgroup.max.descendants", "cgroup.max.depth"] {
            // cgroups-rs has no setter for either.
            file::write(&self.dir.join(name), "0")?;
            self.exact(name, "0")?;
        }
        Ok(())
    }

    fn memory(&mut self, bytes: u64) -> Result<(), Error> {
        let memory = MemController::new(self.dir.into(), self.dir.into(), self.version == Version::V2);
        let limit = i64::try_from(bytes).unwrap_or(i64::MAX);
        match self.version {
            Version::V1 => {
                self.written("memory.limit_in_bytes", memory.set_limit(limit))?;
                self.pages("memory.limit_in_bytes", bytes)?;
                if self.swap_is_counted("memory.memsw.limit_in_bytes")? {
                    self.written("memory.memsw.limit_in_bytes", memory.set_memswap_limit(limit))?;
                    self.pages("memory.memsw.limit_in_bytes", bytes)?;
                }
                // v1 charges sockets to a counter of its own, and only once that has a bound: without it a job could
                // keep any amount of memory in the buffers of its own loopback (mem_cgroup_sk_alloc, mm/memcontrol.c).
                if self.dir.join("memory.kmem.tcp.limit_in_bytes").exists() {
                    self.written("memory.kmem.tcp.limit_in_bytes", memory.set_tcp_limit(limit))?;
                    self.pages("memory.kmem.tcp.limit_in_bytes", bytes)?;
                }
                Ok(())
            }
            Version::V2 => {
                self.written("memory.max", memory.set_limit(limit))?;
                self.pages("memory.max", bytes)?;
                if self.swap_is_counted("memory.swap.max")? {
                    self.written("memory.swap.max", memory.set_memswap_limit(0))?;
                    self.exact("memory.swap.max", "0")?;
                }
                // cgroups-rs has no setter. With it the job dies whole, never by half.
                file::write(&self.dir.join("memory.oom.group"), "1")?;
                self.exact("memory.oom.group", "1")
            }
        }
    }

    /// Whether the file that bounds swap is there. Where it is not, a host without swap in use is as good.
    fn swap_is_counted(&self, name: &str) -> Result<bool, Error> {
        let path = self.dir.join(name);
        if path.exists() {
            return Ok(true);
        }
        // The first line of /proc/swaps is its heading; a kernel without swap has no such file.
        match file::read(Path::new("/proc/swaps")) {
            Ok(swaps) if swaps.lines().count() > 1 => Err(Error::Swap {
                path: file::shown(&path),
            }),
            Ok(_)
            | Err(Error::File {
                errno: nix::errno::Errno::ENOENT,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn pids(&mut self, count: u64) -> Result<(), Error> {
        let pids = PidController::new(self.dir.into(), self.dir.into(), self.version == Version::V2);
        self.written(
            "pids.max",
            pids.set_pid_max(MaxValue::Value(i64::try_from(count).unwrap_or(i64::MAX))),
        )?;
        self.exact("pids.max", &count.to_string())
    }

    fn cpu(&mut self, quota: CpuQuota) -> Result<(), Error> {
        let CpuQuota { quota_us, period_us } = quota;
        let cpu = CpuController::new(self.dir.into(), self.dir.into(), self.version == Version::V2);
        let signed = i64::try_from(quota_us).unwrap_or(i64::MAX);
        match self.version {
            Version::V1 => {
                // The period first: a quota of the old period might be more than the parent has.
                self.written("cpu.cfs_period_us", cpu.set_cfs_period(period_us))?;
                self.written("cpu.cfs_quota_us", cpu.set_cfs_quota(signed))?;
                self.exact("cpu.cfs_period_us", &period_us.to_string())?;
                self.exact("cpu.cfs_quota_us", &quota_us.to_string())
            }
            Version::V2 => {
                self.written(
                    "cpu.max",
                    cpu.set_cfs_quota_and_period(Some(signed), Some(period_us)),
                )?;
                self.exact("cpu.max", &format!("{quota_us} {period_us}"))
            }
        }
    }

    fn cpuset(&mut self, cpus: Option<&str>) -> Result<(), Error> {
        let cpuset = CpuSetController::new(self.dir.into(), self.dir.into(), self.version == Version::V2);
        if self.version == Version::V1 {
            // Neither is inherited; cgroups-rs copies them only in its own `create`, which drops errors.
            let parent = self.dir.parent().unwrap_or(self.dir);
            let mems = file::read(&parent.join("cpuset.mems"))?;
            self.written("cpuset.mems", cpuset.set_mems(mems.trim()))?;
            self.ranges("cpuset.mems", mems.trim())?;
            if cpus.is_none() {
                let cpus = file::read(&parent.join("cpuset.cpus"))?;
                self.written("cpuset.cpus", cpuset.set_cpus(cpus.trim()))?;
                return self.ranges("cpuset.cpus", cpus.trim());
            }
        }
        let Some(cpus) = cpus else { return Ok(()) };
        self.written("cpuset.cpus", cpuset.set_cpus(cpus))?;
        self.ranges("cpuset.cpus", cpus)?;
        match self.version {
            Version::V1 => Ok(()),
            // v2 takes processors that the group above has not, and then leaves them out or gives all.
            Version::V2 => self.ranges("cpuset.cpus.effective", cpus),
        }
    }

    fn io(&mut self, limit: &IoLimit) -> Result<(), Error> {
        let io = BlkIoController::new(self.dir.into(), self.dir.into(), self.version == Version::V2);
        let IoLimit { major, minor, .. } = *limit;
        type Set = fn(&BlkIoController, u64, u64, u64) -> Result<(), cgroups_rs::fs::error::Error>;
        let bounds: [(Option<u64>, Set, &str, &str); 4] = [
            (
                limit.read_bytes,
                BlkIoController::throttle_read_bps_for_device,
                "blkio.throttle.read_bps_device",
                "rbps",
            ),
            (
                limit.write_bytes,
                BlkIoController::throttle_write_bps_for_device,
                "blkio.throttle.write_bps_device",
                "wbps",
            ),
            (
                limit.read_ops,
                BlkIoController::throttle_read_iops_for_device,
                "blkio.throttle.read_iops_device",
                "riops",
            ),
            (
                limit.write_ops,
                BlkIoController::throttle_write_iops_for_device,
                "blkio.throttle.write_iops_device",
                "wiops",
            ),
        ];
        for (bound, set, old, key) in bounds {
            let Some(rate) = bound else { continue };
            let (name, value) = match self.version {
                Version::V1 => (old, rate.to_string()),
                Version::V2 => ("io.max", format!("{key}={rate}")),
            };
            self.written(name, set(&io, major, minor, rate))?;
            self.check(name, &format!("{major}:{minor} {value}"), |text| {
                let device = format!("{major}:{minor}");
                text.lines().any(|line| {
                    let mut words = line.split_whitespace();
                    words.next() == Some(&device) && words.any(|word| word == value)
                })
            })?;
        }
        Ok(())
    }

    /// Each line is a write of its own: the kernel takes one device at a time. cgroups-rs would open the file for each,
    /// which is most of what this group costs a start.
    fn devices(&mut self) -> Result<(), Error> {
        let wanted = DEVICES.map(|(major, minor)| format!("c {major}:{minor} rw"));
        file::write(&self.dir.join("devices.deny"), "a")?;
        file::write_each(&self.dir.join("devices.allow"), &wanted)?;
        self.check("devices.list", &wanted.join("\n"), |text| {
            text.lines().collect::<BTreeSet<_>>() == wanted.iter().map(String::as_str).collect()
        })
    }

    /// A setter's answer as an error that names the file and the kernel's reason.
    fn written(&self, name: &str, result: Result<(), cgroups_rs::fs::error::Error>) -> Result<(), Error> {
        result.map_err(|error| {
            let cause = error
                .source()
                .and_then(|source| source.downcast_ref::<io::Error>());
            let unknown = io::Error::other("no cause");
            file::error(Act::Write, &self.dir.join(name), cause.unwrap_or(&unknown))
        })
    }

    fn exact(&mut self, name: &str, wanted: &str) -> Result<(), Error> {
        self.check(name, wanted, |text| text == wanted)
    }

    /// The kernel holds whole pages and rounds down (page_counter_memparse, mm/page_counter.c).
    fn pages(&mut self, name: &str, wanted: u64) -> Result<(), Error> {
        let page = page_size();
        self.check(name, &wanted.to_string(), |text| {
            text.parse() == Ok(wanted / page * page)
        })
    }

    /// The kernel lists `0,1` as `0-1`.
    fn ranges(&mut self, name: &str, wanted: &str) -> Result<(), Error> {
        self.check(name, wanted, |text| {
            ranges(text).is_some_and(|got| Some(got) == ranges(wanted))
        })
    }

    fn check(&mut self, name: &str, wanted: &str, same: impl FnOnce(&str) -> bool) -> Result<(), Error> {
        let path = self.dir.join(name);
        let text = file::read(&path)?;
        let (file, wanted, got) = (file::shown(&path), wanted.to_owned(), text.trim().to_owned());
        if !same(&got) {
            return Err(Error::Mismatch {
                path: file,
                wanted,
                got,
            });
        }
        self.enforced.push(Enforced {
            controller: self.controller,
            file,
            wanted,
            got,
        });
        Ok(())
    }
}

fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok()
        .flatten()
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

/// A list of cpuset(7) as sorted ranges that do not touch; none when it is not one.
fn ranges(list: &str) -> Option<Vec<(u32, u32)>> {
    let mut all = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        all.push((first, last));
        if first > last {
            return None;
        }
    }
    all.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for (first, last) in all {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_becomes_a_quota_that_the_kernel_takes() {
        assert_eq!(
            CpuQuota::from_millicpus(1500),
            CpuQuota {
                quota_us: 150_000,
                period_us: 100_000
            }
        );
        assert_eq!(
            CpuQuota::from_millicpus(10),
            CpuQuota {
                quota_us: 1000,
                period_us: 100_000
            }
        );
        assert_eq!(
            CpuQuota::from_millicpus(1),
            CpuQuota {
                quota_us: 1000,
                period_us: 1_000_000
            }
        );
    }

    #[test]
    fn lists_of_processors_are_compared_by_what_they_mean() {
        assert_eq!(ranges("0,1"), ranges("0-1"));
        assert_eq!(ranges("3,0-1,2\n"), ranges("0-3"));
        assert_ne!(ranges("0,2"), ranges("0-2"));
        assert_eq!(ranges("0-4294967295"), Some(vec![(0, u32::MAX)]));
        assert_eq!(ranges(""), Some(vec![]));
        for wrong in ["2-1", "a", "1-", "-1", "1-2-3"] {
            assert_eq!(ranges(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_what_is_asked_for_is_needed() {
        assert_eq!(Limits::default().controllers(), BTreeSet::new());
        let limits = Limits {
            memory: Some(1),
            count: [Controller::CpuAcct].into(),
            ..Limits::default()
        };
        assert_eq!(
            limits.controllers(),
            [Controller::Memory, Controller::CpuAcct].into()
        );
    }
}
