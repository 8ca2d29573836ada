//! `ringfence plan`: what a run would do, as text, JSON or TOML; stored, or compared with what is stored.

use std::path::{Path, PathBuf};

use super::args::{Format, Plan as Args};
use super::explain;
use super::failure::Failure;
use super::image::{self, Reach};
use super::lock::Pins;
use super::print;
use super::project::Project;
use super::settings::Settings;
use super::survey::survey;
use crate::host::facts::Facts;
use crate::plan::{self, Request};
use crate::profile::{self, Explanation};

/// More plans than anybody reviews; a matrix multiplies.
const MOST: usize = 20_000;

/// What is planned: a job, as the manifest has it or as a cell of its matrix has it.
struct Cell {
    /// The beginning of its file's name: `JOB`, `JOB+IMAGE+PROFILE`.
    name: String,
    job: String,
    /// The manifest in which the job is so; none: as it stands.
    variant: Option<Project>,
}

/// A plan as it is printed, with the name of its file: `JOB` or `JOB@HOST`. Of ten thousand the texts alone are kept.
struct Named {
    name: String,
    text: String,
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
    let cells = match args.all {
        true => cells(&project),
        false => {
            let job = project.job_name(args.job.as_deref())?.to_owned();
            vec![Cell {
                name: job.clone(),
                job,
                variant: None,
            }]
        }
    };
    let plans = plans(&args, &project, &cells)?;
    match (&args.write, &args.check) {
        (Some(folder), _) => write(folder, &plans),
        (None, Some(folder)) => compare(folder, &plans),
        (None, None) => {
            for (index, named) in plans.iter().enumerate() {
                let gap = if index > 0 { "\n" } else { "" };
                print(gap)?;
                print(&named.text)?;
            }
            Ok(0)
        }
    }
}

/// Every job, and of those in the matrix every cell.
fn cells(project: &Project) -> Vec<Cell> {
    let of_job = |job: &str| {
        let variants = project.manifest.variants(job);
        let plain = variants.is_empty().then(|| Cell {
            name: job.to_owned(),
            job: job.to_owned(),
            variant: None,
        });
        let variants = variants.into_iter().map(|variant| Cell {
            name: variant.name,
            job: job.to_owned(),
            variant: Some(project.with(variant.manifest)),
        });
        plain.into_iter().chain(variants).collect::<Vec<_>>()
    };
    project.manifest.jobs().flat_map(of_job).collect()
}

/// Every cell for every host; all refusals are said together.
fn plans(args: &Args, project: &Project, cells: &[Cell]) -> Result<Vec<Named>, Failure> {
    let settings = Settings::load()?;
    let pins = Pins::of(project, false)?;
    let hosts = hosts(args, project)?;
    let count = cells.len().saturating_mul(hosts.len().max(1));
    if count > MOST {
        return Err(Failure::text(format!(
            "{count} plans; at most {MOST} are made at once"
        )));
    }
    let request = Request {
        args: (!args.args.is_empty() && args.adhoc.image.is_none()).then(|| args.args.clone()),
        tty: args.tty,
    };
    // A folder of plans is for people.
    let stored = args.write.is_some() || args.check.is_some();
    let format = if stored { Format::Text } else { args.format };
    let mut plans = Vec::new();
    let mut refusals = Vec::new();
    for cell in cells {
        let project = cell.variant.as_ref().unwrap_or(project);
        let job = project.job(&cell.job)?;
        // Of other hosts this one knows nothing.
        let here = match hosts.first() {
            Some(_) => None,
            None => Some(survey(&settings, Some((project, &job)))?.facts),
        };
        let any = here
            .as_ref()
            .or(hosts.first().map(|(_, facts)| facts))
            .ok_or_else(|| Failure::text("no host"))?;
        let found = image::find(
            &job.image.value,
            project,
            pins.as_ref(),
            &settings,
            any,
            Reach::Lock,
        )?;
        let explanation = match args.lines {
            true => profile::explain(&project.manifest, &cell.job).ok(),
            false => None,
        };
        let asked = hosts
            .iter()
            .map(|(stem, facts)| (format!("{}@{stem}", cell.name), facts));
        for (file, facts) in here.iter().map(|facts| (cell.name.clone(), facts)).chain(asked) {
            match plan::plan(&job, facts, &found.image, &request) {
                Ok(plan) => plans.push(Named {
                    name: file,
                    text: match (format, &explanation) {
                        (Format::Text, Some(explanation)) => {
                            plan.to_sheet(|keys| lines(keys, explanation, project))
                        }
                        (Format::Text, None) => plan.to_string(),
                        (Format::Json, _) => plan.to_json(),
                        (Format::Toml, _) => plan.to_toml(),
                    },
                }),
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

/// The hosts of `--facts`, else those of the manifest's matrix; each by its file's stem.
fn hosts(args: &Args, project: &Project) -> Result<Vec<(String, Facts)>, Failure> {
    let of_matrix = || -> Vec<PathBuf> {
        let hosts = project.manifest.matrix_hosts().filter(|_| args.all);
        hosts.map(|host| project.dir.join(host)).collect()
    };
    let paths = if args.facts.is_empty() {
        of_matrix()
    } else {
        args.facts.clone()
    };
    let host = |path: &PathBuf| {
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok((stem, read_facts(path)?))
    };
    paths.iter().map(host).collect()
}

/// Where the manifest, or a built-in profile, says what a step does.
fn lines(keys: &[String], explanation: &Explanation, project: &Project) -> Vec<String> {
    if keys.is_empty() {
        return vec!["always".to_owned()];
    }
    let line = |value: &profile::Explained| {
        let setting = value.holds().filter(|setting| !setting.removes)?;
        Some(format!("{}  {}", value.path(), explain::place(setting, project)))
    };
    let found: Vec<String> = keys
        .iter()
        .flat_map(|key| explanation.under(key))
        .filter_map(line)
        .collect();
    match found.is_empty() {
        // What no key writes comes with the image.
        true => explanation.under("image").filter_map(line).collect(),
        false => found,
    }
}

fn read_facts(path: &Path) -> Result<Facts, Failure> {
    let failed = |cause: String| Failure::text(format!("facts {}: {cause}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(crate::launch::io_words(&error)))?;
    Facts::from_toml(&text).map_err(|error| failed(error.to_string()))
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
    let file = |named: &Named| (format!("{}.plan.txt", named.name), named.text.clone());
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
            let diff = similar::TextDiff::from_lines(&stored, &text);
            let mut unified = diff.unified_diff();
            print(
                &unified
                    .context_radius(3)
                    .header(&path.display().to_string(), "now")
                    .to_string(),
            )?;
        }
    }
    Ok(u8::from(differs))
}
