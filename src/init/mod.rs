//! `ringfence init`: a reaper alone, in the place of tini 0.19, with its options, variables, words and exit
//! codes.
//!
//! Spawn the program in a process group of its own; then, for ever: wait for a signal, forward it, reap.
//! Unlike tini it does not wake every second: a child's end is a signal like the others.

mod log;
mod options;
mod program;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::{Pid, getpid};

use self::log::{Level, Log};
use self::options::{Options, Refusal};
use crate::sys::signal;

/// What this process does differently from the one that called it, for the program to be started without it.
struct Signals {
    /// What the loop waits for.
    waited: SigSet,
    /// The mask from before.
    mask: SigSet,
    /// Actions from before.
    actions: Vec<(Signal, SigAction)>,
}

/// Why the reaper itself ends with 1, in tini's words.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("Failed to set up signals: '{}'", .0.desc())]
    Signals(Errno),
    #[error("Failed to set up parent death signal")]
    DeathSignal,
    #[error("Failed to register as child subreaper: {}", .0.desc())]
    Subreaper(Errno),
    #[error("fork failed: {}", .0.desc())]
    Fork(Errno),
    #[error("Unexpected error in sigwaitinfo: '{}'", .0.desc())]
    Wait(Errno),
    #[error("Unexpected error when forwarding signal: '{}'", .0.desc())]
    Forward(Errno),
    #[error("Error while waiting for pids: '{}'", .0.desc())]
    Reap(Errno),
}

/// Runs init with a command line whose first word is the name that it was called by; the program's exit
/// code, 128 and the number of the signal that ended it, 127 and 126 when it was not found or is not
/// executable, 1 for init's own failures.
pub(crate) fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let name = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    let mut options = match Options::parse(&args, std::env::var_os("POSIXLY_CORRECT").is_some()) {
        Ok(options) => options,
        Err(refusal) => return refuse(&refusal, &name),
    };
    options.read_environment(|name| std::env::var_os(name));
    let log = Log {
        verbosity: options.verbosity,
    };
    match run(&options, &log) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log.say(Level::Fatal, &error);
            ExitCode::FAILURE
        }
    }
}

/// Says what the command line gets instead of a program.
fn refuse(refusal: &Refusal, name: &OsString) -> ExitCode {
    let shown = name.to_string_lossy();
    match refusal {
        Refusal::Version => log::output(&format!("{}\n", text::VERSION)),
        Refusal::Help => log::output(&text::usage(&shown)),
        Refusal::License => log::output(text::LICENSE),
        Refusal::Unknown(option) => {
            log::complain(&format!(
                "{shown}: invalid option -- '{option}'\n{}",
                text::usage(&shown)
            ));
            return ExitCode::FAILURE;
        }
        Refusal::NoArgument(option) => {
            log::complain(&format!(
                "{shown}: option requires an argument -- '{option}'\n{}",
                text::usage(&shown)
            ));
            return ExitCode::FAILURE;
        }
        Refusal::NoProgram => {
            log::complain(&text::usage(&shown));
            return ExitCode::FAILURE;
        }
        Refusal::Invalid(option, value) => {
            let message = format!("Not a valid option for -{option}: {}", value.to_string_lossy());
            Log { verbosity: 0 }.say(Level::Fatal, &message);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Starts the program and reaps until it has ended; the code to end with.
fn run(options: &Options, log: &Log) -> Result<u8, InitError> {
    let signals = configure().map_err(InitError::Signals)?;
    if let Some(signal) = options.death_signal {
        prctl::set_pdeathsig(signal).map_err(|_| InitError::DeathSignal)?;
    }
    if options.subreaper {
        prctl::set_child_subreaper(true).map_err(InitError::Subreaper)?;
        log.say(Level::Trace, "Registered as child subreaper");
    }
    if getpid() != Pid::from_raw(1) && !prctl::get_child_subreaper().unwrap_or(false) {
        log.say(Level::Warning, text::NOT_A_REAPER);
    }
    let child = program::spawn(&options.program, &signals, log)?;
    let to = if options.process_group {
        Pid::from_raw(-child.as_raw())
    } else {
        child
    };
    loop {
        match signal::next(&signals.waited) {
            Ok(libc::SIGCHLD) => log.say(Level::Debug, "Received SIGCHLD"),
            Ok(signal) => forward(signal, to, log)?,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(InitError::Wait(errno)),
        }
        if let Some(code) = reap(child, options, log)? {
            log.say(Level::Trace, "Exiting: child has exited");
            return Ok(code);
        }
    }
}

/// Blocks what the loop waits for, and keeps a terminal that is not this process's any more from stopping it.
fn configure() -> Result<Signals, Errno> {
    let blocked = signal::block()?;
    let action = |handler| SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    let default = action(SigHandler::SigDfl);
    let ignore = action(SigHandler::SigIgn);
    let mut actions = Vec::new();
    for (signal, wanted) in [
        (Signal::SIGTTIN, ignore),
        (Signal::SIGTTOU, ignore),
        // Ignored, as some callers leave it, children would vanish without a status (wait(2), notes).
        (Signal::SIGCHLD, default),
    ] {
        actions.push((signal, signal::replace_action(signal, &wanted)?));
    }
    // Rust's runtime ignores SIGPIPE from its start; what the caller had is not known any more.
    actions.push((Signal::SIGPIPE, default));
    Ok(Signals {
        waited: blocked.waited,
        mask: blocked.before,
        actions,
    })
}

fn forward(signal: libc::c_int, to: Pid, log: &Log) -> Result<(), InitError> {
    log.say(
        Level::Debug,
        format_args!("Passing signal: '{}'", signal::description(signal)),
    );
    match signal::send(to, signal) {
        Err(Errno::ESRCH) => log.say(Level::Warning, "Child was dead when forwarding signal"),
        Err(errno) => return Err(InitError::Forward(errno)),
        Ok(()) => {}
    }
    Ok(())
}

/// Reaps all that have ended; the code to end with when `child` was among them.
fn reap(child: Pid, options: &Options, log: &Log) -> Result<Option<u8>, InitError> {
    let mut code = None;
    loop {
        let (pid, status) = match signal::reap() {
            Ok(Some(ended)) => ended,
            Ok(None) => {
                log.say(Level::Trace, "No child to reap");
                return Ok(code);
            }
            Err(Errno::ECHILD) => {
                log.say(Level::Trace, "No child to wait");
                return Ok(code);
            }
            Err(errno) => return Err(InitError::Reap(errno)),
        };
        log.say(Level::Debug, format_args!("Reaped child with pid: '{pid}'"));
        if pid == child {
            code = Some(options.remap(exit_code(status, log)));
        } else if options.warn_on_reap {
            log.say(
                Level::Warning,
                format_args!("Reaped zombie process with pid={pid}"),
            );
        }
    }
}

/// A program's code, or 128 and the number of the signal that ended it, as shells have it.
fn exit_code(status: libc::c_int, log: &Log) -> u8 {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        let name = signal::description(signal);
        log.say(
            Level::Info,
            format_args!("Main child exited with signal (with signal '{name}')"),
        );
        return 128 + signal as u8;
    }
    let code = libc::WEXITSTATUS(status);
    log.say(
        Level::Info,
        format_args!("Main child exited normally (with status '{code}')"),
    );
    code as u8
}
