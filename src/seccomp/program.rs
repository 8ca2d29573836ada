//! A filter program that the kernel will take.

use nix::libc;
use seccompiler::sock_filter;

/// Instructions that were checked as the kernel checks them; install with `seccompiler::apply_filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Vec<sock_filter>);

/// Why the kernel would refuse a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// None, or more than a filter may have.
    #[error("seccomp program of {0} instructions, the kernel takes 1 to 4095")]
    Length(usize),
    /// Not among those that a seccomp filter may use.
    #[error("seccomp instruction {at}: code {code:#x} is not one a filter may use")]
    Code {
        /// Which instruction.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// Loads from outside of `struct seccomp_data`, or not a whole word of it.
    #[error("seccomp instruction {at}: load at offset {offset}")]
    Load {
        /// Which instruction.
        at: usize,
        /// The offset, in bytes.
        offset: u32,
    },
    /// Jumps past the end.
    #[error("seccomp instruction {at}: jump past the end")]
    Jump {
        /// Which instruction.
        at: usize,
    },
    /// The last instruction is no return.
    #[error("seccomp program does not end in a return")]
    Open,
}

// Codes as linux/bpf_common.h has them, 16 bits wide as in `struct sock_filter`.
pub(super) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
pub(super) const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub(super) const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(super) const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(super) const JUMP_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
pub(super) const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub(super) const JUMP_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

/// `sizeof(struct seccomp_data)`, in bytes (seccomp(2)).
const DATA_SIZE: u32 = 64;

impl Program {
    /// Checks instructions as `bpf_check_classic` and `seccomp_check_filter` of the kernel do, and allows
    /// only what our own lowering and seccompiler's emit.
    ///
    /// Jumps go forward by their form; with none past the end and a return at the end, every path ends.
    ///
    /// # Errors
    /// The first instruction that would be refused.
    pub fn new(instructions: Vec<sock_filter>) -> Result<Program, ProgramError> {
        let length = instructions.len();
        if length == 0 || length >= libc::BPF_MAXINSNS as usize {
            return Err(ProgramError::Length(length));
        }
        for (at, instruction) in instructions.iter().enumerate() {
            let furthest = match instruction.code {
                LOAD if instruction.k % 4 != 0 || instruction.k >= DATA_SIZE => {
                    return Err(ProgramError::Load {
                        at,
                        offset: instruction.k,
                    });
                }
                LOAD | RETURN | AND => 0,
                JUMP => instruction.k as usize,
                JUMP_EQUAL | JUMP_GREATER | JUMP_AT_LEAST | JUMP_SET => {
                    usize::from(instruction.jt.max(instruction.jf))
                }
                code => return Err(ProgramError::Code { at, code }),
            };
            if furthest > 0 && at + 1 + furthest >= length {
                return Err(ProgramError::Jump { at });
            }
        }
        match instructions.last() {
            Some(last) if last.code == RETURN => Ok(Program(instructions)),
            _ => Err(ProgramError::Open),
        }
    }

    /// The instructions, for `seccompiler::apply_filter`.
    pub fn instructions(&self) -> &[sock_filter] {
        &self.0
    }
}

/// An instruction without jump targets.
pub(super) fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// A comparison with `k`: how many instructions to skip when it holds, and when not.
pub(super) fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    fn refused(instructions: Vec<sock_filter>) -> String {
        Program::new(instructions).unwrap_err().to_string()
    }

    #[test]
    fn takes_what_ends_in_returns() {
        let instructions = vec![
            statement(LOAD, 60),
            branch(JUMP_AT_LEAST, 7, 1, 0),
            statement(RETURN, 0),
            statement(RETURN, ALLOW),
        ];
        assert_eq!(
            Program::new(instructions.clone()).unwrap().instructions(),
            instructions
        );
    }

    #[test]
    fn names_what_the_kernel_would_refuse() {
        let end = statement(RETURN, ALLOW);
        assert_eq!(
            refused(vec![]),
            "seccomp program of 0 instructions, the kernel takes 1 to 4095"
        );
        assert_eq!(
            refused(vec![end.clone(); 4096]),
            "seccomp program of 4096 instructions, the kernel takes 1 to 4095"
        );
        assert_eq!(
            refused(vec![statement(0x28, 0), end.clone()]),
            "seccomp instruction 0: code 0x28 is not one a filter may use"
        );
        assert_eq!(
            refused(vec![statement(LOAD, 64), end.clone()]),
            "seccomp instruction 0: load at offset 64"
        );
        assert_eq!(
            refused(vec![statement(LOAD, 2), end.clone()]),
            "seccomp instruction 0: load at offset 2"
        );
        assert_eq!(
            refused(vec![branch(JUMP_EQUAL, 0, 0, 1), end.clone()]),
            "seccomp instruction 0: jump past the end"
        );
        assert_eq!(
            refused(vec![statement(LOAD, 0), statement(JUMP, u32::MAX), end.clone()]),
            "seccomp instruction 1: jump past the end"
        );
        assert_eq!(
            refused(vec![end, statement(LOAD, 0)]),
            "seccomp program does not end in a return"
        );
    }
}
