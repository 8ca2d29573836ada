//! `[matrix]`: what `plan --all` plans each job with, besides what the job says itself.

use std::sync::Arc;

use super::Manifest;
use super::template::{Part, Template};
use super::value::{Node, Table, Value};
use crate::problem::{Problem, codes};
use crate::seccomp::Arch;

/// What is varied.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Matrix {
    /// The jobs it is about; none written means every one.
    jobs: Option<Vec<Node>>,
    /// Takes the place of `image`, one after the other.
    images: Vec<Node>,
    /// Take the place of the processor of the host.
    platforms: Vec<Node>,
    /// Takes the place of `profile`.
    profiles: Vec<Node>,
    /// Files of facts, relative to the manifest's folder.
    hosts: Vec<String>,
}

/// A job as one cell of the matrix has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// The job's name and what is varied, fit for a file's name: `test+python_3.12-slim+linux_arm64+ci`.
    pub name: String,
    /// The processor that it is planned for, where that is not the host's own.
    pub arch: Option<Arch>,
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
            platforms: list("platforms").unwrap_or_default(),
            profiles: list("profiles").unwrap_or_default(),
            hosts: list("hosts")
                .unwrap_or_default()
                .iter()
                .filter_map(|host| Some(host.value.as_text()?.to_owned()))
                .collect(),
        };
        for job in matrix.jobs.iter().flatten() {
            if let Some(name) = job.value.as_text().filter(|name| !jobs.contains_key(name)) {
                let near = super::nearest::nearest(name, jobs.keys());
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
    /// A job with each image, platform and profile of `[matrix]`; empty when the matrix is not about it, or varies none
    /// of them.
    pub fn variants(&self, job: &str) -> Vec<Variant> {
        let Some(node) = self.jobs.get(job).filter(|_| self.matrix.is_about(job)) else {
            return Vec::new();
        };
        let Matrix {
            images,
            platforms,
            profiles,
            ..
        } = &self.matrix;
        let Value::Table(written) = &node.value else {
            return Vec::new();
        };
        if images.is_empty() && platforms.is_empty() && profiles.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for image in or_own(images) {
            for platform in or_own(platforms) {
                for profile in or_own(profiles) {
                    let varied = [image, platform, profile].into_iter().flatten();
                    let parts = varied.map(|node| format!("+{}", file_name(&node.value)));
                    let mut table = written.clone();
                    for (key, value) in [("image", image), ("profile", profile)] {
                        if let Some(node) = value {
                            table.insert(key.to_owned(), node.clone());
                        }
                    }
                    let node = Node {
                        value: Value::Table(table),
                        ..node.clone()
                    };
                    let manifest = Manifest {
                        jobs: Table::from([(job.to_owned(), node)]),
                        profiles: Arc::clone(&self.profiles),
                        variables: self.variables.clone(),
                        matrix: Matrix::default(),
                    };
                    found.push(Variant {
                        name: job.to_owned() + &parts.collect::<String>(),
                        arch: platform.and_then(arch),
                        manifest,
                    });
                }
            }
        }
        found
    }

    /// The files of facts that `[matrix]` plans for, relative to the manifest's folder.
    pub fn matrix_hosts(&self) -> impl Iterator<Item = &str> {
        self.matrix.hosts.iter().map(String::as_str)
    }
}

/// What is listed, else the job's own.
fn or_own(nodes: &[Node]) -> Vec<Option<&Node>> {
    match nodes.is_empty() {
        true => vec![None],
        false => nodes.iter().map(Some).collect(),
    }
}

/// The processor of a platform; the section knows no other words.
fn arch(platform: &Node) -> Option<Arch> {
    match platform.value.as_text()? {
        "linux/amd64" => Some(Arch::X86_64),
        "linux/arm64" => Some(Arch::Aarch64),
        _ => None,
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
    use crate::seccomp::Arch;

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
        assert!(variants.iter().all(|variant| variant.arch.is_none()));
        assert_eq!(manifest.matrix_hosts().collect::<Vec<_>>(), ["h/x.toml"]);
    }

    #[test]
    fn a_platform_is_of_the_cell_and_not_of_the_job() {
        let text = "schema = 1\n[matrix]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n[job.a]\nimage = \"busybox\"\n";
        let manifest = super::super::parse(text).expect("a manifest");
        let cells = manifest.variants("a");
        let cells: Vec<_> = cells.iter().map(|cell| (cell.name.as_str(), cell.arch)).collect();
        let expected = [
            ("a+linux_amd64", Some(Arch::X86_64)),
            ("a+linux_arm64", Some(Arch::Aarch64)),
        ];
        assert_eq!(cells, expected);
        let found = profile::check(&text.replace("arm64", "s390x")).expect("a problem");
        let said = found.to_string();
        assert_eq!(
            said,
            "[RF0104] `linux/s390x` is not one of the words for `platforms`; the words are \"linux/amd64\", \"linux/arm64\""
        );
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
