//! What a change of a manifest or a plan does to the sandbox: looser, tighter, neutral, or unknown.
//!
//! Both sides become the same form, a map from the manifest's keys to [`Measure`]s, and two measures of one key
//! compare by themselves. Whatever gives a job anything that it did not have is looser, also where the same change takes
//! something else away; what cannot be told is said to be unknown, never guessed.
//!
//! ```
//! use ringfence::{diff, manifest, profile};
//!
//! let job = |line: &str| {
//!     let text = format!("schema = 1\n[job.x]\nimage = \"host\"\n{line}\n");
//!     profile::resolve(&manifest::parse(&text)?, "x")
//! };
//! let changes = diff::jobs(&job("")?, &job("security.capabilities = [\"NET_RAW\"]")?);
//! assert_eq!(changes.len(), 1);
//! assert_eq!(changes[0].direction, diff::Direction::Looser);
//! assert_eq!(changes[0].reason, "adds CAP_NET_RAW");
//! # Ok::<(), ringfence::problem::Problems>(())
//! ```

mod held;
mod measure;
mod of_job;
mod of_limits;
mod of_network;
mod of_plan;
mod of_security;
mod render;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use self::held::Held;
pub use self::render::{Fate, JobDiff, markdown, text};
use crate::manifest;
use crate::plan::Plan;
use crate::profile::{self, Job, Origin};

/// What a change does to the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The job may do, see, use or reach something that it could not before.
    Looser,
    /// Whether it may cannot be told from the two texts.
    Unknown,
    /// It may less, and nothing more.
    Tighter,
    /// Nothing changes in how it is held.
    Neutral,
}

/// One difference between two jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key of the manifest, from the job's table: `limits.memory`, `mounts."/src"`.
    pub key: String,
    /// What it does to the sandbox.
    pub direction: Direction,
    /// Why: `adds CAP_NET_RAW`, `root becomes writable, in memory`.
    pub reason: String,
    /// Where the new value was written, else where the old one was; none for plans, which have no lines.
    pub origin: Option<Origin>,
    /// Whether `origin` is in the old manifest.
    pub in_old: bool,
}

/// What becomes different from one job to another, the loosest first, then by key.
pub fn jobs(old: &Job, new: &Job) -> Vec<Change> {
    Held::of_job(old).changes(&Held::of_job(new))
}

/// What a job that is new may do, beyond what a bare one of the profile `strict` may: a change that adds a job
/// cannot open the sandbox unseen.
pub fn new_job(new: &Job) -> Vec<Change> {
    let text = "schema = 1\n[job.bare]\nimage = \"host\"\n";
    let bare = manifest::parse(text).and_then(|manifest| profile::resolve(&manifest, "bare"));
    let bare = bare.expect("a bare job is right");
    let bare = Job {
        image: new.image.clone(),
        variables: new.variables.clone(),
        ..bare
    };
    let mut changes = jobs(&bare, new);
    // What it runs is no change of anything.
    changes.retain(|change| change.direction != Direction::Neutral);
    changes
}

/// The same as [`jobs`] for two plans.
pub fn plans(old: &Plan, new: &Plan) -> Vec<Change> {
    Held::of_plan(old).changes(&Held::of_plan(new))
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
