//! What other tools run, as a manifest, with everything that a manifest cannot say.
//!
//! Pure: words and texts go in, a text comes out. It is a start to be read and edited: whoever wrote a `docker run` line
//! did not ask for a sandbox, so the profile is `standard`, which is what the line gave.

mod compose;
mod devcontainer;
mod docker;
mod draft;
mod options;
mod variables;
mod words;
mod yaml;

use std::fmt;

/// A manifest, and what it does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Imported {
    /// The manifest's text.
    pub(crate) manifest: String,
    /// What was left out.
    pub(crate) left_out: Vec<LeftOut>,
}

/// Something that a manifest cannot say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Its name there: `--gpus`, `services.web.build`.
    pub(crate) what: String,
    /// Why, or what to write instead: a lower-case fragment.
    pub(crate) why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// Why there is nothing to import.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

/// The job of a `docker run` line, given as its words.
///
/// # Errors
/// When an option is not known: whether the next word is its value cannot be guessed.
pub(crate) fn docker(words: &[String]) -> Result<Imported, Refusal> {
    docker::line(words)
}

/// The jobs of a compose file: one for each service.
///
/// # Errors
/// When it is no YAML, or holds no service.
pub(crate) fn compose(text: &str) -> Result<Imported, Refusal> {
    compose::file(text)
}

/// The job of a devcontainer.json: a shell in that environment.
///
/// # Errors
/// When it is no JSON with comments, or names no image.
pub(crate) fn devcontainer(text: &str) -> Result<Imported, Refusal> {
    devcontainer::file(text)
}

#[cfg(test)]
mod tests;
