//! `[ceiling]` of the host's config.toml, held against every job that a command resolves.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::failure::Failure;
use super::project::Project;
use super::settings::config_files;
use super::survey::values;
use crate::ceiling::{Ceiling, Check};
use crate::problem::Problems;
use crate::profile::{self, Job, Text};

/// The ceiling of one config.toml, with its text for messages.
#[derive(Debug)]
pub(super) struct HostCeiling {
    file: String,
    text: String,
    ceiling: Ceiling,
}

/// What of a config.toml is read here; the rest is the settings'.
#[derive(Deserialize)]
struct ConfigFile {
    ceiling: Option<Ceiling>,
}

/// The ceilings of this host. All of them hold: a user's own file does not lift the administrator's.
///
/// # Errors
/// When one cannot be read: its place and what is wrong there.
pub(super) fn load() -> Result<Vec<HostCeiling>, Failure> {
    let mut found = Vec::new();
    for (path, text) in config_files()? {
        let file = path.display().to_string();
        let failed = |error: toml::de::Error| Failure::text(format!("config {file}: {error}"));
        let config: ConfigFile = toml::from_str(&text).map_err(failed)?;
        found.extend(config.ceiling.map(|ceiling| HostCeiling { file, text, ceiling }));
    }
    Ok(found)
}

/// Refuses a job that exceeds one of the ceilings.
///
/// # Errors
/// Everything in which it does, each with both lines.
pub(super) fn hold(ceilings: &[HostCeiling], project: &Project, job: &Job) -> Result<(), Failure> {
    if ceilings.is_empty() {
        return Ok(());
    }
    let failed = |problems: Problems| Failure::Manifest(project.render(&problems));
    let explanation = profile::explain(&project.manifest, &job.name).map_err(failed)?;
    let variables = values(job);
    let real = |text: &Text| {
        let expanded = text.expand(project.dir.to_str()?, |name| {
            variables.get(name).cloned().flatten()
        });
        real_path(&project.dir.join(expanded.ok()?))
    };
    let exceeded = ceilings.iter().filter_map(|host| {
        let check = Check {
            job,
            explanation: &explanation,
            file: &host.file,
            text: &host.text,
        };
        host.ceiling.exceeded(&check, real)
    });
    let found: Vec<_> = exceeded.flatten().collect();
    match Problems::from_found(found) {
        Some(problems) => Err(failed(problems)),
        None => Ok(()),
    }
}

/// Where a path leads, links followed; of one that is not there, where it would be. Nothing where that cannot be told.
fn real_path(path: &Path) -> Option<String> {
    for existing in path.ancestors() {
        let Ok(real) = existing.canonicalize() else {
            continue;
        };
        let rest = path.strip_prefix(existing).ok()?;
        // A way up from what is not there leads anywhere once it is.
        let climbs = rest
            .components()
            .any(|part| part == std::path::Component::ParentDir);
        let whole: PathBuf = real.join(rest);
        return whole.to_str().filter(|_| !climbs).map(str::to_owned);
    }
    None
}
