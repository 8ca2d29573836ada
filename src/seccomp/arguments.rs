//! Calls that are allowed with some arguments only; lowered by seccompiler.
//!
//! Every condition compares 32 bits: each of these parameters is an `int` or `unsigned int` to the kernel,
//! which drops the upper half, and a 64-bit comparison lets `socket(1 << 32 | AF_VSOCK)` pass.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::SeccompCmpOp::{self, Eq, MaskedEq, Ne};
use seccompiler::{
    BackendError, SeccompAction, SeccompCmpArgLen, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    sock_filter,
};

use super::tree::Verdict;
use super::{Arch, table};

// Missing in libc: linux/personality.h and linux/prctl.h.
const PER_LINUX32: u32 = 0x0008;
const UNAME26: u32 = 0x2_0000;
const PR_SET_IO_FLUSHER: u32 = 57;

/// Refused: pushing input into a terminal. `_IO`-less numbers of asm-generic/ioctls.h, the same on both architectures.
/// TIOCSTI types into the terminal, TIOCLINUX pastes into a console (ioctl_tty(2), ioctl_console(2)).
pub(super) const IOCTLS: [u32; 2] = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

/// Refused: making namespaces. clone(2) takes the flags as a long and the kernel keeps the lower half (`lower_32_bits` in
/// kernel/fork.c). CLONE_NEWTIME shares its bit with the exit signal there and is clone3's alone.
pub(super) const CLONE_NAMESPACES: [u32; 7] = [
    libc::CLONE_NEWNS as u32,
    libc::CLONE_NEWCGROUP as u32,
    libc::CLONE_NEWUTS as u32,
    libc::CLONE_NEWIPC as u32,
    libc::CLONE_NEWUSER as u32,
    libc::CLONE_NEWPID as u32,
    libc::CLONE_NEWNET as u32,
];

/// Allowed: plain Linux, 32-bit `uname -m`, a 2.6 release name, both, and asking: as Docker allows. Others switch off
/// address randomisation or make `read` imply `exec` (personality(2)).
pub(super) const PERSONALITIES: [u32; 5] = [0, PER_LINUX32, UNAME26, PER_LINUX32 | UNAME26, 0xffff_ffff];

/// Refused: lies in /proc about where arguments and memory are; policy of memory errors; privileges of file system
/// daemons; sharing a core with another process (prctl(2)).
pub(super) const PRCTLS: [u32; 4] = [
    libc::PR_SET_MM as u32,
    libc::PR_MCE_KILL as u32,
    PR_SET_IO_FLUSHER,
    libc::PR_SCHED_CORE as u32,
];

/// Allowed: local, internet and netlink, and of netlink NETLINK_ROUTE alone.
pub(super) const FAMILIES: [u32; 4] = [
    libc::AF_UNIX as u32,
    libc::AF_INET as u32,
    libc::AF_INET6 as u32,
    libc::AF_NETLINK as u32,
];

/// A rule matches when all its conditions do: index of the argument, comparison, value.
type Rule = Vec<(u8, SeccompCmpOp, u32)>;

/// Refuses with EPERM: pushing input into a terminal, making namespaces, odd personalities, a few `prctl`
/// setters.
pub(super) fn forbidden(
    arch: Arch,
    verdicts: &BTreeMap<u32, Verdict>,
) -> Result<Vec<sock_filter>, BackendError> {
    let clone = CLONE_NAMESPACES.map(|flag| vec![(0, MaskedEq(u64::from(flag)), flag)]);
    lower(
        arch,
        verdicts,
        libc::EPERM,
        [
            ("clone", clone.into()),
            ("ioctl", any_of(1, &IOCTLS)),
            ("personality", none_of(0, &PERSONALITIES)),
            ("prctl", any_of(0, &PRCTLS)),
        ],
    )
}

/// Refuses with EAFNOSUPPORT every kind of socket but local, internet and routing netlink.
///
/// Others reach around the network namespace (AF_VSOCK talks to the hypervisor) or into much kernel code
/// (AF_ALG, AF_PACKET). The C library asks NETLINK_ROUTE for its addresses; a program that finds no audit
/// netlink goes on without.
pub(super) fn address_families(
    arch: Arch,
    verdicts: &BTreeMap<u32, Verdict>,
) -> Result<Vec<sock_filter>, BackendError> {
    let mut rules = none_of(0, &FAMILIES);
    rules.push(vec![
        (0, Eq, libc::AF_NETLINK as u32),
        (2, Ne, libc::NETLINK_ROUTE as u32),
    ]);
    lower(
        arch,
        verdicts,
        libc::EAFNOSUPPORT,
        [("socket", rules.clone()), ("socketpair", rules)],
    )
}

/// The system calls that these rules look at; whoever allows them does not lift the rules.
pub(super) const RESTRICTED: &[&str] = &["clone", "ioctl", "personality", "prctl", "socket", "socketpair"];

/// Matches when the argument is one of `values`.
fn any_of(argument: u8, values: &[u32]) -> Vec<Rule> {
    values.iter().map(|value| vec![(argument, Eq, *value)]).collect()
}

/// Matches when the argument is none of `values`.
fn none_of(argument: u8, values: &[u32]) -> Vec<Rule> {
    vec![values.iter().map(|value| (argument, Ne, *value)).collect()]
}

/// A program that fails with `errno` what a rule matches and allows the rest. No rule for a call that is
/// refused anyway.
fn lower<const N: usize>(
    arch: Arch,
    verdicts: &BTreeMap<u32, Verdict>,
    errno: i32,
    rules: [(&str, Vec<Rule>); N],
) -> Result<Vec<sock_filter>, BackendError> {
    let mut by_number = BTreeMap::new();
    for (name, rules) in rules {
        let number = table::number(name, arch);
        if let Some(number) = number.filter(|number| verdicts.get(number) == Some(&Verdict::Allow)) {
            let rules: Result<Vec<SeccompRule>, BackendError> = rules.into_iter().map(rule).collect();
            by_number.insert(i64::from(number), rules?);
        }
    }
    let target = match arch {
        Arch::X86_64 => TargetArch::x86_64,
        Arch::Aarch64 => TargetArch::aarch64,
    };
    SeccompFilter::new(
        by_number,
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        target,
    )?
    .try_into()
}

fn rule(conditions: Rule) -> Result<SeccompRule, BackendError> {
    let conditions: Result<Vec<SeccompCondition>, BackendError> = conditions
        .into_iter()
        .map(|(argument, operator, value)| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, u64::from(value))
        })
        .collect();
    SeccompRule::new(conditions?)
}

#[cfg(test)]
mod tests {
    use super::super::Policy;
    use super::super::default::ALLOWED;
    use super::super::program::LOAD;
    use super::*;

    /// No program of ours loads the upper half of an argument (offset 20, 28, … in `struct seccomp_data`).
    #[test]
    fn conditions_are_32_bits_wide() {
        for arch in Arch::ALL {
            let verdicts = Policy::default().verdicts(arch);
            for program in [
                forbidden(arch, &verdicts).unwrap(),
                address_families(arch, &verdicts).unwrap(),
            ] {
                for instruction in program.iter().filter(|instruction| instruction.code == LOAD) {
                    assert!(instruction.k <= 4 || instruction.k % 8 == 0, "{instruction:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_restricted_is_allowed_otherwise() {
        for name in RESTRICTED {
            assert!(ALLOWED.contains(name), "{name}");
            assert!(
                Arch::ALL.iter().all(|arch| table::number(name, *arch).is_some()),
                "{name}"
            );
        }
    }
}
