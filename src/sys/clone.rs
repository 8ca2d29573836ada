//! clone3(2): a child in new namespaces, born in its control group.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::check;

/// Which side of the clone this is.
pub(crate) enum Cloned {
    /// The parent, with the child's process id and descriptor (see pidfd_open(2)).
    Parent(Pid, OwnedFd),
    /// The child.
    Child,
}

/// `struct clone_args` of <linux/sched.h>, version 2 (88 bytes).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// CLONE_INTO_CGROUP of <linux/sched.h>.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a child in the new namespaces of `flags`; with `cgroup`, the directory of a v2 group, it
/// is born there.
///
/// The child is a copy of this process, like one of fork(2): the caller must have one thread, or the child
/// may find a lock held for ever.
///
/// # Errors
/// The kernel's error; EAGAIN at a limit of processes, ENOSPC at one of namespaces, EPERM where they are forbidden.
pub(crate) fn clone3(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned, Errno> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags.bits() as u32 as u64 | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(group) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a live clone_args whose size is given, and `pidfd` outlives the call. Without
    // CLONE_VM and with a null stack the child runs on its own copy of this stack, as after fork(2).
    let returned = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if returned == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the call succeeded with CLONE_PIDFD, so the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent(Pid::from_raw(returned as libc::pid_t), pidfd))
}
