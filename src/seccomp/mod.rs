//! From a policy's names to checked filter programs; pure, nothing here asks the host or installs.
//!
//! ```text
//!                          arguments --seccompiler--> Programs 1 and 2
//! Policy --check--> names --table--> numbers --tree--------> Program 3
//! ```
//!
//! seccompiler has one error number to a filter, so there are three, installed one after the other: arguments
//! (EPERM), address families (EAFNOSUPPORT), numbers (unknown is ENOSYS, forbidden EPERM). The kernel asks all of
//! them and the gravest answer holds; no call has rules in two, so the order decides no answer. The numbers come
//! last all the same: a policy may deny prctl(2) and seccomp(2), by which the filters are installed.

mod arguments;
mod default;
#[cfg(test)]
mod interpreter;
mod oci;
mod policy;
mod program;
mod table;
mod tree;

use serde::{Deserialize, Serialize};

pub use self::oci::oci;
pub use self::policy::{Base, Policy, PolicyError};
pub use self::program::{Program, ProgramError};

/// A processor architecture, by the name that uname(1) prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Arch {
    X86_64,
    Aarch64,
}

/// The filters that hold a policy, in the order in which they are to be installed.
///
/// # Errors
/// The first problem of [`Policy::problems`], or a program that the kernel would not take.
pub fn compile(policy: &Policy, arch: Arch) -> Result<Vec<Program>, PolicyError> {
    if let Some(problem) = policy.problems().into_iter().next() {
        return Err(problem);
    }
    let verdicts = policy.verdicts(arch);
    let programs = [
        arguments::forbidden(arch, &verdicts)?,
        arguments::address_families(arch, &verdicts)?,
        tree::lower(arch, &verdicts),
    ];
    programs
        .into_iter()
        .map(|program| Ok(Program::new(program)?))
        .collect()
}

/// The names of all system calls that any architecture has, sorted.
pub fn system_calls() -> impl Iterator<Item = &'static str> {
    table::names()
}

/// What a plan says of a policy: `default, deny fork: 304 calls allowed, 58 forbidden`.
pub fn describe(policy: &Policy, arch: Arch) -> String {
    let (allowed, forbidden) = policy.names(arch);
    format!(
        "{policy}: {} calls allowed, {} forbidden",
        allowed.len(),
        forbidden.len()
    )
}

impl Arch {
    /// Every architecture that filters can be made for.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    /// The name, as uname(1) prints it.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// The kernel's number for native 64-bit system calls (`AUDIT_ARCH_*` of linux/audit.h: the ELF machine,
    /// marked 64-bit and little-endian).
    fn audit(self) -> u32 {
        let machine = match self {
            Arch::X86_64 => nix::libc::EM_X86_64,
            Arch::Aarch64 => nix::libc::EM_AARCH64,
        };
        0xC000_0000 | u32::from(machine)
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::interpreter::{Call, Outcome, run, stacked};
    use super::*;

    const HIGH: u64 = 0xdead_beef_0000_0000;

    /// What the default policy answers to a call by name.
    fn default_answer(arch: Arch, name: &str, args: &[u64]) -> Outcome {
        answer_of(&Policy::default(), arch, name, args)
    }

    fn answer_of(policy: &Policy, arch: Arch, name: &str, args: &[u64]) -> Outcome {
        let number = table::number(name, arch).expect("a system call of this architecture");
        run(
            &compile(policy, arch).unwrap(),
            &Call::new(arch.audit(), number, args),
        )
    }

    /// The verdict must not depend on the upper half: the kernel reads an `int` (security rule X3).
    fn assert_answer(name: &str, args: &[u64], expected: Outcome) {
        for arch in Arch::ALL {
            assert_eq!(
                default_answer(arch, name, args),
                expected,
                "{arch:?} {name} {args:x?}"
            );
            let high: Vec<u64> = args.iter().map(|arg| arg | HIGH).collect();
            assert_eq!(
                default_answer(arch, name, &high),
                expected,
                "{arch:?} {name} {high:x?}"
            );
        }
    }

    #[test]
    fn names_are_those_of_uname() {
        for arch in Arch::ALL {
            assert_eq!(serde_json::to_value(arch).unwrap(), arch.name());
        }
        assert_eq!(Arch::X86_64.audit(), 0xC000_003E);
        assert_eq!(Arch::Aarch64.audit(), 0xC000_00B7);
    }

    #[test]
    fn allowed_missing_and_forbidden_are_told_apart() {
        assert_answer("read", &[], Outcome::Allow);
        assert_answer("ptrace", &[], Outcome::Allow);
        for name in ["clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"] {
            assert_answer(name, &[], Outcome::Errno(Errno::ENOSYS));
        }
        for name in [
            "unshare",
            "setns",
            "mount",
            "open_tree_attr",
            "keyctl",
            "bpf",
            "kexec_load",
            "pidfd_getfd",
        ] {
            assert_answer(name, &[], Outcome::Errno(Errno::EPERM));
        }
    }

    #[test]
    fn sockets_are_local_internet_or_routing() {
        for name in ["socket", "socketpair"] {
            for family in 0..64 {
                let expected = match family {
                    1 | 2 | 10 | 16 => Outcome::Allow,
                    _ => Outcome::Errno(Errno::EAFNOSUPPORT),
                };
                assert_answer(name, &[family, 1, 0], expected);
            }
            for protocol in 1..32 {
                assert_answer(name, &[16, 3, protocol], Outcome::Errno(Errno::EAFNOSUPPORT));
                assert_answer(name, &[2, 3, protocol], Outcome::Allow);
            }
        }
    }

    #[test]
    fn a_terminal_cannot_be_typed_into() {
        for request in [0x5412, 0x541c] {
            assert_answer("ioctl", &[0, request], Outcome::Errno(Errno::EPERM));
        }
        assert_answer("ioctl", &[0, 0x5401], Outcome::Allow);
        assert_answer("ioctl", &[0x5412, 0x5413], Outcome::Allow);
    }

    #[test]
    fn clone_makes_threads_and_processes_but_no_namespaces() {
        const THREAD: u64 = 0x3d_0f00;
        for flags in [THREAD, 17, 0x4000 | 0x100 | 17] {
            assert_answer("clone", &[flags], Outcome::Allow);
            for namespace in [
                0x2_0000,
                0x200_0000,
                0x400_0000,
                0x800_0000,
                0x1000_0000,
                0x2000_0000,
                0x4000_0000,
            ] {
                assert_answer("clone", &[flags | namespace], Outcome::Errno(Errno::EPERM));
            }
            assert_answer("clone", &[flags | 0x7e02_0000], Outcome::Errno(Errno::EPERM));
        }
    }

    #[test]
    fn personality_takes_the_harmless_values() {
        for persona in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
            assert_answer("personality", &[persona], Outcome::Allow);
        }
        for persona in [1, 0x4_0000, 0x40_0000, 0xffff_fffe] {
            assert_answer("personality", &[persona], Outcome::Errno(Errno::EPERM));
        }
    }

