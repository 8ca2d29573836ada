//! `ringfence diff`: what a change does to the sandbox.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::args::{Diff as Args, DiffFormat};
use super::failure::Failure;
use super::print;
use super::project::Project;
use crate::diff::{self, Change, Direction, Fate, JobDiff};
use crate::manifest;
use crate::plan::Plan;
use crate::profile::Origin;

/// One of the two things that are compared.
enum Side {
    /// A manifest.
    Manifest(Box<Project>),
    /// Plans as data.
    Plans(Vec<Plan>),
}

/// Compares; 1 when something is looser and that is denied.
pub(super) fn diff(args: &Args) -> Result<u8, Failure> {
    let (old, new) = (Side::read(&args.old)?, Side::read(&args.new)?);
    let jobs = match (&old, &new) {
        (Side::Manifest(old), Side::Manifest(new)) => manifests(old, new)?,
        (Side::Plans(old), Side::Plans(new)) => plans(old, new),
        _ => {
            return Err(Failure::text(format!(
                "{} is a {} and {} a {}; compare two of a kind",
                args.old,
                old.kind(),
                args.new,
                new.kind()
            )));
        }
    };
    let place = |change: &Change| place(change, &old, &new);
    print(&match args.format {
        DiffFormat::Text => diff::text(&jobs, place),
        DiffFormat::Markdown => diff::markdown(&jobs, place),
        DiffFormat::Json => format!("{:#}\n", as_json(&jobs, place)),
    })?;
    let mut changes = jobs.iter().flat_map(|job| &job.changes);
    let looser = changes.any(|change| change.direction == Direction::Looser);
    Ok(u8::from(args.deny_looser && looser))
}

impl Side {
    fn read(name: &str) -> Result<Side, Failure> {
        let text = match name.contains(':') && !Path::new(name).exists() {
            true => of_revision(name)?,
            false => std::fs::read_to_string(name)
                .map_err(|error| Failure::text(format!("{name}: {}", crate::launch::io_words(&error))))?,
        };
        let is_plan = ["{", "plan "]
            .iter()
            .any(|start| text.trim_start().starts_with(start));
        if is_plan {
            let plans = Plan::read(&text).map_err(|error| Failure::text(format!("{name}: {error}")))?;
            return Ok(Side::Plans(plans));
        }
        // Nothing is looked up beside it: a revision has no folder.
        let project = Project::parse(name.to_owned(), false, PathBuf::from("/"), text)?;
        Ok(Side::Manifest(Box::new(project)))
    }

    fn kind(&self) -> &'static str {
        match self {
            Side::Manifest(_) => "manifest",
            Side::Plans(_) => "plan",
        }
    }
}

/// A file of a git revision, `REV:PATH` as git(1) writes it: with `./` from this folder, else from the top.
fn of_revision(name: &str) -> Result<String, Failure> {
    let failed = |cause: &str| Failure::text(format!("{name}: {cause}"));
    if name.starts_with('-') {
        return Err(failed("neither a file nor a revision"));
    }
    let out = Command::new("git")
        .args(["cat-file", "blob", name])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&format!("git: {}", crate::launch::io_words(&error))))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        return Err(failed(said.lines().next().unwrap_or("git says nothing").trim()));
    }
    if out.stdout.len() > manifest::MAX_BYTES {
        return Err(failed("larger than a manifest may be"));
    }
    String::from_utf8(out.stdout).map_err(|_| failed("not UTF-8"))
}

fn manifests(old: &Project, new: &Project) -> Result<Vec<JobDiff>, Failure> {
    names(old.manifest.jobs(), new.manifest.jobs())
        .into_iter()
        .map(|(job, fate)| {
            let changes = match fate {
                Fate::Kept => diff::jobs(&old.resolve(&job)?, &new.resolve(&job)?),
                Fate::New => diff::new_job(&new.resolve(&job)?),
                Fate::Gone => Vec::new(),
            };
            Ok(JobDiff { job, fate, changes })
        })
        .collect()
}

fn plans(old: &[Plan], new: &[Plan]) -> Vec<JobDiff> {
    let find = |plans: &[Plan], job: &str| plans.iter().find(|plan| plan.job == job).cloned();
    let jobs = |plans: &[Plan]| plans.iter().map(|plan| plan.job.clone()).collect::<Vec<_>>();
    let (olds, news) = (jobs(old), jobs(new));
    names(olds.iter().map(String::as_str), news.iter().map(String::as_str))
        .into_iter()
        .map(|(job, fate)| {
            let changes = match (find(old, &job), find(new, &job)) {
                (Some(old), Some(new)) => diff::plans(&old, &new),
                (None, Some(_)) => vec![Change {
                    key: "job".to_owned(),
                    direction: Direction::Unknown,
                    reason: "there is no old plan to compare it with".to_owned(),
                    origin: None,
                    in_old: false,
                }],
                (_, None) => Vec::new(),
            };
            JobDiff { job, fate, changes }
        })
        .collect()
}

/// The jobs of both sides, sorted.
fn names<'a>(old: impl Iterator<Item = &'a str>, new: impl Iterator<Item = &'a str>) -> Vec<(String, Fate)> {
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) = (old.collect(), new.collect());
    let fate = |name: &str| match (old.contains(name), new.contains(name)) {
        (true, true) => Fate::Kept,
        (false, _) => Fate::New,
        (true, false) => Fate::Gone,
    };
    old.union(&new)
        .map(|name| ((*name).to_owned(), fate(name)))
        .collect()
}

/// `FILE:LINE:COLUMN`, or the built-in profile; empty where a plan has no lines.
fn place(change: &Change, old: &Side, new: &Side) -> String {
    let side = if change.in_old { old } else { new };
    match (&change.origin, side) {
        (Some(Origin::Manifest { span, .. }), Side::Manifest(project)) => project.place(span.start),
        (Some(Origin::BuiltIn(profile)), _) => format!("built-in {}", profile.name()),
        _ => String::new(),
    }
}

fn as_json(jobs: &[JobDiff], place: impl Fn(&Change) -> String) -> Value {
    let change = |change: &Change| {
        json!({
            "key": change.key,
            "direction": change.direction,
            "reason": change.reason,
            "at": place(change),
        })
    };
    let job = |diff: &JobDiff| {
        let fate = match diff.fate {
            Fate::Kept => "kept",
            Fate::New => "new",
            Fate::Gone => "gone",
        };
        json!({
            "job": diff.job,
            "fate": fate,
            "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
        })
    };
    Value::Array(jobs.iter().map(job).collect())
}
