//! Verdicts by number, lowered to a balanced tree of ranges.
//!
//! A linear program of the same numbers has 1,832 instructions, which the kernel checks, walks for every
//! number (its cache of constant answers) and compiles at every start: 850 µs. The tree has about 80, since
//! all its leaves are three shared returns: 30 µs.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::sock_filter;

use super::Arch;
use super::program::{JUMP, JUMP_AT_LEAST, JUMP_EQUAL, LOAD, RETURN, branch, statement};

/// What is said to a number that the table has; to all others, that the kernel lacks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    Allow,
    /// EPERM.
    Forbid,
}

/// What a range can be answered: allowed, forbidden, unknown; the last is also where a program without
/// verdicts begins.
const ANSWERS: [u32; 3] = [
    libc::SECCOMP_RET_ALLOW,
    libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
    libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
];

/// A program that answers by the number alone, ENOSYS where `verdicts` says nothing, and kills what comes by
/// another architecture's entry.
pub(super) fn lower(arch: Arch, verdicts: &BTreeMap<u32, Verdict>) -> Vec<sock_filter> {
    // Jumps go forward only, so the program is written from its end, where the answers stand, to its head.
    let mut reversed: Vec<sock_filter> = ANSWERS.map(|answer| statement(RETURN, answer)).into();
    subtree(&mut reversed, &ranges(verdicts));
    // Offsets in `struct seccomp_data`: nr 0, arch 4 (seccomp(2)).
    reversed.extend([
        statement(LOAD, 0),
        statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        branch(JUMP_EQUAL, arch.audit(), 1, 0),
        statement(LOAD, 4),
    ]);
    reversed.reverse();
    reversed
}

/// Neighbours with one answer: where each range begins, and its place among [`ANSWERS`]. Begins at 0 and
/// has no end, so x32's numbers (bit 30 set) and negative ones fall into the last.
fn ranges(verdicts: &BTreeMap<u32, Verdict>) -> Vec<(u32, usize)> {
    let past_end = verdicts.keys().next_back().map_or(0, |last| last + 1);
    let mut ranges: Vec<(u32, usize)> = Vec::new();
    for number in 0..=past_end {
        let answer = match verdicts.get(&number) {
            Some(Verdict::Allow) => 0,
            Some(Verdict::Forbid) => 1,
            None => 2,
        };
        if ranges.last().is_none_or(|(_, last)| *last != answer) {
            ranges.push((number, answer));
        }
    }
    ranges
}

/// Writes what finds the answer among `ranges`, and returns where it begins, counted from the program's end.
///
/// `if number >= middle { right } else { left }`, down to one range each. The number is in the accumulator.
fn subtree(reversed: &mut Vec<sock_filter>, ranges: &[(u32, usize)]) -> usize {
    if let [(_, answer)] = ranges {
        return *answer;
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let middle = right[0].0;
    let right = subtree(reversed, right);
    let left = subtree(reversed, left);
    // A conditional jump spans at most 255 instructions, an unconditional one any number. Both may need
    // one, hence 254.
    let near = |reversed: &mut Vec<sock_filter>, target: usize| match reversed.len() - target {
        1..=254 => target,
        _ => jump(reversed, target),
    };
    let right = near(reversed, right);
    let left = near(reversed, left);
    let skip = |target: usize| (reversed.len() - target - 1) as u8;
    reversed.push(branch(JUMP_AT_LEAST, middle, skip(right), skip(left)));
    reversed.len() - 1
}

/// Writes a jump to `target` and returns where it stands.
fn jump(reversed: &mut Vec<sock_filter>, target: usize) -> usize {
    reversed.push(statement(JUMP, (reversed.len() - target - 1) as u32));
    reversed.len() - 1
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::super::interpreter::{Call, Outcome, run};
    use super::super::program::Program;
    use super::*;

    #[test]
    fn neighbours_share_a_range_and_equals_an_answer() {
        let verdicts = BTreeMap::from([
            (0, Verdict::Allow),
            (1, Verdict::Allow),
            (2, Verdict::Forbid),
            (5, Verdict::Allow),
        ]);
        assert_eq!(
            lower(Arch::X86_64, &verdicts)[4..],
            [
                branch(JUMP_AT_LEAST, 3, 1, 0),
                branch(JUMP_AT_LEAST, 2, 3, 4),
                branch(JUMP_AT_LEAST, 5, 0, 1),
                branch(JUMP_AT_LEAST, 6, 0, 2),
                statement(RETURN, 0x0005_0000 | 38),
                statement(RETURN, 0x0005_0000 | 1),
                statement(RETURN, 0x7fff_0000),
            ]
        );
    }

    #[test]
    fn no_verdict_at_all_is_a_program_too() {
        let program = Program::new(lower(Arch::X86_64, &BTreeMap::new())).unwrap();
        let call = Call::new(Arch::X86_64.audit(), 0, &[]);
        assert_eq!(
            run(std::slice::from_ref(&program), &call),
            Outcome::Errno(Errno::ENOSYS)
        );
    }

    /// Alternate verdicts, so that every number is a range and subtrees are longer than a conditional jump.
    #[test]
    fn long_jumps_reach_their_place() {
        let verdicts: BTreeMap<u32, Verdict> = (0..1000).step_by(2).map(|n| (n, Verdict::Allow)).collect();
        let program = Program::new(lower(Arch::Aarch64, &verdicts)).unwrap();
        for number in 0..1100 {
            let expected = match verdicts.get(&number) {
                Some(_) => Outcome::Allow,
                None => Outcome::Errno(Errno::ENOSYS),
            };
            let call = Call::new(Arch::Aarch64.audit(), number, &[]);
            assert_eq!(run(std::slice::from_ref(&program), &call), expected, "{number}");
        }
    }
}
