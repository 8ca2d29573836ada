//! On which processor a child starts.

use nix::sched::{sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// Moves `child`, which has hardly begun, to another processor than the caller's, where it does not wait until the caller does.
///
/// The kernel chooses an idle one by itself, but passes over a virtual processor that has slept for a while (tried with Linux
/// 6.18 on KVM: 196 children of 200 began elsewhere while it was awake, 20 after 2 ms of sleep). On a machine of two, such as
/// a runner of CI, such a child waits half a millisecond for its parent. Afterwards it may run wherever it might before.
///
/// Nothing depends on it, so whatever is in the way (one processor, more of them than nix counts) leaves the child where it is.
pub(crate) fn start_apart(child: Pid) {
    let Ok(allowed) = sched_getaffinity(child) else {
        return;
    };
    let mut others = allowed;
    let moved = sched_getcpu().and_then(|own| others.unset(own));
    if moved.and_then(|()| sched_setaffinity(child, &others)).is_ok() {
        sched_setaffinity(child, &allowed).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sched::CpuSet;

    use super::*;

    /// Where a child may run that was started by a caller who may run on `allowed`.
    fn of_a_child(allowed: &CpuSet) -> CpuSet {
        let own = Pid::from_raw(0);
        sched_setaffinity(own, allowed).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        start_apart(pid);
        let found = sched_getaffinity(pid).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        found
    }

    #[test]
    fn a_child_may_run_wherever_its_parent_may() {
        let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
        assert_eq!(of_a_child(&all), all);
        let mut one = CpuSet::new();
        one.set(sched_getcpu().unwrap()).unwrap();
        assert_eq!(of_a_child(&one), one);
    }
}
