//! A child in a user namespace of its own: held until its ids are mapped, then trying one thing after another.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2, read, write};

use crate::sys;

/// How long a child may take for all it tries; it takes about a millisecond, or thirty in an emulated machine, and five
/// seconds where such a machine is also loaded.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The record that says whether the namespace was made; a child's own steps have higher numbers.
pub(super) const UNSHARE: u8 = 0;

/// A child in a user namespace of its own; ended and reaped when dropped.
pub(super) struct Held {
    pub(super) pid: Pid,
    report: OwnedFd,
    go: OwnedFd,
    deadline: Instant,
}

/// The child's end of its reports.
pub(super) struct Reporter(OwnedFd);

/// Ends the child at once even on a panic: it must not unwind into its copy of the parent's frames.
struct EndNow;

impl Drop for EndNow {
    fn drop(&mut self) {
        sys::process::exit_now(0)
    }
}

impl Held {
    /// Forks. The child runs `before` with the caller's own rights, makes the namespace and reports so as
    /// [`UNSHARE`], waits for [`Held::go`], runs `tries` and ends. Both may only make system calls.
    ///
    /// # Errors
    /// EBUSY when this process has more than one thread: a lock that another one holds would stay locked in
    /// the child for ever. Else the kernel's.
    pub(super) fn start(before: impl FnOnce(), tries: impl FnOnce(&Reporter)) -> Result<Held, Errno> {
        if std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count) != 1 {
            return Err(Errno::EBUSY);
        }
        let (report, reporter) = pipe2(OFlag::O_CLOEXEC)?;
        let (wait, go) = pipe2(OFlag::O_CLOEXEC)?;
        if let Some(pid) = sys::fork::fork()? {
            let deadline = Instant::now() + PATIENCE;
            return Ok(Held {
                pid,
                report,
                go,
                deadline,
            });
        }
        let end = EndNow;
        // Else the end of the parent would never be seen on `wait`.
        drop((report, go));
        let reporter = Reporter(reporter);
        before();
        let made = unshare(CloneFlags::CLONE_NEWUSER);
        reporter.say(UNSHARE, made);
        let mut byte = [0];
        if made.is_ok() && read(&wait, &mut byte) == Ok(1) {
            tries(&reporter);
        }
        drop(end);
        unreachable!("the child has ended")
    }

    /// The child's next report; none at its end, or when its time is up.
    pub(super) fn next(&self) -> Option<(u8, Result<(), Errno>)> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut wanted = [PollFd::new(self.report.as_fd(), PollFlags::POLLIN)];
        if poll(&mut wanted, left) != Ok(1) {
            return None;
        }
        // Records are written at once, and pipes keep writes of this size whole (see pipe(7), PIPE_BUF).
        let mut record = [0; 5];
        if read(&self.report, &mut record) != Ok(record.len()) {
            return None;
        }
        let [step, errno @ ..] = record;
        let result = match i32::from_ne_bytes(errno) {
            0 => Ok(()),
            errno => Err(Errno::from_raw(errno)),
        };
        Some((step, result))
    }

    /// Lets the child go on.
    ///
    /// # Errors
    /// EPIPE when it has ended.
    pub(super) fn go(&self) -> Result<(), Errno> {
        write(&self.go, &[1]).map(drop)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have ended already; it is not reaped, so the number is still its own.
        kill(self.pid, Signal::SIGKILL).ok();
        sys::process::wait(self.pid).ok();
    }
}

impl Reporter {
    /// Reports how a step went.
    pub(super) fn say(&self, step: u8, result: Result<(), Errno>) {
        let errno = result.err().map_or(0, |errno| errno as i32);
        let mut record = [step, 0, 0, 0, 0];
        record[1..].copy_from_slice(&errno.to_ne_bytes());
        // A parent that is gone hears nothing, and a report that is missing counts as a failure.
        write(&self.0, &record).ok();
    }
}
