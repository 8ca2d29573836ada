//! The manifest at hand: found, read, resolved.

use std::cell::OnceCell;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::args::Adhoc;
use super::ceiling::{self, HostCeiling};
use super::colour;
use super::failure::Failure;
use crate::manifest::{self, Manifest};
use crate::problem::Problems;
use crate::profile::{self, Job, Resolver};

/// The name of a manifest that nobody has to name.
const DEFAULT: &str = "ringfence.toml";

/// What most manifests fit into, in bytes.
const USUAL: usize = 16 << 10;

/// A manifest and where it stands.
pub(super) struct Project {
    /// Its path as messages show it.
    name: String,
    /// Whether it stands in a file, and not on the command line.
    in_file: bool,
    /// The folder that holds it, absolute.
    pub(super) dir: PathBuf,
    /// Its text.
    text: Rc<str>,
    /// What it says.
    pub(super) manifest: Manifest,
    /// What this host allows at most; read when the first job is resolved.
    ceilings: Rc<OnceCell<Vec<HostCeiling>>>,
}

impl Project {
    /// Reads the manifest of `-f`, else `ringfence.toml` here or in a parent folder.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or it is wrong: every problem in it.
    pub(super) fn open(file: Option<&Path>) -> Result<Project, Failure> {
        let path = match file {
            Some(path) => path.to_owned(),
            None => find()?,
        };
        let name = path.display().to_string();
        let text = read(&path).map_err(|cause| Failure::text(format!("manifest {name}: {cause}")))?;
        let full =
            std::path::absolute(&path).map_err(|error| Failure::text(format!("manifest {name}: {error}")))?;
        let dir = full.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        Project::parse(name, true, dir, text)
    }

    /// The manifest that `run --image` stands for: one job, in the current folder.
    ///
    /// # Errors
    /// When a word is wrong, as though it stood in a manifest.
    pub(super) fn of_image(adhoc: &Adhoc, image: &str, args: &[String]) -> Result<Project, Failure> {
        let dir =
            std::env::current_dir().map_err(|error| Failure::text(format!("current folder: {error}")))?;
        Project::parse("--image".to_owned(), false, dir, written(adhoc, image, args))
    }

    /// A manifest's text, called `name` in messages, as though it stood in `dir`.
    ///
    /// # Errors
    /// Every problem in it.
    pub(super) fn parse(name: String, in_file: bool, dir: PathBuf, text: String) -> Result<Project, Failure> {
        match manifest::parse(&text) {
            Ok(manifest) => Ok(Project {
                name,
                in_file,
                dir,
                text: text.into(),
                manifest,
                ceilings: Rc::default(),
            }),
            Err(problems) => Err(Failure::Manifest(problems.render(&name, &text, colour()))),
        }
    }

    /// The same text with another reading of it: a cell of its matrix.
    pub(super) fn with(&self, manifest: Manifest) -> Project {
        Project {
            name: self.name.clone(),
            in_file: self.in_file,
            dir: self.dir.clone(),
            text: Rc::clone(&self.text),
            manifest,
            ceilings: Rc::clone(&self.ceilings),
        }
    }

    /// The text of the manifest.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The lock that stands beside the manifest: `ringfence.lock`, or `NAME.lock` for `NAME.toml`. None without a file.
    pub(super) fn lock_path(&self) -> Option<PathBuf> {
        self.in_file.then(|| Path::new(&self.name).with_extension("lock"))
    }

    /// The problems beside their lines.
    pub(super) fn render(&self, problems: &Problems) -> String {
        problems.render(&self.name, &self.text, colour())
    }

    /// The name of the job that is meant: the one that is named, else the only one.
    ///
    /// # Errors
    /// When none is named and there are several, or none at all.
    pub(super) fn job_name<'a>(&'a self, named: Option<&'a str>) -> Result<&'a str, Failure> {
        let mut jobs = self.manifest.jobs();
        match (named, jobs.len()) {
            (Some(name), _) => Ok(name),
            (None, 1) => Ok(jobs.next().unwrap_or_default()),
            (None, 0) => Err(Failure::text(format!(
                "{}: it has no job; add a table `[job.NAME]`",
                self.name
            ))),
            (None, _) => {
                let names: Vec<_> = jobs.collect();
                Err(Failure::text(format!(
                    "{}: name one of its jobs: {}",
                    self.name,
                    names.join(", ")
                )))
            }
        }
    }

