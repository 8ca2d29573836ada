//! A policy as the OCI runtime specification writes it, for other engines.
//!
//! libseccomp compares whole 64-bit arguments, while the kernel looks at the lower half of these: a rule that lets
//! "not this value" pass would let the value pass with a bit of the upper half set. So every comparison is masked to
//! 32 bits, and what is allowed beside a forbidden value is spelled out bit by bit.

use std::collections::BTreeSet;

use nix::libc;
use serde_json::{Value, json};

use super::arguments::{CLONE_NAMESPACES, FAMILIES, IOCTLS, PERSONALITIES, PRCTLS};
use super::{Arch, Policy, arguments};

/// All that the kernel looks at of an `int`.
const INT: u64 = 0xffff_ffff;

/// One value of an argument: this much of it, masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Masked {
    argument: u8,
    mask: u64,
    value: u64,
}

/// The `linux.seccomp` object of a policy, for every architecture: engines skip names that theirs does not have.
pub fn oci(policy: &Policy) -> Value {
    let (mut allowed, mut forbidden) = (BTreeSet::new(), BTreeSet::new());
    for arch in Arch::ALL {
        let (allow, forbid) = policy.names(arch);
        allowed.extend(allow);
        forbidden.extend(forbid);
    }
    let mut rules = Vec::new();
    let restricted = |name: &&str| arguments::RESTRICTED.contains(name);
    let free: Vec<&str> = allowed.iter().copied().filter(|name| !restricted(name)).collect();
    rules.push(json!({ "names": free, "action": "SCMP_ACT_ALLOW" }));
    for name in allowed.iter().filter(|name| restricted(name)) {
        let arguments = |rule: Vec<Masked>| rule.into_iter().map(Masked::json).collect::<Vec<_>>();
        for rule in allowed_arguments(name) {
            rules.push(json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": arguments(rule) }));
        }
        let (errno, refused) = refused_arguments(name);
        for rule in refused {
            rules.push(json!({
                "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": arguments(rule),
            }));
        }
    }
    rules.push(json!({
        "names": forbidden, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM,
    }));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::ENOSYS,
        "syscalls": rules,
    })
}

/// With which arguments a restricted call is allowed: each list holds conditions that must all be met.
fn allowed_arguments(name: &str) -> Vec<Vec<Masked>> {
    match name {
        "clone" => vec![vec![Masked {
            argument: 0,
            mask: u64::from(CLONE_NAMESPACES.iter().fold(0, |all, flag| all | flag)),
            value: 0,
        }]],
        "ioctl" => none_of(1, &IOCTLS),
        "prctl" => none_of(0, &PRCTLS),
        "personality" => any_of(0, &PERSONALITIES),
        "socket" | "socketpair" => {
            let (local, netlink) = families();
            let mut rules = any_of(0, &local);
            rules.push(vec![netlink, whole(2, libc::NETLINK_ROUTE as u32)]);
            rules
        }
        _ => Vec::new(),
    }
}

/// With which arguments it is refused, and the answer; no list of these meets one of the others.
fn refused_arguments(name: &str) -> (i32, Vec<Vec<Masked>>) {
    let flag = |flag: &u32| Masked {
        argument: 0,
        mask: u64::from(*flag),
        value: u64::from(*flag),
    };
    let rules = match name {
        "clone" => CLONE_NAMESPACES.iter().map(|one| vec![flag(one)]).collect(),
        "ioctl" => any_of(1, &IOCTLS),
        "prctl" => any_of(0, &PRCTLS),
        "personality" => none_of(0, &PERSONALITIES),
        "socket" | "socketpair" => {
            let (_, netlink) = families();
            let mut rules = none_of(0, &FAMILIES);
            let others = none_of(2, &[libc::NETLINK_ROUTE as u32]).into_iter();
            rules.extend(others.map(|other| [vec![netlink], other].concat()));
            return (libc::EAFNOSUPPORT, rules);
        }
        _ => Vec::new(),
    };
    (libc::EPERM, rules)
}

