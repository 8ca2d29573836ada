//! How a job is held: inheritance, defaults and built-in profiles resolved into one total value.
//!
//! A [`Job`] has no "unset": every value is there, with the place it came from. Nothing here reads
//! a file or the environment; what must be asked of the host is listed by [`Job::questions`].
//!
//! ```
//! use ringfence::{manifest, profile};
//!
//! let text = "schema = 1\n[job.hello]\nimage = \"host\"\nlimits.memory = \"64MiB\"\n";
//! let job = profile::resolve(&manifest::parse(text)?, "hello")?;
//! let memory = job.hold.limits.memory.expect("a limit");
//! assert_eq!(memory.max.value.to_string(), "64MiB");
//! assert_eq!(&text[memory.max.span().expect("it was written")], "\"64MiB\"");
//! # Ok::<(), ringfence::problem::Problems>(())
//! ```

mod capability;
mod chain;
mod contradiction;
mod expect;
mod explain;
mod hold;
mod image_source;
mod job;
mod limits;
mod merge;
mod mounts;
mod namespaces;
mod network;
mod origin;
mod peer;
mod questions;
mod rlimits;
mod security;
mod text;
mod view;

use std::collections::BTreeMap;

pub use self::capability::Capability;
pub use self::expect::{Claim, Try};
pub use self::explain::{Explained, Explanation, Setting, explain};
pub use self::hold::{Profile, Root, SysMount};
pub(crate) use self::image_source::image_source;
pub use self::job::{Job, User};
pub use self::limits::{Enforce, IoLimit, Limit, Limits};
use self::merge::Inherited;
pub use self::mounts::{Access, Mount};
pub use self::namespaces::{Namespace, TimeOffsets};
pub use self::network::{Allow, Bridge, Network, Publish};
pub use self::origin::{BuiltIn, Origin, Placed};
pub use self::peer::{NoPeer, Peer};
pub use self::questions::Questions;
pub use self::rlimits::{Rlimit, RlimitValue};
pub use self::security::{Landlock, LandlockPaths, Security};
use self::text::Names;
pub use self::text::{Piece, Text};
use self::view::View;
pub use crate::egress::Protocol;
pub use crate::manifest::Variable;
use crate::manifest::nearest::nearest;
use crate::manifest::{Manifest, sections};
use crate::problem::{ENOUGH, Problem, Problems, Severity, codes};

/// One job of a manifest, with everything that its chain of profiles says.
///
/// # Errors
/// Everything that is wrong with the job and its chain, in the order of their places. Warnings alone
/// are no error: they stand in [`Job::warnings`].
pub fn resolve(manifest: &Manifest, job: &str) -> Result<Job, Problems> {
    Resolver::new(manifest).resolve(job)
}

/// Resolves one job of a manifest after the other: what several of them inherit is put together once.
pub struct Resolver<'m> {
    manifest: &'m Manifest,
    inherited: Inherited<'m>,
}

