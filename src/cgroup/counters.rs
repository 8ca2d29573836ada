//! What the kernel counted of a group. A counter that cannot be read is absent, never 0.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Serialize;

use super::file::{keyed, read};
use super::{Controller, Version};

/// What the kernel counted of a group; absent where it keeps no such count or the controller was not asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counters {
    /// The most memory used at once, in bytes: `memory.max_usage_in_bytes`, `memory.peak` (v2 since Linux 5.19).
    pub(crate) memory_peak: Option<u64>,
    /// How often memory stood at its limit and was reclaimed: `memory.failcnt` with `memory.memsw.failcnt`, `max` of
    /// `memory.events`. Absent on v1 where the kernel does not count it; a peak at the limit says the same.
    pub(crate) memory_limit_hits: Option<u64>,
    /// Processes killed for want of memory: `oom_kill` of `memory.oom_control`, of `memory.events`.
    pub(crate) oom_kills: Option<u64>,
    /// The most processes and threads at once: `pids.peak` (since Linux 6.1 on v2, later on v1).
    pub(crate) pids_peak: Option<u64>,
    /// How often a fork was refused: `max` of `pids.events`.
    pub(crate) pids_refused: Option<u64>,
    /// Processor time in user mode, in microseconds; on v1 in steps of a clock tick (`cpuacct.stat`), 10 ms.
    pub(crate) cpu_user_us: Option<u64>,
    /// Processor time in the kernel, in microseconds; on v1 as above.
    pub(crate) cpu_system_us: Option<u64>,
    /// How many periods ended early because the share of processors was used up: `nr_throttled` of `cpu.stat`.
    pub(crate) throttled: Option<u64>,
    /// Bytes read from block devices: `blkio.throttle.io_service_bytes`, `io.stat`.
    pub(crate) io_read: Option<u64>,
    /// Bytes written to block devices. v1 knows nothing of what is written back later from the page cache.
    pub(crate) io_written: Option<u64>,
}

impl Counters {
    /// Adds what one controller's directory says.
    pub(super) fn add(&mut self, controller: Controller, version: Version, dir: &Path) {
        let text = |name: &str| read(&dir.join(name)).ok();
        let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
        match (controller, version) {
            (Controller::Memory, Version::V1) => {
                self.memory_peak = number("memory.max_usage_in_bytes");
                // Memory with swap has a limit of the same height and is charged first, so it fails first. Linux 6.18
                // forgets to count that (tried): 0 beside a peak at the limit is no count.
                let swap = number("memory.memsw.failcnt").unwrap_or(0);
                let hits = number("memory.failcnt").map(|hits| hits + swap);
                let at_limit = || self.memory_peak >= number("memory.limit_in_bytes");
                self.memory_limit_hits = hits.filter(|hits| *hits > 0 || !at_limit());
                self.oom_kills = text("memory.oom_control").and_then(|text| keyed(&text, "oom_kill"));
            }
            (Controller::Memory, Version::V2) => {
                self.memory_peak = number("memory.peak");
                let events = text("memory.events");
                self.memory_limit_hits = events.as_deref().and_then(|text| keyed(text, "max"));
                self.oom_kills = events.as_deref().and_then(|text| keyed(text, "oom_kill"));
            }
            (Controller::Pids, _) => {
                self.pids_peak = number("pids.peak");
                self.pids_refused = text("pids.events").and_then(|text| keyed(&text, "max"));
            }
            (Controller::Cpu, _) => {
                self.throttled = text("cpu.stat").and_then(|text| keyed(&text, "nr_throttled"))
            }
            (Controller::CpuAcct, Version::V1) => {
                let stat = text("cpuacct.stat");
                let ticks = |key| Some(keyed(stat.as_deref()?, key)? * tick_us()?);
                (self.cpu_user_us, self.cpu_system_us) = (ticks("user"), ticks("system"));
            }
            (Controller::CpuAcct, Version::V2) => {
                let stat = text("cpu.stat");
                self.cpu_user_us = stat.as_deref().and_then(|text| keyed(text, "user_usec"));
                self.cpu_system_us = stat.as_deref().and_then(|text| keyed(text, "system_usec"));
            }
            (Controller::Io, Version::V1) => {
                let bytes = text("blkio.throttle.io_service_bytes");
                self.io_read = bytes.as_deref().and_then(|text| column(text, "Read "));
                self.io_written = bytes.as_deref().and_then(|text| column(text, "Write "));
            }
            (Controller::Io, Version::V2) => {
                let stat = text("io.stat");
                self.io_read = stat.as_deref().and_then(|text| column(text, "rbytes="));
                self.io_written = stat.as_deref().and_then(|text| column(text, "wbytes="));
            }
            (Controller::Cpuset | Controller::Devices, _) => {}
        }
    }
}

