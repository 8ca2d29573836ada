//! A plain child in the same namespaces, by fork(2) without exec.

use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, getppid, setsid};

use super::process::{self, Ended};

/// A child of this process; one that is dropped is killed and waited for.
#[derive(Debug)]
pub(crate) struct Child(Pid);

impl Child {
    /// Its number, which is its own until it is waited for.
    pub(crate) fn pid(&self) -> Pid {
        self.0
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// ECHILD when somebody else has waited for it.
    pub(crate) fn wait(self) -> Result<Ended, Errno> {
        let pid = self.0;
        std::mem::forget(self);
        process::wait(pid)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may be dead, and is waited for either way.
        kill(self.0, Signal::SIGKILL).ok();
        process::wait(self.0).ok();
    }
}

/// Makes a child; none is the answer in it. The caller must have one thread, or the child may find a lock held for ever.
///
/// # Errors
/// EAGAIN at a limit of processes.
pub(crate) fn fork() -> Result<Option<Pid>, Errno> {
    // SAFETY: the callers are `run`, which counts, its child in `outlive`, the launcher before it starts any thread, and PID 1 and `init`, which
    // never have one, so no lock of another thread can be copied in a held state.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Runs `body` in a child process and ends it with the status that `body` returns. The child is killed when this process dies.
///
/// # Errors
/// EBUSY when this process has more than one thread (the child could wait for ever for a lock that another thread
/// holds); else fork's.
pub(crate) fn run(body: impl FnOnce() -> u8) -> Result<Child, Errno> {
    if threads()? != 1 {
        return Err(Errno::EBUSY);
    }
    let parent = nix::unistd::getpid();
    match fork()? {
        Some(child) => Ok(Child(child)),
        None => {
            let died = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            // The signal says nothing about a parent that was gone before it was asked for.
            let status = match died {
                Ok(()) if getppid() == parent => {
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101)
                }
                _ => 125,
            };
            // No destructor or exit handler of the parent's copy runs twice.
            process::exit_now(status.into())
        }
    }
}

/// Runs `body` in a process that is nobody's child, in a session of its own: it outlives this one, and lets go first of what
/// the caller waits for the end of ([`process::keep_only`]).
///
/// # Errors
/// As [`run`]; ECHILD when the process between the two has failed.
pub(crate) fn outlive(body: impl FnOnce()) -> Result<(), Errno> {
    let between = run(|| match fork() {
        Ok(Some(_)) => 0,
        Ok(None) => {
            if setsid().is_ok() {
                body();
            }
            0
        }
        Err(_) => 1,
    })?;
    match between.wait()?.status {
        0 => Ok(()),
        _ => Err(Errno::ECHILD),
    }
}

/// The threads of this process.
///
/// # Errors
/// ENOENT without /proc.
pub(crate) fn threads() -> Result<u64, Errno> {
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    // Two links are the folder's own, the others its subfolders', one each thread (proc_task_getattr, fs/proc/base.c).
    let links = std::fs::metadata("/proc/self/task").map_err(io)?.nlink();
    Ok(links.saturating_sub(2))
}