    #[test]
    fn prctl_is_open_but_for_a_few() {
        for option in [33, 35, 57, 62] {
            assert_answer("prctl", &[option], Outcome::Errno(Errno::EPERM));
        }
        for option in [1, 4, 15, 22, 36, 38, 39, 0x5961_6d61] {
            assert_answer("prctl", &[option], Outcome::Allow);
        }
    }

    #[test]
    fn a_refused_number_has_one_error_whatever_its_arguments() {
        let policy = Policy {
            deny: ["socket".to_owned()].into(),
            ..Policy::default()
        };
        for family in [1, 40] {
            let outcome = answer_of(&policy, Arch::X86_64, "socket", &[family]);
            assert_eq!(outcome, Outcome::Errno(Errno::EPERM));
        }
    }

    #[test]
    fn every_filter_lets_the_next_be_installed() {
        let policy = Policy {
            deny: ["prctl".to_owned(), "seccomp".to_owned()].into(),
            ..Policy::default()
        };
        for arch in Arch::ALL {
            let programs = compile(&policy, arch).unwrap();
            let (_, before) = programs.split_last().unwrap();
            // PR_SET_NO_NEW_PRIVS and SECCOMP_SET_MODE_FILTER, as `seccompiler::apply_filter` calls them.
            for (name, args) in [("prctl", [38, 1]), ("seccomp", [1, 0])] {
                let call = Call::new(arch.audit(), table::number(name, arch).unwrap(), &args);
                assert_eq!(run(before, &call), Outcome::Allow);
                assert_eq!(run(&programs, &call), Outcome::Errno(Errno::EPERM));
            }
        }
    }

    #[test]
    fn every_number_has_the_verdict_of_the_lists() {
        for (policy, arch) in policies_and_architectures() {
            let programs = compile(&policy, arch).unwrap();
            let verdicts = policy.verdicts(arch);
            let restricted: Vec<_> = arguments::RESTRICTED
                .iter()
                .filter_map(|name| table::number(name, arch))
                .collect();
            for number in numbers().filter(|number| !restricted.contains(number)) {
                let expected = match verdicts.get(&number) {
                    None => Outcome::Errno(Errno::ENOSYS),
                    Some(tree::Verdict::Allow) => Outcome::Allow,
                    Some(tree::Verdict::Forbid) => Outcome::Errno(Errno::EPERM),
                };
                let outcome = run(&programs, &Call::new(arch.audit(), number, &[]));
                assert_eq!(outcome, expected, "{arch:?} {number}");
            }
        }
    }

