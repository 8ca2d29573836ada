//! `ringfence check`: every problem in the manifest.

use super::args::Check;
use super::failure::Failure;
use super::project::Project;
use super::say;
use crate::problem::Problems;
use crate::profile;

/// Reads the manifest and resolves every job and profile; silent when nothing is wrong.
pub(super) fn check(args: &Check) -> Result<u8, Failure> {
    let project = Project::open(args.file.file.as_deref())?;
    let Some(problems) = profile::check(project.text()) else {
        return Ok(0);
    };
    let rendered = project.render(&problems);
    if Problems::has_errors(&problems) {
        return Err(Failure::Manifest(rendered));
    }
    say(&rendered);
    Ok(0)
}