/// The families that are allowed whatever else is asked for, and netlink.
fn families() -> (Vec<u32>, Masked) {
    let netlink = libc::AF_NETLINK as u32;
    let local = FAMILIES.iter().copied().filter(|family| *family != netlink);
    (local.collect(), whole(0, netlink))
}

fn whole(argument: u8, value: u32) -> Masked {
    Masked {
        argument,
        mask: INT,
        value: u64::from(value),
    }
}

fn any_of(argument: u8, values: &[u32]) -> Vec<Vec<Masked>> {
    values.iter().map(|value| vec![whole(argument, *value)]).collect()
}

fn none_of(argument: u8, values: &[u32]) -> Vec<Vec<Masked>> {
    let patterns = complement(values).into_iter();
    let masked = |(mask, value)| Masked {
        argument,
        mask,
        value,
    };
    patterns.map(|pattern| vec![masked(pattern)]).collect()
}

/// Masks and values that together match every number but these.
///
/// A number is another one when it leaves the tree of their bits somewhere: agrees with one of them down to a bit, and
/// differs there from all that agree so far.
fn complement(values: &[u32]) -> Vec<(u64, u64)> {
    let mut patterns = Vec::new();
    let mut prefixes = BTreeSet::from([0]);
    for bit in (0..32).rev() {
        let mask = u64::from(u32::MAX << bit);
        let next: BTreeSet<u64> = values.iter().map(|value| u64::from(*value) & mask).collect();
        for prefix in prefixes {
            let sides = [prefix, prefix | 1 << bit];
            patterns.extend(
                sides
                    .into_iter()
                    .filter(|side| !next.contains(side))
                    .map(|side| (mask, side)),
            );
        }
        prefixes = next;
    }
    patterns
}

impl Masked {
    fn json(self) -> Value {
        json!({
            "index": self.argument, "op": "SCMP_CMP_MASKED_EQ", "value": self.mask, "valueTwo": self.value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::{Call, Outcome, run};
    use super::super::{compile, table};
    use super::*;

    fn matches(rule: &[Masked], args: &[u64]) -> bool {
        rule.iter()
            .all(|masked| args[usize::from(masked.argument)] & masked.mask == masked.value)
    }

    #[test]
    fn everything_but_a_few_values_is_matched() {
        let values = [5, 7, 1 << 31];
        let patterns = complement(&values);
        for number in (0..4096).chain([1 << 31, (1 << 31) + 1, u32::MAX]) {
            let matched = patterns
                .iter()
                .any(|(mask, value)| u64::from(number) & mask == *value);
            assert_eq!(matched, !values.contains(&number), "{number:#x}");
        }
    }

    /// The rules answer as our own filters do, whatever stands in the upper half.
    #[test]
    fn both_filters_give_the_same_answers() {
        let policy = Policy::default();
        let programs = compile(&policy, Arch::X86_64).unwrap();
        let mut interesting: Vec<u32> = (0..64).collect();
        interesting.extend([
            libc::TIOCSTI as u32,
            libc::TIOCLINUX as u32,
            0x5401,
            0x5413,
            0x2_0008,
            u32::MAX,
        ]);
        interesting.extend((0..32).map(|bit| 1 << bit));
        for name in arguments::RESTRICTED {
            let number = table::number(name, Arch::X86_64).unwrap();
            let (allowed, (errno, refused)) = (allowed_arguments(name), refused_arguments(name));
            for first in &interesting {
                for second in [0, 1, 0x5412, 0x541c, 0x5413] {
                    for high in [0, 0xdead_beef_0000_0000] {
                        let args = [u64::from(*first) | high, second | high, second | high, 0, 0, 0];
                        let ours = run(&programs, &Call::new(Arch::X86_64.audit(), number, &args));
                        let any = |rules: &[Vec<Masked>]| rules.iter().any(|rule| matches(rule, &args));
                        let theirs = match (any(&allowed), any(&refused)) {
                            (true, false) => Outcome::Allow,
                            (false, true) => Outcome::Errno(nix::errno::Errno::from_raw(errno)),
                            both => panic!("{name} {args:x?}: {both:?}"),
                        };
                        assert_eq!(theirs, ours, "{name} {args:x?}");
                    }
                }
            }
        }
    }
}