    /// No call has rules in two filters, so every order of installing gives the same answers.
    #[test]
    fn the_order_of_installing_decides_nothing() {
        for (policy, arch) in policies_and_architectures() {
            let programs = compile(&policy, arch).unwrap();
            let mut reversed = programs.clone();
            reversed.reverse();
            for number in numbers() {
                for args in [
                    [0, 0, 0],
                    [1, 0x5412, 0],
                    [16, 0, 9],
                    [40, 0, 0],
                    [!0, !0, !0],
                    [0x1000_0011, 0, 0],
                ] {
                    let call = Call::new(arch.audit(), number, &args);
                    assert_eq!(
                        run(&programs, &call),
                        run(&reversed, &call),
                        "{arch:?} {number} {args:x?}"
                    );
                }
            }
        }
    }

    /// As seen on Linux 6.18: the gravest answer; of two error numbers the later filter's.
    #[test]
    fn stacking_is_the_kernels() {
        let [eperm, enosys, allow, kill] = [0x5_0001, 0x5_0026, 0x7fff_0000, 0x8000_0000_u32];
        let filter = |answer| vec![program::statement(program::RETURN, answer)];
        for (installed, expected) in [
            ([eperm, enosys], enosys),
            ([enosys, eperm], eperm),
            ([eperm, allow], eperm),
            ([kill, eperm], kill),
            ([allow, allow], allow),
        ] {
            let filters = installed.map(filter);
            let answer = stacked(filters.iter().map(Vec::as_slice), &Call::new(0, 0, &[]));
            assert_eq!(answer, expected);
        }
    }

    /// i386 (`int 0x80`), arm, x86_64 on aarch64 and so on: numbers mean something else there.
    #[test]
    fn a_foreign_architecture_is_killed() {
        for arch in Arch::ALL {
            let programs = compile(&Policy::default(), arch).unwrap();
            let other = if arch == Arch::X86_64 {
                Arch::Aarch64
            } else {
                Arch::X86_64
            };
            for foreign in [0x4000_0003, 0x4000_0028, 0xC000_00F3, 0, !0, other.audit()] {
                for number in 0..=1023 {
                    let outcome = run(&programs, &Call::new(foreign, number, &[]));
                    assert_eq!(outcome, Outcome::KillProcess);
                }
            }
        }
    }

    fn policies_and_architectures() -> impl Iterator<Item = (Policy, Arch)> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let policies = [
            Policy::default(),
            Policy {
                base: Base::NoPtrace,
                ..Policy::default()
            },
            Policy {
                allow: names(&["keyctl", "io_uring_setup"]),
                deny: names(&["fork", "open"]),
                ..Policy::default()
            },
        ];
        policies
            .into_iter()
            .flat_map(|policy| Arch::ALL.map(|arch| (policy.clone(), arch)))
    }

    /// All that a table could ever hold, the same marked as x32's, and others.
    fn numbers() -> impl Iterator<Item = u32> {
        (0..=1023)
            .chain(0x4000_0000..=0x4000_03ff)
            .chain([u32::MAX, 1 << 31])
            .chain(random())
    }

    /// Xorshift: enough to hit every branch's far side, the same in every run.
    fn random() -> impl Iterator<Item = u32> {
        std::iter::successors(Some(0x9e37_79b9_u32), |x| {
            let x = x ^ (x << 13);
            let x = x ^ (x >> 17);
            Some(x ^ (x << 5))
        })
        .take(10_000)
    }

    /// A review of what jobs may call is a review of this file's difference.
    #[test]
    fn the_allowed_list() {
        for arch in Arch::ALL {
            let policy = Policy::default();
            let (allowed, forbidden) = policy.names(arch);
            let text = format!(
                "allowed\n  {}\n\nEPERM\n  {}\n",
                allowed.join("\n  "),
                forbidden.join("\n  ")
            );
            insta::assert_snapshot!(arch.name(), text);
        }
    }

    #[test]
    fn says_what_it_comes_to() {
        let policy = Policy {
            deny: ["fork".to_owned()].into(),
            ..Policy::default()
        };
        let said = Arch::ALL.map(|arch| describe(&policy, arch));
        assert_eq!(
            said,
            [
                "default, deny fork: 304 calls allowed, 58 forbidden",
                "default, deny fork: 267 calls allowed, 51 forbidden"
            ]
        );
    }

    /// In a thread of its own: a filter is its thread's for good.
    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn the_kernel_takes_the_program_and_answers_so() {
        use nix::sched::{CloneFlags, unshare};
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

        let arch = if cfg!(target_arch = "x86_64") {
            Arch::X86_64
        } else {
            Arch::Aarch64
        };
        let programs = compile(&Policy::default(), arch).unwrap();
        let answers = std::thread::spawn(move || {
            for program in &programs {
                seccompiler::apply_filter(program.instructions()).unwrap();
            }
            let open = |family| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map(drop);
            (
                open(AddressFamily::Unix),
                open(AddressFamily::Vsock),
                unshare(CloneFlags::CLONE_NEWUTS),
            )
        })
        .join()
        .unwrap();
        assert_eq!(answers, (Ok(()), Err(Errno::EAFNOSUPPORT), Err(Errno::EPERM)));
    }
}
