//! `ringfence plan`: what a run would do, as text, JSON or TOML; stored, or compared with what is stored.

mod folder;

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::args::{Format, Plan as Args};
use super::explain;
use super::failure::Failure;
use super::image::{self, Reach};
use super::lock::Pins;
use super::print;
use super::project::Project;
use super::settings::Settings;
use super::survey::{Asked, survey};
use crate::host::facts::Facts;
use crate::plan::{self, Request};
use crate::profile::{self, Explanation, Job, Resolver};
use crate::seccomp::Arch;

/// More plans than anybody reviews; a matrix multiplies.
const MOST: usize = 20_000;

/// What is planned: a job, as the manifest has it or as a cell of its matrix has it.
struct Cell {
    /// The beginning of its file's name: `JOB`, `JOB+IMAGE+PLATFORM+PROFILE`.
    name: String,
    job: String,
    /// The processor that takes the place of the host's.
    arch: Option<Arch>,
    /// The manifest in which the job is so; none: as it stands.
    variant: Option<Project>,
}

/// Plans as they are printed, one below the other: of ten thousand the text alone is kept.
#[derive(Default)]
struct Sheets {
    text: String,
    /// The name of each one's file, `JOB` or `JOB@HOST`, and where it stands.
    named: Vec<(String, Range<usize>)>,
}

impl Sheets {
    /// Each plan's name and text.
    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let each = self.named.iter();
        each.map(|(name, at)| (name.as_str(), &self.text[at.clone()]))
    }
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
                arch: None,
                variant: None,
            }]
        }
    };
    let plans = plans(&args, &project, &cells)?;
    match (&args.write, &args.check) {
        (Some(folder), _) => folder::write(folder, &plans),
        (None, Some(folder)) => folder::compare(folder, &plans),
        (None, None) => {
            print(&plans.text)?;
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
            arch: None,
            variant: None,
        });
        let variants = variants.into_iter().map(|variant| Cell {
            name: variant.name,
            job: job.to_owned(),
            arch: variant.arch,
            variant: Some(project.with(variant.manifest)),
        });
        plain.into_iter().chain(variants).collect::<Vec<_>>()
    };
    project.manifest.jobs().flat_map(of_job).collect()
}

/// Every cell for every host; all refusals are said together.
fn plans(args: &Args, project: &Project, cells: &[Cell]) -> Result<Sheets, Failure> {
    let settings = Settings::load()?;
    let pins = Pins::of(project, false)?;
    let mut hosts = hosts(args, project)?;
    let count = cells.len().saturating_mul(hosts.len().max(1));
    if count > MOST {
        return Err(Failure::text(format!(
            "{count} plans; at most {MOST} are made at once"
        )));
    }
    let mut resolver = Resolver::new(&project.manifest);
    let mut resolve = |cell: &Cell| match &cell.variant {
        Some(variant) => variant.job(&cell.job),
        None => project.job_by(&mut resolver, &cell.job),
    };
    if hosts.is_empty() {
        // What all of them ask, at once. Of other hosts this one knows nothing.
        let mut asked = Asked::default();
        for cell in cells {
            asked.add(&resolve(cell)?);
        }
        hosts.push((None, survey(&settings, Some((project, asked)))?.facts));
    }
    let request = Request {
        args: (!args.args.is_empty() && args.adhoc.image.is_none()).then(|| args.args.clone()),
        tty: args.tty,
    };
    // A folder of plans is for people.
    let stored = args.write.is_some() || args.check.is_some();
    let format = if stored { Format::Text } else { args.format };
    let mut images = Images {
        settings: &settings,
        pins: pins.as_ref(),
        found: BTreeMap::new(),
    };
    let mut plans = Sheets::default();
    let mut names = BTreeSet::new();
    let mut refusals = Vec::new();
    for cell in cells {
        let job = resolve(cell)?;
        let project = cell.variant.as_ref().unwrap_or(project);
        let explanation = match args.lines {
            true => profile::explain(&project.manifest, &cell.job).ok(),
            false => None,
        };
        for (host, facts) in &hosts {
            let name = match host {
                Some(host) => format!("{}@{host}", cell.name),
                None => cell.name.clone(),
            };
            if !names.insert(name.clone()) {
                return Err(Failure::text(format!(
                    "two plans would be called {name}; list each thing once in `[matrix]` and `--facts`, and give files \
                     of facts different names"
                )));
            }
            let facts = cell.facts(facts);
            let image = images.find(&job, project, &facts)?;
            match plan::plan(&job, &facts, image, &request) {
                Ok(plan) => {
                    let text = &mut plans.text;
                    if !plans.named.is_empty() {
                        text.push('\n');
                    }
                    let start = text.len();
                    match (format, &explanation) {
                        (Format::Text, Some(explanation)) => {
                            text.push_str(&plan.to_sheet(|keys| lines(keys, explanation, project)));
                        }
                        (Format::Text, None) => write!(text, "{plan}").expect("a string takes everything"),
                        (Format::Json, _) => text.push_str(&plan.to_json()),
                        (Format::Toml, _) => text.push_str(&plan.to_toml()),
                    }
                    let end = text.len();
                    plans.named.push((name, start..end));
                }
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

impl Cell {
    /// A host as the cell has it.
    fn facts<'a>(&self, host: &'a Facts) -> Cow<'a, Facts> {
        match self.arch {
            Some(arch) if arch != host.arch => Cow::Owned(Facts { arch, ..host.clone() }),
            _ => Cow::Borrowed(host),
        }
    }
}

/// The images of the plans: each is looked for once, however many jobs run it.
struct Images<'a> {
    settings: &'a Settings,
    pins: Option<&'a Pins>,
    found: BTreeMap<(String, Arch), image::Found>,
}

impl Images<'_> {
    fn find(&mut self, job: &Job, project: &Project, facts: &Facts) -> Result<&plan::Image, Failure> {
        let source = &job.image.value;
        let found = match self.found.entry((source.to_string(), facts.arch)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(image::find(
                source,
                project,
                self.pins,
                self.settings,
                facts,
                Reach::Lock,
            )?),
        };
        Ok(&found.image)
    }
}

/// The hosts of `--facts`, else those of the manifest's matrix, each with its file's stem; none means this one.
fn hosts(args: &Args, project: &Project) -> Result<Vec<(Option<String>, Facts)>, Failure> {
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
        Ok((Some(stem), read_facts(path)?))
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
