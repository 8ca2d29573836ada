//! What the kernel says about this process, in one read of `/proc/self/status` (see proc_pid_status(5)).

use crate::host::facts::Caller;

/// `CAP_SETGID`, `CAP_SETUID` and `CAP_SYS_ADMIN` as bits (see capabilities(7)).
const OF_ROOT: u64 = 1 << 6 | 1 << 7 | 1 << 21;

/// What the kernel says about this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    /// Effective user id.
    pub(super) uid: u32,
    /// Effective group id.
    pub(super) gid: u32,
    /// Effective capabilities.
    pub(super) capabilities: u64,
    /// Whether setuid programs gain nothing under it (PR_SET_NO_NEW_PRIVS, see prctl(2)).
    pub(super) no_new_privileges: bool,
    /// Whether it runs under a seccomp filter.
    pub(super) filtered: bool,
    /// Processors it may run on.
    pub(super) cpus: u32,
}

impl Process {
    /// This process.
    pub(super) fn of_this() -> Process {
        Process {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            ..Process::parse(&super::text("/proc/self/status"))
        }
    }

    fn parse(status: &str) -> Process {
        let mut process = Process {
            cpus: 1,
            ..Process::default()
        };
        for (key, value) in status.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match key {
                "CapEff" => process.capabilities = u64::from_str_radix(value, 16).unwrap_or(0),
                "NoNewPrivs" => process.no_new_privileges = value != "0",
                "Seccomp" => process.filtered = value != "0",
                "Cpus_allowed_list" => process.cpus = count(value).max(1),
                _ => {}
            }
        }
        process
    }

    /// Who this is to a plan.
    pub(super) fn caller(&self) -> Caller {
        if self.uid == 0 && self.capabilities & OF_ROOT == OF_ROOT {
            Caller::Root
        } else {
            Caller::User
        }
    }
}

/// How many numbers a list such as `0-3,8` holds (see cpuset(7), "List format").
fn count(list: &str) -> u32 {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)?.saturating_add(1))
    };
    list.split(',').filter_map(range).fold(0, u32::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_status() {
        let status = "Name:\tx: y\nCapEff:\t00000000002000c0\nNoNewPrivs:\t1\nSeccomp:\t2\nCpus_allowed_list:\t0-2,5\n";
        let process = Process::parse(status);
        assert_eq!(process.capabilities, OF_ROOT);
        assert!(process.no_new_privileges && process.filtered);
        assert_eq!(process.cpus, 4);
        assert_eq!(process.caller(), Caller::Root);
        assert_eq!(Process::parse("").cpus, 1);
    }

    #[test]
    fn user_0_without_its_capabilities_is_not_root() {
        assert_eq!(
            Process::parse("CapEff:\t00000000000000c0\n").caller(),
            Caller::User
        );
    }

    #[test]
    fn counts_lists() {
        assert_eq!(
            [count("0"), count("0-7"), count("0-1,4-5,9"), count("")],
            [1, 8, 5, 0]
        );
        assert_eq!(count("5-1,x,0-4294967295"), u32::MAX);
    }
}
