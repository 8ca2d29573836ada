//! The program that init starts: forked, in a process group of its own, with the caller's signals restored.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Pid, execvp, getpgrp, setpgid, tcsetpgrp};

use super::log::{Level, Log};
use super::{InitError, Signals};
use crate::sys;

/// Forks and executes `program`, a name to look up in PATH and its arguments.
///
/// A child that cannot execute it says why and ends with 127, 126 or 1, which init finds like any other
/// status.
pub(super) fn spawn(program: &[CString], signals: &Signals, log: &Log) -> Result<Pid, InitError> {
    let name = program[0].to_string_lossy();
    match sys::fork::fork().map_err(InitError::Fork)? {
        Some(child) => {
            log.say(
                Level::Info,
                format_args!("Spawned child process '{name}' with pid '{child}'"),
            );
            Ok(child)
        }
        None => {
            let code = match isolate(log).and_then(|()| restore(signals)) {
                Ok(()) => {
                    let Err(errno) = execvp(&program[0], program);
                    log.say(Level::Fatal, format_args!("exec {name} failed: {}", errno.desc()));
                    match errno {
                        Errno::ENOENT => 127,
                        Errno::EACCES => 126,
                        _ => 1,
                    }
                }
                Err(message) => {
                    log.say(Level::Fatal, message);
                    1
                }
            };
            sys::process::exit_now(code)
        }
    }
}

/// A process group of its own, in the foreground when there is a terminal: Ctrl-C then reaches the program,
/// not init.
///
/// Done by the child, so that of one init below another the inner one's child comes last; SIGTTOU, which a
/// background process gets for it, is ignored at this time (tcsetpgrp(3)).
fn isolate(log: &Log) -> Result<(), String> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0))
        .map_err(|errno| format!("setpgid failed: {}", errno.desc()))?;
    match tcsetpgrp(std::io::stdin(), getpgrp()) {
        Ok(()) => Ok(()),
        Err(Errno::ENOTTY) => {
            log.say(Level::Debug, "tcsetpgrp failed: no tty (ok to proceed)");
            Ok(())
        }
        Err(Errno::ENXIO) => {
            log.say(Level::Debug, "tcsetpgrp failed: no such device (ok to proceed)");
            Ok(())
        }
        Err(errno) => Err(format!("tcsetpgrp failed: {}", errno.desc())),
    }
}

/// Undoes what init changed for itself: masks and ignored signals survive execve(2).
fn restore(signals: &Signals) -> Result<(), String> {
    for (signal, action) in &signals.actions {
        sys::signal::replace_action(*signal, action)
            .map_err(|errno| format!("Restoring {signal} handler failed: '{}'", errno.desc()))?;
    }
    signals
        .mask
        .thread_set_mask()
        .map_err(|errno| format!("Restoring child signal mask failed: '{}'", errno.desc()))
}
