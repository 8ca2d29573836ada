//! `ringfence plan`: what a run would do, as text, JSON or TOML; stored, or compared with what is stored.

use std::path::Path;

use super::args::{Format, Plan as Args};
use super::failure::Failure;
use super::image::{self, Reach};
use super::lock::Pins;
use super::print;
use super::project::Project;
use super::settings::Settings;
use super::survey::survey;
use crate::host::facts::Facts;
use crate::plan::{self, Plan, Request};

/// A plan with the name of its file: `JOB` or `JOB@HOST`.
struct Named {
    name: String,
    plan: Plan,
}

/// Plans what is asked for and prints, stores or compares it.
pub(super) fn plan(args: Args) -> Result<u8, Failure> {
    let project = match &args.adhoc.image {
        Some(image) => Project::of_image(&args.adhoc, image, &args.args)?,
        None => Project::open(args.file.file.as_deref())?,
    };
    if args.adhoc.save {
        print(project.text())?;
        return Ok(0);
    }
    let names: Vec<&str> = if args.all {
        project.manifest.jobs().collect()
    } else {
        vec![project.job_name(args.job.as_deref())?]
    };
    let plans = plans(&args, &project, &names)?;
    match (&args.write, &args.check) {
        (Some(folder), _) => write(folder, &plans),
        (None, Some(folder)) => compare(folder, &plans),
        (None, None) => {
            for (index, named) in plans.iter().enumerate() {
                let gap = if index > 0 { "\n" } else { "" };
                print(&format!("{gap}{}", rendered(&named.plan, args.format)))?;
            }
            Ok(0)
        }
    }
}

/// Every job for every host; all refusals are said together.
fn plans(args: &Args, project: &Project, names: &[&str]) -> Result<Vec<Named>, Failure> {
    let settings = Settings::load()?;
    let pins = Pins::of(project, false)?;
    let mut hosts = Vec::new();
    for path in &args.facts {
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        hosts.push((stem, read_facts(path)?));
    }
    let request = Request {
        args: (!args.args.is_empty() && args.adhoc.image.is_none()).then(|| args.args.clone()),
        tty: args.tty,
    };
    let mut plans = Vec::new();
    let mut refusals = Vec::new();
    for name in names {
        let job = project.job(name)?;
        let this_host = survey(&settings, Some((project, &job)))?.facts;
        let found = image::find(
            &job.image.value,
            project,
            pins.as_ref(),
            &settings,
            &this_host,
            Reach::Lock,
        )?;
        let here = hosts.is_empty().then_some(this_host);
        let asked = hosts
            .iter()
            .map(|(stem, facts)| (format!("{name}@{stem}"), facts));
        for (file, facts) in here.iter().map(|facts| ((*name).to_owned(), facts)).chain(asked) {
            match plan::plan(&job, facts, &found.image, &request) {
                Ok(plan) => plans.push(Named { name: file, plan }),
                Err(problems) => refusals.push(project.render(&problems)),
            }
        }
    }
    if refusals.is_empty() {
        Ok(plans)
    } else {
        Err(Failure::Manifest(refusals.join("\n")))
    }
}

fn read_facts(path: &Path) -> Result<Facts, Failure> {
    let failed = |cause: String| Failure::text(format!("facts {}: {cause}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(crate::launch::io_words(&error)))?;
    Facts::from_toml(&text).map_err(|error| failed(error.to_string()))
}

fn rendered(plan: &Plan, format: Format) -> String {
    match format {
        Format::Text => plan.to_string(),
        Format::Json => plan.to_json(),
        Format::Toml => plan.to_toml(),
    }
}

/// The index of a folder of plans: which there are, and of which format.
fn index(plans: &[Named]) -> String {
    let mut text = format!(
        "# Written by `ringfence plan --write`.\nplan = {}\nfiles = [\n",
        plan::VERSION
    );
    for named in plans {
        text += &format!("    \"{}.plan.txt\",\n", named.name);
    }
    text + "]\n"
}

fn files(plans: &[Named]) -> Vec<(String, String)> {
    let file = |named: &Named| (format!("{}.plan.txt", named.name), named.plan.to_string());
    plans
        .iter()
        .map(file)
        .chain([("index.toml".to_owned(), index(plans))])
        .collect()
}

fn write(folder: &Path, plans: &[Named]) -> Result<u8, Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::text(format!(
            "write {}: {}",
            path.display(),
            crate::launch::io_words(&error)
        ))
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    for (name, text) in files(plans) {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(0)
}

/// Compares with the stored plans; 1 when one differs, is missing, or is left over.
fn compare(folder: &Path, plans: &[Named]) -> Result<u8, Failure> {
    let mut differs = false;
    for (name, text) in files(plans) {
        let path = folder.join(&name);
        let stored = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            stored => stored.map_err(|error| {
                Failure::text(format!(
                    "read {}: {}",
                    path.display(),
                    crate::launch::io_words(&error)
                ))
            })?,
        };
        if stored != text {
            differs = true;
            print(&format!(
                "--- {}\n+++ now\n{}",
                path.display(),
                diff(&stored, &text)
            ))?;
        }
    }
    Ok(u8::from(differs))
}

/// The lines that differ, old ones marked `-` and new ones `+`, in the order of a longest common subsequence.
fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    // common[i][j]: how many lines old[i..] and new[j..] have in common.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            text += &format!("-{}\n", old[i]);
            i += 1;
        } else {
            text += &format!("+{}\n", new[j]);
            j += 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_what_went_and_what_came() {
        assert_eq!(diff("a\nb\nc\n", "a\nB\nc\nd\n"), "-b\n+B\n+d\n");
        assert_eq!(diff("", "a\n"), "+a\n");
        assert_eq!(diff("a\n", "a\n"), "");
    }
}
