//! Why a job did not start.

use std::fmt;
use std::io;

use nix::errno::Errno;

use crate::plan::{FromKeys, Plan};
use crate::report::record::Stage;

/// Why a job did not start. One sentence: the step, its object, the cause.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// A step of the plan failed.
    #[error("{at}: {cause}")]
    Step {
        /// Which step of which phase, and what it does.
        at: String,
        /// The kernel's answer.
        cause: String,
        /// The keys of the manifest that the step comes from.
        keys: Vec<String>,
    },
    /// Something outside the steps failed.
    #[error("{what}: {cause}")]
    Setup {
        /// What was tried, on what.
        what: String,
        /// Why it failed.
        cause: String,
    },
    /// The command is not in the root file system.
    #[error("{0}: not found in the image; the command or the interpreter that its first line names")]
    NotFound(String),
    /// The command is there and cannot be executed.
    #[error("{program}: {cause}")]
    NotExecutable {
        /// The command's first word.
        program: String,
        /// Why.
        cause: String,
    },
    /// An error, and another one while what had been done was undone.
    #[error("{first}; and while undoing: {undo}")]
    Undo {
        /// What came first.
        first: Box<LaunchError>,
        /// What came then.
        undo: String,
    },
}

impl LaunchError {
    /// Something outside the steps failed.
    pub(crate) fn setup(what: impl Into<String>, cause: impl fmt::Display) -> LaunchError {
        LaunchError::Setup {
            what: what.into(),
            cause: cause.to_string(),
        }
    }

    /// A step of `phase` failed, the launcher's own.
    pub(crate) fn step(
        phase: &str,
        index: usize,
        total: usize,
        step: &(impl fmt::Display + FromKeys),
        cause: impl fmt::Display,
    ) -> LaunchError {
        LaunchError::Step {
            at: format!("{phase} step {} of {total}: {step}", index + 1),
            cause: cause.to_string(),
            keys: step.keys(),
        }
    }

    /// The keys of the manifest that a failed step comes from.
    pub(crate) fn keys(&self) -> &[String] {
        match self {
            LaunchError::Step { keys, .. } => keys,
            LaunchError::Undo { first, .. } => first.keys(),
            LaunchError::Setup { .. } | LaunchError::NotFound(_) | LaunchError::NotExecutable { .. } => &[],
        }
    }

    /// What a record of the child means for this plan.
    pub(crate) fn from_record(
        plan: &Plan,
        program: &str,
        stage: Stage,
        index: u16,
        errno: Errno,
    ) -> LaunchError {
        let index = usize::from(index);
        let cause = words(errno);
        match stage {
            Stage::Start => LaunchError::setup(
                [
                    "wait for the id maps",
                    "tell the job's process to go on",
                    "connect the job's streams",
                ][index.min(2)],
                cause,
            ),
            Stage::Init => match plan.init.get(index) {
                Some(step) => LaunchError::step("init", index, plan.init.len(), step, cause),
                None => LaunchError::setup("init", cause),
            },
            Stage::Workload => match plan.workload.get(index) {
                Some(step) => LaunchError::step("workload", index, plan.workload.len(), step, cause),
                None => LaunchError::setup("workload", cause),
            },
            Stage::Exec => match errno {
                Errno::ENOENT | Errno::ENOTDIR => LaunchError::NotFound(program.to_owned()),
                Errno::ENOEXEC => LaunchError::NotExecutable {
                    program: program.to_owned(),
                    cause: "not a program of this processor, and no script with an interpreter".to_owned(),
                },
                _ => LaunchError::NotExecutable {
                    program: program.to_owned(),
                    cause,
                },
            },
        }
    }

    /// The exit code of `run` (contract: 127 not found, 126 not executable, 125 not set up).
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            LaunchError::NotFound(_) => 127,
            LaunchError::NotExecutable { .. } => 126,
            LaunchError::Undo { first, .. } => first.exit_code(),
            LaunchError::Step { .. } | LaunchError::Setup { .. } => 125,
        }
    }
}

/// The kernel's words for an error, as they stand inside a sentence.
pub(crate) fn words(errno: Errno) -> String {
    match errno {
        Errno::ESTALE => "it was exchanged while the sandbox was set up".to_owned(),
        Errno::ENOTRECOVERABLE => "the kernel's own account differs from the plan".to_owned(),
        _ => {
            let text = errno.desc();
            text.chars()
                .take(1)
                .flat_map(char::to_lowercase)
                .chain(text.chars().skip(1))
                .collect()
        }
    }
}

/// The same for an error of the standard library.
pub(crate) fn io_words(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |number| words(Errno::from_raw(number)))
}
