//! How a run ended, from the kernel's counters, never guessed from an exit code.

use std::fmt;

use serde::Serialize;

use crate::launch::{Ended, Exit};
use crate::plan::{Cgroup, HostStep, InitStep, Mounted, Plan, RootMount, Upper};

/// How a run ended: the first that applies, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// The manifest, the host or a ceiling does not allow it; nothing was started.
    Refused,
    /// The image could not be had.
    Image,
    /// The sandbox could not be built; the job never started.
    Setup,
    /// The wall limit ended it.
    Wall,
    /// The limit of its output ended it.
    Output,
    /// The main process was killed and the kernel counted an out-of-memory kill.
    Oom,
    /// The limit of processor time ended it.
    Cpu,
    /// A system call that kills was made (SIGSYS).
    Seccomp,
    /// It failed and a writable layer was full.
    Disk,
    /// It failed and the kernel had refused a fork.
    Pids,
    /// A signal ended it.
    Signal,
    /// It ended by itself.
    Exit,
}

impl Verdict {
    /// The manifest's key of the limit that it is about.
    pub(crate) fn limit(self) -> Option<&'static str> {
        Some(match self {
            Verdict::Wall => "limits.wall",
            Verdict::Output => "limits.output",
            Verdict::Oom => "limits.memory",
            Verdict::Cpu => "limits.cpu-time",
            Verdict::Disk => "limits.disk",
            Verdict::Pids => "limits.pids",
            Verdict::Refused
            | Verdict::Image
            | Verdict::Setup
            | Verdict::Seccomp
            | Verdict::Signal
            | Verdict::Exit => return None,
        })
    }
}

impl fmt::Display for Verdict {
    /// The contract's word, as the receipt has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A limit that was touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Hit {
    /// The manifest's key: `limits.memory`.
    pub(crate) key: &'static str,
    /// The limit.
    pub(crate) value: String,
    /// What was observed: a peak, a count.
    pub(crate) observed: String,
    /// Where the limit was written: `FILE:LINE:COLUMN`, or the built-in profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
}

/// How a job's main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Reads a raw status of wait(2). Without one PID 1 was killed before it could send it, and the job with it.
pub(crate) fn end(status: Option<i32>) -> End {
    let status = status.unwrap_or(nix::libc::SIGKILL);
    match status & 0x7f {
        0 => End::Code((status >> 8) & 0xff),
        signal => End::Signal(signal),
    }
}

/// The verdict, and every limit that was touched.
pub(crate) fn judge(plan: &Plan, exit: &Exit) -> (Verdict, Vec<Hit>) {
    let hits = hits(plan, exit);
    let touched = |key: &str| hits.iter().any(|hit| hit.key == key);
    let ended = end(exit.status);
    let failed = ended != End::Code(0);
    let verdict = match (exit.ended, ended) {
        (Ended::Wall, _) => Verdict::Wall,
        (Ended::Output, _) => Verdict::Output,
        (Ended::Itself, End::Signal(nix::libc::SIGKILL)) if touched("limits.memory") => Verdict::Oom,
        (Ended::Cpu, _) => Verdict::Cpu,
        (_, End::Signal(nix::libc::SIGSYS)) => Verdict::Seccomp,
        _ if failed && touched("limits.disk") => Verdict::Disk,
        _ if failed && touched("limits.pids") => Verdict::Pids,
        (_, End::Signal(_)) => Verdict::Signal,
        (_, End::Code(_)) => Verdict::Exit,
    };
    (verdict, hits)
}

fn hits(plan: &Plan, exit: &Exit) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut hit = |key, value: String, observed: String| {
        hits.push(Hit {
            key,
            value,
            observed,
            at: None,
        })
    };
    let none = Cgroup::default();
    let cgroup = plan.cgroup().unwrap_or(&none);
    let counters = &exit.counters;
    if let (Some(memory), Some(kills @ 1..)) = (cgroup.memory, counters.oom_kills) {
        let peak = counters
            .memory_peak
            .map_or_else(|| "unknown".to_owned(), |peak| format!("{peak}B"));
        hit(
            "limits.memory",
            memory.to_string(),
            format!("peak {peak}, {kills} killed"),
        );
    }
    if let (Some(pids), Some(refused @ 1..)) = (cgroup.pids, counters.pids_refused) {
        hit(
            "limits.pids",
            pids.to_string(),
            format!("{refused} forks refused"),
        );
    }
    let ran = format!("{}ms", exit.wall.as_millis());
    if let (Some(wall), Ended::Wall) = (plan.watch.wall_ms, exit.ended) {
        hit("limits.wall", wall.to_string(), ran);
    }
    if let (Some(time), Ended::Cpu) = (plan.watch.cpu_time_ms, exit.ended) {
        let used =
            counters.cpu_user_us.unwrap_or(exit.cpu_us.0) + counters.cpu_system_us.unwrap_or(exit.cpu_us.1);
        hit("limits.cpu-time", time.to_string(), format!("{}ms", used / 1000));
    }
    if let (Some(limit), Some([out, err])) = (plan.watch.output, exit.output) {
        for (carried, name) in [(out, "stdout"), (err, "stderr")] {
            if exit.ended == Ended::Output && carried >= limit.0 {
                hit(
                    "limits.output",
                    limit.to_string(),
                    format!("{carried}B on {name}"),
                );
            }
        }
    }
    if exit.layer_full {
        hit(
            "limits.disk",
            layer_size(plan),
            "no space left in a writable layer".to_owned(),
        );
    }
    hits
}

/// The bound of the writable layers, as the plan has it.
fn layer_size(plan: &Plan) -> String {
    let of_step = |step: &InitStep| match step {
        InitStep::Root(RootMount::Overlay(Upper::Tmpfs(size)) | RootMount::WritableTmpfs { size }) => *size,
        InitStep::Mount {
            what: Mounted::Copy { size, .. },
            ..
        } => *size,
        _ => None,
    };
    let of_host = |step: &HostStep| match step {
        HostStep::LayerFile { size } => Some(*size),
        _ => None,
    };
    let size = plan
        .init
        .iter()
        .find_map(of_step)
        .or_else(|| plan.before_clone.iter().find_map(of_host));
    size.map_or_else(|| "half of the memory".to_owned(), |size| size.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_status_is_a_code_or_a_signal() {
        assert_eq!(end(Some(0)), End::Code(0));
        assert_eq!(end(Some(125 << 8)), End::Code(125));
        assert_eq!(end(Some(9)), End::Signal(9));
        assert_eq!(end(Some(0x80 | 11)), End::Signal(11));
        assert_eq!(end(None), End::Signal(9));
    }
}
