//! `[matrix]`: what `plan --all` plans each job with, besides what the job says itself.

use super::Manifest;
use super::template::{Part, Template};
use super::value::{Node, Table, Value};
use crate::problem::{Problem, codes};

/// What is varied.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Matrix {
    /// The jobs it is about; none written means every one.
    jobs: Option<Vec<Node>>,
    /// Takes the place of `image`, one after the other.
    images: Vec<Node>,
    /// Takes the place of `profile`.
    profiles: Vec<Node>,
    /// Files of facts, relative to the manifest's folder.
    hosts: Vec<String>,
}

/// A job as one cell of the matrix has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// The job's name and what is varied, fit for a file's name: `test+python_3.12-slim+ci`.
    pub name: String,
    /// A manifest in which the job, its only one, is so. Its places are those of the matrix's own text.
    pub manifest: Manifest,
}

impl Matrix {
    /// What `[matrix]` says; problems where it names a job twice over or one that there is not.
    pub(super) fn read(mut table: Table, jobs: &Table, problems: &mut Vec<Problem>) -> Matrix {
        let mut list = |key: &str| match table.remove(key).map(|node| node.value) {
            Some(Value::List(items)) => Some(items),
            _ => None,
        };
        let matrix = Matrix {
            jobs: list("jobs"),
            images: list("images").unwrap_or_default(),
            profiles: list("profiles").unwrap_or_default(),
            hosts: list("hosts")
                .unwrap_or_default()
                .iter()
                .filter_map(|host| Some(host.value.as_text()?.to_owned()))
                .collect(),
        };
        for job in matrix.jobs.iter().flatten() {
            if let Some(name) = job.value.as_text().filter(|name| !jobs.contains_key(*name)) {
                let near = super::nearest::nearest(name, jobs.keys().map(String::as_str));
                let help = near
                    .map(|near| format!("did you mean \"{near}\"?"))
                    .unwrap_or_default();
                let message = format!("the manifest has no job `{name}`");
                problems.push(Problem::new(
                    codes::UNKNOWN_JOB,
                    Some(job.span.clone()),
                    message,
                    help,
                ));
            }
        }
        matrix
    }

    fn is_about(&self, job: &str) -> bool {
        let named = |jobs: &Vec<Node>| jobs.iter().any(|node| node.value.as_text() == Some(job));
        self.jobs.as_ref().is_none_or(named)
    }
}

impl Manifest {
    /// A job with each image and each profile of `[matrix]`; empty when the matrix is not about it, or varies neither.
    pub fn variants(&self, job: &str) -> Vec<Variant> {
        let Some(node) = self.jobs.get(job).filter(|_| self.matrix.is_about(job)) else {
            return Vec::new();
        };
        let or_own = |nodes: &[Node]| -> Vec<Option<Node>> {
            match nodes.is_empty() {
                true => vec![None],
                false => nodes.iter().cloned().map(Some).collect(),
            }
        };
        let (images, profiles) = (or_own(&self.matrix.images), or_own(&self.matrix.profiles));
        let mut found = Vec::new();
        for image in &images {
            for profile in &profiles {
                let (Value::Table(mut table), true) =
                    (node.value.clone(), image.is_some() || profile.is_some())
                else {
                    continue;
                };
                let mut name = job.to_owned();
                for (key, value) in [("image", image), ("profile", profile)] {
                    if let Some(value) = value {
                        name = format!("{name}+{}", file_name(&value.value));
                        table.insert(key.to_owned(), value.clone());
                    }
                }
                let node = Node {
                    value: Value::Table(table),
                    ..node.clone()
                };
                let manifest = Manifest {
                    jobs: Table::from([(job.to_owned(), node)]),
                    profiles: self.profiles.clone(),
                    variables: self.variables.clone(),
                    matrix: Matrix::default(),
                };
                found.push(Variant { name, manifest });
            }
        }
        found
    }

    /// The files of facts that `[matrix]` plans for, relative to the manifest's folder.
    pub fn matrix_hosts(&self) -> impl Iterator<Item = &str> {
        self.matrix.hosts.iter().map(String::as_str)
    }
}

/// A value in the letters of a file's name.
fn file_name(value: &Value) -> String {
    let text = match value {
        Value::Template(Template(parts)) => parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) | Part::Variable(text) => text.as_str(),
                Part::ManifestDir => "manifest-dir",
                Part::Job => "job",
            })
            .collect(),
        Value::Text(text) => text.clone(),
        _ => String::new(),
    };
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || ".-".contains(c) {
            c
        } else {
            '_'
        }
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use crate::profile;

    const TEXT: &str = "schema = 1\n[matrix]\njobs = [\"a\"]\nimages = [\"busybox:1.36\", \"dir:${manifest-dir}/r\"]\n\
        profiles = [\"strict\", \"p\"]\nhosts = [\"h/x.toml\"]\n[job.a]\nimage = \"host\"\n[job.b]\nimage = \"host\"\n[profile.p]\n";

    #[test]
    fn each_image_meets_each_profile() {
        let manifest = super::super::parse(TEXT).expect("a manifest");
        let variants = manifest.variants("a");
        let names: Vec<_> = variants.iter().map(|variant| variant.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "a+busybox_1.36+strict",
                "a+busybox_1.36+p",
                "a+dir_manifest-dir_r+strict",
                "a+dir_manifest-dir_r+p"
            ]
        );
        let job = profile::resolve(&variants[1].manifest, "a").expect("a job");
        assert_eq!(
            (job.image.value.to_string().as_str(), job.profile.as_str()),
            ("docker.io/library/busybox:1.36", "p")
        );
        assert_eq!(&TEXT[job.image.span().expect("written")], "\"busybox:1.36\"");
        assert_eq!(manifest.variants("b"), []);
        assert_eq!(manifest.matrix_hosts().collect::<Vec<_>>(), ["h/x.toml"]);
    }

    #[test]
    fn what_a_cell_gets_wrong_is_told_at_the_matrix() {
        let text = TEXT
            .replace("\"p\"]", "\"q\"]")
            .replace("[\"a\"]", "[\"a\", \"c\"]");
        let found = profile::check(&text).expect("problems");
        let said: Vec<_> = found.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(said, ["the manifest has no job `c`", "unknown profile `q`"]);
        assert_eq!(
            &text[found.iter().last().expect("one").span.clone().expect("a place")],
            "\"q\""
        );
    }
}
