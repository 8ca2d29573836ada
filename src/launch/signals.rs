//! Signals to the launcher: by descriptor, from before anything is made until everything is undone.

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys::process;
use crate::sys::signal::replace_action;

/// Signals that are passed on to the job; the others keep what the caller set for them.
const FORWARDED: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// Blocks them; the descriptor that they arrive by.
pub(super) fn block() -> Result<SignalFd, Errno> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // A reader that goes away is an error of one write, not the end of the job's supervisor.
    process::set_action(Signal::SIGPIPE, &ignore)?;
    // Writing to and changing the caller's terminal from the background must not stop it either.
    process::set_action(Signal::SIGTTOU, &ignore)?;
    // Blocked, an ignored signal would arrive all the same (signalfd(2)): what nohup(1) keeps from us, it keeps from the job.
    let hangup = replace_action(Signal::SIGHUP, &ignore)?;
    replace_action(Signal::SIGHUP, &hangup)?;
    let ignored = matches!(hangup.handler(), SigHandler::SigIgn);
    let signals: SigSet = FORWARDED
        .into_iter()
        .filter(|signal| !(ignored && *signal == Signal::SIGHUP))
        .collect();
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Whether a signal asks for the end; the others are news.
pub(super) fn ends(signal: i32) -> bool {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]
        .into_iter()
        .any(|end| end as i32 == signal)
}
