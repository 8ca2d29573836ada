//! Messages in tini's form, by level.

use std::fmt;
use std::io::Write;

use nix::unistd::getpid;

/// How much is said.
pub(super) struct Log {
    /// 0: what ends init; 1: warnings, the default; up to 4.
    pub(super) verbosity: u32,
}

/// How important a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Fatal,
    Warning,
    Info,
    Debug,
    Trace,
}

impl Log {
    /// Prints a message when its level is wanted: the first two to standard error, the rest to standard
    /// output.
    pub(super) fn say(&self, level: Level, message: impl fmt::Display) {
        if self.verbosity < level as u32 {
            return;
        }
        let label = match level {
            Level::Fatal => "FATAL",
            Level::Warning => "WARN ",
            Level::Info => "INFO ",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        };
        let line = format!("[{label} tini ({})] {message}\n", getpid());
        if level <= Level::Warning {
            complain(&line)
        } else {
            output(&line)
        }
    }
}

/// Writes to standard output at once. A reader that has gone away is no reason to leave the program without
/// its init.
pub(super) fn output(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}

/// Writes to standard error.
pub(super) fn complain(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).ok();
}