    /// A job with everything in its place. Its warnings are for `check`; a plan repeats what matters as notices.
    ///
    /// # Errors
    /// Every problem of the job, and of the profiles it inherits; and everything in which it exceeds what this host
    /// allows.
    pub(super) fn job(&self, name: &str) -> Result<Job, Failure> {
        self.job_by(&mut Resolver::new(&self.manifest), name)
    }

    /// The same, one of many.
    ///
    /// # Errors
    /// Those of [`Project::job`].
    pub(super) fn job_by(&self, resolver: &mut Resolver<'_>, name: &str) -> Result<Job, Failure> {
        let resolved = resolver.resolve(name);
        let job = resolved.map_err(|problems| Failure::Manifest(self.render(&problems)))?;
        if self.ceilings.get().is_none() {
            // Nobody else can have set it meanwhile.
            drop(self.ceilings.set(ceiling::load()?));
        }
        ceiling::hold(self.ceilings.get().map_or(&[], Vec::as_slice), self, &job)?;
        Ok(job)
    }

    /// The same whatever this host allows, for a command that neither runs nor plans anything.
    ///
    /// # Errors
    /// Every problem of the job, and of the profiles it inherits.
    pub(super) fn resolve(&self, name: &str) -> Result<Job, Failure> {
        profile::resolve(&self.manifest, name).map_err(|problems| Failure::Manifest(self.render(&problems)))
    }

    /// `FILE:LINE:COLUMN` of a place in the manifest.
    pub(super) fn place(&self, start: usize) -> String {
        let (line, column) = line_and_column(&self.text, start);
        format!("{}:{line}:{column}", self.name)
    }
}

/// Where a byte of a text stands, both counted from 1; a column is a character.
pub(super) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// `ringfence.toml` here or in the nearest parent that has one.
fn find() -> Result<PathBuf, Failure> {
    let here = std::env::current_dir().map_err(|error| Failure::text(format!("current folder: {error}")))?;
    for (depth, folder) in here.ancestors().enumerate() {
        let path = folder.join(DEFAULT);
        if path.is_file() {
            return Ok(if depth == 0 { PathBuf::from(DEFAULT) } else { path });
        }
    }
    Err(Failure::text(format!(
        "no {DEFAULT} in {} or a folder above; write one, or name a file with -f",
        here.display()
    )))
}

/// Reads a manifest, which has a bound: whatever else it is, it is not worth reading.
fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| crate::launch::io_words(&error))?;
    // Without room made for it a file is read in pieces, of 32 bytes at first.
    let mut bytes = Vec::with_capacity(USUAL);
    let most = manifest::MAX_BYTES as u64;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| crate::launch::io_words(&error))?;
    if bytes.len() as u64 > most {
        return Err(format!(
            "larger than {} bytes, the most that a manifest may have",
            manifest::MAX_BYTES
        ));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// The manifest that a command line stands for, as a person would write it.
fn written(adhoc: &Adhoc, image: &str, args: &[String]) -> String {
    let string = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!(
        "schema = 1\n\n[job.main]\nimage = {}\n",
        string(&image.replace('$', "$$"))
    );
    if let Some(profile) = &adhoc.profile {
        text += &format!("profile = {}\n", string(profile));
    }
    if !args.is_empty() {
        let words: Vec<_> = args.iter().map(|word| string(&word.replace('$', "$$"))).collect();
        text += &format!("command = [{}]\n", words.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_a_manifest() {
        let adhoc = Adhoc {
            image: None,
            profile: Some("standard".into()),
            save: true,
        };
        let args = ["echo".to_owned(), "a\"b $HOME".to_owned()];
        let text = written(&adhoc, "busybox", &args);
        let expected = "schema = 1\n\n[job.main]\nimage = \"busybox\"\nprofile = \"standard\"\ncommand = [\"echo\", 'a\"b $$HOME']\n";
        assert_eq!(text, expected);
        manifest::parse(&text).unwrap();
    }
}
