//! A folder of plans: written for a review, and held against what would be planned now.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde::Deserialize;

use super::super::failure::Failure;
use super::super::print;
use super::Sheets;
use crate::launch::io_words;
use crate::plan;

/// The file that lists the others.
const INDEX: &str = "index.toml";

/// What the name of every plan ends with.
const SUFFIX: &str = ".plan.txt";

/// What is in a folder of plans.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    /// The version of the plans' format.
    plan: u32,
    files: Vec<String>,
}

/// Writes every plan and the index; what the old index lists and is planned no longer is removed.
pub(super) fn write(folder: &Path, plans: &Sheets) -> Result<u8, Failure> {
    fs::create_dir_all(folder).map_err(|error| failed("write", folder, &error))?;
    let new = index(plans);
    if let Ok(old) = toml::from_str::<Index>(&read(&folder.join(INDEX))?) {
        let ours = |name: &&String| name.ends_with(SUFFIX) && !name.contains('/');
        for name in old
            .files
            .iter()
            .filter(ours)
            .filter(|name| !new.contains(&format!("\"{name}\"")))
        {
            let path = folder.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed("remove", &path, &error));
                }
                _ => {}
            }
        }
    }
    for (name, text) in files(plans, &new) {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| failed("write", &path, &error))?;
    }
    Ok(0)
}

/// Compares with the stored plans; 1 when one differs, is missing, or is left over.
pub(super) fn compare(folder: &Path, plans: &Sheets) -> Result<u8, Failure> {
    if let Ok(Index { plan, .. }) = toml::from_str(&read(&folder.join(INDEX))?)
        && plan != plan::VERSION
    {
        return Err(Failure::text(format!(
            "{}: its plans have version {plan} of the format, this ringfence writes version {}; review what \
             `ringfence plan --all --write {}` changes",
            folder.display(),
            plan::VERSION,
            folder.display()
        )));
    }
    let mut differs = false;
    for (name, text) in files(plans, &index(plans)) {
        let path = folder.join(&name);
        let stored = read(&path)?;
        if stored != text {
            differs = true;
            let diff = similar::TextDiff::from_lines(stored.as_str(), text);
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

/// The text of the index.
fn index(plans: &Sheets) -> String {
    let names = plans.iter().map(|(name, _)| format!("    \"{name}{SUFFIX}\",\n"));
    format!(
        "# Written by `ringfence plan --write`.\nplan = {}\nfiles = [\n{}]\n",
        plan::VERSION,
        names.collect::<String>()
    )
}

/// Every file of the folder with its text.
fn files<'a>(plans: &'a Sheets, index: &'a str) -> impl Iterator<Item = (String, &'a str)> {
    let file = |(name, text)| (format!("{name}{SUFFIX}"), text);
    plans.iter().map(file).chain([(INDEX.to_owned(), index)])
}

/// A stored file; one that is not there is empty.
fn read(path: &Path) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| failed("read", path, &error)),
    }
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::text(format!("{verb} {}: {}", path.display(), io_words(error)))
}
