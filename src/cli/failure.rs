//! Why a command did not do what it was asked.

use std::fmt;

use crate::launch::LaunchError;
use crate::report::verdict::Verdict;

/// The run was refused or not set up; of every other command, it failed (contract: exit codes).
pub(super) const FAILED: u8 = 125;

/// Why a command did not do what it was asked. Printed once, by `main`.
#[derive(Debug)]
pub(super) enum Failure {
    /// Wrong words on the command line, as clap says it.
    Usage(String),
    /// What is wrong with a manifest, rendered beside its lines.
    Manifest(String),
    /// The image could not be had.
    Image(String),
    /// The sandbox could not be built, or the command not be executed.
    Launch {
        /// Why.
        error: LaunchError,
        /// Where the manifest asks for what failed.
        at: Option<String>,
    },
    /// Anything else, in one sentence.
    Text(String),
}

impl Failure {
    /// Anything that has no kind of its own.
    pub(super) fn text(text: impl Into<String>) -> Failure {
        Failure::Text(text.into())
    }

    /// The exit code.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Failure::Launch { error, .. } => error.exit_code(),
            _ => FAILED,
        }
    }

    /// What a receipt calls it.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Failure::Usage(_) | Failure::Manifest(_) | Failure::Text(_) => Verdict::Refused,
            Failure::Image(_) => Verdict::Image,
            Failure::Launch { .. } => Verdict::Setup,
        }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Failure {
        Failure::Launch { error, at: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Manifest(text) => f.write_str(text),
            Failure::Image(text) | Failure::Text(text) => write!(f, "ringfence: {text}"),
            Failure::Launch { error, at: None } => write!(f, "ringfence: {error}"),
            Failure::Launch { error, at: Some(at) } => write!(f, "ringfence: {error} ({at})"),
        }
    }
}