impl<'m> Resolver<'m> {
    /// For the jobs of this manifest.
    pub fn new(manifest: &'m Manifest) -> Resolver<'m> {
        Resolver {
            manifest,
            inherited: Inherited::default(),
        }
    }

    /// The same as [`resolve`].
    ///
    /// # Errors
    /// Those of [`resolve`].
    pub fn resolve(&mut self, job: &str) -> Result<Job, Problems> {
        let manifest = self.manifest;
        if !manifest.jobs.contains_key(job) {
            return Err(unknown_job(manifest, job).into());
        }
        let (resolved, mut problems) = self.resolved(job);
        problems.extend(chain::redefined(manifest));
        match resolved {
            Some(job) => Problems::none_or(problems, job),
            None => Err(Problems::from_found(problems).unwrap_or_else(|| {
                let message = format!("the job `{job}` cannot be read");
                Problem::new(codes::WRONG_TYPE, manifest.job_span(job), message, "").into()
            })),
        }
    }

    /// The job as far as it can be read, and everything wrong with it.
    fn resolved(&mut self, name: &str) -> (Option<Job>, Vec<Problem>) {
        let mut problems = Vec::new();
        let job = self.read(name, &mut problems);
        let warnings = problems
            .iter()
            .filter(|problem| problem.severity == Severity::Warning);
        let warnings = warnings.cloned().collect();
        (job.map(|job| Job { warnings, ..job }), problems)
    }

    fn read(&mut self, name: &str, problems: &mut Vec<Problem>) -> Option<Job> {
        let manifest = self.manifest;
        let (name, node) = manifest.jobs.get_key_value(name)?;
        let written = node.value.as_table()?;
        let layers = chain::of_job(manifest, name, problems)?;
        let workspace = job::workspace(written, &layers, problems);
        let merged = match &workspace {
            None => self.inherited.merge(&layers, sections::job()),
            // This job's alone.
            Some(workspace) => {
                let mut layers = layers;
                job::place_workspace(&mut layers, Some(workspace));
                merge::merge(&layers, sections::job())
            }
        };
        let (view, names) = (View::of(&merged), Names { manifest, job: name });
        let hold = held(view, names, problems);
        Some(job::read(view, written, names, hold, problems))
    }
}

fn unknown_job(manifest: &Manifest, job: &str) -> Problem {
    let help = match nearest(job, manifest.jobs()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if manifest.jobs.is_empty() => "it has none; write a table `[job.NAME]`".to_owned(),
        None => format!("its jobs are {}", manifest.jobs().collect::<Vec<_>>().join(", ")),
    };
    let message = format!("the manifest has no job `{job}`");
    Problem::new(codes::UNKNOWN_JOB, None, message, help)
}

/// All jobs of a manifest, by name.
///
/// # Errors
/// Everything that is wrong with any job, and with any profile that no job uses.
pub fn resolve_all(manifest: &Manifest) -> Result<BTreeMap<String, Job>, Problems> {
    let (jobs, problems) = everything(manifest);
    Problems::none_or(problems, jobs)
}

/// Everything that can be said about a manifest's text without a host or an image: mistakes of the
/// text, of its jobs and of its profiles, and warnings.
///
/// ```
/// let found = ringfence::profile::check("schema = 1\n[job.x]\nimage = \"host\"\nmemory = \"1GiB\"\n");
/// assert_eq!(found.expect("a mistake").to_string(), "[RF0101] unknown key `memory`; `memory` belongs in the table `limits`");
/// ```
pub fn check(text: &str) -> Option<Problems> {
    let (manifest, mut problems) = crate::manifest::parse_recoverable(text);
    if let Some(manifest) = manifest {
        problems.extend(everything(&manifest).1);
        if manifest.jobs.is_empty() && problems.is_empty() {
            let help = "write a table `[job.NAME]`";
            problems.push(Problem::new(
                codes::UNKNOWN_JOB,
                None,
                "the manifest has no job",
                help,
            ));
        }
    }
    Problems::from_found(problems)
}

fn everything(manifest: &Manifest) -> (BTreeMap<String, Job>, Vec<Problem>) {
    let mut problems: Vec<_> = chain::redefined(manifest).collect();
    let (mut jobs, mut resolver) = (BTreeMap::new(), Resolver::new(manifest));
    for name in manifest.jobs() {
        let (job, found) = resolver.resolved(name);
        problems.extend(found);
        jobs.extend(job.map(|job| (name.to_owned(), job)));
        for variant in manifest.variants(name) {
            problems.extend(Resolver::new(&variant.manifest).resolved(name).1);
        }
    }
    let parents = chain::parents(manifest);
    for name in manifest.profiles() {
        if problems.len() >= ENOUGH {
            break;
        }
        let layers = chain::of_profile(manifest, name, &mut problems);
        // What others build on is judged with what they add to it.
        if let Some(layers) = layers.filter(|_| !parents.contains(name)) {
            let merged = merge::merge(&layers, sections::job());
            held(View::of(&merged), Names { manifest, job: "job" }, &mut problems);
        }
    }
    (jobs, problems)
}

fn held(view: View<'_, '_>, names: Names<'_>, problems: &mut Vec<Problem>) -> Profile {
    let hold = Profile::read(view, names, problems);
    problems.extend(contradiction::find(&hold));
    hold
}
