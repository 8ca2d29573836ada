//! What no manifest may exceed on a host: `[ceiling]` of its config.toml.
//!
//! A manifest can come with a change that somebody else proposes; the ceiling is the host's own. A job that exceeds it is
//! refused with both lines, the manifest's and config.toml's, and never run with less than it asked for.
//!
//! ```
//! use ringfence::ceiling::{Ceiling, Check};
//! use ringfence::{manifest, profile};
//!
//! let text = "schema = 1\n[job.x]\nimage = \"host\"\nlimits.memory = \"8GiB\"\n";
//! let manifest = manifest::parse(text)?;
//! let (job, explanation) = (profile::resolve(&manifest, "x")?, profile::explain(&manifest, "x")?);
//! let config = "memory = \"4GiB\"\n";
//! let ceiling: Ceiling = toml::from_str(config)?;
//! let check = Check { job: &job, explanation: &explanation, file: "config.toml", text: config };
//! let problems = ceiling.exceeded(&check, |source| Some(source.to_string())).expect("8GiB is more");
//! assert_eq!(
//!     problems.to_string(),
//!     "[RF0501] memory of 8GiB exceeds this host's ceiling of 4GiB; ask for at most 4GiB"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod codes;
mod exceeded;
mod roots;
mod written;

use serde::Deserialize;
use toml::Spanned;

pub use self::exceeded::Check;
pub use self::written::{Mode, Pattern, Written};
use crate::profile::Capability;
use crate::units::{Bytes, Millis};

/// What no manifest may exceed. A key that is not written is no ceiling.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ceiling {
    /// The largest memory limit.
    pub memory: Option<Spanned<Written<Bytes>>>,
    /// The largest limit of processes.
    pub pids: Option<Spanned<u64>>,
    /// The longest wall limit.
    pub wall: Option<Spanned<Written<Millis>>>,
    /// The network modes that a job may have.
    pub network: Option<Spanned<Vec<Mode>>>,
    /// Folders of the host; only they and what is below them may be bound. `${manifest-dir}` is one.
    pub mounts: Option<Spanned<Vec<String>>>,
    /// The registries that images may come from.
    pub registries: Option<Spanned<Vec<String>>>,
    /// The images that a job may have, in full; `*` at the end stands for anything.
    pub images: Option<Spanned<Vec<Pattern>>>,
    /// The capabilities that a job may have inside.
    pub capabilities: Option<Spanned<Vec<Written<Capability>>>>,
    /// The built-in profiles that a job may build on.
    pub profiles: Option<Spanned<Vec<String>>>,
}
