//! The kernel's side, for tests: runs filter programs over invented calls (bpf(4), seccomp(2)).

use nix::errno::Errno;
use nix::libc;
use seccompiler::sock_filter;

use super::program::{AND, JUMP, JUMP_AT_LEAST, JUMP_EQUAL, JUMP_GREATER, JUMP_SET, LOAD, Program, RETURN};

/// What a filter sees of a call: `struct seccomp_data`.
pub(super) struct Call {
    words: [u32; 16],
}

/// What the kernel then does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Allow,
    Errno(Errno),
    KillProcess,
}

impl Call {
    /// A call by number through the entry of an `AUDIT_ARCH_*`; arguments not given are 0.
    pub(super) fn new(arch: u32, number: u32, args: &[u64]) -> Call {
        let mut words = [0; 16];
        words[0] = number;
        words[1] = arch;
        // Words 2 and 3 are the instruction pointer; then six arguments, lower half first (little-endian).
        for (index, arg) in args.iter().enumerate() {
            words[4 + 2 * index] = *arg as u32;
            words[5 + 2 * index] = (*arg >> 32) as u32;
        }
        Call { words }
    }
}

/// What the kernel does with a call under these filters.
pub(super) fn run(programs: &[Program], call: &Call) -> Outcome {
    let answer = stacked(programs.iter().map(Program::instructions), call);
    match answer & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ALLOW => Outcome::Allow,
        libc::SECCOMP_RET_ERRNO => Outcome::Errno(Errno::from_raw((answer & libc::SECCOMP_RET_DATA) as i32)),
        libc::SECCOMP_RET_KILL_PROCESS => Outcome::KillProcess,
        other => panic!("action {other:#x}"),
    }
}

/// What several filters, in the order of their installing, answer together: the kernel asks the newest
/// first, and an older one wins only with a graver action (`seccomp_run_filters`; security rule X10).
pub(super) fn stacked<'a>(programs: impl DoubleEndedIterator<Item = &'a [sock_filter]>, call: &Call) -> u32 {
    let answers = programs.rev().map(|program| answer(program, call));
    // Graver is smaller when the action is read as a signed number; of equals the first stays.
    answers
        .min_by_key(|answer| (answer & libc::SECCOMP_RET_ACTION_FULL) as i32)
        .expect("at least one")
}

/// What a program returns.
pub(super) fn answer(program: &[sock_filter], call: &Call) -> u32 {
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let instruction = &program[at];
        at += 1;
        let k = instruction.k;
        let holds = match instruction.code {
            LOAD => {
                accumulator = call.words[k as usize / 4];
                continue;
            }
            AND => {
                accumulator &= k;
                continue;
            }
            JUMP => {
                at += k as usize;
                continue;
            }
            RETURN => return k,
            JUMP_EQUAL => accumulator == k,
            JUMP_GREATER => accumulator > k,
            JUMP_AT_LEAST => accumulator >= k,
            JUMP_SET => accumulator & k != 0,
            code => panic!("code {code:#x}"),
        };
        at += usize::from(if holds { instruction.jt } else { instruction.jf });
    }
}
