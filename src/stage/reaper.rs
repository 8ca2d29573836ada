//! PID 1's loop: forward signals, reap everything, end with the job, or with the launcher.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::statfs::fstatfs;
use nix::unistd::{Pid, setsid};

use super::init::renumber;
use crate::plan::Watch;
use crate::profile::Capability;
use crate::report::channel::Channel;
use crate::report::record::Record;
use crate::sys;

/// How late the launcher may be at the wall limit before it is taken for stopped, by Ctrl-Z or a debugger.
const LATE: Duration = Duration::from_millis(500);

/// Runs until the job `job` ends, then sends its raw status and ends; the kernel ends the rest of the namespace.
///
/// It does not wait beyond the wall limit for a launcher that is stopped and watches nothing.
pub(super) fn run(job: Pid, status: OwnedFd, layers: Vec<OwnedFd>, watch: &Watch) -> ! {
    let deadline = watch
        .at_the_latest(LATE)
        .and_then(|after| Instant::now().checked_add(after));
    // A failure here must not leave a job without its supervisor: ending PID 1 ends all of it, and the
    // launcher sees an end of the channel without a record.
    let Ok((status, signals, layers)) = settle(status, layers) else {
        sys::process::exit_now(1)
    };
    loop {
        // Before the first wait too: the SIGCHLD of a job that ended before the mask was set is lost.
        if let Some(raw) = reap(job) {
            if layers.iter().any(is_full) {
                status.send(Record::LayerFull, &[]).ok();
            }
            status.send(Record::Ended(raw), &[]).ok();
            sys::process::exit_now(0);
        }
        let mut watched = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(status.as_fd(), PollFlags::POLLIN),
        ];
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        // What is more than poll(2) takes, 24 days, is waited for in parts.
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            left.try_into().unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => sys::process::exit_now(1),
        }
        // The launcher never writes here, so anything but silence is its end: nobody is left to bound the job.
        if watched[1].revents().is_some_and(|events| !events.is_empty()) {
            sys::process::exit_now(1);
        }
        while let Ok(Some(info)) = signals.read_signal() {
            let signal = info.ssi_signo.cast_signed();
            if signal != Signal::SIGCHLD as i32 {
                // ESRCH: it has just ended, and the reaping below will find it.
                sys::signal::send(job, signal).ok();
            }
        }
        if left.is_some_and(|left| left.is_zero()) {
            status.send(Record::Wall, &[]).ok();
            sys::process::exit_now(0);
        }
    }
}

/// Keeps three descriptors, few capabilities and no privilege to gain.
fn settle(status: OwnedFd, layers: Vec<OwnedFd>) -> Result<(Channel, SignalFd, Vec<OwnedFd>), Errno> {
    let mut signals = SigSet::all();
    for synchronous in [
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGTRAP,
        Signal::SIGSYS,
    ] {
        signals.remove(synchronous);
    }
    signals.thread_set_mask()?;
    // What the caller's terminal or kill(1) sends to the launcher's process group is the launcher's to pass on.
    setsid()?;
    // Out of the way of the numbers that are assigned next.
    let assigned = i32::try_from(4 + layers.len()).unwrap_or(i32::MAX);
    let high = |fd: OwnedFd| sys::process::duplicate_above(fd.as_fd(), assigned);
    let status = high(status)?;
    let layers = layers.into_iter().map(high).collect::<Result<Vec<_>, _>>()?;
    let null = nix::fcntl::open(
        "/dev/null",
        nix::fcntl::OFlag::O_RDWR,
        nix::sys::stat::Mode::empty(),
    )?;
    for standard in 0..3 {
        // The job's end of a pipe must not stay open here after the job has closed it.
        sys::process::duplicate_to_standard(null.as_fd(), standard)?;
    }
    // Before its number is given to something else.
    drop(null);
    let status = renumber(status, 3)?;
    let mut kept = 4;
    let mut low = Vec::with_capacity(layers.len());
    for layer in layers {
        low.push(renumber(layer, kept)?);
        kept += 1;
    }
    sys::process::close_from(kept.cast_unsigned())?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    // Signals to a job of another user need CAP_KILL; nothing else is ever needed again.
    sys::capability::bound(0)?;
    sys::capability::set(Capability::Kill.bit(), 0)?;
    prctl::set_no_new_privs()?;
    Ok((Channel::from_fd(status), signals, low))
}

/// Collects every child that has ended; the raw status of the job if it is among them.
fn reap(job: Pid) -> Option<i32> {
    let mut ended = None;
    // ECHILD: there are none left.
    while let Ok(Some((pid, status))) = sys::signal::reap() {
        if pid == job {
            ended = Some(status);
        }
    }
    ended
}

/// Whether less than a page or not one inode is left: the write of one more page would fail (statfs(2)).
fn is_full(layer: &OwnedFd) -> bool {
    const PAGE: u64 = 4096;
    fstatfs(layer).is_ok_and(|state| {
        let left = state.blocks_available() * state.block_size().cast_unsigned();
        state.blocks() > 0 && left < PAGE || state.files() > 0 && state.files_free() == 0
    })
}
