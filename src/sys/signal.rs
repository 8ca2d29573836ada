//! Signals by number, real-time ones included, for processes that reap: PID 1 and `ringfence init`.
//!
//! `nix` knows the 31 classic signals: for a child ended by a real-time signal its `waitpid` fails *after*
//! the child is reaped, and the status is lost.

use std::ffi::CStr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::Pid;

use super::check;

/// Signals that say what this process itself did wrong (blocked, they would kill it all the same, see
/// sigprocmask(2)), and those of a terminal's background processes.
const NOT_FORWARDED: [Signal; 9] = [
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Blocks what a reaper waits for, to be fetched with [`next`]: all that it forwards, and SIGCHLD. The old
/// mask is for a child, before it executes a program.
pub(crate) struct Blocked {
    /// What is waited for.
    pub(crate) waited: SigSet,
    /// The mask from before.
    pub(crate) before: SigSet,
}

/// Blocks all signals but [`NOT_FORWARDED`] in this thread.
///
/// # Errors
/// None that sigprocmask(2) gives for these arguments.
pub(crate) fn block() -> Result<Blocked, Errno> {
    let mut waited = SigSet::all();
    NOT_FORWARDED.into_iter().for_each(|signal| waited.remove(signal));
    let before = waited.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK)?;
    Ok(Blocked { waited, before })
}

/// Waits for one of the blocked signals `waited` and takes it; its number.
///
/// # Errors
/// EINTR when a signal outside of the set was handled (sigwaitinfo(2)).
pub(crate) fn next(waited: &SigSet) -> Result<libc::c_int, Errno> {
    let set: *const libc::sigset_t = waited.as_ref();
    // SAFETY: `set` points into `waited`, which outlives the call; the kernel stores no siginfo through a
    // null pointer.
    Errno::result(unsafe { libc::sigwaitinfo(set, std::ptr::null_mut()) })
}

/// Sends a signal to a process, or to the group `-process` (kill(2)).
///
/// # Errors
/// ESRCH when there is none, EPERM when it is another user's.
pub(crate) fn send(process: Pid, signal: libc::c_int) -> Result<(), Errno> {
    // SAFETY: integers only.
    Errno::result(unsafe { libc::kill(process.as_raw(), signal) }).map(drop)
}

/// Collects one child that has ended, without waiting: its id and the raw status of wait(2); none when the
/// children that there are still run.
///
/// # Errors
/// ECHILD when there are no children.
pub(crate) fn reap() -> Result<Option<(Pid, libc::c_int)>, Errno> {
    let mut status = 0;
    // SAFETY: `status` is a live int, all that the call writes to.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    let pid = Errno::result(pid)?;
    Ok((pid != 0).then_some((Pid::from_raw(pid), status)))
}

/// Sets what a signal does to SIG_DFL or SIG_IGN and returns what it did (sigaction(2)).
///
/// # Errors
/// EINVAL for SIGKILL and SIGSTOP.
pub(crate) fn replace_action(signal: Signal, action: &SigAction) -> Result<SigAction, Errno> {
    // SAFETY: the callers pass SIG_DFL, SIG_IGN or what this function returned, so no function of ours runs
    // in a handler.
    unsafe { nix::sys::signal::sigaction(signal, action) }
}

/// Takes SIGCHLD back from a caller that ignores it: children, newuidmap(1) the first of them, would vanish without a
/// status (wait(2), notes).
///
/// # Errors
/// None that sigaction(2) gives for these arguments.
pub(crate) fn report_children() -> Result<(), Errno> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    replace_action(Signal::SIGCHLD, &default).map(drop)
}

/// Sets what every signal does to SIG_DFL, the real-time ones included.
///
/// By the system call: the C library keeps 32 and 33 to itself, and an inherited SIG_IGN of theirs would stay.
///
/// # Errors
/// None that rt_sigaction(2) gives for these arguments.
pub(crate) fn default_all() -> Result<(), Errno> {
    /// `_NSIG` of <asm/signal.h>, on every architecture that has a seccomp table here.
    const LAST: libc::c_int = 64;
    // The kernel's own `struct sigaction`: SIG_DFL, no flags, no restorer, an empty mask are all zeroes.
    let default = [0_u64; 4];
    for signal in (1..=LAST).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: the kernel reads one sigaction, which is not longer than `default`, and stores nothing
        // through a null pointer. No function of ours is set as a handler.
        check(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<libc::c_void>(),
                size_of::<u64>(),
            )
        })?;
    }
    Ok(())
}

/// What a signal is called, as shells say it: `Terminated`, `Real-time signal 0` (strsignal(3)).
pub(crate) fn description(signal: libc::c_int) -> String {
    // SAFETY: strsignal returns a string for every number; it is copied before this thread, the only user of
    // the buffer that it may point into, calls again.
    let text = unsafe { libc::strsignal(signal) };
    if text.is_null() {
        return format!("signal {signal}");
    }
    // SAFETY: not null, so it is a NUL-terminated string of the C library's that lives until the next call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_called_as_shells_call_them() {
        assert_eq!(description(libc::SIGTERM), "Terminated");
        assert_eq!(description(libc::SIGKILL), "Killed");
        assert_eq!(description(libc::SIGRTMIN()), "Real-time signal 0");
    }

    /// In a thread of its own, with its own mask: what is blocked there ends nothing.
    #[test]
    fn a_blocked_signal_is_taken_by_number() {
        let taken = std::thread::spawn(|| {
            let blocked = block().unwrap();
            // SAFETY: raise sends to this thread, which blocks the signal.
            unsafe { libc::raise(libc::SIGRTMIN() + 3) };
            let taken = next(&blocked.waited).unwrap();
            blocked.before.thread_set_mask().unwrap();
            taken
        });
        assert_eq!(taken.join().unwrap(), libc::SIGRTMIN() + 3);
    }
}