/// The sum over all devices of the number that follows `key`: `8:0 Read 4096`, `8:0 rbytes=4096 wbytes=0`. A device
/// that does not name the key counts nothing; a number that is none makes the whole sum absent.
fn column(text: &str, key: &str) -> Option<u64> {
    let numbers = text.lines().filter_map(|line| {
        let (_, after) = line
            .split_once(' ')?
            .1
            .split_once(key)
            .filter(|(before, _)| before.is_empty() || before.ends_with(' '))?;
        Some(after.split_whitespace().next().unwrap_or_default())
    });
    numbers
        .map(|number| number.parse::<u64>().ok())
        .try_fold(0u64, |sum, number| sum.checked_add(number?))
}

/// Length of a clock tick, the unit of `cpuacct.stat` (USER_HZ, see times(2)).
fn tick_us() -> Option<u64> {
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    u64::try_from(per_second)
        .ok()
        .filter(|hz| *hz > 0)
        .map(|hz| 1_000_000 / hz)
}

/// The processor time of a group, kept open to be read again and again.
#[derive(Debug)]
pub(super) struct CpuUsage {
    file: File,
    version: Version,
}

impl CpuUsage {
    pub(super) fn open(version: Version, dir: &Path) -> io::Result<CpuUsage> {
        let name = match version {
            Version::V1 => "cpuacct.usage",
            Version::V2 => "cpu.stat",
        };
        Ok(CpuUsage {
            file: File::open(dir.join(name))?,
            version,
        })
    }

    /// Microseconds used so far; one system call.
    pub(super) fn read(&self) -> io::Result<u64> {
        let mut buffer = [0; 64];
        let length = self.file.read_at(&mut buffer, 0)?;
        let text = str::from_utf8(&buffer[..length]).unwrap_or_default();
        let usage = match self.version {
            Version::V1 => text.trim().parse::<u64>().ok().map(|ns| ns / 1000),
            // `usage_usec N` is the first line; the buffer may end in a later one.
            Version::V2 => text
                .split_once('\n')
                .and_then(|(first, _)| keyed(first, "usage_usec")),
        };
        usage.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_summed_over_devices() {
        let v2 = "8:0 rbytes=4096 wbytes=1 rios=1\n253:1 rbytes=1 wbytes=2\n7:0 \n";
        assert_eq!(
            (column(v2, "rbytes="), column(v2, "wbytes=")),
            (Some(4097), Some(3))
        );
        let v1 =
            "8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:0 Total 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n";
        assert_eq!((column(v1, "Read "), column(v1, "Write ")), (Some(11), Some(22)));
        assert_eq!(column("Total 0\n", "Read "), Some(0));
        assert_eq!(column("", "rbytes="), Some(0));
        assert_eq!(column("8:0 rbytes=x\n", "rbytes="), None);
        assert_eq!(
            column("8:0 Read 18446744073709551615\n8:1 Read 1\n", "Read "),
            None
        );
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let mut counters = Counters::default();
        for controller in Controller::ALL {
            for version in [Version::V1, Version::V2] {
                counters.add(controller, version, Path::new("/proc/self/no-such-group"));
            }
        }
        assert_eq!(counters, Counters::default());
    }
}
